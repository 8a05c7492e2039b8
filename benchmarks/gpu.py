"""Measure correctness, speed and memory on a GPU within a time limit, and train a person's decoder.

    python benchmarks/gpu.py --minutes 8 --person datasets/CelebV/Me   # full width; updates gpu.md after each figure
    python benchmarks/gpu.py --only reenactment                        # selected parts
    python benchmarks/gpu.py -c cpu --planes 4 --batches 1 2 --rounds 1 --minutes 1   # try it without a GPU

The most important figures come first. The decoder is trained in the remaining time, at least 40 %. Each figure is
measured in a process of its own, so that running out of memory does not affect the others. Weights are random.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import nnabla as nn
import nnabla.functions as F
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from utils.ending import call_main

from benchmarks.reenactment import DEMO, networks_in, seconds_of, write_random_networks
from config import complete_config, load_config, with_values
from config.runs import INFO_FILE
from datasets.batches import make_batches, to_float
from datasets.celebv import HEATMAP, IMAGE, RESIZED_HEATMAP
from datasets.images import read_image, write_image
from datasets.panels import contact_sheet, face_image, generated_metadata
from datasets.samples import open_dataset
from inference.backends import NnablaBackend
from inference.inputs import FaceFrame
from inference.measures import Sequence, measure_images
from inference.networks import Trained, load_network
from inference.reenactor import Reenactor
from models.networks import DECODER, INFERENCE, MODULES
from tests.reference.steps import our_step, random_batch, small_config
from training.checkpoints import newest_checkpoint
from training.solver import LossScale
from utils import cli
from utils.context import set_context
from utils.errors import ConfigError, one_line
from utils.files import check_outputs, timestamp, write_text, write_yaml
from utils.sampling import evenly

CASE_S = 900  # limit of one measurement
TRAININGS = ("encoder", "transformer", "decoder")
IN_ANY_CASE_S = 30.0  # minimum for each measurement at the first batch size
LEAST_S = 2.0  # no measurement begins with less time left
MAX_BATCH = 256
CONVOLUTION = (8, 64, 128, 128), 64  # shape of the input, and output channels
DEMO_FRAMES, SHEET_FRAMES, TILE_PX = 24, 6, 256
MEASURING = 0.6  # maximum share of the time; the rest is for training
PERSON_BATCH, PERSON_LR = 8, 5e-4
ENDING_S = 40  # duration of a person's training without its iterations


def measure_parity(case: dict[str, Any]) -> dict[str, Any]:
    """Return the maximum difference from the CPU relative to the maximum value, for each network."""
    errors = {}
    for module, trained in networks_in(Path(case["weights"])).items():
        x = np.random.default_rng(0).uniform(0, 1, (1, *INFERENCE[module].input_shape)).astype(np.float32)
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


def measure_convolution(case: dict[str, Any]) -> dict[str, Any]:
    """Measure the time of a 3x3 convolution with gradients, and its difference from the CPU."""
    shape, channels = CONVOLUTION
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in (shape, (channels, shape[1], 3, 3))]
    outputs = []
    for context in dict.fromkeys(("cpu", case["context"])):
        set_context(context, case["device_id"])
        x, kernel = (nn.Variable.from_numpy_array(array, need_grad=True) for array in arrays)
        y = F.convolution(x, kernel, pad=(1, 1))

        def work() -> float:
            kernel.grad.zero()  # noqa: B023
            y.forward()  # noqa: B023
            y.backward(1.0)  # noqa: B023
            return float(kernel.g[0, 0, 0, 0])  # noqa: B023

        seconds = seconds_of(work, case["rounds"] if context == case["context"] else 1)
        outputs.append((y.d.astype(np.float64), kernel.g.astype(np.float64), seconds))
    (y_cpu, g_cpu, slow), (y_here, g_here, fast) = outputs[0], outputs[-1]
    errors = (float(abs(b - a).max() / abs(a).max()) for a, b in ((y_cpu, y_here), (g_cpu, g_here)))
    return dict(zip(("forward", "backward"), errors)) | {"seconds": fast, "cpu_seconds": slow}


def measure_demo(case: dict[str, Any]) -> dict[str, Any]:
    """Compare the demo's frames with the CPU's: maximum difference (0 to 255) and PSNR in dB."""
    networks = {}
    for module in MODULES:
        info = DEMO / module / "training_info.yaml"
        networks[module] = Trained(load_config(module, info), next((DEMO / module).glob("*.h5")))
    images = sorted((Path(case["data"]) / "Rowan" / "Image").iterdir())[:DEMO_FRAMES]
    frames = [FaceFrame(index, read_image(path), path.name, index / 25) for index, path in enumerate(images)]
    results = []
    for context in ("cpu", case["context"]):
        set_context(context, case["device_id"], type_config=case["type"] if context == "cudnn" else "float")
        reenactor = Reenactor(NnablaBackend(networks, 8), networks["decoder"], True, batch_size=8)
        results.append([frame.generated for frame in reenactor.reenact(frames)])
    differences = [abs(a.astype(int) - b).max() for a, b in zip(*results)]
    return {"levels": int(max(differences)), "psnr": psnr_of(results[1], results[0])}


def psnr_of(images: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Return the PSNR in dB."""
    return next(m.value for m in measure_images("", Sequence(images, truth, [])) if m.name == "PSNR")


