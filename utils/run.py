"""A training's run: its folder, where it stands, checkpoints, resuming, stopping."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nnabla as nn
import nnabla.solvers as S
import numpy as np
from tqdm import tqdm

from config import MODULE_KEY, load_config, pair_name
from utils.checkpoints import STATE_FILE, load_checkpoint, parameters_of, read_state, save_checkpoint
from utils.communicator import Communicator
from utils.errors import ConfigError, NotFiniteError, ResourceError, Stopped, WeightsError
from utils.files import locked, new_folder, remove_all_leftovers, remove_folder, timestamp, write_yaml
from utils.run_page import write_run_page
from utils.series import Series
from utils.stop import StopRequest, stop_requests

CHECKPOINTS = "checkpoints"
INFO_FILE = "training_info.yaml"
SHOW_INTERVAL_S = 0.5  # between looks at the losses
LOG_INTERVAL_S = 30
BYTES = 4  # of a float32

# Keys that a resumed run may change: none of them changes what an iteration computes.
# Where data lies may change, too: what it is, is compared by itself.
FREE_KEYS = ("context", "device_id", "logdir", "train_dir", "ref_dir", "path.data_dir", "finetune.param_path")
FREE_KEYS += ("train.epochs", "train.num_workers", "train.with_memory_cache")
FREE_SECTIONS = ("monitor.", "test.")


@dataclass
class Plan:
    """What a training is going to do, before it begins."""

    module: str
    config: dict[str, Any]
    networks: tuple[str, ...]  # scopes that are trained and saved
    solvers: dict[str, S.Solver]
    batches_per_epoch: int
    data: dict[str, dict[str, Any]]  # what it is trained on: of each part, what tells it from other data
    graphs: tuple[nn.Variable, ...]  # whose outputs need memory
    series_interval: int  # iterations between values of the losses
    resumes: Path | None = None  # the run to go on with
    communicator: Communicator = field(default_factory=Communicator)
    loss_scale: Any = None  # of mixed precision, with value and good_updates
    keep: int = 3  # checkpoints
    info: str = ""  # appended to the run's name

    @property
    def epochs(self) -> int:
        return self.config["train"]["epochs"]

    def weights_bytes(self) -> int:
        return sum(BYTES * v.size for scope in self.networks for v in parameters_of(scope).values())

    def disk_bytes(self) -> int:
        """Of the weights of every saved epoch and of the checkpoints, one of them in the making."""
        weights = self.weights_bytes()
        num_saves = -(-self.epochs // self.config.get("monitor", {}).get("save_interval", self.epochs))
        return weights * num_saves + 3 * weights * (self.keep + 1)

    def memory_bytes(self) -> int:
        """At most about: weights, gradients, moments; outputs of every function and their gradients."""
        sizes: dict[int, int] = {}

        def visit(function: nn.function.Function) -> None:
            sizes.update({hash(output): output.size for output in function.outputs})

        for last in self.graphs:
            last.visit(visit)
        everything = sum(v.size for v in nn.get_parameters(grad_only=False).values())
        return BYTES * (2 * sum(sizes.values()) + everything) + 3 * self.weights_bytes()

    def text(self) -> str:
        total = self.epochs * self.batches_per_epoch
        parameters = (f"{scope} {sum(v.size for v in parameters_of(scope).values()):,}" for scope in self.networks)
        parent = run_parent(self.module, self.config)
        free = shutil.disk_usage(_existing(parent)).free
        lines = [
            f"plan for the {self.module}:",
            *(f"  data {name}: {about['count']} samples, {about['what']}" for name, about in self.data.items()),
            f"  iterations: {self.batches_per_epoch} an epoch, {self.epochs} epochs, {total} in all"
            + (f", on {self.communicator.size} processes" if self.communicator.size > 1 else ""),
            f"  parameters: {', '.join(parameters)}",
            f"  memory: about {self.memory_bytes() / 2**30:.2f} GiB at most, and batches made ahead",
            f"  disk: {self.disk_bytes() / 2**30:.2f} GiB at most, {free / 2**30:.1f} free",
            f"  goes on with: {self.resumes}" if self.resumes else f"  lands in: {parent}/{self._name()}",
        ]
        return "\n".join(lines)

    def _name(self) -> str:
        name = self.config["experiment_name"] or "<date and time>"
        return f"{name}-{self.info}" if self.info else name

    def check(self) -> None:
        """What would end the training later.

        Raises:
            ResourceError: the folder cannot be written to, or the disk has too little room.
        """
        parent = self.resumes or run_parent(self.module, self.config)
        existing = _existing(parent)
        if not existing.is_dir():
            raise ResourceError(f"{existing}: not a folder; runs would go to {parent}")
        try:
            tempfile.TemporaryFile(dir=existing).close()  # every rank asks: no name that two could share
        except OSError as error:
            raise ResourceError(f"{existing}: cannot be written to ({error.strerror}); set another logdir") from None
        free = shutil.disk_usage(existing).free
        if free < self.disk_bytes():
            raise ResourceError(
                f"{existing}: {free / 2**30:.1f} GiB free, {self.disk_bytes() / 2**30:.1f} GiB needed for weights and "
                "checkpoints; free some space, save less often (monitor.save_interval) or keep fewer (--keep)"
            )


def _existing(path: Path) -> Path:
    """The nearest folder above that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def run_parent(module: str, config: dict[str, Any]) -> Path:
    """The folder that runs like this one have in common."""
    parent = Path(config["logdir"]) / module
    if module == "transformer":
        return parent / pair_name(config)
    return parent / config["trg_celeb_name"] if module == "decoder" else parent


