"""Keys of train_decoder.py. A --conf file overrides single ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.common import MAX_EPOCHS, MAX_PLANES, MAX_RATE, MAX_WEIGHT, Finetune, GanConfig, GanTrainKeys
from config.keys import ANY, Keys, above, between, key, of_type, section, some_of
from models.vgg import LAYERS


@dataclass(frozen=True)
class Model(Keys):
    """Hold the networks' size."""

    planes: int = key(64, between(1, MAX_PLANES))  # base channels of generator and discriminator
    # outermost levels of the way up that double the size without deconvolution, against combs (docs/TRAINING.md)
    resize_levels: int = key(0, between(0, 8))
    dropout: float = key(0.5, between(0, 0.9))  # in training; 0 learns a person better from few frames


@dataclass(frozen=True)
class FeatureLoss(Keys):
    """Hold the feature loss's keys."""

    lambda_: float = key(10.0, between(0, MAX_WEIGHT))  # 0 does without VGG-16
    layers: tuple[str, ...] = key(("relu2_2", "relu3_3"), some_of(*LAYERS))  # any of relu1_1 to relu5_3


@dataclass(frozen=True)
class Discriminator(Keys):
    """Hold the discriminator's keys."""

    WITHOUT_EFFECT = {"blur": ANY}  # older runs have it, like detail_loss (DROPPED in config)

    lr_factor: float = key(1.0, above(0, 10))  # its rate as a share of the generator's


@dataclass(frozen=True)
class Train(GanTrainKeys):
    """Hold the training's keys."""

    WITHOUT_EFFECT = GanTrainKeys.WITHOUT_EFFECT | {"detail_loss": of_type(dict)}

    epochs: int = key(150, between(1, MAX_EPOCHS), free=True)
    lr: float = key(2.0e-4, above(0, MAX_RATE))
    lr_decay_start_at: int = key(100, between(0, MAX_EPOCHS))  # epoch from which the rate falls linearly to 0
    weight_L1: float = key(100.0, between(0, MAX_WEIGHT))
    feature_loss: FeatureLoss = section(FeatureLoss)
    discriminator: Discriminator = section(Discriminator)
    gan_start_at: int = key(0, between(0, MAX_EPOCHS))  # epochs before the adversarial loss; the paper's recipe has 0


@dataclass(frozen=True)
class DecoderConfig(GanConfig):
    """Hold the decoder's configuration."""

    MODULE = "decoder"
    WITHOUT_EFFECT = {"isTrain": of_type(bool)}

    finetune: Finetune = section(Finetune)
    model: Model = section(Model)
    train: Train = section(Train)

    @property
    def runs_folder(self) -> Path:
        """Return the folder that runs like this one have in common."""
        return super().runs_folder / self.trg_celeb_name
