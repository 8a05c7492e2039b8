"""Keys of train_shape_prior.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.common import MAX_EPOCHS, FacesConfig, TrainKeys
from config.keys import Keys, between, key, one_of, section
from utils.cli import MAX_BATCH, MAX_COUNT


@dataclass(frozen=True)
class Train(TrainKeys):
    """Keys of the training."""

    WITHOUT_EFFECT = {}  # no published file is of it

    augmentation: bool = key(True)  # random rotation, zoom and shift
    epochs: int = key(20, between(1, MAX_EPOCHS), free=True)  # passes over the data
    batch_size: int = key(32, between(2, MAX_BATCH))  # samples per process and update


@dataclass(frozen=True)
class Monitor(Keys):
    """Intervals of logs and weights."""

    interval: int = key(100, between(1, MAX_COUNT))  # iterations between loss values


@dataclass(frozen=True)
class ShapePriorConfig(FacesConfig):
    """Configuration of the shape prior. For WFLW, mode is train or test."""

    MODULE = "shape_prior"

    dataset: str = key("CelebV", one_of("CelebV", "WFLW"))  # data set to train on
    # WFLW only: output folder of preprocess.py
    data_dir: str = key("datasets/WFLW_heatmaps", path=True, free=True)
    train: Train = section(Train)
    monitor: Monitor = section(Monitor, free=True)

    @property
    def wflw_dir(self) -> Path:
        """Return the folder of WFLW's prepared files."""
        return Path(self.data_dir)
