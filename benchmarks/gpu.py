"""Measure a GPU, for somebody who has one for half an hour: is it right, how fast is it, does it wait for data?

    python benchmarks/gpu.py                     # full width; writes gpu.md as it goes
    python benchmarks/gpu.py --only reenactment  # one part of it
    python benchmarks/gpu.py -c cpu --planes 4 --batches 1 2 --rounds 1   # to try it without a GPU

Each figure comes from a process of its own, so that one that runs out of memory costs only itself, and what it used is
its own. Weights are random; what they paint is noise, which costs as much as a face.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import nnabla as nn
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.reenactment import networks_in, seconds_of, write_random_networks  # noqa: E402
from datasets.batches import make_batches  # noqa: E402
from datasets.celebv import HEATMAP, IMAGE, RESIZED_HEATMAP  # noqa: E402
from datasets.samples import open_dataset  # noqa: E402
from inference.backends import NnablaBackend  # noqa: E402
from inference.pictures import FaceFrame  # noqa: E402
from inference.reenactor import Reenactor  # noqa: E402
from inference.trained import load_network  # noqa: E402
from models.build import INPUT_SHAPES, MODULES  # noqa: E402
from tests.reference.steps import our_step, random_batch, small_config  # noqa: E402
from training.updater import Updater  # noqa: E402
from utils import cli  # noqa: E402
from utils.context import set_context  # noqa: E402
from utils.ending import call_main  # noqa: E402
from utils.errors import ConfigError, one_line  # noqa: E402
from utils.files import check_outputs, write_text  # noqa: E402

CASE_S = 900  # one that takes longer is given up
TRAININGS = ("encoder", "transformer", "decoder")
MAX_BATCH = 256


def measure_parity(case: dict[str, Any]) -> dict[str, Any]:
    """Compare the networks with the CPU's, by the largest difference as a share of the largest value."""
    errors = {}
    for module, trained in networks_in(Path(case["weights"])).items():
        x = np.random.default_rng(0).uniform(0, 1, (1, *INPUT_SHAPES[module])).astype(np.float32)
        outputs = []
        for context in ("cpu", case["context"]):
            set_context(context, case["device_id"], type_config=case["type"] if context == "cudnn" else "float")
            nn.clear_parameters()
            variable = nn.Variable.from_numpy_array(x)
            output = load_network(module, trained, variable)
            output.forward(clear_buffer=True)
            outputs.append(output.d.astype(np.float64))
        errors[module] = float(abs(outputs[1] - outputs[0]).max() / abs(outputs[0]).max())
    return errors


def measure_reenactment(case: dict[str, Any]) -> dict[str, Any]:
    """Measure frames a second from faces in memory to faces in memory."""
    size, count = case["batch"], case["batch"] * case["rounds"]
    faces = np.random.default_rng(0).integers(0, 256, (size, 256, 256, 3), np.uint8)
    reenactor = Reenactor(NnablaBackend(networks_in(Path(case["weights"])), size), size)
    frames = [FaceFrame(index, faces[index % size], "", index / 25) for index in range(count)]
    seconds = seconds_of(lambda: sum(1 for _ in reenactor.reenact(frames)), 1)
    return {"frames_per_s": count / seconds}


def measure_training(case: dict[str, Any]) -> dict[str, Any]:
    """Measure seconds of an iteration, its losses read."""
    config = small_config(case["module"], case["planes"], case["batch"])
    step = our_step(
        case["module"], config, random_batch(case["module"], case["batch"]), Updater(is_half=case["type"] == "half")
    )
    return {"seconds": seconds_of(step, case["rounds"])}


def measure_data(case: dict[str, Any]) -> dict[str, Any]:
    """Measure the share of a decoder training's time that passes until its batches are there."""
    config = small_config("decoder", case["planes"], case["batch"])
    config["train_dir"] = case["data"]
    dataset = open_dataset(config, "Linnea", "all", (IMAGE, HEATMAP, RESIZED_HEATMAP), draw_anew=True)
    batches = make_batches(dataset, config["train"], 0, 0, 1)
    step = our_step("decoder", config, random_batch("decoder", case["batch"]), Updater())
    step()
    waited, start = 0.0, time.perf_counter()
    for iteration in range(3 * case["rounds"]):
        before = time.perf_counter()
        batches[iteration]
        waited += time.perf_counter() - before
        step()
    return {"share": waited / (time.perf_counter() - start), "workers": config["train"]["num_workers"]}


MEASURES = {
    "parity": measure_parity,
    "reenactment": measure_reenactment,
    "training": measure_training,
    "data": measure_data,
}


def query(device_id: int, fields: str) -> list[str] | None:
    """Ask nvidia-smi; None where there is none, or it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits", "-i", str(device_id)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, errors="replace")
    return [part.strip() for part in done.stdout.split(",")] if done.returncode == 0 else None


def memory_gib(case: dict[str, Any]) -> float | None:
    """Return what this process used at most; nnabla keeps a device's memory once it has it."""
    if case["context"] == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    used = query(case["device_id"], "memory.used")
    return None if used is None else float(used[0]) / 2**10


