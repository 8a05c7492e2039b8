"""What the training scripts share around their loops: arguments, run folder, series, progress."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nnabla as nn
from nnabla.monitor import Monitor, MonitorSeries, MonitorTimeElapsed
from tqdm import tqdm

from config import MODULE_KEY, load_config
from utils import cli
from utils.context import set_context
from utils.errors import NotFiniteError
from utils.files import new_folder, timestamp, write_yaml


def parse_training_args(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", "--config", metavar="FILE.yaml", help="overrides the defaults of config/")
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the run's name")
    cli.add_device_arguments(parser)
    return parser.parse_args()


def start_training(module: str, args: argparse.Namespace) -> dict[str, Any]:
    """Configuration of file and command line; sets context and seed.

    Raises:
        ConfigError: the configuration is wrong, or cudnn was asked for and cannot be had.
    """
    config = load_config(module, args.conf)
    if args.context is not None:
        config["context"] = args.context
    if args.device_id is not None:
        config["device_id"] = args.device_id
    config["context"] = set_context(config["context"], config["device_id"])
    nn.seed(config["seed"])
    return config


def make_run_folder(parent: Path, module: str, config: dict[str, Any], info: str) -> Path:
    """A new folder of its own for this run, with its training_info.yaml; `config` gets the name it landed under."""
    folder = new_folder(parent, config["experiment_name"] or timestamp(), info)
    config["experiment_name"] = folder.name
    write_yaml(folder / "training_info.yaml", {MODULE_KEY: module, **config})
    print(f"run: {folder}")
    return folder


class SeriesMonitors:
    """nnabla's series files `<name>.series.txt`, one for each loss, written every `interval` iterations."""

    def __init__(self, folder: Path, names: tuple[str, ...], interval: int):
        monitor = Monitor(str(folder))
        self._series = {name: MonitorSeries(name, monitor, interval=interval, verbose=False) for name in names}
        self._time = MonitorTimeElapsed("time_per_iteration", monitor, interval=interval, verbose=False)

    def add(self, iteration: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._series[name].add(iteration, value)
        self._time.add(iteration)


def require_finite(losses: dict[str, float], iteration: int) -> None:
    """Stop on the first loss that is infinite or not a number, before it reaches a solver.

    Raises:
        NotFiniteError: with the loss's name.
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise NotFiniteError(
                f"{name} is {value} at iteration {iteration}; lower train.lr, or go on from the last saved weights"
            )


def epoch_iterations(epoch: int, epochs: int, batches_per_epoch: int) -> Iterator[tuple[int, tqdm]]:
    """Iteration numbers of an epoch (from 0, across epochs) with the progress bar to write losses on."""
    first = epoch * batches_per_epoch
    # a bar on a terminal; in a log file a line every half minute at most
    interval_s = 0.2 if sys.stderr.isatty() else 30
    with tqdm(
        total=batches_per_epoch, desc=f"epoch {epoch + 1}/{epochs}", unit="it", mininterval=interval_s, file=sys.stderr
    ) as bar:
        for iteration in range(first, first + batches_per_epoch):
            yield iteration, bar
            bar.update()


def show_losses(bar: tqdm, losses: dict[str, float]) -> None:
    bar.set_postfix({name: f"{value:.3g}" for name, value in losses.items()}, refresh=False)


def is_save_epoch(epoch: int, config: dict[str, Any]) -> bool:
    """Whether weights are saved after epoch `epoch` (from 1): every save_interval epochs, and at the end."""
    return epoch % config["monitor"]["save_interval"] == 0 or epoch == config["train"]["epochs"]
