"""Arguments that the scripts' command lines have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from utils.errors import one_line
from utils.files import A_FOLDER_NAME, is_folder_name
from utils.parallel import MAX_WORKERS

CONTEXTS = ("auto", "cpu", "cudnn")
MAX_COUNT = 10_000_000  # images, frames, checkpoints
MAX_BATCH = 4096  # a training's
MAX_INFERENCE_BATCH = 64
MAX_SEED = 2**32 - 1
MAX_DEVICE = 255


def add_motion_arguments(parser: argparse.ArgumentParser, motions: Sequence[str], max_strength: float) -> None:
    """Add which of a driver's motion counts, and how strongly."""
    help_motion = "what comes from the driver; the rest is the target's own neutral face (default all)"
    parser.add_argument("--motion", choices=motions, default="all", help=help_motion)
    help_strength = f"of the motion, 0 to {max_strength:g} (1 as it is)"
    parser.add_argument("--strength", type=number(0, max_strength), default=1.0, metavar="S", help=help_strength)


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--context` and `--device-id`."""
    parser.add_argument(
        "-c", "--context", choices=CONTEXTS, help="where to compute (default: the configuration's, or auto)"
    )
    help_device = "which GPU (default: the configuration's)"
    parser.add_argument("-d", "--device-id", type=whole(0, MAX_DEVICE), help=help_device)


def add_network_arguments(
    parser: argparse.ArgumentParser, modules: tuple[str, ...], required: tuple[str, ...] = ()
) -> None:
    """Add `--<module>-config` and `--<module>-param-file` for each module, some of which must be named."""
    for module in modules:
        help_config = f"the {module}'s training_info.yaml"
        is_required = module in required
        parser.add_argument(f"--{module}-config", type=path, required=is_required, metavar="INFO", help=help_config)
    for module in modules:
        help_file = f"the {module}'s weights (default: its run's best epoch by validation, else its last)"
        parser.add_argument(f"--{module}-param-file", type=path, metavar="FILE.h5", help=help_file)


def whole(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers in a range, both ends included."""

    def read(text: str) -> int:
        try:
            value = int(text) if text.isascii() and "_" not in text else None
        except ValueError:
            value = None
        if value is None:
            raise argparse.ArgumentTypeError(f"'{one_line(text, 40)}' is not a whole number")
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"must be from {minimum} to {maximum}, not {one_line(text, 40)}")
        return value

    return read


def number(minimum: float, maximum: float) -> Callable[[str], float]:
    """Return a reader of numbers in a range, both ends included."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{one_line(text, 40)}' is not a number") from None
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"must be from {minimum:g} to {maximum:g}, not {one_line(text, 40)}")
        return value

    return read


count = whole(1, MAX_COUNT)
batch_size = whole(1, MAX_INFERENCE_BATCH)
num_workers = whole(1, MAX_WORKERS)
seed = whole(0, MAX_SEED)


def share(text: str) -> float:
    """Read a number from 0 to below 1."""
    value = number(0, 1)(text)
    if value == 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to below 1, not {text}")
    return value


def path(text: str) -> Path:
    """Read a path; `~` is the user's home, also where the shell leaves it as it is (`--out-dir=~/x`)."""
    if not text:
        raise argparse.ArgumentTypeError("must name a file or a folder")
    return Path(os.path.expanduser(text))


def text(given: str) -> str:
    """Read a text that means something; an empty one is often a variable of the shell's that was not set."""
    if not given.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return given


def folder_name(text: str) -> str:
    """Read a name that becomes a folder's, such as a person's."""
    if not is_folder_name(text):
        raise argparse.ArgumentTypeError(f"{A_FOLDER_NAME}, not '{one_line(text, 80)}'")
    return text


def limit_count(wanted: int | None, available: int, what: str) -> int:
    """Return how many images `-n` means; None is all of them, as are more than there are, which is said."""
    if wanted is not None and wanted > available:
        print(f"note: -n {wanted}: {what} has only {available} images; all are taken")
    return min(wanted or available, available)
