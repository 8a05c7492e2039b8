"""Let one person's video move another person's face: two videos in, a reenactment out.

    python reenact_people.py --source a.mp4 --target b.mp4 --out result.mp4 [--quality draft|good|full]

Prepares both people, splits their frames, trains the target's decoder, reenacts, measures on the frames that were held
out, and writes a page with all of it. Boundaries come from landmarks and are moved by geometry; --encoder and
--transformer train the paper's networks for that. Everything lies in one folder (--work-dir, by default beside the
result). Stop it whenever you like: the same command goes on where it stopped.
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from html import escape
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import nnabla as nn
import numpy as np
from tqdm import tqdm

import train_decoder
import train_encoder
import train_shape_prior
import train_transformer
from config import complete_config
from config.runs import HELD_OUT_FILE, INFO_FILE, run_parent
from datasets.annotations import read_names
from datasets.boundary import IMAGE_SIZE
from datasets.celebv import list_path, num_numbers
from datasets.images import read_image, write_image
from inference.pictures import Pictures
from models.build import ALIGN, ENCODER
from training.checkpoints import checkpoints_of
from training.series import TIMER, read_series
from training.updater import Updater, adam_of
from utils import cli
from utils.context import current_context, set_context
from utils.ending import call_main
from utils.errors import ConfigError, DataError
from utils.files import (
    atomic_path,
    check_outputs,
    check_room,
    file_digest,
    is_folder_name,
    locked,
    read_yaml,
    remove_folder,
    write_text,
    write_yaml,
)
from utils.html import address as address_of
from utils.html import line_chart, page, table
from utils.panels import contact_sheet, evenly, generated_mark
from utils.parallel import available_cores
from utils.steps import Step, has_mpi, run_steps
from utils.video import check_sound

NUM_COORDINATES = 196  # of WFLW's 98 landmarks
HEATMAP_SHAPES = ((15, 64, 64), (15, 256, 256))
HELD_OUT = 0.15  # of the target's frames, its last ones
MIN_FRAMES, MIN_SOURCE_FRAMES = 40, 10  # of the target, and of a source that is learned from
PREPARING_S, REENACTING_S = 0.03, 0.1  # a frame, roughly
TRIAL_STEPS = 4
MIN_SHARE = 2  # samples of a batch for each process: normalised alone, a sample costs a real face more than 1 dB
SHOWN_FRAMES, TILE_PX = 6, 192
RESULT_BYTES = 400_000  # of a frame of a result, roughly
OWN_NAMES = ("people", "runs", "held-out", "result")
INPUTS_FILE = "inputs.yaml"


class Quality(NamedTuple):
    """Say how large the decoder is and how long it trains."""

    planes: int
    batch_size: int
    iterations: int
    lr: float


QUALITIES = {
    "draft": Quality(planes=12, batch_size=2, iterations=2000, lr=2e-3),
    "good": Quality(planes=24, batch_size=4, iterations=4000, lr=1e-3),
    "full": Quality(planes=40, batch_size=4, iterations=16_000, lr=1e-3),
}


class Work(NamedTuple):
    """Say who is who, what is trained, and where things lie."""

    folder: Path
    source: str  # names, also of folders
    target: str
    quality: Quality
    modules: tuple[str, ...]  # that are trained, in their order
    cores: int  # to train on

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
        config = config_of(self, module, {self.source: 1, self.target: 1})
        return run_parent(module, complete_config(module, config, self.folder)) / module

    def lanes(self) -> list[list[str]]:
        """Return what is trained, in rows that do not wait for each other where there is a core for each."""
        rows = [["decoder"], ["encoder"], ["shape_prior", "transformer"]]
        rows = [[module for module in row if module in self.modules] for row in rows]
        decoder, *others = [row for row in rows if row]
        if self.cores > len(others):
            return [decoder, *others]
        others = list(chain(*others))
        return [decoder, others] if self.cores > 1 else [others + decoder]

    def conf(self, module: str) -> Path:
        """Return a training's configuration file."""
        return self.folder / f"{module}.yaml"

    def is_begun(self, module: str) -> bool:
        """Tell whether there is a checkpoint to go on from."""
        return bool(checkpoints_of(self.run(module)))


