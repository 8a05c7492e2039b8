"""How scripts end: within seconds of being asked to, without children or temporary files, and never for a print."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
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
from utils.ending import end_child, start_child
from utils.errors import ResourceError
from utils.files import atomic_folder, atomic_path, temporary_folder, write_text
from utils.parallel import WorkerPool

SLOW = """
import time
import numpy as np
def faces(image):
    open("busy", "w").close()
    time.sleep(20)
    return np.array([[100.0, 50, 100, 100]])
"""
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
    (tmp_path / "slow.py").write_text(SLOW)
    return tmp_path


def begin(folder: Path, *command: object, **options: object) -> subprocess.Popen:
    """Start a script as the leader of a session, as in a terminal of its own."""
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, exit_code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)], ids=["INT", "TERM", "HUP"]
)
def test_a_slow_detector_holds_nobody_up(film, number, exit_code):
    detector = ("--detector", "slow:faces")
    reenactment = (ROOT / "test_reenactment.py", *DEMO_NETWORKS, "--input", "m.mp4", "--video", "o.mp4", *detector)
    person = (ROOT / "prepare_person.py", "m.mp4", "--name", "Me", "--data-dir", "people", *detector)
    for command in (reenactment, person):
        process = begin(film, *command)
        wait_for(process, (film / "busy").exists)
        end(process, number, exit_code)
        (film / "busy").unlink()
    left = {path.name for path in film.iterdir()} - {"__pycache__"}
    assert left <= {"m.mp4", "slow.py", "reenactment_result", "people"}
    assert not [path for path in film.rglob("*.unfinished*")]


HOLDS_THE_MAIN_THREAD = """
import sys
sys.path.insert(0, {root!r})
import numpy as np
from pathlib import Path
from utils.ending import call_main, start_child
from utils.files import atomic_path
def main():
    with atomic_path("final.txt") as path:
        path.write_text("half")
        start_child(["sleep", "600"])
        Path("busy").touch()
        a = np.random.rand(4000, 4000)
        for _ in range(60):  # one call after another into a library, as a network is
            np.linalg.svd(a)
call_main(main)
"""


def test_a_long_computation_in_the_main_thread(tmp_path):
    process = begin(tmp_path, "-c", HOLDS_THE_MAIN_THREAD.format(root=str(ROOT)))
    wait_for(process, (tmp_path / "busy").exists)
    end(process, signal.SIGTERM, 143)
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


@pytest.mark.slow
def test_prints_that_fail_end_nothing(training):
    conf = CONF | {"train_dir": "datasets/CelebV"}
    conf["train"] = CONF["train"] | {"epochs": 1}
    (training / "own.yaml").write_text(yaml.safe_dump(conf))
    command = [sys.executable, str(ROOT / "train_decoder.py"), "--conf", "own.yaml"]
    for number, shell in enumerate(("exec {} >/dev/full 2>/dev/full", "{} 2>&1 | true")):
        words = shell.format(" ".join([*command, "--info", f"n{number}"]))
        assert subprocess.run(["bash", "-c", words], cwd=training, timeout=PATIENCE_S).returncode == 0
        (run,) = training.glob(f"tmp.monitor/decoder/Linnea/*-n{number}")
        assert list(run.glob("*_1.h5")), list(run.iterdir())


@pytest.mark.slow
def test_a_loader_that_is_killed(training):
    conf = CONF | {"train_dir": "datasets/CelebV"}
    conf["train"] = CONF["train"] | {"num_workers": 2}
    (training / "own.yaml").write_text(yaml.safe_dump(conf))
    process = begin(training, ROOT / "train_decoder.py", "--conf", "own.yaml")
    wait_for(process, lambda: list(training.glob("tmp.monitor/decoder/Linnea/*")) and children_of(process.pid))
    time.sleep(1)
    os.kill(min(children_of(process.pid)), signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 6 and "Traceback" not in errors, errors
    assert "a worker process was killed" in errors


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


# Streams


PRINTS = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from utils.ending import call_main
def main():
    for number in range(9):
        print("words" * 999)
        print("words" * 999, file=sys.stderr, flush=True)
    Path("done").touch()
call_main(main)
"""


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&- <&-", ">/dev/full", "| true"])
def test_prints_to_streams_that_cannot_be_written(tmp_path, streams):
    (tmp_path / "prints.py").write_text(PRINTS.format(root=str(ROOT)))
    words = f"set -o pipefail; {sys.executable} prints.py {streams}"
    subprocess.run(["bash", "-c", words], cwd=tmp_path, check=True, timeout=PATIENCE_S)
    assert (tmp_path / "done").exists()


