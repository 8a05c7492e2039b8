"""The page in the browser, as its server answers: live pictures, videos, and what it lets in."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import DEMO, PATIENCE_S, ROOT, must_fail, write_frames

from config.runs import GEOMETRY_FILE, HELD_OUT_FILE, INFO_FILE
from datasets.synthetic.people import Expression, expression_track, landmarks_of, random_identity
from inference.geometry import NeutralToNeutral, Shape, shape_of
from inference.live import LEARN_FRAMES, NEUTRAL_FRAMES, LatestPicture, LearningGeometry
from inference.targets import find_targets
from make_synthetic import moving_head
from utils.errors import DataError
from utils.video import ffmpeg, look

pytest.importorskip("gradio", reason="the page's packages are not installed")
from gradio_client import Client, handle_file  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from web.guard import COOKIE, Guard  # noqa: E402
from web.page import Limits, Videos, people_of  # noqa: E402
from web.socket import LiveSockets  # noqa: E402

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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        str(ROOT / "app.py"),
        "--port",
        str(port),
        "--max-seconds",
        str(MAX_SECONDS),
        "-c",
        "cpu",
    ]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT) as server,
    ):
        address, since = f"127.0.0.1:{port}", time.monotonic()
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/", timeout=PATIENCE_S).read()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() - since < PATIENCE_S, (folder / "log").read_text()
                time.sleep(0.2)
        yield address, folder
        server.terminate()
        server.wait(PATIENCE_S)
    assert not list(folder.glob(".reenactgan*"))  # nothing of it stays


@contextmanager
def open_live(page, target: str = "Linnea, demo", origin: str | None = None):
    address, _ = page
    origin = f"http://{address}" if origin is None else origin
    with connect(f"ws://{address}/live", origin=origin, open_timeout=PATIENCE_S, max_size=None) as session:
        with suppress(ConnectionClosed):  # turned away at once; why is there to be read
            session.send(json.dumps({"target": target}))
        yield session


@contextmanager
def live(page):
    """A session that is ready for pictures; those of other tests may take a moment to end."""
    since = time.monotonic()
    while True:
        with open_live(page) as session:
            first = session.recv(timeout=PATIENCE_S)
            if "ready" in first:
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


class BrowserThatOnlyListens:
    """A web socket whose browser sends nothing, as when all its pictures are under way."""

    def __init__(self):
        self.said: list[str] = []

    async def accept(self) -> None: ...

    async def close(self) -> None: ...

    async def receive_text(self) -> str:
        return '{"target": "somebody"}'

    async def receive(self) -> None:
        await asyncio.sleep(PATIENCE_S)

    async def send_text(self, text: str) -> None:
        self.said.append(text)


def serve(browser: BrowserThatOnlyListens) -> list[str]:
    """What a browser is told until its session ends, and gives its place up."""
    sockets = LiveSockets({"somebody": SimpleNamespace(decoder=None)}, "cpu", "float32")
    asyncio.run(asyncio.wait_for(sockets.serve(browser), PATIENCE_S))
    assert sockets._num_open == 0
    return browser.said


def test_a_browser_that_sends_nothing_gives_its_place_up(monkeypatch):
    class Idle:
        def __init__(self, *_): ...

        def end(self) -> None:
            ended.append(True)

    ended = []
    monkeypatch.setattr("web.socket.LiveReenactor", Idle)
    monkeypatch.setattr("web.socket.IDLE_S", 0.2)
    _, said = serve(BrowserThatOnlyListens())
    assert "Press Start" in json.loads(said)["error"] and ended
    silent = BrowserThatOnlyListens()
    silent.receive_text = silent.receive
    (said,) = serve(silent)
    assert "Press Start" in json.loads(said)["error"]


@pytest.mark.parametrize("error, words", [(DataError("what is wrong"), "what is wrong"), (ValueError("x"), "failed")])
def test_an_error_in_the_middle_is_said_and_frees_the_place(monkeypatch, capsys, error, words):
    class Failing:
        def __init__(self, decoder, context, precision, take, fail):
            threading.Timer(0.1, fail, [error]).start()

        def end(self) -> None:
            ended.append(True)

    ended = []
    monkeypatch.setattr("web.socket.LiveReenactor", Failing)
    ready, said = serve(BrowserThatOnlyListens())
    assert "ready" in ready and words in json.loads(said)["error"] and ended
    assert ("ValueError: x" in capsys.readouterr().err) == isinstance(error, ValueError)


def client(page) -> Client:
    return Client(f"http://{page[0]}", verbose=False, analytics_enabled=False)


def make(visitor: Client, path: Path, layout: str = "side-by-side") -> tuple:
    video = {"video": handle_file(path)}
    return visitor.predict(video["video"], "Linnea, demo", layout, True, api_name="/make")


VISIT = """
import sys
from pathlib import Path
from gradio_client import Client, handle_file
visitor = Client(sys.argv[1], verbose=False, analytics_enabled=False, download_files=sys.argv[3])
result, words = visitor.predict(handle_file(sys.argv[2]), "Linnea, demo", "side-by-side", True, api_name="/make")
on_server = Path(sys.argv[4]).glob(".reenactgan*/**/*.mp4")
print(words, result["video"] if isinstance(result, dict) else result, *on_server, sep="\\n")
"""


def test_a_video_is_made_with_its_sound_and_goes_with_its_session(page, films, tmp_path):
    arguments = (f"http://{page[0]}", films / "face.mp4", tmp_path, page[1])
    done = subprocess.run(
        [sys.executable, "-c", VISIT, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    words, result, *on_server = done.stdout.splitlines()
    made = look(Path(result))
    assert words == "40 frames" and made.has_sound and made.size == (512, 256)
    assert len(on_server) >= 2  # the upload and the result
    since = time.monotonic()
    while list(page[1].glob(".reenactgan*/**/*.mp4")):
        assert time.monotonic() - since < PATIENCE_S
        time.sleep(0.2)


@pytest.mark.parametrize(
    "name, words",
    [("text.mp4", "cannot be read as a video"), ("grey.mp4", "no face"), ("long.mp4", "at most 5 s")],
)
def test_what_is_wrong_with_a_video_is_said(page, films, name, words):
    with pytest.raises(Exception, match=words) as caught:
        make(client(page), films / name)
    assert str(page[1]) not in str(caught.value)


def status_of(address: str, host: str | None = None) -> int:
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        return urllib.request.urlopen(request, timeout=PATIENCE_S).status
    except urllib.error.HTTPError as error:
        return error.code


def test_files_beyond_the_page_cannot_be_read(page, films):
    address, folder = page
    for path in ("/etc/passwd", f"{ROOT}/README.md", f"{folder}/log", f"{ROOT}/app.py", "../../../etc/passwd"):
        assert status_of(f"http://{address}/gradio_api/file={path}") in (403, 404), path
    body = {"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "Linnea, demo", "face", True]}
    request = urllib.request.Request(
        f"http://{address}/gradio_api/call/make", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    event = json.loads(urllib.request.urlopen(request, timeout=PATIENCE_S).read())["event_id"]
    found = urllib.request.urlopen(f"http://{address}/gradio_api/call/make/{event}", timeout=PATIENCE_S).read()
    assert b"event: error" in found and b"root:" not in found
    assert not list(folder.glob(".reenactgan*/**/passwd"))


def test_the_name_of_a_session_names_no_other_folder(tmp_path):
    others = tmp_path / "others" / "kept"
    others.mkdir(parents=True)
    videos = Videos({}, "cpu", "float32", Limits(1, 1), tmp_path / "page")
    for name in ("../../others", "..", "", None, str(others), "a/b", "x" * 5000):
        visitor = SimpleNamespace(session_hash=name)
        folder = videos.folder_of(visitor)
        assert folder.parent == tmp_path / "page" / "results"
        folder.mkdir(parents=True)
        videos.remember(str(others), visitor)  # no upload of the page's
        videos.forget(visitor)
        assert not folder.exists() and others.is_dir()


def test_only_this_machine_by_its_own_names(page):
    address, _ = page
    port = address.partition(":")[2]
    assert status_of(f"http://{address}/", f"localhost:{port}") == 200
    assert status_of(f"http://{address}/", "rebound.example") == 403


def test_the_command_line(tmp_path, page):
    must_fail(tmp_path, 2, "give a --password", "app.py", "--host", "0.0.0.0")
    must_fail(tmp_path, 2, "at least 8", "app.py", "--host", "0.0.0.0", "--password", "short")
    must_fail(tmp_path, 2, "no such folder", "app.py", "--logdir", "nowhere")
    must_fail(tmp_path, 6, "cannot be listened on", "app.py", "--port", page[0].partition(":")[2])
    (tmp_path / "gradio.py").write_text("raise ImportError('No module named gradio')")
    must_fail(tmp_path, 2, "make app", "app.py", PYTHONPATH=str(tmp_path))


def ask(guard: Guard, kind: str = "http", **headers: str) -> tuple[int, dict[bytes, bytes]]:
    """What becomes of a request: the status, 0 for a web socket's close, 200 where it is let in; and its headers."""
    messages = []

    async def send(message):
        messages.append(message)

    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(guard(scope, None, send))
    found = dict(messages[0].get("headers", []))
    return messages[0].get("status", 0), found


