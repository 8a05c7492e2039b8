"""Let one person's video move another person's face: two videos in, a reenactment out.

    python reenact_people.py --source a.mp4 --target b.mp4 --out result.mp4 [--quality instant|draft|good|full]

Prepares the target, reenacts, measures on frames that were held out, and writes a page with all of it. The result is
painted with frames of the target's own video; a decoder that ships says where they go. Other qualities train a decoder
of the target for that. Boundaries come from landmarks and are moved by geometry; --encoder and --transformer train the
paper's networks for that. Everything lies in one folder (--work-dir, by default next to the
result). Stop it whenever you like: the same command goes on where it stopped.
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse
import os
from functools import partial

from inference.film import SIZES
from inference.motion import MAX_STRENGTH, MOTIONS, is_whole
from inference.pictures import Pictures
from people.page import write_page
from people.recipe import announced, training_step
from people.steps import HELD_OUT, choose_film, prepare, reenact, require_frames, split
from people.work import QUALITIES, Work, claim, name_of
from utils import cli
from utils.context import set_context
from utils.ending import call_main
from utils.errors import DataError
from utils.files import check_outputs, check_room, locked
from utils.parallel import available_cores
from utils.steps import run_steps
from utils.video import check_sound

RESULT_BYTES = 400_000  # bytes of a frame of a result, roughly


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=cli.path, required=True, metavar="A.mp4", help="who moves")
    parser.add_argument("--target", type=cli.path, required=True, metavar="B.mp4", help="whose face is moved")
    parser.add_argument("--out", type=cli.path, required=True, metavar="OUT.mp4", help="the video")
    help_quality = "instant (default) trains nothing; the others train a decoder of the target (docs/PEOPLE.md)"
    parser.add_argument("--quality", choices=QUALITIES, default="instant", help=help_quality)
    help_encoder = "train an encoder on the source, and take boundaries from it"
    parser.add_argument("--encoder", action="store_true", help=help_encoder)
    help_transformer = "train a shape prior and a transformer, and move boundaries by it"
    parser.add_argument("--transformer", action="store_true", help=help_transformer)
    cli.add_motion_arguments(parser, MOTIONS, MAX_STRENGTH)
    help_size = "pixels of the face that is painted, if the target's video has them"
    parser.add_argument("--size", type=int, choices=SIZES, default=max(SIZES), help=help_size)
    parser.add_argument("--no-audio", action="store_false", dest="audio", help="leave the source's sound out")
    parser.add_argument("--work-dir", type=cli.path, help="where everything else goes (default: OUT.work)")
    args = parser.parse_args()
    if args.encoder and not is_whole(args.motion, args.strength):
        parser.error("--motion and --strength choose among landmarks, which --encoder does without")
    if args.quality == "instant" and (args.encoder or args.transformer):
        parser.error("--encoder and --transformer train networks, which takes longer; add --quality draft")
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


def announce(args: argparse.Namespace, work: Work) -> None:
    """Check both videos, and say what will be done; each training says how long it takes once it runs.

    Raises:
        DataError: the target is too short, or the source's sound cannot be decoded.
        ResourceError: the disk has too little room.
    """
    videos = {"source": Pictures(args.source), "target": Pictures(args.target)}
    counts = {role: pictures.count for role, pictures in videos.items()}
    require_frames(args.target)
    film = videos["source"].video  # an animation is none
    if args.audio and film is not None:
        check_sound(film, film.seconds)
    check_room(work.folder, RESULT_BYTES * counts["source"], "the result's frames")
    print("what will be done:")
    prepared = counts if work.prepares_source else {"target": counts["target"]}
    print("  prepare " + ", ".join(f"{getattr(args, role)} ({count} frames)" for role, count in prepared.items()))
    set_context("auto", 0)
    num_train = {getattr(work, role): max(int((1 - HELD_OUT) * count), 1) for role, count in counts.items()}
    for module in work.modules:
        print(f"  {announced(work, module, num_train)}")
    if work.is_instant:
        print("  choose frames of the target's video; nothing is trained")
    print("  reenact, measure, write the page")
    print(f"everything lies in {work.folder}; Ctrl-C stops, the same command goes on", flush=True)


def main() -> None:
    args = parse_args()
    names = name_of(args.source, "source"), name_of(args.target, "target")
    source, target = names if names[0] != names[1] else (f"{names[0]}-source", f"{names[1]}-target")
    modules = ("encoder",) if args.encoder else ()
    modules += ("shape_prior", "transformer") if args.transformer else ()
    modules += () if args.quality == "instant" else ("decoder",)
    work = Work(args.work_dir, source, target, QUALITIES[args.quality], modules, available_cores())
    with locked(work.folder) as lock:
        claim(work.folder, {"source": args.source, "target": args.target}, quality=args.quality)
        announce(args, work)
        # what runs holds the lock as well: the same command cannot go on while a step of a killed one still runs
        run = partial(run_steps, held=(lock,))
        prepare(work, ({source: args.source} if work.prepares_source else {}) | {target: args.target}, run)
        # a source that only drives may be as short as it likes
        learned_from = [source, target] if work.prepares_source else [target]
        num_train = {name: split(work, name, run) for name in learned_from}
        if work.is_instant:
            choose_film(work)
        lanes = [[training_step(work, module, num_train) for module in lane] for lane in work.lanes()]
        if lanes:
            run(*lanes, logs=work.folder)
        results = reenact(work, args.source, args.out, args.audio, args.motion, args.strength, args.size, run)
        print(f"video: {args.out}\nlook through it: {write_page(work, args.out, results)}")


if __name__ == "__main__":
    call_main(main)
