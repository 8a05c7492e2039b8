"""Steps that run scripts: they end with whoever runs them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PATIENCE_S, ROOT, wait_until

from utils.files import locked
from utils.steps import Step, StepFailed, run_steps

pytestmark = pytest.mark.slow


def test_a_step_that_fails(tmp_path):
    (tmp_path / "fails.py").write_text("import sys\nsys.exit(6)\n")
    with pytest.raises(StepFailed, match="fails failed with exit code 6") as error:
        run_steps(Step("fails", str(tmp_path / "fails.py")))
    assert error.value.exit_code == 6


STEPS = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from utils.files import locked
from utils.steps import Step, run_steps
with locked(Path("work")):
    run_steps(Step("trains", {script!r}))
"""
CHILD = """
import os, signal, sys, time
def stop(*_):
    time.sleep({ending_s})  # it writes a checkpoint
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
open("pid" + "".join(sys.argv[1:]), "w").write(str(os.getpid()))
time.sleep(300)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill_parent(folder: Path, ending_s: float) -> list[int]:
    """Kill a process that runs a step; return the step's process."""
    (folder / "child.py").write_text(CHILD.format(ending_s=ending_s))
    code = STEPS.format(root=str(ROOT), script=str(folder / "child.py"))
    with subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.DEVNULL) as parent:
        names = [folder / "pid"]
        wait_until(lambda: all(name.exists() and name.read_text() for name in names))
        parent.kill()
    return [int(name.read_text()) for name in names]


def test_steps_end_with_whoever_runs_them_even_killed(tmp_path):
    pids = kill_parent(tmp_path, 0.0)
    wait_until(lambda: not any(map(is_alive, pids)))
    with locked(tmp_path / "work"):  # the same command can go on
        pass


def test_a_runner_that_is_asked_to_stop_lets_its_steps_end(tmp_path):
    (tmp_path / "child.py").write_text(CHILD.format(ending_s=0.2).replace("_exit(0)", "_exit(143)"))
    code = STEPS.format(root=str(ROOT), script=str(tmp_path / "child.py")).replace(
        "with locked", "def main():\n  with locked"
    )
    code = code.replace("    run_steps", "      run_steps") + "from utils.ending import call_main\ncall_main(main)\n"
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, **options) as parent:
        names = [tmp_path / "pid"]
        wait_until(lambda: all(name.exists() and name.read_text() for name in names))
        parent.send_signal(signal.SIGTERM)
        _, errors = parent.communicate(timeout=PATIENCE_S)
    assert parent.returncode == 143 and "the same command resumes" in errors and "Traceback" not in errors
    assert not any(is_alive(int(name.read_text())) for name in names)
