"""Inputs of a reenactment: the test split of a data set, a video, pictures, or a camera, as faces in a row."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.boundary import DrawingStyle
from datasets.celebv import HEATMAP
from datasets.panels import evenly
from datasets.samples import DrawnDataset, FrameDataset
from inference.faces import make_finder
from inference.geometry import CAMERA_CALIBRATION_S, MAX_CALIBRATION_FRAMES, Shape, shape_of
from inference.pictures import Camera, FaceFrame, Pictures, faces_of, faces_of_camera
from inference.reenactor import no_face_words
from utils.cli import limit_count
from utils.ending import as_requests
from utils.errors import DataError
from utils.parallel import close_iterator
from utils.video import Video


class Input(NamedTuple):
    """Say where the frames of a reenactment come from."""

    frames: Iterator[FaceFrame]
    fps: float | Fraction
    count: int | None  # number of frames, if it is known
    truth: DrawnDataset | None = None  # true heatmaps by the frames' numbers, (15, 64, 64) uint8
    sound: Video | None = None  # the file whose sound is copied, if it has some
    camera: Camera | None = None  # a live camera
    some_frames: Callable[[], Iterator[FaceFrame]] | None = None  # the first ones with a face
    landmarks: np.ndarray | None = None  # (N, 98, 2), if all of them are known before
    is_film: bool = True  # frames follow each other in time


def open_test_split(
    data_dir: str | Path, person: str, wanted: int | None, fps: float, style: DrawingStyle = DrawingStyle()
) -> Input:
    """Open the test split of a person of CelebV's form.

    Args:
        wanted: number of frames; None takes all.
        style: of the true heatmaps.

    Raises:
        DataError: it is missing or damaged.
    """
    images = FrameDataset(data_dir, person, "test")
    truth = DrawnDataset(data_dir, person, "test", (HEATMAP,), style=style)
    count = limit_count(wanted, len(images), f"the test split of {person}")
    marks = truth.landmarks
    frames = (FaceFrame(i, images[i][0].transpose(1, 2, 0), "", i / fps, marks[i]) for i in range(count))

    def some_frames() -> Iterator[FaceFrame]:
        picked = evenly(len(images), MAX_CALIBRATION_FRAMES)
        return (FaceFrame(i, images[i][0].transpose(1, 2, 0), "", i / fps, marks[i]) for i in picked)

    return Input(frames, fps, count, truth=truth, some_frames=some_frames, landmarks=marks)


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
        frames = Replayed(islice(faces_of_camera(camera, finder, face_number), wanted))
        return Input(frames, fps or camera.fps, wanted, camera=camera)
    pictures = Pictures(Path(os.path.expanduser(name)), fps, wanted)
    finder = make_finder(detector, is_video=pictures.is_film)
    count = pictures.count if wanted is None else min(wanted, pictures.count)

    def first_frames() -> Iterator[FaceFrame]:
        num_faces, reasons = 0, Counter()
        for frame in faces_of(pictures, finder, face_number, wanted):
            if frame.face is None:
                reasons[frame.reason] += 1
                continue
            yield frame
            num_faces += 1
            if num_faces == MAX_CALIBRATION_FRAMES:
                return
        if not num_faces:
            raise DataError(no_face_words(name, reasons))

    frames = faces_of(pictures, finder, face_number, wanted)
    sound = pictures.video if with_sound else None
    return Input(frames, pictures.fps, count, sound=sound, some_frames=first_frames, is_film=pictures.is_film)


class Replayed:
    """Iterate over frames, of which some can be looked at before."""

    def __init__(self, frames: Iterator[FaceFrame]):
        self._frames = frames
        self._seen: deque[FaceFrame] = deque()

    def look_ahead(self, until_s: float) -> list[FaceFrame]:
        """Return the frames up to a time, which iterating returns once more."""
        while not self._seen or self._seen[-1].time_s < until_s:
            frame = next(self._frames, None)
            if frame is None:
                break
            self._seen.append(frame)
        return list(self._seen)

    def __iter__(self) -> Iterator[FaceFrame]:
        return self

    def __next__(self) -> FaceFrame:
        return self._seen.popleft() if self._seen else next(self._frames)

    def close(self) -> None:
        """End the source of the frames."""
        close_iterator(self._frames)


def shape_of_source(frames_in: Input) -> Shape:
    """Find the shape of the source's face in some of its frames; of a camera in its first seconds.

    Raises:
        DataError: there is no face.
    """
    if frames_in.landmarks is not None:
        return shape_of(frames_in.landmarks[evenly(len(frames_in.landmarks), MAX_CALIBRATION_FRAMES)])
    if frames_in.some_frames is not None:
        return shape_of(frame.landmarks for frame in frames_in.some_frames())
    seconds = f"{CAMERA_CALIBRATION_S:.0f} s"
    print(f"note: the camera's first {seconds} show what face it sees; look at it, talk, and close your mouth")
    seen = frames_in.frames.look_ahead(CAMERA_CALIBRATION_S)
    return shape_of(frame.landmarks for frame in seen if frame.landmarks is not None)


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
        with as_requests({signal.SIGINT: 1}):
            yield
    finally:
        signal.signal(signal.SIGINT, before)
