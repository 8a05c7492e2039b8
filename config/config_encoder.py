"""Keys of train_encoder.py. A --conf file overrides single ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.common import CACHES, MAX_EPOCHS, MAX_PLANES, FacesConfig, Finetune, TrainKeys
from config.keys import FOLDER_NAME, Keys, between, even, key, of_type, one_of, only, section
from utils.cli import MAX_COUNT


@dataclass(frozen=True)
class WFLW(Keys):
    """Hold where WFLW lies."""

    # WFLW only: the folder that preprocess.py wrote
    data_dir: str = key("datasets/WFLW_heatmaps", path=True, free=True)


@dataclass(frozen=True)
class Model(Keys):
    """Hold the network's size."""

    WITHOUT_EFFECT = {
        "activation": of_type(str),  # the network has no output activation, whatever is named here
        "output_nc": only(15, "the number of boundaries"),
    }

    planes: int = key(64, even(2, MAX_PLANES))  # base channels
    num_stacks: int = key(2, between(1, 8))


@dataclass(frozen=True)
class Train(TrainKeys):
    """Hold the training's keys."""

    epochs: int = key(500, between(1, MAX_EPOCHS), free=True)
    # epoch from which the rate falls linearly to 0; the default is never, as in the port
    lr_decay_start_at: int = key(MAX_EPOCHS, between(0, MAX_EPOCHS))
    weight_decay: float = key(1.0e-5, between(0, 1))


@dataclass(frozen=True)
class Test(Keys):
    """Hold the keys of validation and reenactment."""

    WITHOUT_EFFECT = CACHES

    batch_size: int = key(32, between(1, 256))  # for validation
    # reenactment: normalise by the batch, not by running statistics (the authors: on)
    batch_stat: bool = key(False)


@dataclass(frozen=True)
class Monitor(Keys):
    """Hold how often something is written."""

    interval: int = key(1, between(1, MAX_COUNT))  # epochs between sample pictures
    save_interval: int = key(10, between(1, MAX_COUNT))  # epochs between saved weights


@dataclass(frozen=True)
class EncoderConfig(FacesConfig):
    """Hold the encoder's configuration."""

    MODULE = "encoder"
    WITHOUT_EFFECT = {"loss": of_type(dict), "use_reference": of_type(bool)}

    model_name: str = key("model", FOLDER_NAME)  # the folder of the weights within a run
    loss_name: str = key("mse", one_of("mse", "bce"))
    path: WFLW = section(WFLW)
    # CelebV only: train, validated on test; or all, validated on the same
    mode: str = key("train", one_of("train", "all"))
    finetune: Finetune = section(Finetune)
    model: Model = section(Model)
    train: Train = section(Train)
    test: Test = section(Test, free=True)
    monitor: Monitor = section(Monitor, free=True)

    @property
    def wflw_dir(self) -> Path:
        """Return the folder of WFLW's prepared files."""
        return Path(self.path.data_dir)

    def weights_folder(self, run_folder: Path) -> Path:
        """Return the folder of the weights within a run's."""
        return run_folder / self.model_name
