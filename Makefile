# Every target creates .venv first if it is missing.

PYTHON = .venv/bin/python
READY = .venv/.ready

.PHONY: demo demo-train app test test-all test-fast lint gpu clean

# VIDEO=me.mp4 or VIDEO=webcam drives the synthetic person
demo: $(READY)
	PATH="$(CURDIR)/.venv/bin:$$PATH" sh demo/reenact.sh

demo-train: $(READY)
	PATH="$(CURDIR)/.venv/bin:$$PATH" sh demo/train.sh

# page in the browser; options: APP="--logdir result.work/runs"
app: $(READY)
	$(PYTHON) app.py --open $(APP)

test: $(READY)
	$(PYTHON) -m pytest

test-all: $(READY)
	$(PYTHON) -m pytest -m ""

test-fast: $(READY)
	$(PYTHON) -m pytest tests/unit -m "not slow and not long"

lint: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

# nnabla's CUDA extension with its libraries (1.5 GB to download, 3 GB on disk); CUDA=11 for older drivers
CUDA = 12
gpu: $(READY)
	$(PYTHON) -m pip install --disable-pip-version-check --no-cache-dir -r setup/requirements-cuda$(CUDA).txt
	$(PYTHON) setup/gpu.py

$(READY): requirements.txt requirements-dev.txt requirements-nodeps.txt setup/venv.sh
	sh setup/venv.sh
	touch $(READY)

clean:
	rm -rf demo_result demo_train .pytest_cache .ruff_cache
