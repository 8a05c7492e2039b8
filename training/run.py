"""A training's run: its folder, where it stands, what is written of it, and requests to stop it."""

from __future__ import annotations

import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import nnabla as nn
import numpy as np
from nnabla.logger import logger
from tqdm import tqdm

from config import MODULE_KEY, to_dict, with_values
from config.runs import BEST_FILE, INFO_FILE
from models.network import Network
from training.averaging import Pass, weights_to_save
from training.checkpoints import (
    CHECKPOINTS,
    checkpoints_of,
    load_checkpoint,
    newest_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from training.plan import Plan
from training.resume import require_same
from training.run_page import write_run_page
from training.series import Series
from utils.context import current_context
from utils.ending import OFTEN, as_requests
from utils.errors import NotFiniteError, Stopped
from utils.files import locked, new_folder, remove_leftovers_below, timestamp, write_yaml

SHOW_INTERVAL_S = 0.5  # between looks at the losses
LOG_INTERVAL_S, FIRST_LOG_S = 30, 5

STOP_MESSAGE = b"\nstopping after this step, with a checkpoint; Ctrl-C again stops at once\n"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)


@dataclass
class StopRequest:
    """Hold the signal that asked for the end, if one did."""

    signal_number: int = 0  # 0 while nobody asked

    @property
    def exit_code(self) -> int:
        """Return the exit code as shells count: 130 for Ctrl-C, 143 for being terminated in whatever way."""
        return 128 + (signal.SIGINT if self.signal_number == signal.SIGINT else signal.SIGTERM)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Let the first signal only ask while the block runs; a second Ctrl-C stops at once."""
    request = StopRequest()
    was_interrupted = False

    def ask(number: int, _: object) -> None:
        nonlocal was_interrupted
        if number == signal.SIGINT:
            if was_interrupted:
                raise KeyboardInterrupt
            was_interrupted = True
        request.signal_number = request.signal_number or number
        with suppress(OSError):  # the terminal may be gone
            os.write(2, STOP_MESSAGE)  # not print(): the signal may have come in the middle of one

    wanted = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup has it so
    before = {number: signal.signal(number, ask) for number in wanted}
    try:
        with as_requests({number: 1 if number == signal.SIGINT else OFTEN for number in STOP_SIGNALS}):
            yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Run:
    """Keep where a run stands, and write what is written of it.

    Attributes:
        iteration: the next one, counted from 0 over all epochs.
        best: metrics of the best epoch by validation, if a training validates.
        is_writer: whether this process writes.
    """

    def __init__(self, folder: Path, plan: Plan, stop: StopRequest):
        self.folder, self.plan = folder, plan
        self.config = with_values(plan.config, {"context": current_context(), "experiment_name": folder.name})
        self.iteration = 0
        self.best: dict[str, float] = {}
        self.is_writer = plan.communicator.rank == 0
        self.series = Series(folder, plan.series_interval)
        self._stop = stop
        self._shown_at = self._begun_at = time.monotonic()
        self._begun_with = 0
        self._log_interval_s = FIRST_LOG_S
        self._versions = versions()
        self._bar: tqdm | None = None

    def epochs(self) -> Iterator[int]:
        """Count the epochs to do, from 1; the first may have begun already."""
        yield from range(self.iteration // self.plan.batches_per_epoch + 1, self.plan.epochs + 1)

    def iterations(self, epoch: int) -> Iterator[int]:
        """Count what is left of an epoch's iterations, numbered over all epochs.

        Each has its own seed for dropout. A request to stop ends the run after the step, with a checkpoint.

        Raises:
            Stopped: on request.
        """
        per_epoch = self.plan.batches_per_epoch
        end = epoch * per_epoch
        first = self.iteration - (end - per_epoch)
        name = f"epoch {epoch}/{self.plan.epochs}"
        is_hidden = not (self.is_writer and sys.stderr.isatty())
        communicator = self.plan.communicator
        with tqdm(total=per_epoch, initial=first, desc=name, unit="it", file=sys.stderr, disable=is_hidden) as bar:
            self._bar = bar
            while self.iteration < end:
                step = self.iteration * communicator.size + communicator.rank
                nn.random.set_function_seed(int(np.random.default_rng([self.config.seed, step]).integers(1 << 31)))
                yield self.iteration
                self.iteration += 1
                bar.update()
                if self.iteration < end and self._is_stop_wanted():
                    self._end_on_request()

    def log(self, losses: dict[str, nn.Variable], panel: Callable[[Path, int, int], None] | None = None) -> None:
        """Take an iteration's losses; they are read off the device only when somebody sees them.

        On a terminal they stand on the bar; a log file gets a line every half minute and at an epoch's end.

        Args:
            panel: writes sample pictures into a folder, after so many iterations, in an epoch; every
                `monitor.interval` iterations and at the end of an epoch.
        """
        self.plan.average.update(self.iteration)
        if not self.is_writer:
            return
        self.series.add(self.iteration, losses)
        self._show(losses)
        if panel is None:
            return
        done, per_epoch = self.iteration + 1, self.plan.batches_per_epoch
        if done % self.config.monitor.interval == 0 or done % per_epoch == 0:
            panel(self.folder / "result", done, self.iteration // per_epoch + 1)

    def _show(self, losses: dict[str, nn.Variable]) -> None:
        bar, now, done = self._bar, time.monotonic(), self.iteration + 1
        is_last_of_epoch = done % self.plan.batches_per_epoch == 0
        interval_s = self._log_interval_s if bar.disable else SHOW_INTERVAL_S
        if now - self._shown_at < interval_s and not is_last_of_epoch:
            return
        self._shown_at, self._log_interval_s = now, LOG_INTERVAL_S
        values = {name: f"{float(loss.d):.3g}" for name, loss in losses.items()}
        if not bar.disable:
            bar.set_postfix(values, refresh=False)
            return
        rate = (done - self._begun_with) / max(now - self._begun_at, 1e-9)
        total = self.plan.iterations
        words = ", ".join(f"{name} {value}" for name, value in values.items())
        left = tqdm.format_interval((total - done) / rate)
        epoch = f"epoch {self.iteration // self.plan.batches_per_epoch + 1}/{self.plan.epochs}"
        logger.info(f"{epoch}, iteration {done}/{total}, {rate:.3g} it/s, {left} left: {words}")

    def log_metrics(self, metrics: dict[str, float]) -> None:
        """Add values to series of their own, after an epoch's last iteration.

        Raises:
            NotFiniteError: a value is infinite or not a number.
        """
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise NotFiniteError(f"{name} is {value}")
            self.series.write(name, self.iteration - 1, value)

    def keep_best(self, network: Network, metrics: dict[str, float]) -> None:
        """Save a network as the best so far, with the metrics that say so."""
        self.best = metrics
        folder = self.config.weights_folder(self.folder)
        network.save(folder / BEST_FILE)
        write_yaml(folder / "best.yaml", metrics)

    def end_epoch(
        self,
        epoch: int,
        passes: Sequence[Pass] = (),
        keep: Callable[[Path], None] | None = None,
        save: Callable[[], None] | None = None,
    ) -> None:
        """Write weights and a checkpoint when they are due, and the page.

        Args:
            passes: through the networks whose saved weights have fresh statistics.
            keep: writes into the run's folder what inference needs besides weights.
            save: writes the weights; None for the networks' files of this epoch.

        Raises:
            Stopped: on request.
        """
        is_due = epoch % self.plan.save_interval == 0 or epoch == self.plan.epochs
        if self.is_writer and is_due:
            self._save_weights(epoch, passes) if save is None else save()
            if keep is not None:
                keep(self.folder)
        is_stop = self._is_stop_wanted() and epoch < self.plan.epochs
        if self.is_writer and is_due and not is_stop:
            self.checkpoint()
        if self.is_writer:
            write_run_page(self.folder, self.config, self.iteration, epoch, self.plan.data, self._versions)
        if is_stop:
            self._end_on_request()

    def _save_weights(self, epoch: int, passes: Sequence[Pass]) -> None:
        """Save the networks, averaged and with fresh statistics if passes go through them."""
        at_most = min(self.config.train.statistics_batches, self.plan.batches_per_epoch) if passes else 0
        numbers = range(self.iteration, self.iteration + at_most)
        with weights_to_save(self.plan.average, passes, numbers):
            for network in self.plan.networks:
                network.save(self.config.weights_folder(self.folder) / network.weights_file(epoch))

    def _is_stop_wanted(self) -> bool:
        return self.plan.communicator.any(self._stop.signal_number != 0)

    def _end_on_request(self) -> None:
        words = ""  # one process speaks for all
        if self.is_writer:
            self.checkpoint()
            words = f"stopped at iteration {self.iteration}; go on with --resume {self.folder}"
        raise Stopped(words, self._stop.exit_code)

    def checkpoint(self) -> Path:
        """Write a checkpoint, for which old ones make room; return its folder."""
        state = {
            "module": self.config.MODULE,
            "iteration": self.iteration,
            "epoch": self.iteration // self.plan.batches_per_epoch,
            "position": self.iteration % self.plan.batches_per_epoch,
            "batches_per_epoch": self.plan.batches_per_epoch,
            "processes": self.plan.communicator.size,
            "learning_rates": {name: solver.adam.learning_rate() for name, solver in self.plan.solvers.items()},
            "loss_scale": self.plan.loss_scale.state(),
            "best": self.best,
            "series": self.series.state(),
            "data": self.plan.data,
            "config": to_dict(self.config),
            "versions": self._versions,
            "saved_at": datetime.now(timezone.utc).isoformat(),
        }
        folder = self.folder / CHECKPOINTS / f"{self.iteration:09d}"
        if not folder.exists():
            save_checkpoint(folder, self.plan.kept, self.plan.solvers, state)
        remove_checkpoints(checkpoints_of(self.folder)[: -self.plan.keep])
        return folder

    def restore(self, folder: Path) -> None:
        """Go back to a checkpoint."""
        state = load_checkpoint(folder, self.plan.kept, self.plan.solvers)
        for name, solver in self.plan.solvers.items():
            solver.set_rate(state["learning_rates"][name])
        self.iteration, self.best = state["iteration"], state["best"]
        self._begun_with = self.iteration
        self.plan.loss_scale.restore(state["loss_scale"])
        if self.is_writer:
            self.series.restore(state["series"], self.iteration)
            # iterations that will be done again may have written a checkpoint that is damaged
            remove_checkpoints(c for c in checkpoints_of(self.folder) if int(c.name) > self.iteration)


@contextmanager
def open_run(plan: Plan) -> Iterator[Run]:
    """Open a new run, or an old one where it stopped; no other process can enter its folder meanwhile.

    Raises:
        ConfigError: a run cannot be resumed with these settings.
        ResourceError: another process is in it, or it cannot be written.
        NotFiniteError: with the last good checkpoint.
        Stopped: on request, after a checkpoint.
    """
    plan.check()
    communicator = plan.communicator
    folder, state = plan.resumed, None
    if folder:
        checkpoint, state = newest_checkpoint(folder, communicator.say)
        require_same(plan, folder, state)
    elif communicator.rank == 0:
        name = plan.config.experiment_name or timestamp()
        folder = new_folder(plan.config.runs_folder, name, plan.info)
    folder = Path(communicator.share(str(folder)))
    with locked(folder) if communicator.rank == 0 else nullcontext(), stop_requests() as stop:
        run = Run(folder, plan, stop)
        if run.is_writer:
            remove_leftovers_below(folder)
            write_yaml(folder / INFO_FILE, {MODULE_KEY: plan.config.MODULE, **to_dict(run.config)})
        if state is not None:
            run.restore(checkpoint)
        communicator.say(f"run: {folder}" + (f", from iteration {run.iteration}" if state else ""))
        if run.iteration == plan.iterations:
            words = f"{folder} is complete; a larger train.epochs goes on with it"
            raise Stopped(words if run.is_writer else "", exit_code=0)
        try:
            yield run
        except NotFiniteError as error:
            last = checkpoints_of(folder)
            good = f"the last good checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
            raise NotFiniteError(f"{error}, at iteration {run.iteration}; lower train.lr; {good}") from None
        finally:
            run.series.close()
    communicator.say(f"weights in {plan.config.weights_folder(folder)}")


def versions() -> dict[str, str]:
    """Find the versions of the code and of what it stands on."""
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        code = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        code = "unknown"
    return {"code": code, "nnabla": nn.__version__, "numpy": np.__version__, "python": platform.python_version()}
