"""Weights files: named float32 arrays in HDF5, checked when they are read. This module does not need nnabla.

A folder of weights has a list of SHA-256 digests (`sha256sum -c SHA256SUMS` reads it), which are compared at each load.
Files without a digest, such as published ones, are checked by their content alone.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import h5py
import numpy as np

from utils.errors import WeightsError, is_of_system, one_line
from utils.files import NotRegular, file_digest, read_text, write_text

MAX_LISTED = 8
SUMS_FILE = "SHA256SUMS"
MANIFESTS = Path(__file__).resolve().parent.parent / "models" / "parameters"


def read_manifest(network: str) -> dict[str, tuple[int, ...]]:
    """Read names and shapes of a full-width network's parameters from `models/parameters/<network>.csv`."""
    with open(MANIFESTS / f"{network}.csv", newline="") as file:
        return {row["name"]: tuple(map(int, row["shape"].split("x"))) for row in csv.DictReader(file)}


def write_arrays(path: Path, arrays: dict[str, np.ndarray], need_grad: dict[str, bool] | None = None) -> None:
    """Write an HDF5 file in the format of nnabla."""
    with h5py.File(path, "w", locking="best-effort") as file:
        for index, (name, array) in enumerate(arrays.items()):
            dataset = file.create_dataset(name, data=np.asarray(array, np.float32))
            dataset.attrs["need_grad"] = True if need_grad is None else need_grad[name]
            dataset.attrs["index"] = index


def read_parameters(path: str | Path, expected: dict[str, tuple[int, ...]] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of a weights file by name. `expected` are required names and shapes; None accepts any.

    Raises WeightsError if the file is missing or damaged or does not fit, or values are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; train the network or download weights")
    digest = read_sums(path.parent).get(path.name)
    if digest is not None and digest != file_digest(path):
        raise WeightsError(
            f"{path}: changed since it was saved (SHA-256); use another epoch, or remove {SUMS_FILE} to load it anyway"
        )
    try:
        with h5py.File(path, "r") as file:
            found = _datasets(file, path)
            if expected is not None:
                require_names(path, {name: dataset.shape for name, dataset in found.items()}, expected)
            arrays = {name: dataset[()] for name, dataset in found.items()}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        if is_of_system(error):
            raise
        raise WeightsError(
            f"{path}: not a complete HDF5 file ({_first_line(error)}); download or save it again"
        ) from None
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise WeightsError(f"{path}: values are not finite in {listed(broken)}; download or save it again")
    return arrays


def _datasets(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    """Return the float32 datasets of a file. Links to other files are refused."""
    found: dict[str, h5py.Dataset] = {}

    def walk(group: h5py.Group, prefix: str) -> None:
        for key in group:
            name = prefix + key
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise WeightsError(f"{path}: '{name}' is a link; weights must be in the file itself")
            item = group[key]
            if isinstance(item, h5py.Group):
                walk(item, name + "/")
                continue
            if not isinstance(item, h5py.Dataset):
                raise WeightsError(f"{path}: '{name}' is not an array; this is not a weights file")
            if item.external is not None or item.is_virtual:
                raise WeightsError(f"{path}: '{name}' is outside the file; weights must be in the file itself")
            if item.dtype != np.float32:
                raise WeightsError(f"{path}: '{name}' is {item.dtype} instead of float32; this is not a weights file")
            found[name] = item

    walk(file, "")
    if not found:
        raise WeightsError(f"{path}: no parameters")
    return found


def require_names(path: Path, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    """Compare names and shapes with those of a network. Raises WeightsError with all differences."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    misshapen = [
        f"{name} {found[name]} instead of {expected[name]}"
        for name in expected
        if name in found and tuple(found[name]) != tuple(expected[name])
    ]
    problems = [
        f"{len(names)} {word}: {listed(names)}"
        for word, names in (("missing", missing), ("unknown", extra), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise WeightsError(f"{path}: not the weights of this network; {'; '.join(problems)}")


def listed(names: list[str]) -> str:
    """Join the first names of a list and the number of the others."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _first_line(error: Exception) -> str:
    return one_line((str(error).strip() or type(error).__name__).splitlines()[0], 120)


def last_epoch_file(folders: list[Path], prefix: str) -> Path:
    """Return `<prefix><epoch>.h5` of the last epoch in the first folder with one. Raises WeightsError if none has."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.h5")
    for folder in folders:
        epochs = {}
        for path in folder.glob("*.h5") if folder.is_dir() else ():
            match = pattern.fullmatch(path.name)
            if match and path.is_file():
                epochs[int(match.group(1))] = path
        if epochs:
            return epochs[max(epochs)]
    tried = " or ".join(str(folder) for folder in folders)
    raise WeightsError(f"{tried}: no {prefix}<epoch>.h5; train the network, or pass its weights file")


def read_sums(folder: Path) -> dict[str, str]:
    """Read a folder's SHA-256 digests by file name, if any. Raises WeightsError if the list is damaged."""
    try:
        lines = read_text(folder / SUMS_FILE, "ascii").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        if (folder / SUMS_FILE).is_symlink():
            raise WeightsError(f"{folder / SUMS_FILE}: a broken link; restore or remove it") from None
        return {}
    except (UnicodeDecodeError, NotRegular, IsADirectoryError):
        lines = ["damaged"]
    sums = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line)
        if match is None:
            raise WeightsError(f"{folder / SUMS_FILE}: damaged; remove it to load weights unverified")
        sums[match.group(2)] = match.group(1)
    return sums


def format_sums(sums: dict[str, str]) -> str:
    """Format digests as the text of a list."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def set_sum(path: Path, digest: str | None) -> None:
    """Record a file's digest in its folder's list; None removes it."""
    sums = read_sums(path.parent)
    if sums.get(path.name) == digest:
        return
    sums.pop(path.name, None)
    write_text(path.parent / SUMS_FILE, format_sums(sums if digest is None else {**sums, path.name: digest}))
