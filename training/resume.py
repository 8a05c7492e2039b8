"""Resuming: which run `--resume` means, and whether it is the same training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from config import complete_config
from config.runs import INFO_FILE, run_parent
from training.checkpoints import STATE_FILE, checkpoints_of, newest_checkpoint
from training.plan import Plan
from utils.errors import ConfigError, WeightsError, one_line

# Keys that a resumed run may change: none of them changes what an iteration computes.
# Where data lies may change, too: what it is, is compared by itself.
FREE_KEYS = ("experiment_name", "context", "device_id", "logdir", "train_dir", "ref_dir")
FREE_KEYS += ("path.data_dir", "finetune.param_path")
FREE_KEYS += ("train.epochs", "train.num_workers", "train.with_memory_cache")
FREE_SECTIONS = ("monitor.", "test.")


def find_run(wanted: str, module: str, config: dict[str, Any]) -> Path | None:
    """Find the run that --resume means: a folder, its training_info.yaml, or `auto` for the one saved last.

    Returns:
        None where `auto` finds no run with a checkpoint.

    Raises:
        ConfigError: there is no such run.
    """
    if wanted != "auto":
        folder = Path(wanted).parent if Path(wanted).name == INFO_FILE else Path(wanted)
        if not (folder / INFO_FILE).is_file():
            raise ConfigError(f"--resume {wanted}: not a run (a folder with {INFO_FILE})")
        return folder
    parent = run_parent(module, config)
    saved = {}
    for folder in parent.iterdir() if parent.is_dir() else ():
        for checkpoint in checkpoints_of(folder):
            with suppress(OSError, ValueError, KeyError):
                saved[json.loads((checkpoint / STATE_FILE).read_text())["saved_at"]] = folder
    # only the run that is chosen is read in full
    for _, folder in sorted(saved.items(), reverse=True):
        with suppress(WeightsError):
            newest_checkpoint(folder, note=lambda _: None)
            return folder
    return None


def require_same(plan: Plan, folder: Path, state: dict[str, Any]) -> None:
    """Raise unless a checkpoint belongs to this training.

    Raises:
        ConfigError: with everything that differs.
    """
    if state["module"] != plan.module:
        raise ConfigError(f"{folder}: cannot be resumed: it is a run of the {state['module']}")
    before = complete_config(plan.module, state["config"], folder)  # of a version that may have had other keys
    differences = [
        f"{key} was {_short(old)}, is {_short(new)}"
        for key, old, new in _differences(before, plan.config)
        if key not in FREE_KEYS and not key.startswith(FREE_SECTIONS)
    ]
    communicator = plan.updater.communicator
    now = {"batches_per_epoch": plan.batches_per_epoch, "processes": communicator.size, "data": plan.data}
    then = {key: state[key] for key in now}
    differences += [f"{key} was {_short(old)}, is {_short(new)}" for key, old, new in _differences(then, now)]
    if differences:
        raise ConfigError(f"{folder}: cannot be resumed with other settings or data: {'; '.join(differences)}")
    if state["iteration"] > plan.iterations:
        raise ConfigError(f"train.epochs: {plan.epochs} are over already; {folder} is in epoch {state['epoch'] + 1}")


def _short(value: Any) -> str:
    return one_line(repr(value), 60)


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
    elif old != new and not (prefix.startswith("data.") and prefix.endswith(".images") and not (old and new)):
        # an older version's checkpoints say nothing of pictures, and npz files can be all that is left of them
        yield prefix, old, new
