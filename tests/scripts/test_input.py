"""test_reenactment.py --input: whatever comes in, a labelled video goes out, or a clear error and nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import yaml
from helpers import DEMO_NETWORKS, PATIENCE_S, ROOT, ffmpeg, must_fail, must_run, write_frames
from PIL import Image

from datasets.images import write_image
from faces.finder import Face, FaceFinder
from faces.follower import NO_FACE, FaceFollower, Placed
from inference.inputs import UNREADABLE, Camera, FrameSource, faces_of, faces_of_camera
from inference.outputs import ResultVideo
from prepare_person import find_faces
from synthetic.moving import VIDEO_FPS, VIDEO_SIZE, moving_head
from utils.errors import DataError, ResourceError
from utils.progress import VARIABLE, read_progress
from utils.video import exact_rate, open_film, open_video, read_video

FRAMES, GONE = 28, range(12, 18)
CLICK_S = 0.6


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """A moving head, gone for a while."""
    frames = [frame for frame, _ in moving_head("Rowan=9", FRAMES, seed=0)]
    for index in GONE:
        frames[index] = np.full_like(frames[0], 120)
    return frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory, frames) -> Path:
    """silent.mp4, and video.mp4 with a click after a second."""
    folder = tmp_path_factory.mktemp("input")
    write_frames(folder / "silent.mp4", frames)
    click = f"aevalsrc='if(between(t,{CLICK_S},{CLICK_S + 0.02}),0.8*sin(4000*t),0)':d={FRAMES / VIDEO_FPS}:s=44100"
    ffmpeg("-i", folder / "silent.mp4", "-f", "lavfi", "-i", click, "-c:v", "copy", "-c:a", "aac", folder / "video.mp4")
    return folder


def loudest_moment(video: Path) -> float:
    """Seconds from the start of the sound to its loudest part."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(video), "-f", "s16le", "-ac", "1"]
    sound = subprocess.run([*command, "-ar", "8000", "-"], capture_output=True, check=True).stdout
    return float(np.abs(np.frombuffer(sound, np.int16).astype(int)).argmax() / 8000)


# Parts


def test_rates_of_television_are_exact():
    for written, true in (
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
    ):
        assert exact_rate(written) == true
    assert exact_rate(25.0) == 25 and exact_rate(12.5) == Fraction(25, 2) and exact_rate(30.0) == 30


def test_a_video_of_uneven_rate_comes_evenly(folder, tmp_path):
    # every frame of the second half stays for twice as long
    slower = "setpts='if(lt(N,14),N/25,0.56+(N-14)*2/25)/TB'"
    ffmpeg("-i", folder / "silent.mp4", "-vf", slower, "-fps_mode", "vfr", tmp_path / "uneven.mp4")
    video = open_film(tmp_path / "uneven.mp4")
    assert len(list(read_video(video))) == pytest.approx(1.68 * float(video.fps), abs=2)


def test_another_rate_keeps_the_length(folder):
    assert FrameSource(folder / "silent.mp4").fps == VIDEO_FPS
    half = FrameSource(folder / "silent.mp4", VIDEO_FPS / 2)
    assert half.fps == VIDEO_FPS / 2 and sum(1 for _ in half) == pytest.approx(FRAMES / 2, abs=1)


@pytest.mark.parametrize("start_s, end_s, first, count", [(0.4, 0.8, 10, 10), (0.0, 0.2, 0, 5), (0.72, 99.0, 18, None)])
def test_a_part_of_a_video_has_its_frames_and_its_sound(folder, tmp_path, start_s, end_s, first, count):
    whole = list(FrameSource(folder / "video.mp4"))
    source = FrameSource(folder / "video.mp4", part=(start_s, end_s))
    found, expected = list(source), whole[first : None if count is None else first + count]
    assert len(found) == len(expected) == source.count
    assert all(np.array_equal(a, b) for a, b in zip(found, expected))
    assert len(list(source.first(2))) == 2
    with open_video(tmp_path / "part.mp4", source.video.size, VIDEO_FPS, "", source.video, source.video.seconds) as out:
        for frame in found:
            out.write(frame)
    if start_s < CLICK_S < end_s:
        assert loudest_moment(tmp_path / "part.mp4") == pytest.approx(CLICK_S - start_s, abs=0.05)


