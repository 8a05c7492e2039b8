"""Let one person's video move another person's face: two videos in, a reenactment out.

    python reenact_people.py --source a.mp4 --target b.mp4 --out result.mp4 [--quality draft|good|full]

Prepares both people, splits their frames, trains the target's decoder, reenacts, measures on the frames that were held
out, and writes a page with all of it. Boundaries come from landmarks and are moved by geometry; --encoder and
--transformer train the paper's networks for that. Everything lies in one folder (--work-dir, by default beside the
result). Stop it whenever you like: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
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
from config.runs import INFO_FILE, run_parent
from datasets.annotations import read_names
from datasets.celebv import list_path, num_numbers
from training.checkpoints import checkpoints_of
from training.communicator import Communicator
from training.updater import Updater
from utils import cli
from utils.context import set_context
from utils.ending import OFTEN, call_main, requests
from utils.errors import ConfigError, DataError, Stopped, UserError
from utils.files import (
    atomic_path,
    check_outputs,
    file_digest,
    is_folder_name,
    locked,
    read_yaml,
    write_text,
    write_yaml,
)
from utils.html import page, table
from utils.video import look

ROOT = Path(__file__).resolve().parent
HELD_OUT = 0.15  # of the target's frames, its last ones
MIN_FRAMES, MIN_SOURCE_FRAMES = 40, 10  # of the target, and of a source that is learned from
PREPARING_S, REENACTING_S = 0.03, 0.1  # a frame, roughly
TRIAL_STEPS = 4
INPUTS_FILE = "inputs.yaml"


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
    """Say who is who, what is trained, and where things lie."""

    folder: Path
    source: str  # names, also of folders
    target: str
    quality: Quality
    modules: tuple[str, ...]  # that are trained, in their order

    def root(self, name: str) -> Path:
        """Return the folder that holds a person alone: people are split each for itself."""
        return self.folder / name

    def person(self, name: str) -> Path:
        """Return the folder of a person."""
        return self.root(name) / name

    @property
    def people(self) -> Path:
        """Return the folder that holds both people, as links."""
        return self.folder / "people"

    def run(self, module: str) -> Path:
        """Return the folder of a module's run."""
        parent = run_parent(module, complete_config(module, config_of(self, module, 1), self.folder))
        return parent / module


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


