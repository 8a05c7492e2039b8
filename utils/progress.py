"""Progress of a long loop, for people and for the program that started it."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils.files import read_text, write_text

VARIABLE = "REENACTGAN_PROGRESS"  # environment variable that names the file
INTERVAL_S = 0.5


class ProgressFile:
    """Writer of the progress of a loop to the file named in `VARIABLE`, if it is set."""

    def __init__(self, what: str):
        self._what, self._path = what, os.environ.get(VARIABLE)
        self._begun_at = self._written_at = time.monotonic()

    def write(self, done: int, total: int, begun_with: int = 0) -> None:
        """Write how much is done, `begun_with` of it by an earlier process, unless the last time is short ago."""
        now = time.monotonic()
        if self._path and (now - self._written_at > INTERVAL_S or done >= total):
            self._written_at = now
            state = {"what": self._what, **progress_of(done, total, now - self._begun_at, begun_with)}
            with suppress(OSError):
                write_text(Path(self._path), json.dumps(state))


class Progress:
    """A progress bar on a terminal, with a `ProgressFile`."""

    def __init__(self, what: str, total: int):
        self._file, self._total, self._done = ProgressFile(what), total, 0
        self._bar = tqdm(desc=what, total=total, disable=None)

    def update(self, count: int = 1) -> None:
        """Count finished items."""
        self._bar.update(count)
        self._done += count
        self._file.write(self._done, self._total)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def progress_of(done: float, total: int, seconds: float, begun_with: int = 0) -> dict[str, float]:
    """Return the fraction that is done, and the remaining seconds, given those since `begun_with` was done."""
    return {"done": min(done / total, 1.0), "left_s": max(total - done, 0) * seconds / max(done - begun_with, 1)}


def read_progress(path: Path) -> dict[str, Any]:
    """Read what `ProgressFile` has written; empty if there is nothing."""
    try:
        found = json.loads(read_text(path))
        return {"what": str(found["what"]), "done": float(found["done"]), "left_s": float(found["left_s"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
