"""Measure frames per second of a reenactment for each backend, by stage and from video file to video file.

    python benchmarks/reenactment.py                       # full width, random weights
    python benchmarks/reenactment.py --torch python3.11    # also PyTorch, with a Python that has it
    python benchmarks/reenactment.py --memory 300 3000     # peak memory by the length of the video, demo width

Whole commands are run at two lengths, and their difference is the rate, so that what a start costs does not count;
it is printed by itself. Backends take turns, and ratios are of one run. The frames are of a synthetic person; what
random weights paint is noise, which costs as much as a face.

The Python of --torch needs torch and the requirements of this repository. It runs the same pipeline around plain
PyTorch networks (benchmarks/torch_pipeline.py).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnabla as nn
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.data import peak_memory  # noqa: E402
from config import load_config  # noqa: E402
from faces.finder import FaceFinder
from inference.backends import NnablaBackend, OnnxBackend  # noqa: E402
from inference.inputs import FrameSource, faces_of
from inference.networks import Trained
from models.networks import INFERENCE, MODULES  # noqa: E402
from utils import cli  # noqa: E402
from utils.files import write_yaml  # noqa: E402

DEMO = ROOT / "demo" / "weights"


def write_random_networks(folder: Path, planes: int) -> None:
    """Write `<folder>/<module>/{weights.h5,training_info.yaml}`, with weights that preserve the scale."""
    rng = np.random.default_rng(0)
    people = {"src_celeb_name": "Rowan", "trg_celeb_name": "Linnea"}
    for module in MODULES:
        given: dict[str, Any] = {"model": {"planes": planes}}
        given |= {key: name for key, name in people.items() if hasattr(load_config(module), key)}
        (folder / module).mkdir(parents=True)
        write_yaml(folder / module / "training_info.yaml", given)
        config = load_config(module, folder / module / "training_info.yaml")
        network = INFERENCE[module]
        network.evaluate(nn.Variable((1, *network.input_shape)), config)
        for name, variable in network.parameters().items():
            if name.endswith("/W"):
                variable.d = rng.normal(0, np.prod(variable.shape[1:]) ** -0.5, variable.shape)
            elif name.endswith(("var", "gamma")):
                variable.d = rng.uniform(0.5, 1.5, variable.shape)
        network.save(folder / module / "weights.h5")
    nn.clear_parameters()


def networks_in(folder: Path) -> dict[str, Trained]:
    """Return the random networks in a folder."""
    return {
        module: Trained(load_config(module, folder / module / "training_info.yaml"), folder / module / "weights.h5")
        for module in MODULES
    }


def seconds_of(work: Callable[[], Any], repeats: int) -> float:
    """Return the median seconds of some runs after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def stages(weights: Path, video: Path, repeats: int) -> None:
    """Measure the milliseconds per frame of each part."""
    pictures = FrameSource(video)
    finder = FaceFinder(is_video=True)
    first = next(iter(pictures))
    count = sum(1 for _ in pictures)
    decode = seconds_of(lambda: sum(1 for _ in pictures), 1) / count
    find = seconds_of(lambda: finder.find(first), 5)
    both = seconds_of(lambda: sum(1 for _ in faces_of(pictures, finder)), 1) / count
    print(
        f"decoding {1e3 * decode:.1f} ms a frame, finding a face {1e3 * find:.1f}, both with cutting {1e3 * both:.1f}"
    )

    networks = networks_in(weights)
    backends = {"nnabla": NnablaBackend(networks, 1), "onnxruntime": OnnxBackend(networks, 1)}
    rng = np.random.default_rng(0)
    total = dict.fromkeys(backends, 0.0)
    for module in MODULES:
        x = rng.uniform(0, 1, (1, *INFERENCE[module].input_shape)).astype(np.float32)
        for name, backend in backends.items():
            seconds = seconds_of(lambda: backend.infer(module, x), repeats)  # noqa: B023
            total[name] += seconds
            print(f"{module:12} {name:16} {1e3 * seconds:8.1f} ms")
    for name, seconds in total.items():
        print(f"{'all three':12} {name:16} {1e3 * seconds:8.1f} ms  {total['nnabla'] / seconds:5.2f} x nnabla's rate")


def command_of(backend: str, weights: Path, video: Path, out: Path, python: str) -> list[str]:
    if backend == "torch":
        return [python, str(ROOT / "benchmarks/torch_pipeline.py"), str(weights), str(video), str(out)]
    command = [sys.executable, str(ROOT / "test_reenactment.py"), "--input", str(video)]
    command += ["--backend", backend]
    for module in MODULES:
        command += [f"--{module}-config", str(weights / module / "training_info.yaml")]
        command += [f"--{module}-param-file", str(weights / module / "weights.h5")]
    target = out / backend.replace(" ", "-")
    return [*command, "-c", "cpu", "--video", f"{target}.mp4", "--out-dir", str(target)]


def end_to_end(weights: Path, video: Path, out: Path, lengths: tuple[int, int], python: str | None) -> None:
    """Measure whole commands, from video file to video file."""
    backends = ["nnabla", "onnxruntime", *(["torch"] if python else [])]
    seconds: dict[str, list[float]] = {backend: [] for backend in backends}
    for length in (lengths[0], *lengths):  # the first exports
        for backend in backends:
            command = [*command_of(backend, weights, video, out, python or ""), "-n", str(length)]
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[backend].append(time.perf_counter() - start)
    rates = {b: (lengths[1] - lengths[0]) / (long - short) for b, (_, short, long) in seconds.items()}
    for backend, rate in rates.items():
        start = seconds[backend][1] - lengths[0] / rate
        ratio = rate / rates["nnabla"]
        print(f"{'end to end':12} {backend:16} {rate:8.2f} frames/s {ratio:6.2f} x nnabla's, start {start:.1f} s")
    if python:
        print(f"onnxruntime against torch: {rates['onnxruntime'] / rates['torch']:.2f}")


def memory(lengths: list[int], folder: Path) -> None:
    """Measure the peak memory of whole commands, with the demo's networks."""
    # exporting, which takes more memory, happens in a run before
    for length in (10, *lengths):
        video = folder / f"{length}.mp4"
        make_video(video, length)
        command = command_of("onnxruntime", DEMO, video, folder / str(length), "")
        start = time.perf_counter()
        peak = peak_memory(command)
        rate = length / (time.perf_counter() - start)
        print(f"{length} frames: peak {peak:.0f} MiB (all processes), {rate:.1f} frames/s with the start")


def make_video(path: Path, count: int) -> None:
    command = [sys.executable, str(ROOT / "tools/make_synthetic.py"), "video", "--person", "Rowan=9"]
    subprocess.run([*command, "--frames", str(count), "--out-file", str(path)], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planes", type=cli.count, default=64, help="width of the networks (64)")
    help_lengths = "of the videos, in frames (40 80)"
    parser.add_argument("--lengths", type=cli.count, nargs=2, default=(40, 80), help=help_lengths)
    parser.add_argument("--repeats", type=cli.count, default=5, help="of each network by itself (5)")
    parser.add_argument("--torch", metavar="PYTHON", help="also PyTorch, by this Python")
    parser.add_argument("--memory", type=cli.count, nargs="+", metavar="FRAMES", help="only peak memory, by length")
    args = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.memory:
            memory(args.memory, folder)
            return
        video = folder / "rowan.mp4"
        make_video(video, args.lengths[1])
        write_random_networks(folder / "weights", args.planes)
        stages(folder / "weights", video, args.repeats)
        end_to_end(folder / "weights", video, folder, tuple(args.lengths), args.torch)


if __name__ == "__main__":
    main()
