"""Moving a driver's landmarks to a target's face by geometry, where no transformer does it.

What is known of a face's shape lies in a small list beside its decoder's weights, `face_98pt.txt`, of the form of
CelebV's: the mean landmarks of the frames that it was trained on, under the name `mean`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from config.runs import GEOMETRY_FILE
from datasets.annotations import format_line, read_annotations
from datasets.celebv import read_person
from utils.errors import DataError, WeightsError
from utils.files import write_text

MEAN = "mean"
MAX_CALIBRATION_FRAMES = 250  # of a video, from its beginning
CAMERA_CALIBRATION_S = 3.0


class MeanToMean:
    """Move landmarks by what lies between two faces' means: expression and pose stay, shape and place change.

    Args:
        source, target: mean landmarks (98, 2) in pixels of the pictures of CelebV's form.
    """

    def __init__(self, source: np.ndarray, target: np.ndarray):
        self.shift = target - source

    def move(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks (98, 2) of the source to the target."""
        return landmarks + self.shift


def mean_face(landmarks: Iterable[np.ndarray]) -> np.ndarray:
    """Average landmarks (98, 2) of many frames.

    Raises:
        DataError: there is none.
    """
    frames = list(landmarks)
    if not frames:
        raise DataError("no face with landmarks to begin with; is one to be seen in the input's first seconds?")
    return np.mean(frames, axis=0)


def write_geometry(folder: Path, landmarks: np.ndarray) -> None:
    """Keep the geometry of a person, by the landmarks (N, 98, 2) of its frames, in the folder of its weights."""
    write_text(folder / GEOMETRY_FILE, format_line(mean_face(landmarks), MEAN) + "\n")


def read_geometry(weights: Path, config: dict[str, Any]) -> np.ndarray:
    """Read the mean landmarks (98, 2) of a decoder's person: beside its weights, or of the person's frames.

    Raises:
        WeightsError: neither is there.
    """
    path = weights.parent / GEOMETRY_FILE
    if path.exists():
        found = read_annotations(path, 0, "")
        if MEAN not in found.names:
            raise WeightsError(f"{path}: no line called '{MEAN}'; remove it, and train the decoder again")
        return found.landmarks[found.names.index(MEAN)]
    try:
        return read_person(config["train_dir"], config["trg_celeb_name"], config["mode"]).landmarks.mean(axis=0)
    except DataError:
        raise WeightsError(
            f"{path}: not there, nor are landmarks of {config['trg_celeb_name']} in {config['train_dir']}; "
            "name a --transformer-config, or train the decoder on landmarks"
        ) from None
