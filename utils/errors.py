"""Errors that a user can fix: one line each, with the exit codes of the README."""

from __future__ import annotations

import errno
import re
import signal
import traceback


class UserError(Exception):
    """An error that a user can fix. The message says what is wrong, where, and what to do."""

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
    """A problem with the disk, the network or a lock."""

    exit_code = 6


class Stopped(Exception):
    """The end of a training on request, after its checkpoint."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised in the main thread so that temporary files are removed."""


OUT_OF_MEMORY = "out of memory; use a smaller batch, fewer workers or smaller images"
REMEDIES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is exceeded",
    errno.EFBIG: "the file is larger than a limit (ulimit -f) or the file system allows",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.EAGAIN: "the limit of threads and processes is reached; raise it (ulimit -u, a container's pids)",
    errno.ENOMEM: OUT_OF_MEMORY,
    errno.EIO: "the disk, or the connection to it, fails",
    errno.EROFS: "the file system is read-only",
}


SYSTEM = (errno.EACCES, errno.EPERM, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE)


def is_of_system(error: BaseException) -> bool:
    """Return whether the system failed or refused access, so that nothing is known about a file's content."""
    return getattr(error, "errno", None) in SYSTEM


def remedy(number: int | None) -> str:
    """Return an explanation of a system error to append to a message, or ''."""
    return f"; {REMEDIES[number]}" if number in REMEDIES else ""


def describe(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code of an exception. Only programming errors get a traceback."""
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
        message = where + (error.strerror or str(error)) + remedy(error.errno)
        return f"error: {one_line(message)}", ResourceError.exit_code
    if isinstance(error, ImportError):
        # a path belongs to a module that exists, and may be another of that name
        advice = "" if error.path else "; run 'pip install -r requirements.txt' again"
        return f"error: {one_line(error)}{advice}", ConfigError.exit_code
    # Python and C++ libraries raise RuntimeError if a thread cannot be started
    if isinstance(error, RuntimeError) and re.search("(?i)start new thread|temporarily unavailable", str(error)):
        return f"error: a thread cannot be started{remedy(errno.EAGAIN)}", ResourceError.exit_code
    # nnabla raises RuntimeError for everything
    if isinstance(error, MemoryError) or isinstance(error, RuntimeError) and re.search("(?i)memory|alloc", str(error)):
        return f"error: {OUT_OF_MEMORY}", ResourceError.exit_code
    return "".join(traceback.format_exception(error)).rstrip(), 1


def one_line(text: object, at_most: int = 600) -> str:
    """Return text as one printable line of limited length; names and values in messages can be anything."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(text))
    return line if len(line) <= at_most else f"{line[: at_most - 4]} ..."
