"""A training's run: its folder, where it stands, what is written of it, and requests to stop it."""

from __future__ import annotations

import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import nnabla as nn
import numpy as np
from tqdm import tqdm

from config import MODULE_KEY
from config.runs import INFO_FILE, run_parent
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
from utils.ending import OFTEN, requests
from utils.errors import NotFiniteError, Stopped
from utils.files import locked, new_folder, remove_leftovers_below, timestamp, write_yaml

SHOW_INTERVAL_S = 0.5  # between looks at the losses
LOG_INTERVAL_S = 30

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

    wanted = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # as nohup has it
    before = {number: signal.signal(number, ask) for number in wanted}
    try:
        with requests({number: 1 if number == signal.SIGINT else OFTEN for number in STOP_SIGNALS}):
            yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Run:
    """Keep where a run stands, and write what is written of it.

    Attributes:
        iteration: the next one, counted from 0 over all epochs.
        best: metrics of the best epoch by validation, where there is one.
        is_writer: whether this process writes.
    """

    def __init__(self, folder: Path, plan: Plan, stop: StopRequest):
        self.folder, self.plan = folder, plan
        self.config = {**plan.config, "context": current_context(), "experiment_name": folder.name}
        self.communicator = plan.updater.communicator
        self.iteration = 0
        self.best: dict[str, float] = {}
        self.is_writer = self.communicator.rank == 0
        self.series = Series(folder, plan.series_interval)
        self._stop = stop
        self._shown_at = self._begun_at = time.monotonic()
        self._begun_with = 0
        self._versions = versions()

    def epochs(self) -> Iterator[int]:
        """Count the epochs to do, from 1; the first may have begun already."""
        yield from range(self.iteration // self.plan.batches_per_epoch + 1, self.plan.epochs + 1)

    def iterations(self, epoch: int) -> Iterator[tuple[int, tqdm]]:
        """Count what is left of an epoch's iterations (numbered over all epochs), with the bar to show losses on.

        Each has its own seed for dropout. A request to stop ends the run after the step, with a checkpoint.

        Raises:
            Stopped: on request.
        """
        per_epoch = self.plan.batches_per_epoch
        end = epoch * per_epoch
        first = self.iteration - (end - per_epoch)
        name = f"epoch {epoch}/{self.plan.epochs}"
        is_hidden = not (self.is_writer and sys.stderr.isatty())
        with tqdm(total=per_epoch, initial=first, desc=name, unit="it", file=sys.stderr, disable=is_hidden) as bar:
            while self.iteration < end:
                step = self.iteration * self.communicator.size + self.communicator.rank
                nn.random.set_function_seed(int(np.random.default_rng([self.config["seed"], step]).integers(1 << 31)))
                yield self.iteration, bar
                self.iteration += 1
                bar.update()
                if self.iteration < end and self._is_stop_wanted():
                    self._end_on_request()

    def show(self, bar: tqdm, losses: dict[str, nn.Variable]) -> None:
        """Count the losses of an iteration; they are read off the device only when somebody sees them.

        On a terminal they stand on the bar; in a log file there is a line every half minute and at an epoch's end.
        """
        if not self.is_writer:
            return
        self.series.add(self.iteration, losses)
        now, done = time.monotonic(), self.iteration + 1
        is_last_of_epoch = done % self.plan.batches_per_epoch == 0
        interval_s = LOG_INTERVAL_S if bar.disable else SHOW_INTERVAL_S
        if now - self._shown_at < interval_s and not is_last_of_epoch:
            return
        self._shown_at = now
        values = {name: f"{float(loss.d):.3g}" for name, loss in losses.items()}
        if not bar.disable:
            bar.set_postfix(values, refresh=False)
            return
        rate = (done - self._begun_with) / max(now - self._begun_at, 1e-9)
        total = self.plan.iterations
        words = ", ".join(f"{name} {value}" for name, value in values.items())
        left = tqdm.format_interval((total - done) / rate)
        epoch = f"epoch {self.iteration // self.plan.batches_per_epoch + 1}/{self.plan.epochs}"
        print(f"{epoch}, iteration {done}/{total}, {rate:.3g} it/s, {left} left: {words}", file=sys.stderr)

    def batches_after(self, at_most: int) -> range:
        """Return the numbers of some batches that follow, no more than an epoch's."""
        return range(self.iteration, self.iteration + min(at_most, self.plan.batches_per_epoch))

    def saves(self, epoch: int) -> bool:
        """Tell whether weights are saved after an epoch: every save_interval epochs and at the end, by one process."""
        interval = self.config["monitor"].get("save_interval", self.plan.epochs)  # the shape prior only at the end
        return self.is_writer and (epoch % interval == 0 or epoch == self.plan.epochs)

    def end_epoch(self, epoch: int) -> None:
        """Write a checkpoint when one is due, and the page.

        Raises:
            Stopped: on request.
        """
        is_stop = self._is_stop_wanted() and epoch < self.plan.epochs
        if self.saves(epoch) and not is_stop:
            self.checkpoint()
        if self.is_writer:
            write_run_page(
                self.folder, self.plan.module, self.config, self.iteration, epoch, self.plan.data, self._versions
            )
        if is_stop:
            self._end_on_request()

    def _is_stop_wanted(self) -> bool:
        return self.communicator.any(self._stop.signal_number != 0)

    def _end_on_request(self) -> None:
        words = ""  # one process speaks for all
        if self.is_writer:
            self.checkpoint()
            words = f"stopped at iteration {self.iteration}; go on with --resume {self.folder}"
        raise Stopped(words, self._stop.exit_code)

    def checkpoint(self) -> Path:
        """Write a checkpoint, for which old ones make room; gives its folder."""
        state = {
            "module": self.plan.module,
            "iteration": self.iteration,
            "epoch": self.iteration // self.plan.batches_per_epoch,
            "position": self.iteration % self.plan.batches_per_epoch,
            "batches_per_epoch": self.plan.batches_per_epoch,
            "processes": self.communicator.size,
            "learning_rates": {name: solver.learning_rate() for name, solver in self.plan.solvers.items()},
            "loss_scale": self.plan.updater.state(),
            "best": self.best,
            "series": self.series.state(),
            "data": self.plan.data,
            "config": self.config,
            "versions": self._versions,
            "saved_at": datetime.now(timezone.utc).isoformat(),
        }
        folder = self.folder / CHECKPOINTS / f"{self.iteration:09d}"
        if not folder.exists():
            save_checkpoint(folder, self.plan.networks, self.plan.solvers, state)
        remove_checkpoints(checkpoints_of(self.folder)[: -self.plan.options.keep])
        return folder

    def restore(self, folder: Path) -> None:
        """Go back to a checkpoint."""
        state = load_checkpoint(folder, self.plan.networks, self.plan.solvers)
        for name, solver in self.plan.solvers.items():
            solver.set_learning_rate(state["learning_rates"][name])
        self.iteration, self.best = state["iteration"], state["best"]
        self._begun_with = self.iteration
        self.plan.updater.restore(state["loss_scale"])
        if self.is_writer:
            self.series.restore(state["series"], self.iteration)
            # iterations that will be done again may have written a checkpoint that is damaged
            remove_checkpoints(c for c in checkpoints_of(self.folder) if int(c.name) > self.iteration)


def require_finite(metrics: dict[str, float]) -> None:
    """Raise a NotFiniteError if a metric, which is no loss of a solver, is infinite or not a number."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} is {value}")


def dry_run(plan: Plan) -> None:
    """Check all that a run would, and print the plan; nothing is written."""
    plan.check()
    say = plan.updater.communicator.say
    if plan.options.resumed:
        require_same(plan, plan.options.resumed, newest_checkpoint(plan.options.resumed, say)[1])
    say(plan.text())


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
    communicator = plan.updater.communicator
    folder, state = plan.options.resumed, None
    if folder:
        checkpoint, state = newest_checkpoint(folder, communicator.say)
        require_same(plan, folder, state)
    elif communicator.rank == 0:
        name = plan.config["experiment_name"] or timestamp()
        folder = new_folder(run_parent(plan.module, plan.config), name, plan.options.info)
    folder = Path(communicator.share(str(folder)))
    with locked(folder) if communicator.rank == 0 else nullcontext(), stop_requests() as stop:
        run = Run(folder, plan, stop)
        if run.is_writer:
            remove_leftovers_below(folder)
            write_yaml(folder / INFO_FILE, {MODULE_KEY: plan.module, **run.config})
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


def versions() -> dict[str, str]:
    """Find the versions of the code and of what it stands on."""
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        code = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        code = "unknown"
    return {"code": code, "nnabla": nn.__version__, "numpy": np.__version__, "python": platform.python_version()}
