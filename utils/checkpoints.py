"""Networks' parameters from and to weights files, and whole checkpoints; checked before anything in memory changes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nnabla as nn
import nnabla.solvers as S
import numpy as np

from utils.errors import WeightsError
from utils.files import atomic_folder, atomic_path, file_digest
from utils.weights import SUMS_FILE, format_sums, read_parameters, read_sums, set_sum, write_arrays

STATE_FILE = "state.json"


def parameters_of(scope: str) -> dict[str, nn.Variable]:
    """All parameters below a scope, running statistics included, by their name in a file."""
    with nn.parameter_scope(scope):
        return nn.get_parameters(grad_only=False)


def save_parameters(path: str | Path, scope: str) -> None:
    """Write a network's parameters, running statistics included; the file is complete or not there."""
    path = Path(path)
    with atomic_path(path) as temporary:
        _write_parameters(temporary, scope)
        digest = file_digest(temporary)
        set_sum(path, None)  # a file never stands beside the sum of another
    set_sum(path, digest)


def _write_parameters(path: Path, scope: str) -> None:
    parameters = parameters_of(scope)
    need_grad = {name: variable.need_grad for name, variable in parameters.items()}
    write_arrays(path, {name: variable.d for name, variable in parameters.items()}, need_grad)


def load_parameters(path: str | Path, scope: str) -> None:
    """Fill every parameter of a network that was built under `scope`.

    Raises:
        WeightsError: the file is missing, foreign or damaged, or lacks a parameter, has one too many, or one of
            another shape or type or with values that are not finite. The network is then as it was.
    """
    expected = parameters_of(scope)
    arrays = read_parameters(path, {name: variable.shape for name, variable in expected.items()})
    for name, array in arrays.items():
        expected[name].d = array


# Checkpoints


def save_checkpoint(folder: Path, scopes: Iterable[str], solvers: dict[str, S.Solver], state: dict[str, Any]) -> None:
    """Everything that a training needs to go on exactly; the folder is complete or not there.

    Args:
        scopes: networks, saved as `<scope>.h5` in the published form.
        solvers: by name; their moments are saved as `solver_<name>.h5`.
        state: further values that JSON holds.
    """
    times = {name: {key: s.t for key, s in solver.get_states().items()} for name, solver in solvers.items()}
    with atomic_folder(folder) as temporary:
        for scope in scopes:
            _write_parameters(temporary / f"{scope}.h5", scope)
        for name, solver in solvers.items():
            write_arrays(temporary / f"solver_{name}.h5", _moments(solver))
        text = json.dumps({**state, "solver_times": times}, indent=1)
        (temporary / STATE_FILE).write_text(text + "\n", encoding="utf-8")
        sums = {path.name: file_digest(path) for path in temporary.iterdir()}
        (temporary / SUMS_FILE).write_text(format_sums(sums), encoding="ascii")


def _moments(solver: S.Solver) -> dict[str, np.ndarray]:
    """The solver's arrays as `<parameter>:<moment>`."""
    states = solver.get_states()
    return {f"{key}:{name}": part.d for key, state in states.items() for name, part in state.pstate.items()}


def read_state(folder: Path) -> dict[str, Any]:
    """The values of a checkpoint, after every file of it was compared with its sum.

    Raises:
        WeightsError: a file is missing, changed or strange.
    """
    sums = read_sums(folder)
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if STATE_FILE not in sums or found != {*sums, SUMS_FILE}:
        raise WeightsError(f"{folder}: no complete checkpoint; remove it")
    for name, digest in sums.items():
        if file_digest(folder / name) != digest:
            raise WeightsError(f"{folder / name}: other bytes than were saved (SHA-256); remove the checkpoint")
    return json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))


def load_checkpoint(folder: Path, scopes: Iterable[str], solvers: dict[str, S.Solver]) -> dict[str, Any]:
    """Fill networks and solvers; gives the values that were saved with them.

    Raises:
        WeightsError: the checkpoint is damaged, or of other networks or solvers. Nothing has changed then.
    """
    state = read_state(folder)
    parameters = {scope: parameters_of(scope) for scope in scopes}
    arrays = {
        scope: read_parameters(folder / f"{scope}.h5", {name: v.shape for name, v in variables.items()})
        for scope, variables in parameters.items()
    }
    moments = {}
    for name, solver in solvers.items():
        path = folder / f"solver_{name}.h5"
        moments[name] = read_parameters(path, {key: array.shape for key, array in _moments(solver).items()})
        if set(state["solver_times"].get(name, {})) != set(solver.get_states()):
            raise WeightsError(f"{folder / STATE_FILE}: not of this solver ({name})")
    # from here on nothing can fail
    for scope, variables in parameters.items():
        for name, variable in variables.items():
            variable.d = arrays[scope][name]
    for name, solver in solvers.items():
        states = solver.get_states()
        for key, solver_state in states.items():
            solver_state.t = state["solver_times"][name][key]
            for part, variable in solver_state.pstate.items():
                variable.d = moments[name][f"{key}:{part}"]
        solver.set_states(states)
    return state
