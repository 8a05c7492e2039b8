"""Checkpoints, from which a training continues exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from nnabla.logger import logger

from models.network import Network
from training.solver import Solver
from utils.errors import WeightsError
from utils.files import atomic_folder, file_digest, read_text, remove
from utils.weights import SUMS_FILE, format_sums, read_parameters, read_sums, write_arrays

CHECKPOINTS, STATE_FILE = "checkpoints", "state.json"


def save_checkpoint(
    folder: Path, networks: Iterable[Network], solvers: dict[str, Solver], state: dict[str, Any]
) -> None:
    """Write a checkpoint atomically.

    Networks are saved as `<name>.h5` in the format of published weights, the moments of solvers as `solver_<name>.h5`,
    and further values as JSON.
    """
    times = {name: {key: s.t for key, s in solver.adam.get_states().items()} for name, solver in solvers.items()}
    with atomic_folder(folder) as temporary:
        for network in networks:
            network.write(temporary / f"{network.name}.h5")
        for name, solver in solvers.items():
            write_arrays(temporary / f"solver_{name}.h5", _moments(solver))
        text = json.dumps({**state, "solver_times": times}, indent=1)
        (temporary / STATE_FILE).write_text(text + "\n", encoding="utf-8")
        sums = {path.name: file_digest(path) for path in temporary.iterdir()}
        (temporary / SUMS_FILE).write_text(format_sums(sums), encoding="ascii")


def _moments(solver: Solver) -> dict[str, np.ndarray]:
    """Return the solver's moments by `<parameter>:<moment>`."""
    states = solver.adam.get_states()
    return {f"{key}:{name}": part.d for key, state in states.items() for name, part in state.pstate.items()}


def read_state(folder: Path) -> dict[str, Any]:
    """Check a checkpoint's digests and read its state. Raises WeightsError if a file is missing or changed."""
    sums = read_sums(folder)
    if STATE_FILE not in sums:
        raise WeightsError(f"{folder}: incomplete checkpoint; remove it")
    for name, digest in sums.items():
        try:
            found = file_digest(folder / name)
        except FileNotFoundError:
            raise WeightsError(f"{folder}: incomplete checkpoint, {name} is missing; remove it") from None
        except OSError as error:
            raise WeightsError(f"{folder / name}: cannot be read ({error.strerror})") from None
        if found != digest:
            raise WeightsError(f"{folder / name}: changed since it was saved (SHA-256); remove the checkpoint")
    return json.loads(read_text(folder / STATE_FILE))


def load_checkpoint(folder: Path, networks: Iterable[Network], solvers: dict[str, Solver]) -> dict[str, Any]:
    """Restore networks and solvers; return the state. Raises WeightsError, with nothing changed, if it is invalid."""
    state = read_state(folder)
    parameters = {network.name: network.parameters() for network in networks}
    arrays = {
        name: read_parameters(folder / f"{name}.h5", {key: v.shape for key, v in variables.items()})
        for name, variables in parameters.items()
    }
    moments = {}
    for name, solver in solvers.items():
        path = folder / f"solver_{name}.h5"
        moments[name] = read_parameters(path, {key: array.shape for key, array in _moments(solver).items()})
        if set(state["solver_times"].get(name, {})) != set(solver.adam.get_states()):
            raise WeightsError(f"{folder / STATE_FILE}: belongs to another solver than {name}")
    for name, variables in parameters.items():
        for key, variable in variables.items():
            variable.d = arrays[name][key]
    for name, solver in solvers.items():
        states = solver.adam.get_states()
        for key, solver_state in states.items():
            solver_state.t = state["solver_times"][name][key]
            for part, variable in solver_state.pstate.items():
                variable.d = moments[name][f"{key}:{part}"]
        solver.adam.set_states(states)
    return state


def checkpoints_of(run_folder: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first."""
    root = run_folder / CHECKPOINTS
    found = root.iterdir() if root.is_dir() else ()
    return sorted(path for path in found if re.fullmatch("[0-9]{9,}", path.name) and path.is_dir())


def newest_checkpoint(run_folder: Path, note: Callable[[str], object] = logger.warning) -> tuple[Path, dict[str, Any]]:
    """Return the newest complete checkpoint and its state; damaged ones are noted. Raises WeightsError without one."""
    for checkpoint in reversed(checkpoints_of(run_folder)):
        try:
            return checkpoint, read_state(checkpoint)
        except WeightsError as error:
            note(f"{error}; trying the previous one")
    raise WeightsError(f"{run_folder}: no complete checkpoint; start a new run without --resume")


def remove_checkpoints(checkpoints: Iterable[Path]) -> None:
    """Remove checkpoints. The digests go first, so an interrupted removal leaves an invalid checkpoint."""
    for checkpoint in checkpoints:
        (checkpoint / SUMS_FILE).unlink(missing_ok=True)
        remove(checkpoint)