def run_case(case: dict[str, Any]) -> None:
    """Measure one case in this process, and print it as JSON."""
    set_context(case["context"], case["device_id"], type_config=case["type"])
    print("\n" + json.dumps(MEASURES[case["kind"]](case) | {"memory_gib": memory_gib(case)}), flush=True)


def result_of(case: dict[str, Any]) -> dict[str, Any]:
    """Measure one case in a process of its own; where it fails, `error` says why."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CASE_S)
    except subprocess.TimeoutExpired:
        return {"error": f"longer than {CASE_S} s"}
    if done.returncode != 0:
        return {"error": one_line((done.stderr.strip().splitlines() or ["no message"])[-1])}
    return json.loads(done.stdout.strip().splitlines()[-1])


def cases_of(args: argparse.Namespace, common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """List what is to be measured, the quickest and weightiest first."""
    types = ("float", "half") if common["context"] == "cudnn" else ("float",)
    for name in types:
        yield common | {"kind": "parity", "type": name}
    for name, batch in product(types, args.batches):
        yield common | {"kind": "reenactment", "type": name, "batch": batch}
    for module, batch, name in product(TRAININGS, args.batches, types):
        yield common | {"kind": "training", "type": name, "batch": batch, "module": module}
    for batch in args.batches:
        yield common | {"kind": "data", "type": "float", "batch": batch}


def row_of(case: dict[str, Any], found: dict[str, Any]) -> str:
    """Write a result as a row of a markdown table."""
    names = {
        "parity": "difference from the CPU's float",
        "reenactment": "reenactment",
        "training": f"training of the {case.get('module')}",
        "data": "training of the decoder, data of a disk",
    }
    if "error" in found:
        value = found["error"]
    elif case["kind"] == "parity":
        value = ", ".join(f"{module} {found[module]:.1e}" for module in MODULES)
    elif case["kind"] == "reenactment":
        value = f"{found['frames_per_s']:.1f} frames/s"
    elif case["kind"] == "training":
        value = f"{found['seconds']:.4f} s an iteration, {case['batch'] / found['seconds']:.1f} samples/s"
    else:
        value = f"{100 * found['share']:.1f} % of the time waiting"
    memory = found.get("memory_gib")
    used = "" if memory is None else f"{memory:.1f}"
    return f"| {names[case['kind']]} | {case.get('batch', 1)} | {case['type']} | {value} | {used} |"


def heading(context: str, device_id: int, planes: int) -> list[str]:
    """Say what is measured on."""
    card = query(device_id, "name,memory.total,driver_version") if context == "cudnn" else None
    where = "CPU" if card is None else f"{card[0]}, {card[1]} MiB, driver {card[2]}"
    versions = f"nnabla {nn.__version__}, Python {platform.python_version()}"
    return [
        f"{where}; {versions}; {planes} base channels. `python benchmarks/gpu.py`",
        "",
        "| what | batch | precision | figure | memory (GiB) |",
        "|---|---|---|---|---|",
    ]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_device_arguments(parser)
    parser.add_argument("--planes", type=cli.whole(2, 256), default=64, help="base channels (default 64, full width)")
    parser.add_argument("--batches", type=cli.whole(1, MAX_BATCH), nargs="+", default=[1, 8, 32], metavar="N")
    parser.add_argument("--rounds", type=cli.whole(1, 1000), default=10, help="timed iterations of each (default 10)")
    parser.add_argument("--only", choices=MEASURES, nargs="+", default=list(MEASURES), help="parts of it")
    parser.add_argument("--out", type=cli.path, default=Path("gpu.md"), metavar="FILE", help="default gpu.md")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.case is not None:
        return run_case(args.case)
    check_outputs({"--out": args.out}, [])
    device_id = args.device_id or 0
    context = set_context(args.context or "auto", device_id)
    print(context.message)
    if context.name == "cpu" and args.context != "cpu":
        raise ConfigError(f"no GPU computes here ({context.reason}); '-c cpu' measures the CPU")
    lines = heading(context.name, device_id, args.planes)
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_random_networks(Path(folder) / "weights", args.planes)
        people = ["celebv", "--people", "Linnea=29", "--frames", "64", "--out-dir", f"{folder}/CelebV"]
        subprocess.run([sys.executable, ROOT / "make_synthetic.py", *people], check=True, capture_output=True)
        common = {"context": context.name, "device_id": device_id, "planes": args.planes, "rounds": args.rounds}
        common |= {"weights": f"{folder}/weights", "data": f"{folder}/CelebV"}
        for case in cases_of(args, common):
            if case["kind"] in args.only:
                lines.append(row_of(case, result_of(case)))
                print(lines[-1], flush=True)
                write_text(args.out, "\n".join(lines) + "\n")
    print(f"table: {args.out}")


if __name__ == "__main__":
    call_main(main)
