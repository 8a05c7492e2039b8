"""Prepared npz files with one array per sample, and a record of their origin.

`np.load` reads them. Arrays are compressed by the workers that compute them, with zlib-ng, which is several times
faster than zlib on heatmaps.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from zlib_ng import zlib_ng

from utils.errors import DataError, is_of_system
from utils.files import atomic_path, file_digest, open_file, read_yaml, write_yaml
from utils.sampling import evenly

RAW_DEFLATE = -15  # zlib's wbits of a raw stream, as in zip files
COMPRESSION_LEVEL = 1
RECORD_ENDING = "_prepared.yaml"
MAX_READ = 1000  # images whose content is digested
WHY_STALE = {
    "list": "the annotation list has changed",
    "images": "the images have changed",
    "batch_statistics_of": "the encoder's batch size has changed",
}


class Packed(NamedTuple):
    """A compressed array."""

    data: bytes
    size: int  # bytes before compression
    checksum: int


def pack(array: np.ndarray) -> Packed:
    """Compress an array for an npz file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    plain = buffer.getbuffer()
    data = zlib_ng.compress(plain, COMPRESSION_LEVEL, RAW_DEFLATE)
    return Packed(data, len(plain), zlib_ng.crc32(plain))


class PreparedWriter:
    """Writer of an npz file of packed arrays."""

    def __init__(self, path: Path):
        self._file = open(path, "wb")  # noqa: SIM115, closed by finish()
        self._members: list[zipfile.ZipInfo] = []

    def add(self, name: str, packed: Packed) -> None:
        """Append an array."""
        # zipfile cannot append compressed data
        info = zipfile.ZipInfo(f"{name}.npy")
        info.compress_type = zipfile.ZIP_DEFLATED
        info.CRC, info.file_size, info.compress_size = packed.checksum, packed.size, len(packed.data)
        info.header_offset = self._file.tell()
        self._file.write(info.FileHeader())
        self._file.write(packed.data)
        self._members.append(info)

    def finish(self) -> None:
        """Write the directory of the archive."""
        with zipfile.ZipFile(self._file, "w") as archive:  # continues at the current position
            archive.filelist = self._members
        self._file.close()


