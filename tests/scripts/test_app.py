"""The page in the browser, as its server answers: live pictures, videos, and what it lets in."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import DEMO, PATIENCE_S, ROOT, must_fail, wait_until, write_frames
from helpers import Visitor, ask_page, serve_page
from starlette.requests import ClientDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from config.runs import GEOMETRY_FILE, HELD_OUT_FILE, INFO_FILE
from inference.geometry import NeutralToNeutral, Shape, shape_of, typical_neutral
from inference.live import LEARN_FRAMES, NEUTRAL_FRAMES, LatestPicture, LearningGeometry
from inference.motion import Motion
from inference.targets import Target, find_targets
from inference.trained import Trained
from make_synthetic import moving_head
from synthetic.people import Expression, expression_track, landmarks_of, random_identity
from utils.errors import DataError, UserError
from utils.video import ffmpeg, open_film
from web import guard as guard_module
from web.guard import COOKIE, HEADERS, Guard
from web.jpeg import decode
from web.live import LiveSockets
from web.server import People, build_application
from web.videos import Limits, Refused, Videos

MAX_SECONDS = 5


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    return [frame for frame, _ in moving_head("Rowan=9", 40, seed=0)]


@pytest.fixture(scope="module")
def films(tmp_path_factory, faces) -> Path:
    """A face with sound, none, a text, and one that is too long."""
    folder = tmp_path_factory.mktemp("films")
    write_frames(folder / "silent.mp4", faces)
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=2"]
    command = [ffmpeg(), "-v", "error", *tone, "-i", str(folder / "silent.mp4"), "-map", "1:v", "-map", "0:a"]
    subprocess.run([*command, "-c:v", "copy", "-c:a", "aac", "-shortest", str(folder / "face.mp4")], check=True)
    write_frames(folder / "grey.mp4", [faces[0] * 0 + 110] * 30)
    write_frames(folder / "long.mp4", [faces[0] * 0 + 110] * (30 * (MAX_SECONDS + 1)))
    (folder / "text.mp4").write_text("no video\n" * 500)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The address of a running page, and its folder for temporary files."""
    folder = tmp_path_factory.mktemp("page")
    with serve_page(folder, str(ROOT / "app.py"), "--max-seconds", str(MAX_SECONDS)) as (address, _):
        yield address, folder
    assert not list(folder.glob(".reenactgan*"))  # nothing of it stays


@contextmanager
def open_live(page, target: str = "Linnea, demo", origin: str | None = None, first: bytes | None = None):
    """A live session whose browser has chosen a person, and sent its first picture."""
    address, _ = page
    origin = f"http://{address}" if origin is None else origin
    first = jpeg(np.full((90, 160, 3), 110, np.uint8)) if first is None else first
    with connect(f"ws://{address}/live", origin=origin, open_timeout=PATIENCE_S, max_size=None) as session:
        with suppress(ConnectionClosed):  # turned away at once; why is there to be read
            session.send(json.dumps({"target": target}))
            session.send(struct.pack(">I", 1000) + first)
        yield session


@contextmanager
def live(page):
    """A session that is ready for pictures; sessions of other tests may take a moment to end."""
    since = time.monotonic()
    while True:
        with open_live(page) as session:
            first = session.recv(timeout=PATIENCE_S)
            if "ready" in first:
                assert "face" in json.loads(session.recv(timeout=PATIENCE_S))["reason"]  # the first picture's, grey
                yield session
                return
        assert "Others are using" in first and time.monotonic() - since < PATIENCE_S
        time.sleep(0.2)


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()


def answer(session, number: int, data: bytes) -> bytes | dict:
    session.send(struct.pack(">I", number) + data)
    found = session.recv(timeout=PATIENCE_S)
    return json.loads(found) if isinstance(found, str) else found


def test_a_face_is_driven_live(page, faces):
    with live(page) as session:
        panels = []
        for number, face in enumerate(faces[:3]):
            found = answer(session, number, jpeg(face))
            assert struct.unpack(">IB", found[:5]) == (number, 1)
            panels.append(cv2.imdecode(np.frombuffer(found[5:], np.uint8), cv2.IMREAD_COLOR).astype(int))
        assert all(panel.shape == (256, 1024, 3) for panel in panels)
        generated = panels[0][:, 768:]
        assert generated[60:200, 60:200].std() > 20 and abs(panels[2][:, 768:] - generated).mean() > 0.5
        # the mark: black about white in the lower left corner
        corner = generated[236:252, 4:76]
        assert (corner.min(axis=2) > 200).sum() > 60 and (corner.max(axis=2) < 60).sum() > 60
        assert "face" in answer(session, 3, jpeg(faces[0] * 0 + 110))["reason"]
        session.send(json.dumps({"motion": "expression", "strength": 1.5, "smooth": 0.9}))
        assert len(answer(session, 3, jpeg(faces[0]))) > 1000
        session.send(json.dumps({"calibrate": True}))
        learning = [answer(session, 4 + i, jpeg(faces[i]))[4] for i in range(NEUTRAL_FRAMES)]
        assert learning == [1] * (NEUTRAL_FRAMES - 1) + [0]


