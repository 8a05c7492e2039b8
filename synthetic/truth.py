"""The truth about synthetic people of CelebV's form: who they are, and what they do in each frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.celebv import read_person
from synthetic.people import EXPRESSION_FILE, Expression, landmarks_of, random_identity, read_expressions


def has_expressions(root: str | Path, person: str) -> bool:
    """Tell whether a person is synthetic, with expressions kept."""
    return (Path(root) / person / EXPRESSION_FILE).exists()


def expressions_of(root: str | Path, person: str, mode: str) -> list[Expression]:
    """Read the expressions of a person's frames of a list, `all`, `train` or `test`.

    Raises:
        DataError: they are missing or damaged.
    """
    track, _ = read_expressions(Path(root) / person)
    index_of = {name: index for index, name in enumerate(read_person(root, person, "all").names)}
    return [track[index_of[name]] for name in read_person(root, person, mode).names]


def landmarks_on(root: str | Path, person: str, expressions: list[Expression]) -> np.ndarray:
    """Place a person's landmarks (N, 98, 2) in pixels with somebody's expressions.

    Raises:
        DataError: the person is not synthetic.
    """
    _, seed = read_expressions(Path(root) / person)
    who = random_identity(seed)
    return np.array([landmarks_of(who, expression) for expression in expressions])