def test_a_part_that_is_empty_is_said(folder, tmp_path):
    with pytest.raises(DataError, match="nothing from 50 s to 60 s"):
        FrameSource(folder / "video.mp4", part=(50.0, 60.0))
    with pytest.raises(DataError, match="has no parts"):
        FrameSource(tmp_path, part=(0.0, 1.0))


class Two:
    """A finder of two people, the one at the left being seen less often."""

    def __init__(self, is_video: bool):
        pass

    def reset(self) -> None: ...

    def find(self, image: np.ndarray) -> list[Face]:
        centers = (500, 100) if round(float(image.mean()) / 4) < 20 else (500,)
        boxes = [np.array([center - 45.0, 155, 90, 90]) for center in centers]
        return [Face(box, np.full((98, 2), box[:2] + 45), look=np.full(88, box[0])) for box in boxes]


@pytest.mark.parametrize("number, count, center", [(None, 50, 500), (1, 20, 100), (2, 50, 500)])
def test_a_face_is_chosen_by_its_number_and_the_progress_is_told(tmp_path, number, count, center, monkeypatch):
    write_frames(tmp_path / "m.mp4", [np.full((*VIDEO_SIZE[::-1], 3), 4 * shade, np.uint8) for shade in range(50)])
    monkeypatch.setattr("prepare_person.FaceFinder", Two)
    progress = tmp_path / "progress.json"
    monkeypatch.setenv(VARIABLE, str(progress))
    monkeypatch.setattr("utils.progress.INTERVAL_S", -1)
    crops = [crop for crop in find_faces(FrameSource(tmp_path / "m.mp4"), 1, number) if not isinstance(crop, str)]
    assert len(crops) == count and {round(crop.face.box[0] + 45) for crop in crops} == {center}
    assert read_progress(progress) == {"what": "finding faces", "done": 1.0, "left_s": 0.0}
    progress.write_text("[]")
    assert read_progress(progress) == {}


def test_rotated_videos_are_upright(folder, tmp_path):
    ffmpeg("-display_rotation", 90, "-i", folder / "silent.mp4", "-c", "copy", tmp_path / "rotated.mp4")
    video = open_film(tmp_path / "rotated.mp4")
    assert video.size == VIDEO_SIZE[::-1] and next(read_video(video)).shape == (VIDEO_SIZE[0], VIDEO_SIZE[1], 3)


def test_sound_is_taken_as_it_is(folder, tmp_path, frames):
    for name, has_sound in (("video.mp4", True), ("silent.mp4", False)):
        given = open_film(folder / name)
        with open_video(tmp_path / name, given.size, given.fps, "", given, given.seconds) as writer:
            for frame in frames:
                writer.write(frame)
        assert open_film(tmp_path / name).has_sound == has_sound
    assert loudest_moment(tmp_path / "video.mp4") == pytest.approx(CLICK_S, abs=0.05)


def test_faces_of_a_video(folder, frames):
    found = list(faces_of(FrameSource(folder / "silent.mp4"), FaceFinder(is_video=True)))
    assert [frame.index for frame in found] == list(range(FRAMES))
    assert {frame.index for frame in found if frame.face is None} == set(GONE)
    assert found[GONE[0]].reason == NO_FACE and found[0].face.shape == (256, 256, 3)


def test_the_face_of_a_number():
    def face(x, width=100):
        return Face(np.array([x - width / 2, 100, width, width], float), np.full((98, 2), (x, 150.0)))

    faces = [face(500, 120), face(100), face(300)]
    for number, center in ((None, 500), (1, 100), (2, 300), (3, 500)):
        follower = FaceFollower(25, 0.0, 0.0, number)
        (crop,) = follower.add(faces, (400, 640))
        assert isinstance(crop, Placed) and crop.square.left + crop.square.side / 2 == pytest.approx(center, abs=1)
    assert list(FaceFollower(25, 0.0, 0.0, 4).add(faces, (400, 640))) == ["face 4 does not exist: fewer faces"]


def test_pictures_of_a_folder_and_a_single_one(frames, tmp_path):
    for index in (0, 1, 2):
        write_image(tmp_path / f"p{index}.png", frames[index])
    (tmp_path / "p1.png").write_bytes(b"no picture")
    found = list(faces_of(FrameSource(tmp_path), FaceFinder(is_video=True)))
    assert [frame.reason for frame in found] == ["", UNREADABLE, ""]
    (single,) = faces_of(FrameSource(tmp_path / "p0.png"), FaceFinder(is_video=True))
    assert single.face is not None


