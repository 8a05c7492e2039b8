"""Pictures in a row: a video's frames, a folder's pictures, a single one, or a camera's."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from datasets.crop import cut_square
from datasets.images import (
    IMAGE_ENDINGS,
    animation_times,
    is_animated,
    is_picture,
    list_pictures,
    read_animation,
    read_image,
)
from inference.faces import MIN_SHOT_S, WAIT_S, FaceFollower, Finder, Placed
from utils.errors import DataError, ResourceError
from utils.files import NOT_REGULAR
from utils.parallel import prefetched
from utils.video import MAX_FPS, MIN_FPS, Video, exact_rate, open_film, read_video

FOLDER_FPS = 25.0  # pictures of a folder are taken for the frames of a video
CAMERA_FPS = 30.0  # if a camera does not say
UNREADABLE = "picture that cannot be decoded"
PICTURES_AHEAD, CROPS_AHEAD = 4, 64
MAX_NAMED = 20  # pictures that cannot be decoded; each gets a note
MAX_REPEATED = 250  # times that a picture of an animation comes, on an average
MAX_DIGITS = 18  # digits of a number in a name


class Pictures:
    """Read a video's frames, a folder's pictures in the order of their names, or one picture.

    They can be gone through several times.

    Args:
        fps: pictures a second, into which a video's frames are repeated or left out; None takes the video's own.
        wanted: how many of them are of interest; None is all.

    Raises:
        DataError: there is no such file, or no picture in the folder.
    """

    def __init__(self, path: Path, fps: float | None = None, wanted: int | None = None):
        self.path = path
        self.fps: float | Fraction = fps or FOLDER_FPS
        self.video: Video | None = None
        self.unreadable: dict[Path, str] = {}  # files that are no pictures, and why
        self._changes: set[float] = set()  # when another face was followed, as far as it was said
        self._noted: set[Path] = set()  # pictures of a folder that were looked at
        is_one = path.is_file() and is_picture(path)
        # seconds that each picture of an animation stays
        self._stays: list[float] = animation_times(path) if is_one else []
        if self._stays:
            length = sum(self._stays)
            self.fps = fps or exact_rate(min(max(len(self._stays) / length, MIN_FPS), MAX_FPS))
            self.count = max(round(length * float(self.fps)), 1)
            if self.count > MAX_REPEATED * len(self._stays):
                raise DataError(f"{path}: {len(self._stays)} pictures in {length:.0f} s; it is no film")
        elif is_one:
            self._files, self.count = [path], 1
        elif path.is_file():
            # at the lowest rate so many frames last longest
            self.video = open_film(path, None if wanted is None else wanted / (fps or MIN_FPS))
            self.fps = fps or self.video.fps
            self.count = self.video.num_frames(self.fps)
        elif path.is_dir():
            self._files = sorted(list_pictures(path), key=natural_order)
            if not self._files:
                raise DataError(f"{path}: no picture in it ({', '.join(IMAGE_ENDINGS)})")
            self.count = len(self._files)
        elif path.exists():
            raise DataError(f"{path}: {NOT_REGULAR}; save it to a file first")
        else:
            raise DataError(f"{path}: no such video, picture or folder")
        self.is_film = self.video is not None or bool(self._stays)  # pictures follow each other in time

    def __iter__(self) -> Iterator[np.ndarray | None]:
        return self.first(None)

    def first(self, count: int | None) -> Iterator[np.ndarray | None]:
        """Give (H, W, 3) uint8 upright, or None where a picture of a folder cannot be decoded; None gives all."""
        if self.video is not None:
            yield from read_video(self.video, self.fps, count)
            return
        if self._stays:
            yield from islice(self._evenly_played(), count)
            return
        for file in self._files[:count]:
            if file not in self._noted and is_animated(file):
                print(f"note: {file}: is an animation, of which the first picture is taken; make it the input itself")
            self._noted.add(file)
            try:
                yield read_image(file, upright=True)
            except DataError as error:
                if file not in self.unreadable and len(self.unreadable) < MAX_NAMED:
                    print(f"note: {error}")
                self.unreadable[file] = str(error)
                yield None

    def _evenly_played(self) -> Iterator[np.ndarray]:
        """Give an animation's pictures at an even rate."""
        end_s, given = 0.0, 0
        for picture, stays_s in zip(read_animation(self.path), self._stays):
            end_s += stays_s
            while given < min(round(end_s * float(self.fps)), self.count):
                yield picture
                given += 1

    @property
    def min_shot_s(self) -> float:
        """Return how long a face must be seen to count: all of a film that is shorter."""
        return min(MIN_SHOT_S, (self.count - 0.5) / float(self.fps)) if self.is_film else 0.0

    def note_change(self, time_s: float) -> None:
        """Say, once, that from a time on another face is followed."""
        if time_s not in self._changes and len(self._changes) < MAX_NAMED:
            words = f"from {time_s:.2f} s on another face is followed"
            print(f"note: {self.path}: {words}; --face chooses, or cut the video")
        self._changes.add(time_s)


