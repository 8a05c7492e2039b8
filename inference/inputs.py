"""Inputs of a reenactment: the test split of a data set, a video, pictures, or a camera, as faces in a row."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.batches import to_float
from datasets.celebv import HEATMAP
from datasets.samples import DrawnDataset, FrameDataset
from inference.faces import make_finder
from inference.pictures import Camera, FaceFrame, Pictures, faces_of, faces_of_camera
from utils.cli import limit_count
from utils.ending import requests
from utils.errors import ConfigError
from utils.panels import evenly
from utils.video import Video

CALIBRATION_FACES = 16


class Input(NamedTuple):
    """Say where the frames of a reenactment come from."""

    frames: Iterator[FaceFrame]
    fps: float | Fraction
    count: int | None  # of frames, where it is known
    truth: DrawnDataset | None = None  # true heatmaps by the frames' numbers, (15, 64, 64) uint8
    sound: Video | None = None  # that may have some
    camera: Camera | None = None  # whose frames come as they are seen
    some_faces: Callable[[], Iterable[np.ndarray]] | None = None  # to calibrate on, (3, 256, 256) in [-1, 1]


def open_test_split(data_dir: str | Path, person: str, wanted: int | None, fps: float) -> Input:
    """Open the test split of a person of CelebV's form.

    Args:
        wanted: number of frames; None takes all.

    Raises:
        DataError: it is missing or damaged, or has fewer frames.
    """
    images = FrameDataset(data_dir, person, "test")
    truth = DrawnDataset(data_dir, person, "test", (HEATMAP,))
    count = limit_count(wanted, len(images), f"the test split of {person}")
    frames = (FaceFrame(i, images[i][0].transpose(1, 2, 0), "", i / fps) for i in range(count))

    def some_faces() -> Iterator[np.ndarray]:
        return (to_float(images[index][0]) for index in evenly(len(images), CALIBRATION_FACES))

    return Input(frames, fps, count, truth=truth, some_faces=some_faces)


def open_input(
    name: str,
    detector: str | None = None,
    face_number: int | None = None,
    fps: float | None = None,
    wanted: int | None = None,
    with_sound: bool = True,
) -> Input:
    """Open a video, a folder of pictures, a picture, or a camera (`webcam[:N]`).

    Args:
        detector: what finds faces, `MODULE:FUNCTION`; None is the face mesh.
        face_number: which face of several, from 1, counted from the left; None is the largest.
        fps: frames a second; None takes the input's own.
        wanted: number of frames; None takes all.

    Raises:
        DataError: it cannot be read.
        ResourceError: a camera cannot be opened.
    """
    kind, _, device = name.partition(":")
    if kind == "webcam" and (not device or re.fullmatch("[0-9]{1,3}", device)):
        finder = make_finder(detector, is_video=True)
        camera = Camera(int(device or 0))
        frames = islice(faces_of_camera(camera, finder, face_number), wanted)
        return Input(frames, fps or camera.fps, wanted, camera=camera)
    pictures = Pictures(Path(os.path.expanduser(name)), fps, wanted)
    finder = make_finder(detector, is_video=pictures.video is not None)
    count = pictures.count if wanted is None else min(wanted, pictures.count)

    def first_faces() -> Iterator[np.ndarray]:
        found = (frame.face for frame in faces_of(pictures, finder, face_number, wanted) if frame.face is not None)
        return (to_float(face.transpose(2, 0, 1)) for face in islice(found, 0, 2 * CALIBRATION_FACES, 2))

    frames = faces_of(pictures, finder, face_number, wanted)
    sound = pictures.video if with_sound else None
    return Input(frames, pictures.fps, count, sound=sound, some_faces=first_faces)


def calibration_faces(frames_in: Input) -> Iterable[np.ndarray]:
    """Give faces (3, 256, 256) in [-1, 1] to calibrate 8 bits on.

    Raises:
        ConfigError: a camera has none to give before it starts.
    """
    if frames_in.some_faces is None:
        raise ConfigError("--precision int8 is calibrated on frames before it starts, which a camera does not have")
    return frames_in.some_faces()


@contextmanager
def end_at_interrupt(frames_in: Input) -> Iterator[None]:
    """Take the first Ctrl-C for the end of a camera's pictures, and no fault; what was seen is written."""
    if frames_in.camera is None:
        yield
        return

    def end(*_: object) -> None:
        frames_in.camera.end()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, end)
    try:
        with requests({signal.SIGINT: 1}):
            yield
    finally:
        signal.signal(signal.SIGINT, before)