class Run:
    """A run under way: where it stands, and what is written of it."""

    def __init__(self, folder: Path, plan: Plan, stop: StopRequest):
        self.folder, self.plan, self.config = folder, plan, plan.config
        self.iteration = 0  # the next one, counted from 0 over all epochs
        self.best: dict[str, float] = {}  # by validation, where there is one
        self.is_writer = plan.communicator.rank == 0
        self.series = Series(folder, plan.series_interval)
        self._stop = stop
        self._shown_at = self._begun_at = time.monotonic()
        self._begun_with = 0
        self._versions = versions()

    def epochs(self) -> Iterator[int]:
        """Epochs to do, from 1; the first may have begun already."""
        yield from range(self.iteration // self.plan.batches_per_epoch + 1, self.plan.epochs + 1)

    def iterations(self, epoch: int) -> Iterator[tuple[int, tqdm]]:
        """What is left of an epoch's iterations (numbered over all epochs), with the bar to show losses on.

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
                rank, size = self.plan.communicator.rank, self.plan.communicator.size
                step = self.iteration * size + rank
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
        is_last = done % self.plan.batches_per_epoch == 0
        interval_s = LOG_INTERVAL_S if bar.disable else SHOW_INTERVAL_S
        if now - self._shown_at < interval_s and not is_last:
            return
        self._shown_at = now
        values = {name: f"{float(loss.d):.3g}" for name, loss in losses.items()}
        if not bar.disable:
            bar.set_postfix(values, refresh=False)
            return
        rate = (done - self._begun_with) / max(now - self._begun_at, 1e-9)
        total = self.plan.epochs * self.plan.batches_per_epoch
        words = ", ".join(f"{name} {value}" for name, value in values.items())
        left = tqdm.format_interval((total - done) / rate)
        epoch = f"epoch {self.iteration // self.plan.batches_per_epoch + 1}/{self.plan.epochs}"
        print(f"{epoch}, iteration {done}/{total}, {rate:.3g} it/s, {left} left: {words}", file=sys.stderr)

    def saves(self, epoch: int) -> bool:
        """Whether weights are saved after an epoch: every save_interval epochs and at the end, by one process."""
        interval = self.config["monitor"].get("save_interval", self.plan.epochs)
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
            about = (self.plan.data, self._versions)
            write_run_page(self.folder, self.plan.module, self.config, self.iteration, epoch, *about)
        if is_stop:
            self._end_on_request()

    def _is_stop_wanted(self) -> bool:
        return self.plan.communicator.any(self._stop.signal_number != 0)

    def _end_on_request(self) -> None:
        where = ""
        if self.is_writer:
            where = f"; go on with --resume {self.folder}" if self.checkpoint() else ""
        raise Stopped(f"stopped at iteration {self.iteration}{where}", self._stop.exit_code)

    def checkpoint(self) -> Path:
        """Everything that is needed to go on exactly; old checkpoints make room."""
        state = {
            "module": self.plan.module,
            "iteration": self.iteration,
            "epoch": self.iteration // self.plan.batches_per_epoch,
            "position": self.iteration % self.plan.batches_per_epoch,
            "batches_per_epoch": self.plan.batches_per_epoch,
            "processes": self.plan.communicator.size,
            "learning_rates": {name: solver.learning_rate() for name, solver in self.plan.solvers.items()},
            "loss_scale": [self.plan.loss_scale.value, self.plan.loss_scale.good_updates],
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
        for old in checkpoints_of(self.folder)[: -self.plan.keep]:
            remove_folder(old)
        return folder

    def restore(self, folder: Path) -> None:
        """Go back to a checkpoint."""
        state = load_checkpoint(folder, self.plan.networks, self.plan.solvers)
        for name, solver in self.plan.solvers.items():
            solver.set_learning_rate(state["learning_rates"][name])
        self.iteration, self.best = state["iteration"], state["best"]
        self._begun_with = self.iteration
        self.plan.loss_scale.value, self.plan.loss_scale.good_updates = state["loss_scale"]
        if self.is_writer:
            self.series.restore(state["series"], self.iteration)
        # iterations that will be done again may have written a checkpoint that is damaged
        for later in checkpoints_of(self.folder):
            if self.is_writer and int(later.name) > self.iteration:
                remove_folder(later)


def checkpoints_of(folder: Path) -> list[Path]:
    """A run's checkpoints, the oldest first."""
    root = folder / CHECKPOINTS
    return sorted(path for path in root.iterdir() if path.name.isdigit()) if root.is_dir() else []


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint that is whole, and its values; a damaged one is passed over, and said.

    Raises:
        WeightsError: there is none.
    """
    for checkpoint in reversed(checkpoints_of(folder)):
        try:
            return checkpoint, read_state(checkpoint)
        except WeightsError as error:
            print(f"note: {error}; trying the one before")
    raise WeightsError(f"{folder}: no complete checkpoint in it; begin a new run without --resume")


def find_run(wanted: str, parent: Path) -> Path | None:
    """The run that --resume means: a folder, its training_info.yaml, or `auto` for the one saved last.

    Returns:
        None where `auto` finds no run with a checkpoint.

    Raises:
        ConfigError: there is no such run.
    """
    if wanted != "auto":
        folder = Path(wanted).parent if Path(wanted).name == INFO_FILE else Path(wanted)
        if not (folder / INFO_FILE).is_file():
            raise ConfigError(f"--resume {wanted}: no run there (a folder with {INFO_FILE})")
        return folder
    saved = {}
    for folder in parent.iterdir() if parent.is_dir() else ():
        for checkpoint in checkpoints_of(folder):
            with suppress(OSError, ValueError, KeyError):
                saved[json.loads((checkpoint / STATE_FILE).read_text())["saved_at"]] = folder
    # only the run that is chosen is read in full
    for _, folder in sorted(saved.items(), reverse=True):
        with suppress(WeightsError):
            newest_checkpoint(folder)
            return folder
    return None


def require_same(plan: Plan, folder: Path, state: dict[str, Any]) -> None:
    """That a checkpoint belongs to this training.

    Raises:
        ConfigError: with everything that differs.
    """
    differences = [
        f"{key} was {old!r}, is {new!r}"
        for key, old, new in _differences(state["config"], plan.config)
        if key not in FREE_KEYS and not key.startswith(FREE_SECTIONS) and key != "experiment_name"
    ]
    now = {"batches_per_epoch": plan.batches_per_epoch, "processes": plan.communicator.size, "data": plan.data}
    before = {key: state[key] for key in now}
    differences += [f"{key} was {old!r}, is {new!r}" for key, old, new in _differences(before, now)]
    if state["module"] != plan.module:
        differences.insert(0, f"it is a run of the {state['module']}")
    if differences:
        raise ConfigError(f"{folder}: cannot be resumed with other settings or data: {'; '.join(differences)}")
    if state["iteration"] > plan.epochs * plan.batches_per_epoch:
        raise ConfigError(f"train.epochs: {plan.epochs} are over already; {folder} is in epoch {state['epoch'] + 1}")


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
    elif old != new:
        yield prefix, old, new


def dry_run(plan: Plan) -> None:
    """Check all that a run would, and print the plan; nothing is written."""
    plan.check()
    if plan.resumes:
        require_same(plan, plan.resumes, newest_checkpoint(plan.resumes)[1])
    print(plan.text())


@contextmanager
def open_run(plan: Plan) -> Iterator[Run]:
    """A new run's folder, or an old one's where it stopped; no other process can enter it meanwhile.

    Raises:
        ConfigError: a run cannot be resumed with these settings.
        ResourceError: another process is in it, or it cannot be written.
        NotFiniteError: with the last good checkpoint.
        Stopped: on request, after a checkpoint.
    """
    plan.check()
    state = None
    if plan.resumes:
        folder = plan.resumes
        checkpoint, state = newest_checkpoint(folder)
        require_same(plan, folder, state)
    elif plan.communicator.rank == 0:
        name = plan.config["experiment_name"] or timestamp()
        folder = new_folder(run_parent(plan.module, plan.config), name, plan.info)
    folder = Path(plan.communicator.share(str(folder) if plan.communicator.rank == 0 else ""))
    plan.config["experiment_name"] = folder.name
    with _lock_of_the_writer(plan, folder), stop_requests() as stop:
        run = Run(folder, plan, stop)
        if run.is_writer:
            remove_all_leftovers(folder)
            write_yaml(folder / INFO_FILE, {MODULE_KEY: plan.module, **plan.config})
        if state is not None:
            run.restore(checkpoint)
        print(f"run: {folder}" + (f", from iteration {run.iteration}" if state else ""))
        if run.iteration == plan.epochs * plan.batches_per_epoch:
            raise Stopped(f"{folder} is complete; a larger train.epochs goes on with it", exit_code=0)
        try:
            yield run
        except NotFiniteError as error:
            last = checkpoints_of(folder)
            good = f"the last good checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
            raise NotFiniteError(f"{error}, at iteration {run.iteration}; lower train.lr; {good}") from None
        finally:
            run.series.close()


@contextmanager
def _lock_of_the_writer(plan: Plan, folder: Path) -> Iterator[None]:
    if plan.communicator.rank != 0:
        yield
        return
    with locked(folder):
        yield


def versions() -> dict[str, str]:
    """Of the code and of what it stands on."""
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        code = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        code = "unknown"
    return {"code": code, "nnabla": nn.__version__, "numpy": np.__version__, "python": platform.python_version()}


def load_run_config(module: str, folder: Path) -> dict[str, Any]:
    return load_config(module, folder / INFO_FILE)
