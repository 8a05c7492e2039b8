"""Annotation lists: 196 landmark coordinates at the start of each line, in WFLW and in CelebV."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.boundary import NUM_LANDMARKS
from utils.errors import DataError

NUM_COORDINATES = 2 * NUM_LANDMARKS


class Annotations(NamedTuple):
    """The lines of a list: image names, landmarks (N, 98, 2) float64 in pixels, the columns between (N, K)."""

    names: list[str]
    landmarks: np.ndarray
    extras: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


def read_annotations(path: str | Path, num_extras: int, hint: str) -> Annotations:
    """Read a list of `196 coordinates, num_extras numbers, image name` lines.

    Args:
        hint: what to do when the file is not there.

    Raises:
        DataError: the file is missing or empty, or a line has another number of columns or no numbers.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such annotation list; {hint}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; unpack the annotations again") from None
    num_numbers = NUM_COORDINATES + num_extras
    names, numbers = [], []
    for line_number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        columns = line.split(maxsplit=num_numbers)  # a name may hold spaces
        if len(columns) != num_numbers + 1:
            raise DataError(
                f"{path}: line {line_number} has {len(line.split())} columns instead of {num_numbers + 1} "
                f"({num_numbers} numbers and an image name); mend or remove it"
            )
        try:
            values = [float(column) for column in columns[:-1]]
        except ValueError as error:
            raise DataError(f"{path}: line {line_number}: {error}; mend or remove it") from None
        if not np.isfinite(values).all():
            raise DataError(f"{path}: line {line_number} has a value that is not finite; mend or remove it")
        names.append(columns[-1].strip())
        numbers.append(values)
    if not names:
        raise DataError(f"{path}: no annotation in it; {hint}")
    table = np.array(numbers, np.float64)
    return Annotations(names, table[:, :NUM_COORDINATES].reshape(-1, NUM_LANDMARKS, 2), table[:, NUM_COORDINATES:])


def format_line(landmarks: np.ndarray, name: str, extras: tuple[int, ...] = ()) -> str:
    """One line of a list, the way `read_annotations` reads it."""
    coordinates = " ".join(f"{value:.4f}" for value in landmarks.reshape(-1))
    return " ".join([coordinates, *map(str, extras), name])
