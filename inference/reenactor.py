"""From face crops to reenacted faces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np

from datasets.batches import heatmap_of, to_float
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, NUM_BOUNDARIES, style_of
from datasets.film import Film
from datasets.panels import at_size, face_image
from datasets.samples import DrawnDataset
from faces.geometry import NeutralToNeutral, Shape, uncrossed
from faces.motion import Motion, is_whole
from faces.steady import SMOOTH, OneEuro
from inference.backends import Backend, open_backend
from inference.film import FilmPainter, open_painter
from inference.inputs import FaceFrame, Input, no_face_message, reason_counts, shape_of_source
from inference.networks import Networks, Trained
from utils.errors import DataError
from utils.parallel import close_iterator, prefetched

NO_FACE_CHOICES = ("hold", "skip", "fail")
RESULTS_AHEAD = 4


class Result(NamedTuple):
    """A frame and its reenactment."""

    index: int
    time_s: float
    face: np.ndarray  # (256, 256, 3) uint8, the input
    heatmap: np.ndarray  # (15, 64, 64), about [0, 1]: the source's boundaries
    transformed: np.ndarray  # (15, 64, 64) in [0, 1]: moved to the target
    generated: np.ndarray  # (S, S, 3) uint8; 256 pixels, or the film's size
    true_heatmap: np.ndarray | None = None  # (15, 64, 64) in [0, 1], for a data set
    metrics: dict[str, float] = {}
    is_held: bool = False  # repeated because there was no face
    layout: np.ndarray | None = None  # (256, 256, 3) uint8, the decoder's output if a film painted `generated`


class Reenactor:
    """Reenactment of a sequence of frames.

    Args:
        backend: runs the decoder, and encoder and transformer if they are used.
        decoder: decoder of the target, or of any person if a film paints.
        has_encoder: whether the encoder provides boundaries; otherwise they are drawn from the frames' landmarks.
        geometry: moves landmarks to the target; None uses the transformer.
        motion: selected motion of the source; None is all of it.
        batch_size: number of faces per batch.
        smooth: weight of the previous frame, in [0, 1): for the encoder's heatmaps, or for landmarks (`OneEuro`).
        fps: frame rate.
        truth: true heatmaps of a data set.
        film: paints the target; None shows the decoder's output.
        is_sequence: whether consecutive frames are related; otherwise the film starts anew with each.
    """

    def __init__(
        self,
        backend: Backend,
        decoder: Trained,
        has_encoder: bool = False,
        geometry: NeutralToNeutral | None = None,
        motion: Motion | None = None,
        batch_size: int = 1,
        smooth: float = 0.0,
        fps: float = 25.0,
        truth: DrawnDataset | None = None,
        film: FilmPainter | None = None,
        is_sequence: bool = True,
    ):
        self.is_sequence = is_sequence
        self.backend, self.geometry, self.batch_size, self.smooth = backend, geometry, batch_size, smooth
        self.has_encoder, self.truth, self.film = has_encoder, truth, film
        self._target = decoder.config.trg_celeb_name if film is None else film.film.person
        self._style = style_of(decoder.config)
        self._motion, self._filter = motion, OneEuro(smooth, fps)
        self._last_heatmap: np.ndarray | None = None

    def reenact(self, frames: Iterable[FaceFrame]) -> Iterator[Result | FaceFrame]:
        """Yield a result for each frame; frames without a face are returned unchanged."""
        for batch in in_batches(frames, self.batch_size):
            with_face = [frame for frame in batch if frame.face is not None]
            results = iter(self._reenact_batch(with_face) if with_face else ())
            for frame in batch:
                if frame.face is None:
                    self._start_anew()
                    yield frame
                else:
                    yield next(results)

    def set_smooth(self, smooth: float) -> None:
        """Change the smoothing of landmarks. Any thread may call it."""
        self._filter.smooth = smooth

    def _start_anew(self) -> None:
        self._last_heatmap = None
        self._filter.reset()
        if self.film is not None:
            self.film.reset()

    def _reenact_batch(self, frames: list[FaceFrame]) -> Iterator[Result]:
        padding = [-1] * (self.batch_size - len(frames))  # a batch is padded with its last frame
        landmarks = [self._selected(frame) for frame in frames]
        landmarks += [landmarks[i] for i in padding]
        if self.has_encoder:
            faces = np.stack([frame.face.transpose(2, 0, 1) for frame in (*frames, *(frames[i] for i in padding))])
            heatmaps = self.backend.infer("encoder", to_float(faces))  # (B, 15, 64, 64)
            if self.smooth:
                self._smooth(heatmaps[: len(frames)])
        else:
            heatmaps = np.stack([heatmap_of(face, self._style) for face in landmarks])
        moved: list[np.ndarray | None] = [None] * self.batch_size
        if self.geometry is None:
            transformed = self.backend.infer("transformer", heatmaps)  # (B, 15, 64, 64)
        else:
            moved = [self._moved(face) for face in landmarks]
            transformed = np.stack([heatmap_of(face, self._style) for face in moved])
        generated = self.backend.infer("decoder", transformed)  # (B, 3, 256, 256)
        for row, frame in enumerate(frames):
            image, layout = face_image(generated[row]), None
            if self.film is not None:
                if not self.is_sequence:
                    self.film.reset()
                image, layout = self.film.paint(transformed[row], image, moved[row]), image
            yield self._result(frame, heatmaps[row], transformed[row], image)._replace(layout=layout)

    def _smooth(self, heatmaps: np.ndarray) -> None:
        for heatmap in heatmaps:
            if self._last_heatmap is not None:
                heatmap += self.smooth * (self._last_heatmap - heatmap)
            self._last_heatmap = heatmap.copy()

    def _selected(self, frame: FaceFrame) -> np.ndarray | None:
        """Return a frame's smoothed landmarks with the selected motion."""
        if frame.landmarks is None:
            return None
        landmarks = self._filter.steady(frame.landmarks, frame.time_s)
        return landmarks if self._motion is None else self._motion.choose(landmarks)

    def _moved(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks to the target, within the range of its film."""
        moved = self.geometry.move(landmarks)
        return uncrossed(moved if self.film is None else self.film.space.toward(moved))

    def _result(self, frame: FaceFrame, heatmap: np.ndarray, transformed: np.ndarray, generated: np.ndarray) -> Result:
        result = Result(frame.index, frame.time_s, frame.face, heatmap, transformed, generated)
        if self.truth is None:
            return result
        true_heatmap = to_float(self.truth[frame.index][0])
        # relative to an all-zero prediction
        metrics = {"encoder_error": float(((heatmap - true_heatmap) ** 2).sum() / (true_heatmap**2).sum())}
        if self.truth.person == self._target:
            metrics["PSNR"] = cv2.PSNR(at_size(generated, IMAGE_SIZE), frame.face)
        return result._replace(true_heatmap=true_heatmap, metrics=metrics)


def in_batches(frames: Iterable[FaceFrame], batch_size: int) -> Iterator[list[FaceFrame]]:
    """Group frames so that a group has at most `batch_size` faces and ends at a frame without one."""
    batch: list[FaceFrame] = []
    for frame in frames:
        batch.append(frame)
        if sum(item.face is not None for item in batch) == batch_size or frame.face is None:
            yield batch
            batch = []
    if batch:
        yield batch


def open_reenactor(
    frames_in: Input,
    networks: Networks,
    context: str,
    backend: str = "auto",
    batch_size: int = 1,
    smooth: float | None = None,
    motion: str = "all",
    strength: float = 1.0,
    film: Film | None = None,
) -> Reenactor:
    """Load networks, and estimate the source's shape if landmarks are moved by geometry.

    Args:
        networks: the decoder, and encoder and transformer if they are used.
        context: nnabla's context, `cpu` or `cudnn`.
        backend: see `open_backend`.
        smooth: see `Reenactor`; None smooths only landmarks found in a film.
        motion, strength: see `Motion`.
        film: film of the target; None shows the decoder's output.

    Raises:
        ConfigError: the options do not fit together.
        DataError: there is no face.
        WeightsError: weights are missing, damaged or of another network.
    """
    decoder, geometry, source = networks["decoder"], None, None
    has_encoder = "encoder" in networks
    if "transformer" not in networks:
        target = target_shape(decoder, film)
        person = decoder.config.trg_celeb_name if film is None else film.person
        drives_itself = frames_in.truth is not None and frames_in.truth.person == person
        source = target if drives_itself else shape_of_source(frames_in)
        geometry = NeutralToNeutral(source, target)
    selected = None
    if not is_whole(motion, strength):
        selected = Motion(motion, strength, (source or shape_of_source(frames_in)).neutral)
    if smooth is None:
        smooth = SMOOTH if frames_in.truth is None and frames_in.is_film and not has_encoder else 0.0
    batch_size = min(batch_size, frames_in.count or batch_size)
    computing = open_backend(backend, context, networks, batch_size)
    return Reenactor(
        computing,
        decoder,
        has_encoder,
        geometry,
        selected,
        batch_size,
        smooth,
        float(frames_in.fps),
        frames_in.truth,
        None if film is None else open_painter(film, decoder, computing, batch_size),
        is_sequence=frames_in.names is None,
    )


def target_shape(decoder: Trained, film: Film | None) -> Shape:
    """Return the shape of the decoder's person, or the film's if that is another. Raises WeightsError if unknown."""
    return decoder.shape() if film is None or film.person == decoder.config.trg_celeb_name else film.shape


def open_decoder(decoder: Trained, context: str) -> Backend:
    """Load a decoder for single faces. Raises WeightsError if its weights are missing, damaged or do not fit."""
    return open_backend("auto", context, {"decoder": decoder}, 1)


@contextmanager
def results_of(reenactor: Reenactor, frames_in: Input, missing: MissingFaces) -> Iterator[Iterator[Result]]:
    """Yield the results of an input in order, computed ahead in a thread."""

    def reenact() -> Iterator[Result | FaceFrame]:
        try:
            yield from reenactor.reenact(frames_in.frames)
        finally:
            close_iterator(frames_in.frames)

    with prefetched(reenact(), RESULTS_AHEAD) as items:
        yield (result for result in map(missing.resolve, items) if result is not None)


class MissingFaces:
    """Handles frames without a face, and counts them.

    Args:
        choice: `hold` repeats the last result, `skip` leaves the frame out, `fail` raises an error.
    """

    def __init__(self, choice: str):
        self.choice = choice
        self.reasons: Counter[str] = Counter()
        self.num_faces = 0
        self._last: Result | None = None

    def resolve(self, item: Result | FaceFrame) -> Result | None:
        """Return the result for a frame, or None to leave it out. Raises DataError if the choice is `fail`."""
        if isinstance(item, Result):
            self.num_faces += 1
            self._last = item
            return item
        if self.choice == "fail":
            raise DataError(f"frame {item.index} at {item.time_s:.2f} s: {item.reason}; see --no-face")
        self.reasons[item.reason] += 1
        if self.choice == "skip":
            return None
        last = self._last or _EMPTY
        return last._replace(index=item.index, time_s=item.time_s, metrics={}, is_held=True)

    def require_some(self, where: str) -> None:
        """Raise a DataError if there was no face at all."""
        if self.num_faces == 0:
            raise DataError(no_face_message(where, self.reasons))

    def counts(self) -> str:
        """Format the number of frames without a face, by reason."""
        return reason_counts(self.reasons)


_BLACK = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
_NO_BOUNDARIES = np.zeros((NUM_BOUNDARIES, HEATMAP_SIZE, HEATMAP_SIZE), np.float32)
_EMPTY = Result(0, 0.0, _BLACK, _NO_BOUNDARIES, _NO_BOUNDARIES, _BLACK)
