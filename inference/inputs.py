"""Inputs of a reenactment: a test split, a video, images or a camera, as a sequence of face crops."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from datasets.annotations import read_lines
from datasets.boundary import IMAGE_SIZE, DrawingStyle
from datasets.celebv import HEATMAP
from datasets.images import IMAGE_ENDINGS, list_images, read_image
from datasets.samples import DrawnDataset, FrameDataset
from faces.crop import cut_square
from faces.finder import FaceFinder
from faces.follower import MIN_SHOT_S, WAIT_S, FaceFollower, Placed
from faces.geometry import Shape, shape_of
from utils.cli import limit_count
from utils.errors import DataError, ResourceError
from utils.files import NOT_REGULAR
from utils.parallel import close_iterator, prefetched
from utils.sampling import evenly
from utils.video import MAX_FPS, MIN_FPS, Video, open_film, read_video

FOLDER_FPS = 25.0  # frame rate of a folder of images
CAMERA_FPS = 30.0  # if a camera does not report its frame rate
MAX_CALIBRATION_FRAMES = 250
CAMERA_CALIBRATION_S = 3.0
UNREADABLE = "image that cannot be decoded"
IMAGES_AHEAD, CROPS_AHEAD = 4, 64
MAX_NOTES = 20
MAX_DIGITS = 18  # of a number in a file name
Part = tuple[float, float]  # start and end in seconds


class FrameSource:
    """The frames of a video file, the images of a folder in natural order, or one image. It can be iterated repeatedly.

    Args:
        fps: frame rate; frames of a video are repeated or dropped. None is the video's own.
        wanted: number of frames that will be used; None is all.
        part: start and end in seconds of the part of a video; None is all.
        on_frame: called before each frame is returned; its exceptions end the iteration.

    Raises DataError if the file cannot be read, or the folder has no images.
    """

    def __init__(
        self,
        path: Path,
        fps: float | None = None,
        wanted: int | None = None,
        part: Part | None = None,
        on_frame: Callable[[], object] = lambda: None,
    ):
        self.path, self._on_frame = path, on_frame
        self.video: Video | None = None
        self.unreadable: dict[Path, str] = {}  # files that cannot be decoded, and why
        self._change_times: set[float] = set()
        if path.is_file():
            # `wanted` frames last longest at the lowest frame rate
            self.video = open_film(path, None if wanted is None or part else wanted / (fps or MIN_FPS))
            self.video = self.video.part(*part) if part else self.video
            self.fps: float | Fraction = fps or self.video.fps
            self.count = self.video.num_frames(self.fps)
        elif part:
            raise DataError(f"{path}: not a video file, so it has no parts; remove --part")
        elif path.is_dir():
            self._files = sorted(list_images(path), key=natural_order)
            if not self._files:
                raise DataError(f"{path}: no images ({', '.join(IMAGE_ENDINGS)})")
            self.fps, self.count = fps or FOLDER_FPS, len(self._files)
        elif path.exists():
            raise DataError(f"{path}: {NOT_REGULAR}; save it to a file first")
        else:
            raise DataError(f"{path}: no such video, image or folder")
        self.is_film = self.video is not None and self.count > 1  # consecutive frames show the same scene

    def __iter__(self) -> Iterator[np.ndarray | None]:
        return self.first(None)

    def first(self, count: int | None) -> Iterator[np.ndarray | None]:
        """Yield the first frames (H, W, 3) uint8, upright; None for an image of a folder that cannot be decoded."""
        for frame in self._images(count) if self.video is None else read_video(self.video, self.fps, count):
            self._on_frame()
            yield frame

    def _images(self, count: int | None) -> Iterator[np.ndarray | None]:
        for file in self._files[:count]:
            try:
                yield read_image(file, upright=True)
            except DataError as error:
                if file not in self.unreadable and len(self.unreadable) < MAX_NOTES:
                    print(f"note: {error}")
                self.unreadable[file] = str(error)
                yield None

    @property
    def min_shot_s(self) -> float:
        """Return the minimum duration of a shot in seconds; a shorter film is one shot."""
        return min(MIN_SHOT_S, (self.count - 0.5) / float(self.fps)) if self.is_film else 0.0

    def note_change(self, time_s: float) -> None:
        """Print, once, that another face is followed from a time on."""
        if time_s not in self._change_times and len(self._change_times) < MAX_NOTES:
            print(f"note: {self.path}: another face is followed from {time_s:.2f} s; --face selects one")
        self._change_times.add(time_s)


def natural_order(path: Path) -> list[tuple[bool, int, str]]:
    """Return a sort key that puts frame2 before frame10."""
    parts = re.split(r"([0-9]+)", path.name)  # every other part is a number
    return [(bool(i % 2), int(part[:MAX_DIGITS]) if i % 2 else 0, part) for i, part in enumerate(parts)]


class Camera:
    """Frames (H, W, 3) uint8 of a camera, until `end` is called. Raises ResourceError if it cannot be opened."""

    def __init__(self, device: int | str):
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise ResourceError(f"webcam:{device}: cannot be opened; is it connected and not in use?")
        claimed = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = claimed if MIN_FPS <= claimed <= MAX_FPS else CAMERA_FPS
        self._is_over = False

    def end(self) -> None:
        """Stop after the current frame."""
        self._is_over = True

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            while not self._is_over:
                is_valid, frame = self._capture.read()
                if not is_valid:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            self._capture.release()


class FaceFrame(NamedTuple):
    """The face of a frame, or the reason for a missing one."""

    index: int
    face: np.ndarray | None  # (256, 256, 3) uint8
    reason: str  # '' if there is a face
    time_s: float
    landmarks: np.ndarray | None = None  # (98, 2) in pixels of the crop


def add_frame(frame: np.ndarray | None, finder: FaceFinder, follower: FaceFollower) -> Iterator[Placed | str]:
    """Find the faces of the next frame, and yield the crops that are complete."""
    if frame is None:
        return follower.add([], (1, 1))
    return follower.add(finder.find(frame), frame.shape[:2])


def find_crops(
    frames: Iterable[np.ndarray | None], finder: FaceFinder, follower: FaceFollower
) -> Iterator[Placed | str]:
    """Yield the crop of each frame, or the reason for a missing one, with the follower's delay."""
    finder.reset()
    for frame in frames:
        yield from add_frame(frame, finder, follower)
    yield from follower.finish()