def natural_order(path: Path) -> list[tuple[bool, int, str]]:
    """Sort frame2 before frame10."""
    parts = re.split(r"([0-9]+)", path.name)  # every other one is a number
    return [(bool(i % 2), int(part[:MAX_DIGITS]) if i % 2 else 0, part) for i, part in enumerate(parts)]


class Camera:
    """Read pictures of a camera as they come, until they end or nobody asks for more.

    Raises:
        ResourceError: there is no such camera.
    """

    def __init__(self, device: int | str):
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise ResourceError(f"webcam:{device}: cannot be opened; is it plugged in, and free?")
        claimed = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = claimed if MIN_FPS <= claimed <= MAX_FPS else CAMERA_FPS
        self._is_over = False

    def end(self) -> None:
        """Stop after the picture under way."""
        self._is_over = True

    def __iter__(self) -> Iterator[np.ndarray]:
        """Give (H, W, 3) uint8 as they come."""
        try:
            while not self._is_over:
                is_there, picture = self._capture.read()
                if not is_there:
                    return
                yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        finally:
            self._capture.release()


class FaceFrame(NamedTuple):
    """Hold the face of a picture, or the reason for having none."""

    index: int
    face: np.ndarray | None  # (256, 256, 3) uint8
    reason: str  # why there is no face, or ''
    time_s: float  # when it was seen, since the beginning
    landmarks: np.ndarray | None = None  # (98, 2) in pixels of the face's picture, where they are known


def add_picture(picture: np.ndarray | None, finder: Finder, follower: FaceFollower) -> Iterator[Placed | str]:
    """Find the faces of the next picture; return the crops that are due."""
    if picture is None:
        return follower.add([], (1, 1))
    return follower.add(finder.find(picture), picture.shape[:2])


def find_crops(pictures: Iterable[np.ndarray | None], finder: Finder, follower: FaceFollower) -> Iterator[Placed | str]:
    """Yield a square for each picture, or the reason for having none, some pictures late like the follower's."""
    finder.reset()
    for picture in pictures:
        yield from add_picture(picture, finder, follower)
    yield from follower.finish()


def faces_of(
    pictures: Pictures, finder: Finder, number: int | None = None, wanted: int | None = None
) -> Iterator[FaceFrame]:
    """Cut the face out of each picture; finding goes on ahead in a thread, over the same pictures.

    Args:
        number: which face of several, from 1, counted from the left; None is the largest.
        wanted: the first so many pictures; None is all.
    """
    follower = FaceFollower(
        pictures.fps,
        pictures.min_shot_s,
        number=number,
        wait_s=WAIT_S if pictures.is_film else 0.0,
        say_change=pictures.note_change,
    )
    looked_at = None if wanted is None else wanted + follower.look_ahead  # the first are steadied by what follows them
    with (
        prefetched(find_crops(pictures.first(looked_at), finder, follower), CROPS_AHEAD) as crops,
        prefetched(pictures.first(wanted), PICTURES_AHEAD) as again,
    ):
        for index, (picture, crop) in enumerate(zip(again, crops)):
            yield _frame(index, picture, crop, float(index / pictures.fps))


def faces_of_camera(camera: Camera, finder: Finder, number: int | None = None) -> Iterator[FaceFrame]:
    """Cut the face out of each of a camera's pictures; unlike a video's, crops are not steadied by later ones."""
    follower = FaceFollower(camera.fps, 0.0, look_ahead_s=0.0, number=number)
    start = time.monotonic()
    for index, picture in enumerate(camera):
        (crop,) = add_picture(picture, finder, follower)
        yield _frame(index, picture, crop, time.monotonic() - start)


def _frame(index: int, picture: np.ndarray | None, crop: Placed | str, time_s: float) -> FaceFrame:
    if picture is None or isinstance(crop, str):
        return FaceFrame(index, None, UNREADABLE if picture is None else crop, time_s)
    return FaceFrame(index, cut_square(picture, crop.square), "", time_s, crop.landmarks())
