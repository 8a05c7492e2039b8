"""Configuration: typed keys with defaults in `config_<module>.py`, overridden by a YAML file, checked strictly.

Published `training_info.yaml` files are accepted as well: keys that they lack take their defaults.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from config.common import PUBLISHED
from config.config_decoder import DecoderConfig
from config.config_encoder import EncoderConfig
from config.config_shape_prior import ShapePriorConfig
from config.config_transformer import TransformerConfig
from config.keys import to_dict, with_values
from utils.errors import ConfigError
from utils.files import read_yaml

__all__ = ["Config", "complete_config", "load_config", "require_trainable", "to_dict", "with_values"]

MODULE_KEY = "dataset_mode"  # names the module that a training_info.yaml belongs to
CLASSES = {
    "encoder": EncoderConfig,
    "transformer": TransformerConfig,
    "decoder": DecoderConfig,
    "shape_prior": ShapePriorConfig,
}
DROPPED = (("detail_loss", "lambda"), ("discriminator", "blur"))  # losses that older versions had
Config = EncoderConfig | TransformerConfig | DecoderConfig | ShapePriorConfig


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


def load_config(module: str, path: str | Path | None = None, to_train: bool = False) -> Config:
    """Read a configuration over the defaults of its module.

    Args:
        module: `encoder`, `transformer`, `decoder` or `shape_prior`.
        path: a user's configuration or a training_info.yaml; None returns the defaults.
        to_train: refuse what `require_trainable` does.

    Raises:
        ConfigError: the file cannot be read, or has an unknown key, a wrong type or an impossible value.
    """
    given = {} if path is None else _read_yaml(Path(path))
    config = complete_config(module, given, path)
    if to_train:
        require_trainable(given, path)
    return config


def complete_config(module: str, given: dict[str, Any], path: str | Path | None) -> Config:
    """Put a file's content over the defaults of a module.

    Raises:
        ConfigError: there is an unknown key, a wrong type or an impossible value; the message names `path`.
    """
    belongs_to = given.get(MODULE_KEY, module)
    if belongs_to != module:
        raise ConfigError(f"{path}: belongs to the {belongs_to} ({MODULE_KEY}), where the {module}'s is needed")
    own = {name: value for name, value in given.items() if name != MODULE_KEY}
    if MODULE_KEY in given:  # written by a run, which was one of an older version if it does not say how it draws
        own.setdefault("drawing", PUBLISHED)
    return with_values(CLASSES[module](), own, path)


def require_trainable(given: dict[str, Any], source: str | Path | None) -> None:
    """Raise if a file that `complete_config` takes trains with a loss that is gone; its weights can still be used.

    Raises:
        ConfigError: with the keys; the message names `source`.
    """
    train = given.get("train") or {}
    dropped = [f"train.{part}.{key}" for part, key in DROPPED if (train.get(part) or {}).get(key)]
    if dropped:
        words = f"{', '.join(dropped)}, which showed no gain and is gone"
        raise ConfigError(f"{source}: trains with {words}; begin anew without it")


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
