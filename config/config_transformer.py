"""Keys of train_transformer.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.common import MAX_EPOCHS, MAX_PLANES, MAX_RATE, MAX_WEIGHT, OFF, GanConfig, GanTrainKeys, Preprocess, Weight
from config.keys import FOLDER_NAME, FOLDER_NAMES, FRACTION, Keys, above, between, even, key, one_of, section


@dataclass(frozen=True)
class Model(Keys):
    """Size of the networks."""

    planes: int = key(64, even(2, MAX_PLANES))  # base channels of generators and discriminators


@dataclass(frozen=True)
class CycleLoss(Weight):
    """Cycle loss."""

    lambda_: float = key(50.0, between(0, MAX_WEIGHT))  # factor in the sum of losses


@dataclass(frozen=True)
class ShapeLoss(Weight):
    """Shape loss."""

    lambda_: float = key(10.0, between(0, MAX_WEIGHT))  # 0: the shape prior is not needed
    align_param_path: str = key("./Align_40000.h5", path=True, free=True)  # heatmaps to landmarks
    PCA_param_path: str = key("./PCA_weights.h5", path=True, free=True)  # landmarks to the shape code


@dataclass(frozen=True)
class WarmStart(Keys):
    """Warm start, which is not part of the paper.

    Each generator is first trained to move its input's landmarks from this person's neutral face to the other's.
    Afterwards that loss keeps the weight `lambda`.
    """

    epochs: int = key(0, between(0, MAX_EPOCHS))  # epochs of its loss alone; 0 is off
    lr: float = key(1.0e-3, above(0, MAX_RATE))  # learning rate meanwhile
    # epoch after which its learning rate decreases linearly to 0; the default is never
    lr_decay_start_at: int = key(MAX_EPOCHS, between(0, MAX_EPOCHS))
    lambda_: float = key(1.0, between(0, MAX_WEIGHT))  # weight afterwards


@dataclass(frozen=True)
class Train(GanTrainKeys):
    """Keys of the training."""

    epochs: int = key(200, between(1, MAX_EPOCHS), free=True)  # passes over the data, with the warm start's
    lr: float = key(5.0e-5, above(0, MAX_RATE))  # of the generators; half of it for the discriminators
    beta2: float = key(0.999, FRACTION)  # of Adam
    weight_decay: float = key(1.0e-4, between(0, 1), null=0)  # of the discriminators
    edge_enhancement: bool = key(False)  # Sobel filters before the discriminators (the authors: on)
    cycle_loss: CycleLoss = section(CycleLoss, null=OFF)
    shape_loss: ShapeLoss = section(ShapeLoss, null=OFF)
    warm_start: WarmStart = section(WarmStart, null={"epochs": 0}, is_new=True)


@dataclass(frozen=True)
class TransformerConfig(GanConfig):
    """Configuration of the transformer."""

    MODULE = "transformer"

    src_celeb_name: str = key("Kathleen", FOLDER_NAME)  # A, the person whose motion drives
    # several sources instead, which share the generator to the target (the authors: four)
    src_celeb_names: tuple[str, ...] = key((), FOLDER_NAMES)
    norm_type: str = key("batch_norm", one_of("batch_norm", "instance_norm"))  # of the generators
    model: Model = section(Model, is_new=True)
    preprocess: Preprocess = section(Preprocess)
    train: Train = section(Train)

    @property
    def sources(self) -> tuple[str, ...]:
        """Return all sources."""
        return self.src_celeb_names or (self.src_celeb_name,)

    @property
    def people(self) -> tuple[str, ...]:
        """Return the people to train on."""
        return (*self.sources, self.trg_celeb_name)

    def suffix_of(self, source: str) -> str:
        """Return the suffix of a source's networks, files and losses; '' for a single source."""
        return f"_{source}" if len(self.src_celeb_names) > 1 else ""

    @property
    def runs_folder(self) -> Path:
        """Return the parent folder of runs with this configuration; several sources are joined by '+'."""
        return super().runs_folder / f"{'+'.join(self.sources)}2{self.trg_celeb_name}"
