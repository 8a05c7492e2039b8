"""Learn one person from a video; whoever was learned can be driven live on app.py's page, or by any video.

    python learn_person.py me.mp4 --work-dir me.work [--name Me] [--quality draft|good|full]
    python learn_person.py --work-dir me.work    # goes on; the video is needed only until the faces are cut out
    python learn_person.py me.mp4 --work-dir me.work --look    # does the video serve? What does it lack?

The steps are reenact_people.py's, without a source: prepares the person, splits the frames, trains the decoder, and
measures it on the frames that were held out. Stop it whenever you like; the same command goes on where it stopped.
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse
from functools import partial

from config.runs import INFO_FILE
from datasets.celebv import read_person
from people.advice import what_is_missing
from people.recipe import announced, training_step
from people.steps import measure_held_out, prepare, require_frames, split
from people.work import INPUTS_FILE, QUALITIES, TRAINED, Work, as_name, claim, made_of
from utils import cli
from utils.context import set_context
from utils.ending import call_main
from utils.errors import ConfigError, DataError
from utils.files import check_outputs, locked
from utils.parallel import available_cores
from utils.steps import run_steps


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", type=cli.path, metavar="VIDEO", help="of one person")
    help_work = "where everything goes; below a log folder, as LOGDIR/learned/NAME, app.py finds the person there"
    parser.add_argument("--work-dir", type=cli.path, required=True, metavar="DIR", help=help_work)
    parser.add_argument("--name", type=cli.folder_name, help="of the person (default: the video's)")
    help_quality = "width and length of the training (draft); docs/PEOPLE.md says what to expect"
    parser.add_argument("--quality", choices=TRAINED, default="draft", help=help_quality)
    help_look = "only prepare the person, and say what the video lacks"
    parser.add_argument("--look", action="store_true", help=help_look)
    args = parser.parse_args()
    if args.video is not None and not args.video.is_file():
        raise DataError(f"{args.video}: no such video")
    check_outputs({"--work-dir": args.work_dir}, [] if args.video is None else [args.video])
    return args


def open_work(args: argparse.Namespace) -> Work:
    """Note what the folder is made of, or read it where no video is named.

    Raises:
        ConfigError: it is made of something else, or of nothing yet.
    """
    if args.video is not None:
        name = as_name(args.name or args.video.stem, "person")
        claim(args.work_dir, {"video": args.video}, person=name, quality=args.quality)
    found = made_of(args.work_dir)
    if found is None or not {"person", "quality"} <= found.keys() or found["quality"] not in TRAINED:
        raise ConfigError(f"{args.work_dir / INPUTS_FILE}: no person was begun there; name a video")
    person = as_name(found["person"], "person")
    return Work(args.work_dir, "", person, QUALITIES[found["quality"]], ("decoder",), available_cores())


def look(work: Work) -> None:
    """Say what the person's video lacks, and where to look at its faces."""
    landmarks = read_person(work.root(work.target), work.target, "all").landmarks
    print(f"{len(landmarks)} usable frames; look at {work.person(work.target) / 'contact_sheet.png'}")
    for words in what_is_missing(landmarks):
        print(f"missing: {words}")


def main() -> None:
    args = parse_args()
    with locked(args.work_dir) as lock:
        work = open_work(args)
        # what runs holds the lock as well: the same command cannot go on while a step of a killed one still runs
        run = partial(run_steps, held=(lock,))
        if args.video is None and not work.person(work.target).exists():
            raise DataError(f"{work.person(work.target)}: the person is not prepared yet; name the video again")
        if args.video is not None and not work.person(work.target).exists():
            require_frames(args.video)
            prepare(work, {work.target: args.video}, run)
        look(work)
        if args.look:
            return
        num_train = {work.target: split(work, work.target, run)}
        set_context("auto", 0)
        print(f"{announced(work, 'decoder', num_train)}; Ctrl-C stops, the same command goes on", flush=True)
        run([training_step(work, "decoder", num_train)])
        result = measure_held_out(work, run)
        print(f"measured: {result}\nthe person's decoder: {work.run('decoder') / INFO_FILE}")


if __name__ == "__main__":
    call_main(main)
