"""Tracking one face through a sequence of images, with crops like CelebV's that are smooth over time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from faces.crop import Square
from faces.finder import Face
from faces.landmarks import IMAGE_SIZE

# CelebV's crops relative to the detector's box, measured on synthetic people in CelebV's format
CROP_SHARE = 1.77  # side of the crop / width of the box
CROP_DROP = 0.04  # vertical offset of the crop's centre / width of the box

MIN_BOX_PX = 48
MAX_OUTSIDE_SHARE = 0.25  # of the crop's side
MAX_UNSEEN_SHARE = 0.1  # of the landmarks
MAX_STEP_SHARE = 0.25  # of the box's width; a larger step between images is a cut or another person
MAX_SIZE_RATIO = 1.25
MAX_GAP_S = 0.5
WAIT_S = 3.0  # time to wait for a lost face before another is followed
# Same-person distance threshold of `faces.finder.look_of`: 96 % of a person's frames are nearer to their mean, 99.9 %
# to the previous frame, and 5 % of other people's frames
SAME = 2.8
LOOK_FRAMES = 50  # length of the running mean of a person's descriptor
# After a cut the threshold is lower: this factor times the person's own spread (root mean square), within bounds
CUT_SPREADS, CUT_SAME = 1.5, 1.6
CUT_LEVELS, CUT_RATIO = 4.0, 4.0  # mean change of the whole image at a cut, of 255 and relative to usual changes
MAX_PEOPLE = 16
MIN_SHOT_S = 0.2
CENTER_SIGMA_S, SIZE_SIGMA_S = 0.15, 0.8
REACH = 3.0  # half width of the smoothing window in standard deviations

NO_FACE = "no face found"
SMALL = f"face smaller than {MIN_BOX_PX} pixels"
EDGE = "face at the edge of the image"
BRIEF = "face seen only briefly"
GONE = "the tracked face is missing, other faces are visible"


class Placed(NamedTuple):
    """A face and its crop."""

    square: Square
    face: Face
    person: int = 0  # number of the person, in order of appearance

    def landmarks(self) -> np.ndarray:
        """Return the landmarks (98, 2) in pixels of the crop."""
        return (self.face.landmarks - self.square[:2]) * (IMAGE_SIZE / self.square.side)


class FaceFollower:
    """Tracker of one face: a smooth crop for each image, or the reason for a missing one.

    It starts with the largest face, or the one with a given number. In the next image it takes the nearest face, or one
    with the same appearance. If the face is missing for `wait_s`, another is followed until the first reappears. Each
    shot is smoothed on its own; a jump or a longer gap starts a new one. Crops are delayed by `look_ahead` images,
    because boxes are smoothed over the following images.

    Args:
        fps: frame rate.
        min_shot_s: shorter shots are left out.
        look_ahead_s: time for which later images count; 0 for a camera.
        number: number of the face from 1, counted from the left; None is the largest.
        wait_s: time to wait for a missing face; 0 for unrelated images, whose faces are not compared.
        say_change: called with the time in seconds when another face is followed.
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
        self._now: int | None = None  # index of the tracked person
        self._fps, self._min_count, self._number = float(fps), min_shot_s * fps, number
        self.look_ahead = math.ceil(look_ahead_s * fps)
        self._time = 0  # number of the next image
        self._previous: np.ndarray | None = None  # last centre x, centre y and width, (3,)
        self._seen = 0  # number of that image
        self._scenes = _Scenes()
        self._is_cut = False  # whether the tracked face has not been recognized since a cut
        self._why = NO_FACE  # reason for the last missing crop
        self._shot: _Shot | None = None
        self._pending: deque[_Pending] = deque()

    def add(self, faces: list[Face], size: tuple[int, int]) -> Iterator[Placed | str]:
        """Add the faces of the next image of size (height, width), and yield the crops that are complete."""
        chosen = self._choose(faces)
        if chosen is not None:
            self._join(self._previous)
        shot = self._why if chosen is None else self._shot
        self._pending.append(_Pending(self._time, size, shot, chosen, self._now or 0))
        self._time += 1
        while self._pending and self._pending[0].time + self.look_ahead < self._time:
            yield self._finish_first()

    def finish(self) -> Iterator[Placed | str]:
        """Yield the remaining crops."""
        while self._pending:
            yield self._finish_first()

    def _choose(self, faces: list[Face]) -> Face | None:
        """Choose a face and update the track."""
        if not faces:
            self._why = NO_FACE
            return None
        self._is_cut |= self._scenes.is_cut(faces[0].scene)
        boxes = np.array([face.box for face in faces])
        places = np.stack([boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2, boxes[:, 2]], axis=1)
        index, person = self._followed(faces, places)
        if index is None:
            if self._now is not None and self._time - self._seen <= self._wait_count:
                self._why = GONE
                return None
            if self._number is not None and len(faces) < self._number:
                self._why = f"face {self._number} does not exist: fewer faces"
                return None
            index = places[:, 2].argmax() if self._number is None else places[:, 0].argsort()[self._number - 1]
            person = self._who(faces[index])
        if person != self._now:
            if self._now is not None:
                self._say_change(self._time / self._fps)
            self._now, self._shot = person, None
        if self._wait_count:
            self._people[person].add(faces[index])
        self._previous, self._seen, self._is_cut = places[index], self._time, False
        return faces[index]

    def _followed(self, faces: list[Face], places: np.ndarray) -> tuple[int | None, int | None]:
        """Return the index of the tracked face, or of the first person's, and the person's number."""
        if self._now is None:
            return None, None
        looks = np.array([self._people[self._now].distance(face) for face in faces])
        if self._now != 0:
            of_first = np.array([self._people[0].distance(face) for face in faces])
            if of_first.min() < min(self._people[0].threshold(self._is_cut), looks[of_first.argmin()]):
                return int(of_first.argmin()), 0
        gap = self._time - self._seen
        nearest = np.linalg.norm(places[:, :2] - self._previous[:2], axis=1).argmin()
        is_near = gap <= self._wait_count + 1 and _is_same(self._previous, places[nearest], gap)
        threshold = self._people[self._now].threshold(self._is_cut)
        if is_near and not min(looks[nearest], self._people[self._now].step(faces[nearest])) >= threshold:
            return int(nearest), self._now
        if looks.min() < threshold:
            return int(looks.argmin()), self._now
        return None, None

    def _who(self, face: Face) -> int:
        """Return the number of a face's person, who may be new."""
        distances = [person.distance(face) / person.threshold(self._is_cut) for person in self._people]
        if distances and (min(distances) < 1 or not self._wait_count):
            return int(np.argmin(distances))
        if len(self._people) < MAX_PEOPLE:
            self._people.append(_Person())
        else:
            self._people[-1] = _Person()
        return len(self._people) - 1

    def _join(self, face: np.ndarray) -> None:
        """Add a face to the current shot or start a new one."""
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
    """Running mean of a person's appearance descriptor, which adapts to the light."""

    def __init__(self) -> None:
        self._look: np.ndarray | None = None
        self._last: np.ndarray | None = None
        self._count, self._square = 0, 0.0  # mean squared distance

    def add(self, face: Face) -> None:
        if face.look is None:
            return
        self._count, self._last = min(self._count + 1, LOOK_FRAMES), face.look
        if self._look is not None:
            self._square += (self.distance(face) ** 2 - self._square) / self._count
        self._look = face.look if self._look is None else self._look + (face.look - self._look) / self._count

    def threshold(self, is_cut: bool) -> float:
        """Return the distance below which a face is this person's."""
        return min(max(CUT_SAME, CUT_SPREADS * self._square**0.5), SAME) if is_cut else SAME

    def distance(self, face: Face) -> float:
        """Return the distance of a face from the mean; NaN if unknown."""
        return _apart(face.look, self._look)

    def step(self, face: Face) -> float:
        """Return the distance of a face from the last one; NaN if unknown."""
        return _apart(face.look, self._last)


