"""Let one person's video move another person's face: two videos in, a reenactment out.

    python reenact_people.py --source a.mp4 --target b.mp4 --out result.mp4 [--quality draft|good|full]

Prepares both people, splits the target's frames, trains its decoder, reenacts by landmarks and geometry, measures on
the frames that were held out, and writes a page with all of it. Everything lies in one folder (--work-dir, by default
beside the result). Stop it whenever you like: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import NamedTuple

import nnabla as nn
import numpy as np
from tqdm import tqdm

import train_decoder
from config import complete_config
from config.runs import INFO_FILE
from datasets.annotations import read_names
from datasets.celebv import list_path, num_numbers
from training.checkpoints import checkpoints_of
from training.communicator import Communicator
from training.updater import Updater
from utils import cli
from utils.context import set_context
from utils.ending import call_main, requests
from utils.errors import ConfigError, DataError, Stopped, UserError
from utils.files import check_outputs, file_digest, is_folder_name, locked, read_yaml, write_text, write_yaml
from utils.html import page, table
from utils.video import look

ROOT = Path(__file__).resolve().parent
HELD_OUT = 0.15  # of the target's frames, its last ones
MIN_FRAMES = 40  # of the target
PREPARING_S, REENACTING_S = 0.03, 0.1  # a frame, roughly
TRIAL_STEPS = 4
INPUTS_FILE = "inputs.yaml"
OFTEN = 1 << 30


class Quality(NamedTuple):
    """Say how large the decoder is and how long it trains."""

    planes: int
    batch_size: int
    iterations: int
    lr: float


QUALITIES = {
    "draft": Quality(planes=12, batch_size=2, iterations=2000, lr=2e-3),
    "good": Quality(planes=24, batch_size=4, iterations=12_000, lr=1e-3),
    "full": Quality(planes=64, batch_size=8, iterations=60_000, lr=4e-4),
}


class Work(NamedTuple):
    """Say who is who, and where things lie."""

    folder: Path
    source: str  # names, also of folders
    target: str
    quality: Quality

    def person(self, name: str) -> Path:
        """Return the folder of a person; each is split by itself, so each has a root of its own."""
        return self.folder / name / name

    @property
    def run(self) -> Path:
        """Return the folder of the decoder's run."""
        return self.folder / "runs/decoder" / self.target / "decoder"


class StepFailed(UserError):
    """Report that a step of the way ended with an error, which it has said itself."""

    def __init__(self, name: str, exit_code: int):
        super().__init__(f"{name} ended with exit code {exit_code}; mend what it says, and run the same command again")
        self.exit_code = exit_code


@contextmanager
def passed_on(child: subprocess.Popen) -> Iterator[None]:
    """Pass requests to stop on to a child, which knows what to do, for as long as the block runs."""
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # a job in the background has Ctrl-C ignored, and means it
    numbers = [number for number in wanted if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: child.send_signal(number)) for number in numbers}
    try:
        with requests(dict.fromkeys(numbers, OFTEN)):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_step(name: str, script: str, *args: object) -> None:
    """Run a script to its end; what it says is seen.

    Raises:
        Stopped: on request.
        StepFailed: it ended with an error.
    """
    print(f"== {name}", flush=True)
    command = ["sh"] if script.endswith(".sh") else [sys.executable]
    # a session of its own: else a Ctrl-C would reach it twice, and twice means at once
    child = subprocess.Popen([*command, str(ROOT / script), *map(str, args)], start_new_session=True)
    with passed_on(child):
        exit_code = child.wait()
    if exit_code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Stopped("stopped; the same command goes on from here", exit_code)
    if exit_code:
        raise StepFailed(name, abs(exit_code))


def seconds_per_iteration(config: dict) -> float:
    """Time a few iterations of the decoder's training, on random numbers."""
    rng = np.random.default_rng(0)
    graph, solvers = train_decoder.build_graph(config, None), train_decoder.make_solvers(config)
    updater, size = Updater(Communicator(), is_half=False), config["train"]["batch_size"]
    shapes = ((size, 3, 256, 256), (size, 15, 64, 64), (size, 15, 256, 256))
    batch = tuple(rng.random(shape, np.float32) for shape in shapes)
    for step in range(TRIAL_STEPS):
        if step == 1:  # the first has memory to find
            begin = time.monotonic()
        losses = train_decoder.train_step(graph, solvers, updater, batch, with_gan=False)
        float(losses["loss_l1"].d)
    nn.clear_parameters()
    return (time.monotonic() - begin) / (TRIAL_STEPS - 1)


