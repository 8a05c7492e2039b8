"""Keys that several trainings share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.keys import (
    FOLDER_NAME,
    FOLDER_NAME_OR_NONE,
    FOLDER_NAMES,
    FRACTION,
    Keys,
    above,
    between,
    key,
    odd,
    of_type,
    one_of,
    only,
    section,
)
from utils.cli import CONTEXTS, MAX_BATCH, MAX_COUNT, MAX_DEVICE, MAX_SEED
from utils.parallel import MAX_WORKERS

MAX_PLANES = 256  # four times the paper's width
MAX_EPOCHS = 1_000_000
MAX_RATE = 1e38
MAX_WEIGHT = 1_000_000  # largest weight of a loss
SCRATCH = {"param_path": ""}  # finetune: null
CACHES = {"with_file_cache": of_type(bool), "with_memory_cache": of_type(bool)}  # `test` keys without effect
PUBLISHED, GAZE = DRAWINGS = ("published", "gaze")  # drawing styles, see `datasets.boundary.DrawingStyle`
PEOPLE_KEYS = ("src_celeb_name", "src_celeb_names", "trg_celeb_name")


@dataclass(frozen=True)
class Finetune(Keys):
    """Initial weights."""

    param_path: str = key("", path=True, free=True)  # '' starts from scratch


@dataclass(frozen=True)
class TrainKeys(Keys):
    """`train` keys of all modules."""

    WITHOUT_EFFECT = {"with_file_cache": of_type(bool)}

    shuffle: bool = key(True)  # a new order each epoch; false keeps the list's
    augmentation: bool = key(False)  # random rotation, zoom, shift and mirroring (the authors: on)
    with_memory_cache: bool = key(False, free=True)  # keep decoded samples in memory
    # processes that prepare batches; -1 is the number of cores minus one, at most 8
    num_workers: int = key(-1, between(-1, MAX_WORKERS), free=True)
    epochs: int = key(1, between(1, MAX_EPOCHS), free=True)  # passes over the data
    batch_size: int = key(32, between(1, MAX_BATCH))  # samples per process and update
    lr: float = key(1.0e-3, above(0, MAX_RATE))  # learning rate of Adam


@dataclass(frozen=True)
class Weight(Keys):
    """Weight of a loss. 0 switches it off, as `null` instead of the section does."""

    lambda_: float = key(1.0, between(0, MAX_WEIGHT))  # factor in the sum of losses


OFF = {"lambda": 0}  # what `null` means


@dataclass(frozen=True)
class GanTrainKeys(TrainKeys):
    """`train` keys of transformer and decoder."""

    gan_loss: Weight = section(Weight, null=OFF, is_new=True)  # adversarial loss
    # batches from which running statistics of saved weights are estimated; 0 keeps the training's
    statistics_batches: int = key(40, between(0, MAX_COUNT))
    # decay of the average of the generators' weights, which is saved; 0 saves the newest weights
    average: float = key(0.0, FRACTION)
    beta1: float = key(0.5, FRACTION)  # of Adam; 0.5 is usual for GANs


@dataclass(frozen=True)
class GanTest(Keys):
    """`test` keys of transformer and decoder."""

    WITHOUT_EFFECT = CACHES

    batch_size: int = key(1, between(1, 256))  # samples per pass of the test scripts
    batch_stat: bool = key(False)  # batch statistics instead of running statistics (the authors: on)
    logdir: str = key("tmp.result", path=True)  # folder of the test scripts' panels
    vis_interval: int = key(1, between(1, MAX_COUNT))  # batches between panels


@dataclass(frozen=True)
class GanMonitor(Keys):
    """`monitor` keys of transformer and decoder."""

    interval: int = key(500, between(1, MAX_COUNT))  # iterations between loss values and sample images
    save_interval: int = key(10, between(1, MAX_COUNT))  # epochs between saved weights


@dataclass(frozen=True)
class Preprocess(Keys):
    """How boundaries are drawn, in pixels of a 256-pixel image. Prepared files must agree."""

    WITHOUT_EFFECT = {"resize_size": only(64, "the networks' size")}

    gaussian_kernel: int = key(5, odd(31))  # width of the blur
    gaussian_sigma: float = key(3.0, above(0, 100))  # of the blur
    line_thickness: int = key(3, between(1, 64))  # width of the lines


@dataclass(frozen=True)
class Config(Keys):
    """Keys of all modules."""

    MODULE = ""  # encoder, transformer, decoder or shape_prior

    context: str = key("auto", one_of(*CONTEXTS), free=True)  # where to compute; auto is the GPU if there is one
    device_id: int = key(0, between(0, MAX_DEVICE), free=True)  # number of the GPU
    experiment_name: str = key("", FOLDER_NAME_OR_NONE, free=True)  # name of the run; '' is date and time
    seed: int = key(42, between(0, MAX_SEED))  # of initial weights, order, augmentation and dropout
    logdir: str = key("tmp.monitor", path=True, free=True)  # folder of the runs
    train_dir: str = key("datasets/CelebV", path=True, free=True)  # folder of the people
    mode: str = key("all", one_of("all", "train", "test"))  # annotation list to train on
    # published, or gaze (subpixel, with pupils); '' is the style of the data's folders
    drawing: str = key("", one_of("", *DRAWINGS))
    preprocess: Preprocess = section(Preprocess, is_new=True)

    @property
    def runs_folder(self) -> Path:
        """Return the parent folder of runs with this configuration."""
        return Path(self.logdir) / self.MODULE

    def weights_folder(self, run_folder: Path) -> Path:
        """Return the folder of the weights of a run."""
        return run_folder


@dataclass(frozen=True)
class FacesConfig(Config):
    """Keys of encoder and shape prior, which train on WFLW or on people in CelebV's format."""

    dataset: str = key("WFLW", one_of("WFLW", "CelebV"))  # data set to train on
    celeb_names: tuple[str, ...] = key((), FOLDER_NAMES)  # CelebV only; [] is all people

    @property
    def people(self) -> tuple[str, ...]:
        """Return the people to train on; none for WFLW."""
        return self.celeb_names if self.dataset == "CelebV" else ()


@dataclass(frozen=True)
class GanConfig(Config):
    """Keys of transformer and decoder."""

    finetune: Finetune = section(Finetune, null=SCRATCH, is_new=True)  # of the generators
    trg_celeb_name: str = key("Donald_Trump", FOLDER_NAME)  # B, the person that is shown
    # origin of boundaries; encoder requires ref_dir (docs/PEOPLE.md)
    boundary: str = key("landmarks", one_of("landmarks", "encoder"))
    ref_dir: str = key("", path=True, free=True)  # folder of prepared npz files; '' draws on the fly
    test: GanTest = section(GanTest, free=True)
    monitor: GanMonitor = section(GanMonitor, free=True)

    @property
    def people(self) -> tuple[str, ...]:
        """Return the people to train on."""
        return (self.trg_celeb_name,)
