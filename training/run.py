"""A run of a training: its folder, iterations, logs, checkpoints, and requests to stop."""

from __future__ import annotations

import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nnabla as nn
import numpy as np
from nnabla.logger import logger
from tqdm import tqdm

from config import Config, to_dict
from config.runs import BEST_FILE
from models.network import Network
from training.averaging import Pass, WeightAverage, weights_to_save
from training.checkpoints import CHECKPOINTS, checkpoints_of, load_checkpoint, remove_checkpoints, save_checkpoint
from training.communicator import Communicator
from training.run_page import write_run_page
from training.series import Series
from training.solver import LossScale, Solver
from utils.errors import NotFiniteError, Stopped
from utils.files import check_room, check_writable, existing_part, write_yaml
from utils.progress import ProgressFile

SHOW_INTERVAL_S = 0.5  # between updates of the progress bar's losses
LOG_INTERVAL_S, FIRST_LOG_S = 30, 5  # between lines of a log file
BYTES = 4  # of a float32

STOP_MESSAGE = b"\nstopping after this step, with a checkpoint; Ctrl-C again stops at once\n"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)


@dataclass
class StopRequest:
    """The signal that asked a training to stop, if any."""

    signal_number: int = 0

    @property
    def exit_code(self) -> int:
        """Return the exit code by the convention of shells: 130 for Ctrl-C, 143 for termination."""
        return 128 + (signal.SIGINT if self.signal_number == signal.SIGINT else signal.SIGTERM)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn signals into a request to stop while the block runs. A second Ctrl-C raises KeyboardInterrupt."""
    request = StopRequest()
    was_interrupted = False

    def ask(number: int, _: object) -> None:
        nonlocal was_interrupted
        if number == signal.SIGINT:
            if was_interrupted:
                raise KeyboardInterrupt
            was_interrupted = True
        request.signal_number = request.signal_number or number
        with suppress(OSError):  # the terminal may be closed
            os.write(2, STOP_MESSAGE)  # print() is not reentrant

    numbers = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Run:
    """A run of a training."""

    config: Config
    folder: Path  # of the run, or of all runs while it has none yet
    networks: list[Network]  # trained and saved
    solvers: dict[str, Solver]
    average: WeightAverage
    loss_scale: LossScale
    communicator: Communicator
    batches_per_epoch: int
    data: dict[str, dict[str, Any]]  # identities of the data by name
    series_interval: int  # iterations between values of the losses
    keep: int  # number of checkpoints
    stop: StopRequest = field(default_factory=StopRequest)
    iteration: int = 0  # the next one, counted from 0 over all epochs
    best: dict[str, float] = field(default_factory=dict)  # metrics of the best epoch by validation

    def __post_init__(self) -> None:
        self.is_writer = self.communicator.rank == 0
        self.epochs_in_all = self.config.train.epochs
        # the shape prior is saved once, at the end
        self.save_interval = getattr(self.config.monitor, "save_interval", self.epochs_in_all)
        self._versions = versions()

    @property
    def iterations_in_all(self) -> int:
        """Return the number of iterations of the whole training."""
        return self.epochs_in_all * self.batches_per_epoch

    @property
    def saved_networks(self) -> list[Network]:
        """Return all networks that a checkpoint contains."""
        return [*self.networks, *self.average.networks]

    # checks and plan

    def check(self) -> None:
        """Check that the run can be written. Raises ResourceError if the folder or the disk space does not allow it."""
        check_writable(self.folder, f"logdir {self.folder}")
        advice = "free some space, save less often (monitor.save_interval) or keep fewer checkpoints (--keep)"
        check_room(self.folder, self._disk_bytes(), "weights and checkpoints", advice)

    def _disk_bytes(self) -> int:
        """Estimate the size of all saved weights and checkpoints, including one that is being written."""
        weights = sum(BYTES * v.size for network in self.saved_networks for v in network.parameters().values())
        return weights * -(-self.epochs_in_all // self.save_interval) + 3 * weights * (self.keep + 1)

    def plan(self) -> str:
        """Return what the training will do, for `--dry-run`."""
        parameters = (f"{n.name} {sum(v.size for v in n.parameters().values()):,}" for n in self.saved_networks)
        free = shutil.disk_usage(existing_part(self.folder)).free
        size = self.communicator.size
        lines = [
            f"plan for the {self.config.MODULE}:",
            *(f"  data {name}: {about['count']} samples, {about['what']}" for name, about in self.data.items()),
            f"  iterations: {self.batches_per_epoch} per epoch, {self.epochs_in_all} epochs, "
            f"{self.iterations_in_all} in total" + (f", on {size} processes" if size > 1 else ""),
            f"  parameters: {', '.join(parameters)}",
            f"  disk: at most {self._disk_bytes() / 2**30:.2f} GiB, {free / 2**30:.1f} GiB free",
            f"  folder: {self.folder}",
        ]
        return "\n".join(lines)

    # the loop

    def start(self, stop: StopRequest) -> None:
        """Start the clocks."""
        self.stop = stop
        self.series = Series(self.folder, self.series_interval)
        self._bar: tqdm | None = None
        self._shown_at = self._begun_at = time.monotonic()
        self._begun_with, self._progress = self.iteration, ProgressFile("learning")
        self._log_interval_s = FIRST_LOG_S

    def epochs(self) -> Iterator[tuple[int, Iterator[int]]]:
        """Yield the remaining epochs, counted from 1, with their iterations, counted from 0 over all epochs.

        A resumed epoch may be partly done. Raises Stopped on request, between two iterations.
        """
        for epoch in range(self.iteration // self.batches_per_epoch + 1, self.epochs_in_all + 1):
            yield epoch, self._iterations(epoch)

    def _iterations(self, epoch: int) -> Iterator[int]:
        """Yield the remaining iterations of an epoch, and seed dropout for each."""
        end = epoch * self.batches_per_epoch
        first = self.iteration - (end - self.batches_per_epoch)
        name = f"epoch {epoch}/{self.epochs_in_all}"
        is_hidden = not (self.is_writer and sys.stderr.isatty())
        total = self.batches_per_epoch
        with tqdm(total=total, initial=first, desc=name, unit="it", file=sys.stderr, disable=is_hidden) as bar:
            self._bar = bar
            while self.iteration < end:
                step = self.iteration * self.communicator.size + self.communicator.rank
                nn.random.set_function_seed(int(np.random.default_rng([self.config.seed, step]).integers(1 << 31)))
                yield self.iteration
                self.iteration += 1
                bar.update()
                if self.iteration < end and self._is_stop_wanted():
                    self._stop_now()

    def log(self, losses: dict[str, nn.Variable], panel: Callable[[Path, int, int], None] | None = None) -> None:
        """Log the losses of an iteration. They are only read from the device when they are displayed.

        `panel` writes sample images, given a folder, the number of iterations, and the epoch. It is called every
        `monitor.interval` iterations and at the end of an epoch.
        """
        if not self.is_writer:
            return
        self.series.add(self.iteration, losses)
        self._show(losses)
        done = self.iteration + 1
        self._progress.write(done, self.iterations_in_all, self._begun_with)
        is_due = done % self.config.monitor.interval == 0 or done % self.batches_per_epoch == 0
        if panel is not None and is_due:
            panel(self.folder / "result", done, self.iteration // self.batches_per_epoch + 1)

    def _show(self, losses: dict[str, nn.Variable]) -> None:
        """Display losses on the progress bar, or as a line of a log file every half minute and after an epoch."""
        bar, now, done = self._bar, time.monotonic(), self.iteration + 1
        is_last_of_epoch = done % self.batches_per_epoch == 0
        interval_s = self._log_interval_s if bar.disable else SHOW_INTERVAL_S
        if now - self._shown_at < interval_s and not is_last_of_epoch:
            return
        self._shown_at, self._log_interval_s = now, LOG_INTERVAL_S
        values = {name: f"{float(loss.d):.3g}" for name, loss in losses.items()}
        if not bar.disable:
            bar.set_postfix(values, refresh=False)
            return
        rate = (done - self._begun_with) / max(now - self._begun_at, 1e-9)
        words = ", ".join(f"{name} {value}" for name, value in values.items())
        left = tqdm.format_interval((self.iterations_in_all - done) / rate)
        epoch = f"epoch {self.iteration // self.batches_per_epoch + 1}/{self.epochs_in_all}"
        logger.info(f"{epoch}, iteration {done}/{self.iterations_in_all}, {rate:.3g} it/s, {left} left: {words}")

    def log_metrics(self, metrics: dict[str, float]) -> None:
        """Log metrics of an epoch. Raises NotFiniteError if a value is infinite or not a number."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise NotFiniteError(f"{name} is {value}")
            self.series.write(name, self.iteration - 1, value)

    def keep_best(self, network: Network, metrics: dict[str, float]) -> None:
        """Save a network as the best so far, with its metrics."""
        self.best = metrics
        folder = self.config.weights_folder(self.folder)
        network.save(folder / BEST_FILE)
        write_yaml(folder / "best.yaml", metrics)

    def end_epoch(
        self,
        epoch: int,
        passes: Sequence[Pass] = (),
        keep: Sequence[Callable[[Path], None]] = (),
        save: Callable[[], None] | None = None,
    ) -> None:
        """Save weights and a checkpoint when they are due, and write the run's page.

        Args:
            passes: forward passes that estimate the statistics of saved weights.
            keep: functions that write what inference needs besides weights, given the run's folder.
            save: saves the weights; None saves the networks of this epoch.

        Raises Stopped on request, after a checkpoint.
        """
        is_due = epoch % self.save_interval == 0 or epoch == self.epochs_in_all
        if self.is_writer and is_due:
            self._save_weights(epoch, passes) if save is None else save()
            for write in keep:
                write(self.folder)
        is_stop = self._is_stop_wanted() and epoch < self.epochs_in_all
        if self.is_writer and is_due and not is_stop:
            self.checkpoint()
        if self.is_writer:
            write_run_page(self.folder, self.config, self.iteration, epoch, self.data, self._versions)
        if is_stop:
            self._stop_now()

    def _save_weights(self, epoch: int, passes: Sequence[Pass]) -> None:
        count = min(self.config.train.statistics_batches, self.batches_per_epoch) if passes else 0
        with weights_to_save(self.average, passes, range(self.iteration, self.iteration + count)):
            for network in self.networks:
                network.save(self.config.weights_folder(self.folder) / network.weights_file(epoch))

    def _is_stop_wanted(self) -> bool:
        return self.communicator.any(self.stop.signal_number != 0)

    def _stop_now(self) -> None:
        message = ""  # only one process prints it
        if self.is_writer:
            self.checkpoint()
            message = f"stopped at iteration {self.iteration}; resume with --resume {self.folder}"
        raise Stopped(message, self.stop.exit_code)

    # checkpoints

    def checkpoint(self) -> Path:
        """Write a checkpoint, remove old ones, and return its folder."""
        state = {
            "module": self.config.MODULE,
            "iteration": self.iteration,
            "epoch": self.iteration // self.batches_per_epoch,
            "position": self.iteration % self.batches_per_epoch,
            "batches_per_epoch": self.batches_per_epoch,
            "processes": self.communicator.size,
            "learning_rates": {name: solver.adam.learning_rate() for name, solver in self.solvers.items()},
            "loss_scale": self.loss_scale.state(),
            "best": self.best,
            "series": self.series.state(),
            "data": self.data,
            "config": to_dict(self.config),
            "versions": self._versions,
            "saved_at": datetime.now(timezone.utc).isoformat(),
        }
        folder = self.folder / CHECKPOINTS / f"{self.iteration:09d}"
        if not folder.exists():
            save_checkpoint(folder, self.saved_networks, self.solvers, state)
        remove_checkpoints(checkpoints_of(self.folder)[: -self.keep])
        return folder

    def restore(self, folder: Path) -> None:
        """Restore a checkpoint."""
        state = load_checkpoint(folder, self.saved_networks, self.solvers)
        for name, solver in self.solvers.items():
            solver.set_rate(state["learning_rates"][name])
        self.iteration, self.best = state["iteration"], state["best"]
        self._begun_with = self.iteration
        self.loss_scale.restore(state["loss_scale"])
        if self.is_writer:
            self.series.restore(state["series"], self.iteration)
            # later checkpoints are damaged; their iterations will be repeated
            remove_checkpoints(c for c in checkpoints_of(self.folder) if int(c.name) > self.iteration)


def versions() -> dict[str, str]:
    """Return the versions of this code and of its libraries."""
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        code = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        code = "unknown"
    return {"code": code, "nnabla": nn.__version__, "numpy": np.__version__, "python": platform.python_version()}
