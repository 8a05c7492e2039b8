"""Outputs of a reenactment: frames to look at, arrays to measure, and a video."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, NUM_BOUNDARIES
from datasets.images import write_image
from datasets.panels import at_size, heatmap_image, labelled, monitor_path, side_by_side
from datasets.prepared import PreparedFile, PreparedWriter, pack
from inference.inputs import Input
from inference.record import write_result
from inference.reenactor import Result
from utils.errors import DataError
from utils.files import Draft, atomic_path, new_result, timestamp
from utils.video import VideoWriter, open_video


class Kind(NamedTuple):
    """Storage of an array: unchanged, or as fixed-point integers."""

    shape: tuple[int, ...]
    dtype: type
    scale: int | None = None  # integers are the values times this

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Convert an array for storage."""
        if self.scale is None:
            return array
        limits = np.iinfo(self.dtype)
        return np.rint(array * self.scale).clip(limits.min, limits.max).astype(self.dtype)

    def decode(self, array: np.ndarray) -> np.ndarray:
        """Convert a stored array back."""
        return array if self.scale is None else array.astype(np.float32) / self.scale


_HEATMAP = Kind((NUM_BOUNDARIES, HEATMAP_SIZE, HEATMAP_SIZE), np.int16, scale=16384)
_IMAGE = Kind((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
# arrays that are stored for evaluate.py, by the fields of `Result`
MEASURED = {"face": _IMAGE, "heatmap": _HEATMAP, "transformed": _HEATMAP, "generated": _IMAGE}
ALL_MEASURED = MEASURED | {"layout": _IMAGE}  # with a film
LAYOUTS = ("panel", "face", "side-by-side")
FRAMES_DIR, MEASURED_DIR = "result", "measured"


def lay_out(result: Result, layout: str, has_label: bool, size: int = IMAGE_SIZE) -> np.ndarray:
    """Join the images of a result.

    Args:
        layout: `panel` (input, heatmap, transformed heatmap, generated face and, for a data set, the true heatmap),
            `face` (generated face) or `side-by-side` (input and generated face).
        has_label: write 'synthetic' on the generated face.
        size: width and height of each image in pixels.

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
    first, second, *truth = (heatmap_image(heatmap, size) for heatmap in heatmaps)
    return side_by_side([face, first, second, generated, *truth])


def layout_size(layout: str, has_truth: bool, size: int = IMAGE_SIZE) -> tuple[int, int]:
    """Return the (width, height) of `lay_out` in pixels."""
    tiles = {"panel": 5 if has_truth else 4, "face": 1, "side-by-side": 2}[layout]
    return tiles * size, size


class FrameWriter:
    """Writer of frames as images, and of the arrays to measure."""

    def __init__(
        self, folder: Path, measured: dict[str, PreparedWriter], metadata: dict[str, str], names: list[str] | None
    ):
        self.folder, self._names = folder / FRAMES_DIR, names
        self.metrics: dict[str, dict[str, float]] = {}  # by the name of the frame's image
        self._measured, self._metadata = measured, metadata
        self._thread = ThreadPoolExecutor(1)  # compressing an image takes as long as generating it
        self._written: Future[None] | None = None

    def write(self, result: Result, image: np.ndarray) -> None:
        """Write a frame. Held frames are not measured; all measures are taken at 256 pixels."""
        name = f"{self._names[result.index]}.png" if self._names else monitor_path(self.folder, result.index).name
        self._wait()
        self._written = self._thread.submit(write_image, self.folder / name, image, self._metadata)
        self.metrics[name] = result.metrics
        result = result._replace(generated=at_size(result.generated, IMAGE_SIZE))
        if not result.is_held:
            for part, writer in self._measured.items():
                writer.add(f"{result.index:06d}", pack(ALL_MEASURED[part].encode(getattr(result, part))))

    def finish(self) -> None:
        """Wait for the last image, and finish the arrays."""
        self._wait()
        for writer in self._measured.values():
            writer.finish()

    def close(self) -> None:
        """Wait for the thread, so that nothing is written after the block."""
        self._thread.shutdown()

    def _wait(self) -> None:
        if self._written is not None:
            self._written.result()


@contextmanager
def open_frames(
    folder: Path, metadata: dict[str, str], has_film: bool = False, names: list[str] | None = None
) -> Iterator[FrameWriter]:
    """Open a folder of frames while the block runs.

    With a film, the decoder's own output is also stored. `names` are the images' names, without endings.
    """
    with ExitStack() as stack:
        parts = ALL_MEASURED if has_film else MEASURED
        paths = {part: stack.enter_context(atomic_path(measured_path(folder, part))) for part in parts}
        frames = FrameWriter(folder, {part: PreparedWriter(path) for part, path in paths.items()}, metadata, names)
        stack.callback(frames.close)
        yield frames
        frames.finish()


class MeasuredFrames:
    """The first stored arrays of a result, without held frames. Raises DataError if they are missing or damaged."""

    def __init__(self, folder: Path, at_most: int):
        command = "python test_reenactment.py"
        self.has_film = measured_path(folder, "layout").exists()
        self._files = {
            part: PreparedFile(measured_path(folder, part), kind.shape, command, kind.dtype)
            for part, kind in (ALL_MEASURED if self.has_film else MEASURED).items()
        }
        names = self._files["generated"].names
        if not names or not all(name.isascii() and name.isdigit() for name in names):
            raise DataError(f"{folder}: no frame with a face to measure; run '{command}' again")
        self.total, self._names = len(names), names[:at_most]
        for file in self._files.values():
            file.require(self._names)
        self.indices = [int(name) for name in self._names]

    def read(self, part: str) -> Iterator[np.ndarray]:
        """Yield the arrays of a field of `Result`."""
        for name in self._names:
            yield ALL_MEASURED[part].decode(self._files[part][name])


def measured_path(folder: Path, part: str) -> Path:
    """Return the file of an array to measure."""
    return folder / MEASURED_DIR / f"{part}.npz"


class ResultVideo:
    """Writer of a video; frames of a live input are shown until the next one arrives."""

    def __init__(self, writer: VideoWriter | None, fps: float, is_live: bool):
        self._writer, self._fps, self._is_live = writer, fps, is_live
        self._last: np.ndarray | None = None

    @property
    def count(self) -> int:
        """Return the number of frames so far."""
        return 0 if self._writer is None else self._writer.count

    def write(self, time_s: float, image: np.ndarray) -> None:
        """Append an image."""
        if self._writer is None:
            return
        if not self._is_live:
            self._writer.write(image)
            return
        if self._last is not None:
            for _ in range(max(int(time_s * self._fps) - self.count, 1)):
                self._writer.write(self._last)
        self._last = image

    def finish(self) -> None:
        """Append the last image of a live input."""
        if self._last is not None:
            self._writer.write(self._last)


@contextmanager
def open_result_video(
    path: Path | None, size: tuple[int, int], frames_in: Input, comment: str, with_sound: bool
) -> Iterator[ResultVideo]:
    """Open the video of a reenactment for writing while the block runs; with None, nothing is written.

    Args:
        size: (width, height) of the images in pixels.
        frames_in: input, which provides frame rate and sound.

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


class OutputOptions(NamedTuple):
    """Options of the output."""

    parent: Path  # folder of the result folders
    info: str = ""  # appended to the name of the result folder
    layout: str = "panel"
    has_label: bool = True  # write 'synthetic' on the generated face
    video: Path | None = None
    with_sound: bool = True
    size: int = IMAGE_SIZE  # width and height of each image in pixels


class Output:
    """Writer of results: frames in a folder, and a video if it is requested."""

    def __init__(self, draft: Draft, frames: FrameWriter, video: ResultVideo, options: OutputOptions, is_data: bool):
        self.folder, self._draft = draft.final_path, draft.path
        self._frames, self._video, self._options, self._is_data = frames, video, options, is_data
        self._record: dict[str, Any] = {}

    @property
    def num_frames(self) -> int:
        """Return the number of frames so far."""
        return len(self._frames.metrics)

    @property
    def num_shown(self) -> int:
        """Return the number of frames of the video so far."""
        return self._video.count

    def write(self, result: Result) -> None:
        """Write a result."""
        options = self._options
        image = lay_out(result, options.layout, options.has_label, options.size)
        self._video.write(result.time_s, image)
        if self._is_data:  # panels without a label, for research
            image = lay_out(result, "panel", False, options.size)
        self._frames.write(result, image)

    def note(self, record: dict[str, Any]) -> None:
        """Set the record of how the result was made."""
        self._record = record

    def finish(self) -> None:
        """Write record, metrics and page."""
        write_result(self._draft, self._record, self._frames.metrics)


@contextmanager
def open_output(options: OutputOptions, frames_in: Input, metadata: dict[str, str], has_film: bool) -> Iterator[Output]:
    """Open the output of a reenactment, with metadata that mark it as generated.

    All files get their final names when the block ends without an error.
    """
    size = layout_size(options.layout, frames_in.truth is not None, options.size)
    with new_result(options.parent, timestamp(), options.info) as draft:
        with (
            open_frames(draft.path, metadata, has_film, frames_in.names) as frames,
            open_result_video(options.video, size, frames_in, metadata["Comment"], options.with_sound) as video,
        ):
            output = Output(draft, frames, video, options, frames_in.truth is not None)
            yield output
        output.finish()
