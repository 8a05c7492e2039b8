"""The people that can be shown: the demo's, and those whose decoders were trained here."""

from __future__ import annotations

import itertools
import json
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config import load_config
from config.runs import GEOMETRY_FILE, HELD_OUT_FILE, INFO_FILE
from datasets.batches import heatmap_of
from datasets.boundary import IMAGE_SIZE, style_of
from datasets.panels import face_picture, labelled
from inference.film import Film, find_film, open_painter, read_film
from inference.pipeline import open_decoder, target_shape
from inference.trained import Trained, find_weights
from utils.errors import UserError, WeightsError
from utils.files import read_text

DEMO = Path(__file__).resolve().parent.parent / "demo" / "weights" / "decoder"
LAYOUT = DEMO.parent / "layout"  # the decoder that lays out the films of people for whom none was trained
HELD_OUT = ("psnr", "ssim", "sharpness")
TRAINED_ON = "trained_on"
MAX_RUNS = 500


class Target(NamedTuple):
    """Say who can be shown, and by which weights."""

    person: str
    run: str  # its folder's name
    decoder: Trained
    date: str  # when it was trained, YYYY-MM-DD
    held_out: dict[str, float]  # psnr in dB, ssim and sharpness, or nothing
    film_path: Path | None = None  # of somebody for whom no decoder was trained; a decoder's run has its own

    def film(self, size: int = IMAGE_SIZE) -> Film | None:
        """Read the film to paint with, if there is one, at a size of at most so many pixels.

        Raises:
            DataError: it is damaged, too large, or of another person.
        """
        film = find_film(self.decoder) if self.film_path is None else read_film(self.film_path, self.person)
        return None if film is None else film.reduced(size)


def find_targets(logdirs: Iterable[Path]) -> dict[str, Target]:
    """Find the demo's target, and all decoder runs with weights and a geometry below some log folders.

    What cannot be used is left out with a note.

    Returns:
        them by name: person and run, with a number where several have the same.
    """
    infos = [DEMO / INFO_FILE]
    for logdir in logdirs:
        infos += sorted(logdir.resolve().glob(f"decoder/*/*/{INFO_FILE}"))[:MAX_RUNS]
    found: dict[str, Target] = {}
    for target in _targets_of(dict.fromkeys(infos)):
        found[free_name(f"{target.person}, {target.run}", found)] = target
    return found


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name, with a number from 2 on if others have it already."""
    names = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
    return next(free for free in names if free not in taken)


def _targets_of(infos: Iterable[Path]) -> Iterator[Target]:
    for info in infos:
        try:
            yield target_of(info)
        except UserError as error:
            print(f"note: left out: {error}")


def target_of(info: Path) -> Target:
    """Return who a decoder run shows, by its newest weights.

    Args:
        info: the run's training_info.yaml.

    Raises:
        ConfigError: the file cannot be read.
        WeightsError: there are no weights yet, or no geometry.
    """
    run, named = ("demo", DEMO / "weights.h5") if info.parent == DEMO else (info.parent.name, None)
    config = load_config("decoder", info)
    weights = find_weights("decoder", config, info, named)
    if not any((folder / GEOMETRY_FILE).exists() for folder in (weights.parent, info.parent)):
        raise WeightsError(f"{weights.parent}: no {GEOMETRY_FILE}; train the decoder on landmarks")
    decoder, folder = Trained(config, weights, info), info.parent
    return Target(config.trg_celeb_name, run, decoder, date_of(folder, weights), read_held_out(folder))


def instant_target(film_path: Path, person: str) -> Target:
    """Return somebody for whom nothing was trained: the decoder that ships lays out, the film paints."""
    info = LAYOUT / INFO_FILE
    decoder = Trained(load_config("decoder", info), LAYOUT / "weights.h5", info)
    return Target(person, "instant", decoder, day_of(film_path), {}, film_path)


def date_of(folder: Path, weights: Path) -> str:
    """Return the day that a run was trained on, YYYY-MM-DD; if none is noted, the day of its weights file."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return date.fromisoformat(json.loads(read_text(folder / HELD_OUT_FILE))[TRAINED_ON]).isoformat()
    return day_of(weights)


def day_of(path: Path) -> str:
    """Return the day that a file was written on, YYYY-MM-DD."""
    return date.fromtimestamp(path.stat().st_mtime).isoformat()


def read_held_out(folder: Path) -> dict[str, float]:
    """Read what was measured on held-out frames; nothing where nothing was, or the file is damaged."""
    try:
        found = json.loads(read_text(folder / HELD_OUT_FILE))
        return {key: float(found[key]) for key in HELD_OUT}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def portrait(target: Target, context: str, landmarks: np.ndarray | None = None) -> np.ndarray:
    """Paint a target's face, (256, 256, 3) uint8 with the mark 'synthetic'.

    Args:
        landmarks: (98, 2) in pixels; None paints the neutral face.
    """
    film, backend = target.film(), open_decoder(target.decoder, context)
    if landmarks is None:
        landmarks = target_shape(target.decoder, film).neutral
    heatmap = heatmap_of(landmarks, style_of(target.decoder.config))
    image = face_picture(backend.infer("decoder", heatmap[None])[0])
    if film is not None:
        image = open_painter(film, target.decoder, backend, 1).paint(heatmap, image, landmarks)
    return labelled(image)