@pytest.mark.parametrize(
    "data, words",
    [
        (b"no picture", "no JPEG"),
        (b"", "or none"),
        (b"0" * (1 << 20), "too large"),
        ("no message", "none of the page's"),
        ("[" * 900, "none of the page's"),
        ('{"motion": "arms"}', "motion is one of all, expression"),
        ('{"motion": ["all"]}', "motion is one of"),
        ('{"motion": "lips", "strength": 2.1}', "from 0 to 2"),
        ('{"motion": "lips", "strength": NaN}', "from 0 to 2"),
        ('{"motion": "lips", "strength": true}', "from 0 to 2"),
        ('{"smooth": 1}', "from 0 to 0.95"),
        ('{"smooth": "0.5"}', "from 0 to 0.95"),
        ('{"smooth": NaN}', "from 0 to 0.95"),
    ],
)
def test_what_is_no_picture_ends_a_live_session(page, data, words):
    with live(page) as session:
        session.send(data if isinstance(data, str) else struct.pack(">I", 0) + data)
        assert words in json.loads(session.recv(timeout=PATIENCE_S))["error"]


def test_a_huge_picture_is_refused_before_it_is_decoded(page):
    with live(page) as session:
        data = jpeg(np.zeros((3000, 3000, 3), np.uint8))
        assert "too large" in answer(session, 0, data)["error"]


def test_a_stranger_and_a_third_are_turned_away(page):
    with live(page), live(page), open_live(page) as third:
        assert "Others are using" in json.loads(third.recv(timeout=PATIENCE_S))["error"]
    with live(page):  # there is room for a second one then
        since, words = time.monotonic(), "Others are using"
        while "Others are using" in words and time.monotonic() - since < PATIENCE_S:
            with open_live(page, target="Nobody") as session:
                words = json.loads(session.recv(timeout=PATIENCE_S))["error"]
        assert "nobody of that name" in words
    for origin in ("http://evil.example", "http://127.0.0.1:1"):
        with pytest.raises(InvalidStatus), open_live(page, origin=origin):
            pass


class Browser:
    """A web socket whose browser says what it is given, each after some seconds, and then nothing more."""

    def __init__(self, *messages: tuple[float, str | bytes]):
        self.said: list[str] = []
        self._messages = list(messages)

    async def accept(self) -> None: ...

    async def close(self) -> None: ...

    async def receive(self) -> dict:
        wait_s, message = self._messages.pop(0) if self._messages else (PATIENCE_S, "")
        await asyncio.sleep(wait_s)
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    async def send_text(self, text: str) -> None:
        self.said.append(text)


TARGET = (0.0, '{"target": "somebody"}')
PICTURE = struct.pack(">I", 0) + cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()


class Idle:
    """A live reenactor that does nothing."""

    def __init__(self, *_):
        self.camera = LatestPicture()
        self.geometry = SimpleNamespace(calibrate=lambda: None)

    def end(self) -> None: ...


def serve(*browsers: Browser) -> list[list[str]]:
    """Return what browsers are told until their sessions end; each has given its place up."""
    sockets = LiveSockets({"somebody": SimpleNamespace(decoder=None)}, "cpu", "float32")

    async def all_of_them() -> None:
        await asyncio.wait_for(asyncio.gather(*map(sockets.serve, browsers)), PATIENCE_S)

    asyncio.run(all_of_them())
    assert not sockets._places
    return [browser.said for browser in browsers]


def test_a_browser_that_sends_no_pictures_gives_its_place_up(monkeypatch):
    monkeypatch.setattr("web.live.LiveReenactor", Idle)
    monkeypatch.setattr("web.live.IDLE_S", 0.3)
    # words alone do not keep the place
    ((ready, said),) = serve(Browser(TARGET, (0, PICTURE), *[(0.1, '{"calibrate": true}')] * 100))
    assert "ready" in ready and "Press Start" in json.loads(said)["error"]


def test_silent_browsers_take_no_place(monkeypatch):
    monkeypatch.setattr("web.live.LiveReenactor", Idle)
    monkeypatch.setattr("web.live.IDLE_S", 0.2)
    monkeypatch.setattr("web.live.FIRST_S", 1.0)
    silent, without_picture = [Browser()] * 3, [Browser(TARGET), Browser(TARGET, *[(0.1, "{}")] * 100)]
    one_picture = Browser((0.3, TARGET[1]), (0.0, PICTURE))
    *others, said = serve(*silent, *without_picture, one_picture)
    assert "ready" in said[0]  # though all the others were there before
    assert all("Press Start" in json.loads(words)["error"] for of_one in others for words in of_one)


@pytest.mark.slow
def test_who_hardly_sends_pictures_makes_room_for_who_does(monkeypatch):
    monkeypatch.setattr("web.live.LiveReenactor", Idle)
    monkeypatch.setattr("web.live.QUIET_S", 1.0)
    monkeypatch.setattr("web.live.IDLE_S", 4.0)
    many = [(0.05, PICTURE)] * 40
    browsers = [Browser(TARGET, (0, PICTURE), *more) for more in ([(3.0, PICTURE)] * 3, many)]
    browsers += [Browser((wait_s, TARGET[1]), (0.0, PICTURE), *many) for wait_s in (1.5, 1.6)]
    first, second, third, fourth = serve(*browsers)
    assert "others were waiting" in first[1] and "ready" in second[0] and "ready" in third[0]
    assert len(fourth) == 1 and "Others are using" in fourth[0]  # both others send pictures


