"""The steps from videos to a reenactment; each runs a script of this repository."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

from config.runs import HELD_OUT_FILE, INFO_FILE
from datasets.annotations import NUM_COORDINATES, read_names
from datasets.celebv import list_path
from datasets.film import film_of, write_film
from faces.motion import is_whole
from inference.inputs import FrameSource, Part
from people.page import read_scores
from people.work import Work, input_digest
from training.checkpoints import CHECKPOINTS
from utils.cli import part_flags
from utils.errors import DataError
from utils.files import atomic_path, file_digest, read_text, remove, write_text
from utils.steps import Step, run_steps
from utils.weights import SUMS_FILE

HELD_OUT = 0.15  # fraction of the target's frames, at the end
MIN_FRAMES, MIN_SOURCE_FRAMES = 40, 10  # of people to train on
MAX_FRAMES = 6000  # of a person


def require_frames(video: Path, part: Part | None) -> None:
    """Raise a DataError if a video, or the used part of it, is too short to train on."""
    count = FrameSource(video, part=part).count
    if count < MIN_FRAMES:
        raise DataError(f"{video}: {count} frames; at least {MIN_FRAMES} are needed to learn a face")


def prepare(work: Work, videos: dict[str, Path], part: Part | None = None, face: int | None = None) -> None:
    """Prepare people from videos, unless they exist. Long videos are subsampled.

    `part` and `face` select a part of the videos and a face, see prepare_person.py.
    """
    for name, video in videos.items():
        if not work.person(name).exists():
            every = math.ceil(FrameSource(video, part=part).count / MAX_FRAMES)
            args = (video, "--name", name, "--data-dir", work.root(name), "--every", every, *part_flags(part, face))
            run_steps(Step(f"prepare {name}", "prepare_person.py", args))
        link = work.people / name
        if not link.is_symlink():
            work.people.mkdir(exist_ok=True)
            link.symlink_to(Path("..") / work.person(name).relative_to(work.folder))


def split(work: Work, name: str) -> int:
    """Split a person's frames once; return the number of training frames. Raises DataError if they are too few."""
    path = list_path(work.root(name), name, "all")
    count = len(read_names(path, NUM_COORDINATES, ""))
    least = MIN_FRAMES if name == work.target else MIN_SOURCE_FRAMES
    if count < least:
        raise DataError(f"{path}: {count} usable frames; at least {least} are needed")
    num_train = int((1 - HELD_OUT) * count)
    if not list_path(work.root(name), name, "test").exists():
        run_steps(Step(f"split {name}", "split_celebv.sh", (work.root(name), num_train)))
    return num_train


def choose_film(work: Work) -> None:
    """Write the film of a target without a decoder, unless it exists."""
    if not work.film.exists():
        write_film(work.film, film_of(work.root(work.target), work.target, "train"))


def measure_held_out(work: Work) -> Path:
    """Measure a reenactment of the target's held-out frames, record it in the decoder's run, and return its folder."""
    flags = ("--landmarks", "--src-celeb-name", work.target, "--data-dir", work.people)
    result, decoder = _measured(work, "held-out", flags), work.run("decoder")
    if not work.is_instant:
        scores = {measure.name: measure.value for measure in read_scores(result) if measure.of == "result"}
        write_text(decoder / HELD_OUT_FILE, json.dumps(scores, indent=1) + "\n")
    return result


def _measured(work: Work, name: str, flags: tuple[object, ...], outputs: tuple[object, ...] = ()) -> Path:
    """Reenact and measure, unless that was done with the same arguments, inputs and weights. Returns the result."""
    parent, args = work.folder / name, (*work.decoder_flags(), *flags)
    made_from, record = _identity(work, args), parent / "made_from.json"
    if not record.exists() or read_text(record) != made_from:
        remove(parent)
        run_steps(Step(f"reenact: {name}", "test_reenactment.py", (*args, *outputs, "--out-dir", parent)))
        (result,) = parent.glob("*/*/reenactment.yaml")
        run_steps(Step(f"measure: {name}", "evaluate.py", (result.parent,)))
        write_text(record, made_from)
    return next(parent.glob("*/*/scores.json")).parent


def _identity(work: Work, args: tuple[object, ...]) -> str:
    """Describe all arguments: files by their digests, runs by their weights, so that moved folders stay the same."""

    def describe(arg: object) -> str:
        if not isinstance(arg, Path):
            return str(arg)
        if arg.name == INFO_FILE:
            sums = sorted(arg.parent.rglob(SUMS_FILE))
            return "".join(read_text(path) for path in sums if CHECKPOINTS not in path.parts)
        if arg.is_relative_to(work.folder) and not arg.is_file():
            return str(arg.relative_to(work.folder))
        return input_digest(arg)

    return json.dumps([describe(arg) for arg in args])


def reenact(
    work: Work, source: Path, out: Path, with_audio: bool, motion: str, strength: float, size: int
) -> dict[str, Path]:
    """Reenact the source's video and the target's held-out frames, and measure both; return the results by name."""
    trained = [module for module in ("encoder", "transformer") if module in work.modules]
    networks = [word for module in trained for word in (f"--{module}-config", work.run(module) / INFO_FILE)]
    networks += [] if "encoder" in trained else ["--landmarks"]
    video = work.folder / "result.mp4"
    flags = ("--input", source, "--src-celeb-name", work.source, "--layout", "side-by-side")
    flags += () if is_whole(motion, strength) else ("--motion", motion, "--strength", strength)
    flags += ("--size", size) if with_audio else ("--size", size, "--no-audio")
    results = {
        "held-out": measure_held_out(work),
        "result": _measured(work, "result", (*networks, *flags), ("--video", video)),
    }
    if not out.exists() or file_digest(out) != file_digest(video):
        with atomic_path(out) as temporary:
            shutil.copy(video, temporary)
    return results
