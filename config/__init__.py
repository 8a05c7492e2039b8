"""Configuration: typed keys with defaults in `config_<module>.py`, overridden by a strictly checked YAML file.

Published `training_info.yaml` files are accepted; missing keys have their defaults.
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

__all__ = ["Config", "complete_config", "load_config", "to_dict", "with_values"]

MODULE_KEY = "dataset_mode"  # module of a training_info.yaml
CLASSES = {
    "encoder": EncoderConfig,
    "transformer": TransformerConfig,
    "decoder": DecoderConfig,
    "shape_prior": ShapePriorConfig,
}
Config = EncoderConfig | TransformerConfig | DecoderConfig | ShapePriorConfig


class _Loader(yaml.SafeLoader):
    """A safe loader that reads 1e-4 as a number, and refuses duplicate keys."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a plain scalar", key.start_mark)
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is duplicated", key.start_mark)
            seen.add((key.tag, key.value))
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def load_config(module: str, *paths: str | Path) -> Config:
    """Read configuration files, each over the one before, and the first over the defaults of the module.

    Args:
        module: `encoder`, `transformer`, `decoder` or `shape_prior`.
        paths: configuration files, or a training_info.yaml.

    Raises ConfigError if a file cannot be read, or has an unknown key, a wrong type or an invalid value.
    """
    config = CLASSES[module]()
    for path in paths:
        config = complete_config(module, _read_yaml(Path(path)), path, config)
    return config


def complete_config(module: str, given: dict[str, Any], path: str | Path | None, over: Config | None = None) -> Config:
    """Override a configuration, or the defaults of a module.

    Raises ConfigError, which names `path`, if a key or value is invalid.
    """
    belongs_to = given.get(MODULE_KEY, module)
    if belongs_to != module:
        raise ConfigError(f"{path}: is a configuration of the {belongs_to} ({MODULE_KEY}), not of the {module}")
    own = {name: value for name, value in given.items() if name != MODULE_KEY}
    if MODULE_KEY in given:  # published files do not name the drawing style
        own.setdefault("drawing", PUBLISHED)
    return with_values(over or CLASSES[module](), own, path)


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
        raise ConfigError(f"{path}: contains a {type(content).__name__} instead of 'key: value' lines")
    return content