@pytest.mark.slow
@pytest.mark.parametrize("streams", [">&- 2>&- <&-", pytest.param("| true", marks=pytest.mark.long)])
def test_streams_that_cannot_be_written(film, streams):
    words = " ".join(map(str, [sys.executable, ROOT / "test_reenactment.py", *DEMO_NETWORKS, "--input", "m.mp4"]))
    subprocess.run(["bash", "-c", f"set -o pipefail; {words} -n 2 {streams}"], cwd=film, check=True, timeout=PATIENCE_S)
    assert len(list(film.glob("reenactment_result/*/*/index.html"))) == 1


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


# Temporary files


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path):
    code = f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
    code += "from utils.files import atomic_folder, atomic_path, temporary_folder\n"
    code += "with atomic_path('a.mp4') as a, atomic_folder(Path('b')) as b, temporary_folder():\n"
    code += "    a.write_text('half'); (b / 'c').write_text('half'); Path('busy').touch(); time.sleep(600)"
    process = begin(tmp_path, "-c", code)
    wait_for(process, (tmp_path / "busy").exists)
    unfinished = sorted(tmp_path.glob(".*.unfinished-*"))
    assert len(unfinished) == 3
    subprocess.run([sys.executable, "-c", code.replace("time.sleep(600)", "0")], cwd=tmp_path, check=True)
    assert sorted(tmp_path.glob(".*.unfinished-*")) == unfinished  # its owner is alive
    process.kill()
    process.wait()
    (tmp_path / ".mine.unfinished-").write_text("no leftover")
    write_text(tmp_path / "other.txt", "x")  # in this process, for the first time in this folder
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".mine.unfinished-"]


def test_long_names_and_failures_leave_nothing(tmp_path):
    name = "x" * 240 + ".txt"
    write_text(tmp_path / name, "x")
    with pytest.raises(ValueError), atomic_folder(tmp_path / "b") as folder:
        write_image(folder / "a.png", np.zeros((4, 4, 3), np.uint8))
        raise ValueError
    with pytest.raises(ResourceError, match="b.txt: cannot be written"), atomic_path(tmp_path / "b.txt"):
        raise OSError(28, "No space left on device")
    with temporary_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, call=call: (calls.append(name), call(*args))[1])
    write_text(tmp_path / "a.txt", "x")
    assert calls == ["fsync", "replace", "fsync"]  # then the folder, which holds the name


def test_a_child_ends_with_its_user():
    child = start_child(["sleep", "600"])
    end_child(child)
    assert child.returncode == -signal.SIGKILL


# Caches


def test_a_cache_is_somewhere(tmp_path, monkeypatch, capsys):
    beside, home, temporary = (tmp_path / name for name in ("beside", "home", "temporary"))
    for folder in (beside, temporary):
        folder.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(temporary))
    refused: list[Path] = []

    def check(folder: Path, what: str) -> None:
        if any(folder == part or part in folder.parents for part in refused):
            raise ResourceError(f"{what}: {folder}")

    monkeypatch.setattr("inference.onnx_export.check_writable", check)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    for now_refused, expected in (
        ([], beside),
        ([beside], home / "reenactgan"),
        ([beside, home], temporary / f"reenactgan-{os.getuid()}"),
    ):
        cache_folder.cache_clear()
        refused[:] = now_refused
        assert cache_folder(beside) == expected
        assert (str(expected) in capsys.readouterr().out) == bool(now_refused)
    refused.append(temporary)
    cache_folder.cache_clear()
    with pytest.raises(ResourceError, match="XDG_CACHE_HOME"):
        cache_folder(beside)
    refused[:] = [beside]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # an unknown user's
    assert cache_folder(beside) == temporary / f"reenactgan-{os.getuid()}"
    cache_folder.cache_clear()


@pytest.mark.parametrize("moment", ["removed before it is opened", "about to be removed"])
def test_a_new_temporary_folder_that_another_process_takes_for_a_leftover(tmp_path, monkeypatch, moment):
    """The first of several workers tidies up while the others begin."""
    made, held = [], []
    make = tempfile.mkdtemp

    def make_and_lose_the_first(**where: object) -> str:
        made.append(make(**where))
        if len(made) == 1 and moment.startswith("removed"):
            os.rmdir(made[0])
        elif len(made) == 1:
            held.append(os.open(made[0], os.O_RDONLY))
            fcntl.flock(held[0], fcntl.LOCK_EX)
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose_the_first)
    with atomic_path(tmp_path / "a.txt") as temporary:
        assert str(temporary.parent) == made[1]
        temporary.write_text("all of it")
    assert (tmp_path / "a.txt").read_text() == "all of it" and not Path(made[1]).exists()
    for handle in held:
        os.close(handle)