@pytest.mark.parametrize("error, words", [(DataError("what is wrong"), "what is wrong"), (ValueError("x"), "failed")])
def test_an_error_in_the_middle_is_said_and_frees_the_place(monkeypatch, capsys, error, words):
    class Failing(Idle):
        def __init__(self, decoder, context, precision, take, fail):
            super().__init__()
            threading.Timer(0.1, fail, [error]).start()

        def end(self) -> None:
            ended.append(True)

    ended = []
    monkeypatch.setattr("web.live.LiveReenactor", Failing)
    ((ready, said),) = serve(Browser(TARGET, (0, PICTURE)))
    assert "ready" in ready and words in json.loads(said)["error"] and ended
    assert ("ValueError: x" in capsys.readouterr().err) == isinstance(error, ValueError)


def scans_of(data: bytes) -> tuple[bytes, bytes]:
    """Split a JPEG where its first scan begins."""
    place = data.index(b"\xff\xda")
    return data[:place], data[place:-2]


def slow_pictures() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3)).astype(np.uint8)
    plain = jpeg(noise)
    head, scan = scans_of(plain)
    short = scan[: 2 + int.from_bytes(scan[2:4], "big") + 20]
    progressive = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    frame = plain.index(b"\xff\xc0")
    return {
        "progressive": progressive,
        "many scans": head + short * 5000 + b"\xff\xd9",
        "arithmetic": plain[:frame] + b"\xff\xc9" + plain[frame + 2 :],
        "two frames": head + head[frame:] + scan + b"\xff\xd9",
        "many parts": head[:2] + b"\xff\xe5\x00\x04ab" * 5000 + head[2:] + scan + b"\xff\xd9",
        "no height": plain[: frame + 5] + b"\0\0" + plain[frame + 7 :],
        "huge": plain[: frame + 5] + b"\xff\xff\xff\xff" + plain[frame + 9 :],
        "cut": plain[: frame + 3],
        "nothing": b"\xff\xd8\xff\xd9",
    }


@pytest.mark.parametrize("kind", slow_pictures())
def test_pictures_that_take_long_are_refused_before_they_are_decoded(monkeypatch, kind):
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match="picture"):
        decode(slow_pictures()[kind])


def test_plain_pictures_are_decoded():
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8), (0, 0), 3)
    for options in ([], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2], [cv2.IMWRITE_JPEG_OPTIMIZE, 1]):
        data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98, *options])[1].tobytes()
        assert np.abs(decode(data).astype(int) - picture).mean() < 2
    grey = cv2.imencode(".jpg", picture[..., 0])[1].tobytes()
    assert decode(grey).shape == (48, 64, 3)


# videos


def files_of(page) -> list[Path]:
    """List what sessions have on the server's disk."""
    return [path for path in page[1].glob(".reenactgan*/**/*") if path.is_file()]


def test_a_video_is_made_with_its_sound_and_goes_with_its_session(page, films, tmp_path):
    with Visitor(page) as visitor:
        assert visitor.upload((films / "face.mp4").read_bytes())[0] == 200
        visitor.make(file=str(films / "face.mp4"), path="/etc/passwd", video="http://127.0.0.1:1/x")  # are not read
        done = visitor.next("done", "failed")
        assert done["done"] == "40 frames" and done["person"] == "Linnea"
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
    "name, words",
    [("text.mp4", "cannot be read as a video"), ("grey.mp4", "no face"), ("long.mp4", "at most 5 s")],
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
        assert visitor.next("stopped", "done", "failed")["done"] == "40 frames"
        visitor.stop()  # there is nothing to stop any more
        visitor.make()
        assert visitor.next("stopped", "done", "failed")["done"] == "40 frames"


@pytest.mark.slow
def test_one_job_and_one_place_for_each_session_and_a_limit_for_all(page, films, monkeypatch):
    film = (films / "silent.mp4").read_bytes()
    with Visitor(page) as visitor, Visitor(page) as other:
        visitor.make()
        assert "choose or record" in visitor.next("failed")["failed"]
        visitor.upload(film)
        for _ in range(3):
            visitor.make()
        assert "is being made" in visitor.next("failed")["failed"]
        status, words = visitor.upload(film)  # not while the one before is read
        assert status == 409 and b"one file at a time" in words
        other.upload(film)
        other.make()
        assert "waiting" in other.next("progress")["progress"]
        other.make(target="Nobody")
        assert "nobody of that name" in other.next("failed")["failed"]
        assert "done" in visitor.next("done") and "done" in other.next("done")
    videos = videos_of(films, {"Linnea": demo_target()})
    monkeypatch.setattr("web.videos.MAX_WAITING", 2)

    async def many() -> list[str]:
        refused = []
        sessions = [videos._open() for _ in range(4)]
        for session in sessions:
            session.upload = films / "silent.mp4"
            session.stop.set()  # they shall not do anything
        async with videos._turn:
            for session in sessions:
                session.stop.clear()
                try:
                    await videos._begin(session, {"target": "Linnea", "layout": "face"})
                except UserError as error:
                    refused.append(str(error))
            for session in sessions:
                session.stop.set()
            await asyncio.gather(*(session.job for session in sessions if session.job))
        return refused

    assert asyncio.run(many()) == ["too many are waiting; try again later"] * 2


