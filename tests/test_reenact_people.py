"""reenact_people.py: two videos in, a reenactment out; stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import PATIENCE_S, ROOT, must_fail, write_frames

from make_synthetic import moving_head
from utils.video import count_frames, look

pytestmark = pytest.mark.slow

ITERATIONS = 120

# With a training of seconds
DRIVER = """
import sys
sys.path.insert(0, {root!r})
import reenact_people
from utils.ending import call_main
reenact_people.QUALITIES["draft"] = reenact_people.Quality(planes=2, batch_size=2, iterations={iterations}, lr=2e-3)
call_main(reenact_people.main)
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name, person, count in (("a.mp4", "Rowan=9", 20), ("b b.mp4", "Linnea=29", 60), ("few.mp4", "Linnea=29", 12)):
        write_frames(folder / name, [frame for frame, _ in moving_head(person, count, seed=0)])
    write_frames(folder / "grey.mp4", [next(moving_head("Rowan=9", 1, 0))[0] * 0 + 110] * 50)
    return folder


def begin(folder: Path, films: Path, iterations: int, *more: str) -> subprocess.Popen:
    code = DRIVER.format(root=str(ROOT), iterations=iterations)
    videos = ("--source", str(films / "a.mp4"), "--target", str(films / "b b.mp4"), "--out", "o.mp4")
    command = [sys.executable, "-c", code, *videos, *more]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_from_two_videos_to_a_page_with_a_stop_in_between(films, tmp_path):
    process = begin(tmp_path, films, ITERATIONS)
    deadline = time.monotonic() + PATIENCE_S
    while not list(tmp_path.glob("o.work/runs/decoder/b_b/decoder/checkpoints/*/state.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143 and "the same command goes on" in out and "Traceback" not in out, out
    stopped_at = max(int(path.name) for path in tmp_path.glob("o.work/runs/decoder/b_b/decoder/checkpoints/*"))
    process = begin(tmp_path, films, ITERATIONS)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out
    assert "== prepare" not in out and f"from iteration {stopped_at}" in out and f"{stopped_at} done" in out
    assert count_frames(tmp_path / "o.mp4") == 20 and look(tmp_path / "o.mp4").size == (512, 256)
    page = (tmp_path / "o.work/index.html").read_text()
    assert "PSNR" in page and "mouth opening" in page and 'src="../o.mp4"' in page
    for address in ("a/a/contact_sheet.png", "b_b/b_b/contact_sheet.png", "runs/decoder/b_b/decoder/index.html"):
        assert address in page and (tmp_path / "o.work" / address).exists()
    # a third time: nothing is done again
    before = os.stat(tmp_path / "o.mp4").st_mtime_ns
    process = begin(tmp_path, films, ITERATIONS)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and "reenact:" not in out and "is complete" in out, out
    assert os.stat(tmp_path / "o.mp4").st_mtime_ns == before
    args = ("--source", films / "b b.mp4", "--target", films / "a.mp4", "--out", "o.mp4")
    must_fail(tmp_path, 2, "holds work on other videos", "reenact_people.py", *args)


def test_the_papers_encoder_between_them(films, tmp_path):
    process = begin(tmp_path, films, 10, "--encoder")
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and out.index("== train the encoder") < out.index("== train the decoder"), out
    record = yaml.safe_load(next(tmp_path.glob("o.work/result-encoder/*/*/reenactment.yaml")).read_text())
    assert record["boundaries"] == "encoder" and record["transfer"] == "geometry"
    assert count_frames(tmp_path / "o.mp4") == 20


def test_what_cannot_become_a_reenactment(films, tmp_path):
    run = "reenact_people.py"
    a, b = ("--source", films / "a.mp4"), ("--target", films / "b b.mp4")
    must_fail(tmp_path, 2, "are the same file", run, *a, "--target", films / "a.mp4", "--out", "o.mp4")
    must_fail(tmp_path, 2, "must end in .mp4", run, *a, *b, "--out", "o.avi")
    must_fail(tmp_path, 2, "is the input", run, *a, *b, "--out", films / "a.mp4")
    must_fail(tmp_path, 3, "no such video", run, *a, "--target", "nowhere.mp4", "--out", "o.mp4")
    must_fail(tmp_path, 3, "12 frames are too few", run, *a, "--target", films / "few.mp4", "--out", "o.mp4")
    # a step says what is wrong, and the whole what to do
    command = [sys.executable, str(ROOT / run), *map(str, (*a, "--target", films / "grey.mp4", "--out", "g.mp4"))]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 3 and "Traceback" not in result.stderr
    assert "no usable face in 50 pictures" in result.stderr and "run the same command again" in result.stderr
