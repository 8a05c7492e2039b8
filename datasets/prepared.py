"""Prepared npz files: one array a sample under the sample's name, and a record of how they were made.

`np.load` reads them. They are compressed by the workers that made the arrays (zlib-ng, several times faster
than zlib on heatmaps), so that the one process that writes only copies bytes.
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

from config.common import PUBLISHED
from datasets.panels import evenly
from utils.errors import DataError
from utils.files import atomic_path, file_digest, open_file, read_yaml, write_yaml

RAW_DEFLATE = -15  # zlib's name for a stream without header and checksum, as zip files hold it
COMPRESSION_LEVEL = 1
RECORD_ENDING = "_prepared.yaml"
MAX_READ = 1000  # pictures whose content is compared
WHY_STALE = {
    "list": "the annotation list has changed",
    "pictures": "images were replaced, or are not those that are known of",
    "batch_statistics_of": "batches of the encoder have another size",
}


class Packed(NamedTuple):
    """Hold a compressed array on its way into an archive."""

    data: bytes
    size: int  # bytes before compression
    checksum: int


def pack(array: np.ndarray) -> Packed:
    """Compress an array as a member of an npz file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    plain = buffer.getbuffer()
    data = zlib_ng.compress(plain, COMPRESSION_LEVEL, RAW_DEFLATE)
    return Packed(data, len(plain), zlib_ng.crc32(plain))


class PreparedWriter:
    """Write an npz of packed arrays, in the order in which they are added."""

    def __init__(self, path: Path):
        self._file = open(path, "wb")  # noqa: SIM115, closed by finish()
        self._members: list[zipfile.ZipInfo] = []

    def add(self, name: str, packed: Packed) -> None:
        """Append an array under its name."""
        # zipfile compresses what it is given; members that are compressed already are laid down by hand
        info = zipfile.ZipInfo(f"{name}.npy")
        info.compress_type = zipfile.ZIP_DEFLATED
        info.CRC, info.file_size, info.compress_size = packed.checksum, packed.size, len(packed.data)
        info.header_offset = self._file.tell()
        self._file.write(info.FileHeader())
        self._file.write(packed.data)
        self._members.append(info)

    def finish(self) -> None:
        """Write the directory; without it the file is no npz."""
        with zipfile.ZipFile(self._file, "w") as archive:  # begins where the file stands
            archive.filelist = self._members
        self._file.close()


class PreparedFile:
    """Read the arrays of one npz one at a time, from any number of processes that share the open file.

    Raises:
        DataError: the file is missing, damaged, or holds something else; `command` says what would write it.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], command: str, dtype: type = np.uint8):
        self.path, self.shape, self.command, self.dtype = path, shape, command, np.dtype(dtype)
        try:
            with open_file(path) as file, zipfile.ZipFile(file) as archive:
                members = archive.infolist()
        except FileNotFoundError:
            raise DataError(f"{path}: missing; run '{command}' first") from None
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, struct.error, NotImplementedError):
            raise DataError(f"{path}: not a complete npz file; remove it and run '{command}'") from None
        self._members = {info.filename.removesuffix(".npy"): info for info in members}
        self.names: list[str] = list(self._members)
        self._file = open_file(path)  # open as long as samples are read
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": self.dtype.str, "fortran_order": False, "shape": shape})
        self._usual_header = header.getvalue()
        # what a member may claim; other writers' headers are a little longer
        self._max_bytes = math.prod(shape) * self.dtype.itemsize + 4096

    def digest(self) -> str:
        """Digest all arrays by their names and checksums; nothing is read for it."""
        lines = (f"{name} {info.CRC} {info.file_size}\n" for name, info in self._members.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def require(self, names: Iterable[str]) -> None:
        """Raise a DataError unless there is an array of each name."""
        missing = [name for name in names if name not in self._members]
        if missing:
            raise DataError(
                f"{self.path}: lacks {len(missing)} samples of the list, {missing[0]} first; run '{self.command}' again"
            )

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            array = self._decode(self._read(self._members[name]))
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, struct.error, zlib_ng.error, SyntaxError):
            raise DataError(f"{self.path}: '{name}' is damaged; remove it and run '{self.command}'") from None
        if array.shape != self.shape or array.dtype != self.dtype:
            raise DataError(
                f"{self.path}: '{name}' is {array.dtype} {array.shape} instead of {self.dtype} {self.shape}; "
                f"remove it and run '{self.command}'"
            )
        return array

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        if max(info.file_size, info.compress_size) > self._max_bytes:
            raise zipfile.BadZipFile("more than an array of this shape")
        # os.pread, because processes that share an open file share its position too
        local_header = os.pread(self._file.fileno(), zipfile.sizeFileHeader, info.header_offset)
        *_, name_length, extra_length = struct.unpack(zipfile.structFileHeader, local_header)
        start = info.header_offset + zipfile.sizeFileHeader + name_length + extra_length
        data = os.pread(self._file.fileno(), info.compress_size, start)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            # the buffer is a little larger than needed: of the exact size, it would be grown and copied
            data = zlib_ng.decompress(data, RAW_DEFLATE, info.file_size + 64)
        elif info.compress_type != zipfile.ZIP_STORED:
            raise zipfile.BadZipFile("another compression than npz files have")
        if len(data) != info.file_size or zlib_ng.crc32(data) != info.CRC:
            raise zipfile.BadZipFile("other bytes than were written")
        return data

    def _decode(self, data: bytes) -> np.ndarray:
        if data.startswith(self._usual_header):
            return np.frombuffer(data, self.dtype, offset=len(self._usual_header)).reshape(self.shape)
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def why_stale(record: Path, made_from: dict[str, Any], paths: list[Path]) -> str:
    """Say what keeps files from being taken as they are; '' where they are complete and made from the same.

    Args:
        record: the file that `rebuilt` writes with them.
        made_from: digests and parameters that decide what they hold.
    """
    if not any(path.exists() for path in paths):
        return "not there yet"
    kept = read_record(record)
    if kept is None:
        return "there is no record of how it was made"
    for key, value in made_from.items():
        if kept["made_from"].get(key) != value:
            return WHY_STALE.get(key, f"it was made with another {key}")
    for path in paths:
        if not path.exists():
            return f"{path.name} is missing"
        if path.stat().st_size != kept["bytes"].get(path.name):
            return f"{path.name} is not of the size that was written"
    return ""


def read_record(record: Path) -> dict[str, Any] | None:
    """Read what `rebuilt` wrote; None if nothing can be read."""
    try:
        kept = read_yaml(record)
    except (OSError, ValueError):
        return None
    is_record = isinstance(kept, dict) and all(isinstance(kept.get(key), dict) for key in ("made_from", "bytes"))
    return kept if is_record else None


def drawing_in(record: dict[str, Any] | None) -> str:
    """Return how the boundaries of prepared files are drawn; other programs' files have no record."""
    drawing = record["made_from"].get("drawing") if record else None
    return drawing.get("name", PUBLISHED) if isinstance(drawing, dict) else PUBLISHED


