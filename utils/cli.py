"""Arguments that the scripts' command lines have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

from utils.errors import DataError

CONTEXTS = ("auto", "cpu", "cudnn")


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--context` and `--device-id`."""
    parser.add_argument(
        "-c", "--context", choices=CONTEXTS, help="where to compute (default: the configuration's, or auto)"
    )
    help_device = "which GPU (default: the configuration's)"
    parser.add_argument("-d", "--device-id", type=non_negative_int, help=help_device)


def add_network_arguments(parser: argparse.ArgumentParser, modules: tuple[str, ...], required: bool = True) -> None:
    """Add `--<module>-config` and `--<module>-param-file` for each module."""
    for module in modules:
        help_config = f"the {module}'s training_info.yaml"
        parser.add_argument(f"--{module}-config", type=Path, required=required, metavar="INFO", help=help_config)
    for module in modules:
        help_file = f"the {module}'s weights (default: its run's last epoch)"
        parser.add_argument(f"--{module}-param-file", type=Path, metavar="FILE.h5", help=help_file)


def positive_int(text: str) -> int:
    """Read a whole number from 1."""
    return _whole_number(text, 1)


def non_negative_int(text: str) -> int:
    """Read a whole number from 0."""
    return _whole_number(text, 0)


def _whole_number(text: str, minimum: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if value < minimum:
        raise argparse.ArgumentTypeError(f"must be {minimum} or more, not {value}")
    return value


def positive_number(text: str) -> float:
    """Read a finite number above 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def share(text: str) -> float:
    """Read a number from 0 to below 1."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to below 1, not {text}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None


def limit_count(wanted: int | None, available: int, what: str) -> int:
    """Return how many images `-n` means; None is all of them.

    Raises:
        DataError: more are wanted than there are.
    """
    if wanted is not None and wanted > available:
        raise DataError(f"-n {wanted}: {what} has only {available} images; ask for fewer")
    return wanted or available