def test_a_camera_by_a_file_in_its_place(folder):
    camera = Camera(str(folder / "silent.mp4"))
    found = []
    for frame in faces_of_camera(camera, FaceFinder(is_video=True)):
        found.append(frame)
        if frame.index == 9:
            camera.end()
    assert len(found) == 10 and all(frame.face is not None for frame in found)
    with pytest.raises(ResourceError, match="webcam:nowhere: cannot be opened"):
        Camera("nowhere")


def test_pictures_of_a_camera_keep_their_time():
    class Frames(list):
        count = property(len)
        write = list.append

    frames = Frames()
    video = ResultVideo(frames, 10, is_live=True)
    for time_s, picture in [(0.0, 0), (0.1, 1), (0.5, 2), (0.52, 3)]:  # a wait in between
        video.write(time_s, picture)
    video.finish()
    assert frames == [0, 1, 1, 1, 1, 2, 3] and video.count == 7
    empty = ResultVideo(Frames(), 10, is_live=True)
    empty.finish()
    assert empty.count == 0


# Whole runs


def run_dir_of(folder: Path) -> Path:
    (run,) = (folder / "reenactment_result/Rowan2Linnea").iterdir()
    return run


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory) -> Path:
    """A working folder after a run on the video with sound."""
    work = tmp_path_factory.mktemp("made")
    out = must_run(work, "test_reenactment.py", *DEMO_NETWORKS, "--input", folder / "video.mp4", "--video", "out.mp4")
    assert "backend: onnxruntime" in out and f"{len(GONE)} x {NO_FACE}" in out
    return work


@pytest.mark.slow
def test_a_video_comes_out_with_its_sound(made):
    video = open_film(made / "out.mp4")
    assert video.size == (1024, 256) and len(list(read_video(video))) == FRAMES
    assert loudest_moment(made / "out.mp4") == pytest.approx(CLICK_S, abs=0.06)
    assert b"AI-generated (synthetic)" in (made / "out.mp4").read_bytes()
    assert b"moov" in (made / "out.mp4").read_bytes()[:100_000].split(b"mdat")[0]  # plays while it loads
    run = run_dir_of(made)
    names = sorted(path.name for path in (run / "result").iterdir())
    assert names == [f"{index:06d}-000.png" for index in range(FRAMES)]
    held, before = (np.asarray(Image.open(run / "result" / names[i])) for i in (GONE[0], GONE[0] - 1))
    assert np.array_equal(held, before)
    record = yaml.safe_load((run / "reenactment.yaml").read_text())
    assert record["frames"] == FRAMES and record["faces"] == FRAMES - len(GONE) and record["fps"] == VIDEO_FPS
    assert not list(made.glob(".*"))


@pytest.mark.slow
def test_a_result_without_truth_is_measured_all_the_same(made):
    out = must_run(made, "evaluate.py", run_dir_of(made))
    assert "jitter of the source" in out and "PSNR" not in out
    assert f"{FRAMES - len(GONE)} of {FRAMES - len(GONE)} measured, {len(GONE)} held" in out
    assert "of the result against the requested ones" in (run_dir_of(made) / "index.html").read_text()


@pytest.mark.slow
def test_a_measure_sees_neither_the_label_nor_the_layout_but_the_smoothing(made, folder, tmp_path):
    """The word counted as a part of the faces once, and boundaries were found anew, as they were before smoothing."""

    def scores_of(run: Path) -> dict:
        must_run(made, "evaluate.py", run)
        return {score["name"]: score["value"] for score in json.loads((run / "scores.json").read_text())}

    def reenacted(*flags: object) -> dict:
        args = (*DEMO_NETWORKS, "--input", folder / "silent.mp4", f"--info={flags[0]}")
        must_run(tmp_path, "test_reenactment.py", *args, *flags)
        (run,) = tmp_path.glob(f"reenactment_result/*/*{flags[0]}")
        return scores_of(run)

    labelled_panels = scores_of(run_dir_of(made))
    assert reenacted("--no-label", "--layout", "face") == labelled_panels
    smooth = reenacted("--smooth", 0.8)
    assert smooth["jitter of the source"] < 0.7 * labelled_panels["jitter of the source"]
    name = "of the result against the requested ones"
    assert smooth[name] != labelled_panels[name]


