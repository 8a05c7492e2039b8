"""Find the face in each picture of a sequence and cut it out as CelebV's frames are, steadily over time.

Another detector than OpenCV's is a function from an image to boxes; `load_detector` takes it by its name.
"""

from __future__ import annotations

import importlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from datasets.crop import Square
from utils.errors import ConfigError

# (H, W, 3) uint8 RGB to boxes (N, 4): left, top, width, height in pixels, from the forehead to the chin
Detector = Callable[[np.ndarray], np.ndarray]

HAAR = "inference.faces:haar_faces"
MAX_DETECTION_PX = 640  # larger pictures are reduced to find the face; it is cut out of the picture itself
MIN_FACE_SHARE = 0.08  # of the picture's shorter side, in detection

# How CelebV's crops lie about the detector's box, measured on synthetic people in CelebV's form
CROP_SHARE = 1.77  # side of the crop / width of the box
CROP_DROP = 0.04  # how far the crop's centre lies below the box's / width of the box

MIN_BOX_PX = 48
MAX_OUTSIDE_SHARE = 0.25  # of the crop's side
MAX_STEP_SHARE = 0.25  # of the box's width that a face moves between pictures; more is another shot or person
MAX_SIZE_RATIO = 1.25
MAX_GAP_S = 0.5
MIN_SHOT_S = 0.2
CENTER_SIGMA_S, SIZE_SIGMA_S = 0.15, 0.8
REACH = 3.0  # of a smoothing window, in its widths

NO_FACE = "no face found"
SMALL = f"face smaller than {MIN_BOX_PX} pixels"
EDGE = "face at the edge of the picture"
BRIEF = "face seen for an instant only"


@lru_cache(maxsize=1)
def _cascade() -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")


def haar_faces(image: np.ndarray) -> np.ndarray:
    """Find boxes (N, 4) of frontal faces by OpenCV's Haar cascade."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    smallest = max(int(MIN_FACE_SHARE * min(gray.shape)), 20)
    found = _cascade().detectMultiScale(gray, scaleFactor=1.1, minNeighbors=4, minSize=(smallest, smallest))
    return np.array(found, np.float64).reshape(-1, 4)


def load_detector(name: str) -> Detector:
    """Load a detector by `MODULE:FUNCTION`.

    Raises:
        ConfigError: there is no such function.
    """
    module_name, _, function_name = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--detector {name}: {error}; it must be MODULE:FUNCTION, as {HAAR}") from None


def reduced(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Reduce an image to what detection needs; gives it with the factor from its pixels to those of the original."""
    factor = max(image.shape[:2]) / MAX_DETECTION_PX
    if factor <= 1:
        return image, 1.0
    size = (max(round(image.shape[1] / factor), 1), max(round(image.shape[0] / factor), 1))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factor


class FaceFollower:
    """Follow one face through a sequence: a steady crop for each picture, or why the picture is left out.

    In each picture it is the face nearest to the one before, else the largest, or that of a number. Shots are smoothed
    each for itself: where a face jumps, or is gone for longer than a blink of the detector, another begins. Crops come
    out some pictures after their boxes went in, since what follows smooths them, too.

    Args:
        fps: pictures a second.
        min_shot_s: what is seen for a shorter time is left out.
        look_ahead_s: how far later pictures count; 0 for what must not wait, such as a camera's.
        number: of the face, from 1, counted from the left; None for the largest.
    """

    def __init__(
        self,
        fps: float,
        min_shot_s: float = MIN_SHOT_S,
        look_ahead_s: float = REACH * SIZE_SIGMA_S,
        number: int | None = None,
    ):
        self._fps, self._min_count, self._number = float(fps), min_shot_s * fps, number
        self.look_ahead = math.ceil(look_ahead_s * fps)
        self._time = 0  # number of the next picture
        self._previous: np.ndarray | None = None
        self._why = NO_FACE  # in the picture before
        self._shot: _Shot | None = None
        self._pending: deque[_Pending] = deque()

    def add(self, boxes: np.ndarray, size: tuple[int, int]) -> Iterator[Square | str]:
        """Take boxes (N, 4) of the next picture, whose height and width are `size`; gives the crops that are due."""
        face = self._choose(boxes)
        if face is not None:
            self._join(face)
        self._pending.append(_Pending(self._time, size, self._why if face is None else self._shot))
        self._time += 1
        while self._pending and self._pending[0].time + self.look_ahead < self._time:
            yield self._finish_first()

    def finish(self) -> Iterator[Square | str]:
        """Give the crops that are left."""
        while self._pending:
            yield self._finish_first()

    def _choose(self, boxes: np.ndarray) -> np.ndarray | None:
        """Choose a face; gives its centre x, centre y and width (3,)."""
        if len(boxes) == 0:
            self._why = NO_FACE
            return None
        faces = np.stack([boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2, boxes[:, 2]], axis=1)
        if self._previous is not None:
            nearest = faces[np.linalg.norm(faces[:, :2] - self._previous[:2], axis=1).argmin()]
            if _is_same(self._previous, nearest):
                self._previous = nearest
                return nearest
        if self._number is None:
            self._previous = faces[faces[:, 2].argmax()]
        elif len(faces) < self._number:
            self._why = f"face {self._number} is not there, fewer are seen"
            return None
        else:
            self._previous = faces[faces[:, 0].argsort()[self._number - 1]]
        return self._previous

    def _join(self, face: np.ndarray) -> None:
        """Add the face to the shot under way, or to a new one."""
        shot = self._shot
        if shot is not None:
            gap = self._time - shot.times[-1]
            if gap > int(MAX_GAP_S * self._fps) + 1 or not _is_same(shot.faces[-1], face, gap):
                shot = None
        self._shot = shot or _Shot()
        self._shot.add(self._time, face, self._time - self.look_ahead - math.ceil(REACH * SIZE_SIGMA_S * self._fps))

    def _finish_first(self) -> Square | str:
        time, size, shot = self._pending.popleft()
        if isinstance(shot, str):
            return shot
        if shot.count < self._min_count:
            return BRIEF
        sigmas = np.array([CENTER_SIGMA_S, CENTER_SIGMA_S, SIZE_SIGMA_S]) * self._fps
        return _crop(*shot.smoothed(time, sigmas), size)


