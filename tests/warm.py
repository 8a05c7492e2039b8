"""Scripts as forks of a process that has imported their libraries, which saves the second that each start takes."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver as forkserver
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [path.stem for path in ROOT.glob("*.py")] + [f"tools.{path.stem}" for path in ROOT.glob("tools/*.py")]
LATE = ["mediapipe", "onnxruntime", "av", "skimage.metrics._structural_similarity", "onnx"]
SERVER.set_forkserver_preload(SCRIPTS + LATE)  # the scripts are found from the repository's folder


def run_warm(command: list[str], folder: Path, streams: Path, timeout_s: float) -> subprocess.CompletedProcess:
    """Run a Python script by its path and arguments in a folder; `streams` is where its output is collected."""
    process = SERVER.Process(target=_run, args=(command, folder, streams, dict(os.environ)))
    process.start()
    process.join(timeout_s)
    if process.is_alive():
        process.kill()
        raise subprocess.TimeoutExpired(command, timeout_s)
    out, errors = ((streams / name).read_text(errors="replace") for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(command, process.exitcode, out, errors)


def _run(command: list[str], folder: Path, streams: Path, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "stdout"), (2, "stderr")):
        handle = os.open(streams / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(folder)
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).parent))
    runpy.run_path(command[0], run_name="__main__")


def stop() -> None:
    """End the process, and wait for it, so that its time counts as the tests'."""
    server = forkserver._forkserver
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGTERM)
        server._stop()
