"""Functions shared by tests."""

from __future__ import annotations

import functools
import http.server
import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import h5py
import imageio_ffmpeg
import numpy as np
import pytest
from warm import run_warm
from websockets.sync.client import ClientConnection, connect

from config import Config, load_config
from datasets.boundary import DrawingStyle
from inference.networks import Trained
from people.targets import Target
from synthetic.moving import VIDEO_FPS, VIDEO_SIZE
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

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BROWSER = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
COMMON = {"logdir": "runs", "experiment_name": "run", "monitor": {"interval": 2, "save_interval": 1}}
GAZE = DrawingStyle(name="gaze")  # the style of tools/make_synthetic.py
COOKIES: dict[str, dict[str, str]] = {}  # header of the browser of each page, by its address
MAX_SECONDS = 5  # longest video of the tests' page
MODULES = ("encoder", "transformer", "decoder", "shape_prior")


def run_script(cwd: Path, script: str, *args: object, **environment: str) -> subprocess.CompletedProcess:
    """Run one of the repository's scripts in `cwd`; with `environment`, in a new interpreter."""
    command = [str(ROOT / script), *map(str, args)]
    if script.endswith(".py") and not environment:
        with tempfile.TemporaryDirectory() as streams:
            return run_warm(command, cwd, Path(streams), timeout_s=400)
    shell = ["sh"] if script.endswith(".sh") else [sys.executable]
    return subprocess.run(
        [*shell, *command], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=400
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


def call_script(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str, *args: object) -> None:
    """Call a script's main function in this process, where parts of it can be replaced; it raises its errors."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
    importlib.import_module(script.removesuffix(".py").replace("/", ".")).main()


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


def ffmpeg(*args: object) -> None:
    """Run an ffmpeg that the code under test does not use."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-nostdin", *map(str, args)]
    subprocess.run(command, check=True, capture_output=True)


def frames_in_file(path: Path) -> int:
    """Count the frames of a video."""
    reader = imageio_ffmpeg.read_frames(str(path))
    next(reader)  # metadata
    return sum(1 for _ in reader)


def write_frames(path: Path, frames: list[np.ndarray]) -> None:
    """Write a video of tools/make_synthetic.py's size and rate."""
    with open_video(path, VIDEO_SIZE, VIDEO_FPS, "AI-generated (synthetic)") as video:
        for frame in frames:
            video.write(frame)


class Numbers:
    """Sample i is the number i."""

    def __init__(self, count: int):
        self.count, self.reads = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        return (np.array([index], np.float32),)


def numbers_of(batch) -> list[int]:
    return batch[0].ravel().astype(int).tolist()


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()


def noise() -> list[np.ndarray]:
    """Frames that do not become small."""
    return list(np.random.default_rng(0).integers(0, 255, (12, *VIDEO_SIZE[::-1], 3)).astype(np.uint8))


def load(tmp_path: Path, text: str, module: str = "decoder") -> Config:
    """Load a configuration of some text."""
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    return load_config(module, tmp_path / "own.yaml")


@contextmanager
def serve_page(folder: Path, *command: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Run the page of a script with its options in a folder; its address, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (sys.executable, *command, "--port", str(port), "-c", "cpu")
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        open(folder / "log", "a") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT) as server,
    ):
        address, since = f"127.0.0.1:{port}", time.monotonic()
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/", timeout=PATIENCE_S).read()
            except urllib.error.HTTPError:  # without a token
                break
            except OSError:
                assert server.poll() is None and time.monotonic() - since < PATIENCE_S, (folder / "log").read_text()
                time.sleep(0.2)
        token = re.findall(rf"page: http://{address}/\?token=(\S+)", (folder / "log").read_text())[-1]
        COOKIES[address] = {"Cookie": f"reenactgan-{port}={token}"}
        try:
            yield address, server
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


def open_socket(page, path: str, origin: str | None = None, **options) -> ClientConnection:
    """Open a web socket of the page, as its browser does."""
    origin = f"http://{page[0]}" if origin is None else origin
    headers = COOKIES[page[0]]
    return connect(
        f"ws://{page[0]}/{path}", origin=origin, additional_headers=headers, open_timeout=PATIENCE_S, **options
    )


def ask_page(
    page, path: str, data: bytes | None = None, method: str | None = None, **headers: str
) -> tuple[int, bytes, dict]:
    """Send a request like the page's script; return status, content and headers."""
    address = f"http://{page[0]}{path}"
    origin = {"Origin": f"http://{page[0]}"} if data is not None else {}
    request = urllib.request.Request(address, data, {**COOKIES[page[0]], **origin, **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as found:
            return found.status, found.read(), dict(found.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def files_of(page) -> list[Path]:
    """List what sessions have on the server's disk."""
    return [path for path in page[1].glob("reenactgan-*/**/*") if path.is_file()]


def demo_target() -> Target:
    return Target("Linnea", "demo", Trained({}, DEMO / "decoder" / "weights.h5"), "2026-01-01", {})


class Visitor:
    """The tab that uses the page; it takes over from the one before."""

    def __init__(self, page):
        self.page = page
        self.socket = open_socket(page, "session?take")
        self.token = self.next()["session"]
        self.news = self.next()

    def next(self, timeout_s: float = PATIENCE_S) -> dict:
        return json.loads(self.socket.recv(timeout=timeout_s))

    def wait_for(self, is_so: Callable[[dict], object]) -> dict:
        """Wait for a state of the page."""
        while not is_so(self.news):
            self.news = self.next()
        return self.news

    def ended(self) -> dict:
        """Wait for the end of the job."""
        return self.wait_for(lambda news: news["job"] and "what" not in news["job"])["job"]

    def upload(self, data: bytes, kind: str = "video") -> tuple[int, dict]:
        status, content, _ = ask_page(self.page, f"/upload/{kind}", data, **{"X-Session": self.token})
        return status, json.loads(content)

    def do(self, do: object, **wish: object) -> tuple[int, dict]:
        wish = json.dumps({"do": do, **wish}).encode()
        status, content, _ = ask_page(self.page, "/do", wish, **{"X-Session": self.token})
        return status, json.loads(content)

    def make(self, target: str = "Linnea, demo", **wish: object) -> tuple[int, dict]:
        with suppress(TimeoutError):  # what is older than this request
            while True:
                self.news = self.next(0.01)
        self.news["job"] = {}
        return self.do("make", target=target, **wish)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