def faces_of(
    source: FrameSource, finder: FaceFinder, number: int | None = None, wanted: int | None = None
) -> Iterator[FaceFrame]:
    """Crop the face of each frame. A thread finds faces ahead, in a second pass over the source.

    `number` selects a face from 1, counted from the left (None: the largest); `wanted` limits the number of frames.
    """
    follower = FaceFollower(
        source.fps,
        source.min_shot_s,
        number=number,
        wait_s=WAIT_S if source.is_film else 0.0,
        say_change=source.note_change,
    )
    searched = None if wanted is None else wanted + follower.look_ahead  # crops depend on the following frames
    with (
        prefetched(find_crops(source.first(searched), finder, follower), CROPS_AHEAD) as crops,
        prefetched(source.first(wanted), IMAGES_AHEAD) as frames,
    ):
        for index, (frame, crop) in enumerate(zip(frames, crops)):
            yield _face_frame(index, frame, crop, float(index / source.fps))


def faces_of_camera(camera: Camera, finder: FaceFinder, number: int | None = None) -> Iterator[FaceFrame]:
    """Crop the face of each frame of a camera, without smoothing over later frames."""
    follower = FaceFollower(camera.fps, 0.0, look_ahead_s=0.0, number=number)
    start = time.monotonic()
    for index, frame in enumerate(camera):
        (crop,) = add_frame(frame, finder, follower)
        yield _face_frame(index, frame, crop, time.monotonic() - start)


def _face_frame(index: int, frame: np.ndarray | None, crop: Placed | str, time_s: float) -> FaceFrame:
    if frame is None or isinstance(crop, str):
        return FaceFrame(index, None, UNREADABLE if frame is None else crop, time_s)
    return FaceFrame(index, cut_square(frame, crop.square), "", time_s, crop.landmarks())


class Input(NamedTuple):
    """The frames of a reenactment."""

    frames: Iterator[FaceFrame]
    fps: float | Fraction
    count: int | None  # number of frames, if known
    truth: DrawnDataset | None = None  # true heatmaps by frame number, (15, 64, 64) uint8
    sound: Video | None = None  # video whose sound is copied
    camera: Camera | None = None
    calibration: Callable[[], Iterator[FaceFrame]] | None = None  # frames with a face, to estimate the shape
    landmarks: np.ndarray | None = None  # (N, 98, 2), if known in advance
    is_film: bool = True  # consecutive frames show the same scene
    names: list[str] | None = None  # of the frames' images in the result; None is their numbers


def open_test_split(
    data_dir: str | Path, person: str, wanted: int | None, fps: float, style: DrawingStyle = DrawingStyle()
) -> Input:
    """Open the test split of a person in CelebV's format.

    Args:
        wanted: number of frames; None is all.
        style: drawing style of the true heatmaps.

    Raises DataError if the data are missing or damaged.
    """
    images = FrameDataset(data_dir, person, "test")
    truth = DrawnDataset(data_dir, person, "test", (HEATMAP,), style=style)
    count = limit_count(wanted, len(images), f"the test split of {person}")
    landmarks = truth.landmarks

    def frame(index: int) -> FaceFrame:
        return FaceFrame(index, images[index][0].transpose(1, 2, 0), "", index / fps, landmarks[index])

    def calibration() -> Iterator[FaceFrame]:
        return map(frame, evenly(len(images), MAX_CALIBRATION_FRAMES))

    return Input(map(frame, range(count)), fps, count, truth=truth, calibration=calibration, landmarks=landmarks)


