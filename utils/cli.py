"""What the scripts' command lines have in common."""

from __future__ import annotations

import argparse

CONTEXTS = ("auto", "cpu", "cudnn")


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--context", choices=CONTEXTS, help="where to compute (default: the configuration's, or auto)"
    )
    help_device = "which GPU (default: the configuration's)"
    parser.add_argument("-d", "--device-id", type=non_negative_int, help=help_device)


def positive_int(text: str) -> int:
    return _whole_number(text, 1)


def non_negative_int(text: str) -> int:
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
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value
