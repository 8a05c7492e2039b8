"""Errors that a user can act on: one line each, with the exit code that the README documents."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable


class UserError(Exception):
    """Report something that the user can mend: what is wrong, where, and what to do."""

    exit_code = 2


class ConfigError(UserError):
    """Report a wrong flag, key or value."""


class DataError(UserError):
    """Report a data set that is missing, incomplete or damaged."""

    exit_code = 3


class WeightsError(UserError):
    """Report weights that are missing, damaged or of another network."""

    exit_code = 4


class NotFiniteError(UserError):
    """Report a loss that is infinite or not a number."""

    exit_code = 5


class ResourceError(UserError):
    """Report trouble with the disk, the network or a lock."""

    exit_code = 6


class Stopped(Exception):
    """End a training that was asked to stop, after its checkpoint."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Terminated(KeyboardInterrupt):
    """Stand for SIGTERM, raised where the main thread is so that what is half done is cleared away."""


def _terminate(*_: object) -> None:
    raise Terminated


def describe(error: BaseException) -> tuple[str, int]:
    """Return what a user is told about an exception, and the exit code: a traceback only for a mistake of ours."""
    if isinstance(error, UserError):
        return f"error: {error}", error.exit_code
    if isinstance(error, Stopped):
        return str(error), error.exit_code
    if isinstance(error, Terminated):
        return "error: terminated", 128 + signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        return "error: interrupted", 128 + signal.SIGINT
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"error: {where}{error.strerror or error}", ResourceError.exit_code
    return "".join(traceback.format_exception(error)).rstrip(), 1


def call_main(main: Callable[[], None]) -> None:
    """Call a script's main and exit; an error that a user can mend ends in one line on stderr and its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        main()
    except (Exception, KeyboardInterrupt) as error:
        message, exit_code = describe(error)
        if message:
            print(message, file=sys.stderr, flush=True)
        sys.exit(exit_code)
