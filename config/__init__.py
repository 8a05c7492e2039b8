"""Configuration: defaults in `config_<module>.py`, overridden by a YAML file, checked strictly.

Published `training_info.yaml` files are accepted too: keys that they lack take their defaults.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import math
import re
import reprlib
from pathlib import Path
from typing import Any

import yaml

from config.common import KEYS_WITHOUT_EFFECT, Rule, expand_paths, get
from utils.errors import ConfigError, one_line
from utils.files import read_yaml

MODULE_KEY = "dataset_mode"  # names the module that a training_info.yaml belongs to


class _Loader(yaml.SafeLoader):
    """Read YAML with 1e-4 as the number it is, and refuse a duplicated key and numbers that mean something else."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a plain word", key.start_mark)
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is duplicated", key.start_mark)
            seen.add((key.tag, key.value))
        return node

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        text = node.value.lstrip("+-")
        if ":" in text or re.fullmatch(r"0[0-9_]+", text):
            # YAML 1.1 has 1:30 for 90 and 010 for 8
            words = f"'{node.value}' is not written as a number here; leave out zeros in front, put a text in quotes"
            raise yaml.constructor.ConstructorError(None, None, words, node.start_mark)
        return self.construct_yaml_int(node) if node.tag.endswith(":int") else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def load_config(module: str, path: str | Path | None = None) -> dict[str, Any]:
    """Read a configuration over the defaults of its module.

    Args:
        module: `encoder`, `transformer`, `decoder` or `shape_prior`.
        path: a user's configuration or a training_info.yaml; None gives the defaults.

    Raises:
        ConfigError: the file cannot be read, or has an unknown key, a wrong type or an impossible value.
    """
    return complete_config(module, {} if path is None else _read_yaml(Path(path)), path)


def complete_config(module: str, given: dict[str, Any], path: str | Path | None) -> dict[str, Any]:
    """Fill in the defaults of a module, and leave out what decides nothing.

    Raises:
        ConfigError: there is an unknown key, a wrong type or an impossible value; the message names `path`.
    """
    definition = importlib.import_module(f"config.config_{module}")
    merged = copy.deepcopy(definition.config)
    belongs_to = given.get(MODULE_KEY, module)
    if belongs_to != module:
        raise ConfigError(f"{path}: belongs to the {belongs_to} ({MODULE_KEY}), where the {module}'s is needed")
    own = {key: value for key, value in given.items() if key != MODULE_KEY}
    _merge(merged, own, "", KEYS_WITHOUT_EFFECT[module], path)
    expand_paths(merged)
    for key, rule in definition.rules.items():
        value = get(merged, key)
        if not rule.holds(value):
            raise ConfigError(f"{path}: {key}: {rule.words}, not {_short(value)}")
    return merged


def _read_yaml(path: Path) -> dict:
    hint = "pass a configuration or a run's training_info.yaml"
    try:
        content = read_yaml(path, _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {hint}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; {hint}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds a {type(content).__name__} instead of 'key: value' lines")
    return content


def _merge(target: dict, given: dict, prefix: str, without_effect: dict[str, Rule], path: str | Path | None) -> None:
    for key, value in given.items():
        dotted = f"{prefix}{key}"
        if dotted in without_effect:
            rule = without_effect[dotted]
            if not rule.holds(value):
                raise ConfigError(f"{path}: {dotted}: {rule.words}, not {_short(value)}")
        elif key not in target:
            known = [*target, *(k.rpartition(".")[2] for k in without_effect if k.rpartition(".")[0] == prefix[:-1])]
            by_letters = {name.casefold(): name for name in known}
            close = difflib.get_close_matches(str(key).casefold(), by_letters, n=1, cutoff=0.5)
            close = [by_letters[name] for name in close]
            hint = f"did you mean '{prefix}{close[0]}'?" if close else f"known here: {', '.join(sorted(known))}"
            raise ConfigError(f"{path}: unknown key '{dotted}'; {hint}")
        elif value is None and (isinstance(target[key], dict) or target[key] in ("", [], None)):
            continue  # 'key:' with nothing behind it, which YAML calls null
        elif isinstance(target[key], dict):
            if not isinstance(value, dict):
                raise ConfigError(f"{path}: {dotted}: must hold keys of its own, not {_short(value)}")
            _merge(target[key], value, f"{dotted}.", without_effect, path)
        else:
            target[key] = _checked(value, target[key], dotted, path)


def _checked(value: Any, default: Any, dotted: str, path: str | Path | None) -> Any:
    """Return the value in the default's type.

    Raises:
        ConfigError: it has another type.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, bool):
        fits, words = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits, words = is_number and not isinstance(value, float), "a whole number"
    elif isinstance(default, (int, float)):
        fits, words = is_number and math.isfinite(value), "a finite number"
        value = float(value) if fits else value
    elif isinstance(default, list):
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        words = "a list of names"
    else:
        fits = isinstance(value, str) and "\0" not in value
        words = "a text (put it in quotes)"
    if not fits:
        raise ConfigError(f"{path}: {dotted}: must be {words}, not {_short(value)}")
    return value


def _short(value: Any) -> str:
    """Write a value for a message; what a file holds can be of any size."""
    return one_line(value if isinstance(value, float) else reprlib.repr(value), 120)
