"""Weights in HDF5 files of the published form, checked before anything in memory changes."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import nnabla as nn
import numpy as np

from utils.errors import WeightsError
from utils.files import atomic_path

MAX_LISTED = 8


def parameters_of(scope: str) -> dict[str, nn.Variable]:
    """All parameters below a scope, running statistics included, by their name in a file."""
    with nn.parameter_scope(scope):
        return nn.get_parameters(grad_only=False)


def save_parameters(path: str | Path, scope: str) -> None:
    """Write a network's parameters, running statistics included; the file is complete or not there."""
    with atomic_path(path) as temporary, nn.parameter_scope(scope):
        nn.save_parameters(str(temporary))


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
