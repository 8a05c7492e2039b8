"""Resuming: finding the run that `--resume` names, and checking that it is the same training."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnabla.logger import logger

from config import Config, complete_config, to_dict
from config.common import PEOPLE_KEYS
from config.keys import is_free
from config.runs import INFO_FILE
from training.checkpoints import STATE_FILE, checkpoints_of, newest_checkpoint
from utils.errors import ConfigError, WeightsError, one_line
from utils.files import read_text, read_yaml

if TYPE_CHECKING:
    from training.run import Run


def find_run(wanted: str, config: Config) -> Path | None:
    """Find the run that --resume names: a folder, its training_info.yaml, or `auto` for the run saved last.

    Returns None if `auto` finds no run with a checkpoint. Raises ConfigError if the run does not exist, WeightsError if
    no checkpoint can be read.
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
    for folder in runs:
        try:
            newest_checkpoint(folder)
            return folder
        except WeightsError as error:
            logger.warning(f"skipped: {error}")
    if runs:
        raise WeightsError(
            f"{runs[0]}: no checkpoint of a run in {parent} can be read; see the warnings; remove the damaged runs, "
            "or start a new one without --resume"
        )
    return None


def enter_origin(run_folder: Path, config: Config) -> Path:
    """Change to the folder in which a run was started, so that relative paths in its configuration are valid.

    That folder is known from the run's own path, also if both were moved. Returns the run's folder.
    """
    folder, below = Path(os.path.abspath(run_folder)), config.runs_folder.parts
    if config.runs_folder.is_absolute() or folder.parent.parts[-len(below) :] != below:
        return run_folder
    origin = Path(*folder.parent.parts[: -len(below)])
    if origin == Path.cwd():
        return run_folder
    logger.info(f"paths of the configuration are relative to {origin}, where the run was started; see --conf")
    os.chdir(origin)
    return folder


def _is_of(run_folder: Path, config: Config) -> bool:
    """Return whether a run has the same people; A to 2B and A2 to B share a folder."""
    try:
        found = read_yaml(run_folder / INFO_FILE)
    except (OSError, ValueError):
        return True  # reported when it is read
    wanted = to_dict(config)
    return not isinstance(found, dict) or all(found.get(key, wanted.get(key)) == wanted.get(key) for key in PEOPLE_KEYS)


def _saved_at(run_folder: Path) -> str | None:
    """Return the time of a run's last checkpoint; None if it has none."""
    times = []
    for checkpoint in checkpoints_of(run_folder):
        try:
            times.append(str(json.loads(read_text(checkpoint / STATE_FILE))["saved_at"]))
        except (OSError, ValueError, KeyError, TypeError):
            times.append(datetime.fromtimestamp(checkpoint.stat().st_mtime, timezone.utc).isoformat())
    return max(times, default=None)


def require_same(run: Run, state: dict[str, Any]) -> None:
    """Check that a checkpoint belongs to this training. Raises ConfigError with everything that differs."""
    folder, config = run.folder, run.config
    if state["module"] != config.MODULE:
        raise ConfigError(f"{folder}: cannot be resumed: it is a run of the {state['module']}")
    before = complete_config(config.MODULE, state["config"], folder)
    differences = [
        f"{key} was {_short(old)}, is {_short(new)}"
        for key, old, new in _differences(to_dict(before), to_dict(config))
        if not is_free(config, key)
    ]
    now = {"batches_per_epoch": run.batches_per_epoch, "processes": run.communicator.size, "data": run.data}
    then = {key: state[key] for key in now}
    differences += [f"{key} was {_short(old)}, is {_short(new)}" for key, old, new in _differences(then, now)]
    if differences:
        words = "; ".join(differences)
        if then["processes"] != now["processes"]:
            words += f"; start it with mpirun -n {then['processes']}"
        raise ConfigError(f"{folder}: cannot be resumed with other settings or data: {words}")
    if state["iteration"] > run.iterations_in_all:
        raise ConfigError(
            f"train.epochs: the run is past epoch {run.epochs_in_all}; {folder} is in epoch {state['epoch'] + 1}"
        )


def _short(value: Any) -> str:
    return one_line(repr(value), 60)


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
    elif old != new and not (prefix.startswith("data.") and prefix.endswith(".images") and not (old and new)):
        # the images' digest is unknown if only npz files are left
        yield prefix, old, new
