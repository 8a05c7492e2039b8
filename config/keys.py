"""Typed configurations: frozen dataclasses with one line per key.

For example, `lr: float = key(1e-3, above(0, 1e38))  # learning rate`. The attribute of the key `lambda` is `lambda_`.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import reprlib
import sys
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

from utils.errors import ConfigError, one_line
from utils.files import FOLDER_NAME_RULE, is_folder_name


class Rule(NamedTuple):
    """A test of values, and its description."""

    holds: Callable[[Any], bool]
    words: str


def between(minimum: float, maximum: float) -> Rule:
    """Allow numbers in [minimum, maximum]."""
    return Rule(lambda value: minimum <= value <= maximum, f"must be between {minimum} and {maximum}")


def above(minimum: float, maximum: float) -> Rule:
    """Allow numbers in (minimum, maximum]."""
    return Rule(lambda value: minimum < value <= maximum, f"must be above {minimum} and at most {maximum}")


def even(minimum: int, maximum: int) -> Rule:
    """Allow even numbers in a range."""
    words = f"must be an even number from {minimum} to {maximum}"
    return Rule(lambda value: minimum <= value <= maximum and value % 2 == 0, words)


def odd(maximum: int) -> Rule:
    """Allow odd numbers from 1 to a maximum."""
    return Rule(lambda value: 1 <= value <= maximum and value % 2 == 1, f"must be an odd number from 1 to {maximum}")


def one_of(*choices: str) -> Rule:
    """Allow one of several words."""
    return Rule(lambda value: value in choices, f"must be one of {', '.join(choices)}")


def some_of(*choices: str) -> Rule:
    """Allow a list of distinct words out of several."""

    def holds(values: tuple[str, ...]) -> bool:
        return 0 < len(values) == len(set(values)) and set(values) <= set(choices)

    return Rule(holds, f"must be a list of {', '.join(choices)}, each at most once")


def only(value: Any, reason: str) -> Rule:
    """Allow a single value."""
    return Rule(lambda given: given == value, f"must be {value} ({reason})")


def of_type(kind: type) -> Rule:
    """Allow any value of a type."""
    return Rule(lambda value: isinstance(value, kind), f"must be a {kind.__name__}")


def _are_folder_names(values: tuple[str, ...]) -> bool:
    return len(set(values)) == len(values) and all(map(is_folder_name, values))


FRACTION = Rule(lambda value: 0 <= value < 1, "must be from 0 to below 1")
FOLDER_NAME = Rule(is_folder_name, FOLDER_NAME_RULE)
FOLDER_NAME_OR_NONE = Rule(lambda value: value == "" or is_folder_name(value), FOLDER_NAME_RULE)
FOLDER_NAMES = Rule(_are_folder_names, "must be a list of distinct folder names without '/'")
ANY = Rule(lambda value: True, "")


def key(default: Any, rule: Rule = ANY, path: bool = False, free: bool = False, null: Any = None) -> Any:
    """Declare a key.

    Args:
        path: whether to expand '~'.
        free: whether a resumed run may change it, because it does not affect the numbers of an iteration (the content
            of a file is part of the data's identity, its path is not).
        null: what `null` in a file means; None refuses it.
    """
    null = default if default in ("", ()) else null
    return dataclasses.field(default=default, metadata={"rule": rule, "path": path, "free": free, "null": null})


def section(kind: type, free: bool = False, null: dict[str, Any] | None = None, is_new: bool = False) -> Any:
    """Declare a section of keys.

    Args:
        null: the values that `null` in a file means, which switch something off; None refuses it.
        is_new: whether the public port's configurations lack this section. Its loader fails on sections that it does
            not know, so a section with its defaults is not written.
    """
    return dataclasses.field(default_factory=kind, metadata={"free": free, "null": null, "is_new": is_new})


class Keys:
    """Base class of all sections."""

    WITHOUT_EFFECT: ClassVar[dict[str, Rule]] = {}  # keys of published files that have no effect here

    def options(self) -> dict[str, Any]:
        """Return the keys as keyword arguments."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


AnyKeys = TypeVar("AnyKeys", bound=Keys)


def name_of(field: dataclasses.Field) -> str:
    """Return a key's name in a file: its attribute without a trailing underscore."""
    return field.name.rstrip("_")


def to_dict(keys: Keys, all_sections: bool = True) -> dict[str, Any]:
    """Return keys as the content of a file; without `all_sections`, such that the public port's loader can read it."""
    values = {}
    for field in dataclasses.fields(keys):
        value = getattr(keys, field.name)
        if all_sections or not field.metadata.get("is_new") or value != type(value)():
            values[name_of(field)] = _to_plain(value, all_sections)
    return values


def _to_plain(value: Any, all_sections: bool) -> Any:
    if isinstance(value, Keys):
        return to_dict(value, all_sections)
    return list(value) if isinstance(value, tuple) else value


def with_values(keys: AnyKeys, given: dict[str, Any], source: Any = "configuration", prefix: str = "") -> AnyKeys:
    """Return a copy with other values.

    Args:
        given: content of a file. Keys without effect are dropped.
        source: name of the file, for messages.

    Raises ConfigError if a key is unknown, or a value is invalid.
    """
    fields = {name_of(field): field for field in dataclasses.fields(keys)}
    new = {}
    for name, value in given.items():
        dotted = f"{prefix}{name}"
        if name in keys.WITHOUT_EFFECT:
            _require(keys.WITHOUT_EFFECT[name], value, dotted, source)
            continue
        if name not in fields:
            known = [*fields, *keys.WITHOUT_EFFECT]
            raise ConfigError(f"{source}: unknown key '{dotted}'; {_suggestion(str(name), known, prefix)}")
        before = getattr(keys, fields[name].name)
        if value is None:  # also 'key:' without a value
            value = fields[name].metadata["null"]
        if isinstance(before, Keys):
            if not isinstance(value, dict):
                raise ConfigError(f"{source}: {dotted}: must be a section of keys, not {_short(value)}")
            new[fields[name].name] = with_values(before, value, source, f"{dotted}.")
            continue
        value = _typed(value, before, dotted, source)
        _require(fields[name].metadata["rule"], value, dotted, source)
        new[fields[name].name] = os.path.expanduser(value) if fields[name].metadata["path"] else value
    return dataclasses.replace(keys, **new)


def is_free(keys: Keys, dotted: str) -> bool:
    """Return whether a resumed run may change a key, such as `train.lr`."""
    name, _, rest = dotted.partition(".")
    field = next((field for field in dataclasses.fields(keys) if name_of(field) == name), None)
    if field is None:
        return False
    return field.metadata["free"] or bool(rest) and is_free(getattr(keys, field.name), rest)


def _suggestion(name: str, known: list[str], prefix: str) -> str:
    by_letters = {word.casefold(): word for word in known}
    close = difflib.get_close_matches(name.casefold(), by_letters, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{prefix}{by_letters[close[0]]}'?"
    return f"known keys: {', '.join(sorted(known))}"


def _require(rule: Rule, value: Any, dotted: str, source: Any) -> None:
    if not rule.holds(value):
        raise ConfigError(f"{source}: {dotted}: {rule.words}, not {_short(value)}")


def _typed(value: Any, default: Any, dotted: str, source: Any) -> Any:
    """Convert a value to the type of the default. Raises ConfigError if it has another type."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, bool):
        fits, words = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits, words = is_number and not isinstance(value, float), "an integer"
    elif isinstance(default, float):
        fits, words = is_number and abs(value) <= sys.float_info.max, "a finite number"
        value = float(value) if fits else value
    elif isinstance(default, tuple):
        fits = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        words = "a list of names"
        value = tuple(value) if fits else value
    else:
        fits = isinstance(value, str) and "\0" not in value
        words = "a text (put it in quotes)"
    if not fits:
        raise ConfigError(f"{source}: {dotted}: must be {words}, not {_short(value)}")
    return value


def _short(value: Any) -> str:
    """Format a value of any size for a message."""
    return one_line(value if isinstance(value, float) else reprlib.repr(value), 120)
