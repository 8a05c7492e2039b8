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
    of_type,
    one_of,
    section,
)
from utils.cli import CONTEXTS, MAX_BATCH, MAX_COUNT, MAX_DEVICE, MAX_SEED
from utils.parallel import MAX_WORKERS

MAX_PLANES = 256  # four times the paper's width; sixteen times its memory
MAX_EPOCHS = 1_000_000
MAX_RATE = 1e38
MAX_WEIGHT = 1_000_000  # the largest weight of a loss
CACHES = {"with_file_cache": of_type(bool), "with_memory_cache": of_type(bool)}  # of `test`: nothing is cached there
PUBLISHED, GAZE = DRAWINGS = ("published", "gaze")  # how boundaries are drawn (`datasets.boundary`)
PEOPLE_KEYS = ("src_celeb_name", "src_celeb_names", "trg_celeb_name")


@dataclass(frozen=True)
class Finetune(Keys):
    """Hold where a training begins."""

    param_path: str = key("", path=True, free=True)  # weights to start from; '' starts from scratch


@dataclass(frozen=True)
class TrainKeys(Keys):
    """Hold the `train` keys of every training."""

    WITHOUT_EFFECT = {"with_file_cache": of_type(bool)}

    shuffle: bool = key(True)
    augmentation: bool = key(False)  # turn, zoom, move and mirror faces and landmarks at random (the authors: on)
    with_memory_cache: bool = key(False, free=True)  # keep decoded samples in memory
    # processes that prepare batches ahead: 0 none, -1 one for each core but one, 8 at most
    num_workers: int = key(-1, between(-1, MAX_WORKERS), free=True)
    epochs: int = key(1, between(1, MAX_EPOCHS), free=True)
    batch_size: int = key(32, between(1, MAX_BATCH))
    lr: float = key(1.0e-3, above(0, MAX_RATE))


@dataclass(frozen=True)
class GanTrainKeys(TrainKeys):
    """Hold the `train` keys of transformer and decoder."""

    # batches on which the running statistics of saved weights are estimated; 0 leaves them as they are
    statistics_batches: int = key(40, between(0, MAX_COUNT))
    # save the generators' weights averaged over time: the share that stays in an update; 0 saves the newest
    average: float = key(0.0, FRACTION)
    beta1: float = key(0.5, FRACTION)


@dataclass(frozen=True)
class GanTest(Keys):
    """Hold the `test` keys of transformer and decoder."""

    WITHOUT_EFFECT = CACHES

    batch_size: int = key(1, between(1, 256))
    batch_stat: bool = key(False)  # normalise by the batch, not by running statistics (the authors: on)
    logdir: str = key("tmp.result", path=True)
    vis_interval: int = key(1, between(1, MAX_COUNT))


@dataclass(frozen=True)
class GanMonitor(Keys):
    """Hold the `monitor` keys of transformer and decoder."""

    interval: int = key(500, between(1, MAX_COUNT))  # iterations between loss values and sample pictures
    save_interval: int = key(10, between(1, MAX_COUNT))  # epochs between saved weights


@dataclass(frozen=True)
class Config(Keys):
    """Hold the keys of every training."""

    MODULE = ""  # encoder, transformer, decoder or shape_prior

    context: str = key("auto", one_of(*CONTEXTS), free=True)
    device_id: int = key(0, between(0, MAX_DEVICE), free=True)
    experiment_name: str = key("", FOLDER_NAME_OR_NONE, free=True)  # the run's name; '' names it by date and time
    seed: int = key(42, between(0, MAX_SEED))
    logdir: str = key("tmp.monitor", path=True, free=True)
    train_dir: str = key("datasets/CelebV", path=True, free=True)  # the folder that holds the people
    mode: str = key("all", one_of("all", "train", "test"))  # the annotation list to train on
    # published, or gaze: between pixels and with pupils; '' is as the data's folders say, gaze of people from videos
    drawing: str = key("", one_of("", *DRAWINGS))

    @property
    def runs_folder(self) -> Path:
        """Return the folder that runs like this one have in common."""
        return Path(self.logdir) / self.MODULE

    def weights_folder(self, run_folder: Path) -> Path:
        """Return the folder of the weights within a run's."""
        return run_folder


@dataclass(frozen=True)
class FacesConfig(Config):
    """Hold the keys of encoder and shape prior, which learn from WFLW or from people of CelebV's form."""

    dataset: str = key("WFLW", one_of("WFLW", "CelebV"))  # the data set to learn from
    celeb_names: tuple[str, ...] = key((), FOLDER_NAMES)  # CelebV only; [] is everyone found

    @property
    def people(self) -> tuple[str, ...]:
        """Return whose frames it learns from; nobody's of WFLW."""
        return self.celeb_names if self.dataset == "CelebV" else ()


@dataclass(frozen=True)
class GanConfig(Config):
    """Hold the keys of transformer and decoder."""

    trg_celeb_name: str = key("Donald_Trump", FOLDER_NAME)  # B, who is shown
    # the source of boundaries; encoder needs ref_dir (docs/PEOPLE.md)
    boundary: str = key("landmarks", one_of("landmarks", "encoder"))
    ref_dir: str = key("", path=True, free=True)  # prepared npz files; '' draws on the fly
    test: GanTest = section(GanTest, free=True)
    monitor: GanMonitor = section(GanMonitor, free=True)

    @property
    def people(self) -> tuple[str, ...]:
        """Return whose frames it learns from."""
        return (self.trg_celeb_name,)
