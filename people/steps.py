"""The steps from two videos to a reenactment, each a script of this repository."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

from config.runs import HELD_OUT_FILE, INFO_FILE
from datasets.annotations import read_names
from datasets.celebv import list_path, num_numbers
from inference.film import SIZES, film_of, write_film
from inference.motion import is_whole
from inference.pictures import Pictures
from inference.targets import TRAINED_ON, day_of
from people.work import Work
from utils.errors import DataError
from utils.files import atomic_path, file_digest, read_text, write_text
from utils.steps import Step

HELD_OUT = 0.15  # share of the target's frames, its last ones
MIN_FRAMES, MIN_SOURCE_FRAMES = 40, 10  # the target's, and a source's that is learned from
MAX_FRAMES = 6000  # of a person


def require_frames(video: Path) -> None:
    """Raise a DataError if a video is too short to learn a face from."""
    count = Pictures(video).count
    if count < MIN_FRAMES:
        raise DataError(f"{video}: {count} frames are too few to learn a face from; {MIN_FRAMES} at least")


def prepare(work: Work, videos: dict[str, Path], run: Callable[..., None]) -> None:
    """Make people of videos, unless they are there; of long videos, frames are left out evenly."""
    for name, video in videos.items():  # one by one, since each takes all cores
        if not work.person(name).exists():
            every = math.ceil(Pictures(video).count / MAX_FRAMES)
            args = (video, "--name", name, "--data-dir", work.root(name), "--every", every)
            run([Step(f"prepare {name}", "prepare_person.py", args)])
        link = work.people / name
        if not link.is_symlink():
            work.people.mkdir(exist_ok=True)
            link.symlink_to(Path("..") / name / name)


def split(work: Work, name: str, run: Callable[..., None]) -> int:
    """Split a person's frames, unless that is done; return the number of frames to train on."""
    everything = list_path(work.root(name), name, "all")
    count = len(read_names(everything, num_numbers(everything), ""))
    least = MIN_FRAMES if name == work.target else MIN_SOURCE_FRAMES
    if count < least:
        raise DataError(f"{everything}: {count} usable frames are too few to learn from; {least} at least")
    num_train = int((1 - HELD_OUT) * count)
    if not list_path(work.root(name), name, "test").exists():
        run([Step(f"split {name}", "split_celebv.sh", (work.root(name), num_train))])
    return num_train


def choose_film(work: Work) -> None:
    """Write the film of a target for whom nothing is trained, from its training frames, unless it is there."""
    if not work.film.exists():
        write_film(work.film, film_of(work.root(work.target), work.target, "train"))


def measure_held_out(work: Work, run: Callable[..., None]) -> Path:
    """Paint the target's frames that were held out; note with its decoder what was measured, for app.py.

    Returns:
        the result's folder.
    """
    who = ("--landmarks", "--src-celeb-name", work.target, "--data-dir", work.people)
    result, decoder = _measured(work, "held-out", who, run), work.run("decoder")
    if work.is_instant:
        return result
    scores = json.loads(read_text(result / "scores.json"))["self_reenactment"]
    noted = scores | {TRAINED_ON: day_of(decoder / INFO_FILE)}
    write_text(decoder / HELD_OUT_FILE, json.dumps(noted, indent=1) + "\n")
    return result


def _measured(work: Work, what: str, flags: tuple[object, ...], run: Callable[..., None]) -> Path:
    parent = work.folder / what
    if not list(parent.glob("*/*/scores.json")):
        args = (*work.decoder_flags(), *flags, "--out-dir", parent)
        run([Step(f"reenact: {what}", "test_reenactment.py", args)])
        newest = max(parent.glob("*/*/reenactment.yaml"), key=lambda path: path.stat().st_mtime)
        run([Step(f"measure: {what}", "evaluate.py", (newest.parent,))])
    return max(parent.glob("*/*/scores.json"), key=lambda path: path.stat().st_mtime).parent


def reenact(
    work: Work,
    source: Path,
    out: Path,
    with_audio: bool,
    motion: str,
    strength: float,
    size: int,
    run: Callable[..., None],
) -> dict[str, Path]:
    """Reenact the source's video and the target's own held-out frames, and measure both.

    Args:
        motion, strength: of the source, as of `Motion`.
        size: of the painted face in pixels, at most.

    Returns:
        the results' folders by what they are.
    """
    trained = [module for module in ("encoder", "transformer") if module in work.modules]
    networks = [word for module in trained for word in (f"--{module}-config", work.run(module) / INFO_FILE)]
    networks += [] if "encoder" in trained else ["--landmarks"]
    chosen = [] if is_whole(motion, strength) else [motion, f"{strength:g}"]
    sizes = [] if size == max(SIZES) else [str(size)]
    name = "-".join(["result", *trained, *chosen, *sizes])
    video = work.folder / f"{name}.mp4"
    film = ("--input", source, "--src-celeb-name", work.source, "--video", video, "--layout", "side-by-side")
    film += ("--motion", motion, "--strength", strength) if chosen else ()
    film += ("--size", size) if with_audio else ("--size", size, "--no-audio")
    results = {"held-out": measure_held_out(work, run), name: _measured(work, name, (*networks, *film), run)}
    if not out.exists() or file_digest(out) != file_digest(video):
        with atomic_path(out) as temporary:
            shutil.copy(video, temporary)
    return results
