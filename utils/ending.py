"""How a script ends: exit codes, one-line errors, and signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from utils.errors import Terminated, describe


def _is_script() -> bool:
    """Return whether the running program is a script of this repository."""
    path = Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve()
    root = Path(__file__).resolve().parent.parent
    return path.is_relative_to(root) and len(path.relative_to(root).parts) <= 2


# While a script imports its libraries, Ctrl-C ends it at once; KeyboardInterrupt would be a traceback, or crash one.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler and _is_script():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def call_main(main: Callable[[], None]) -> NoReturn:
    """Call a script's main function and exit. Errors that a user can fix are printed in one line."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # file names may contain any bytes
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _terminate)
    exit_code = 0
    try:
        main()
    except (Exception, KeyboardInterrupt) as error:
        message, exit_code = describe(error)
        with suppress(OSError):  # the terminal may be closed
            if message:
                print(message, file=sys.stderr, flush=True)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the interpreter's end would be a traceback
    if threading.active_count() > 1 and "mpi4py.MPI" not in sys.modules:
        # daemon threads inside C++ libraries would crash at the interpreter's end
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, AttributeError):
                stream.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


def _terminate(number: int, _: object) -> None:
    raise Terminated(number)
