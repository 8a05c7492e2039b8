"""Keys of train_transformer.py. A --conf file overrides single ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.common import MAX_EPOCHS, MAX_PLANES, MAX_RATE, MAX_WEIGHT, Finetune, GanConfig, GanTrainKeys
from config.keys import FOLDER_NAME, FOLDER_NAMES, FRACTION, Keys, above, between, even, key, odd, one_of, only, section


@dataclass(frozen=True)
class Model(Keys):
    """Hold the networks' size."""

    planes: int = key(64, even(2, MAX_PLANES))  # base channels of generators and discriminators


@dataclass(frozen=True)
class Preprocess(Keys):
    """Hold how boundaries are drawn where ref_dir is ''."""

    WITHOUT_EFFECT = {"resize_size": only(64, "the networks' size")}

    gaussian_kernel: int = key(5, odd(31))
    gaussian_sigma: float = key(3.0, above(0, 100))
    line_thickness: int = key(3, between(1, 64))


@dataclass(frozen=True)
class CycleLoss(Keys):
    """Hold the cycle loss's weight."""

    lambda_: float = key(50.0, between(0, MAX_WEIGHT))


@dataclass(frozen=True)
class ShapeLoss(Keys):
    """Hold the shape loss's keys."""

    lambda_: float = key(10.0, between(0, MAX_WEIGHT))  # 0 does without the prior
    align_param_path: str = key("./Align_40000.h5", path=True)
    PCA_param_path: str = key("./PCA_weights.h5", path=True)


@dataclass(frozen=True)
class WarmStart(Keys):
    """Hold the warm start's keys.

    Ours, not the paper's: first teach each generator its input's landmarks moved from this person's neutral face to
    the other's, and keep that loss at weight `lambda` afterwards.
    """

    epochs: int = key(0, between(0, MAX_EPOCHS))
    lr: float = key(1.0e-3, above(0, MAX_RATE))
    # epoch from which its rate falls linearly to 0; the default is never
    lr_decay_start_at: int = key(MAX_EPOCHS, between(0, MAX_EPOCHS))
    lambda_: float = key(1.0, between(0, MAX_WEIGHT))


@dataclass(frozen=True)
class Train(GanTrainKeys):
    """Hold the training's keys."""

    epochs: int = key(200, between(1, MAX_EPOCHS), free=True)
    lr: float = key(5.0e-5, above(0, MAX_RATE))  # the generators' rate; the discriminators' is half of it
    beta2: float = key(0.999, FRACTION)
    weight_decay: float = key(1.0e-4, between(0, 1))  # for the discriminators
    edge_enhancement: bool = key(False)  # discriminators see heatmaps through a Sobel pair (the authors: on)
    cycle_loss: CycleLoss = section(CycleLoss)
    shape_loss: ShapeLoss = section(ShapeLoss)
    warm_start: WarmStart = section(WarmStart)


@dataclass(frozen=True)
class TransformerConfig(GanConfig):
    """Hold the transformer's configuration."""

    MODULE = "transformer"

    src_celeb_name: str = key("Kathleen", FOLDER_NAME)  # A, whose motion drives
    # several people instead, who share the way to the target (the authors: four)
    src_celeb_names: tuple[str, ...] = key((), FOLDER_NAMES)
    norm_type: str = key("batch_norm", one_of("batch_norm", "instance_norm"))
    finetune: Finetune = section(Finetune)  # one file, which the generators of both directions begin from
    model: Model = section(Model)
    preprocess: Preprocess = section(Preprocess)
    train: Train = section(Train)

    @property
    def sources(self) -> tuple[str, ...]:
        """Return everyone who drives."""
        return self.src_celeb_names or (self.src_celeb_name,)

    @property
    def people(self) -> tuple[str, ...]:
        """Return whose frames it learns from."""
        return (*self.sources, self.trg_celeb_name)

    def suffix_of(self, source: str) -> str:
        """Return the ending of the names of a source's own networks, files and losses: '' of an only source."""
        return f"_{source}" if len(self.src_celeb_names) > 1 else ""

    @property
    def runs_folder(self) -> Path:
        """Return the folder that runs like this one have in common; several sources are joined by '+'."""
        return super().runs_folder / f"{'+'.join(self.sources)}2{self.trg_celeb_name}"
