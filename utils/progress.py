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


class Progress:
    """A progress bar on a terminal, whose state is also written to the file named in `VARIABLE`, if it is set."""

    def __init__(self, what: str, total: int):
        self._what, self._total, self._done = what, total, 0
        self._bar = tqdm(desc=what, total=total, disable=None)
        self._begun_at = self._written_at = time.monotonic()

    def update(self, count: int = 1) -> None:
        """Count finished items."""
        self._bar.update(count)
        self._done += count
        now, path = time.monotonic(), os.environ.get(VARIABLE)
        if path and now - self._written_at > INTERVAL_S:
            self._written_at = now
            state = progress_of(self._done, self._total, now - self._begun_at)
            with suppress(OSError):
                write_text(Path(path), json.dumps({"what": self._what, **state}))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def progress_of(done: int, total: int, seconds: float) -> dict[str, float]:
    """Return the fraction that is done, and the remaining seconds."""
    return {"done": min(done / total, 1.0), "left_s": max(total - done, 0) * seconds / max(done, 1)}


def read_progress(path: Path) -> dict[str, Any]:
    """Read a state that `Progress` wrote; empty if there is none."""
    try:
        found = json.loads(read_text(path))
        return {"what": str(found["what"]), "done": float(found["done"]), "left_s": float(found["left_s"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
