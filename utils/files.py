"""Files that are either complete under their final name or not there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from utils.ending import remove, removed_at_the_end
from utils.errors import ConfigError, ResourceError, remedy

MARK = ".unfinished-"  # in the names of temporary folders
LEFTOVER = re.compile(rf"\..*{re.escape(MARK)}[a-z0-9_]{{8}}", re.DOTALL)
MAX_LETTERS = 40  # letters of a name that its temporary folder keeps, whose own name has a limit
MAX_NAME_BYTES = 200
MAX_YAML_LETTERS = 1_000_000
A_FOLDER_NAME = f"must be a folder's name (no '/', no '.' or '-' in front, printable, {MAX_NAME_BYTES} bytes at most)"
LOCK_PATIENCE_S = 3.0  # workers of a run that was killed hold its lock for a moment


NOT_REGULAR = "is no regular file, but a pipe, a socket or a device"


class NotRegular(OSError):
    """Report a pipe, a socket or a device where a file is meant."""


def open_file(path: str | Path, mode: str = "rb", **options: Any) -> IO:
    """Open a regular file to read. Opening a pipe could block indefinitely, and a device may have no end.

    Raises:
        NotRegular: it is none.
        OSError: as of `open`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        raise NotRegular(errno.EINVAL, NOT_REGULAR, str(path))
    return open(handle, mode, **options)


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """Read a whole text file; errors as of `open_file`."""
    with open_file(path, "r", encoding=encoding) as file:
        return file.read()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path of the same name in a hidden folder; move it to `path` once the block ends well.

    Where `path` is a link, the file that it leads to is written, and the link stays.

    The file is synced before the rename, so that a crash leaves the old file or the new one, never half of one.
    Missing folders are made. On an exception the temporary file is removed and `path` stays as it was; the file of a
    process that was killed is removed by the next that writes into the folder.
    """
    path = Path(path)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _temporary_folder(path.parent, path.name) as folder:
            yield folder / path.name
            install(folder / path.name, path)
    except BaseException as error:
        raise _with_path(error, path) from None


def install(temporary: Path, path: Path) -> None:
    """Rename a file that is complete."""
    _sync(temporary)
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, path)
    _sync(path.parent)


def _with_path(error: BaseException, path: Path) -> BaseException:
    """Name the file in the error of a write that failed, which does not say where."""
    if isinstance(error, OSError) and (error.filename is None or MARK in str(error.filename)):
        return ResourceError(f"{path}: cannot be written ({error.strerror or error}){remedy(error.errno)}")
    return error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path`; rename it to `path` once the block ends well, else remove it."""
    with draft_folder(path.parent, path.name, lambda: path) as folder:
        yield folder.path


class DraftFolder:
    """Point to a folder that is being written under another name than it will have.

    Attributes:
        path: where it is written.
        final_path: where it lies once it is complete; None before.
    """

    def __init__(self, path: Path):
        self.path = path
        self.final_path: Path | None = None


@contextmanager
def draft_folder(parent: Path, name: str, choose: Callable[[], Path]) -> Iterator[DraftFolder]:
    """Give a temporary folder; once the block ends well, it gets the name that is then chosen, else it is removed.

    Args:
        parent: where it will be.
        name: for the temporary name.
        choose: returns the final path, where nothing or an empty folder lies.
    """
    parent.mkdir(parents=True, exist_ok=True)
    try:
        with _temporary_folder(parent, name) as temporary:
            folder = DraftFolder(temporary)
            yield folder
            for file in temporary.rglob("*"):
                _sync(file)
            _sync(temporary)
            os.chmod(temporary, 0o777 & ~_umask())
            final_path = choose()
            os.rename(temporary, final_path)
            folder.final_path = final_path
            _sync(parent)
    except BaseException as error:
        raise _with_path(error, parent / name) from None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder for the duration of the block, where the system has its temporary files."""
    with _temporary_folder(Path(tempfile.gettempdir()), "reenactgan") as folder:
        yield folder


@contextmanager
def _temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder and hold a lock on it; what is left of it goes with the block.

    The lock tells others that it is in use. It goes with the process, however that ends.
    """
    remove_leftovers(parent)
    folder, handle = _make_locked(parent, f".{name[:MAX_LETTERS]}{MARK}")
    try:
        with removed_at_the_end(folder):
            try:
                yield folder
            finally:
                remove(folder)
    finally:
        os.close(handle)


