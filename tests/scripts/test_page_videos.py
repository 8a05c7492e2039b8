"""Videos that are given to the page: uploads, jobs, what is left of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import DEMO, MAX_SECONDS, PATIENCE_S, Visitor, ask_page, files_of, wait_until
from starlette.requests import ClientDisconnect

from inference.inputs import FaceFrame, Input
from people.targets import Target, target_of
from utils.errors import UserError
from utils.video import open_film
from web.controls import read_controls
from web.videos import Limits, Refused, Session, Videos, _Stop


def test_a_video_is_made_with_its_sound_and_goes_with_its_session(page, films, tmp_path):
    with Visitor(page) as visitor:
        assert visitor.upload((films / "face.mp4").read_bytes())[0] == 200
        visitor.make(file=str(films / "face.mp4"), path="/etc/passwd", video="http://127.0.0.1:1/x")  # are not read
        done = visitor.next("done", "failed")
        assert done["done"] == "20 frames" and done["person"] == "Linnea"
        status, content, headers = ask_page(page, f"/result/{done['result']}")
        assert status == 200 and headers["content-type"] == "video/mp4"
        (tmp_path / "made.mp4").write_bytes(content)
        made = open_film(tmp_path / "made.mp4")
        assert made.has_sound and made.size == (512, 256)
        part = ask_page(page, f"/result/{done['result']}", Range="bytes=4-7")
        assert part[:2] == (206, b"ftyp")
        assert len(files_of(page)) == 2  # the upload and the result
        visitor.upload((films / "silent.mp4").read_bytes())
        assert len(files_of(page)) == 1  # in the place of the other, whose result is gone
        assert ask_page(page, f"/result/{done['result']}")[0] == 404
    wait_until(lambda: not files_of(page))


@pytest.mark.parametrize(
    "name, words", [("text.mp4", "cannot be read as a video"), ("grey.mp4", "no face"), ("long.mp4", "more than 5 s")]
)
def test_what_is_wrong_with_a_video_is_said(page, films, name, words):
    with Visitor(page) as visitor:
        visitor.upload((films / name).read_bytes())
        visitor.make()
        failed = visitor.next("failed", "done")["failed"]
        assert words in failed and str(page[1]) not in failed and "session-" not in failed


@pytest.mark.slow
def test_a_video_that_was_stopped_is_made_when_it_is_asked_for_again(page, films):
    with Visitor(page) as visitor:
        visitor.upload((films / "silent.mp4").read_bytes())
        visitor.make()
        visitor.stop()
        visitor.make()  # though the first may not have ended yet
        assert "stopped" in visitor.next("stopped", "done", "failed")
        assert visitor.next("stopped", "done", "failed")["done"] == "20 frames"
        visitor.stop()  # there is nothing to stop any more
        visitor.make()
        assert visitor.next("stopped", "done", "failed")["done"] == "20 frames"


@pytest.mark.slow
def test_one_job_at_a_time(page, films):
    film = (films / "silent.mp4").read_bytes()
    with Visitor(page) as visitor:
        visitor.make()
        assert "choose or record" in visitor.next("failed")["failed"]
        visitor.upload(film)
        for _ in range(3):
            visitor.make()
        assert "a job is running" in visitor.next("failed")["failed"]
        status, words = visitor.upload(film)  # not while the one before is read
        assert status == 409 and b"one file at a time" in words
        assert "done" in visitor.next("done")
        visitor.make(target="Nobody")
        assert "cannot be shown any more" in visitor.next("failed")["failed"]
        visitor.make()
        with Visitor(page) as other:  # taking over stops the job
            assert not files_of(page)
            other.upload(film)
            other.make()
            assert "done" in other.next("done")


def test_stop_ends_a_film_without_a_face(tmp_path, monkeypatch):
    """Nothing is painted then, and no result passes; also while the source is calibrated, and when time is up."""

    def nobody() -> Iterator[FaceFrame]:
        while True:
            time.sleep(0.001)
            yield FaceFrame(0, None, "no face", 0.0)

    def work(shape: np.ndarray | None, stop: threading.Event) -> str:
        frames_in = Input(nobody(), 25.0, 100, calibration=nobody, landmarks=shape)
        monkeypatch.setattr("web.videos.open_input", lambda _: frames_in)
        paths, controls = (tmp_path / "in", tmp_path / "out.mp4"), read_controls("video", {})
        return videos_of(tmp_path)._reenact(paths[0], real_target(), controls, paths[1], stop, lambda words: None)

    known = np.stack([real_target().decoder.shape().neutral] * 30)
    for shape in (None, known):
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(_Stop):
            work(shape, stop)
    monkeypatch.setattr("web.videos.MAX_JOB_S", 0.3)
    with pytest.raises(UserError, match="not finished"):
        work(known, threading.Event())
    assert not list(tmp_path.iterdir())


def real_target() -> Target:
    return target_of(DEMO / "decoder/training_info.yaml")


@pytest.mark.parametrize("count, fps", [(301, 60.0), (5001, 1000.0), (126, 25.0)])
def test_frames_are_limited_as_well_as_seconds(count, fps):
    Limits(1, 5).check("x", 125, 25.0)
    Limits(1, 5).check("x", 300, 60.0)
    with pytest.raises(UserError, match="more than"):
        Limits(1, 5).check("x", count, fps)


def videos_of(folder: Path, targets: dict | None = None, megabytes: int = 1) -> Videos:
    return Videos(targets or {}, "cpu", Limits(megabytes, MAX_SECONDS), folder, nothing)


async def nothing() -> None: ...


def open_session(videos: Videos) -> Session:
    videos._session = Session(videos._folder)
    return videos._session


class Upload:
    """A request whose content comes in parts; an exception among them is raised in its place."""

    def __init__(self, session, *parts: bytes | BaseException, size: int | str | None = None):
        given = sum(len(part) for part in parts if isinstance(part, bytes))
        self.headers = {"x-session": session.token, "content-length": str(given if size is None else size)}
        self._parts = parts

    async def stream(self):
        for part in self._parts:
            if isinstance(part, BaseException):
                raise part
            yield part
            await asyncio.sleep(0)


def sizes_below(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "parts, size, status",
    [
        ([b"a" * 1000, ClientDisconnect()], 5000, 408),  # the browser went away
        ([b"a" * 1000], 5000, 408),
        ([b"a" * 1000, b"b" * 1000], 1500, 413),  # more than it said
        ([b"a"], (1 << 20) + 1, 413),
        ([b"a"], "", 411),
        ([b""], 0, 411),
        ([b"a"], "-1", 411),
        ([b"a"], "9" * 5000, 411),
        ([b"a", OSError(28, "No space left on device")], 2, 507),
    ],
)
def test_what_an_upload_that_fails_leaves(tmp_path, parts, size, status):
    videos = videos_of(tmp_path)

    async def fail() -> None:
        session = open_session(videos)
        with pytest.raises(Refused) as caught:
            await videos.take(Upload(session, *parts, size=size))
        assert caught.value.status == status
        assert session.upload is None and not session.is_uploading
        await videos.take(Upload(session, b"whole"))  # the next one is taken
        assert sizes_below(tmp_path) == [5]
        await videos._close(session)

    asyncio.run(fail())
    assert not list(tmp_path.iterdir())


def test_uploads_that_stand_still_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("web.videos.CHUNK_S", 0.2)
    videos = videos_of(tmp_path)

    async def stands_still():
        yield b"a"
        await asyncio.sleep(PATIENCE_S)

    async def drips():
        while True:
            yield b"a"
            await asyncio.sleep(0.01)

    async def many() -> None:
        session = open_session(videos)
        for stream in (stands_still, drips):
            slow = Upload(session, size=5000)
            slow.stream = stream
            taking = asyncio.create_task(videos.take(slow))
            await asyncio.sleep(0.05)
            with pytest.raises(Refused, match="one file at a time"):  # a second one
                await videos.take(Upload(session, b"a"))
            with pytest.raises(Refused, match="was interrupted"):
                await taking
        await videos.take(Upload(session, bytes(1 << 20)))
        await videos.take(Upload(session, bytes(10)))  # replaces it
        assert sizes_below(tmp_path) == [10]
        with pytest.raises(Refused, match="another tab"):
            await videos.take(Upload(SimpleNamespace(token="../x"), b"a"))
        # closed while it uploads: nothing of it stays
        late = Upload(session, size=5000)
        late.stream = stands_still
        taking = asyncio.create_task(videos.take(late))
        await asyncio.sleep(0.05)
        await videos._close(session)
        with pytest.raises(Refused):
            await taking

    asyncio.run(many())
    assert not sizes_below(tmp_path) and not list(tmp_path.iterdir())
