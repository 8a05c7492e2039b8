"""From faces of the source to faces of the target: encoder, transformer, decoder on one batch after another.

Nothing here knows what computes: a backend is anything with an `infer` (backends.py has two).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from datasets.batches import heatmap_of, to_float
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, NUM_BOUNDARIES, DrawingStyle
from datasets.panels import at_size, face_picture
from datasets.samples import DrawnDataset
from inference.film import FilmPainter
from inference.geometry import uncrossed
from inference.motion import Motion
from inference.pictures import FaceFrame
from inference.steady import OneEuro
from models.networks import MODULES
from utils.errors import DataError

NO_FACE_CHOICES = ("hold", "skip", "fail")


class Backend(Protocol):
    """Say what the pipeline asks of a backend."""

    name: str

    def infer(self, module: str, x: np.ndarray) -> np.ndarray:
        """Run a network on a batch (B, C, H, W) float32; its output belongs to the caller."""
        ...


class Geometry(Protocol):
    """Say what moves landmarks to the target."""

    def move(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks (98, 2) in pixels of the face's picture."""
        ...


class Result(NamedTuple):
    """Hold a frame and what was made of it."""

    index: int
    time_s: float
    face: np.ndarray  # (256, 256, 3) uint8, the input
    heatmap: np.ndarray  # (15, 64, 64), about [0, 1]: the encoder's, steadied where that is asked for
    transformed: np.ndarray  # (15, 64, 64) in (0, 1)
    generated: np.ndarray  # (256, 256, 3) uint8, or as large as the film's frames
    true_heatmap: np.ndarray | None = None  # (15, 64, 64) in [0, 1], of a data set
    metrics: dict[str, float] = {}  # what can be measured on the frame
    is_held: bool = False  # the result before, where there was no face
    layout: np.ndarray | None = None  # (256, 256, 3) uint8, the decoder's own image, where a film painted `generated`