def demo_target() -> Target:
    return Target("Linnea", "demo", Trained({}, DEMO / "decoder" / "weights.h5"), "2026-01-01", {})


def videos_of(folder: Path, targets: dict | None = None, megabytes: int = 1) -> Videos:
    return Videos(targets or {}, "cpu", "float32", Limits(megabytes, MAX_SECONDS), folder)


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
        session = videos._open()
        with pytest.raises(Refused) as caught:
            await videos.take(Upload(session, *parts, size=size))
        assert caught.value.status == status
        assert session.upload is None and session.upload_bytes == 0 and not session.is_uploading
        await videos.take(Upload(session, b"whole"))  # the next one is taken
        assert sizes_below(tmp_path) == [5]
        await videos._close(session)

    asyncio.run(fail())
    assert not list(tmp_path.iterdir())


def test_uploads_that_stand_still_are_given_up_and_all_together_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("web.videos.CHUNK_S", 0.2)
    monkeypatch.setattr("web.videos.MAX_UPLOADS", 2)
    videos = videos_of(tmp_path)

    async def stands_still():
        yield b"a"
        await asyncio.sleep(PATIENCE_S)

    async def drips():
        while True:
            yield b"a"
            await asyncio.sleep(0.01)

    async def many() -> None:
        sessions = [videos._open() for _ in range(4)]
        for stream in (stands_still, drips):
            slow = Upload(sessions[0], size=5000)
            slow.stream = stream
            taking = asyncio.create_task(videos.take(slow))
            await asyncio.sleep(0.05)
            with pytest.raises(Refused, match="one file at a time"):  # a second one
                await videos.take(Upload(sessions[0], b"a"))
            with pytest.raises(Refused, match="did not come to its end"):
                await taking
        for session in sessions[:2]:
            await videos.take(Upload(session, bytes(1 << 20)))
        with pytest.raises(Refused, match="all the room"):
            await videos.take(Upload(sessions[2], bytes(1 << 20)))
        await videos.take(Upload(sessions[0], bytes(10)))  # in the place of its own
        await videos.take(Upload(sessions[2], bytes(1000)))
        with pytest.raises(Refused, match="not connected"):
            await videos.take(Upload(SimpleNamespace(token="../x"), b"a"))
        # closed while it uploads: nothing of it stays
        late = Upload(sessions[3], size=5000)
        late.stream = stands_still
        taking = asyncio.create_task(videos.take(late))
        await asyncio.sleep(0.05)
        for session in sessions:
            await videos._close(session)
        with pytest.raises(Refused):
            await taking

    asyncio.run(many())
    assert not sizes_below(tmp_path) and not list(tmp_path.iterdir())


def test_pages_that_hold_nothing_give_way(tmp_path, monkeypatch):
    monkeypatch.setattr("web.videos.MAX_PAGES", 2)
    videos = videos_of(tmp_path)

    async def open_many() -> None:
        first, second = videos._open(), videos._open()
        await videos.take(Upload(first, b"a"))
        third = videos._open()
        assert second.is_over and not first.is_over and third is not None
        await videos.take(Upload(third, b"a"))
        assert videos._open() is None
        monkeypatch.setattr("web.videos.KEEP_S", 0.0)  # whoever does nothing for long gives way, too
        assert videos._open() is not None and first.is_over and not third.is_over

    asyncio.run(open_many())


# what is served, and who may have it


OF_GRADIO = (
    "/gradio_api/file=https://example.org/x", "/gradio_api/file=/etc/passwd", "/file=/etc/passwd", "/gradio_api/upload",
    "/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/proxy=https://example.org", "/config",
    "/gradio_api/custom_component/x/client/component/y", "/monitoring", "/gradio_api/heartbeat/x", "/gradio_api/info",
    "/static/../../app.py", "/assets/%2e%2e/%2e%2e/app.py", "/login", "/robots.txt", "/docs", "/openapi.json",
    "/page.py", "/server.py", "/..%2fapp.py", "//etc/passwd", "/result/", "/result/..%2f..%2fapp.py", "/result/x/y",
    "/people/", "/page.html", "/live.py", "/.git/config",
)  # fmt: skip


def test_nothing_but_the_pages_own_routes_answers(page):
    for path in OF_GRADIO:
        for data in (None, b"x"):
            assert ask_page(page, path, data)[0] in (403, 404, 405), path
    for path in ("/", "/page.css", "/page.js", "/live.js", "/learn.js", "/people"):
        status, content, headers = ask_page(page, path)
        assert status == 200 and content
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert ask_page(page, path, b"x", method=method)[0] in (403, 405), path
    assert ask_page(page, "/upload")[0] == 405
    for path in ("/", "/gradio_api/queue", "/upload"):
        with pytest.raises(InvalidStatus), connect(f"ws://{page[0]}{path}", origin=f"http://{page[0]}"):
            pass


