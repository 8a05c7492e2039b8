"""Results on disk: frames to look at, what is measured later, a video's pace, a preview."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, NUM_BOUNDARIES
from datasets.images import write_image
from datasets.panels import at_size, heatmap_picture, labelled, monitor_path, side_by_side
from datasets.prepared import PreparedFile, PreparedWriter, pack
from inference.film import Film
from inference.inputs import Input
from inference.reenactor import Result
from inference.result_page import write_result
from inference.trained import Chain
from utils.errors import DataError
from utils.files import DraftFolder, atomic_path, new_result, timestamp
from utils.video import VideoWriter, open_video, write_preview


class Kind(NamedTuple):
    """Say how an array is kept: as it is, or as whole numbers."""

    shape: tuple[int, ...]
    dtype: type
    scale: int | None = None  # whole numbers are the values times this

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Give the array its form on disk."""
        if self.scale is None:
            return array
        limits = np.iinfo(self.dtype)
        return np.rint(array * self.scale).clip(limits.min, limits.max).astype(self.dtype)

    def decode(self, array: np.ndarray) -> np.ndarray:
        """Give the array its values back."""
        return array if self.scale is None else array.astype(np.float32) / self.scale


# What is kept of each frame to be measured, by the names of `Result`. Heatmaps of fixed point are small on disk.
MEASURED = {
    "face": Kind((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8),
    "heatmap": Kind((NUM_BOUNDARIES, HEATMAP_SIZE, HEATMAP_SIZE), np.int16, scale=16384),
    "transformed": Kind((NUM_BOUNDARIES, HEATMAP_SIZE, HEATMAP_SIZE), np.int16, scale=16384),
    "generated": Kind((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8),
}
ALL_MEASURED = MEASURED | {"layout": MEASURED["generated"]}  # the last where a film painted what was generated
LAYOUTS = ("panel", "face", "side-by-side")
FRAMES_DIR, MEASURED_DIR = "result", "measured"
PREVIEW_FPS, PREVIEW_HEIGHT_PX, PREVIEW_MAX_FRAMES = 12.5, 128, 60


def lay_out(result: Result, layout: str, has_label: bool, size: int = IMAGE_SIZE) -> np.ndarray:
    """Join the pictures of a result.

    Args:
        layout: `panel` (input, heatmap, transformed heatmap, generated face and, of a data set, the true heatmap),
            `face` (the generated face alone) or `side-by-side` (input and generated face).
        has_label: with the word 'synthetic' on the generated face.
        size: of each picture, in pixels.

    Returns:
        (size, W, 3) uint8.
    """
    face, generated = at_size(result.face, size), at_size(result.generated, size)
    generated = labelled(generated) if has_label else generated
    if layout == "face":
        return generated
    if layout == "side-by-side":
        return side_by_side([face, generated])
    heatmaps = [result.heatmap, result.transformed]
    heatmaps += [] if result.true_heatmap is None else [result.true_heatmap]
    first, second, *truth = (heatmap_picture(heatmap, size) for heatmap in heatmaps)
    return side_by_side([face, first, second, generated, *truth])


def layout_size(layout: str, has_truth: bool, size: int = IMAGE_SIZE) -> tuple[int, int]:
    """Return width and height of what `lay_out` gives, in pixels."""
    tiles = {"panel": 5 if has_truth else 4, "face": 1, "side-by-side": 2}[layout]
    return tiles * size, size


class ResultWriter:
    """Write frames as pictures to look at, and in a folder of their own the arrays to measure."""

    def __init__(
        self,
        folder: Path,
        measured: dict[str, PreparedWriter],
        mark: dict[str, str],
        layout: str,
        has_label: bool,
        size: int,
        thread: ThreadPoolExecutor,
    ):
        self.folder = folder / FRAMES_DIR
        self.metrics: dict[str, dict[str, float]] = {}  # each frame's, by the name of its picture
        self._measured, self._mark, self._layout, self._has_label = measured, mark, layout, has_label
        self._size = size
        self._thread = thread  # compressing a picture takes as long as painting it
        self._written: Future[None] | None = None

    def write(self, result: Result) -> None:
        """Write a frame; of a held one there is nothing to measure. Everything is measured at 256 pixels."""
        name = monitor_path(self.folder, result.index).name
        picture = lay_out(result, self._layout, self._has_label, self._size)
        self._wait()
        self._written = self._thread.submit(write_image, self.folder / name, picture, self._mark)
        self.metrics[name] = result.metrics
        result = result._replace(generated=at_size(result.generated, IMAGE_SIZE))
        if not result.is_held:
            for part, writer in self._measured.items():
                writer.add(f"{result.index:06d}", pack(ALL_MEASURED[part].encode(getattr(result, part))))

    def finish(self) -> None:
        """Wait for the last picture, and end what is measured."""
        self._wait()
        for writer in self._measured.values():
            writer.finish()

    def _wait(self) -> None:
        if self._written is not None:
            self._written.result()


@contextmanager
def open_results(
    folder: Path, mark: dict[str, str], layout: str, has_label: bool, has_film: bool = False, size: int = IMAGE_SIZE
) -> Iterator[ResultWriter]:
    """Open a new folder of results while the block runs.

    Args:
        mark: metadata of the pictures, which say that they are generated.
        layout, has_label, size: of the pictures, as `lay_out` has them. What is measured has no label.
        has_film: whether the decoder's own images are kept as well.
    """
    with ExitStack() as stack:
        parts = ALL_MEASURED if has_film else MEASURED
        paths = {part: stack.enter_context(atomic_path(measured_path(folder, part))) for part in parts}
        writers = {part: PreparedWriter(path) for part, path in paths.items()}
        # it has ended when the block has, whatever ended that: nothing is written into a folder that is given up
        thread = stack.enter_context(ThreadPoolExecutor(1))
        results = ResultWriter(folder, writers, mark, layout, has_label, size, thread)
        yield results
        results.finish()


class MeasuredFrames:
    """Read the reenacted frames of a result one at a time, without held ones.

    Args:
        at_most: the first so many.

    Raises:
        DataError: there are none, or they are damaged.
    """

    def __init__(self, folder: Path, at_most: int):
        command = "python test_reenactment.py"
        self.has_film = measured_path(folder, "layout").exists()
        self._files = {
            part: PreparedFile(measured_path(folder, part), kind.shape, command, kind.dtype)
            for part, kind in (ALL_MEASURED if self.has_film else MEASURED).items()
        }
        names = self._files["generated"].names
        if not names or not all(name.isascii() and name.isdigit() for name in names):
            raise DataError(f"{folder}: no frame with a face in it that could be measured; run '{command}' again")
        self.total, self._names = len(names), names[:at_most]
        for file in self._files.values():
            file.require(self._names)
        self.indices = [int(name) for name in self._names]

    def read(self, part: str) -> Iterator[np.ndarray]:
        """Read `heatmap` or `transformed`, (15, 64, 64) float32, or `face` or `generated`, all as they were used."""
        for name in self._names:
            yield ALL_MEASURED[part].decode(self._files[part][name])


def measured_path(folder: Path, part: str) -> Path:
    """Return the file of a part of what is measured."""
    return folder / MEASURED_DIR / f"{part}.npz"


class ResultVideo:
    """Take the pictures of results for a video, each for as long as it is to be seen."""

    def __init__(self, writer: VideoWriter | None, fps: float, is_live: bool):
        self._writer, self._fps, self._is_live = writer, fps, is_live
        self._last: np.ndarray | None = None

    @property
    def count(self) -> int:
        """Return the number of frames so far."""
        return 0 if self._writer is None else self._writer.count

    def write(self, time_s: float, picture: np.ndarray) -> None:
        """Add a picture; a live one stays until the time of the next, so that the video runs as it came."""
        if self._writer is None:
            return
        if not self._is_live:
            self._writer.write(picture)
            return
        if self._last is not None:
            for _ in range(max(int(time_s * self._fps) - self.count, 1)):
                self._writer.write(self._last)
        self._last = picture

    def finish(self) -> None:
        """Add the picture that is left of a live input."""
        if self._last is not None:
            self._writer.write(self._last)


@contextmanager
def open_result_video(
    path: Path | None, size: tuple[int, int], frames_in: Input, comment: str, with_sound: bool
) -> Iterator[ResultVideo]:
    """Open the video of a reenactment, to write pictures to while the block runs; for None nothing is written.

    Args:
        size: (width, height) of the pictures in pixels.
        frames_in: whose rate it has and, with `with_sound`, whose sound.
        comment: kept in the file's tags.

    Raises:
        DataError: the sound cannot be decoded.
        ResourceError: encoding failed.
    """
    is_live = frames_in.camera is not None
    if path is None:
        yield ResultVideo(None, float(frames_in.fps), is_live)
        return
    has_sound = frames_in.sound is not None and with_sound
    sound = (frames_in.sound, frames_in.count / float(frames_in.fps)) if has_sound else ()
    with open_video(path, size, frames_in.fps, comment, *sound) as writer:
        video = ResultVideo(writer, float(frames_in.fps), is_live)
        yield video
        video.finish()


class Preview:
    """Collect every other of the first pictures, reduced, for a small animation."""

    def __init__(self) -> None:
        self._pictures: list[np.ndarray] = []
        self._num_seen = 0

    def add(self, picture: np.ndarray) -> None:
        """Take the next picture (H, W, 3) uint8."""
        self._num_seen += 1
        if self._num_seen % 2 and len(self._pictures) < PREVIEW_MAX_FRAMES:
            width = picture.shape[1] * PREVIEW_HEIGHT_PX // picture.shape[0]
            self._pictures.append(cv2.resize(picture, (width, PREVIEW_HEIGHT_PX), interpolation=cv2.INTER_AREA))

    def save(self, path: Path, comment: str) -> None:
        """Write the GIF."""
        write_preview(path, self._pictures, PREVIEW_FPS, comment)


class Output:
    """Take the results of a reenactment: as frames in a folder, and as a video and a preview if they are asked for.

    Attributes:
        folder: of the result; its final place once the block of `open_output` has ended.
    """

    def __init__(
        self,
        folder: DraftFolder,
        results: ResultWriter,
        video: ResultVideo,
        layout: str,
        has_label: bool,
        size: int,
    ):
        self._folder, self._results, self._video = folder, results, video
        self._layout, self._has_label, self._size = layout, has_label, size
        self.preview = Preview()
        self._record: dict[str, Any] = {}

    @property
    def folder(self) -> Path:
        """Return where the result lies."""
        return self._folder.final_path or self._folder.path

    @property
    def num_frames(self) -> int:
        """Return the number of frames so far."""
        return len(self._results.metrics)

    @property
    def num_shown(self) -> int:
        """Return the number of the video's frames so far."""
        return self._video.count

    def write(self, result: Result) -> None:
        """Write a result to all of them."""
        self._results.write(result)
        picture = lay_out(result, self._layout, self._has_label, self._size)
        self._video.write(result.time_s, picture)
        self.preview.add(picture)

    def note(self, record: dict[str, Any]) -> None:
        """Take a note of how the result was made, which is written at the end."""
        self._record = record

    def finish(self) -> None:
        """Write the note, what was measured on each frame, and a page."""
        write_result(self._folder.path, self._record, self._results.metrics)


@contextmanager
def open_output(
    args: argparse.Namespace, chain: Chain, frames_in: Input, mark: dict[str, str], film: Film | None
) -> Iterator[Output]:
    """Open what a command line wants of a reenactment; all of it is there at the end of the block, or nothing.

    Args:
        mark: metadata of all pictures and the video, which say that they are generated.
        film: that paints; pictures are of its size.
    """
    face_size = IMAGE_SIZE if film is None else film.size
    size = layout_size(args.layout, frames_in.truth is not None, face_size)
    with_sound = args.no_face != "skip"
    parent = args.out_dir / f"{chain.source}2{chain.target}"
    has_label = args.input is not None and args.label
    with new_result(parent, timestamp(), args.info) as folder:
        with (
            open_results(folder.path, mark, frame_layout(args), has_label, film is not None, face_size) as results,
            open_result_video(args.video, size, frames_in, mark["Comment"], with_sound) as video,
        ):
            output = Output(folder, results, video, args.layout, args.label, face_size)
            yield output
        output.finish()
    if args.preview is not None:
        output.preview.save(args.preview, mark["Comment"])


def frame_layout(args: argparse.Namespace) -> str:
    """Return the layout of single frames: a data set's are whole panels without a label, for research."""
    return args.layout if args.input is not None else "panel"
