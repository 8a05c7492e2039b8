"""Ground truth of synthetic people in CelebV's format."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from datasets.celebv import read_person
from synthetic.expressions import EXPRESSION_FILE, Expression, read_expressions
from synthetic.geometry import landmarks_of
from synthetic.people import random_identity


def has_expressions(root: str | Path, person: str) -> bool:
    """Return whether a person is synthetic and its expressions are known."""
    return os.path.lexists(Path(root) / person / EXPRESSION_FILE)


def expressions_of(root: str | Path, person: str, mode: str) -> list[Expression]:
    """Read the expressions of the frames of a list. Raises DataError if they are missing or damaged."""
    track, _ = read_expressions(Path(root) / person)
    index_of = {name: index for index, name in enumerate(read_person(root, person, "all").names)}
    return [track[index_of[name]] for name in read_person(root, person, mode).names]


def landmarks_on(root: str | Path, person: str, expressions: list[Expression]) -> np.ndarray:
    """Return landmarks (N, 98, 2) of a synthetic person with given expressions. Raises DataError for other people."""
    _, seed = read_expressions(Path(root) / person)
    identity = random_identity(seed)
    return np.array([landmarks_of(identity, expression) for expression in expressions])
