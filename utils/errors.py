"""Errors that a user can act on: one line each, with the exit code that the README documents."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable


class UserError(Exception):
    """Something that the user can mend; its message says what is wrong, where, and what to do."""

    exit_code = 2


class ConfigError(UserError):
    """A wrong flag, key or value."""


class DataError(UserError):
    """A data set that is missing, incomplete or damaged."""

    exit_code = 3


class WeightsError(UserError):
    """Weights that are missing, damaged or of another network."""

    exit_code = 4


class NotFiniteError(UserError):
    """A loss that is infinite or not a number."""

    exit_code = 5


class ResourceError(UserError):
    """The disk, the network or a lock."""

    exit_code = 6


class Stopped(Exception):
    """A training that was asked to stop, and did after a checkpoint."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the main thread stands so that what is half done is cleared away."""


def _terminate(*_: object) -> None:
    raise Terminated


at_failure: list[Callable[[int], object]] = []  # what else must know that this process ends with an error


def run(main: Callable[[], None]) -> None:
    """Run a script's main; what a user can mend ends in one line on stderr and its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        main()
        return
    except UserError as error:
        message, exit_code = f"error: {error}", error.exit_code
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)  # all processes stop together
    except Terminated:
        message, exit_code = "error: terminated", 128 + signal.SIGTERM
    except KeyboardInterrupt:
        message, exit_code = "error: interrupted", 128 + signal.SIGINT
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message, exit_code = f"error: {where}{error.strerror or error}", ResourceError.exit_code
    except Exception:
        if not at_failure:
            raise
        message, exit_code = traceback.format_exc(), 1
    print(message, file=sys.stderr, flush=True)
    for end_others in at_failure:
        end_others(exit_code)
    sys.exit(exit_code)