def step_of(module: str, config: dict) -> Callable[[int], dict[str, nn.Variable]]:
    """Build a training's iteration on random numbers; gives a function that runs it, by its number."""
    rng, updater, train = np.random.default_rng(0), Updater(), config["train"]
    size = train["batch_size"]
    image, small, large = (rng.random((size, *shape), np.float32) for shape in ((3, 256, 256), *HEATMAP_SHAPES))
    if module == "decoder":
        graph, solvers = train_decoder.build_graph(config, None), train_decoder.make_solvers(config)
        return lambda _: train_decoder.train_step(graph, solvers, updater, (image, small, large), with_gan=False)
    if module == "encoder":
        graph = train_encoder.build_graph(config, size, training=True)
        solver = adam_of(ENCODER, train["lr"])
        return lambda _: train_encoder.train_step(graph, solver, updater, (image, small), 0.0)
    if module == "shape_prior":
        graph = train_shape_prior.build_graph(size, NUM_COORDINATES)
        solver, points = adam_of(ALIGN, train["lr"]), rng.random((size, NUM_COORDINATES), np.float32)
        return lambda _: train_shape_prior.train_step(graph, solver, updater, (small, points))
    graphs = [train_transformer.build_graph(config, NUM_COORDINATES)]
    solvers = train_transformer.make_solvers(config)
    train_transformer.set_batch(graphs[0], (small, small), (small, small))
    warm_up = partial(train_transformer.warm_start_step, graphs, solvers, updater)
    # half and half, as config_of has it
    return lambda number: train_transformer.train_step(graphs, solvers, updater, 0.0) if number % 2 else warm_up()


def seconds_per_iteration(module: str, config: dict) -> float:
    """Time a few iterations of a training, each network alone on the machine."""
    step = step_of(module, config)
    for number in range(2 + TRIAL_STEPS):
        if number == 2:  # the first of each kind has memory to find
            begin = time.monotonic()
        losses = step(number)
        float(next(iter(losses.values())).d)
    nn.clear_parameters()
    return (time.monotonic() - begin) / TRIAL_STEPS


def seen_by(work: Work, module: str, num_train: dict[str, int]) -> int:
    """Count the frames of an epoch: of the target, of both, or of the longer one."""
    if module == "decoder":
        return num_train[work.target]
    return max(num_train.values()) if module == "transformer" else sum(num_train.values())


