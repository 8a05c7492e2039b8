"""Keys of train_decoder.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.common import MAX_EPOCHS, MAX_PLANES, MAX_RATE, MAX_WEIGHT, OFF, GanConfig, GanTrainKeys, Weight
from config.keys import Keys, above, between, key, of_type, section, some_of
from models.vgg import LAYERS


@dataclass(frozen=True)
class Model(Keys):
    """Size of the networks."""

    planes: int = key(64, between(1, MAX_PLANES))  # base channels of generator and discriminator
    # outermost decoder levels without deconvolution, against comb artifacts (docs/TRAINING.md)
    resize_levels: int = key(0, between(0, 8))
    dropout: float = key(0.5, between(0, 0.9))  # 0 is better with few frames


@dataclass(frozen=True)
class FeatureLoss(Weight):
    """Feature loss."""

    lambda_: float = key(10.0, between(0, MAX_WEIGHT))  # 0: VGG-16 is not needed
    layers: tuple[str, ...] = key(("relu2_2", "relu3_3"), some_of(*LAYERS))  # relu1_1 to relu5_3


@dataclass(frozen=True)
class Discriminator(Keys):
    """Discriminator."""

    lr_factor: float = key(1.0, above(0, 10))  # learning rate relative to the generator's


@dataclass(frozen=True)
class Train(GanTrainKeys):
    """Keys of the training."""

    epochs: int = key(150, between(1, MAX_EPOCHS), free=True)  # passes over the data
    lr: float = key(2.0e-4, above(0, MAX_RATE))  # of the generator; see discriminator for the other
    lr_decay_start_at: int = key(100, between(0, MAX_EPOCHS))  # epoch after which the rate decreases linearly to 0
    weight_L1: float = key(100.0, between(0, MAX_WEIGHT))  # weight of the pixel loss
    feature_loss: FeatureLoss = section(FeatureLoss, null=OFF)
    discriminator: Discriminator = section(Discriminator, is_new=True)
    gan_start_at: int = key(0, between(0, MAX_EPOCHS))  # epochs without the adversarial loss (the paper: 0)


@dataclass(frozen=True)
class DecoderConfig(GanConfig):
    """Configuration of the decoder."""

    MODULE = "decoder"
    WITHOUT_EFFECT = {"isTrain": of_type(bool)}

    model: Model = section(Model, is_new=True)
    train: Train = section(Train)

    @property
    def runs_folder(self) -> Path:
        """Return the parent folder of runs with this configuration."""
        return super().runs_folder / self.trg_celeb_name
