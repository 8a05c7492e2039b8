"""What a configuration value may be: a test and the words for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    holds: Callable[[Any], bool]
    words: str


def at_least(minimum: float) -> Rule:
    return Rule(lambda value: value >= minimum, f"must be {minimum} or more")


def above(minimum: float) -> Rule:
    return Rule(lambda value: value > minimum, f"must be above {minimum}")


def even(minimum: int) -> Rule:
    return Rule(lambda value: value >= minimum and value % 2 == 0, f"must be an even number from {minimum}")


def odd() -> Rule:
    return Rule(lambda value: value >= 1 and value % 2 == 1, "must be an odd number from 1")


def one_of(*choices: str) -> Rule:
    return Rule(lambda value: value in choices, f"must be one of {', '.join(choices)}")


def only(value: Any, reason: str) -> Rule:
    return Rule(lambda given: given == value, f"must be {value} ({reason})")


def fraction() -> Rule:
    return Rule(lambda value: 0 <= value < 1, "must be from 0 to below 1")
