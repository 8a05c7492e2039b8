"""How scripts end: soon after a signal, without children or temporary files."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import DEMO_NETWORKS, PATIENCE_S, ROOT, must_fail, must_run, write_frames

from datasets.images import write_image
from inference.backends import cache_folder
from synthetic.moving import moving_head
from utils.errors import ResourceError
from utils.files import atomic_folder, atomic_path, write_text
from utils.parallel import WorkerPool

WITHIN_S = 3.0
CONF = {
    "trg_celeb_name": "Linnea",
    "mode": "train",
    "model": {"planes": 2},
    "train": {"epochs": 1000, "batch_size": 4, "feature_loss": {"lambda": 0}},
    "monitor": {"save_interval": 1000},
}


@pytest.fixture
def film(tmp_path) -> Path:
    write_frames(tmp_path / "m.mp4", [frame for frame, _ in moving_head("Rowan=9", 8, seed=0)])
    return tmp_path


def begin(folder: Path, *command: object, **options: object) -> subprocess.Popen:
    """Start a script in a new session, like a terminal does."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "TMPDIR": str(folder)}
    words = [sys.executable, *map(str, command)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(words, cwd=folder, env=environment, text=True, start_new_session=True, **streams)


def wait_for(process: subprocess.Popen, condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children_of(pid: int) -> set[int]:
    """All processes below one."""
    found, todo = set(), [pid]
    for parent in todo:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):  # the thread has just ended
                below = set(map(int, path.read_text().split()))
                todo += below - found
                found |= below
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end(process: subprocess.Popen, number: int, exit_code: int) -> None:
    """Send a signal; the process ends in time, with all that it started."""
    family = children_of(process.pid)
    sent = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE_S)
    seconds = time.monotonic() - sent
    assert process.returncode == exit_code and "Traceback" not in errors, errors
    assert seconds < WITHIN_S + 2 * os.getloadavg()[0] / os.cpu_count()  # a busy machine is slower
    deadline = time.monotonic() + WITHIN_S
    while any(map(is_alive, family)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in family if is_alive(pid)]


WAITS = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from utils.ending import call_main
from utils.files import atomic_path
from utils.parallel import WorkerPool
def main():
    with atomic_path("final.txt") as path, WorkerPool(str, 2):
        path.write_text("half")
        Path("busy").touch()
        time.sleep(600)
