"""Reading regular files, atomic writing, locks, and checks of output paths."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import filelock

from utils.errors import ConfigError, ResourceError, remedy

MAX_NAME_BYTES = 200
MAX_YAML_CHARACTERS = 1_000_000
FOLDER_NAME_RULE = f"must be a folder name (printable, no '/', no leading '.' or '-', at most {MAX_NAME_BYTES} bytes)"
NOT_REGULAR = "not a regular file but a pipe, a socket or a device"
LOCK_FILE = ".lock"
LOCK_TIMEOUT_S = 3.0


class NotRegular(OSError):
    """A pipe, a socket or a device instead of a regular file."""


def open_file(path: str | Path, mode: str = "rb", **options: Any) -> IO:
    """Open a regular file for reading. Raises NotRegular for pipes, which could block, and endless devices."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        raise NotRegular(errno.EINVAL, NOT_REGULAR, str(path))
    return open(handle, mode, **options)


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """Read a regular text file."""
    with open_file(path, "r", encoding=encoding) as file:
        return file.read()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path with the same name, and move it to `path` when the block ends without an error.

    The file is synced before it is renamed, so a crash leaves the old file or the new one. Missing parents are
    created, and a symbolic link is followed.

    Raises ResourceError if the file cannot be written.
    """
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".", dir=path.parent))
        yield folder / path.name
        _sync(folder / path.name)
        os.replace(folder / path.name, path)
        _sync(path.parent)
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(folder)):
            raise  # about another file
        raise ResourceError(f"{path}: cannot be written ({error.strerror or error}){remedy(error.errno)}") from None
    finally:
        if folder != path.parent:
            shutil.rmtree(folder, ignore_errors=True)


class Draft(NamedTuple):
    """A folder that is being written."""

    path: Path  # temporary
    final_path: Path


@contextmanager
def atomic_folder(final_path: Path) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `final_path` when the block ends without an error, else remove it."""
    final_path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".", dir=final_path.parent))
    try:
        yield folder
        os.chmod(folder, 0o777 & ~_umask())
        os.rename(folder, final_path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_result(parent: Path, name: str, info: str = "") -> Iterator[Draft]:
    """Yield a draft of a new folder, named by `new_folder`, which is removed if the block fails."""
    final_path = new_folder(parent, name, info)
    try:
        with atomic_folder(final_path) as folder:
            yield Draft(folder, final_path)
    except BaseException:
        with suppress(OSError):
            final_path.rmdir()
        raise


def new_folder(parent: Path, name: str, info: str = "") -> Path:
    """Create a folder named `name` and `info`, numbered if it exists. Raises ConfigError if `info` is invalid."""
    full_name = name + info
    if not is_folder_name(full_name):
        raise ConfigError(f"--info {info}: together with the name it {FOLDER_NAME_RULE}")
    for number in itertools.count(1):
        folder = parent / (full_name if number == 1 else f"{full_name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("unreachable")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a folder while the block runs. Raises ResourceError if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / LOCK_FILE, timeout=LOCK_TIMEOUT_S):
            yield
    except filelock.Timeout:
        raise ResourceError(f"{folder}: another process is writing there; wait for it to end") from None


def remove(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def shown(text: str) -> str:
    """Escape characters that cannot be encoded as UTF-8, which file names may contain."""
    return text.encode("utf-8", "backslashreplace").decode()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_yaml(path: str | Path, content: dict) -> None:
    """Write a YAML file with sorted keys atomically."""
    import yaml  # convert_authors_weights.py runs without it

    write_text(path, yaml.safe_dump(content, default_flow_style=False, sort_keys=True, allow_unicode=True))


def read_yaml(path: Path, loader: type | None = None) -> Any:
    """Read a YAML file of limited size with a safe loader. Raises ValueError if it is invalid."""
    import yaml  # convert_authors_weights.py runs without it

    try:
        with open_file(path, "r", encoding="utf-8") as file:
            text = file.read(MAX_YAML_CHARACTERS + 1)
    except (IsADirectoryError, UnicodeDecodeError):
        raise ValueError("not a text file") from None
    except NotRegular as error:
        raise ValueError(error.strerror) from None
    if len(text) > MAX_YAML_CHARACTERS:
        raise ValueError(f"longer than {MAX_YAML_CHARACTERS} characters")
    try:
        return yaml.load(text, loader or yaml.SafeLoader)  # noqa: S506, all loaders here are safe
    except (yaml.YAMLError, OverflowError, RecursionError, TypeError, AttributeError, LookupError, ValueError) as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None


def is_folder_name(name: str) -> bool:
    """Return whether a name can be used as a single path component."""
    is_plain = bool(name) and name[0] not in ".-" and "/" not in name and name == name.strip()
    return is_plain and name.isprintable() and len(name.encode()) <= MAX_NAME_BYTES


def timestamp() -> str:
    """Return the local date and time as 14 digits."""
    return datetime.now().strftime("%Y%m%d%H%M%S")


def check_outputs(outputs: dict[str, Path | None], inputs: Iterable[Path | None] = (), ending: str = "") -> None:
    """Check that output files and folders can be written and do not overwrite an input or each other.

    Args:
        outputs: paths by flag; None is skipped. A flag that ends in `dir` names a folder.
        inputs: files that will be read.
        ending: required ending of files, such as `.mp4`.

    Raises ConfigError for a conflict, another ending, or a folder in place of a file or vice versa, ResourceError if a
    path is not writable.
    """
    seen = {os.path.realpath(path): f"the input {path}" for path in inputs if path}
    for flag, path in outputs.items():
        if path is None:
            continue
        if (same := seen.get(os.path.realpath(path))) is not None:
            raise ConfigError(f"{flag} {path}: is {same}; choose another path")
        seen[os.path.realpath(path)] = f"also the output of {flag}"
        is_folder = flag.endswith("dir")
        if not is_folder and not path.name.lower().endswith(ending):
            raise ConfigError(f"{flag} {path}: must end in {ending}")
        if path.exists() and path.is_dir() != is_folder:
            raise ConfigError(f"{flag} {path}: is {'not a' if is_folder else 'a'} folder; choose another path")
        if path.exists() and not is_folder and not path.is_file():
            raise ConfigError(f"{flag} {path}: {NOT_REGULAR}; choose another path")
        check_writable(path if is_folder else Path(os.path.realpath(path)).parent, f"{flag} {path}")
        if not is_folder and path.exists() and not os.access(path, os.W_OK):
            raise ResourceError(f"{flag} {path}: exists and is read-only; choose another path")


def check_writable(folder: Path, what: str) -> None:
    """Check that a folder can be written or created. Raises ResourceError, which begins with `what`, if not."""
    existing = existing_part(folder)
    if not existing.is_dir():
        raise ResourceError(f"{what}: {existing} is not a folder; choose another path")
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise ResourceError(f"{what}: {existing} is not writable ({error.strerror}); choose another path") from None


def check_room(folder: Path, num_bytes: int, what: str, advice: str = "free some space") -> None:
    """Check free disk space for `what`, in a folder that need not exist. Raises ResourceError with `advice`."""
    existing = existing_part(folder)
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        needed = f"{free / 2**30:.1f} GiB free, {num_bytes / 2**30:.1f} GiB needed for {what}"
        raise ResourceError(f"{existing}: {needed}; {advice}")


def existing_part(path: Path) -> Path:
    """Return the path if it exists, else its nearest existing parent."""
    return next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
