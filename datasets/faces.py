"""Find the face in each picture of a sequence and cut it out as CelebV's frames are, steadily over time.

Another detector than OpenCV's is a function from an image to boxes; `load_detector` takes it by its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from datasets.crop import Square
from utils.errors import ConfigError

# (H, W, 3) uint8 RGB to boxes (N, 4): left, top, width, height in pixels, from the forehead to the chin
Detector = Callable[[np.ndarray], np.ndarray]

HAAR = "datasets.faces:haar_faces"
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

NO_FACE = "no face found"
SMALL = f"face smaller than {MIN_BOX_PX} pixels"
EDGE = "face at the edge of the picture"
BRIEF = "face seen for an instant only"


@lru_cache(maxsize=1)
def _cascade() -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")


def haar_faces(image: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) of frontal faces by OpenCV's Haar cascade."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    smallest = max(int(MIN_FACE_SHARE * min(gray.shape)), 20)
    found = _cascade().detectMultiScale(gray, scaleFactor=1.1, minNeighbors=4, minSize=(smallest, smallest))
    return np.array(found, np.float64).reshape(-1, 4)


def load_detector(name: str) -> Detector:
    """A detector by `MODULE:FUNCTION`.

    Raises:
        ConfigError: there is no such function.
    """
    module_name, _, function_name = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--detector {name}: {error}; it must be MODULE:FUNCTION, as {HAAR}") from None


def reduced(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The image no larger than detection needs, and the factor from its pixels to those of the original."""
    factor = max(image.shape[:2]) / MAX_DETECTION_PX
    if factor <= 1:
        return image, 1.0
    size = (round(image.shape[1] / factor), round(image.shape[0] / factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factor


def follow_face(
    boxes: list[np.ndarray], sizes: list[tuple[int, int]], fps: float, min_shot_s: float = MIN_SHOT_S
) -> list[Square | str]:
    """One crop a picture, following one face smoothly; or why the picture is left out.

    In each picture it is the face nearest to the one before, else the largest. Shots are smoothed each for itself:
    where a face jumps, or is gone for longer than a blink of the detector, another begins.

    Args:
        boxes: of each picture, (N, 4).
        sizes: height and width of each picture in pixels.
        fps: pictures a second.
        min_shot_s: what is seen for a shorter time is left out.
    """
    crops: list[Square | str] = [NO_FACE] * len(boxes)
    for shot in _shots(_choose(boxes), int(MAX_GAP_S * fps)):
        times = np.array(list(shot))
        whole = np.arange(times[0], times[-1] + 1)
        steady = np.stack([np.interp(whole, times, column) for column in np.stack(list(shot.values())).T])
        for row, sigma_s in ((0, CENTER_SIGMA_S), (1, CENTER_SIGMA_S), (2, SIZE_SIGMA_S)):
            steady[row] = gaussian_filter1d(steady[row], sigma_s * fps, mode="nearest")
        for time in shot:
            if len(times) < min_shot_s * fps:
                crops[time] = BRIEF
            else:
                crops[time] = _crop(*steady[:, time - times[0]], sizes[time])
    return crops


def _choose(boxes: list[np.ndarray]) -> list[np.ndarray | None]:
    """Centre x, centre y and width (3,) of one face a picture."""
    chosen: list[np.ndarray | None] = []
    previous = None
    for found in boxes:
        if len(found) == 0:
            chosen.append(None)
            continue
        faces = np.stack([found[:, 0] + found[:, 2] / 2, found[:, 1] + found[:, 3] / 2, found[:, 2]], axis=1)
        face = faces[faces[:, 2].argmax()]
        if previous is not None:
            nearest = faces[np.linalg.norm(faces[:, :2] - previous[:2], axis=1).argmin()]
            face = nearest if _is_same(previous, nearest) else face
        chosen.append(face)
        previous = face
    return chosen


def _is_same(first: np.ndarray, second: np.ndarray, steps: int = 1) -> bool:
    """Whether a face can have moved from one place to another within so many pictures."""
    moved = np.linalg.norm(first[:2] - second[:2]) <= MAX_STEP_SHARE * np.sqrt(steps) * min(first[2], second[2])
    return bool(moved and max(first[2] / second[2], second[2] / first[2]) <= MAX_SIZE_RATIO)


def _shots(faces: list[np.ndarray | None], max_gap: int) -> list[dict[int, np.ndarray]]:
    """Stretches of one face each, by the numbers of their pictures."""
    shots: list[dict[int, np.ndarray]] = []
    for time, face in enumerate(faces):
        if face is None:
            continue
        last = next(reversed(shots[-1])) if shots else None
        if last is None or time - last > max_gap + 1 or not _is_same(shots[-1][last], face, time - last):
            shots.append({})
        shots[-1][time] = face
    return shots


def _crop(center_x: float, center_y: float, width: float, image_size: tuple[int, int]) -> Square | str:
    if width < MIN_BOX_PX:
        return SMALL
    half = CROP_SHARE * width / 2
    square = Square(round(center_x - half), round(center_y + CROP_DROP * width - half), round(2 * half))
    return EDGE if square.outside(image_size) > MAX_OUTSIDE_SHARE * square.side else square
