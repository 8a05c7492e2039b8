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


def some_of(*choices: str) -> Rule:
    def holds(values: list[str]) -> bool:
        return 0 < len(values) == len(set(values)) and set(values) <= set(choices)

    return Rule(holds, f"must be a list of {', '.join(choices)}, each at most once")


def different() -> Rule:
    return Rule(lambda values: len(set(values)) == len(values), "must not hold a name twice")


def only(value: Any, reason: str) -> Rule:
    return Rule(lambda given: given == value, f"must be {value} ({reason})")


def fraction() -> Rule:
    return Rule(lambda value: 0 <= value < 1, "must be from 0 to below 1")