def test_every_route_is_in_the_documentation(tmp_path):
    routes = build_application({"somebody": demo_target()}, "cpu", "float32", tmp_path, tmp_path, Limits(1, 1), None)
    text = (ROOT / "docs/REENACTMENT.md").read_text()
    paths = [route.path.replace(":str", "") for route in routes._application.routes]
    assert len(paths) == 16
    assert sorted(paths) == sorted(re.findall(r"^\| (?:GET|POST|web socket) `([^`]+)`", text, re.MULTILINE))


def test_nobody_names_files_of_others(page, films):
    with Visitor(page) as visitor, Visitor(page) as other:
        visitor.upload((films / "silent.mp4").read_bytes())
        (kept,) = files_of(page)
        for token in ("", kept.parent.name, str(kept.parent), "../" + kept.parent.name, visitor.token[:-1]):
            assert ask_page(page, "/upload", b"x", **{"X-Session": token})[0] == 403
        for name in (kept.name, kept.parent.name, f"..%2f{kept.name}", str(kept)):
            assert ask_page(page, f"/result/{name}")[0] == 404
        for words in (
            '{"make": "/x"}',
            '{"make": ["a"]}',
            "[]",
            "null",
            "{" * 900,
            '{"make": {"target": {"a": 1}}}',
            '{"make": {"target": "Linnea, demo", "layout": "face", "motion": "arms"}}',
        ):
            for sent in (words, words.encode()):  # bytes are no message either
                other.socket.send(sent)
                assert "failed" in other.next("failed")
        other.socket.send(json.dumps({"remember": str(kept.parent), "file": str(kept), "forget": True}))
        other.make(upload=str(kept))
        assert "choose or record" in other.next("failed")["failed"]
        assert kept.is_file()
    wait_until(lambda: not files_of(page))


def test_only_this_machine_by_its_own_names(page):
    address, _ = page
    port = address.partition(":")[2]
    assert ask_page(page, "/", Host=f"localhost:{port}")[0] == 200
    for host in ("rebound.example", "[", "", "127.0.0.1.evil.example", "localhost@evil.example", "[::1"):
        assert ask_page(page, "/", Host=host)[0] in (400, 403), host
    log = (page[1] / "log").read_text()
    assert "Traceback" not in log, log
    for origin in ("http://[", "null", "http://evil.example", f"http://{address}.evil.example", f"ftp://{address}"):
        assert ask_page(page, "/upload", b"x", Origin=origin)[0] == 403
        for path in ("live", "session"):
            with pytest.raises(InvalidStatus), connect(f"ws://{address}/{path}", origin=origin):
                pass
    assert "Traceback" not in (page[1] / "log").read_text()


def ask(guard: Guard, kind: str = "http", method: str = "GET", path: str = "/", client: str = "10.0.0.9", **headers):
    """Make a request; return the status, 0 for a web socket's close, 200 where it is let in; and its headers."""
    messages = []

    async def send(message):
        messages.append(message)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "path": path, "client": (client, 5), "scheme": "http", "headers": pairs}
    asyncio.run(guard(scope, None, send))
    found = dict(messages[0].get("headers", []))
    return messages[0].get("status", 0), found


