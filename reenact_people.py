"""Make one person's video move another person's face, or learn one person.

    python reenact_people.py --source a.mp4 --target b.mp4 --out result.mp4 [--quality instant|draft|good|full]
    python reenact_people.py --target me.mp4 --work-dir me.work [--name Me] [--look]

The first command prepares the target, reenacts, measures on held-out frames, and writes a page. By default (instant),
the result is painted with frames of the target's own video, arranged by a decoder in demo/weights; other qualities
train a decoder of the target. Boundaries are drawn from landmarks and moved by geometry; --encoder and --transformer
train the paper's networks instead. The second command trains and measures a decoder for app.py and for later videos;
--look only reports what the video lacks. Repeat a command to continue where it was stopped; the second needs --target
only once.
"""

from __future__ import annotations
from utils.ending import call_main

import argparse
import os
from pathlib import Path

from config.runs import INFO_FILE
from datasets.celebv import read_person
from datasets.film import SIZES
from faces.motion import MAX_STRENGTH, MOTIONS, is_whole
from inference.inputs import FrameSource
from people.advice import what_is_missing
from people.page import write_page
from people.recipe import announced, training_steps
from people.steps import HELD_OUT, choose_film, measure_held_out, prepare, reenact, require_frames, split
from people.work import INPUTS_FILE, QUALITIES, Work, read_inputs, record_inputs
from utils import cli
from utils.context import set_context
from utils.errors import ConfigError, DataError, UserError
from utils.files import check_outputs, check_room, locked, remove
from utils.parallel import available_cores
from utils.steps import run_steps
from utils.video import check_sound

RESULT_BYTES = 400_000  # per frame of a result, approximately


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", type=cli.path, metavar="A.mp4", help="video (or folder of images) of the driving face"
    )
    parser.add_argument(
        "--target", type=cli.path, metavar="B.mp4", help="video (or folder of images) of the shown face"
    )
    parser.add_argument("--out", type=cli.path, metavar="OUT.mp4", help="resulting video")
    help_quality = "instant trains nothing, the others train a decoder (default: as before, else instant, or draft "
    help_quality += "without --source)"
    parser.add_argument("--quality", choices=QUALITIES, help=help_quality)
    help_encoder = "train an encoder on the source, and use its boundaries"
    parser.add_argument("--encoder", action="store_true", help=help_encoder)
    help_transformer = "train a shape prior and a transformer, and move boundaries with it"
    parser.add_argument("--transformer", action="store_true", help=help_transformer)
    cli.add_motion_arguments(parser, MOTIONS, MAX_STRENGTH)
    help_size = "maximum size of the painted face in pixels"
    parser.add_argument("--size", type=int, choices=SIZES, default=max(SIZES), help=help_size)
    parser.add_argument("--no-audio", action="store_false", dest="audio", help="leave out the source's sound")
    help_work = "folder of everything else (default: OUT.work); app.py finds people in LOGDIR/learned/NAME"
    parser.add_argument("--work-dir", type=cli.path, metavar="DIR", help=help_work)
    help_name = "without --source: name of the person (default: the video's)"
    parser.add_argument("--name", type=cli.folder_name, help=help_name)
    help_look = "without --source: only prepare the person and report what the video lacks"
    parser.add_argument("--look", action="store_true", help=help_look)
    cli.add_part_arguments(parser.add_argument_group("without --source, of the target's video"))
    args = parser.parse_args()
    if args.source is None:
        if args.out is not None or args.encoder or args.transformer:
            parser.error("--out, --encoder and --transformer require --source")
        if args.work_dir is None:
            parser.error("--work-dir is required without --source")
        if args.quality == "instant":
            parser.error("--quality instant requires --source; without it, a decoder is trained")
    else:
        if args.target is None or args.out is None:
            parser.error("--source requires --target and --out")
        if args.name or args.look or args.part or args.face:
            parser.error("--name, --look, --part and --face apply without --source")
        if args.encoder and not is_whole(args.motion, args.strength):
            parser.error("--motion and --strength apply to landmarks, which --encoder does not use")
        args.work_dir = args.work_dir or args.out.with_suffix(".work")
    for flag in ("source", "target"):
        video = getattr(args, flag)
        if video is not None and not (video.is_file() or video.is_dir()):
            raise DataError(f"--{flag} {video}: no such video or folder of images")
    recorded = read_inputs(args.work_dir)
    if args.source is None and args.target is None and "target" not in recorded.names:
        raise ConfigError(f"{args.work_dir / INPUTS_FILE}: contains no person; pass --target")
    if args.quality is None:
        default, others = ("draft", ("", "instant")) if args.source is None else ("instant", ("",))
        args.quality = default if recorded.quality in others else recorded.quality
    if args.quality == "instant" and (args.encoder or args.transformer):
        parser.error("--encoder and --transformer require training; add --quality draft")
    if args.source is not None and os.path.samefile(args.source, args.target):
        parser.error("--source and --target are the same file")
    check_outputs({"--out": args.out, "--work-dir": args.work_dir}, [args.source, args.target], ".mp4")
    return args