def _make_locked(parent: Path, prefix: str) -> tuple[Path, int]:
    """Make a folder and lock it; if another process takes it for a leftover before that, make another."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        with suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY)
            is_locked = True
            with suppress(OSError):  # a file system without locks
                is_locked = _try_lock(handle)
            if is_locked and folder.exists():
                return folder, handle
            os.close(handle)


def remove_folder(path: Path) -> None:
    """Remove a folder that is complete or not there: its name goes first, then what is in it."""
    doomed = path.with_name(f".{path.name}.deleting")
    if doomed.exists():
        shutil.rmtree(doomed)
    path.rename(doomed)
    shutil.rmtree(doomed)


_tidied: set[Path] = set()


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed left in a folder; once for each folder, since it may hold many files."""
    folder = folder.absolute()
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(OSError):  # to tidy up is no reason to fail
        for entry in list(os.scandir(folder)):
            if LEFTOVER.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_uid == os.getuid():
                _remove_if_free(Path(entry.path))


def remove_leftovers_below(folder: Path) -> None:
    """Remove what processes that were killed left anywhere below a folder that is ours alone."""
    for path in list(folder.rglob(f".*{MARK}*")):
        _remove_if_free(path)


def _remove_if_free(path: Path) -> None:
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if _try_lock(handle):
                remove(path)
        finally:
            os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold an exclusive lock on the folder while the block runs; it goes with the process, however that ends.

    Yields:
        the handle that holds it; a child that inherits it holds it as well.

    Raises:
        ResourceError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while not _try_lock_or_say(handle, folder):
            if time.monotonic() > deadline:
                raise ResourceError(f"{folder}: another process is writing there; wait for it to end")
            time.sleep(0.1)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold the right to make a file or folder that is not there yet, while the block runs.

    Raises:
        ResourceError: another process is making it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    folder = path.parent / f".{path.name[:MAX_LETTERS]}{MARK}{digest}"  # looks like a leftover where nobody holds it
    for _ in range(10):
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError), locked(folder) as handle:
            if os.fstat(handle).st_nlink == 0:  # somebody took it for a leftover before it was locked
                continue
            with removed_at_the_end(folder):
                try:
                    yield
                finally:
                    remove(folder)
                return
    raise ResourceError(f"{path}: cannot be claimed; is something removing {folder}?")


_said_unlocked = False


def _try_lock_or_say(handle: int, folder: Path) -> bool:
    """Lock, or say once that the file system knows no locks; then nobody is kept out."""
    global _said_unlocked
    try:
        return _try_lock(handle)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        if not _said_unlocked:
            print(f"note: {folder}: this file system has no locks ({error.strerror}); let one process at a time write")
            _said_unlocked = True
        return True


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    """Have a file or a folder's entries written to the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 letters."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def shown(text: str) -> str:
    """Write names that are not UTF-8 with escapes, for what has to be."""
    return text.encode("utf-8", "backslashreplace").decode()


def write_text(path: str | Path, text: str) -> None:
    """Write a whole text file, or leave what was there."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_yaml(path: str | Path, content: dict) -> None:
    """Write a whole YAML file with sorted keys, or leave what was there."""
    import yaml  # not at the top: the converter of weights does without

    write_text(path, yaml.safe_dump(content, default_flow_style=False, sort_keys=True, allow_unicode=True))


def is_folder_name(name: str) -> bool:
    """Tell whether a name can be a folder's: it must be a single path component."""
    is_plain = bool(name) and name[0] not in ".-" and "/" not in name and name == name.strip()
    return is_plain and name.isprintable() and len(name.encode()) <= MAX_NAME_BYTES


