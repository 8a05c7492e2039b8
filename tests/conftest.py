from __future__ import annotations

import functools
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: pytest's workers have the cores, scripts inherit it

import nnabla as nn
import numpy as np
import pytest

from make_synthetic import VIDEO_FPS, VIDEO_SIZE
from utils.video import open_video

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo/weights"
DEMO_NETWORKS = [
    word
    for module in ("encoder", "transformer", "decoder")
    for word in (
        f"--{module}-config", DEMO / module / "training_info.yaml",
        f"--{module}-param-file", DEMO / module / "weights.h5",
    )
]  # fmt: skip
PATIENCE_S = 240  # for what takes seconds, on a machine that may be busy with anything

# files that take long, so that no worker is left with one of them at the end
FIRST = [f"test_{name}.py" for name in ("reenact_people", "app", "resume", "scripts", "quick_start", "input", "drive")]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job, whose scripts would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture(autouse=True)
def fresh_parameters():
    nn.clear_parameters()
    nn.seed(0)
    yield
    nn.clear_parameters()


def run_script(cwd: Path, script: str, *args: object, **environment: str) -> subprocess.CompletedProcess:
    """Run one of the repository's scripts as a user would, in `cwd`."""
    shell = ["sh"] if script.endswith(".sh") else [sys.executable]
    return subprocess.run(
        [*shell, str(ROOT / script), *map(str, args)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )


def must_run(cwd: Path, script: str, *args: object, **environment: str) -> str:
    """The script ends well; return what it prints, and what a training logs (on stderr, as nnabla's logger does)."""
    result = run_script(cwd, script, *args, **environment)
    assert result.returncode == 0, f"{script} {args}\n{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr


def must_fail(cwd: Path, exit_code: int, words: str, script: str, *args: object, **environment: str) -> str:
    """The script ends with the exit code and one line that holds the words; never with a traceback."""
    result = run_script(cwd, script, *args, **environment)
    assert result.returncode == exit_code, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1, result.stderr
    assert words in lines[0], lines[0]
    return lines[0]


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for something that may take its time on a busy machine."""
    since = time.monotonic()
    while not is_so():
        assert time.monotonic() - since < PATIENCE_S
        time.sleep(0.05)


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The address of a local HTTP server of the folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def write_frames(path: Path, frames: list[np.ndarray]) -> None:
    """Write a video of make_synthetic.py's size and rate."""
    with open_video(path, VIDEO_SIZE, VIDEO_FPS, "AI-generated (synthetic)") as video:
        for frame in frames:
            video.write(frame)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A working folder with tiny data sets of synthetic people, split and prepared."""
    folder = tmp_path_factory.mktemp("work")
    must_run(folder, "make_synthetic.py", "celebv", "--people", "Rowan=9", "Linnea=29", "--frames", 14, "--expressions")
    must_run(folder, "make_synthetic.py", "wflw", "--train-faces", 6, "--test-faces", 5)
    must_run(folder, "split_celebv.sh", "./datasets/CelebV", 8)
    for mode in ("train", "test"):
        must_run(
            folder, "preprocess.py", "--dataset", "datasets", "--mode", mode, "--out-dir", "datasets/WFLW_heatmaps"
        )
    must_run(folder, "preprocess.py", "--dataset", "CelebV", "--out-dir", "datasets/celebv_heatmaps_GT")
    return folder
