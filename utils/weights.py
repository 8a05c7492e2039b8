"""Weights files: named float32 arrays in HDF5, checked in full before anybody gets to see them. Nothing of nnabla here.

A folder of weights has a list of SHA-256 sums (`sha256sum -c SHA256SUMS` reads it); what stands in it is
compared at each load. Files without a sum (published ones) are taken by their content alone.
"""

from __future__ import annotations

import csv
import errno
import os
import re
from pathlib import Path

import h5py
import numpy as np

from utils.errors import ResourceError, WeightsError, one_line, remedy
from utils.files import NotRegular, file_digest, read_text, write_text

MAX_LISTED = 8
# What HDF5 says where it cannot lock a file, and how to do without
UNLOCKABLE = {
    errno.EAGAIN: "locked: another process has it open to write; wait for that to end",
    errno.ENOLCK: "lies on a file system without locks",
    errno.ENOSYS: "lies on a file system without locks",
    errno.EOPNOTSUPP: "lies on a file system without locks",
}
HOW_UNLOCKED = "HDF5_USE_FILE_LOCKING=FALSE in the environment reads it all the same"
MAX_PACKED = 20  # times that compressed arrays may be larger than the file
SUMS_FILE = "SHA256SUMS"
MANIFESTS = Path(__file__).resolve().parent.parent / "models" / "parameters"


def read_manifest(network: str) -> dict[str, tuple[int, ...]]:
    """Read name and shape of each parameter of a network of full width, from `models/parameters/<network>.csv`."""
    with open(MANIFESTS / f"{network}.csv", newline="") as file:
        return {row["name"]: tuple(map(int, row["shape"].split("x"))) for row in csv.DictReader(file)}


def write_arrays(path: Path, arrays: dict[str, np.ndarray], need_grad: dict[str, bool] | None = None) -> None:
    """Write an HDF5 file of the form that nnabla's own functions read."""
    with h5py.File(path, "w", locking="best-effort") as file:  # nobody else knows of it yet
        for index, (name, array) in enumerate(arrays.items()):
            dataset = file.create_dataset(name, data=np.asarray(array, np.float32))
            dataset.attrs["need_grad"] = True if need_grad is None else need_grad[name]
            dataset.attrs["index"] = index


def read_parameters(path: str | Path, expected: dict[str, tuple[int, ...]] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of a weights file by name.

    Args:
        expected: names and shapes that it must have exactly; None takes what is there.

    Raises:
        WeightsError: the file is missing, foreign or damaged, or has other names, shapes or types, or values that are
            not finite.
        ResourceError: it is locked, or must not be read.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; train the network or download its weights")
    digest = read_sums(path.parent).get(path.name)
    if digest is not None and digest != file_digest(path):
        raise WeightsError(
            f"{path}: changed since it was saved (SHA-256); take another epoch's, "
            f"or remove {SUMS_FILE} to load it all the same"
        )
    try:
        with h5py.File(path, "r") as file:
            found = _datasets(file, path)
            if expected is not None:
                require_names(path, {name: dataset.shape for name, dataset in found.items()}, expected)
            else:
                _check_claims(path, found)
            arrays = {name: dataset[()] for name, dataset in found.items()}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        _require_access(path, getattr(error, "errno", None))
        raise WeightsError(f"{path}: not a complete HDF5 file ({_first_line(error)}); get it again") from None
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise WeightsError(f"{path}: values that are not finite in {listed(broken)}; get it again")
    return arrays


def _require_access(path: Path, number: int | None) -> None:
    """Raise a ResourceError if a system error (by its number) says nothing about what is in the file."""
    if number in UNLOCKABLE:
        raise ResourceError(f"{path}: {UNLOCKABLE[number]}; {HOW_UNLOCKED}") from None
    if number in (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE):
        raise ResourceError(f"{path}: cannot be read ({os.strerror(number)}){remedy(number)}") from None


def _datasets(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    """Find the plain float32 datasets that lie inside the file itself."""
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
                raise WeightsError(f"{path}: '{name}' is not an array; this is not a weights file")
            if item.external is not None or item.is_virtual:
                raise WeightsError(f"{path}: '{name}' lies outside the file; weights must lie in the file itself")
            if item.dtype != np.float32:
                raise WeightsError(f"{path}: '{name}' is {item.dtype} instead of float32; this is not a weights file")
            found[name] = item

    walk(file, "")
    if not found:
        raise WeightsError(f"{path}: no parameter in it")
    return found


def _check_claims(path: Path, found: dict[str, h5py.Dataset]) -> None:
    """Raise unless the arrays are about as large as the file; what a damaged one claims would fill the memory."""
    claimed = sum(dataset.size * dataset.dtype.itemsize for dataset in found.values())
    if claimed > MAX_PACKED * path.stat().st_size:
        raise WeightsError(f"{path}: claims {claimed / 2**30:.1f} GiB, more than is in it; get it again")


def require_names(path: Path, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise unless names and shapes are a network's.

    Raises:
        WeightsError: with the names that are missing, unknown or of another shape.
    """
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
    """Join the first names of a list, and say how many more there are."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _first_line(error: Exception) -> str:
    return one_line((str(error).strip() or type(error).__name__).splitlines()[0], 120)


def last_epoch_file(folders: list[Path], prefix: str) -> Path:
    """Find `<prefix><epoch>.h5` of the highest epoch, in the first folder that has one.

    Raises:
        WeightsError: none of the folders has one.
    """
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
    raise WeightsError(f"{tried}: no {prefix}<epoch>.h5 there; train the network, or name its file on the command line")


def read_sums(folder: Path) -> dict[str, str]:
    """Read a folder's SHA-256 sums by file name; empty without a list.

    Raises:
        WeightsError: the list cannot be read as one.
    """
    try:
        lines = read_text(folder / SUMS_FILE, "ascii").splitlines()
    except (FileNotFoundError, NotADirectoryError):
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
    """Write sums as the text of a list."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def set_sum(path: Path, digest: str | None) -> None:
    """Note a file's sum in its folder's list; None takes it out."""
    sums = read_sums(path.parent)
    if sums.get(path.name) == digest:
        return
    sums.pop(path.name, None)
    write_text(path.parent / SUMS_FILE, format_sums(sums if digest is None else {**sums, path.name: digest}))