call_main(main)
"""


@pytest.mark.parametrize("number, exit_code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_a_signal_ends_everything(tmp_path, number, exit_code):
    process = begin(tmp_path, "-c", WAITS.format(root=str(ROOT)))
    wait_for(process, (tmp_path / "busy").exists)
    end(process, number, exit_code)
    assert [path.name for path in tmp_path.iterdir()] == ["busy"]


@pytest.mark.slow
def test_nohup_is_meant(tmp_path):
    code = f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); from utils.ending import call_main; "
    code += "call_main(lambda: (open('busy', 'w').close(), time.sleep(0.5)))"
    process = begin(tmp_path, "-c", code, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(process, (tmp_path / "busy").exists)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE_S) == 0


# Trainings


@pytest.fixture
def training(data, tmp_path) -> Path:
    (tmp_path / "datasets").symlink_to(data / "datasets")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(CONF | {"train_dir": "datasets/CelebV"}))
    return tmp_path


def losses_of(folder: Path) -> bool:
    return bool(list(folder.glob("tmp.monitor/decoder/Linnea/*/*.txt")))


@pytest.mark.slow
def test_a_terminal_that_goes_away_leaves_a_checkpoint(training):
    leader, follower = os.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
    command = [sys.executable, str(ROOT / "train_decoder.py"), "--conf", "own.yaml"]

    def take_the_terminal() -> None:
        fcntl.ioctl(0, 0x540E, 0)  # TIOCSCTTY

    process = subprocess.Popen(command, cwd=training, start_new_session=True, preexec_fn=take_the_terminal, **streams)
    os.close(follower)
    wait_for(process, lambda: losses_of(training) or list(training.glob("tmp.monitor/decoder/Linnea/*")))
    time.sleep(2)
    os.close(leader)  # it sends SIGHUP to all its processes, and makes every print fail
    assert process.wait(PATIENCE_S) == 143
    assert len(list(training.glob("tmp.monitor/decoder/Linnea/*/checkpoints/*/state.json"))) == 1


def test_tasks_for_workers_that_are_gone():
    with WorkerPool(abs, 2) as pool:
        assert pool.result(pool.submit([-1, -2])) == [1, 2]
        for pid in list(pool._executor._processes):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        with pytest.raises(ResourceError, match="a worker process was killed"):
            while time.monotonic() < deadline:
                pool.submit([-3])
                time.sleep(0.01)
        with pytest.raises(ResourceError, match="a worker process was killed"):
            list(pool.map([1, 2], at_once=1))


def test_no_room_for_workers_names_the_place(monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("utils.parallel.ProcessPoolExecutor", full)
    with pytest.raises(ResourceError, match="/dev/shm: .*No space left"):
        WorkerPool(abs, 1)


@pytest.mark.slow
def test_names_in_letters_that_are_no_text(film):
    """Not UTF-8 in a name; ascii where it is printed; both in metadata, page and record."""
    name = os.fsdecode(b"caf\xe9 \xff.mp4")
    (film / "m.mp4").rename(film / name)
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    flags = ("--input", name, "--video", os.fsdecode(b"\xfe.mp4"), "--out-dir", "é", "-n", 3)
    must_run(film, "test_reenactment.py", *DEMO_NETWORKS, *flags, **environment)
    (result,) = film.glob("é/*/*")
    assert (film / os.fsdecode(b"\xfe.mp4")).exists()
    assert yaml.safe_load((result / "reenactment.yaml").read_text())["frames"] == 3
    must_run(film, "evaluate.py", result, **environment)
    must_fail(film, 3, "no such video", "test_reenactment.py", *DEMO_NETWORKS, "--input", "gr\udcfcn", **environment)


def test_long_names_and_failures_leave_nothing(tmp_path):
    name = "x" * 240 + ".txt"
    write_text(tmp_path / name, "x")
    with pytest.raises(ValueError), atomic_folder(tmp_path / "b") as folder:
        write_image(folder / "a.png", np.zeros((4, 4, 3), np.uint8))
        raise ValueError
    with pytest.raises(ResourceError, match="b.txt: cannot be written"), atomic_path(tmp_path / "b.txt"):
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, call=call: (calls.append(name), call(*args))[1])
    write_text(tmp_path / "a.txt", "x")
    assert calls == ["fsync", "replace", "fsync"]  # then the folder, which holds the name


# Caches


def test_a_cache_is_in_the_first_folder_that_is_writable(tmp_path, monkeypatch):
    def refuse(folder: Path, what: str) -> None:
        if folder.name in refused:
            raise ResourceError(f"{what}: {folder}")

    (tmp_path / "beside").mkdir()
    monkeypatch.setattr("inference.backends.check_writable", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    refused: list[str] = []
    for expected in ("beside", "home/reenactgan"):
        cache_folder.cache_clear()
        assert cache_folder(tmp_path / "beside") == tmp_path / expected
        refused.append("beside")
    cache_folder.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train_decoder.py", "test_reenactment.py"])
def test_ctrl_c_in_the_first_seconds_is_no_traceback(script, tmp_path):
    """While libraries are imported, while the script runs, and at its end."""
    codes = set()
    for delay_s in (0.15, 0.35, 0.6, 0.9, 1.3):
        command = [sys.executable, str(ROOT / script), "--help"]
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=tmp_path, **options) as process:
            time.sleep(delay_s)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in errors, (delay_s, errors)
        codes.add(process.returncode)
    assert codes <= {-signal.SIGINT, 130, 0} and -signal.SIGINT in codes
