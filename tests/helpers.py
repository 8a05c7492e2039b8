"""Helpers that several test files share besides conftest.py."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import PATIENCE_S
from websockets.sync.client import connect

from config import Config, load_config
from datasets.boundary import DrawingStyle
from make_synthetic import VIDEO_SIZE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BROWSER = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
COMMON = {"logdir": "runs", "experiment_name": "run", "monitor": {"interval": 2, "save_interval": 1}}
GAZE = DrawingStyle(name="gaze")  # as make_synthetic.py's people ask for
MODULES = ("encoder", "transformer", "decoder", "shape_prior")


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
                break
            except OSError:
                assert server.poll() is None and time.monotonic() - since < PATIENCE_S, (folder / "log").read_text()
                time.sleep(0.2)
        try:
            yield address, server
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


def ask_page(
    page, path: str, data: bytes | None = None, method: str | None = None, **headers: str
) -> tuple[int, bytes, dict]:
    """Ask the page for something as its own script would; status, content and headers of the answer."""
    address = f"http://{page[0]}{path}"
    origin = {"Origin": f"http://{page[0]}"} if data is not None else {}
    request = urllib.request.Request(address, data, {**origin, **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as found:
            return found.status, found.read(), dict(found.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


class Visitor:
    """One open page."""

    def __init__(self, page):
        self.page = page
        self.socket = connect(f"ws://{page[0]}/session", origin=f"http://{page[0]}", open_timeout=PATIENCE_S)
        self.token = self.next("session")["session"]

    def next(self, *wanted: str) -> dict:
        while True:
            news = json.loads(self.socket.recv(timeout=PATIENCE_S))
            if set(wanted) & set(news):
                return news

    def upload(self, data: bytes) -> tuple[int, bytes]:
        return ask_page(self.page, "/upload", data, **{"X-Session": self.token})[:2]

    def make(self, **wish: object) -> None:
        wish = {"target": "Linnea, demo", "layout": "side-by-side", "label": True, **wish}
        self.socket.send(json.dumps({"make": wish}))

    def stop(self) -> None:
        self.socket.send(json.dumps({"stop": True}))

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
