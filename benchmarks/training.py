"""Time of one training iteration, against the straightforward graph with all gradients on; and of two processes.

    python benchmarks/training.py                     # full width, batch 1
    python benchmarks/training.py --planes 16 --ranks # also two processes of batch 2 against one of batch 4

The straightforward graph is in tests/reference/steps.py. Both run in turn in one process;
tests/unit/test_training.py shows that they update alike.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nnabla as nn
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.reference.steps import PLAIN, our_step, random_batch, small_config  # noqa: E402
from training.communicator import connect  # noqa: E402
from utils import cli  # noqa: E402


def compare(module: str, planes: int, rounds: int) -> dict[str, float]:
    """Measure the median seconds of each step, taken in turn."""
    nn.clear_parameters()
    config, batch = small_config(module, planes, 1), random_batch(module, 1)
    steps = {"plain": PLAIN[module](config, batch), "ours": our_step(module, config, batch)}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number > 0:  # the first step allocates
                seconds[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return {**medians, "ratio": medians["ours"] / medians["plain"]}


def work_as_rank(planes: int, batch_size: int, rounds: int) -> None:
    """Measure the decoder's samples per second over all processes; rank 0 prints them."""
    communicator = connect("cpu")
    config = small_config("decoder", planes, batch_size)
    step = our_step("decoder", config, random_batch("decoder", batch_size, communicator.rank), communicator)
    step()
    start = time.perf_counter()
    for _ in range(rounds):
        step()
    speed = rounds * batch_size * communicator.size / (time.perf_counter() - start)
    if communicator.rank == 0:
        print(json.dumps({"speed": speed}))


def speed_of_ranks(num_ranks: int, batch_size: int, planes: int, rounds: int) -> float:
    mpirun = Path(sys.executable).parent / "mpirun"
    launch = [str(mpirun) if mpirun.exists() else "mpirun", "-n", str(num_ranks)] if num_ranks > 1 else []
    numbers = [str(number) for number in (planes, batch_size, rounds)]
    command = [*launch, sys.executable, __file__, "--as-rank", *numbers]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
    return next(json.loads(line)["speed"] for line in output.splitlines() if line.startswith("{"))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--planes", type=cli.count, default=64, help="base channels of the networks (default 64, full width)"
    )
    parser.add_argument("--rounds", type=cli.count, default=3, help="timed iterations of each (default 3)")
    parser.add_argument("--modules", nargs="+", choices=PLAIN, default=list(PLAIN))
    parser.add_argument("--ranks", action="store_true", help="two processes of batch 2 against one of batch 4")
    parser.add_argument("--as-rank", nargs=3, type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.as_rank:
        work_as_rank(*args.as_rank)
        return
    for module in args.modules:
        row = compare(module, args.planes, args.rounds)
        times = f"plain {row['plain']:.3f} s, ours {row['ours']:.3f} s, ratio {row['ratio']:.2f}"
        print(f"{module:12} one iteration: {times}", flush=True)
    if args.ranks:
        # alternating, twice each; the faster counts
        speeds = {ranks: max(speed_of_ranks(ranks, 4 // ranks, args.planes, 6) for _ in range(2)) for ranks in (1, 2)}
        print(
            f"decoder, {args.planes} base channels: 1 process of batch 4: {speeds[1]:.2f} samples/s, "
            f"2 of batch 2: {speeds[2]:.2f}, ratio {speeds[2] / speeds[1]:.2f}"
        )


if __name__ == "__main__":
    main()