@contextmanager
def rebuilt(record: Path, made_from: dict[str, Any], paths: list[Path]) -> Iterator[list[Path]]:
    """Give temporary paths to write to; at the end of the block they get their final names, together with a record.

    Ended earlier, in whatever way, it leaves older files and their record as they were. Files of two makings never
    are mixed: the older ones are gone before the first new one gets its name.
    """
    with ExitStack() as stack:
        temporaries = [stack.enter_context(atomic_path(path)) for path in paths]
        yield temporaries
        sizes = {path.name: temporary.stat().st_size for path, temporary in zip(paths, temporaries)}
        for older in (record, *paths):
            older.unlink(missing_ok=True)
    write_yaml(record, {"made_from": made_from, "bytes": sizes})


def images_digest(folder: Path, names: Sequence[str]) -> str:
    """Digest names and sizes of pictures, and the content of a thousand of them; quick also for 40,000.

    Raises:
        DataError: an image is missing.
    """
    digest = hashlib.sha256()
    read = {names[index] for index in evenly(len(names), MAX_READ)}
    for name in names:
        try:
            about = (folder / name).stat()
        except FileNotFoundError:
            raise DataError(f"{folder / name}: no such image; the annotation list names it") from None
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"{folder / name}: is no regular file; remove it")
        digest.update(f"{name} {about.st_size} {file_digest(folder / name) if name in read else ''}\n".encode())
    return digest.hexdigest()


def require_own_names(archives: Sequence[Archives]) -> None:
    """Raise if one file would be written for two people, now or by an earlier run into the same folder.

    A person's name can be another's with an ending that files have.

    Raises:
        DataError: with both names.
    """
    makers: dict[Path, str] = {}
    for own in archives:
        names = {path.name for path in (*own.paths, *own.texts)}
        for path in (own.record, *own.paths, *own.texts):
            if makers.setdefault(path, own.name) != own.name:
                raise DataError(f"{path}: is a file of {own.name} and of {makers[path]}; rename one of them")
        for record in own.record.parent.glob(f"*{RECORD_ENDING}"):
            kept = read_record(record)
            other = record.name.removesuffix(RECORD_ENDING)
            if kept is None or record == own.record and names == {*kept["bytes"]}:
                continue
            shared = names & {*kept["bytes"]} or ({record.name} if record == own.record else set())
            if shared:
                words = "rename one of them, or use another --out-dir"
                raise DataError(f"{record.parent / min(shared)}: is a file of {own.name} and of {other}; {words}")


class Archives(NamedTuple):
    """Describe a set of files that belong together, and what decides their bytes."""

    name: str  # for people
    count: int  # samples
    record: Path
    made_from: dict[str, Any]
    paths: list[Path]  # npz files
    texts: dict[Path, str]  # further files, whole

    def must_be_written(self, why_anyway: str = "") -> bool:
        """Tell whether they are not there, incomplete or made from something else, and say so on stdout.

        Args:
            why_anyway: the reason to write them again though they are complete, or ''.
        """
        paths = [*self.paths, *self.texts]
        reason = why_stale(self.record, self.made_from, paths) or why_anyway
        folder = self.record.parent
        if reason:
            print(f"{folder}: {self.name}, {self.count} images; {reason}")
        else:
            print(f"{folder}: {self.name} is complete and made from the same; kept")
        return bool(reason)

    def write(self, samples: Iterable[tuple[str, list[Packed]]]) -> None:
        """Write all samples, a name and an array for each npz file; all files are complete or as they were."""
        with rebuilt(self.record, self.made_from, [*self.paths, *self.texts]) as temporaries:
            writers = [PreparedWriter(path) for path in temporaries[: len(self.paths)]]
            for name, arrays in samples:
                for writer, packed in zip(writers, arrays):
                    writer.add(name, packed)
            for writer in writers:
                writer.finish()
            for path, text in zip(temporaries[len(self.paths) :], self.texts.values()):
                path.write_text(text, encoding="utf-8")
