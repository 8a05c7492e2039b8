"""Errors that a user can act on: one line each, with the exit code that the README documents."""

from __future__ import annotations

import errno
import re
import signal
import traceback


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
    """Stand for SIGTERM or SIGHUP, raised where the main thread is so that what is half done is cleared away."""


def describe(error: BaseException) -> tuple[str, int]:
    """Return what a user is told about an exception, and the exit code: a traceback only for a mistake of ours."""
    if isinstance(error, UserError):
        return f"error: {one_line(error)}", error.exit_code
    if isinstance(error, Stopped):
        return str(error), error.exit_code
    if isinstance(error, Terminated):
        return "error: terminated", 128 + signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        return "error: interrupted", 128 + signal.SIGINT
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        words = where + (error.strerror or str(error)) + remedy(error.errno)
        return f"error: {one_line(words)}", ResourceError.exit_code
    # what Python and C++ libraries raise where no thread can be started
    if isinstance(error, RuntimeError) and re.search("(?i)start new thread|temporarily unavailable", str(error)):
        return f"error: no thread can be started{remedy(errno.EAGAIN)}", ResourceError.exit_code
    if isinstance(error, ImportError):
        return f"error: {one_line(cannot_load(error))}", ConfigError.exit_code
    # nnabla has errors of one type for everything
    if isinstance(error, MemoryError) or isinstance(error, RuntimeError) and re.search("(?i)memory|alloc", str(error)):
        words = "out of memory; a smaller batch, fewer workers or smaller pictures need less"
        return f"error: {words}", ResourceError.exit_code
    return "".join(traceback.format_exception(error)).rstrip(), 1


REMEDIES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk's quota is used up",
    errno.EFBIG: "larger than a limit (ulimit -f) or the file system lets a file be",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EAGAIN: "a limit of threads and processes is reached; raise it (ulimit -u, a container's pids)",
    errno.ENOMEM: "out of memory; a smaller batch, fewer workers or smaller pictures need less",
    errno.EIO: "the disk, or the connection to it, fails",
    errno.EROFS: "the file system takes no changes",
}


def remedy(number: int | None) -> str:
    """Say what a system error means and what helps, to be appended to a message; nothing where its name says it."""
    return f"; {REMEDIES[number]}" if number in REMEDIES else ""


def cannot_load(error: BaseException, name: str = "", how: str = "") -> str:
    """Say that a library is missing or cannot be loaded, and what to do."""
    name = name or getattr(error, "name", None) or "a library"
    words = one_line(error, 200) or type(error).__name__
    return f"{name} cannot be loaded ({words}); install it again: {how or 'pip install -r requirements.txt'}"


def one_line(text: object, at_most: int = 600) -> str:
    """Shorten what a message says to a line, since names and values in it can be anything."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(text))
    return line if len(line) <= at_most else f"{line[: at_most - 4]} ..."
