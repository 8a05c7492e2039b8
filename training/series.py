"""Time series of losses in the format of nnabla's monitors, which a resumed run continues.

`<name>.series.txt` has lines of `index mean`, `<name>.timer.txt` lines of `index seconds iterations total`, for
`nnabla_cli plot_series` and `plot_timer`. Unlike nnabla's MonitorSeries and MonitorTimeElapsed, existing files are
continued, and losses are not read from the device at every iteration.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import nnabla as nn

from utils.files import write_text

TIMER = "time_training"


class Series:
    """Writer of means of losses over `interval` iterations, which are summed on the device."""

    def __init__(self, folder: Path, interval: int):
        self.folder, self.interval = folder, interval
        self._sums: dict[str, nn.NdArray] = {}
        self._counts: dict[str, int] = {}
        self._start = self._lap = time.monotonic()
        self._timed = 0

    def add(self, index: int, losses: dict[str, nn.Variable]) -> None:
        """Add the losses of an iteration, counted from 0."""
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
        """Write one value."""
        path = self.folder / f"{name}.series.txt"
        path.parent.mkdir(exist_ok=True)
        _append(path, f"{index} {value:.9g}")

    def state(self) -> dict[str, list]:
        """Return the sums since the last line, for a checkpoint."""
        return {name: [float(total.data), self._counts[name]] for name, total in self._sums.items()}

    def restore(self, state: dict[str, list], next_index: int) -> None:
        """Restore a checkpoint. Lines of later iterations are removed, because they will be repeated."""
        for path in _files(self.folder):
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and int(line.split()[0]) < next_index]
            write_text(path, "".join(kept))
        for name, (total, count) in state.items():
            self._sums[name], self._counts[name] = nn.NdArray(()), count
            self._sums[name].data = total


def _append(path: Path, line: str) -> None:
    with open(path, "a") as file:
        print(line, file=file)


def _files(folder: Path) -> Iterator[Path]:
    for pattern in ("**/*.series.txt", "**/*.timer.txt"):
        yield from sorted(folder.glob(pattern))


def read_series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the points (index, value) of all series of a run, by their paths without the suffix."""
    series = {}
    for path in _files(folder):
        rows = [line.split() for line in path.read_text().splitlines()]
        name = path.relative_to(folder).as_posix().rpartition(".")[0].rpartition(".")[0]
        if path.name.endswith(".timer.txt"):
            series[name] = [(int(row[0]), float(row[1]) / max(int(row[2]), 1)) for row in rows]
        else:
            series[name] = [(int(row[0]), float(row[1])) for row in rows]
    return series
