"""How a script ends: soon after it is asked to, with its children and temporary files gone, whatever it is doing.

An error unwinds the script as usual. So do Ctrl-C, SIGTERM and SIGHUP; where the main thread cannot, because it is
in the middle of a long computation, a second thread clears up in its place.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from utils.errors import Terminated, describe

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REAP_S = 0.3
OFTEN = 1 << 30  # stands for any number of requests
UNWIND_WITHIN_S = 2.0  # grace after a signal; then the script is ended where it stands

_children: set[subprocess.Popen] = set()
_temporaries: set[Path] = set()
_requests: dict[int, int] = {}  # how many of a signal only ask, and are somebody else's to answer
_is_over = threading.Event()


def start_child(command: list[str], **options: object) -> subprocess.Popen:
    """Start a program that is killed, at the latest, when this one ends; `end_child` lets go of it."""
    child = subprocess.Popen(command, **options)
    _children.add(child)
    return child


def end_child(child: subprocess.Popen) -> None:
    """Kill a child that still runs, and wait for it."""
    child.kill()
    child.wait()
    _children.discard(child)


def run_child(command: list[str], timeout_s: float | None = None) -> tuple[int, str]:
    """Run a program to its end; return its exit code and what it wrote on stderr.

    Raises:
        TimeoutError: it took longer.
    """
    child = start_child(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, text = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]}: no answer within {timeout_s:.0f} s") from None
    finally:
        end_child(child)
    return child.returncode, text.decode(errors="replace")


@contextmanager
def removed_at_the_end(path: Path) -> Iterator[None]:
    """Have a temporary file or folder removed also where the block cannot do it, since the script is being ended."""
    _temporaries.add(path)
    try:
        yield
    finally:
        _temporaries.discard(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def as_requests(counts: dict[int, int]) -> Iterator[None]:
    """Treat signals as requests while the block runs, up to a number of each: their handlers answer them."""
    _requests.update(counts)
    try:
        yield
    finally:
        _requests.clear()


def call_main(main: Callable[[], None]) -> None:
    """Call a script's main and exit; an error that a user can mend ends in one line on stderr and its exit code."""
    use_tolerant_streams()
    try:
        _watch_signals()
        main()
    except (Exception, KeyboardInterrupt) as error:
        message, exit_code = describe(error)
        sys.stdout.flush()
        if message:
            print(message, file=sys.stderr, flush=True)
        _leave(exit_code, is_hurried=isinstance(error, KeyboardInterrupt))
    _leave(0, is_hurried=False)


def _terminate(number: int, _: object) -> None:
    raise Terminated(number)


def _watch_signals() -> None:
    """Raise where the main thread is; a thread of its own sees to it that this leads to an end."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup has SIGHUP ignored, and means it
            signal.signal(number, _terminate)
    # written to by the signal itself, while the main thread computes
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)

    def watch() -> None:
        while True:
            (number,) = os.read(readable, 1)
            if number not in SIGNALS or signal.getsignal(number) == signal.SIG_IGN:
                continue
            if _requests.get(number, 0) > 0:
                _requests[number] -= 1
            elif not _is_over.wait(UNWIND_WITHIN_S):
                _end_here(number)

    threading.Thread(target=watch, daemon=True).start()


def _end_here(number: int) -> NoReturn:
    """End the script in place of its main thread."""
    error = KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
    message, exit_code = describe(error)
    with suppress(OSError):
        os.write(2, f"{message}\n".encode())
    _clear_up()
    os._exit(exit_code)


def _clear_up() -> None:
    children = list(_children)
    for child in children:
        child.kill()
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(REAP_S)
    for path in list(_temporaries):
        with suppress(OSError):
            remove(path)


def _leave(exit_code: int, is_hurried: bool) -> NoReturn:
    """Exit. Threads and workers that are in the middle of something are not waited for."""
    _is_over.set()
    _clear_up()
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if "mpi4py.MPI" in sys.modules or not (is_hurried or len(others) > 1):  # one of them watches for signals
        sys.exit(exit_code)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(exit_code)


class _TolerantFile(io.FileIO):
    """Drop what cannot be written: a full disk or a closed terminal must not end a training."""

    def write(self, data: bytes) -> int:
        with suppress(OSError):
            return super().write(data)
        return len(data)


def use_tolerant_streams() -> None:
    """Make stdout and stderr take any text, and never fail."""
    for number in (0, 1, 2):  # else the next file to be opened would get the number, and what is printed
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        encoding = getattr(before, "encoding", None) or "utf-8"
        if before is not None:
            with suppress(OSError):
                before.flush()
        raw = _TolerantFile(number, "wb", closefd=False)
        is_prompt = number == 2 or raw.isatty()
        stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=is_prompt)
        setattr(sys, name, stream)