def measure_reenactment(case: dict[str, Any]) -> dict[str, Any]:
    """Measure frames per second from faces in memory to faces in memory."""
    size, count = case["batch"], case["batch"] * case["rounds"]
    faces = np.random.default_rng(0).integers(0, 256, (size, 256, 256, 3), np.uint8)
    networks = networks_in(Path(case["weights"]))
    reenactor = Reenactor(NnablaBackend(networks, size), networks["decoder"], True, batch_size=size)
    frames = [FaceFrame(index, faces[index % size], "", index / 25) for index in range(count)]
    seconds = seconds_of(lambda: sum(1 for _ in reenactor.reenact(frames)), 1)
    return {"frames_per_s": count / seconds}


def measure_training(case: dict[str, Any]) -> dict[str, Any]:
    """Measure the seconds of an iteration, including reading the losses."""
    config = small_config(case["module"], case["planes"], case["batch"])
    batch, loss_scale = random_batch(case["module"], case["batch"]), LossScale(case["type"] == "half")
    step = our_step(case["module"], config, batch, loss_scale=loss_scale)
    return {"seconds": seconds_of(step, case["rounds"])}


def measure_data(case: dict[str, Any]) -> dict[str, Any]:
    """Measure the fraction of a decoder training's time that is spent waiting for batches."""
    config = small_config("decoder", case["planes"], case["batch"])
    config = with_values(config, {"train_dir": case["data"]})
    dataset = open_dataset(config, "Linnea", "all", (IMAGE, HEATMAP, RESIZED_HEATMAP), draw_anew=True)
    batches = make_batches(dataset, config.train, 0, 0, 1)
    step = our_step("decoder", config, random_batch("decoder", case["batch"]))
    step()
    waited, start = 0.0, time.perf_counter()
    for iteration in range(3 * case["rounds"]):
        before = time.perf_counter()
        batches[iteration]
        waited += time.perf_counter() - before
        step()
    return {"share": waited / (time.perf_counter() - start), "workers": config.train.num_workers}


