"""Training recipes: configuration, length, and number of processes of each module."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from config import complete_config
from people.work import Work
from utils.context import current_context
from utils.errors import ConfigError
from utils.files import locked, remove, write_yaml
from utils.steps import Step, has_mpi

WEIGHTS = Path(__file__).resolve().parent.parent / "demo" / "weights"
# weights in demo/weights to start from: folder and width
BASES = {"decoder": ("base", 12), "encoder": ("encoder", 8), "transformer": ("transformer", 8)}
RESIZE_LEVELS = 3  # as in the base; prevents comb artifacts (docs/TRAINING.md)
MIN_SHARE = 2  # samples per process; batch normalization of single samples costs more than 1 dB


def frames_per_epoch(work: Work, module: str, num_train: dict[str, int]) -> int:
    """Return the number of frames of an epoch."""
    if module == "decoder":
        return num_train[work.target]
    if module == "encoder":
        return num_train[work.source]
    return max(num_train.values()) if module == "transformer" else sum(num_train.values())


def config_of(work: Work, module: str, num_train: dict[str, int]) -> dict[str, Any]:
    """Return the configuration of a training, given the number of training frames by person.

    It starts from the weights in demo/weights if they have the same width. The decoder is trained without adversarial
    loss, the transformer mostly by its warm start (docs/PEOPLE.md).
    """
    quality = work.quality
    num_frames = frames_per_epoch(work, module, num_train)
    narrow = 2 * max(quality.planes // 3, 4)  # encoder and transformer need fewer channels

    def epochs(batch_size: int) -> int:
        return max(math.ceil(quality.iterations * batch_size / num_frames), 2)

    if module == "decoder":
        count = epochs(quality.batch_size)
        own = {"model": {"planes": quality.planes, "resize_levels": RESIZE_LEVELS, "dropout": 0}}
        train = {"batch_size": quality.batch_size, "lr": quality.lr, "lr_decay_start_at": count // 4}
        train |= {"epochs": count, "feature_loss": {"lambda": 0}, "gan_start_at": count}
        train["average"] = 0.99
        # at least twenty values of the losses
        monitor = {"interval": max(min(quality.iterations // 20, 200), 1), "save_interval": max(count // 8, 1)}
    elif module == "encoder":
        count = epochs(4)
        own = {"dataset": "CelebV", "model": {"planes": narrow}, "test": {"batch_size": 4}}
        train = {"batch_size": 4, "lr": 2e-3, "lr_decay_start_at": count // 4, "epochs": count, "weight_decay": 0}
        monitor = {"interval": max(count // 8, 1), "save_interval": max(count // 8, 1)}
    elif module == "shape_prior":
        own = {}
        train, monitor = {"epochs": 6, "batch_size": 16, "augmentation": False}, {}
    else:
        warm = max(epochs(2), 3)
        prior = work.run("shape_prior")
        paths = {"align_param_path": str(prior / "Align.h5"), "PCA_param_path": str(prior / "PCA.h5")}
        own = {"model": {"planes": narrow}}
        train = {"epochs": warm + 1, "batch_size": 2, "lr": 2e-5, "shape_loss": {"lambda": 1.0, **paths}}
        train |= {"warm_start": {"epochs": warm, "lr": 2e-3, "lr_decay_start_at": 0, "lambda": 500.0}, "average": 0.99}
        monitor = {"interval": 200, "save_interval": 1}
    base, base_planes = BASES.get(module, ("", 0))
    if own.get("model", {}).get("planes") == base_planes:
        own["finetune"] = {"param_path": str(WEIGHTS / base / "weights.h5")}
    return work.keys(module) | own | {"train": train, "monitor": monitor}


def plan_of(work: Work, module: str, num_train: dict[str, int]) -> tuple[dict[str, Any], int]:
    """Return a training's configuration and its number of processes.

    nnabla uses one CPU core, so a new training uses one process per core. A resumed one keeps its number.
    """
    config = config_of(work, module, num_train)
    whole = config["train"]["batch_size"]
    if work.done(module):
        processes = work.processes(module)
    else:
        most = work.cores if current_context() == "cpu" and has_mpi() else 1
        shares = [count for count in range(1, most + 1) if whole % count == 0 and whole // count >= MIN_SHARE]
        processes = max(shares, default=1)
    config["train"]["batch_size"] = whole // processes
    return config, processes


def total_iterations(work: Work, module: str, num_train: dict[str, int]) -> int:
    """Return the number of iterations of a training."""
    own, processes = plan_of(work, module, num_train)
    train = complete_config(module, own, work.folder).train
    return train.epochs * math.ceil(frames_per_epoch(work, module, num_train) / (processes * train.batch_size))


def announced(work: Work, module: str, num_train: dict[str, int]) -> str:
    """Describe a training in one line."""
    own, processes = plan_of(work, module, num_train)
    planes = f", {own['model']['planes']} base channels" if "model" in own else ""
    together = f", {processes} processes" if processes > 1 else ""
    total, done = total_iterations(work, module, num_train), work.done(module)
    return f"train the {module.replace('_', ' ')}{planes}{together}: {total} iterations, {done} done"


def training_steps(work: Work, module: str, num_train: dict[str, int]) -> list[Step]:
    """Return the step that starts or resumes a training; none if it is complete.

    Raises ConfigError if the training was started with several processes, and mpirun is missing.
    """
    config, processes = plan_of(work, module, num_train)
    if work.done(module) == total_iterations(work, module, num_train):
        return []
    args = ("--conf", work.conf(module))  # the work folder may have been moved
    if work.done(module):
        args += ("--resume", work.run(module))
        if processes > 1 and not has_mpi():
            raise ConfigError(
                f"{work.run(module)}: was started with {processes} processes, which require mpirun (docs/TRAINING.md); "
                "install it, or remove the folder to train again with one process"
            )
    elif work.run(module).exists():  # killed before its first checkpoint
        with locked(work.run(module)):
            pass
        remove(work.run(module))
    write_yaml(work.conf(module), config)
    return [Step(f"train the {module}", f"train_{module}.py", args, processes)]
