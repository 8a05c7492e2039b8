"""How a script ends: exit codes, one-line errors, and signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from utils.errors import Terminated, describe


def call_main(main: Callable[[], None]) -> NoReturn:
    """Call a script's main function and exit. Errors that a user can fix are printed in one line."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # file names may contain any bytes
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
    if threading.active_count() > 1 and "mpi4py.MPI" not in sys.modules:
        # daemon threads inside C++ libraries would crash at the interpreter's end
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, AttributeError):
                stream.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


def _terminate(number: int, _: object) -> None:
    raise Terminated(number)
