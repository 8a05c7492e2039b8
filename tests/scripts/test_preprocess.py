"""preprocess.py at work: the same files however many processes, and nothing half done however it ends."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import PATIENCE_S, ROOT, must_run, run_script

pytestmark = pytest.mark.slow

CELEBV = ("--dataset", "CelebV", "--out-dir", "out")
PARTS = ("image", "heatmap", "resized_heatmap")
FRAMES = 120


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    """A working folder with one person, prepared without interruption into `whole`."""
    folder = tmp_path_factory.mktemp("frames")
    must_run(folder, "tools/make_synthetic.py", "celebv", "--people", "Ada=3", "--frames", FRAMES)
    must_run(folder, "preprocess.py", "--dataset", "CelebV", "--out-dir", "whole", "--num-workers", 1)
    return folder


@pytest.fixture
def work(frames):
    yield frames
    shutil.rmtree(frames / "out", ignore_errors=True)


def files_of(folder: Path) -> dict[str, bytes]:
    """Final files, and the names of folders that were left over."""
    paths = folder.iterdir() if folder.exists() else ()
    files = {path.name: path.read_bytes() if path.is_file() else b"" for path in paths}
    return {name: content for name, content in files.items() if name != ".lock"}


def start(folder: Path, *args: object, **more) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "preprocess.py"), *map(str, args)]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **more
    )


@pytest.mark.parametrize("num_workers", [2, 5])
def test_files_do_not_depend_on_the_number_of_workers(work, num_workers):
    must_run(work, "preprocess.py", *CELEBV, "--num-workers", num_workers)
    assert files_of(work / "out") == files_of(work / "whole")


def test_crops_follow_from_the_seed_and_the_index_alone(data, tmp_path):
    for name, more in (("a", ("--num-workers", 1)), ("b", ("--num-workers", 4)), ("c", ("--seed", 1))):
        args = ("--dataset", data / "datasets", "--mode", "train", "--out-dir", tmp_path / name, *more)
        must_run(tmp_path, "preprocess.py", *args)
    a, b, c = (files_of(tmp_path / name) for name in "abc")
    assert a == b
    assert a["WFLW_cropped_image_train.npz"] != c["WFLW_cropped_image_train.npz"]


def test_numpy_reads_what_is_written(work):
    for part in PARTS:
        with np.load(work / f"whole/Ada_{part}.npz") as arrays:
            assert arrays.files == [f"{k + 1:06d}.jpg" for k in range(FRAMES)]
            assert {(arrays[name].dtype, arrays[name].ndim) for name in arrays.files} == {(np.dtype(np.uint8), 3)}


def test_complete_files_are_kept_and_others_are_rebuilt_with_the_reason(work):
    out = must_run(work, "preprocess.py", *CELEBV)
    assert f"{FRAMES} images; missing" in out
    path = work / "out/Ada_heatmap.npz"
    before = path.stat().st_mtime_ns
    assert "is up to date" in must_run(work, "preprocess.py", *CELEBV)
    assert path.stat().st_mtime_ns == before

    def again(words: str) -> None:
        assert words in must_run(work, "preprocess.py", *CELEBV)
        assert files_of(work / "out")["Ada_heatmap.npz"] == good
        assert "is up to date" in must_run(work, "preprocess.py", *CELEBV)

    good = path.read_bytes()
    path.write_bytes(good[:-100])
    again("Ada_heatmap.npz has changed its size")
    path.unlink()
    again("Ada_heatmap.npz is missing")
    (work / "out/Ada_prepared.yaml").unlink()
    again("no record")
    (work / "out/Ada_prepared.yaml").write_text("{")
    again("no record")
    annotations = work / "datasets/CelebV/Ada/all_98pt.txt"
    text = annotations.read_text()
    try:
        annotations.write_text(text.split("\n", 1)[1])
        assert "the annotation list has changed" in must_run(work, "preprocess.py", *CELEBV)
    finally:
        annotations.write_text(text)
    again("the annotation list has changed")
    image = work / "datasets/CelebV/Ada/Image/000009.jpg"
    bytes_before = image.read_bytes()
    try:
        shutil.copy(image.with_name("000010.jpg"), image)
        assert "the images have changed" in must_run(work, "preprocess.py", *CELEBV)
    finally:
        image.write_bytes(bytes_before)


def test_pictures_are_made_though_the_files_are_there(work):
    must_run(work, "preprocess.py", *CELEBV)
    out = must_run(work, "preprocess.py", *CELEBV, "--save-boundary-image")
    assert "boundary images are requested" in out
    assert len(list((work / "out/boundary_image/Ada").glob("*.png"))) == FRAMES


@pytest.mark.parametrize("how, exit_code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(work, how, exit_code):
    process = start(work, *CELEBV)
    process.stdout.readline()  # it has begun
    time.sleep(0.05)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # Ctrl-C reaches the workers too
    else:
        process.send_signal(how)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == exit_code
    assert errors.count("\n") == 1 and errors.startswith("error: ")
    assert not list((work / "out").glob("[!.]*"))


def test_a_full_disk(work):
    process = start(work, *CELEBV, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)))
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 6
    assert (
        "npz: cannot be written (File too large); the file is larger than a limit" in errors
        and "Traceback" not in errors
    )
    assert not list((work / "out").glob("[!.]*"))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_file_that_is_renamed(data, tmp_path, moment):
    """No final file is wrong, and the next run completes to what an uninterrupted one makes."""
    (tmp_path / "datasets").symlink_to(data / "datasets")
    args = (*CELEBV, "--celeb-name-list", "Rowan", "--num-workers", 1)
    must_run(tmp_path, "preprocess.py", *args)
    whole = files_of(tmp_path / "out")
    for number in itertools.count(1):
        shutil.rmtree(tmp_path / "out")
        ended = run_script(tmp_path, "tests/drivers/killed.py", "preprocess", moment, number, *args)
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
        for name, content in files_of(tmp_path / "out").items():
            assert name.startswith(".") or content == whole[name], name
        must_run(tmp_path, "preprocess.py", *args)
        left = {name: content for name, content in files_of(tmp_path / "out").items() if name not in whole}
        assert files_of(tmp_path / "out") == whole | left
        assert all(name.startswith(".") for name in left)
    assert number > len(PARTS)