class _Scenes:
    """Detector of cuts, at which the whole image changes at once."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._usual = 0.0  # running mean of the changes

    def is_cut(self, scene: np.ndarray | None) -> bool:
        """Return whether an image's thumbnail differs from the last one by a cut."""
        last, self._last = self._last, scene
        if scene is None or last is None or scene.shape != last.shape:
            return False
        change = float(np.abs(scene.astype(float) - last).mean())
        is_cut = change > max(CUT_LEVELS, CUT_RATIO * self._usual)
        self._usual += 0 if is_cut else (change - self._usual) / LOOK_FRAMES
        return is_cut


def _apart(first: np.ndarray | None, second: np.ndarray | None) -> float:
    return np.nan if first is None or second is None else float(np.linalg.norm(first - second))


class _Shot:
    """Positions of one face in consecutive images."""

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
        """Smooth position and size (3,) with Gaussian windows around a time.

        Positions are fitted by straight lines, which avoids a lag at the ends of a shot; sizes are averaged.
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
    shot: _Shot | str  # or the reason for a missing one
    face: Face | None
    person: int


def follow_face(
    faces: list[list[Face]],
    sizes: list[tuple[int, int]],
    fps: float,
    min_shot_s: float = MIN_SHOT_S,
    wait_s: float = WAIT_S,
    number: int | None = None,
) -> list[Placed | str]:
    """Return the crops of a whole sequence, given the faces and the size (height, width) of each image."""
    follower = FaceFollower(fps, min_shot_s, number=number, wait_s=wait_s)
    crops = [crop for found, size in zip(faces, sizes) for crop in follower.add(found, size)]
    return [*crops, *follower.finish()]


def _is_same(first: np.ndarray, second: np.ndarray, steps: int = 1) -> bool:
    """Return whether a face can have moved between two positions in `steps` images."""
    moved = np.linalg.norm(first[:2] - second[:2]) <= MAX_STEP_SHARE * np.sqrt(steps) * min(first[2], second[2])
    return bool(moved and max(first[2] / second[2], second[2] / first[2]) <= MAX_SIZE_RATIO)


def _crop(center_x: float, center_y: float, width: float, image_size: tuple[int, int]) -> Square | str:
    if width < MIN_BOX_PX:
        return SMALL
    half = CROP_SHARE * width / 2
    square = Square(round(center_x - half), round(center_y + CROP_DROP * width - half), round(2 * half))
    return EDGE if square.outside(image_size) > MAX_OUTSIDE_SHARE * square.side else square


def _is_cut_off(face: Face, image_size: tuple[int, int]) -> bool:
    """Return whether too many landmarks lie beyond the edge of the image, where they are guesses."""
    is_inside = (face.landmarks >= 0) & (face.landmarks <= np.array(image_size[::-1]))
    return bool((~is_inside.all(axis=1)).mean() > MAX_UNSEEN_SHARE)