def measure_person(case: dict[str, Any]) -> dict[str, Any]:
    """Train a person's decoder, first without the adversarial loss; measure both halves on held-out frames."""
    begin = time.monotonic()
    person, out = Path(case["person"]), Path(case["out"])
    config = with_values(load_config("decoder"), {"train_dir": str(person.parent)})
    held_out = open_dataset(config, person.name, "test", (IMAGE, HEATMAP), draw_anew=True)
    train = {"batch_size": PERSON_BATCH, "lr": PERSON_LR, "feature_loss": {"lambda": 0}, "average": 0.99}
    name, logdir = f"person-{timestamp()}", f"{out.parent}/gpu.runs"
    own = {"experiment_name": name, "logdir": logdir, "train_dir": str(person.parent)}
    own |= {"trg_celeb_name": person.name, "mode": "train", "model": {"planes": case["planes"]}}
    dataset = open_dataset(complete_config("decoder", own, ROOT), person.name, "train", (HEATMAP,))
    per_epoch = math.ceil(len(dataset) / PERSON_BATCH)
    epochs = max(int((case["for_s"] - ENDING_S) / (per_epoch * case["each_s"])) // 2 * 2, 2)
    train |= {"epochs": epochs, "lr_decay_start_at": epochs // 2, "gan_start_at": epochs // 2}
    train["discriminator"] = {"lr_factor": 0.5}
    own |= {"train": train, "monitor": {"interval": 500, "save_interval": epochs // 2}}
    write_yaml(out.with_suffix(".person.yaml"), own)
    command = [sys.executable, ROOT / "train_decoder.py", "--conf", out.with_suffix(".person.yaml")]
    with open(out.with_suffix(".person.log"), "w") as log:
        process = subprocess.Popen([*command, "-c", case["context"]], stdout=log, stderr=log)
        try:
            process.wait(max(case["for_s"] - ENDING_S / 2, 3 * ENDING_S))  # starting takes longer on a busy machine
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait()
    seconds = time.monotonic() - begin
    if process.returncode not in (0, 128 + signal.SIGTERM):
        lines = out.with_suffix(".person.log").read_text(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit code {process.returncode}")
    folder = complete_config("decoder", own, ROOT).runs_folder / own["experiment_name"]
    config = load_config("decoder", folder / INFO_FILE)
    samples = [held_out[index] for index in evenly(len(held_out), 60)]
    real = [image.transpose(1, 2, 0) for image, _ in samples]
    shown = evenly(len(real), SHEET_FRAMES)
    found, rows = {}, [real[index] for index in shown]
    for words, epoch in (("pixels", epochs // 2), ("adversarial", epochs)):
        weights = folder / DECODER.weights_file(epoch)
        if weights.exists():
            nn.clear_parameters()
            backend = NnablaBackend({"decoder": Trained(config, weights)}, 1)
            painted = [face_image(backend.infer("decoder", to_float(heatmap)[None])[0]) for _, heatmap in samples]
            found[words] = {m.name: m.value for m in measure_images("", Sequence(painted, real, []))}
            rows += [painted[index] for index in shown]
    write_image(out.with_suffix(".png"), contact_sheet(rows, len(shown), TILE_PX), generated_metadata("all but row 1"))
    return {"scores": found, "seconds": seconds, "iterations": newest_checkpoint(folder)[1]["iteration"]}


MEASURES = {
    "convolution": measure_convolution,
    "demo": measure_demo,
    "parity": measure_parity,
    "reenactment": measure_reenactment,
    "training": measure_training,
    "data": measure_data,
    "person": measure_person,
}


def query(device_id: int, fields: str) -> list[str] | None:
    """Return the output of nvidia-smi; None if it is missing or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits", "-i", str(device_id)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, errors="replace")
    return [part.strip() for part in done.stdout.split(",")] if done.returncode == 0 else None


def memory_gib(case: dict[str, Any]) -> float | None:
    """Return the peak memory of this process in GiB; nnabla does not release a device's memory."""
    if case["context"] == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    used = query(case["device_id"], "memory.used")
    return None if used is None else float(used[0]) / 2**10


def run_case(case: dict[str, Any]) -> None:
    """Measure one case in this process, and print it as JSON."""
    set_context(case["context"], case["device_id"], type_config="half" if case["type"] == "half" else "float")
    print("\n" + json.dumps(MEASURES[case["kind"]](case) | {"memory_gib": memory_gib(case)}), flush=True)


def result_of(case: dict[str, Any], limit_s: float) -> dict[str, Any]:
    """Measure one case in a separate process; `error` is the reason for a failure."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    environment = os.environ | ({"NNABLA_CUDA_ALLOW_TF32": "1"} if case["type"] == "tf32" else {})
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=environment)
    except subprocess.TimeoutExpired:
        return {"error": f"longer than {limit_s:.0f} s"}
    if done.returncode != 0:
        return {"error": one_line((done.stderr.strip().splitlines() or ["no message"])[-1])}
    return json.loads(done.stdout.strip().splitlines()[-1])


def cases_of(args: argparse.Namespace, common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all measurements except the person's, the most important ones first."""
    types = ("float", "half", "tf32") if common["context"] == "cudnn" else ("float",)
    yield common | {"kind": "convolution", "type": "float"}
    for name in types:
        yield common | {"kind": "demo", "type": name}
    for name in types:
        yield common | {"kind": "parity", "type": name}
    for batch in args.batches:
        for name in types:
            yield common | {"kind": "reenactment", "type": name, "batch": batch}
        for name, module in product(types, reversed(TRAININGS)):
            yield common | {"kind": "training", "type": name, "batch": batch, "module": module}
        yield common | {"kind": "data", "type": "float", "batch": batch}


def row_of(case: dict[str, Any], found: dict[str, Any]) -> str:
    """Format a result as a row of a Markdown table."""
    names = {
        "convolution": "3x3 convolution of 64 channels of 128x128, with gradients",
        "demo": "demo frames, difference from the CPU",
        "parity": "networks, difference from the CPU",
        "reenactment": "reenactment",
        "training": f"training of the {case.get('module')}",
        "data": "training of the decoder, data from disk",
        "person": "decoder of a person",
    }
    if "error" in found:
        value = found["error"]
    elif case["kind"] == "convolution":
        value = "{:.2f} ms (CPU {:.0f} ms), difference {forward:.1e} and {backward:.1e}"
        value = value.format(1e3 * found["seconds"], 1e3 * found["cpu_seconds"], **found)
    elif case["kind"] == "demo":
        value = f"{found['levels']} of 255 at most, PSNR {found['psnr']:.1f} dB"
    elif case["kind"] == "person":
        value = f"{found['iterations']} iterations, {found['seconds']:.0f} s; held-out frames: "
        scores = "{} PSNR {PSNR:.2f} dB, SSIM {SSIM:.3f}, sharpness {sharpness:.2f}, comb energy {combs:.2f}"
        value += "; ".join(scores.format(name, **values) for name, values in found["scores"].items())
    elif case["kind"] == "parity":
        value = ", ".join(f"{module} {found[module]:.1e}" for module in MODULES)
    elif case["kind"] == "reenactment":
        value = f"{found['frames_per_s']:.1f} frames/s"
    elif case["kind"] == "training":
        value = f"{found['seconds']:.4f} s per iteration, {case['batch'] / found['seconds']:.1f} samples/s"
    else:
        value = f"{100 * found['share']:.1f} % of the time waiting"
    memory = found.get("memory_gib")
    used = "" if memory is None else f"{memory:.1f}"
    return f"| {names[case['kind']]} | {case.get('batch', 1)} | {case['type']} | {value} | {used} |"


def heading(context: str, device_id: int, planes: int) -> list[str]:
    """Describe the machine."""
    card = query(device_id, "name,memory.total,driver_version") if context == "cudnn" else None
    where = "CPU" if card is None else f"{card[0]}, {card[1]} MiB, driver {card[2]}"
    versions = f"nnabla {nn.__version__}, Python {platform.python_version()}"
    title = f"{where}; {versions}; {planes} base channels. `python benchmarks/gpu.py`"
    return [title, "", "| what | batch | precision | figure | memory (GiB) |", "|---|---|---|---|---|"]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_device_arguments(parser)
    parser.add_argument("--planes", type=cli.whole(2, 256), default=64, help="base channels (default 64, full width)")
    parser.add_argument("--batches", type=cli.whole(1, MAX_BATCH), nargs="+", default=[1, 8, 32], metavar="N")
    parser.add_argument(
        "--rounds", type=cli.whole(1, 1000), default=10, help="timed iterations of each measurement (default 10)"
    )
    help_minutes = "time for all; the decoder is trained in the remaining time (default 30)"
    parser.add_argument("--minutes", type=cli.whole(1, 600), default=30, help=help_minutes)
    help_person = "folder of a person with landmarks and a split (default: a synthetic one)"
    parser.add_argument("--person", type=cli.path, metavar="DIR", help=help_person)
    parser.add_argument("--only", choices=MEASURES, nargs="+", default=list(MEASURES), help="selected parts")
    parser.add_argument("--out", type=cli.path, default=Path("gpu.md"), metavar="FILE", help="default gpu.md")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    begin = time.monotonic()
    args = parse_args()
    if args.case is not None:
        return run_case(args.case)
    check_outputs({"--out": args.out}, ending=".md")
    device_id = args.device_id or 0
    context = set_context(args.context or "auto", device_id)
    print(context.message)
    if context.name == "cpu" and args.context != "cpu":
        raise ConfigError(f"no usable GPU ({context.reason}); pass '-c cpu' to measure the CPU")
    lines = heading(context.name, device_id, args.planes)
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_random_networks(Path(folder) / "weights", args.planes)
        people = ["celebv", "--people", "Rowan=9", "Linnea=29", "--frames", "64", "--out-dir", f"{folder}/CelebV"]
        subprocess.run([sys.executable, ROOT / "tools/make_synthetic.py", *people], check=True, capture_output=True)
        subprocess.run(["sh", ROOT / "split_celebv.sh", f"{folder}/CelebV", "48"], check=True, capture_output=True)
        common = {"context": context.name, "device_id": device_id, "planes": args.planes, "rounds": args.rounds}
        common |= {"weights": f"{folder}/weights", "data": f"{folder}/CelebV"}
        each_s = 1.0  # seconds per iteration of the person's decoder

        def measure(case: dict[str, Any], limit_s: float) -> None:
            nonlocal each_s
            found = result_of(case, limit_s)
            is_like_persons = case["kind"] == "training" and case["module"] == "decoder" and case["type"] == "float"
            if is_like_persons and "seconds" in found:
                each_s = found["seconds"] * PERSON_BATCH / case["batch"]
            lines.append(row_of(case, found))
            print(lines[-1], flush=True)
            write_text(args.out, "\n".join(lines) + "\n")

        wanted = [case for case in cases_of(args, common) if case["kind"] in args.only]
        end, share = begin + 60 * args.minutes, MEASURING if "person" in args.only else 1
        measuring_end = begin + share * (end - begin)
        for number, case in enumerate(wanted):
            left_s = measuring_end - time.monotonic()
            if case.get("batch", args.batches[0]) == args.batches[0]:
                left_s = max(left_s, IN_ANY_CASE_S)
            if left_s < LEAST_S:
                print(f"note: no time for {len(wanted) - number} of {len(wanted)} measurements; increase --minutes")
                break
            measure(case, min(left_s, CASE_S))
        if "person" in args.only:
            person = args.person or Path(folder) / "CelebV/Linnea"
            case = common | {"kind": "person", "type": "float", "batch": PERSON_BATCH, "each_s": each_s}
            left_s = end - time.monotonic()
            case |= {"for_s": left_s, "person": str(person), "out": str(args.out.absolute())}
            measure(case, max(left_s, 0) + 5 * ENDING_S)
    print(f"table: {args.out}")


if __name__ == "__main__":
    call_main(main)
