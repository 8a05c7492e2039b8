"""Resuming: which run `--resume` means, and whether it is the same training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nnabla.logger import logger

from config import MODULE_KEY, Config, complete_config, require_trainable, to_dict
from config.common import PEOPLE_KEYS
from config.keys import is_free
from config.runs import INFO_FILE
from training.checkpoints import STATE_FILE, checkpoints_of, newest_checkpoint
from training.plan import Plan
from utils.errors import ConfigError, WeightsError, one_line
from utils.files import read_text, read_yaml


def find_run(wanted: str, config: Config) -> Path | None:
    """Find the run that --resume means: a folder, its training_info.yaml, or `auto` for the one saved last.

    What `auto` passes over, it says.

    Returns:
        None where `auto` finds no run with a checkpoint.

    Raises:
        ConfigError: there is no such run.
        WeightsError: there are runs with checkpoints, and none of them can be read.
    """
    if wanted != "auto":
        folder = Path(wanted).parent if Path(wanted).name == INFO_FILE else Path(wanted)
        if not (folder / INFO_FILE).is_file():
            raise ConfigError(f"--resume {wanted}: not a run (a folder with {INFO_FILE})")
        return folder
    parent = config.runs_folder
    saved = {folder: _saved_at(folder) for folder in sorted(parent.iterdir() if parent.is_dir() else ())}
    runs = sorted((folder for folder in saved if saved[folder] is not None), key=saved.get, reverse=True)
    runs = [folder for folder in runs if _is_of(folder, config)]
    # only the run that is chosen is read in full
    for folder in runs:
        try:
            newest_checkpoint(folder)
            return folder
        except WeightsError as error:
            logger.warning(f"passed over: {error}")
    if runs:
        raise WeightsError(
            f"{runs[0]}: no checkpoint of it, or of another run in {parent}, can be read; see the notes; mend "
            "or remove them, or begin anew without --resume"
        )
    return None


def _is_of(run_folder: Path, config: Config) -> bool:
    """Tell whether a run is of the same people; names can meet in a folder's, as A and 2B do with A2 and B."""
    try:
        found = read_yaml(run_folder / INFO_FILE)
    except (OSError, ValueError):
        return True  # whoever reads it says what is wrong
    wanted = to_dict(config)
    return not isinstance(found, dict) or all(found.get(key, wanted.get(key)) == wanted.get(key) for key in PEOPLE_KEYS)


def _saved_at(run_folder: Path) -> str | None:
    """Return when a run was saved last, by its checkpoints, else by their folders; None of what has no checkpoint."""
    times = []
    for checkpoint in checkpoints_of(run_folder):
        try:
            times.append(str(json.loads(read_text(checkpoint / STATE_FILE))["saved_at"]))
        except (OSError, ValueError, KeyError, TypeError):
            times.append(datetime.fromtimestamp(checkpoint.stat().st_mtime, timezone.utc).isoformat())
    return max(times, default=None)


def require_same(plan: Plan, folder: Path, state: dict[str, Any]) -> None:
    """Raise unless a checkpoint belongs to this training.

    Raises:
        ConfigError: with everything that differs.
    """
    module = plan.config.MODULE
    if state["module"] != module:
        raise ConfigError(f"{folder}: cannot be resumed: it is a run of the {state['module']}")
    # written by a version that may have had other keys
    before = complete_config(module, {MODULE_KEY: module, **state["config"]}, folder)
    require_trainable(state["config"], folder)
    differences = [
        f"{key} was {_short(old)}, is {_short(new)}"
        for key, old, new in _differences(to_dict(before), to_dict(plan.config))
        if not is_free(plan.config, key)
    ]
    now = {"batches_per_epoch": plan.batches_per_epoch, "processes": plan.communicator.size, "data": plan.data}
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
