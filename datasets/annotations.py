"""Annotation lists of WFLW and CelebV: 196 landmark coordinates at the start of each line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from datasets.boundary import NUM_LANDMARKS
from utils.errors import DataError, one_line
from utils.files import NotRegular, open_file

NUM_COORDINATES = 2 * NUM_LANDMARKS
MAX_LINE = 20_000  # characters
MAX_COORDINATE = 100_000  # pixels


class Annotations(NamedTuple):
    """Content of a list: image names, landmarks (N, 98, 2) float64 in pixels, and the columns between, (N, K)."""

    names: list[str]
    landmarks: np.ndarray
    extras: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


def read_annotations(
    path: str | Path, num_extras: int, hint: str, note: Callable[[str], None] | None = None
) -> Annotations:
    """Read a list with lines of 196 coordinates, `num_extras` further numbers, and an image name.

    Args:
        hint: what to do if the file is missing, for the message.
        note: called with a message for each invalid line, which is skipped; None raises an error.

    Raises DataError if the file is missing or empty, or a line is invalid.
    """
    names, numbers = [], bytearray()  # compact: 40,000 lines have 60 MiB of numbers
    for line_number, line in read_lines(path, hint):
        try:
            name, values = parse_line(line, num_extras)
        except ValueError as error:
            if note is None:
                raise DataError(f"{path}: line {line_number} {error}; correct or remove it") from None
            note(f"line {line_number} {error}")
            continue
        names.append(name)
        numbers += values.tobytes()
    table = np.frombuffer(numbers, np.float64).reshape(len(names), NUM_COORDINATES + num_extras)
    return Annotations(names, table[:, :NUM_COORDINATES].reshape(-1, NUM_LANDMARKS, 2), table[:, NUM_COORDINATES:])


def read_lines(path: str | Path, hint: str) -> Iterator[tuple[int, str]]:
    """Yield numbers and content of lines that are not empty. Raises DataError if there is no text to read."""
    is_empty = True
    try:
        with open_file(path, "r", encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), ""), start=1):
                if len(line) > MAX_LINE:
                    raise DataError(f"{path}: line {number} is longer than {MAX_LINE} characters")
                if line.strip():
                    is_empty = False
                    yield number, line
    except FileNotFoundError:
        raise DataError(f"{path}: no such annotation list; {hint}") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise DataError(f"{path}: not a text file (UTF-8); unpack the annotations again") from None
    except NotRegular as error:
        raise DataError(f"{path}: {error.strerror}; unpack the annotations again") from None
    if is_empty:
        raise DataError(f"{path}: no annotations; {hint}")


def read_names(path: str | Path, num_numbers: int, hint: str) -> list[str]:
    """Read only the image names of a list with `num_numbers` numbers per line; see `read_annotations` for errors."""
    names = []
    for line_number, line in read_lines(path, hint):
        try:
            names.append(_checked_name(line.split(maxsplit=num_numbers)[-1]))
        except ValueError as error:
            raise DataError(f"{path}: line {line_number} {error}; correct or remove it") from None
    return names


def parse_line(line: str, num_extras: int) -> tuple[str, np.ndarray]:
    """Split a line into image name and numbers (196 + num_extras,). Raises ValueError if it is invalid."""
    num_numbers = NUM_COORDINATES + num_extras
    columns = line.split(maxsplit=num_numbers)  # names may contain spaces
    if len(columns) != num_numbers + 1:
        raise ValueError(
            f"has {len(line.split())} columns instead of {num_numbers + 1} ({num_numbers} numbers and an image name)"
        )
    try:
        values = np.array(columns[:-1], np.float64)
    except ValueError as error:
        raise ValueError(f"contains something that is not a number: {one_line(error, 100)}") from None
    if not np.isfinite(values).all():
        raise ValueError("has a value that is not finite")
    if np.abs(values).max() > MAX_COORDINATE:
        raise ValueError(f"has a value beyond {MAX_COORDINATE} pixels")
    return _checked_name(columns[-1]), values


def _checked_name(name: str) -> str:
    """Strip and check an image name. Raises ValueError if it is not a valid file name below the folder of images."""
    name = name.strip()
    if not name.isprintable():
        raise ValueError(f"names {one_line(repr(name), 80)}, which is not a valid image name")
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"names '{name}', which is outside the folder of images")
    return name


def format_line(landmarks: np.ndarray, name: str, extras: tuple[int, ...] = ()) -> str:
    """Format one line of a list."""
    coordinates = " ".join(f"{value:.4f}" for value in landmarks.reshape(-1))
    return " ".join([coordinates, *map(str, extras), name])