class PreparedFile:
    """Random access to the arrays of an npz file, from any number of processes that share the open file.

    `command` writes the file, for messages. Raises DataError if it is missing, damaged or does not fit.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], command: str, dtype: type = np.uint8):
        self.path, self.shape, self.command, self.dtype = path, shape, command, np.dtype(dtype)
        try:
            with open_file(path) as file, zipfile.ZipFile(file) as archive:
                members = archive.infolist()
        except FileNotFoundError:
            raise DataError(f"{path}: missing; run '{command}' first") from None
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, struct.error, NotImplementedError) as error:
            if is_of_system(error):
                raise
            raise DataError(f"{path}: not a complete npz file; remove it and run '{command}'") from None
        self._members = {info.filename.removesuffix(".npy"): info for info in members}
        self.names: list[str] = list(self._members)
        self._file = open_file(path)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": self.dtype.str, "fortran_order": False, "shape": shape})
        self._usual_header = header.getvalue()
        # headers of other writers may be longer
        self._max_bytes = math.prod(shape) * self.dtype.itemsize + 4096

    def digest(self) -> str:
        """Return a digest of all names and checksums, without reading arrays."""
        lines = (f"{name} {info.CRC} {info.file_size}\n" for name, info in self._members.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def require(self, names: Iterable[str]) -> None:
        """Raise a DataError if an array is missing."""
        missing = [name for name in names if name not in self._members]
        if missing:
            raise DataError(
                f"{self.path}: lacks {len(missing)} samples of the list, e.g. {missing[0]}; run '{self.command}' again"
            )

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            array = self._decode(self._read(self._members[name]))
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, struct.error, zlib_ng.error, SyntaxError) as error:
            if is_of_system(error):
                raise
            raise DataError(f"{self.path}: '{name}' is damaged; remove it and run '{self.command}'") from None
        if array.shape != self.shape or array.dtype != self.dtype:
            raise DataError(
                f"{self.path}: '{name}' is {array.dtype} {array.shape} instead of {self.dtype} {self.shape}; "
                f"remove it and run '{self.command}'"
            )
        return array

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        if max(info.file_size, info.compress_size) > self._max_bytes:
            raise zipfile.BadZipFile("array too large")
        # processes that share an open file also share its position
        local_header = os.pread(self._file.fileno(), zipfile.sizeFileHeader, info.header_offset)
        *_, name_length, extra_length = struct.unpack(zipfile.structFileHeader, local_header)
        start = info.header_offset + zipfile.sizeFileHeader + name_length + extra_length
        data = os.pread(self._file.fileno(), info.compress_size, start)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            # with a buffer of the exact size, zlib-ng would grow and copy it
            data = zlib_ng.decompress(data, RAW_DEFLATE, info.file_size + 64)
        elif info.compress_type != zipfile.ZIP_STORED:
            raise zipfile.BadZipFile("unknown compression")
        if len(data) != info.file_size or zlib_ng.crc32(data) != info.CRC:
            raise zipfile.BadZipFile("wrong checksum")
        return data

    def _decode(self, data: bytes) -> np.ndarray:
        if data.startswith(self._usual_header):
            return np.frombuffer(data, self.dtype, offset=len(self._usual_header)).reshape(self.shape)
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def why_stale(record: Path, made_from: dict[str, Any], paths: list[Path]) -> str:
    """Return why files must be written again; '' if they are complete and made from the same as their record says."""
    if not any(path.exists() for path in paths):
        return "missing"
    kept = read_record(record)
    if kept is None:
        return "no record"
    for key, value in made_from.items():
        if kept["made_from"].get(key) != value:
            return WHY_STALE.get(key, f"made with another {key}")
    for path in paths:
        if not path.exists():
            return f"{path.name} is missing"
        if path.stat().st_size != kept["bytes"].get(path.name):
            return f"{path.name} has changed its size"
    return ""


def read_record(record: Path) -> dict[str, Any] | None:
    """Read a record; None if it is missing or damaged."""
    try:
        kept = read_yaml(record)
    except (OSError, ValueError):
        return None
    is_record = isinstance(kept, dict) and all(isinstance(kept.get(key), dict) for key in ("made_from", "bytes"))
    return kept if is_record else None


@contextmanager
def rebuilt(record: Path, made_from: dict[str, Any], paths: list[Path]) -> Iterator[list[Path]]:
    """Yield temporary paths, which get their final names and a record when the block ends without an error.

    Existing files are replaced together: they are removed before the first new file gets its name.
    """
    with ExitStack() as stack:
        temporaries = [stack.enter_context(atomic_path(path)) for path in paths]
        yield temporaries
        sizes = {path.name: temporary.stat().st_size for path, temporary in zip(paths, temporaries)}
        for older in (record, *paths):
            older.unlink(missing_ok=True)
    write_yaml(record, {"made_from": made_from, "bytes": sizes})


def images_digest(folder: Path, names: Sequence[str]) -> str:
    """Digest names and sizes of images and the content of a thousand. Raises DataError if an image is missing."""
    digest = hashlib.sha256()
    read = {names[index] for index in evenly(len(names), MAX_READ)}
    for name in names:
        try:
            about = (folder / name).stat()
        except FileNotFoundError:
            raise DataError(f"{folder / name}: no such image; restore it, or remove its line from the list") from None
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"{folder / name}: not a regular file; remove it")
        digest.update(f"{name} {about.st_size} {file_digest(folder / name) if name in read else ''}\n".encode())
    return digest.hexdigest()


class Archives(NamedTuple):
    """Prepared files that belong together, and their origin."""

    name: str  # for messages
    count: int  # samples
    record: Path
    made_from: dict[str, Any]
    paths: list[Path]  # npz files
    texts: dict[Path, str]  # text files

    def must_be_written(self, why_anyway: str = "") -> bool:
        """Return whether the files must be written, and print why. `why_anyway` is another reason, or ''."""
        paths = [*self.paths, *self.texts]
        reason = why_stale(self.record, self.made_from, paths) or why_anyway
        folder = self.record.parent
        if reason:
            print(f"{folder}: {self.name}, {self.count} images; {reason}")
        else:
            print(f"{folder}: {self.name} is up to date")
        return bool(reason)

    def write(self, samples: Iterable[tuple[str, list[Packed]]]) -> None:
        """Write all samples, each a name and an array for each npz file, atomically."""
        with rebuilt(self.record, self.made_from, [*self.paths, *self.texts]) as temporaries:
            writers = [PreparedWriter(path) for path in temporaries[: len(self.paths)]]
            for name, arrays in samples:
                for writer, packed in zip(writers, arrays):
                    writer.add(name, packed)
            for writer in writers:
                writer.finish()
            for path, text in zip(temporaries[len(self.paths) :], self.texts.values()):
                path.write_text(text, encoding="utf-8")
