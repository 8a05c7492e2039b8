"""Weights in HDF5 files of the published form, and whole checkpoints; checked before anything in memory changes.

A folder of weights has a list of SHA-256 sums beside them (`sha256sum -c SHA256SUMS` reads it); what stands in it is
compared at each load. Files without a sum (published ones) are taken by their content alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import nnabla as nn
import nnabla.solvers as S
import numpy as np

from utils.errors import WeightsError
from utils.files import atomic_folder, atomic_path, file_digest, write_text

MAX_LISTED = 8
SUMS_FILE = "SHA256SUMS"
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
        _set_sum(path, None)  # a file never stands beside the sum of another
    _set_sum(path, digest)


def _write_parameters(path: Path, scope: str) -> None:
    parameters = parameters_of(scope)
    need_grad = {name: variable.need_grad for name, variable in parameters.items()}
    write_arrays(path, {name: variable.d for name, variable in parameters.items()}, need_grad)


def write_arrays(path: Path, arrays: dict[str, np.ndarray], need_grad: dict[str, bool] | None = None) -> None:
    """An HDF5 file of the form that nnabla's own functions read."""
    with h5py.File(path, "w") as file:
        for index, (name, array) in enumerate(arrays.items()):
            dataset = file.create_dataset(name, data=np.asarray(array, np.float32))
            dataset.attrs["need_grad"] = True if need_grad is None else need_grad[name]
            dataset.attrs["index"] = index


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


def read_parameters(path: str | Path, expected: dict[str, tuple[int, ...]] | None = None) -> dict[str, np.ndarray]:
    """Arrays of a weights file by name.

    Args:
        expected: names and shapes that it must have exactly; None takes what is there.

    Raises:
        WeightsError: see `load_parameters`.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; train the network or download its weights")
    digest = read_sums(path.parent).get(path.name)
    if digest is not None and digest != file_digest(path):
        raise WeightsError(
            f"{path}: other bytes than were saved (SHA-256); take another epoch's, "
            f"or remove {SUMS_FILE} to load it all the same"
        )
    try:
        with h5py.File(path, "r") as file:
            found = _datasets(file, path)
            if expected is not None:
                _compare(path, {name: dataset.shape for name, dataset in found.items()}, expected)
            arrays = {name: dataset[()] for name, dataset in found.items()}
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: not a complete HDF5 file ({_first_line(error)}); get it again") from None
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise WeightsError(f"{path}: values that are not finite in {_listed(broken)}; get it again")
    return arrays


def _datasets(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    """Plain float32 datasets that lie inside the file itself."""
    found: dict[str, h5py.Dataset] = {}

    def walk(group: h5py.Group, prefix: str) -> None:
        for key in group:
            name = prefix + key
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise WeightsError(f"{path}: '{name}' is a link; weights must lie in the file itself")
            item = group[key]
            if isinstance(item, h5py.Group):
                walk(item, name + "/")
                continue
            if not isinstance(item, h5py.Dataset):
                raise WeightsError(f"{path}: '{name}' is no array; this is no weights file")
            if item.external is not None or item.is_virtual:
                raise WeightsError(f"{path}: '{name}' lies outside the file; weights must lie in the file itself")
            if item.dtype != np.float32:
                raise WeightsError(f"{path}: '{name}' is {item.dtype} instead of float32; this is no weights file")
            found[name] = item

    walk(file, "")
    if not found:
        raise WeightsError(f"{path}: no parameter in it")
    return found


def _compare(path: Path, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    misshapen = [
        f"{name} {found[name]} instead of {expected[name]}"
        for name in expected
        if name in found and tuple(found[name]) != tuple(expected[name])
    ]
    problems = [
        f"{len(names)} {word}: {_listed(names)}"
        for word, names in (("missing", missing), ("unknown", extra), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise WeightsError(f"{path}: not the weights of this network; {'; '.join(problems)}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def last_epoch_file(folders: list[Path], prefix: str) -> Path:
    """`<prefix><epoch>.h5` of the highest epoch, in the first folder that has one.

    Raises:
        WeightsError: none of the folders has one.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.h5")
    for folder in folders:
        epochs = {}
        for path in folder.glob("*.h5") if folder.is_dir() else ():
            match = pattern.fullmatch(path.name)
            if match:
                epochs[int(match.group(1))] = path
        if epochs:
            return epochs[max(epochs)]
    tried = " or ".join(str(folder) for folder in folders)
    raise WeightsError(f"{tried}: no {prefix}<epoch>.h5 there; train the network, or name its file on the command line")


# Sums


def read_sums(folder: Path) -> dict[str, str]:
    """SHA-256 by file name; empty where there is no list.

    Raises:
        WeightsError: the list cannot be read as one.
    """
    try:
        lines = (folder / SUMS_FILE).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        lines = ["damaged"]
    sums = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line)
        if match is None:
            raise WeightsError(f"{folder / SUMS_FILE}: damaged; remove it to load weights unverified")
        sums[match.group(2)] = match.group(1)
    return sums


def _format_sums(sums: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def _set_sum(path: Path, digest: str | None) -> None:
    sums = read_sums(path.parent)
    if sums.get(path.name) == digest:
        return
    sums.pop(path.name, None)
    write_text(path.parent / SUMS_FILE, _format_sums(sums if digest is None else {**sums, path.name: digest}))


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
        (temporary / SUMS_FILE).write_text(_format_sums(sums), encoding="ascii")


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
