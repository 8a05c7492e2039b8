"""Series of losses in nnabla's monitor files, which a resumed run continues.

`<name>.series.txt` has lines of `index mean`, `<name>.timer.txt` lines of `index seconds iterations total`, as nnabla's
MonitorSeries and MonitorTimeElapsed write them (`nnabla_cli plot_series` and `plot_timer` read them); those begin with
an empty file each time, and read every loss off the device at every iteration.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nnabla as nn
from nnabla.logger import logger

from utils.files import write_text
from utils.libraries import LibraryError, load

TIMER = "time_training"


class Series:
    """Write means of losses over `interval` iterations each, summed where the losses are.

    Args:
        folder: of the run.
        interval: iterations between lines.
    """

    def __init__(self, folder: Path, interval: int):
        self.folder, self.interval = folder, interval
        self._sums: dict[str, nn.NdArray] = {}
        self._counts: dict[str, int] = {}
        self._start = self._lap = time.monotonic()
        self._timed = 0
        self._board: Any = None
        self._first = 0  # a board forgets what an interrupted run wrote beyond

    def add(self, index: int, losses: dict[str, nn.Variable]) -> None:
        """Count the losses of an iteration (from 0); nothing is read off the device until a line is due."""
        for name, loss in losses.items():
            if name not in self._sums:
                self._sums[name] = nn.NdArray(loss.shape)
                self._sums[name].zero()
                self._counts[name] = 0
            self._sums[name] += loss.data
            self._counts[name] += 1
        self._timed += 1
        if (index + 1) % self.interval == 0:
            for name in self._sums:
                self.write(name, index, float(self._sums[name].data) / self._counts[name])
            self._sums, self._counts = {}, {}
            now = time.monotonic()
            line = f"{index} {now - self._lap:.6g} {self._timed} {now - self._start:.6g}"
            _append(self.folder / f"{TIMER}.timer.txt", line)
            self._lap, self._timed = now, 0

    def write(self, name: str, index: int, value: float) -> None:
        """Write one line now; also for what is not a mean of losses."""
        path = self.folder / f"{name}.series.txt"
        path.parent.mkdir(exist_ok=True)
        _append(path, f"{index} {value:.9g}")
        if self._board is None:
            self._board = _tensorboard(self.folder, self._first)
        if self._board:
            self._board.add_scalar(name, value, index)

    def close(self) -> None:
        """Finish what goes to TensorBoard."""
        if self._board:
            self._board.close()

    def state(self) -> dict[str, list]:
        """Return what has been counted since the last line, for a checkpoint."""
        return {name: [float(total.data), self._counts[name]] for name, total in self._sums.items()}

    def restore(self, state: dict[str, list], next_index: int) -> None:
        """Go on from a checkpoint: lines of iterations that will be done again are cut off."""
        for path in _files(self.folder):
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and int(line.split()[0]) < next_index]
            write_text(path, "".join(kept))
        for name, (total, count) in state.items():
            self._sums[name], self._counts[name] = nn.NdArray(()), count
            self._sums[name].data = total
        self._first = next_index


def _append(path: Path, line: str) -> None:
    with open(path, "a") as file:
        print(line, file=file)


def _files(folder: Path) -> Iterator[Path]:
    for pattern in ("**/*.series.txt", "**/*.timer.txt"):
        yield from sorted(folder.glob(pattern))


def _tensorboard(folder: Path, first_index: int) -> Any:
    """Open a writer where tensorboardX is installed, else give False."""
    if importlib.util.find_spec("tensorboardX") is None:
        return False
    try:
        board = load("tensorboardX", "pip install tensorboardX")
    except LibraryError as error:
        logger.warning(f"no TensorBoard: {error}")
        return False
    return board.SummaryWriter(str(folder / "tensorboard"), purge_step=first_index, flush_secs=30)


def read_series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read points (index, value) of every series below a run's folder, by its path without the ending."""
    series = {}
    for path in _files(folder):
        rows = [line.split() for line in path.read_text().splitlines()]
        name = path.relative_to(folder).as_posix().rpartition(".")[0].rpartition(".")[0]
        if path.name.endswith(".timer.txt"):
            series[name] = [(int(row[0]), float(row[1]) / max(int(row[2]), 1)) for row in rows]
        else:
            series[name] = [(int(row[0]), float(row[1])) for row in rows]
    return series
