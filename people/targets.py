"""The targets that can be shown: the demo's, and people whose decoders were trained here."""

from __future__ import annotations

import itertools
import json
from collections.abc import Container, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config import load_config
from config.runs import GEOMETRY_FILE, HELD_OUT_FILE, INFO_FILE
from datasets.batches import heatmap_of
from datasets.boundary import IMAGE_SIZE, style_of
from datasets.film import Film, read_film
from datasets.panels import face_image, labelled
from inference.film import open_painter
from inference.networks import Trained, find_trained
from inference.reenactor import open_decoder, target_shape
from utils.errors import UserError, WeightsError
from utils.files import read_text

DEMO = Path(__file__).resolve().parent.parent / "demo" / "weights" / "decoder"
LAYOUT = DEMO.parent / "layout"  # decoder for the films of people without a decoder
HELD_OUT = ("PSNR", "SSIM", "sharpness")
MAX_RUNS = 500


class Target(NamedTuple):
    """A person that can be shown, with a decoder."""

    person: str
    run: str  # name of the run's folder
    decoder: Trained
    date: str  # of the weights or the film, YYYY-MM-DD
    held_out: dict[str, float]  # measures of `HELD_OUT`, or empty
    film_path: Path | None = None  # film of a person without a decoder; a decoder's run has its own

    def film(self, size: int = IMAGE_SIZE) -> Film | None:
        """Read the film at up to `size` pixels; None if there is none. Raises DataError if it is invalid."""
        film = self.decoder.film() if self.film_path is None else read_film(self.film_path, self.person)
        return None if film is None else film.reduced(size)


def find_targets(logdirs: Iterable[Path]) -> dict[str, Target]:
    """Find the demo's target and all usable decoder runs in log folders, by person and run (numbered if equal)."""
    infos = [DEMO / INFO_FILE]
    for logdir in logdirs:
        infos += sorted(logdir.resolve().glob(f"decoder/*/*/{INFO_FILE}"))[:MAX_RUNS]
    found: dict[str, Target] = {}
    for target in _targets_of(dict.fromkeys(infos)):
        found[free_name(f"{target.person}, {target.run}", found)] = target
    return found


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name, with a number appended if it is taken."""
    names = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
    return next(free for free in names if free not in taken)


def _targets_of(infos: Iterable[Path]) -> Iterator[Target]:
    for info in infos:
        try:
            yield target_of(info)
        except UserError as error:
            print(f"note: skipped: {error}")


def target_of(info: Path) -> Target:
    """Return the target of a decoder run (its training_info.yaml), with its newest weights.

    Raises ConfigError if the file is invalid, WeightsError if weights or the person's shape are missing.
    """
    run, param_file = ("demo", DEMO / "weights.h5") if info.parent == DEMO else (info.parent.name, None)
    decoder, folder = find_trained("decoder", info, param_file), info.parent
    weights = decoder.weights
    if not any((place / GEOMETRY_FILE).exists() for place in (weights.parent, folder)):
        raise WeightsError(f"{weights.parent}: no {GEOMETRY_FILE}; train the decoder on landmarks")
    return Target(decoder.config.trg_celeb_name, run, decoder, day_of(weights), read_held_out(folder))


def instant_target(film_path: Path, person: str) -> Target:
    """Return the target of a film without its own decoder."""
    info = LAYOUT / INFO_FILE
    decoder = Trained(load_config("decoder", info), LAYOUT / "weights.h5", info)
    return Target(person, "instant", decoder, day_of(film_path), {}, film_path)


def day_of(path: Path) -> str:
    """Return the date of a file, YYYY-MM-DD."""
    return date.fromtimestamp(path.stat().st_mtime).isoformat()


def read_held_out(folder: Path) -> dict[str, float]:
    """Read the measures on held-out frames; empty if they are missing or damaged."""
    try:
        found = json.loads(read_text(folder / HELD_OUT_FILE))
        return {key: float(found[key]) for key in HELD_OUT}
    except (OSError, ValueError, OverflowError, KeyError, TypeError):
        return {}


def portrait(target: Target, context: str, landmarks: np.ndarray | None = None) -> np.ndarray:
    """Paint a target's face for landmarks (98, 2) or its neutral ones, (256, 256, 3) uint8 with a label."""
    film, backend = target.film(), open_decoder(target.decoder, context)
    if landmarks is None:
        landmarks = target_shape(target.decoder, film).neutral
    heatmap = heatmap_of(landmarks, style_of(target.decoder.config))
    image = face_image(backend.infer("decoder", heatmap[None])[0])
    if film is not None:
        image = open_painter(film, target.decoder, backend, 1).paint(heatmap, image, landmarks)
    return labelled(image)
