"""Running scripts of this repository one after another."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from utils.errors import Stopped, UserError

ROOT = Path(__file__).resolve().parent.parent
# the one that belongs to this Python's mpi4py, not the system's
MPIRUN = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or "mpirun"
MPI_PROBE = "from mpi4py import MPI; raise SystemExit(MPI.COMM_WORLD.size != 2)"
MPI_PROBE_S = 30
PR_SET_PDEATHSIG = 1  # option of Linux's prctl
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = tuple(128 + number for number in SIGNALS)  # exit codes


class Step(NamedTuple):
    """A script with its arguments."""

    name: str
    script: str
    args: tuple[object, ...] = ()
    processes: int = 1  # MPI processes


@lru_cache(maxsize=1)
def has_mpi() -> bool:
    """Return whether trainings can use several processes here."""
    if importlib.util.find_spec("mpi4py") is None or shutil.which(MPIRUN) is None:
        return False
    try:
        command = [MPIRUN, "-n", "2", sys.executable, "-c", MPI_PROBE]
        return subprocess.run(command, capture_output=True, timeout=MPI_PROBE_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class StepFailed(UserError):
    """A step that ended with an error, which it has printed itself."""

    def __init__(self, name: str, exit_code: int):
        super().__init__(f"{name} failed with exit code {exit_code}; fix the error above and repeat the command")
        self.exit_code = exit_code


def end_with(parent: int) -> Callable[[], None]:
    """Return a `preexec_fn` by which a child gets SIGTERM when its parent ends, even if the parent is killed."""
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return prepare if hasattr(libc, "prctl") else lambda: None


def run_steps(*steps: Step) -> None:
    """Run steps in order. A signal to stop is passed on to the running step.

    Raises Stopped on request, StepFailed if a step failed.
    """
    for step in steps:
        exit_code = _run(step)
        if exit_code in STOPPED:
            raise Stopped("stopped; the same command resumes", exit_code)
        if exit_code:
            raise StepFailed(step.name, abs(exit_code))


def _run(step: Step) -> int:
    print(f"== {step.name}", flush=True)
    command = ["sh" if step.script.endswith(".sh") else sys.executable]
    if step.processes > 1:
        command = [MPIRUN, "-n", str(step.processes), *command]
    child = None
    requests: list[int] = []

    def pass_on(number: int, _: object) -> None:
        requests.append(number)
        if child is not None:
            child.send_signal(number)

    numbers = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        child = subprocess.Popen(
            [*command, str(ROOT / step.script), *map(str, step.args)],
            preexec_fn=end_with(os.getpid()),
            start_new_session=True,  # a terminal's Ctrl-C would reach the child twice
        )
        if requests:  # arrived before the child existed
            child.send_signal(requests[0])
        exit_code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 + requests[0] if requests else exit_code
