"""The shape of a decoder's person, kept beside its weights in `face_98pt.txt`, in the format of CelebV's lists."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from config.config_decoder import DecoderConfig
from config.runs import GEOMETRY_FILE
from datasets.annotations import format_line, read_annotations
from datasets.celebv import read_person
from datasets.samples import DrawnDataset, EncodedDataset
from faces.geometry import Shape, shape_of
from utils.errors import DataError, WeightsError
from utils.files import write_text

MEAN, NEUTRAL = "mean", "neutral"


def write_shape(folder: Path, landmarks: np.ndarray) -> None:
    """Estimate the shape of a person from landmarks (N, 98, 2) in pixels and write it to a folder of weights."""
    shape = shape_of(landmarks)
    lines = [format_line(face, name) for name, face in ((MEAN, shape.mean), (NEUTRAL, shape.neutral))]
    write_text(folder / GEOMETRY_FILE, "\n".join(lines) + "\n")


def keep_shape(dataset: DrawnDataset | EncodedDataset, folder: Path) -> None:
    """Write the shape of a dataset's person to the folder of a run, if the dataset has landmarks."""
    if isinstance(dataset, DrawnDataset):
        write_shape(folder, dataset.landmarks)


def read_shape(config: DecoderConfig, folders: list[Path]) -> Shape:
    """Read a person's shape from the first folder that has it, else from frames. Raises WeightsError if neither has."""
    paths = [folder / GEOMETRY_FILE for folder in folders]
    path = next((path for path in paths if os.path.lexists(path)), paths[0])
    if os.path.lexists(path):
        found = read_annotations(path, 0, "")
        if not {MEAN, NEUTRAL} <= {*found.names}:
            raise WeightsError(f"{path}: no lines '{MEAN}' and '{NEUTRAL}'; remove it, and train the decoder again")
        return Shape(*(found.landmarks[found.names.index(name)] for name in (MEAN, NEUTRAL)))
    try:
        return shape_of(read_person(config.train_dir, config.trg_celeb_name, config.mode).landmarks)
    except DataError:
        raise WeightsError(
            f"{path}: missing, and {config.train_dir} has no landmarks of {config.trg_celeb_name}; "
            "pass a --transformer-config, or train the decoder on landmarks"
        ) from None
