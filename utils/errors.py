"""Errors that a user can act on: one line each, with the exit code that the README documents."""

from __future__ import annotations

import signal
import sys
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


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the main thread stands so that what is half done is cleared away."""


def _terminate(*_: object) -> None:
    raise Terminated


def run(main: Callable[[], None]) -> None:
    """Run a script's main; what a user can mend ends in one line on stderr and its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Terminated:
        print("error: terminated", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(ResourceError.exit_code)
