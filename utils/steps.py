"""Steps on the way to a result: scripts that run one after the other, or side by side where none waits for another."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from utils.ending import OFTEN, as_requests, run_child
from utils.errors import Stopped, UserError

ROOT = Path(__file__).resolve().parent.parent
POLL_S = 0.05
PROGRESS_S = 15.0  # between words of steps whose lane is not seen, where none is seen
# the one that goes with this Python's mpi4py, not the system's
MPIRUN = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or "mpirun"
MPI_PROBE = "from mpi4py import MPI; raise SystemExit(MPI.COMM_WORLD.size != 2)"
MPI_PROBE_S = 30
TAIL_LINES, TAIL_BYTES = 3, 4096  # the end of a log that is shown if its step failed
PR_SET_PDEATHSIG = 1  # an option of Linux's prctl
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP)


class Step(NamedTuple):
    """Say what to run: a script of this repository with its arguments."""

    name: str
    script: str
    args: tuple[object, ...] = ()
    processes: int = 1  # processes that work on it together, by MPI


@lru_cache(maxsize=1)
def has_mpi() -> bool:
    """Tell whether several processes can work together here."""
    if importlib.util.find_spec("mpi4py") is None or shutil.which(MPIRUN) is None:
        return False
    try:
        exit_code, _ = run_child([MPIRUN, "-n", "2", sys.executable, "-c", MPI_PROBE], MPI_PROBE_S)
    except OSError:  # a timeout is one
        return False
    return exit_code == 0


class StepFailed(UserError):
    """Report that a step ended with an error, which it has said itself."""

    def __init__(self, name: str, exit_code: int):
        super().__init__(f"{name} ended with exit code {exit_code}; mend what it says, and run the same command again")
        self.exit_code = exit_code


class Lane:
    """Run steps in their order.

    Args:
        log: where what they say goes; None shows it.
        held: handles of locks, which the steps hold as well for as long as they run.
    """

    def __init__(self, steps: list[Step], log: Path | None, held: Collection[int] = ()):
        self.steps, self.log, self.held = steps, log, held
        self.child: subprocess.Popen | None = None

    def begin(self) -> None:
        """Begin the next step."""
        step = self.steps[0]
        print(f"== {step.name}" + (f" (beside the others; log: {self.log})" if self.log else ""), flush=True)
        command = ["sh"] if step.script.endswith(".sh") else [sys.executable]
        if step.processes > 1:
            command = [MPIRUN, "-n", str(step.processes), *command]
        with ExitStack() as stack:
            log = None if self.log is None else stack.enter_context(self.log.open("ab"))
            self.child = subprocess.Popen(
                [*command, str(ROOT / step.script), *map(str, step.args)],
                stdout=log,
                stderr=log,
                pass_fds=self.held,
                preexec_fn=end_with(os.getpid()),
                # a session of its own: else a Ctrl-C would reach it twice, and twice means at once
                start_new_session=True,
            )

    def tail(self, num_lines: int = TAIL_LINES) -> str:
        """Return a log's last lines; nothing where all was seen."""
        if self.log is None:
            return ""
        with self.log.open("rb") as log:
            log.seek(max(self.log.stat().st_size - TAIL_BYTES, 0))
            lines = log.read().decode(errors="replace").replace("\r", "\n").splitlines()
        return "".join(f"{line}\n" for line in lines[-num_lines:])


@contextmanager
def _passed_on(lanes: Collection[Lane]) -> Iterator[list[int]]:
    """Pass requests to stop on to the children, which know what to do; yield a list of the requests that came."""
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # a job in the background has Ctrl-C ignored, and means it
    numbers = [number for number in wanted if signal.getsignal(number) != signal.SIG_IGN]
    came: list[int] = []

    def pass_on(number: int, _: object) -> None:
        came.append(number)
        for lane in lanes:
            if lane.child is not None:
                lane.child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        with as_requests(dict.fromkeys(numbers, OFTEN)):
            yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with(parent: int) -> Callable[[], None]:
    """Return what a child calls before it becomes a program: it is asked to stop when its parent ends, even killed."""
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here, since a child that was forked should do little

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended meanwhile
            os._exit(1)

    return prepare if hasattr(libc, "prctl") else lambda: None


def run_steps(*lanes: list[Step], logs: Path | None = None, held: Collection[int] = ()) -> None:
    """Run lanes of steps side by side, each lane in its order.

    The first lane is seen; another's words go to a file of its first step's name. Where a step fails, the others are
    asked to stop.

    Args:
        logs: the folder of the logs of several lanes.
        held: handles of locks that the steps hold as well, so that nobody enters while one outlives this process.

    Raises:
        Stopped: on request.
        StepFailed: a step ended with an error.
    """
    first, *others = [lane for lane in lanes if lane]
    running = [Lane(first, None, held)]
    running += [Lane(lane, logs / f"{lane[0].name.replace(' ', '_')}.log", held) for lane in others]
    failed: StepFailed | None = None
    next_words = 0.0
    with _passed_on(running) as requests_to_stop:
        while running:
            for lane in list(running):
                is_ending = requests_to_stop or failed is not None
                if lane.child is None and (is_ending or not lane.steps):
                    running.remove(lane)
                elif lane.child is None:
                    lane.begin()
                elif lane.child.poll() is not None:
                    exit_code, step = lane.child.returncode, lane.steps.pop(0)
                    lane.child = None
                    if exit_code and not is_ending:
                        ask_to_stop(running)
                    if exit_code in STOPPED:
                        requests_to_stop.append(exit_code - 128)
                    elif exit_code and not is_ending:
                        failed = StepFailed(step.name, abs(exit_code))
                        print(lane.tail(), file=sys.stderr, end="", flush=True)
            if all(lane.log for lane in running) and time.monotonic() > next_words:
                next_words = time.monotonic() + PROGRESS_S
                print("".join(lane.tail(1) for lane in running), end="", flush=True)
            time.sleep(POLL_S)
    if failed is not None:
        raise failed
    if requests_to_stop:
        raise Stopped("stopped; the same command goes on from here", 128 + requests_to_stop[0])


def ask_to_stop(lanes: Collection[Lane]) -> None:
    """Ask the children of all lanes to stop."""
    for lane in lanes:
        if lane.child is not None:
            lane.child.terminate()