@pytest.mark.slow
def test_layouts_and_frames_left_out(folder, tmp_path):
    flags = ("--input", folder / "video.mp4", "--no-face", "skip", "--layout", "side-by-side", "--no-label")
    out = must_run(
        tmp_path, "test_reenactment.py", *DEMO_NETWORKS, *flags, "--video", "out.mp4", "-n", 20, "--smooth", 0.5
    )
    count = 20 - len(GONE)
    assert f"video: out.mp4, {count} frames" in out
    video = open_film(tmp_path / "out.mp4")
    assert video.size == (512, 256) and len(list(read_video(video))) == count
    names = [path.name for path in sorted((run_dir_of(tmp_path) / "result").iterdir())]
    assert len(names) == count and f"{GONE[0]:06d}-000.png" not in names
    assert not video.has_sound  # it would be out of step


@pytest.mark.slow
def test_faults_leave_no_video(folder, frames, tmp_path):
    grey = [np.full_like(frames[0], 120)] * 5
    write_frames(tmp_path / "empty.mp4", grey)
    (tmp_path / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {folder / 'silent.mp4'}\n")
    whole = (folder / "video.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name, words in (
        ("empty.mp4", "no usable face in"),
        ("playlist.mp4", "cannot be read as a video"),
        ("concat.mp4", "cannot be read as a video"),
        ("cut.mp4", "cannot be read as a video"),
        ("nowhere.mp4", "no such video, image or folder"),
    ):
        flags = ("--input", name, "--video", "out.mp4")
        must_fail(tmp_path, 3, words, "test_reenactment.py", *DEMO_NETWORKS, *flags)
    flags = ("--input", folder / "video.mp4", "--video", "out.mp4", "--no-face", "fail")
    must_fail(tmp_path, 3, f"frame {GONE[0]} at", "test_reenactment.py", *DEMO_NETWORKS, *flags)
    must_fail(tmp_path, 6, "cannot be opened", "test_reenactment.py", *DEMO_NETWORKS, "--input", "webcam:7")
    must_fail(tmp_path, 2, "--face requires --input", "test_reenactment.py", *DEMO_NETWORKS, "--face", 1)
    must_fail(tmp_path, 2, "below 1", "test_reenactment.py", *DEMO_NETWORKS, "--smooth", 1)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"empty.mp4", "playlist.mp4", "concat.mp4", "cut.mp4", "reenactment_result"}


@pytest.mark.slow
def test_a_video_that_breaks_off_in_the_middle(folder, tmp_path):
    # its index is at the front, so that only decoding finds out
    ffmpeg("-i", folder / "silent.mp4", "-c", "copy", "-movflags", "+faststart", tmp_path / "whole.mp4")
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    flags = ("--input", "cut.mp4", "--video", "out.mp4")
    must_fail(tmp_path, 3, "frames exist", "test_reenactment.py", *DEMO_NETWORKS, *flags)
    assert not (tmp_path / "out.mp4").exists() and not list(tmp_path.glob(".*"))


def test_a_full_disk_while_encoding_a_video(frames, tmp_path):
    code = "import sys; sys.path[:0] = sys.argv[1:3]; from helpers import write_frames; from helpers import noise; "
    code += "write_frames('out.mp4', noise())"
    command = f"ulimit -f 48; trap '' XFSZ; exec {sys.executable} -c \"{code}\" {ROOT} {ROOT / 'tests'}"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert "ResourceError: out.mp4: " in result.stderr and "ulimit -f" in result.stderr, result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_while_encoding(folder, tmp_path):
    shutil.copy(folder / "video.mp4", tmp_path / "video.mp4")
    command = [sys.executable, str(ROOT / "test_reenactment.py"), *map(str, DEMO_NETWORKS)]
    flags = ["--input", "video.mp4", "--video", "out.mp4"]
    process = subprocess.Popen(
        [*command, *flags], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE_S
    while not list(tmp_path.glob("reenactment_result/*/.*/result/00000[3-9]-000.png")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # reaches ffmpeg, too
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert not (tmp_path / "out.mp4").exists() and not list(tmp_path.glob(".*"))
    assert not list(tmp_path.glob("reenactment_result/*/*"))  # no incomplete result under a final name
