"""Parts of the configuration that several modules share, and the rules that say what a value may be."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from utils.cli import CONTEXTS, MAX_BATCH, MAX_COUNT, MAX_DEVICE, MAX_SEED
from utils.files import A_FOLDER_NAME, is_folder_name
from utils.parallel import MAX_WORKERS

MAX_PLANES = 256  # four times the paper's width; sixteen times its memory
MAX_EPOCHS = 1_000_000
MAX_WEIGHT = 1_000_000  # of a loss

# Every module's
HEAD = {
    "context": "auto",  # auto | cpu | cudnn
    "device_id": 0,
    "experiment_name": "",  # of the run; '' names it by date and time
    "seed": 42,
    "logdir": "tmp.monitor",
}
# Of those that train on people of CelebV's form
PEOPLE_HEAD = {
    **HEAD,
    "train_dir": "datasets/CelebV",  # the folder that holds the people
    "mode": "all",  # all | train | test: which annotation list is trained on
}
# Of the GANs
GAN_HEAD = {
    **PEOPLE_HEAD,
    "trg_celeb_name": "Donald_Trump",  # B, who is shown
    "boundary": "landmarks",  # landmarks | encoder: where boundaries come from; encoder needs ref_dir (docs/PEOPLE.md)
    "ref_dir": "",  # prepared npz files; '' draws on the fly
}
# Of the `train` section
LOADING = {
    "shuffle": True,
    "augmentation": False,  # turn, zoom, move and mirror faces and landmarks at random (the authors: on)
    "with_memory_cache": False,  # keep decoded samples in memory
    "num_workers": -1,  # processes that prepare batches ahead; 0 none, -1 one for each core but one, 8 at most
}
SAVED_WEIGHTS = {
    "statistics_batches": 40,  # that running statistics of saved weights are estimated on; 0 leaves them as they are
    "average": 0.0,  # saves the generators' weights averaged over time: the share that stays in an update; 0 the newest
}
GAN_TEST = {
    "batch_size": 1,
    "batch_stat": False,  # normalise by the batch, not by running statistics (the authors: on)
    "logdir": "tmp.result",
    "vis_interval": 1,
}
GAN_MONITOR = {
    "interval": 500,  # iterations between loss values and sample pictures
    "save_interval": 10,  # epochs between saved weights
}


class Rule(NamedTuple):
    """Say what a value may be: a test, and the words for it."""

    holds: Callable[[Any], bool]
    words: str


def between(minimum: float, maximum: float) -> Rule:
    """Allow numbers in a range, both ends included."""
    return Rule(lambda value: minimum <= value <= maximum, f"must be from {minimum} to {maximum}")


def above(minimum: float, maximum: float) -> Rule:
    """Allow numbers above a minimum, up to a maximum."""
    return Rule(lambda value: minimum < value <= maximum, f"must be above {minimum} and at most {maximum}")


def even(minimum: int, maximum: int) -> Rule:
    """Allow even numbers in a range."""
    words = f"must be an even number from {minimum} to {maximum}"
    return Rule(lambda value: minimum <= value <= maximum and value % 2 == 0, words)


def odd(maximum: int) -> Rule:
    """Allow odd numbers from 1 on."""
    return Rule(lambda value: 1 <= value <= maximum and value % 2 == 1, f"must be an odd number from 1 to {maximum}")


def folder_name(may_be_empty: bool = False) -> Rule:
    """Allow names that can be a folder's."""
    return Rule(lambda value: (may_be_empty and value == "") or is_folder_name(value), A_FOLDER_NAME)


def folder_names() -> Rule:
    """Allow lists of names that can be a folder's, none of them twice."""

    def holds(values: list[str]) -> bool:
        return len(set(values)) == len(values) and all(map(is_folder_name, values))

    return Rule(holds, "must be a list of names of folders, each at most once and without '/'")


def one_of(*choices: str) -> Rule:
    """Allow one of some words."""
    return Rule(lambda value: value in choices, f"must be one of {', '.join(choices)}")