def open_work(args: argparse.Namespace) -> Work:
    """Record what the work folder is made from, or read it. Raises ConfigError if it does not match the arguments."""
    videos = {role: path for role, path in (("source", args.source), ("target", args.target)) if path is not None}
    names = {"target": args.name} if args.name else {}
    inputs = record_inputs(args.work_dir, videos, names, args.quality)
    modules = ("encoder",) if args.encoder else ()
    modules += ("shape_prior", "transformer") if args.transformer else ()
    modules += () if args.quality == "instant" else ("decoder",)
    source = "" if args.source is None else inputs.names["source"]
    return Work(args.work_dir, source, inputs.names["target"], QUALITIES[args.quality], modules, available_cores())


def announce(args: argparse.Namespace, work: Work) -> None:
    """Print what will be done.

    Raises DataError if the sound is damaged, ResourceError if there is too little disk space.
    """
    source = FrameSource(args.source)
    counts = {work.source: source.count, work.target: FrameSource(args.target).count}
    if args.audio and source.video is not None:
        check_sound(source.video, source.video.seconds)
    check_room(work.folder, RESULT_BYTES * counts[work.source], "the result's frames")
    print("steps:\n  prepare " + ", ".join(f"{name} ({counts[name]} frames)" for name in work.learned))
    num_train = {name: max(int((1 - HELD_OUT) * count), 1) for name, count in counts.items()}
    for module in work.modules:
        print(f"  {announced(work, module, num_train)}")
    if work.is_instant:
        print("  choose a film of the target")
    print("  reenact, measure, write the page")
    print(f"work folder: {work.folder}; press Ctrl-C to stop, and repeat the command to continue", flush=True)


def learn(args: argparse.Namespace, work: Work) -> None:
    """Prepare one person, report what its video lacks, train its decoder, and measure it."""
    person = work.person(work.target)
    if not person.exists():
        if args.target is None:
            raise DataError(f"{person}: the person is not prepared yet; pass --target again")
        prepare(work, {work.target: args.target}, args.part, args.face)
    landmarks = read_person(work.root(work.target), work.target, "all").landmarks
    print(f"{len(landmarks)} usable frames; check {person / 'contact_sheet.png'}")
    for words in what_is_missing(landmarks):
        print(f"missing: {words}")
    if args.look:
        return
    num_train = {work.target: split(work, work.target)}
    print(f"{announced(work, 'decoder', num_train)}; press Ctrl-C to stop, and repeat the command", flush=True)
    run_steps(*training_steps(work, "decoder", num_train))
    print(f"measures: {measure_held_out(work)}\ndecoder: {work.run('decoder') / INFO_FILE}")


def drive(args: argparse.Namespace, work: Work) -> tuple[Path, Path]:
    """Run all steps of a reenactment; return the video and the page."""
    videos = {work.source: args.source, work.target: args.target}
    prepare(work, {name: videos[name] for name in work.learned})
    num_train = {name: split(work, name) for name in work.learned}
    if work.is_instant:
        choose_film(work)
    for module in work.modules:
        run_steps(*training_steps(work, module, num_train))
    results = reenact(work, args.source, args.out, args.audio, args.motion, args.strength, args.size)
    return args.out, write_page(work, args.out, results)


def run(args: argparse.Namespace, work: Work) -> None:
    """Learn a person, or reenact."""
    if args.source is None:
        return learn(args, work)
    announce(args, work)
    video, page = drive(args, work)
    print(f"video: {video}\npage: {page}")


def main() -> None:
    args = parse_args()
    set_context("auto", 0)
    if args.target is not None:
        require_frames(args.target, args.part)
    is_new = not args.work_dir.exists()
    try:
        with locked(args.work_dir):
            run(args, open_work(args))
    except UserError:
        if is_new and not list(args.work_dir.glob("prepared/*/*/*_98pt.txt")):
            remove(args.work_dir)
        raise


if __name__ == "__main__":
    call_main(main)
