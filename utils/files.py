"""Files that are either complete under their final name or not there."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import yaml

from utils.errors import ConfigError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path of the same ending in the same folder; renamed to `path` once the block ends well.

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
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_yaml(path: str | Path, content: dict) -> None:
    write_text(path, yaml.safe_dump(content, default_flow_style=False, sort_keys=True, allow_unicode=True))


def timestamp() -> str:
    return datetime.now().strftime("%Y%m%d%H%M%S")


def new_folder(parent: Path, name: str, info: str = "") -> Path:
    """A folder that did not exist before: `name`, `name-info`, or with a number behind where that is taken.

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