def open_aligned(path: Path, wanted: int | None, fps: float) -> Input:
    """Open images that are cropped already, 256x256: those of a folder, or of a list with a path a line.

    Paths in a list are relative to its folder. Raises DataError if an image is missing, damaged or of another size.
    """
    if path.is_dir():
        files = sorted(list_images(path), key=natural_order)
    else:
        files = [path.parent / line.strip() for _, line in read_lines(path, "--aligned takes a folder or a list")]
    if not files:
        raise DataError(f"{path}: no images ({', '.join(IMAGE_ENDINGS)})")
    files = files[:wanted]
    seen: dict[str, Path] = {}
    for file in files:
        if seen.setdefault(file.stem, file) is not file:
            raise DataError(f"{path}: {seen[file.stem]} and {file} would have results of the same name; rename one")

    def frame(index: int) -> FaceFrame:
        face = read_image(files[index])
        if face.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
            height, width = face.shape[:2]
            raise DataError(f"{files[index]}: {width}x{height} pixels instead of 256x256; crop it, or use --input")
        return FaceFrame(index, face, "", index / fps)

    return Input(map(frame, range(len(files))), fps, len(files), is_film=False, names=[file.stem for file in files])


def open_input(
    name: str,
    face_number: int | None = None,
    fps: float | None = None,
    wanted: int | None = None,
    with_sound: bool = True,
    part: Part | None = None,
    on_frame: Callable[[], object] = lambda: None,
) -> Input:
    """Open a video, a folder of images, an image, or a camera (`webcam[:N]`).

    Args:
        face_number: number of the face from 1, counted from the left; None is the largest.
        fps: frame rate; None is the input's own.
        wanted: number of frames; None is all.
        part, on_frame: see `FrameSource`.

    Raises DataError if the input cannot be read, ResourceError if a camera cannot be opened.
    """
    kind, _, device = name.partition(":")
    if kind == "webcam" and (not device or re.fullmatch("[0-9]{1,3}", device)):
        finder = FaceFinder(is_video=True)
        camera = Camera(int(device or 0))
        frames = Replayed(islice(faces_of_camera(camera, finder, face_number), wanted))
        return Input(frames, fps or camera.fps, wanted, camera=camera)
    source = FrameSource(Path(os.path.expanduser(name)), fps, wanted, part, on_frame)
    finder = FaceFinder(is_video=source.is_film)

    def calibration() -> Iterator[FaceFrame]:
        num_faces, reasons = 0, Counter()
        for frame in faces_of(source, finder, face_number, wanted):
            if frame.face is None:
                reasons[frame.reason] += 1
                continue
            yield frame
            num_faces += 1
            if num_faces == MAX_CALIBRATION_FRAMES:
                return
        if not num_faces:
            raise DataError(no_face_message(name, reasons))

    return Input(
        faces_of(source, finder, face_number, wanted),
        source.fps,
        source.count if wanted is None else min(wanted, source.count),
        sound=source.video if with_sound else None,
        calibration=calibration,
        is_film=source.is_film,
    )


class Replayed:
    """An iterator whose first frames can be inspected in advance."""

    def __init__(self, frames: Iterator[FaceFrame]):
        self._frames = frames
        self._inspected: deque[FaceFrame] = deque()

    def look_ahead(self, until_s: float) -> list[FaceFrame]:
        """Return the frames up to a time; iteration still returns them."""
        while not self._inspected or self._inspected[-1].time_s < until_s:
            frame = next(self._frames, None)
            if frame is None:
                break
            self._inspected.append(frame)
        return list(self._inspected)

    def __iter__(self) -> Iterator[FaceFrame]:
        return self

    def __next__(self) -> FaceFrame:
        return self._inspected.popleft() if self._inspected else next(self._frames)

    def close(self) -> None:
        """Close the underlying iterator."""
        close_iterator(self._frames)


def shape_of_source(frames_in: Input) -> Shape:
    """Estimate the source's shape from some frames, or the first seconds. Raises DataError if there is no face."""
    if frames_in.landmarks is not None:
        return shape_of(frames_in.landmarks[evenly(len(frames_in.landmarks), MAX_CALIBRATION_FRAMES)])
    if frames_in.calibration is not None:
        return shape_of(frame.landmarks for frame in frames_in.calibration())
    seconds = f"{CAMERA_CALIBRATION_S:.0f} s"
    print(f"note: your face is measured during the first {seconds}; look at the camera, talk, and close your mouth")
    seen = frames_in.frames.look_ahead(CAMERA_CALIBRATION_S)
    return shape_of(frame.landmarks for frame in seen if frame.landmarks is not None)


@contextmanager
def end_at_interrupt(frames_in: Input) -> Iterator[None]:
    """Treat the first Ctrl-C as the end of a camera's stream while the block runs."""
    if frames_in.camera is None:
        yield
        return

    def end(*_: object) -> None:
        frames_in.camera.end()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def reason_counts(reasons: Counter[str]) -> str:
    """Format how often each reason for a missing face occurred."""
    return ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())


def no_face_message(where: str, reasons: Counter[str]) -> str:
    """Return the error message for an input without a face."""
    return f"{where}: no usable face in {reasons.total()} frames ({reason_counts(reasons)})"
