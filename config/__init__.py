"""Configuration: defaults in `config_<module>.py`, overridden by a YAML file, checked strictly.

Published `training_info.yaml` files are accepted too: keys that they lack take their defaults.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import math
import re
from pathlib import Path
from typing import Any

import yaml

from config.common import KEYS_WITHOUT_EFFECT, Rule, get
from utils.errors import ConfigError

MODULE_KEY = "dataset_mode"  # names the module that a training_info.yaml belongs to


class _Loader(yaml.SafeLoader):
    """Read YAML with 1e-4 as the number it is, and refuse a key that is duplicated."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool, type(None))):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a plain word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' is duplicated", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


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
    for key, rule in definition.rules.items():
        value = get(merged, key)
        if not rule.holds(value):
            raise ConfigError(f"{path}: {key}: {rule.words}, not {value!r}")
    return merged


def _read_yaml(path: Path) -> dict:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; pass a configuration or a run's training_info.yaml") from None
    except (IsADirectoryError, UnicodeDecodeError):
        raise ConfigError(f"{path}: not a YAML file; pass a configuration or a run's training_info.yaml") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
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
                raise ConfigError(f"{path}: {dotted}: {rule.words}, not {value!r}")
        elif key not in target:
            known = [*target, *(k.rpartition(".")[2] for k in without_effect if k.rpartition(".")[0] == prefix[:-1])]
            close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean '{prefix}{close[0]}'?" if close else f"known here: {', '.join(sorted(known))}"
            raise ConfigError(f"{path}: unknown key '{dotted}'; {hint}")
        elif isinstance(target[key], dict):
            if not isinstance(value, dict):
                raise ConfigError(f"{path}: {dotted}: must hold keys of its own, not {value!r}")
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
        fits, words = isinstance(value, str), "a text (put it in quotes)"
    if not fits:
        raise ConfigError(f"{path}: {dotted}: must be {words}, not {value!r}")
    return value
