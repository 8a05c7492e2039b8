from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: pytest's workers have the cores, scripts inherit it

import nnabla as nn
import numpy as np
import pytest
import warm
from helpers import MAX_SECONDS, ROOT, ffmpeg, must_run, serve_page, write_frames

from synthetic.moving import moving_head

# files that take long, so that no worker is left with one of them at the end
FIRST = [f"test_{name}.py" for name in ("reenact_people", "app", "resume", "scripts", "quick_start", "input", "drive")]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job, whose scripts would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)


def pytest_sessionfinish() -> None:
    warm.stop()


@pytest.fixture(autouse=True)
def fresh_parameters():
    nn.clear_parameters()
    nn.seed(0)
    yield
    nn.clear_parameters()


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A working folder with tiny data sets of synthetic people, split and prepared."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with open(root / "lock", "w") as lock:  # the first worker creates it, and each has a copy
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "made").exists():
            make_data(root / "making")
            (root / "making").rename(root / "made")
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(root / "made", folder, dirs_exist_ok=True)
    return folder


def make_data(folder: Path) -> None:
    folder.mkdir()
    must_run(
        folder, "tools/make_synthetic.py", "celebv", "--people", "Rowan=9", "Linnea=29", "--frames", 14, "--expressions"
    )
    must_run(folder, "tools/make_synthetic.py", "wflw", "--train-faces", 6, "--test-faces", 5)
    must_run(folder, "split_celebv.sh", "./datasets/CelebV", 8)
    for mode in ("train", "test"):
        must_run(
            folder, "preprocess.py", "--dataset", "datasets", "--mode", mode, "--out-dir", "datasets/WFLW_heatmaps"
        )
    must_run(folder, "preprocess.py", "--dataset", "CelebV", "--out-dir", "datasets/celebv_heatmaps_GT")


@pytest.fixture(scope="session")
def faces() -> list[np.ndarray]:
    return [frame for frame, _ in moving_head("Rowan=9", 40, seed=0)]


@pytest.fixture(scope="session")
def films(tmp_path_factory, faces) -> Path:
    """Films for the page: a face with sound, none, a text, and one that is too long."""
    folder = tmp_path_factory.mktemp("films")
    write_frames(folder / "silent.mp4", faces[:20])
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=1")
    ffmpeg(*tone, "-i", folder / "silent.mp4", "-map", "1:v", "-map", "0:a", "-c:v", "copy", "-c:a", "aac",
           "-shortest", folder / "face.mp4")  # fmt: skip
    write_frames(folder / "grey.mp4", [faces[0] * 0 + 110] * 30)
    write_frames(folder / "long.mp4", [faces[0] * 0 + 110] * (30 * (MAX_SECONDS + 1)))
    (folder / "text.mp4").write_text("no video\n" * 500)
    return folder


@pytest.fixture(scope="session")
def page(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The address of a running page, and its folder for temporary files."""
    folder = tmp_path_factory.mktemp("page")
    options = ("--max-seconds", str(MAX_SECONDS))
    with serve_page(folder, str(ROOT / "app.py"), *options) as (address, _):
        yield address, folder
    assert not list(folder.glob("reenactgan-*"))  # nothing of it stays
