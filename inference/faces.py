"""Follow the face through a sequence of pictures and cut it out as CelebV's frames are, steadily over time.

Faces come from `datasets.landmarks`; another detector is a function from an image to boxes, which `make_finder` takes
by its name.
"""

from __future__ import annotations

import importlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from datasets.boundary import IMAGE_SIZE
from datasets.crop import Square
from datasets.landmarks import Face, FaceFinder
from utils.errors import ConfigError

# How CelebV's crops lie about the detector's box, measured on synthetic people in CelebV's form
CROP_SHARE = 1.77  # side of the crop / width of the box
CROP_DROP = 0.04  # how far the crop's centre lies below the box's / width of the box

MIN_BOX_PX = 48
MAX_OUTSIDE_SHARE = 0.25  # share of the crop's side
MAX_UNSEEN_SHARE = 0.1  # share of the landmarks beyond the picture
MAX_STEP_SHARE = 0.25  # share of the box's width a face moves between pictures; more means another shot or person
MAX_SIZE_RATIO = 1.25
MAX_GAP_S = 0.5
WAIT_S = 3.0  # for a face that is gone, before another is followed
# Looks (`datasets.landmarks.look_of`) that are nearer belong to one person: 96 % of a person's frames are that near to
# their mean, 99.9 % to the frame before; of others' frames 5 % are
SAME = 2.8
LOOK_FRAMES = 50  # a person's look is the mean of about this many
MAX_PEOPLE = 16  # remembered at a time
MIN_SHOT_S = 0.2
CENTER_SIGMA_S, SIZE_SIGMA_S = 0.15, 0.8
REACH = 3.0  # reach of the smoothing window, in its widths

NO_FACE = "no face found"
SMALL = f"face smaller than {MIN_BOX_PX} pixels"
EDGE = "face at the edge of the picture"
BRIEF = "face seen for an instant only"
GONE = "the face that is followed is gone, others are there"


class Finder(Protocol):
    """Say what finds faces in one picture after another."""

    def find(self, image: np.ndarray) -> list[Face]:
        """Find the faces of a picture (H, W, 3) uint8 RGB."""
        ...

    def reset(self) -> None:
        """Begin another sequence."""
        ...


class DetectorFinder:
    """Find faces by a function from an image to boxes (N, 4): left, top, width, height, from forehead to chin."""

    def __init__(self, detect: Callable[[np.ndarray], np.ndarray]):
        self._detect = detect

    def find(self, image: np.ndarray) -> list[Face]:
        """Find the faces of a picture; they have no landmarks."""
        return [Face(np.asarray(box, np.float64)) for box in self._detect(image)]

    def reset(self) -> None:
        """Do nothing: pictures are looked at one by one."""


def make_finder(detector: str | None, is_video: bool) -> Finder:
    """Make what finds faces: the face mesh, or a detector by `MODULE:FUNCTION`.

    Raises:
        ConfigError: there is no such function.
    """
    if detector is None:
        return FaceFinder(is_video)
    module_name, _, function_name = detector.partition(":")
    try:
        return DetectorFinder(getattr(importlib.import_module(module_name), function_name))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"--detector {detector}: {error}; it must be MODULE:FUNCTION") from None


class Placed(NamedTuple):
    """Hold a face, and the square to cut out about it."""

    square: Square
    face: Face
    person: int = 0  # number of the person, in the order in which they were first followed

    def landmarks(self) -> np.ndarray | None:
        """Return the landmarks (98, 2) in pixels of what `cut_square` cuts out, if the face has them."""
        if self.face.landmarks is None:
            return None
        return (self.face.landmarks - self.square[:2]) * (IMAGE_SIZE / self.square.side)