def config_of(work: Work, module: str, num_train: int) -> dict:
    """Describe a training: the decoder's has pixels only, the transformer's is mostly a warm start (docs/PEOPLE.md)."""
    quality, both = work.quality, [work.source, work.target]
    narrow = 2 * max(quality.planes // 3, 4)  # encoder and transformer see lines, not looks

    def epochs(batch_size: int) -> int:
        return max(math.ceil(quality.iterations * batch_size / num_train), 2)

    common = {
        "experiment_name": module,
        "logdir": str(work.folder / "runs"),
        "train_dir": str(work.people),
        "mode": "train",
    }
    if module == "decoder":
        count = epochs(quality.batch_size)
        own = {"trg_celeb_name": work.target, "model": {"planes": quality.planes}}
        train = {"batch_size": quality.batch_size, "lr": quality.lr, "lr_decay_start_at": count // 2}
        train |= {"epochs": count, "feature_loss": {"lambda": 0}, "gan_start_at": count}
        monitor = {"interval": 200, "save_interval": max(count // 8, 1)}
    elif module == "encoder":
        count = epochs(4)
        own = {"dataset": "CelebV", "celeb_names": both, "model": {"planes": narrow}, "test": {"batch_size": 4}}
        train = {"epochs": count, "batch_size": 4, "lr": 2e-3, "weight_decay": 0, "augmentation": True}
        monitor = {"interval": max(count // 8, 1), "save_interval": max(count // 8, 1)}
    elif module == "shape_prior":
        own = {"celeb_names": both}
        train, monitor = {"epochs": 6, "batch_size": 16, "augmentation": False}, {}
    else:
        warm = max(epochs(4) // 2, 1)
        prior = work.folder / "runs/shape_prior/shape_prior"
        paths = {"align_param_path": str(prior / "Align.h5"), "PCA_param_path": str(prior / "PCA.h5")}
        own = {"src_celeb_name": work.source, "trg_celeb_name": work.target, "model": {"planes": narrow}}
        train = {"epochs": warm + 1, "batch_size": 4, "lr": 2e-5, "shape_loss": {"lambda": 1.0, **paths}}
        train["warm_start"] = {"epochs": warm, "lr": 2e-3, "lambda": 50.0}
        monitor = {"interval": 200, "save_interval": 1}
    return common | own | {"train": train, "monitor": monitor}


def announce(args: argparse.Namespace, work: Work) -> None:
    """Say what will be done, and about how long it takes on this machine."""
    videos = {"source": look(args.source), "target": look(args.target)}
    counts = {role: video.num_frames(video.fps) for role, video in videos.items()}
    if counts["target"] < MIN_FRAMES:
        raise DataError(
            f"{args.target}: {counts['target']} frames are too few to learn a face from; {MIN_FRAMES} at least"
        )
    num_train = max(int((1 - HELD_OUT) * counts["target"]), 1)
    config = complete_config("decoder", config_of(work, "decoder", num_train), work.folder)
    total = config["train"]["epochs"] * math.ceil(num_train / work.quality.batch_size)
    done = max((int(checkpoint.name) for checkpoint in checkpoints_of(work.run("decoder"))), default=0)
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
    for module in work.modules[:-1]:
        print(f"  train the {module}, which says how long that takes")
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
        run_step(f"prepare {name}", "prepare_person.py", video, "--name", name, "--data-dir", work.root(name))
    link = work.people / name
    if not link.is_symlink():
        work.people.mkdir(exist_ok=True)
        link.symlink_to(Path("..") / name / name)


def split(work: Work, name: str) -> int:
    """Split a person's frames, unless that is done; gives the number of those to train on."""
    everything = list_path(work.root(name), name, "all")
    count = len(read_names(everything, num_numbers(everything), ""))
    least = MIN_FRAMES if name == work.target else MIN_SOURCE_FRAMES
    if count < least:
        raise DataError(f"{everything}: {count} usable frames are too few to learn from; {least} at least")
    num_train = int((1 - HELD_OUT) * count)
    if not list_path(work.root(name), name, "test").exists():
        run_step(f"split {name}", "split_celebv.sh", work.root(name), num_train)
    return num_train


def train(work: Work, num_frames: dict[str, int]) -> None:
    """Train what is missing."""
    for module in work.modules:
        run, conf = work.run(module), work.folder / f"{module}.yaml"
        if (run / INFO_FILE).exists():
            how = ("--resume", run)
        else:
            num_train = num_frames[work.target] if module == "decoder" else sum(num_frames.values())
            write_yaml(conf, config_of(work, module, num_train))
            how = ("--conf", conf)
        run_step(f"train the {module}", f"train_{module}.py", *how)


def reenact(work: Work, args: argparse.Namespace) -> dict[str, Path]:
    """Reenact the source's video and the target's own held-out frames, and measure both; gives the results' folders."""
    trained = [module for module in ("encoder", "transformer") if module in work.modules]
    networks = [word for module in trained for word in (f"--{module}-config", work.run(module) / INFO_FILE)]
    networks += [] if "encoder" in trained else ["--landmarks"]
    name = "-".join(["result", *trained])
    video = work.folder / f"{name}.mp4"
    film = ("--input", args.source, "--src-celeb-name", work.source, "--video", video, "--layout", "side-by-side")
    held_out = ("--landmarks", "--src-celeb-name", work.target, "--data-dir", work.people)
    results = {}
    for what, flags in (("held-out", held_out), (name, (*networks, *film))):
        parent = work.folder / what
        if not list(parent.glob("*/*/scores.json")):
            decoder = ("--decoder-config", work.run("decoder") / INFO_FILE)
            run_step(f"reenact: {what}", "test_reenactment.py", *decoder, *flags, "--out-dir", parent)
            newest = max(parent.glob("*/*/reenactment.yaml"), key=lambda path: path.stat().st_mtime)
            run_step(f"measure: {what}", "evaluate.py", newest.parent)
        results[what] = max(parent.glob("*/*/scores.json"), key=lambda path: path.stat().st_mtime).parent
    if not args.out.exists() or file_digest(args.out) != file_digest(video):
        with atomic_path(args.out) as temporary:
            shutil.copy(video, temporary)
    return results


def write_page(work: Work, args: argparse.Namespace, results: dict[str, Path]) -> Path:
    """Write one page with all of it."""

    def address(path: Path) -> str:
        return escape(os.path.relpath(path, work.folder))

    scores = {
        name: json.loads((folder / "scores.json").read_text(encoding="utf-8")) for name, folder in results.items()
    }
    words = "PSNR {psnr:.2f} dB, SSIM {ssim:.3f}, sharpness {sharpness:.2f} of the real"
    rows = [("decoder on the target's held-out frames", words.format(**scores["held-out"]["decoder"]))]
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
    body.append(
        f'<li><a href="{address(work.run("decoder") / "index.html")}">training: curves and samples</a></li></ul>'
    )
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
    help_encoder = "train an encoder on both people, and take boundaries from it"
    parser.add_argument("--encoder", action="store_true", help=help_encoder)
    help_transformer = "train a shape prior and a transformer, and move boundaries by it"
    parser.add_argument("--transformer", action="store_true", help=help_transformer)
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
    modules = ("encoder",) if args.encoder else ()
    modules += ("shape_prior", "transformer") if args.transformer else ()
    work = Work(args.work_dir, source, target, QUALITIES[args.quality], (*modules, "decoder"))
    with locked(work.folder):
        claim(work, args)
        announce(args, work)
        videos = {source: args.source, target: args.target}
        for name, video in videos.items():
            prepare(work, video, name)
        # a source that only drives may be as short as it likes
        learned_from = [target] if work.modules == ("decoder",) else [source, target]
        train(work, {name: split(work, name) for name in learned_from})
        results = reenact(work, args)
        print(f"video: {args.out}\nlook through it: {write_page(work, args, results)}")


if __name__ == "__main__":
    call_main(main)
