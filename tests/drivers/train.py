"""Run a training in which something happens at one moment.

    python tests/drivers/train.py MODULE WHAT WHEN NUMBER RANK [a training's own options]

WHEN is `step` or `checkpoint`: after the NUMBERth of them, on process RANK, WHAT happens, one of `HAPPENINGS`.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from training.training import call_training

from training.run import Run
from utils.errors import DataError


def send(number: int, times: int = 1) -> None:
    for _ in range(times):
        os.kill(os.getpid(), number)


def fail(error: Exception) -> None:
    raise error


HAPPENINGS = {
    "nothing": lambda: None,
    "SIGTERM": lambda: send(signal.SIGTERM),
    "SIGUSR1": lambda: send(signal.SIGUSR1),
    "SIGKILL": lambda: send(signal.SIGKILL),
    "SIGINT twice": lambda: send(signal.SIGINT, 2),
    "failure": lambda: fail(DataError("this rank's image is damaged; replace it")),
    "mistake": lambda: fail(ZeroDivisionError("a mistake")),
    "lost data": lambda: os.rename("datasets", "gone"),
}


class Moment:
    """Call a function after the NUMBERth call of any of some functions."""

    def __init__(self, happen, number: int, rank: int):
        self.happen, self.number, self.rank, self.count = happen, number, rank, 0

    def after(self, function):
        """Return the function, with its calls counted."""

        def counted(*args, **more):
            result = function(*args, **more)
            self.count += 1
            if self.count == self.number and int(os.environ.get("PMI_RANK", 0)) == self.rank:
                self.happen()
            return result

        return counted


def main() -> None:
    module, what, when, number, rank = (sys.argv.pop(1) for _ in range(5))
    script = importlib.import_module(f"train_{module}")
    moment = Moment(HAPPENINGS.get(what), int(number), int(rank))
    if when == "step":
        for name in ("train_step", "warm_start_step"):
            if hasattr(script, name):
                setattr(script, name, moment.after(getattr(script, name)))
    else:
        Run.checkpoint = moment.after(Run.checkpoint)
    call_training(script.main)


if __name__ == "__main__":
    main()