async def welcome(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_what_other_sites_may_ask():
    guard, here = Guard(welcome, None), {"host": "127.0.0.1:7860"}
    own = "http://127.0.0.1:7860"
    post = {"method": "POST", "path": "/upload"}
    assert ask(guard, **here)[0] == 200
    assert ask(guard, **here, origin=own, sec_fetch_site="same-origin", **post)[0] == 200
    assert ask(guard, **here, **post)[0] == 403  # nobody says where it comes from
    assert ask(guard, **here, origin="null", **post)[0] == 403
    for site in ("cross-site", "same-site"):  # another port of this machine is the same site
        assert ask(guard, **here, origin=own, sec_fetch_site=site, **post)[0] == 403
        for mode, dest in (("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe"), ("no-cors", "image")):
            assert ask(guard, **here, sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=dest)[0] == 403
        link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
        assert ask(guard, **here, **link)[0] == 200
        assert ask(guard, **here, **link, path="/people")[0] == 403
        assert ask(guard, **here, **link, method="POST", origin=own)[0] == 403  # a form
        assert ask(guard, "websocket", **here, origin=own, sec_fetch_site=site)[0] == 0
    assert ask(guard, "websocket", **here)[0] == 0
    twice = [(b"host", b"127.0.0.1"), (b"host", b"evil.example")]
    scope = {"type": "websocket", "path": "/", "headers": twice}
    closed = []

    async def send(message):
        closed.append(message["type"])

    asyncio.run(guard(scope, None, send))
    assert closed == ["websocket.close"]


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


def test_the_password(monkeypatch):
    monkeypatch.setattr(guard_module, "WRONG_S", 0.0)
    guard = Guard(welcome, "a good word")
    said, wrong = basic("a good word"), basic("a bad word")
    for headers in ({}, {"authorization": wrong}, {"authorization": "Basic ?"}, {"cookie": f"{COOKIE}=x; a"}):
        status, found = ask(guard, host="h", **headers)
        assert status == 401 and b"www-authenticate" in found and dict(HEADERS).items() <= found.items()
    status, found = ask(guard, host="h", authorization=said)
    assert status == 200
    cookie = found[b"set-cookie"].decode()
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Secure" not in cookie
    behind_proxy = ask(guard, host="h", authorization=said, x_forwarded_proto="https")[1]
    assert b"; Secure" in behind_proxy[b"set-cookie"]
    assert b"; Secure" in ask(guard, host="h", authorization=said, origin="https://h")[1][b"set-cookie"]
    cookie = cookie.partition(";")[0]
    assert ask(guard, host="h", cookie=f"other=1; {cookie}")[0] == 200
    assert ask(guard, "websocket", host="h", origin="https://h", cookie=cookie)[0] == 200
    assert ask(guard, "websocket", host="h", origin="https://h")[0] == 0
    assert ask(guard, "websocket", host="h", origin="https://other", cookie=cookie)[0] == 0
    assert ask(guard, host="h", cookie=cookie, method="POST", path="/upload", origin="http://other")[0] == 403
    assert ask(Guard(welcome, None), host="10.0.0.1")[0] == 403


def test_passwords_cannot_be_guessed(monkeypatch):
    monkeypatch.setattr(guard_module, "WRONG_S", 0.0)
    guard = Guard(welcome, "a good word")
    cookie = ask(guard, host="h", authorization=basic("a good word"))[1][b"set-cookie"].decode().partition(";")[0]
    found = [ask(guard, host="h", authorization=basic(f"word {number}"))[0] for number in range(50)]
    assert found == [401] * 5 + [429] * 45
    status, headers = ask(guard, host="h", authorization=basic("a good word"))  # this address has to wait
    assert status == 429 and 0 < int(headers[b"retry-after"]) <= 31
    assert ask(guard, "websocket", host="h", origin="http://h", authorization=basic("a good word"))[0] == 0
    assert ask(guard, host="h", cookie=cookie)[0] == 200  # who is in stays in
    assert ask(guard, host="h", client="10.0.0.8", authorization=basic("a good word"))[0] == 200
    # from many addresses; all of an IPv6 network count as one
    found = [ask(guard, host="h", client=f"2001:db8::{n:x}", authorization=basic("x"))[0] for n in range(20)]
    assert found.count(401) == 5
    found = [ask(guard, host="h", client=f"10.1.0.{n}", authorization=basic("x"))[0] for n in range(200)]
    assert found.count(401) == guard_module.MAX_WRONG_OF_ALL - 10
    monkeypatch.setattr(guard_module, "WAIT_S", 0.0)
    assert ask(guard, host="h", authorization=basic("a good word"))[0] == 200


def test_wrong_passwords_are_answered_slowly(monkeypatch):
    monkeypatch.setattr(guard_module, "WRONG_S", 0.3)
    begin = time.monotonic()
    assert ask(Guard(welcome, "a good word"), host="h", authorization=basic("x"))[0] == 401
    assert time.monotonic() - begin >= 0.3


@pytest.mark.slow
def test_the_command_line(tmp_path, page):
    must_fail(tmp_path, 2, "give a --password", "app.py", "--host", "0.0.0.0")
    words = must_fail(tmp_path, 2, "no such file", "app.py", "--host", "0.0.0.0", "--password", "a good word")
    assert "a good word" not in words  # it may be the password
    (tmp_path / "short").write_text("short\n")
    must_fail(tmp_path, 2, "at least 8", "app.py", "--host", "0.0.0.0", "--password", "short")
    must_fail(tmp_path, 2, "at least 8", "app.py", "--host", "0.0.0.0", REENACTGAN_PASSWORD="")
    (tmp_path / "binary").write_bytes(b"\xff" * 20)
    must_fail(tmp_path, 2, "cannot be read", "app.py", "--password", "binary")
    must_fail(tmp_path, 2, "no such file", "app.py", "--password", tmp_path)
    must_fail(tmp_path, 2, "no such folder", "app.py", "--logdir", "nowhere")
    port = page[0].partition(":")[2]
    must_fail(tmp_path, 6, "cannot be listened on", "app.py", "--port", port, REENACTGAN_PASSWORD="a good word")


# the page's own scripts, with a browser around them that is made of what they ask for


BROWSER = """
var tracks = [], sockets = [], waiting = [], shown = {};
function element(id) {
  return shown[id] = shown[id] || { id, textContent: "", dataset: {}, classList: { toggle() {} }, width: 0,
    play: async () => {}, getContext: () => ({ drawImage() {} }), parentElement: { clientWidth: 900 },
    toBlob() {}, value: "1", setAttribute() {}, getAttribute: () => "", removeAttribute() {}, videoWidth: 0 };
}
var window = {}, location = { protocol: "http:", host: "here" }, performance = { now: () => 0 };
var document = { getElementById: element, querySelectorAll: () => [], querySelector: () => ({ value: "face" }),
                 body: { dataset: { megabytes: "1", seconds: "5" } } };
function setTimeout() {}
function WebSocket(address) { sockets.push(this); this.sent = []; this.send = (data) => this.sent.push(data);
  this.close = () => { this.isClosed = true; }; }
WebSocket.OPEN = 1;
function stream() {
  const track = { state: "live", stop() { this.state = "ended"; } };
  tracks.push(track);
  return { getTracks: () => [track], getVideoTracks: () => [track] };
}
var navigator = { mediaDevices: { getUserMedia: () => new Promise((give) => waiting.push(() => give(stream()))) } };
function answer() { const all = waiting; waiting = []; all.forEach((give) => give()); }
var running = () => tracks.filter((track) => track.state === "live").length;
var status = () => element("live-status").textContent, progress = () => element("video-progress").textContent;
"""


@pytest.fixture
def browser():
    racer = pytest.importorskip("py_mini_racer", reason="of requirements-dev.txt")
    engine = racer.MiniRacer()
    engine.eval(BROWSER + "".join((ROOT / "web" / name).read_text() for name in ("live.js", "learn.js", "page.js")))
    return engine


def test_start_and_stop(browser):
    run = browser.eval
    for words in ("live.start('x')", "live.start('x')", "live.stop()", "answer()"):
        run(f"{words}; 0")
    assert run("running()") == 0 and run("!live.session") and run("status()") == "Stopped."
    run("live.start('x'); live.start('x'); answer(); 0")  # twice: one camera
    run("0")
    assert run("running()") == 1 and run("sockets.length") == 2  # the page's own, and one live one
    run("live.stop(); 0")
    assert run("running()") == 0 and run("sockets.at(-1).isClosed") is True
    run("live.start('x'); 0")
    run("answer(); 0")
    run("tracks.at(-1).onended(); 0")
    assert run("running()") == 0 and "camera is gone" in run("status()")
    run("live.start('x'); live.start('y'); live.start('z'); 0")
    run("answer(); 0")
    run("sockets.at(-1).onopen(); 0")
    assert run("running()") == 1 and json.loads(run("sockets.at(-1).sent[0]")) == {"target": "z"}
    run("sockets.at(-1).onclose({ reason: '' }); 0")
    assert run("running()") == 0 and "still there" in run("status()")


def test_make_and_stop_and_a_server_that_dies(browser):
    run = browser.eval
    tell = "sockets[0].onmessage({{ data: JSON.stringify({}) }}); 0"
    run(tell.format("{session: 't'}"))
    run("page.hasUpload = true; page.make(); page.stop(); 0")
    assert run("progress()") == "stopping ..." and run("element('video-go').disabled") is True
    run(tell.format("{stopped: true}"))
    assert run("progress()") == "Stopped." and run("element('video-go').disabled") is False
    run("page.make(); 0")
    run(tell.format("{progress: '1 of 587 frames'}"))
    assert run("progress()") == "1 of 587 frames"
    assert [next(iter(json.loads(text))) for text in run("JSON.stringify(sockets[0].sent)") and
            [run(f"sockets[0].sent[{i}]") for i in range(3)]] == ["make", "stop", "make"]  # fmt: skip
    run("sockets[0].onclose({}); 0")
    assert "server has ended" in run("progress()") and run("element('video-go').disabled") is True
    # the camera that records, stopped while the browser still asks
    run(tell.format("{session: 't'}"))
    run("page.record('video'); page.stop(); 0")
    run("answer(); 0")
    assert run("running()") == 0 and run("progress()") == "Stopped."


# what lies behind it


def test_pictures_that_are_not_taken_give_way():
    camera = LatestPicture()
    for number in range(5):
        camera.offer(number, np.full((1, 1, 3), number, np.uint8))
    pictures = iter(camera)
    assert next(pictures)[0, 0, 0] == 4 and camera.next_number() == 4 and camera.dropped == 4
    threading.Timer(0.1, camera.end).start()
    assert list(pictures) == []


def track(seed: int, count: int) -> np.ndarray:
    who = random_identity(seed)
    return np.array([landmarks_of(who, Expression(*map(float, row))) for row in expression_track(4 * count, 0)[::4]])


def test_a_live_face_is_learned_and_calibrated():
    target, driver = shape_of(track(29, 100)), track(9, LEARN_FRAMES + 1)
    geometry = LearningGeometry(target)
    middle = (typical_neutral(driver[0]) + driver[0]) / 2  # little is known of it yet
    first = NeutralToNeutral(Shape(driver[0], middle), target).move(driver[0])
    np.testing.assert_allclose(geometry.move(driver[0]), first)
    for marks in driver[1:LEARN_FRAMES]:
        assert geometry.is_learning
        moved = geometry.move(marks)
    assert not geometry.is_learning
    expected = NeutralToNeutral(shape_of(driver[:LEARN_FRAMES]), target)
    np.testing.assert_allclose(moved, expected.move(driver[LEARN_FRAMES - 1]))
    neutral = landmarks_of(random_identity(9), Expression())
    geometry.calibrate()
    for _ in range(NEUTRAL_FRAMES):
        moved = geometry.move(neutral)
    np.testing.assert_allclose(moved, target.neutral, atol=1e-6)
    mean = neutral + 0  # another array: it is known to be neutral
    np.testing.assert_allclose(geometry.move(driver[5]), NeutralToNeutral(Shape(mean, neutral), target).move(driver[5]))


def test_a_live_face_moves_as_it_is_chosen():
    target, driver = shape_of(track(29, 100)), track(9, LEARN_FRAMES)
    geometry = LearningGeometry(target)
    for marks in driver:
        geometry.move(marks)
    source = shape_of(driver)
    geometry.choose("lips", 1.5)
    expected = NeutralToNeutral(source, target).move(Motion("lips", 1.5, source.neutral).choose(driver[7]))
    np.testing.assert_allclose(geometry.move(driver[7]), expected)
    geometry.choose("all", 1.0)
    np.testing.assert_allclose(geometry.move(driver[7]), NeutralToNeutral(source, target).move(driver[7]))
    # another neutral face is what the chosen motion begins from, then
    geometry.choose("pose", 1.0)
    geometry.calibrate()
    for _ in range(NEUTRAL_FRAMES):
        geometry.move(driver[3])
    np.testing.assert_allclose(geometry.move(driver[3]), target.neutral, atol=1e-6)


def test_a_live_face_is_calibrated_before_it_was_seen():
    target, neutral = shape_of(track(29, 100)), landmarks_of(random_identity(9), Expression())
    geometry = LearningGeometry(target)
    geometry.calibrate()  # pressed while there was no face yet
    for _ in range(NEUTRAL_FRAMES):
        assert geometry.is_learning
        moved = geometry.move(neutral)
    assert not geometry.is_learning
    np.testing.assert_allclose(moved, target.neutral, atol=1e-6)


def test_people_are_found_with_what_is_known_of_them(tmp_path, capsys):
    for run in ("good", "no_shape", "no_weights", "damaged"):
        folder = tmp_path / "decoder" / "Linnea" / run
        folder.mkdir(parents=True)
        if run != "no_weights":
            (folder / "netG_decoder_3.h5").write_bytes((DEMO / "decoder/weights.h5").read_bytes())
        info = "model: [" if run == "damaged" else (DEMO / "decoder" / INFO_FILE).read_text()
        (folder / INFO_FILE).write_text(info)
        if run != "no_shape":
            (folder / GEOMETRY_FILE).write_text((DEMO / "decoder" / GEOMETRY_FILE).read_text())
        (folder / HELD_OUT_FILE).write_text('{"psnr": 25.8, "ssim": 0.865, "sharpness": 0.52}')
    people = find_targets([tmp_path, tmp_path / "nowhere", tmp_path])
    assert list(people) == ["Linnea, demo", "Linnea, good"] and people["Linnea, demo"].date > "2026"
    found = people["Linnea, good"]
    assert found.held_out == {"psnr": 25.8, "ssim": 0.865, "sharpness": 0.52}
    assert capsys.readouterr().out.count("note: left out") == 3
    note = found.decoder.weights.parent / HELD_OUT_FILE
    note.write_text('{"psnr": 25.8, "trained_on": "2025-03-01"}')  # not the day of a copy
    assert find_targets([tmp_path])["Linnea, good"].date == "2025-03-01"
    note.write_text('{"psnr": "?", "trained_on": "yesterday"}')
    assert find_targets([tmp_path])["Linnea, good"].date == found.date
    assert find_targets([tmp_path])["Linnea, good"].held_out == {}


def test_people_of_one_name_are_all_shown_and_a_damaged_one_hides_nobody(tmp_path):
    for folder in (tmp_path / name / "decoder" / "Linnea" / "good" for name in ("a", "b")):
        folder.mkdir(parents=True)
        for name, own in (("weights.h5", "netG_decoder_3.h5"), (INFO_FILE, INFO_FILE), (GEOMETRY_FILE, GEOMETRY_FILE)):
            (folder / own).write_bytes((DEMO / "decoder" / name).read_bytes())
    people = find_targets([tmp_path / "a", tmp_path / "b"])
    assert list(people) == ["Linnea, demo", "Linnea, good", "Linnea, good (2)"]
    (tmp_path / "b/decoder/Linnea/good").rename(tmp_path / "b/decoder/Linnea/demo")  # make demo-train calls its runs so
    assert list(find_targets([tmp_path / "b"])) == ["Linnea, demo", "Linnea, demo (2)"]
    (tmp_path / "b/decoder/Linnea/demo").rename(tmp_path / "b/decoder/Linnea/good")
    weights = people["Linnea, good"].decoder.weights
    weights.write_bytes(weights.read_bytes()[:-1000])
    shown = People(people, "cpu").html()
    assert shown.count("<figure") == 3 and shown.count("<img") == 2
    assert "cannot be shown" in shown and "(2)" in shown