def some_of(*choices: str) -> Rule:
    """Allow a list of some of the words, each at most once."""

    def holds(values: list[str]) -> bool:
        return 0 < len(values) == len(set(values)) and set(values) <= set(choices)

    return Rule(holds, f"must be a list of {', '.join(choices)}, each at most once")


def only(value: Any, reason: str) -> Rule:
    """Allow a single value."""
    return Rule(lambda given: given == value, f"must be {value} ({reason})")


def of_type(kind: type) -> Rule:
    """Allow any value of a type."""
    return Rule(lambda value: isinstance(value, kind), f"must be a {kind.__name__}")


def fraction() -> Rule:
    """Allow numbers from 0 to below 1."""
    return Rule(lambda value: 0 <= value < 1, "must be from 0 to below 1")


# Of keys that mean the same wherever they stand
_SHARED_RULES = {
    "context": one_of(*CONTEXTS),
    "device_id": between(0, MAX_DEVICE),
    "experiment_name": folder_name(may_be_empty=True),
    "seed": between(0, MAX_SEED),
    "mode": one_of("all", "train", "test"),
    "boundary": one_of("landmarks", "encoder"),
    "trg_celeb_name": folder_name(),
    "src_celeb_name": folder_name(),
    "src_celeb_names": folder_names(),
    "celeb_names": folder_names(),
    "model_name": folder_name(),
    "model.planes": between(1, MAX_PLANES),
    "train.epochs": between(1, MAX_EPOCHS),
    "train.batch_size": between(1, MAX_BATCH),
    "train.lr": above(0, 1e38),
    "train.beta1": fraction(),
    "train.beta2": fraction(),
    "train.weight_decay": between(0, 1),
    "train.num_workers": between(-1, MAX_WORKERS),
    "train.statistics_batches": between(0, MAX_COUNT),
    "train.average": fraction(),
    "test.batch_size": between(1, 256),
    "test.vis_interval": between(1, MAX_COUNT),
    "monitor.interval": between(1, MAX_COUNT),
    "monitor.save_interval": between(1, MAX_COUNT),
}
# Where a value is a path, '~' is the user's home.
PATH_KEYS = ("logdir", "train_dir", "ref_dir", "data_dir", "path.data_dir", "finetune.param_path", "test.logdir")
PATH_KEYS += ("train.shape_loss.align_param_path", "train.shape_loss.PCA_param_path")


def get(config: dict[str, Any], dotted_key: str) -> Any:
    """Look up a key such as `train.lr`.

    Raises:
        KeyError: there is no such key.
    """
    for part in dotted_key.split("."):
        config = config[part]
    return config


def has(config: dict[str, Any], dotted_key: str) -> bool:
    """Tell whether there is such a key."""
    try:
        get(config, dotted_key)
    except (KeyError, TypeError):
        return False
    return True


def expand_paths(config: dict[str, Any]) -> None:
    """Put the user's home in the place of '~' in values that are paths."""
    for dotted_key in PATH_KEYS:
        if has(config, dotted_key):
            *sections, key = dotted_key.split(".")
            section = get(config, ".".join(sections)) if sections else config
            section[key] = os.path.expanduser(section[key])


def shared_rules(config: dict[str, Any]) -> dict[str, Rule]:
    """Pick the shared rules of the keys that a configuration has."""

    return {key: rule for key, rule in _SHARED_RULES.items() if has(config, key)}


# Keys that published files carry and that decide nothing here, with what each may be
_CACHES = {
    f"{section}.with_{kind}_cache": of_type(bool)
    for section, kind in (("train", "file"), ("test", "file"), ("test", "memory"))
}
KEYS_WITHOUT_EFFECT: dict[str, dict[str, Rule]] = {
    "encoder": {
        **_CACHES,
        "loss": of_type(dict),
        "use_reference": of_type(bool),
        "model.activation": of_type(str),  # the network has no output activation, whatever stands there
        "model.output_nc": only(15, "the number of boundaries"),
    },
    "transformer": {**_CACHES, "preprocess.resize_size": only(64, "the networks' size")},
    "decoder": {**_CACHES, "isTrain": of_type(bool)},
    "shape_prior": {},
}
