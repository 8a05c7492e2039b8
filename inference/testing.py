"""Parts that the test scripts of transformer and decoder have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from config import Config, load_config, with_values
from inference.trained import choose_context
from utils import cli
from utils.files import check_writable


def parse_test_args(description: str) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training_info", type=cli.path, metavar="INFO", help="the training_info.yaml of a run")
    parser.add_argument("-n", "--num", type=cli.count, help="number of images (default: the whole test split)")
    parser.add_argument(
        "--param-file", type=cli.path, metavar="FILE.h5", help="weights (default: the run's last epoch)"
    )
    help_data = "the folder that holds the people (default: the file's train_dir)"
    parser.add_argument("--data-dir", type=cli.path, help=help_data)
    cli.add_device_arguments(parser)
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the name of the result folder")
    return parser.parse_args()


def read_test_config(module: str, args: argparse.Namespace) -> Config:
    """Read the configuration of a run, with the command line's data folder, and set where to compute."""
    config = load_config(module, args.training_info)
    if args.data_dir is not None:
        config = with_values(config, {"train_dir": str(args.data_dir)})
    check_writable(Path(config.test.logdir), "test.logdir")
    choose_context(config, args)
    return config


def index_batches(count: int, batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Group the indices 0..count-1 in batches of one size; the last is filled up by repeating its last index.

    Yields:
        the indices, and how many of them count.
    """
    for first in range(0, count, batch_size):
        indices = list(range(first, min(first + batch_size, count)))
        yield indices + [indices[-1]] * (batch_size - len(indices)), len(indices)