class _Shot:
    """Keep places of one face by the numbers of their pictures; those long past are forgotten."""

    def __init__(self):
        self.times: deque[int] = deque()
        self.faces: deque[np.ndarray] = deque()
        self.count = 0

    def add(self, time: int, face: np.ndarray, forget_before: int) -> None:
        self.times.append(time)
        self.faces.append(face)
        self.count += 1
        while self.times[0] < forget_before:
            self.times.popleft()
            self.faces.popleft()

    def smoothed(self, time: int, sigmas: np.ndarray) -> np.ndarray:
        """Smooth place and size (3,) with Gaussian windows of those widths about a time.

        Straight lines are fitted to places, so that a moving face is not held back where a shot begins or ends; of
        sizes it is the mean.
        """
        distance = (np.array(self.times)[:, None] - time) / sigmas  # (N, 3)
        weights = np.where(np.abs(distance) <= REACH, np.exp(-0.5 * distance**2), 0)
        weights /= weights.sum(axis=0)
        faces = np.array(self.faces)
        mean, mean_distance = (weights * faces).sum(axis=0), (weights * distance).sum(axis=0)
        spread = (weights * distance**2).sum(axis=0) - mean_distance**2
        slope = (weights * distance * (faces - mean)).sum(axis=0) / np.maximum(spread, 1e-9)
        slope[2] = 0
        return mean - slope * mean_distance


class _Pending(NamedTuple):
    time: int
    size: tuple[int, int]
    shot: _Shot | str  # or why there is no face


def follow_face(
    boxes: list[np.ndarray], sizes: list[tuple[int, int]], fps: float, min_shot_s: float = MIN_SHOT_S
) -> list[Square | str]:
    """Give a crop for each picture of a whole sequence, or why it is left out, as `FaceFollower` does.

    Args:
        boxes: of each picture, (N, 4).
        sizes: height and width of each picture in pixels.
    """
    follower = FaceFollower(fps, min_shot_s)
    crops = [crop for found, size in zip(boxes, sizes) for crop in follower.add(found, size)]
    return [*crops, *follower.finish()]


def _is_same(first: np.ndarray, second: np.ndarray, steps: int = 1) -> bool:
    """Tell whether a face can have moved from one place to another within so many pictures."""
    moved = np.linalg.norm(first[:2] - second[:2]) <= MAX_STEP_SHARE * np.sqrt(steps) * min(first[2], second[2])
    return bool(moved and max(first[2] / second[2], second[2] / first[2]) <= MAX_SIZE_RATIO)


def _crop(center_x: float, center_y: float, width: float, image_size: tuple[int, int]) -> Square | str:
    if width < MIN_BOX_PX:
        return SMALL
    half = CROP_SHARE * width / 2
    square = Square(round(center_x - half), round(center_y + CROP_DROP * width - half), round(2 * half))
    return EDGE if square.outside(image_size) > MAX_OUTSIDE_SHARE * square.side else square