def read_yaml(path: Path, loader: type | None = None) -> Any:
    """Read a YAML file of a size that a person could have written.

    Args:
        loader: PyYAML's; None is the safe one.

    Raises:
        ValueError: why it cannot be read; a missing file stays a FileNotFoundError.
    """
    import yaml  # not at the top: the converter of weights does without

    try:
        with open_file(path, "r", encoding="utf-8") as file:
            text = file.read(MAX_YAML_LETTERS + 1)
    except (IsADirectoryError, UnicodeDecodeError):
        raise ValueError("no text") from None
    except NotRegular as error:
        raise ValueError(error.strerror) from None
    if len(text) > MAX_YAML_LETTERS:
        raise ValueError(f"longer than {MAX_YAML_LETTERS} letters")
    try:
        return yaml.load(text, loader or yaml.SafeLoader)  # noqa: S506, loaders here are safe ones
    except (yaml.YAMLError, OverflowError, RecursionError, TypeError, AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None


def timestamp() -> str:
    """Return the local date and time as 14 digits."""
    return datetime.now().strftime("%Y%m%d%H%M%S")


@contextmanager
def new_result(parent: Path, name: str, info: str = "") -> Iterator[DraftFolder]:
    """Give a folder for results, which gets its name, as `new_folder` chooses it, when all of them are there.

    Raises:
        ConfigError: `info` cannot be part of a folder's name.
    """
    full_name = _with_info(name, info)
    with draft_folder(parent, full_name, lambda: new_folder(parent, full_name)) as folder:
        yield folder


def _with_info(name: str, info: str) -> str:
    full_name = f"{name}-{info}" if info else name
    if not is_folder_name(full_name):
        raise ConfigError(f"--info {info}: together with the name it {A_FOLDER_NAME}")
    return full_name


def new_folder(parent: Path, name: str, info: str = "") -> Path:
    """Make a folder that did not exist before: `name`, `name-info`, or with a number behind where that is taken.

    Raises:
        ConfigError: `info` cannot be part of a folder's name.
    """
    name = _with_info(name, info)
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("itertools.count does not end")


def check_outputs(outputs: dict[str, Path | None], inputs: Iterable[Path | None] = ()) -> None:
    """Check, before any work, that files and folders can be written and that none of them is an input.

    Args:
        outputs: by the flag or key that names them, None where it does not; one that ends in `dir` names a folder.
        inputs: files that are read.

    Raises:
        ConfigError: an output is an input or another output, or a folder where a file should be, or the reverse.
        ResourceError: it cannot be written there.
    """
    seen: dict[tuple[int, int] | Path, str] = {_identity(path): f"the input {path}" for path in inputs if path}
    for flag, path in outputs.items():
        if path is None:
            continue
        if (same := seen.get(_identity(path))) is not None:
            raise ConfigError(f"{flag} {path}: is {same}; name another file")
        seen[_identity(path)] = f"also what {flag} names"
        is_folder = flag.endswith("dir")
        if path.exists() and path.is_dir() != is_folder:
            raise ConfigError(f"{flag} {path}: is {'no' if is_folder else 'a'} folder; name another")
        if path.exists() and not is_folder and not path.is_file():
            raise ConfigError(f"{flag} {path}: {NOT_REGULAR}; name another")
        check_writable(path if is_folder else Path(os.path.realpath(path)).parent, f"{flag} {path}")
        if not is_folder and path.exists() and not os.access(path, os.W_OK):
            raise ResourceError(f"{flag} {path}: is there and must not be overwritten; name another file")


def _identity(path: Path) -> tuple[int, int] | Path:
    """Return what two names of one file have in common."""
    try:
        about = os.stat(path)
    except OSError:
        return Path(os.path.realpath(path))
    return about.st_dev, about.st_ino


def check_writable(folder: Path, what: str) -> None:
    """Check that a folder can be written to, or made.

    Raises:
        ResourceError: it cannot; the message begins with `what`.
    """
    existing = existing_part(folder)
    if not existing.is_dir():
        raise ResourceError(f"{what}: {existing} is no folder; name another place")
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise ResourceError(f"{what}: {existing} cannot be written to ({error.strerror}); name another place") from None


def check_room(folder: Path, num_bytes: int, what: str, way_on: str = "free some space") -> None:
    """Check that the disk of a folder, which need not be there yet, has room.

    Args:
        what: what it is for, and `way_on` what to do if the room is missing; both for the message.

    Raises:
        ResourceError: it has not.
    """
    existing = existing_part(folder)
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        words = f"{free / 2**30:.1f} GiB free, {num_bytes / 2**30:.1f} GiB needed for {what}"
        raise ResourceError(f"{existing}: {words}; {way_on}")


def existing_part(path: Path) -> Path:
    """Return a path if it is there, else the nearest folder above it that is."""
    return next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
