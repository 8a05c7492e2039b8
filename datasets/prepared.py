"""Prepared npz files: one uint8 array a sample, under the sample's name."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from utils.errors import DataError


class PreparedFile:
    """Arrays of one npz, read one at a time.

    Raises:
        DataError: the file is missing, damaged, or holds something else; `command` says what would write it.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], command: str):
        self.path, self.shape, self.command = path, shape, command
        try:
            self._arrays = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise DataError(f"{path}: not there; run '{command}' first") from None
        except (zipfile.BadZipFile, ValueError, EOFError, OSError):
            raise DataError(f"{path}: not a complete npz file; remove it and run '{command}'") from None
        if not isinstance(self._arrays, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: not an npz file; remove it and run '{command}'")
        self.names: list[str] = self._arrays.files

    def require(self, names: Iterable[str]) -> None:
        missing = set(names) - set(self.names)
        if missing:
            raise DataError(
                f"{self.path}: lacks {len(missing)} samples of the list, {min(missing)} first; "
                f"run '{self.command}' again"
            )

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            array = self._arrays[name]
        except (zipfile.BadZipFile, ValueError, EOFError, OSError):
            raise DataError(f"{self.path}: '{name}' is damaged; remove it and run '{self.command}'") from None
        if array.shape != self.shape or array.dtype != np.uint8:
            raise DataError(
                f"{self.path}: '{name}' is {array.dtype} {array.shape} instead of uint8 {self.shape}; "
                f"remove it and run '{self.command}'"
            )
        return array


class PreparedWriter:
    """Writes an npz member by member; np.load reads it like one of np.savez_compressed."""

    def __init__(self, path: Path):
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def add(self, name: str, array: np.ndarray) -> None:
        with self._archive.open(f"{name}.npy", "w") as member:
            np.lib.format.write_array(member, array, allow_pickle=False)

    def close(self) -> None:
        self._archive.close()
