"""Files that are either complete under their final name or not there."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from utils.errors import ConfigError, ResourceError

LOCK_PATIENCE_S = 3.0  # workers of a run that was killed hold its lock for a moment


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path of the same ending in the same folder; rename it to `path` once the block ends well.

    The file is synced before the rename, so that a crash leaves the old file or the new one, never half of one.
    Missing folders are made. On an exception the temporary file is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        install(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        raise _with_path(error, path) from None


def install(temporary: Path, path: Path) -> None:
    """Rename a file that is complete."""
    _sync(temporary)
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, path)
    _sync(path.parent)


def _with_path(error: BaseException, path: Path) -> BaseException:
    """Name the file in the error of a write that failed, which does not say where."""
    if isinstance(error, OSError) and error.filename is None:
        return ResourceError(f"{path}: cannot be written ({error.strerror or error}); is the disk full?")
    return error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; rename it to `path` once the block ends well, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        _sync(temporary)
        os.chmod(temporary, 0o777 & ~_umask())
        os.rename(temporary, path)
        _sync(path.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _with_path(error, path) from None


def remove_folder(path: Path) -> None:
    """Remove a folder that is complete or not there: its name goes first, then what is in it."""
    doomed = path.with_name(f".{path.name}.deleting")
    if doomed.exists():
        shutil.rmtree(doomed)
    path.rename(doomed)
    shutil.rmtree(doomed)


def remove_leftovers(path: Path) -> None:
    """Remove what `atomic_path` or `atomic_folder` left beside `path` when it was killed.

    To be called while nobody else writes `path`.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.????????{glob.escape(path.suffix)}"):
        _remove(leftover)


def remove_leftovers_below(folder: Path) -> None:
    """Remove whatever `atomic_path` and `atomic_folder` left anywhere below a folder that is ours alone."""
    for path in list(folder.rglob(".*")):
        if re.fullmatch(r"\..+\.[a-z0-9_]{8}(\.\w+)?", path.name):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on the folder while the block runs; it goes with the process, however that ends.

    Raises:
        ResourceError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while not _try_lock(handle):
            if time.monotonic() > deadline:
                raise ResourceError(f"{folder}: another process is writing there; wait for it to end")
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    """Have a file or a folder's entries written to the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 letters."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_text(path: str | Path, text: str) -> None:
    """Write a whole text file, or leave what was there."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_yaml(path: str | Path, content: dict) -> None:
    """Write a whole YAML file with sorted keys, or leave what was there."""
    import yaml  # not at the top: the converter of weights does without

    write_text(path, yaml.safe_dump(content, default_flow_style=False, sort_keys=True, allow_unicode=True))


def timestamp() -> str:
    """Return the local date and time as 14 digits."""
    return datetime.now().strftime("%Y%m%d%H%M%S")


def new_folder(parent: Path, name: str, info: str = "") -> Path:
    """Make a folder that did not exist before: `name`, `name-info`, or with a number behind where that is taken.

    Raises:
        ConfigError: `info` cannot be part of a folder's name.
    """
    if "/" in info:
        raise ConfigError(f"--info {info}: becomes part of a folder's name, so it cannot hold '/'")
    name += f"-{info}" if info else ""
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("itertools.count does not end")
