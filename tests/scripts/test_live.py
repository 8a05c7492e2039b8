"""Live images over a web socket: who may send them, which are taken, and what comes back."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers import PATIENCE_S, Visitor, ask_page, jpeg, open_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from faces.learning import NEUTRAL_FRAMES
from inference.inputs import FaceFrame
from utils.errors import DataError, UserError
from web.live import RESULTS_WAITING, LiveSockets, decode
from web.live_reenactor import FRAMES_WAITING, LiveFrames


@contextmanager
def open_live(page, token: str, target: str = "Linnea, demo", origin: str | None = None):
    """A live session whose browser has chosen a person."""
    with open_socket(page, "live", origin, max_size=None) as session:
        session.send(json.dumps({"target": target, "session": token}))
        yield session


@contextmanager
def live(page):
    """A session that is ready for images."""
    with Visitor(page) as tab, open_live(page, tab.token) as session:
        assert "ready" in session.recv(timeout=PATIENCE_S)
        yield session


def answer(session, data: bytes) -> bytes | dict:
    session.send(data)
    found = session.recv(timeout=PATIENCE_S)
    return json.loads(found) if isinstance(found, str) else found


def test_a_face_is_driven_live(page, faces):
    with live(page) as session:
        panels = []
        for face in faces[:3]:
            found = answer(session, jpeg(face))
            assert found[0] == 1  # the face is being learned
            panels.append(cv2.imdecode(np.frombuffer(found[1:], np.uint8), cv2.IMREAD_COLOR).astype(int))
        assert all(panel.shape == (256, 1024, 3) for panel in panels)
        generated = panels[0][:, 768:]
        assert generated[60:200, 60:200].std() > 20 and abs(panels[2][:, 768:] - generated).mean() > 0.5
        # the mark: black about white in the lower left corner
        corner = generated[236:252, 4:76]
        assert (corner.min(axis=2) > 200).sum() > 60 and (corner.max(axis=2) < 60).sum() > 60
        assert "face" in answer(session, jpeg(faces[0] * 0 + 110))["reason"]
        session.send(json.dumps({"motion": "expression", "strength": 1.5, "smooth": 0.9}))
        assert len(answer(session, jpeg(faces[0]))) > 1000
        session.send(json.dumps({"calibrate": True}))
        learning = [answer(session, jpeg(faces[i]))[0] for i in range(NEUTRAL_FRAMES)]
        assert learning == [1] * (NEUTRAL_FRAMES - 1) + [0]


@pytest.mark.parametrize(
    "data, words",
    [
        (b"no image", "not a JPEG image"),
        (b"", "not a JPEG image"),
        ("no message", "invalid message"),
        ("[" * 900, "invalid message"),
        ('{"motion": "arms"}', "motion must be one of all, expression"),
        ('{"motion": ["all"]}', "motion must be one of"),
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
        session.send(data)
        assert words in json.loads(session.recv(timeout=PATIENCE_S))["error"]


def test_a_message_that_is_too_long_ends_a_live_session(page):
    with live(page) as session:
        session.send(b"0" * ((1 << 20) + 1))
        with pytest.raises(ConnectionClosed):
            session.recv(timeout=PATIENCE_S)


def end_of(session) -> str:
    """Why a session ends."""
    while True:
        found = session.recv(timeout=PATIENCE_S)
        if isinstance(found, str) and "error" in found:
            return json.loads(found)["error"]


def test_one_tab_at_a_time_drives(page):
    with Visitor(page) as tab, open_live(page, tab.token) as session:
        assert "ready" in session.recv(timeout=PATIENCE_S)
        with open_socket(page, "session") as second:  # another tab is told so, and changes nothing
            assert json.loads(second.recv(timeout=PATIENCE_S)) == {"busy": True}
        with open_live(page, "x") as stranger:
            assert "Another tab" in end_of(stranger)
        assert "face" in answer(session, jpeg(np.full((90, 160, 3), 110, np.uint8)))["reason"]  # goes on
        with open_live(page, tab.token, target="Nobody") as wrong:
            assert "cannot be shown any more" in end_of(wrong)
    with Visitor(page) as tab, open_live(page, tab.token) as session:
        assert "ready" in session.recv(timeout=PATIENCE_S)
        with open_live(page, tab.token) as again:  # the same tab starts anew, with another person perhaps
            assert "started anew" in end_of(session) and "ready" in again.recv(timeout=PATIENCE_S)
            with Visitor(page):
                assert "Another tab" in end_of(again)
                assert "Another tab" in tab.do("stop")[1]["error"]
    for origin in ("http://evil.example", "http://127.0.0.1:1"):
        with pytest.raises(InvalidStatus), open_live(page, "x", origin=origin):
            pass


def test_a_page_that_is_reloaded_is_not_its_own_other_tab(page, films):
    for _ in range(5):
        with open_socket(page, "session") as tab:
            headers = {"X-Session": json.loads(tab.recv(timeout=PATIENCE_S))["session"]}
            assert ask_page(page, "/upload/video", (films / "silent.mp4").read_bytes(), **headers)[0] == 200
            wish = b'{"do": "make", "target": "Linnea, demo"}'  # it takes a moment to end
            assert ask_page(page, "/do", wish, **headers)[0] == 200


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

    async def send_json(self, message: dict) -> None:
        self.said.append(json.dumps(message))


TARGET = (0.0, '{"target": "somebody"}')
PICTURE = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()


class Idle:
    """A live reenactor that does nothing."""

    def __init__(self, *_):
        self.camera = LiveFrames()
        self.geometry = SimpleNamespace(calibrate=lambda: None, learned=None)

    def end(self) -> None: ...


def serve(*browsers: Browser) -> list[list[str]]:
    """Return what browsers are told until their sessions end; each has given its place up."""
    sockets = LiveSockets({"somebody": SimpleNamespace(decoder=None, film=lambda: None)}, "cpu")

    async def all_of_them() -> None:
        serving = (sockets.serve(browser, lambda token: True) for browser in browsers)
        await asyncio.wait_for(asyncio.gather(*serving), PATIENCE_S)

    asyncio.run(all_of_them())
    assert sockets._driven is None
    return [browser.said for browser in browsers]


def test_pictures_that_come_too_fast_end_the_session(monkeypatch):
    monkeypatch.setattr("web.live.LiveReenactor", Idle)  # takes none
    ((ready, said),) = serve(Browser(TARGET, *[(0, PICTURE)] * (FRAMES_WAITING + 1)))
    assert "ready" in ready and "faster than" in json.loads(said)["error"]


def test_a_browser_that_takes_no_results_is_ended(monkeypatch):
    class Busy(Idle):
        def __init__(self, decoder, context, take, fail, film, source):
            super().__init__()
            for _ in range(RESULTS_WAITING + 1):
                take(FaceFrame(0, None, "no face", 0.0))

    monkeypatch.setattr("web.live.LiveReenactor", Busy)
    ((ready, *_, said),) = serve(Browser(TARGET))
    assert "ready" in ready and "does not take the results" in json.loads(said)["error"]


@pytest.mark.parametrize(
    "error, words", [(DataError("what is wrong"), "what is wrong"), (ValueError("x"), "internal error")]
)
def test_an_error_in_the_middle_is_said_and_frees_the_place(monkeypatch, capsys, error, words):
    class Failing(Idle):
        def __init__(self, decoder, context, take, fail, film, source):
            super().__init__()
            threading.Timer(0.1, fail, [error]).start()

        def end(self) -> None:
            ended.append(True)

    ended = []
    monkeypatch.setattr("web.live.LiveReenactor", Failing)
    ((ready, said),) = serve(Browser(TARGET, (0, PICTURE)))
    assert "ready" in ready and words in json.loads(said)["error"] and ended
    assert ("ValueError: x" in capsys.readouterr().err) == isinstance(error, ValueError)


def test_pictures_that_are_too_large_or_damaged_are_refused_before_they_are_decoded(monkeypatch):
    plain = jpeg(np.full((900, 900, 3), 110, np.uint8))
    frame = plain.index(b"\xff\xc0")
    monkeypatch.setattr("PIL.Image.Image.convert", lambda *_: pytest.fail("decoded"))
    for data in (
        plain[: frame + 5] + b"\xff\xff\xff\xff" + plain[frame + 9 :],
        plain[: frame + 3],
        b"\xff\xd8\xff\xd9",
    ):
        with pytest.raises(UserError, match="frame"):
            decode(data)


def test_plain_pictures_are_decoded():
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8), (0, 0), 3)
    for options in ([], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2], [cv2.IMWRITE_JPEG_OPTIMIZE, 1]):
        data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98, *options])[1].tobytes()
        assert np.abs(decode(data).astype(int) - picture).mean() < 2
    grey = cv2.imencode(".jpg", picture[..., 0])[1].tobytes()
    assert decode(grey).shape == (48, 64, 3)