class FaceFollower:
    """Follow one face through a sequence: a steady crop for each picture, or why the picture is left out.

    It begins with the largest face, or with the one of a given number, and stays with it: in the next picture, that is
    the face within reach, or one elsewhere that looks the same. While it is gone, nobody takes its place for
    `WAIT_S`; then another is followed, which is said, until the first is seen again. Shots are smoothed by themselves:
    where a face jumps, or is gone for longer than a blink of the detector, another begins. Crops come out some pictures
    after their boxes went in, since boxes are smoothed over the following ones.

    Args:
        fps: pictures a second.
        min_shot_s: what is seen for a shorter time is left out.
        look_ahead_s: how far later pictures count; 0 for what must not wait, such as a camera's.
        number: of the face, from 1, counted from the left; None for the largest.
        wait_s: how long nobody takes the place of a face that is gone; 0 for pictures that do not follow each other,
            in which looks are not compared either.
        say_change: told the time in seconds at which another face is followed.
    """

    def __init__(
        self,
        fps: float,
        min_shot_s: float = MIN_SHOT_S,
        look_ahead_s: float = REACH * SIZE_SIGMA_S,
        number: int | None = None,
        wait_s: float = WAIT_S,
        say_change: Callable[[float], object] = lambda _: None,
    ):
        self._wait_count, self._say_change = wait_s * float(fps), say_change
        self._people: list[_Person] = []
        self._now: int | None = None  # who of them is followed
        self._fps, self._min_count, self._number = float(fps), min_shot_s * fps, number
        self.look_ahead = math.ceil(look_ahead_s * fps)
        self._time = 0  # number of the next picture
        self._previous: np.ndarray | None = None  # centre x, centre y and width (3,) when it was last seen
        self._seen = 0  # in which picture that was
        self._why = NO_FACE  # in the picture before
        self._shot: _Shot | None = None
        self._pending: deque[_Pending] = deque()

    def add(self, faces: list[Face], size: tuple[int, int]) -> Iterator[Placed | str]:
        """Take the faces of the next picture, whose height and width are `size`; return the crops that are due."""
        chosen = self._choose(faces)
        if chosen is not None:
            self._join(self._previous)
        shot = self._why if chosen is None else self._shot
        self._pending.append(_Pending(self._time, size, shot, chosen, self._now or 0))
        self._time += 1
        while self._pending and self._pending[0].time + self.look_ahead < self._time:
            yield self._finish_first()

    def finish(self) -> Iterator[Placed | str]:
        """Give the crops that are left."""
        while self._pending:
            yield self._finish_first()

    def _choose(self, faces: list[Face]) -> Face | None:
        """Choose a face, and keep who and where it is."""
        if not faces:
            self._why = NO_FACE
            return None
        boxes = np.array([face.box for face in faces])
        places = np.stack([boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2, boxes[:, 2]], axis=1)
        index, person = self._followed(faces, places)
        if index is None:
            if self._now is not None and self._time - self._seen <= self._wait_count:
                self._why = GONE
                return None
            if self._number is not None and len(faces) < self._number:
                self._why = f"face {self._number} is not there, fewer are seen"
                return None
            index = places[:, 2].argmax() if self._number is None else places[:, 0].argsort()[self._number - 1]
            person = self._who(faces[index])
        if person != self._now:
            if self._now is not None:
                self._say_change(self._time / self._fps)
            self._now, self._shot = person, None
        if self._wait_count:
            self._people[person].add(faces[index])
        self._previous, self._seen = places[index], self._time
        return faces[index]

    def _followed(self, faces: list[Face], places: np.ndarray) -> tuple[int | None, int | None]:
        """Find the face that is followed, or the first one of all; returns its index and who it is."""
        if self._now is None:
            return None, None
        looks = np.array([self._people[self._now].distance(face) for face in faces])
        if self._now != 0:
            of_first = np.array([self._people[0].distance(face) for face in faces])
            if of_first.min() < min(SAME, looks[of_first.argmin()]):
                return int(of_first.argmin()), 0
        gap = self._time - self._seen
        nearest = np.linalg.norm(places[:, :2] - self._previous[:2], axis=1).argmin()
        is_near = gap <= self._wait_count + 1 and _is_same(self._previous, places[nearest], gap)
        if is_near and not min(looks[nearest], self._people[self._now].step(faces[nearest])) >= SAME:
            return int(nearest), self._now
        if looks.min() < SAME:
            return int(looks.argmin()), self._now
        return None, None

    def _who(self, face: Face) -> int:
        """Return the number of the person a face belongs to, which may be a new one."""
        distances = [person.distance(face) for person in self._people]
        if distances and (min(distances) < SAME or not self._wait_count):
            return int(np.argmin(distances))
        if len(self._people) < MAX_PEOPLE:
            self._people.append(_Person())
        else:
            self._people[-1] = _Person()
        return len(self._people) - 1

    def _join(self, face: np.ndarray) -> None:
        """Add the face to the shot under way, or to a new one."""
        shot = self._shot
        if shot is not None:
            gap = self._time - shot.times[-1]
            if gap > int(MAX_GAP_S * self._fps) + 1 or not _is_same(shot.faces[-1], face, gap):
                shot = None
        self._shot = shot or _Shot()
        self._shot.add(self._time, face, self._time - self.look_ahead - math.ceil(REACH * SIZE_SIGMA_S * self._fps))

    def _finish_first(self) -> Placed | str:
        time, size, shot, face, person = self._pending.popleft()
        if isinstance(shot, str):
            return shot
        if shot.count < self._min_count:
            return BRIEF
        sigmas = np.array([CENTER_SIGMA_S, CENTER_SIGMA_S, SIZE_SIGMA_S]) * self._fps
        square = _crop(*shot.smoothed(time, sigmas), size)
        if isinstance(square, str):
            return square
        return EDGE if _is_cut_off(face, size) else Placed(square, face, person)


class _Person:
    """Keep the look of somebody who is followed: a mean that goes with the light."""

    def __init__(self) -> None:
        self._look: np.ndarray | None = None
        self._last: np.ndarray | None = None
        self._count = 0

    def add(self, face: Face) -> None:
        if face.look is None:
            return
        self._count, self._last = min(self._count + 1, LOOK_FRAMES), face.look
        self._look = face.look if self._look is None else self._look + (face.look - self._look) / self._count

    def distance(self, face: Face) -> float:
        """Return how far a face's look is from this; not a number where one is unknown."""
        return _apart(face.look, self._look)

    def step(self, face: Face) -> float:
        """Return how far a face's look is from the last one; not a number where one is unknown."""
        return _apart(face.look, self._last)


def _apart(first: np.ndarray | None, second: np.ndarray | None) -> float:
    return np.nan if first is None or second is None else float(np.linalg.norm(first - second))


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
    face: Face | None
    person: int


def follow_face(
    faces: list[list[Face]],
    sizes: list[tuple[int, int]],
    fps: float,
    min_shot_s: float = MIN_SHOT_S,
    wait_s: float = WAIT_S,
) -> list[Placed | str]:
    """Give a crop for each picture of a whole sequence, or why it is left out, as `FaceFollower` does.

    Args:
        faces: of each picture.
        sizes: height and width of each picture in pixels.
    """
    follower = FaceFollower(fps, min_shot_s, wait_s=wait_s)
    crops = [crop for found, size in zip(faces, sizes) for crop in follower.add(found, size)]
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


def _is_cut_off(face: Face, image_size: tuple[int, int]) -> bool:
    """Tell whether too much of a face lies beyond the edge of the picture, where landmarks are guesses."""
    if face.landmarks is None:
        return False
    is_inside = (face.landmarks >= 0) & (face.landmarks <= np.array(image_size[::-1]))
    return bool((~is_inside.all(axis=1)).mean() > MAX_UNSEEN_SHARE)