def config_of(work: Work, module: str, num_train: dict[str, int]) -> dict:
    """Describe a training: the decoder's has pixels only, the transformer's is mostly a warm start (docs/PEOPLE.md).

    Args:
        num_train: frames to train on, by the people's names.
    """
    quality, both = work.quality, [work.source, work.target]
    num_frames = seen_by(work, module, num_train)
    narrow = 2 * max(quality.planes // 3, 4)  # encoder and transformer see lines, not looks

    def epochs(batch_size: int) -> int:
        return max(math.ceil(quality.iterations * batch_size / num_frames), 2)

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
        train["average"] = 0.99
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


def plan_of(work: Work, module: str, num_train: dict[str, int]) -> tuple[dict, int]:
    """Return a training's configuration, and how many processes share a batch: those that it began with, if it did.

    nnabla uses one core of a CPU, so a training has as many as there are cores for it.
    """
    config = config_of(work, module, num_train)
    whole = config["train"]["batch_size"]
    if work.is_begun(module):
        processes = whole // read_yaml(work.conf(module))["train"]["batch_size"]
    else:
        most = max(work.cores // len(work.lanes()), 1) if current_context() == "cpu" and has_mpi() else 1
        shares = [count for count in range(1, most + 1) if whole % count == 0 and whole // count >= MIN_SHARE]
        processes = max(shares, default=1)
    config["train"]["batch_size"] = whole // processes
    return config, processes


def announce(args: argparse.Namespace, work: Work) -> None:
    """Say what will be done, and about how long it takes on this machine."""
    videos = {"source": Pictures(args.source), "target": Pictures(args.target)}
    counts = {role: pictures.count for role, pictures in videos.items()}
    if counts["target"] < MIN_FRAMES:
        raise DataError(
            f"{args.target}: {counts['target']} frames are too few to learn a face from; {MIN_FRAMES} at least"
        )
    film = videos["source"].video  # an animation is none
    if args.audio and film is not None:
        check_sound(film, film.seconds)
    check_room(work.folder, RESULT_BYTES * counts["source"], "the result's frames")
    to_prepare = sum(counts[role] for role in counts if not work.person(getattr(work, role)).exists())
    frames = ", ".join(f"{getattr(args, role)} ({count} frames)" for role, count in counts.items())
    times = {f"prepare {frames}": PREPARING_S * to_prepare}
    set_context("auto", 0)
    num_train = {getattr(work, role): max(int((1 - HELD_OUT) * count), 1) for role, count in counts.items()}
    for module in work.modules:
        own, processes = plan_of(work, module, num_train)
        config = complete_config(module, own, work.folder)
        train = config["train"]
        total = train["epochs"] * math.ceil(seen_by(work, module, num_train) / (processes * train["batch_size"]))
        done = max((int(checkpoint.name) for checkpoint in checkpoints_of(work.run(module))), default=0)
        each = seconds_per_iteration(module, config) if done < total else 0.0
        together = f", {processes} processes" if processes > 1 else ""
        planes = f", {config['model']['planes']} base channels" if "model" in config else ""
        words = f"train the {module.replace('_', ' ')}{planes}{together}: {total} iterations, {done} done"
        times[words] = each * (total - done)
    times["reenact, measure, write the page"] = REENACTING_S * (counts["source"] + HELD_OUT * counts["target"])
    print("what will be done, and about how long it takes here:")
    for words, seconds in times.items():
        print(f"  {words}: {tqdm.format_interval(max(seconds, 0))}")
    if len(work.lanes()) > 1:
        print(f"  all: {tqdm.format_interval(sum(times.values()))} or less, since some trainings run side by side")
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
    if name.lower().startswith(OWN_NAMES):  # folders of this script's own beside the people's
        name = f"{name}-{role}"
    return name if is_folder_name(name) else role


def prepare(work: Work, videos: dict[str, Path], run: Callable[..., None]) -> None:
    """Make people of videos, unless they are there."""
    for name, video in videos.items():  # one by one, since each takes all cores
        if not work.person(name).exists():
            args = (video, "--name", name, "--data-dir", work.root(name))
            run([Step(f"prepare {name}", "prepare_person.py", args)])
        link = work.people / name
        if not link.is_symlink():
            work.people.mkdir(exist_ok=True)
            link.symlink_to(Path("..") / name / name)


def split(work: Work, name: str, run: Callable[..., None]) -> int:
    """Split a person's frames, unless that is done; gives the number of those to train on."""
    everything = list_path(work.root(name), name, "all")
    count = len(read_names(everything, num_numbers(everything), ""))
    least = MIN_FRAMES if name == work.target else MIN_SOURCE_FRAMES
    if count < least:
        raise DataError(f"{everything}: {count} usable frames are too few to learn from; {least} at least")
    num_train = int((1 - HELD_OUT) * count)
    if not list_path(work.root(name), name, "test").exists():
        run([Step(f"split {name}", "split_celebv.sh", (work.root(name), num_train))])
    return num_train


def training_step(work: Work, module: str, num_train: dict[str, int]) -> Step:
    """Say how to begin a training, or how to go on with it."""
    config, processes = plan_of(work, module, num_train)
    if work.is_begun(module):
        args = ("--resume", work.run(module))
    else:
        if work.run(module).exists():  # killed before its first checkpoint; its name must be free
            with locked(work.run(module)):
                remove_folder(work.run(module))
        write_yaml(work.conf(module), config)
        args = ("--conf", work.conf(module))
    return Step(f"train the {module}", f"train_{module}.py", args, processes)


def reenact(work: Work, args: argparse.Namespace, run: Callable[..., None]) -> dict[str, Path]:
    """Reenact the source's video and the target's own held-out frames, and measure both; gives the results' folders."""
    trained = [module for module in ("encoder", "transformer") if module in work.modules]
    networks = [word for module in trained for word in (f"--{module}-config", work.run(module) / INFO_FILE)]
    networks += [] if "encoder" in trained else ["--landmarks"]
    name = "-".join(["result", *trained])
    video = work.folder / f"{name}.mp4"
    film = ("--input", args.source, "--src-celeb-name", work.source, "--video", video, "--layout", "side-by-side")
    film += () if args.audio else ("--no-audio",)
    held_out = ("--landmarks", "--src-celeb-name", work.target, "--data-dir", work.people)
    results = {}
    for what, flags in (("held-out", held_out), (name, (*networks, *film))):
        parent = work.folder / what
        if not list(parent.glob("*/*/scores.json")):
            decoder = ("--decoder-config", work.run("decoder") / INFO_FILE)
            args_of = (*decoder, *flags, "--out-dir", parent)
            run([Step(f"reenact: {what}", "test_reenactment.py", args_of)])
            newest = max(parent.glob("*/*/reenactment.yaml"), key=lambda path: path.stat().st_mtime)
            run([Step(f"measure: {what}", "evaluate.py", (newest.parent,))])
        results[what] = max(parent.glob("*/*/scores.json"), key=lambda path: path.stat().st_mtime).parent
    if not args.out.exists() or file_digest(args.out) != file_digest(video):
        with atomic_path(args.out) as temporary:
            shutil.copy(video, temporary)
    return results


def write_comparison(path: Path, result: Path) -> None:
    """Lay real faces of a result's frames over the generated ones."""
    panels = sorted((result / "result").glob("*.png"))
    panels = [read_image(panels[number]) for number in evenly(len(panels), SHOWN_FRAMES)]
    tiles = [panel[:, place * IMAGE_SIZE : (place + 1) * IMAGE_SIZE] for place in (0, 3) for panel in panels]
    picture = contact_sheet(tiles, len(panels), TILE_PX)
    write_image(path, picture, generated_mark("the faces of the lower row"))


def write_page(work: Work, args: argparse.Namespace, results: dict[str, Path]) -> Path:
    """Write one page with all of it."""
    address = partial(address_of, folder=work.folder)
    scores = {
        name: json.loads((folder / "scores.json").read_text(encoding="utf-8")) for name, folder in results.items()
    }
    words = "PSNR {psnr:.2f} dB, SSIM {ssim:.3f}, sharpness {sharpness:.2f} of the real"
    of_decoder = scores["held-out"]["decoder"]
    write_text(work.run("decoder") / HELD_OUT_FILE, json.dumps(of_decoder, indent=1) + "\n")  # for app.py
    rows = [("decoder on the target's held-out frames", words.format(**of_decoder))]
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
    for module in work.modules:
        body.append(f'<li><a href="{address(work.run(module) / "index.html")}">training of the {module}</a></li>')
    comparison = work.folder / "held-out.png"
    write_comparison(comparison, results["held-out"])
    body += [
        "</ul><h2>Held-out frames: real above, generated below</h2>",
        f'<p><img src="{address(comparison)}" alt="real and generated faces of {escape(work.target)}"></p>',
        '<h2>Losses</h2><div class="charts">',
        *(
            line_chart(f"{module}: {name}", points)
            for module in work.modules
            for name, points in read_series(work.run(module)).items()
            if name != TIMER
        ),
        "</div>",
    ]
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
    parser.add_argument("--no-audio", action="store_false", dest="audio", help="leave the source's sound out")
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
    work = Work(args.work_dir, source, target, QUALITIES[args.quality], (*modules, "decoder"), available_cores())
    with locked(work.folder) as lock:
        claim(work, args)
        announce(args, work)
        # what runs holds the lock, too: the same command cannot go on beside what is left of one that was killed
        run = partial(run_steps, held=(lock,))
        videos = {source: args.source, target: args.target}
        prepare(work, videos, run)
        # a source that only drives may be as short as it likes
        learned_from = [target] if work.modules == ("decoder",) else [source, target]
        num_train = {name: split(work, name, run) for name in learned_from}
        lanes = [[training_step(work, module, num_train) for module in lane] for lane in work.lanes()]
        run(*lanes, logs=work.folder)
        results = reenact(work, args, run)
        print(f"video: {args.out}\nlook through it: {write_page(work, args, results)}")


if __name__ == "__main__":
    call_main(main)