async def welcome(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_the_password():
    guard = Guard(welcome, "a good word")
    said = "Basic " + base64.b64encode(b"me:a good word").decode()
    wrong = "Basic " + base64.b64encode(b"me:a bad word").decode()
    for headers in ({}, {"authorization": wrong}, {"authorization": "Basic ?"}, {"cookie": f"{COOKIE}=x; a"}):
        status, found = ask(guard, host="h", **headers)
        assert status == 401 and b"www-authenticate" in found
    status, found = ask(guard, host="h", authorization=said)
    assert status == 200
    cookie = found[b"set-cookie"].decode()
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    cookie = cookie.partition(";")[0]
    assert ask(guard, host="h", cookie=f"other=1; {cookie}")[0] == 200
    assert ask(guard, "websocket", host="h", origin="https://h", cookie=cookie)[0] == 200
    assert ask(guard, "websocket", host="h", origin="https://h")[0] == 0
    assert ask(guard, "websocket", host="h", origin="https://other", cookie=cookie)[0] == 0
    assert ask(Guard(welcome, None), host="10.0.0.1")[0] == 403


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
    np.testing.assert_allclose(geometry.move(driver[0]), target.mean, atol=1e-6)  # the first is taken for its mean
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
    (found.decoder.weights.parent / HELD_OUT_FILE).write_text('{"psnr": "?"}')
    assert find_targets([tmp_path])["Linnea, good"].held_out == {}


def test_people_of_one_name_are_all_shown_and_a_damaged_one_hides_nobody(tmp_path):
    for folder in (tmp_path / name / "decoder" / "Linnea" / "good" for name in ("a", "b")):
        folder.mkdir(parents=True)
        for name, own in (("weights.h5", "netG_decoder_3.h5"), (INFO_FILE, INFO_FILE), (GEOMETRY_FILE, GEOMETRY_FILE)):
            (folder / own).write_bytes((DEMO / "decoder" / name).read_bytes())
    people = find_targets([tmp_path / "a", tmp_path / "b"])
    assert list(people) == ["Linnea, demo", "Linnea, good", "Linnea, good (2)"]
    (tmp_path / "b/decoder/Linnea/good").rename(tmp_path / "b/decoder/Linnea/demo")  # as make demo-train calls its runs
    assert list(find_targets([tmp_path / "b"])) == ["Linnea, demo", "Linnea, demo (2)"]
    (tmp_path / "b/decoder/Linnea/demo").rename(tmp_path / "b/decoder/Linnea/good")
    weights = people["Linnea, good"].decoder.weights
    weights.write_bytes(weights.read_bytes()[:-1000])
    shown = people_of(people, "cpu")
    assert shown.count("<figure") == 3 and shown.count("<img") == 2
    assert "cannot be shown" in shown and "(2)" in shown