def decoder_config(work: Work, num_train: int) -> dict:
    """Describe the training: pixels only, with a rate that falls in its second half."""
    quality = work.quality
    epochs = max(math.ceil(quality.iterations * quality.batch_size / num_train), 2)
    return {
        "experiment_name": "decoder",
        "logdir": str(work.folder / "runs"),
        "train_dir": str(work.person(work.target).parent),
        "trg_celeb_name": work.target,
        "mode": "train",
        "model": {"planes": quality.planes},
        "train": {
            "epochs": epochs,
            "batch_size": quality.batch_size,
            "lr": quality.lr,
            "lr_decay_start_at": epochs // 2,
            "feature_loss": {"lambda": 0},
            "gan_start_at": epochs,
        },
        "monitor": {"interval": 200, "save_interval": max(epochs // 8, 1)},
    }


def announce(args: argparse.Namespace, work: Work) -> None:
    """Say what will be done, and about how long it takes on this machine."""
    videos = {"source": look(args.source), "target": look(args.target)}
    counts = {role: video.num_frames(video.fps) for role, video in videos.items()}
    if counts["target"] < MIN_FRAMES:
        raise DataError(
            f"{args.target}: {counts['target']} frames are too few to learn a face from; {MIN_FRAMES} at least"
        )
    num_train = max(int((1 - HELD_OUT) * counts["target"]), 1)
    config = complete_config("decoder", decoder_config(work, num_train), work.folder)
    total = config["train"]["epochs"] * math.ceil(num_train / work.quality.batch_size)
    done = max((int(checkpoint.name) for checkpoint in checkpoints_of(work.run)), default=0)
    set_context("auto", 0)
    each = seconds_per_iteration(config) if done < total else 0.0
    to_prepare = sum(counts[role] for role in counts if not work.person(getattr(work, role)).exists())
    frames = ", ".join(f"{getattr(args, role)} ({count} frames)" for role, count in counts.items())
    width = work.quality.planes
    times = {
        f"prepare {frames}": PREPARING_S * to_prepare,
        f"train a decoder of {width} base channels, {total} iterations, {done} done": each * max(total - done, 0),
        "reenact, measure, write the page": REENACTING_S * (counts["source"] + HELD_OUT * counts["target"]),
    }
    print("what will be done, and about how long it takes here:")
    for words, seconds in times.items():
        print(f"  {words}: {tqdm.format_interval(seconds)}")
    print(f"  everything lies in {work.folder}; Ctrl-C stops, the same command goes on", flush=True)


def claim(work: Work, args: argparse.Namespace) -> None:
    """Note in the folder what it is made of.

    Raises:
        ConfigError: it is made of something else already.
    """
    made_of = {"source": file_digest(args.source), "target": file_digest(args.target), "quality": args.quality}
    path = work.folder / INPUTS_FILE
    try:
        before = read_yaml(path)
    except (OSError, ValueError):
        before = None
    if before is not None and before != made_of:
        raise ConfigError(
            f"{work.folder}: holds work on other videos, or of another --quality; name another --work-dir"
        )
    write_yaml(path, made_of)


def name_of(path: Path, role: str) -> str:
    """Make a person's name of a file's."""
    name = re.sub(r"[^\w-]+", "_", path.stem).strip("_-")[:40]
    return name if is_folder_name(name) else role


def prepare(work: Work, video: Path, name: str) -> None:
    """Make a person of a video, unless it is there."""
    if not work.person(name).exists():
        run_step(f"prepare {name}", "prepare_person.py", video, "--name", name, "--data-dir", work.person(name).parent)


def train(work: Work) -> None:
    """Split the target's frames and train its decoder on the first of them."""
    root = work.person(work.target).parent
    everything = list_path(root, work.target, "all")
    count = len(read_names(everything, num_numbers(everything), ""))
    if count < MIN_FRAMES:
        raise DataError(f"{everything}: {count} usable frames are too few to learn a face from; {MIN_FRAMES} at least")
    num_train = int((1 - HELD_OUT) * count)
    if not list_path(root, work.target, "test").exists():
        run_step(f"split {work.target}", "split_celebv.sh", root, num_train)
    conf = work.folder / "decoder.yaml"
    if not (work.run / INFO_FILE).exists():
        write_yaml(conf, decoder_config(work, num_train))
        resume = ("--conf", conf)
    else:
        resume = ("--resume", work.run)
    run_step(f"train the decoder of {work.target}", "train_decoder.py", *resume)


def reenact(work: Work, args: argparse.Namespace) -> dict[str, Path]:
    """Reenact the source's video and the target's own held-out frames, and measure both; gives the results' folders."""
    decoder = ("--decoder-config", work.run / INFO_FILE, "--landmarks")
    held_out = ("--src-celeb-name", work.target, "--data-dir", work.person(work.target).parent)
    film = ("--input", args.source, "--src-celeb-name", work.source, "--video", args.out, "--layout", "side-by-side")
    results = {}
    for name, flags in (("held-out frames", held_out), ("result", film)):
        parent = work.folder / name.replace(" ", "_")
        if not list(parent.glob("*/*/scores.json")) or (name == "result" and not args.out.exists()):
            run_step(f"reenact: {name}", "test_reenactment.py", *decoder, *flags, "--out-dir", parent)
            newest = max(parent.glob("*/*/reenactment.yaml"), key=lambda path: path.stat().st_mtime)
            run_step(f"measure: {name}", "evaluate.py", newest.parent)
        results[name] = max(parent.glob("*/*/scores.json"), key=lambda path: path.stat().st_mtime).parent
    return results


def write_page(work: Work, args: argparse.Namespace, results: dict[str, Path]) -> Path:
    """Write one page with all of it."""

    def address(path: Path) -> str:
        return escape(os.path.relpath(path, work.folder))

    scores = {
        name: json.loads((folder / "scores.json").read_text(encoding="utf-8")) for name, folder in results.items()
    }
    own = scores["held-out frames"]
    rows = [
        ("held-out frames of the target, through its own landmarks", "PSNR {psnr:.2f} dB, SSIM {ssim:.3f}, sharpness "
         "{sharpness:.2f} of the real".format(**own["self_reenactment"])),
    ]  # fmt: skip
    for name, found in scores.items():
        words = ", ".join(
            f"{key} {'not measured' if value is None else f'{value:.2f}'}"
            for key, value in found["gestures"]["with_driver"].items()
        )
        rows.append((f"{name}: follows the driver, correlations", words))
        rows.append((f"{name}: a face is found in", f"{100 * found['gestures']['found']:.0f} %"))
    body = [
        f"<p>{escape(work.source)} drives {escape(work.target)}. Generated faces are <b>synthetic</b>: a neural "
        "network made them. Show them only with the consent of both, and say what they are.</p>",
        f'<video controls preload="metadata" src="{address(args.out)}"></video>',
        "<h2>Measured</h2>",
        table(rows),
        "<h2>More</h2><ul>",
    ]
    for name, folder in results.items():
        body.append(f'<li><a href="{address(folder / "index.html")}">{name}, frame by frame</a></li>')
    body.append(f'<li><a href="{address(work.run / "index.html")}">training: curves and samples</a></li></ul>')
    for name in (work.source, work.target):
        sheet = address(work.person(name) / "contact_sheet.png")
        body.append(f'<h2>{escape(name)}</h2><p><img src="{sheet}" alt="frames of {escape(name)} with boundaries"></p>')
    path = work.folder / "index.html"
    write_text(path, page(f"{work.source} to {work.target}", body))
    return path


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=cli.path, required=True, metavar="A.mp4", help="who moves")
    parser.add_argument("--target", type=cli.path, required=True, metavar="B.mp4", help="whose face is moved")
    parser.add_argument("--out", type=cli.path, required=True, metavar="OUT.mp4", help="the video")
    help_quality = "width and length of the training (draft); docs/PEOPLE.md says what to expect"
    parser.add_argument("--quality", choices=QUALITIES, default="draft", help=help_quality)
    parser.add_argument("--work-dir", type=cli.path, help="where everything else goes (default: OUT.work)")
    args = parser.parse_args()
    if args.out.suffix != ".mp4":
        parser.error(f"--out {args.out}: must end in .mp4")
    for flag in ("source", "target"):
        if not getattr(args, flag).is_file():
            raise DataError(f"--{flag} {getattr(args, flag)}: no such video")
    if os.path.samefile(args.source, args.target):
        parser.error("--source and --target are the same file; a face that moves itself needs no reenactment")
    args.work_dir = args.work_dir or args.out.with_suffix(".work")
    check_outputs({"--out": args.out, "--work-dir": args.work_dir}, [args.source, args.target])
    return args


def main() -> None:
    args = parse_args()
    names = name_of(args.source, "source"), name_of(args.target, "target")
    source, target = names if names[0] != names[1] else (f"{names[0]}-source", f"{names[1]}-target")
    work = Work(args.work_dir, source, target, QUALITIES[args.quality])
    with locked(work.folder):
        claim(work, args)
        announce(args, work)
        prepare(work, args.source, source)
        prepare(work, args.target, target)
        train(work)
        results = reenact(work, args)
        print(f"video: {args.out}\nlook through it: {write_page(work, args, results)}")


if __name__ == "__main__":
    call_main(main)