class Reenactor:
    """Turn frames into results, in order; heatmaps can be steadied over time.

    Args:
        backend: computes `encoder`, `transformer` and `decoder`, or as many of them as are needed.
        networks: names of those that take part. Without an encoder boundaries are drawn from the frames' landmarks.
        geometry: moves landmarks to the target if no transformer does it.
        style: how boundaries are drawn for the networks.
        motion: what of the landmarks' motion counts; None is all of it.
        batch_size: faces at a time; the same results.
        smooth: the share that comes from the frame before, from 0 to below 1: of an encoder's heatmap, or of landmarks
            while a face rests (`OneEuro`).
        fps: of the frames.
        truth: true heatmaps of the frames, where they are a data set's.
        target: who is shown; if it is the source as well, the real frame says how good the result is.
        film: paints the decoder's layout with frames of the target; None shows the decoder's own image.
    """

    def __init__(
        self,
        backend: Backend,
        batch_size: int = 1,
        smooth: float = 0.0,
        truth: DrawnDataset | None = None,
        target: str = "",
        networks: Collection[str] = MODULES,
        geometry: Geometry | None = None,
        style: DrawingStyle = DrawingStyle(),
        motion: Motion | None = None,
        fps: float = 25.0,
        film: FilmPainter | None = None,
    ):
        self.networks, self.geometry, self.style = networks, geometry, style
        self.backend, self.batch_size, self.smooth = backend, batch_size, smooth
        self.truth, self.target, self.film = truth, target, film
        self._last_heatmap: np.ndarray | None = None
        self._motion, self._filter = motion, OneEuro(smooth, fps)

    def reenact(self, frames: Iterable[FaceFrame]) -> Iterator[Result | FaceFrame]:
        """Give a result for each frame with a face; a frame without one comes back as it is."""
        for batch in in_batches(frames, self.batch_size):
            seen = [frame for frame in batch if frame.face is not None]
            results = iter(self._reenact_batch(seen) if seen else ())
            for frame in batch:
                if frame.face is None:
                    self._last_heatmap = None
                    self._filter.reset()
                    if self.film is not None:
                        self.film.reset()
                    yield frame
                else:
                    yield next(results)

    def _reenact_batch(self, frames: list[FaceFrame]) -> Iterator[Result]:
        # a batch that is not full is filled up with its last frame
        rows = [*frames, *[frames[-1]] * (self.batch_size - len(frames))]
        landmarks = [self._chosen(frame) for frame in frames]
        landmarks += [landmarks[-1]] * (len(rows) - len(frames))
        if "encoder" in self.networks:
            faces = to_float(np.stack([frame.face.transpose(2, 0, 1) for frame in rows]))  # (B, 3, 256, 256)
            heatmaps = self.backend.infer("encoder", faces)  # (B, 15, 64, 64)
            if self.smooth:
                self._steady(heatmaps[: len(frames)])
        else:
            heatmaps = np.stack([heatmap_of(marks, self.style) for marks in landmarks])
        moved: list[np.ndarray | None] = [None] * len(rows)
        if self.geometry is None:
            transformed = self.backend.infer("transformer", heatmaps)  # (B, 15, 64, 64)
        else:
            moved = [self._moved(marks) for marks in landmarks]
            transformed = np.stack([heatmap_of(marks, self.style) for marks in moved])
        generated = self.backend.infer("decoder", transformed)  # (B, 3, 256, 256)
        for row, frame in enumerate(frames):
            image, layout = face_picture(generated[row]), None
            if self.film is not None:
                image, layout = self.film.paint(transformed[row], image, moved[row]), image
            yield self._result(frame, heatmaps[row], transformed[row], image)._replace(layout=layout)

    def steady(self, smooth: float) -> None:
        """Change the share of landmarks that comes from the frame before, at any time."""
        self._filter.smooth = smooth

    def _steady(self, heatmaps: np.ndarray) -> None:
        for heatmap in heatmaps:
            if self._last_heatmap is not None:
                heatmap += self.smooth * (self._last_heatmap - heatmap)
            self._last_heatmap = heatmap.copy()

    def _chosen(self, frame: FaceFrame) -> np.ndarray | None:
        """Return a frame's landmarks, steadied, with the motion that counts."""
        if frame.landmarks is None:
            return None
        marks = self._filter.steady(frame.landmarks, frame.time_s)
        return marks if self._motion is None else self._motion.choose(marks)

    def _moved(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks to the target, as far as its face makes them."""
        moved = self.geometry.move(landmarks)
        return uncrossed(moved if self.film is None else self.film.space.toward(moved))

    def _result(self, frame: FaceFrame, heatmap: np.ndarray, transformed: np.ndarray, generated: np.ndarray) -> Result:
        true_heatmap, metrics = None, {}
        if self.truth is not None:
            true_heatmap = to_float(self.truth[frame.index][0])
            # a share of an all-zero prediction's
            metrics["encoder_error"] = float(((heatmap - true_heatmap) ** 2).sum() / (true_heatmap**2).sum())
            if self.truth.person == self.target:
                metrics["psnr"] = cv2.PSNR(at_size(generated, IMAGE_SIZE), frame.face)
        return Result(
            index=frame.index,
            time_s=frame.time_s,
            face=frame.face,
            heatmap=heatmap,
            transformed=transformed,
            generated=generated,
            true_heatmap=true_heatmap,
            metrics=metrics,
        )


def in_batches(frames: Iterable[FaceFrame], batch_size: int) -> Iterator[list[FaceFrame]]:
    """Group frames in order, with at most so many faces together."""
    batch: list[FaceFrame] = []
    for frame in frames:
        batch.append(frame)
        if sum(item.face is not None for item in batch) == batch_size or frame.face is None:
            yield batch
            batch = []
    if batch:
        yield batch


class MissingFaces:
    """Decide what becomes of frames without a face, and count them.

    Args:
        choice: `hold` repeats the last result, `skip` leaves the frame out, `fail` is an error.
    """

    def __init__(self, choice: str):
        self.choice = choice
        self.reasons: Counter[str] = Counter()
        self.num_faces = 0
        self._last: Result | None = None

    def resolve(self, item: Result | FaceFrame) -> Result | None:
        """Return the result for a frame; None where it is left out.

        Raises:
            DataError: the frame has no face, and `fail` was chosen.
        """
        if isinstance(item, Result):
            self.num_faces += 1
            self._last = item
            return item
        if self.choice == "fail":
            raise DataError(f"frame {item.index} at {item.time_s:.2f} s: {item.reason}; see --no-face")
        self.reasons[item.reason] += 1
        return self._held(item) if self.choice == "hold" else None

    def _held(self, frame: FaceFrame) -> Result:
        last = self._last or _EMPTY  # before the first face there is nothing to hold
        return last._replace(index=frame.index, time_s=frame.time_s, metrics={}, is_held=True)

    def require_some(self, where: str) -> None:
        """Raise a DataError if there was no face at all in `where`."""
        if self.num_faces == 0:
            raise DataError(no_face_words(where, self.reasons))

    def words(self) -> str:
        """Say how many frames were without a face, by reason."""
        return count_words(self.reasons)


def count_words(reasons: Counter[str]) -> str:
    """Say how often each reason came, the most frequent first."""
    return ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())


def no_face_words(where: str, reasons: Counter[str]) -> str:
    """Say that there is no face in an input, and why not."""
    return f"{where}: no usable face in {reasons.total()} frames ({count_words(reasons)})"


_BLACK = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
_NO_LINES = np.zeros((NUM_BOUNDARIES, HEATMAP_SIZE, HEATMAP_SIZE), np.float32)
_EMPTY = Result(index=0, time_s=0.0, face=_BLACK, heatmap=_NO_LINES, transformed=_NO_LINES, generated=_BLACK)
