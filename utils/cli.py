"""Arguments that the scripts' command lines have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from utils.errors import one_line
from utils.files import FOLDER_NAME_RULE, is_folder_name
from utils.parallel import MAX_WORKERS

CONTEXTS = ("auto", "cpu", "cudnn")
MAX_COUNT = 10_000_000  # images, frames, checkpoints
MAX_BATCH = 4096  # in training
MAX_INFERENCE_BATCH = 64
MAX_SEED = 2**32 - 1
MAX_DEVICE = 255
MAX_FACES = 100
MAX_SECONDS = 1e6


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--context` and `--device-id`."""
    parser.add_argument(
        "-c", "--context", choices=CONTEXTS, help="where to compute (default: from the configuration, or auto)"
    )
    help_device = "GPU number (default: from the configuration)"
    parser.add_argument("-d", "--device-id", type=whole(0, MAX_DEVICE), help=help_device)


def add_backend_argument(parser: argparse.ArgumentParser, backends: Sequence[str]) -> None:
    """Add `--backend`."""
    help_backend = "what runs the networks (default auto: nnabla on a GPU, else onnxruntime if it is installed)"
    parser.add_argument("--backend", choices=backends, default="auto", help=help_backend)


def add_motion_arguments(parser: argparse.ArgumentParser, motions: Sequence[str], max_strength: float) -> None:
    """Add `--motion` and `--strength`."""
    help_motion = "motion taken from the source; the rest is the target's neutral face (default all)"
    parser.add_argument("--motion", choices=motions, default="all", help=help_motion)
    help_strength = f"factor of the motion, 0 to {max_strength:g} (default 1)"
    parser.add_argument("--strength", type=number(0, max_strength), default=1.0, metavar="S", help=help_strength)


def add_part_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--part` and `--face`."""
    help_part = "use the part of a video between two times in seconds"
    parser.add_argument("--part", nargs=2, type=number(0, MAX_SECONDS), metavar=("START", "END"), help=help_part)
    help_face = "number of the face, counted from the left (default: the one that is seen most)"
    parser.add_argument("--face", type=whole(1, MAX_FACES), metavar="N", help=help_face)


def part_flags(part: Sequence[float] | None, face: int | None) -> tuple[object, ...]:
    """Return `--part` and `--face` for another script; None leaves a flag out."""
    flags = ("--part", *part) if part else ()
    return flags + (("--face", face) if face else ())


def parse_test_args(description: str) -> argparse.Namespace:
    """Parse the command line of the test scripts."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training_info", type=path, metavar="INFO", help="training_info.yaml of a run")
    help_count = "number of images (default: the whole test split)"
    parser.add_argument("-n", "--num-test", type=count, metavar="N", help=help_count)
    help_weights = "weights (default: best epoch by validation, else the last)"
    parser.add_argument("--param-file", type=path, metavar="FILE.h5", help=help_weights)
    help_data = "folder of the people (default: train_dir of the run)"
    parser.add_argument("--data-dir", type=path, help=help_data)
    add_device_arguments(parser)
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the name of the result folder")
    return parser.parse_args()


def add_network_arguments(
    parser: argparse.ArgumentParser, modules: tuple[str, ...], required: tuple[str, ...] = ()
) -> None:
    """Add `--<module>-config` and `--<module>-param-file` for each module."""
    for module in modules:
        help_config = f"training_info.yaml of the {module}"
        is_required = module in required
        parser.add_argument(f"--{module}-config", type=path, required=is_required, metavar="INFO", help=help_config)
    for module in modules:
        help_file = f"weights of the {module} (default: best epoch by validation, else the last)"
        parser.add_argument(f"--{module}-param-file", type=path, metavar="FILE.h5", help=help_file)


def whole(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return an argument type for integers in [minimum, maximum]."""

    def read(text: str) -> int:
        try:
            value = int(text) if text.isascii() and "_" not in text else None
        except ValueError:
            value = None
        if value is None:
            raise argparse.ArgumentTypeError(f"'{one_line(text, 40)}' is not an integer")
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"must be between {minimum} and {maximum}, not {one_line(text, 40)}")
        return value

    return read


def number(minimum: float, maximum: float) -> Callable[[str], float]:
    """Return an argument type for numbers in [minimum, maximum]."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{one_line(text, 40)}' is not a number") from None
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"must be between {minimum:g} and {maximum:g}, not {one_line(text, 40)}")
        return value

    return read


count = whole(1, MAX_COUNT)
batch_size = whole(1, MAX_INFERENCE_BATCH)
num_workers = whole(1, MAX_WORKERS)
seed = whole(0, MAX_SEED)


def share(text: str) -> float:
    """Parse a number in [0, 1)."""
    value = number(0, 1)(text)
    if value == 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, not {text}")
    return value


def path(text: str) -> Path:
    """Parse a path, with `~` expanded, which shells do not do in `--out-dir=~/x`."""
    if not text:
        raise argparse.ArgumentTypeError("must be a file or a folder")
    return Path(os.path.expanduser(text))


def text(given: str) -> str:
    """Parse a text that is not empty; an empty one is often an unset shell variable."""
    if not given.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return given


def folder_name(text: str) -> str:
    """Parse a folder name, such as a person's."""
    if not is_folder_name(text):
        raise argparse.ArgumentTypeError(f"{FOLDER_NAME_RULE}, not '{one_line(text, 80)}'")
    return text


def limit_count(wanted: int | None, available: int, what: str) -> int:
    """Limit the number of images of `-n` to the available ones; None is all."""
    if wanted is not None and wanted > available:
        print(f"note: -n {wanted}: {what} has only {available} images")
    return min(wanted or available, available)
