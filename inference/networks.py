"""Trained networks: configuration and weights of a run, and what belongs to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nnabla as nn

from config import Config, load_config
from config.runs import BEST_FILE
from datasets.boundary import style_of
from datasets.celebv import FROM_ENCODER
from datasets.film import FILM_FILE, Film, read_film
from datasets.shape_file import read_shape
from faces.geometry import Shape
from models.networks import INFERENCE
from utils.errors import ConfigError
from utils.weights import last_epoch_file


class Trained(NamedTuple):
    """A trained network."""

    config: Config
    weights: Path
    config_path: Path | None = None  # the training_info.yaml

    @property
    def _folders(self) -> list[Path]:
        return [self.weights.parent, *([self.config_path.parent] if self.config_path else [])]

    def shape(self) -> Shape:
        """Read the shape of the decoder's person. Raises WeightsError if it is unknown."""
        return read_shape(self.config, self._folders)

    def film(self) -> Film | None:
        """Read the film of the decoder's person; None if the run has none. Raises DataError if it is invalid."""
        path = next((folder / FILM_FILE for folder in self._folders if os.path.lexists(folder / FILM_FILE)), None)
        return None if path is None else read_film(path, self.config.trg_celeb_name)


Networks = dict[str, Trained]  # by module


def load_network(module: str, trained: Trained, x: nn.Variable) -> nn.Variable:
    """Build a network in evaluation mode, and load and name its weights. Raises WeightsError if they do not fit."""
    print(f"weights of the {module}: {trained.weights}")
    network = INFERENCE[module]
    output = network.evaluate(x, trained.config)
    network.load(trained.weights)
    return output


def find_trained(module: str, config_path: Path, param_file: Path | None = None) -> Trained:
    """Find a run's weights: `param_file`, else the best epoch by validation, else the last epoch.

    Weights are in the folder of the run's training_info.yaml, or in the log folder that it names. Raises ConfigError if
    the file cannot be read, WeightsError if there are no weights.
    """
    config = load_config(module, config_path)
    if param_file is not None:
        return Trained(config, param_file, config_path)
    run_folder = config.runs_folder / config.experiment_name
    folders = (config_path.parent, config.weights_folder(config_path.parent), config.weights_folder(run_folder))
    best = next((folder / BEST_FILE for folder in folders if (folder / BEST_FILE).is_file()), None)
    weights = best or last_epoch_file(list(dict.fromkeys(folders)), INFERENCE[module].weights_prefix)
    return Trained(config, weights, config_path)


def require_one_drawing(networks: Networks) -> None:
    """Check that all networks were trained on boundaries as they will get. Raises ConfigError if they were not."""
    for module, trained in networks.items():
        if "encoder" not in networks and getattr(trained.config, "boundary", "") == FROM_ENCODER:
            raise ConfigError(
                f"{trained.config_path}: the {module} was trained with 'boundary: encoder'; replace --landmarks by "
                "--encoder-config"
            )
    found = {trained.config_path: style_of(trained.config) for trained in networks.values()}
    if len(set(found.values())) > 1:
        words = ", ".join(f"{path} on '{drawing}'" for path, drawing in found.items())
        raise ConfigError(
            f"the networks were trained on different drawing styles: {words}; use networks of one style, or replace "
            "--encoder-config by --landmarks"
        )


def index_batches(count: int, batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Yield the indices 0..count-1 in batches, the last padded with its last index, and the number without padding."""
    for first in range(0, count, batch_size):
        indices = list(range(first, min(first + batch_size, count)))
        yield indices + [indices[-1]] * (batch_size - len(indices)), len(indices)
