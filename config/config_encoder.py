"""Keys of train_encoder.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.common import CACHES, MAX_EPOCHS, MAX_PLANES, SCRATCH, FacesConfig, Finetune, TrainKeys
from config.keys import FOLDER_NAME, Keys, between, even, key, of_type, one_of, only, section
from utils.cli import MAX_COUNT


@dataclass(frozen=True)
class WFLW(Keys):
    """Location of WFLW."""

    # WFLW only: output folder of preprocess.py
    data_dir: str = key("datasets/WFLW_heatmaps", path=True, free=True)


@dataclass(frozen=True)
class Model(Keys):
    """Size of the network."""

    WITHOUT_EFFECT = {
        "activation": of_type(str),  # the network has no output activation
        "output_nc": only(15, "the number of boundaries"),
    }

    planes: int = key(64, even(2, MAX_PLANES))  # base channels
    num_stacks: int = key(2, between(1, 8))  # hourglasses in a row


@dataclass(frozen=True)
class Train(TrainKeys):
    """Keys of the training."""

    epochs: int = key(500, between(1, MAX_EPOCHS), free=True)  # passes over the data
    # epoch after which the learning rate decreases linearly to 0; the default is never, as in the port
    lr_decay_start_at: int = key(MAX_EPOCHS, between(0, MAX_EPOCHS))
    weight_decay: float = key(1.0e-5, between(0, 1))  # L2 regularization


@dataclass(frozen=True)
class Test(Keys):
    """Validation and reenactment."""

    WITHOUT_EFFECT = CACHES

    batch_size: int = key(32, between(1, 256))  # for validation
    # reenactment: batch statistics instead of running statistics (the authors: on)
    batch_stat: bool = key(False)


@dataclass(frozen=True)
class Monitor(Keys):
    """Intervals of logs and weights."""

    interval: int = key(1, between(1, MAX_COUNT))  # epochs between sample images
    save_interval: int = key(10, between(1, MAX_COUNT))  # epochs between saved weights


@dataclass(frozen=True)
class EncoderConfig(FacesConfig):
    """Configuration of the encoder."""

    MODULE = "encoder"
    WITHOUT_EFFECT = {"loss": of_type(dict), "use_reference": of_type(bool)}

    model_name: str = key("model", FOLDER_NAME)  # folder of the weights within a run
    loss_name: str = key("mse", one_of("mse", "bce"))  # mean squared error, or cross entropy of a sigmoid
    path: WFLW = section(WFLW)
    # CelebV only: train (validation on test), or all (validation on all)
    mode: str = key("train", one_of("train", "all"))
    finetune: Finetune = section(Finetune, null=SCRATCH)
    model: Model = section(Model)
    train: Train = section(Train)
    test: Test = section(Test, free=True)
    monitor: Monitor = section(Monitor, free=True)

    @property
    def wflw_dir(self) -> Path:
        """Return the folder of WFLW's prepared files."""
        return Path(self.path.data_dir)

    def weights_folder(self, run_folder: Path) -> Path:
        """Return the folder of the weights of a run."""
        return run_folder / self.model_name
