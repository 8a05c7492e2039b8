# What a newcomer types. Every target makes .venv first where it is missing.

PYTHON = .venv/bin/python
READY = .venv/.ready

.PHONY: demo demo-train app test test-all test-fast lint gpu clean

# VIDEO=me.mp4 or VIDEO=webcam lets a face drive the synthetic person; the shell gets it as it is
demo: $(READY)
	PATH="$(CURDIR)/.venv/bin:$$PATH" sh demo/reenact.sh

demo-train: $(READY)
	PATH="$(CURDIR)/.venv/bin:$$PATH" sh demo/train.sh

# the page in the browser; APP="--logdir result.work/runs" passes options on
app: $(READY)
	$(PYTHON) app.py $(APP)

test: $(READY)
	$(PYTHON) -m pytest

test-all: $(READY)
	$(PYTHON) -m pytest -m ""

test-fast: $(READY)
	$(PYTHON) -m pytest tests/unit -m "not slow and not long"

lint: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

# The CUDA extension of the version that nvidia-smi reports; CUDA=11 or CUDA=12 chooses by hand.
gpu: $(READY)
	$(PYTHON) setup/gpu.py $(CUDA)

$(READY): requirements.txt requirements-dev.txt requirements-nodeps.txt setup/venv.sh
	sh setup/venv.sh
	touch $(READY)

clean:
	rm -rf demo_result demo_train .pytest_cache .ruff_cache
