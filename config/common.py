"""Parts of the configuration that several modules share, and the rules that say what a value may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from utils.cli import CONTEXTS

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


def at_least(minimum: float) -> Rule:
    """Allow numbers from a minimum on."""
    return Rule(lambda value: value >= minimum, f"must be {minimum} or more")


def above(minimum: float) -> Rule:
    """Allow numbers above a minimum."""
    return Rule(lambda value: value > minimum, f"must be above {minimum}")


def even(minimum: int) -> Rule:
    """Allow even numbers from a minimum on."""
    return Rule(lambda value: value >= minimum and value % 2 == 0, f"must be an even number from {minimum}")


def odd() -> Rule:
    """Allow odd numbers from 1 on."""
    return Rule(lambda value: value >= 1 and value % 2 == 1, "must be an odd number from 1")


def one_of(*choices: str) -> Rule:
    """Allow one of some words."""
    return Rule(lambda value: value in choices, f"must be one of {', '.join(choices)}")


def some_of(*choices: str) -> Rule:
    """Allow a list of some of the words, each at most once."""

    def holds(values: list[str]) -> bool:
        return 0 < len(values) == len(set(values)) and set(values) <= set(choices)

    return Rule(holds, f"must be a list of {', '.join(choices)}, each at most once")


def different() -> Rule:
    """Allow lists in which no name is repeated."""
    return Rule(lambda values: len(set(values)) == len(values), "must not hold a name twice")


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
    "device_id": at_least(0),
    "seed": at_least(0),
    "mode": one_of("all", "train", "test"),
    "boundary": one_of("landmarks", "encoder"),
    "model.planes": at_least(1),
    "train.epochs": at_least(1),
    "train.batch_size": at_least(1),
    "train.lr": above(0),
    "train.num_workers": at_least(-1),
    "test.batch_size": at_least(1),
    "test.vis_interval": at_least(1),
    "monitor.interval": at_least(1),
    "monitor.save_interval": at_least(1),
}


def get(config: dict[str, Any], dotted_key: str) -> Any:
    """Look up a key such as `train.lr`.

    Raises:
        KeyError: there is no such key.
    """
    for part in dotted_key.split("."):
        config = config[part]
    return config


def shared_rules(config: dict[str, Any]) -> dict[str, Rule]:
    """Pick the shared rules of the keys that a configuration has."""

    def has(key: str) -> bool:
        try:
            get(config, key)
        except KeyError:
            return False
        return True

    return {key: rule for key, rule in _SHARED_RULES.items() if has(key)}


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
