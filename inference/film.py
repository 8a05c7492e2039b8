"""Painting with a film: the decoder provides the layout of the face, frames of the target's own film the pixels.

Each of three regions (mouth, eyes with brows, the rest) is painted from the film's most similar frame. The frame is
warped by a thin plate spline on landmarks, if they are known, and by the optical flow between two decoder outputs: for
the requested boundaries and for the frame's own. Both come from the same network, so any person's decoder will do.
This is not part of the paper (docs/FIDELITY.md).
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from datasets.batches import heatmap_of
from datasets.boundary import CHANNELS, HEATMAP_SIZE, IMAGE_SIZE, DrawingStyle, style_of
from datasets.film import EYE_PARTS, REST_PART, Film
from datasets.panels import at_size, face_image
from faces.geometry import similarity
from faces.landmarks import MOUTH, brow_heights, opening_of_eyes, pupil_offsets
from faces.space import FaceSpace
from inference.backends import Backend, cache_folder
from inference.networks import Trained, index_batches
from utils.files import atomic_path, file_digest, remove

LIPS = [index for name, index in CHANNELS.items() if "lip" in name]
EYES_AND_BROWS = [index for name, index in CHANNELS.items() if "eye" in name or "brow" in name]
TIED = np.r_[0:33:2, 33:51:2, 51:60, 60:76:2, 76:96:2, 96, 97]  # landmarks that the spline is fitted to
END = IMAGE_SIZE - 1
RIM = np.array([[x, y] for y in (0, END / 2, END) for x in (0, END / 2, END) if (x, y) != (END / 2, END / 2)])
RING = np.deg2rad(np.arange(180, 361, 30))  # around the upper half of the head
SMOOTHING = (8.0, 1.0, 8.0)  # of each region's spline; with less, closed lips fold
STEPS_PX = (4, 4, 8)  # grid of each region's spline
KEEP, KEEP_PX = 1.0, 0.5  # a frame is kept until another is better by this fraction plus these squared pixels
FADE = 0.2  # weight of a new frame increases by this much per result
PLACE, GAZE, LID, BROW = 0.15, 8.0, 6.0, 2.5  # weights in the choice of frames
FLOW_BLUR_PX = 3.0
TRUST, TRUST_BLUR_PX = 9.0, 3.0  # difference of layouts at which the film fades, relative to the decoder's error
SHADING, SHADING_PX = 0.7, 1.7  # weight and scale of the decoder's shading
REST = 2  # index of the last region
MIN_BOX_PX = 64  # smallest box for optical flow

Box = tuple[slice, slice]  # rows and columns of an image


def masks_of(heatmap: np.ndarray) -> list[np.ndarray]:
    """Return soft masks (64, 64), which sum to 1, of mouth, eyes with brows, and rest of a heatmap (15, 64, 64)."""

    def region(channels: list[int], blur_px: float) -> np.ndarray:
        mask = cv2.GaussianBlur(cv2.dilate(heatmap[channels].max(axis=0), np.ones((5, 5))), (0, 0), blur_px)
        return np.clip(1.6 * mask / (mask.max() + 1e-6), 0, 1)

    mouth = region(LIPS, 2.5)
    eyes = region(EYES_AND_BROWS, 2.0) * (1 - mouth)
    return [mouth, eyes, np.clip(1 - mouth - eyes, 0, 1)]


@lru_cache(maxsize=1)
def _grid() -> np.ndarray:
    """Return x and y of each pixel, (256, 256, 2) float32."""
    return np.stack(np.meshgrid(np.arange(IMAGE_SIZE), np.arange(IMAGE_SIZE)), axis=-1).astype(np.float32)


class Spline:
    """A thin plate spline from points of a result to points of any frame (Bookstein, 1989).

    Args:
        points: (N, 2) in pixels of the result.
        smoothing: 0 interpolates the points exactly.
        box: part of the result to compute.
        step: grid spacing in pixels; between grid points the spline is linear.
    """

    def __init__(self, points: np.ndarray, smoothing: float, box: Box, step: int):
        count = len(points)
        system = np.zeros((count + 3, count + 3))
        system[:count, :count] = _kernel(points, points) + smoothing * np.eye(count)
        system[:count, count:] = np.column_stack([np.ones(count), points])
        system[count:, :count] = system[:count, count:].T
        inverse = np.linalg.inv(system)[:, :count]
        height, width = (part.stop - part.start for part in box)
        rows, columns = math.ceil(height / step), math.ceil(width / step)
        y = box[0].start + (np.arange(rows) + 0.5) * height / rows - 0.5
        x = box[1].start + (np.arange(columns) + 0.5) * width / columns - 0.5
        coarse = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        affine = np.column_stack([np.ones(len(coarse)), coarse]) @ inverse[count:]
        # float32 is twice as fast, with an error of up to 0.1 pixels
        kernel = _kernel(coarse.astype(np.float32), points.astype(np.float32))
        self._weights = kernel @ inverse[:count].astype(np.float32) + affine.astype(np.float32)
        self._points, self._shape, self._box = points, (rows, columns), box

    def places(self, points: np.ndarray) -> np.ndarray:
        """Return where the box's pixels come from, (h, w, 2) float32, if the spline's points come from `points`."""
        grid = _grid()[self._box]
        moved = (self._weights @ (points - self._points).astype(np.float32)).reshape(*self._shape, 2)
        return grid + cv2.resize(moved, grid.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _kernel(places: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Compute r^2 log r between places (M, 2) and points (N, 2), (M, N)."""
    (x, y), (other_x, other_y) = places.T, points.T
    squared = (x[:, None] - other_x) ** 2 + (y[:, None] - other_y) ** 2
    return 0.5 * squared * np.log(squared + places.dtype.type(1e-9))


class Choice:
    """The frame used for a region, and the previous one while it fades out."""

    def __init__(self) -> None:
        self.frame, self.before, self.share = -1, -1, 1.0

    def take(self, distances: np.ndarray, keep_px: float) -> None:
        """Switch to the nearest frame, unless the current one is almost as near."""
        best = int(distances.argmin())
        if self.frame < 0:
            self.frame = best
        elif distances[self.frame] > distances[best] * (1 + KEEP) + keep_px:
            self.before, self.frame, self.share = self.frame, best, 0.0
        self.share = min(self.share + FADE, 1.0)

    def layers(self) -> list[tuple[int, float]]:
        """Return the frames to blend, with their weights."""
        if self.share == 1.0:
            return [(self.frame, 1.0)]
        return [(self.frame, self.share), (self.before, 1 - self.share)]


class Canvas:
    """A weighted mean of layers, each in a box of a 256-pixel image."""

    def __init__(self, *shape: int):
        self.image, self._weight = np.zeros(shape, np.float32), np.zeros(shape[:2], np.float32)
        self._factor = shape[0] // IMAGE_SIZE

    def add(self, box: Box, layer: np.ndarray, weight: np.ndarray) -> None:
        """Add a layer uint8 of a box at the canvas's resolution, with weights (h, w) at 256 pixels."""
        box = tuple(slice(part.start * self._factor, part.stop * self._factor) for part in box)
        weight = cv2.resize(weight, layer.shape[1::-1])
        self.image[box] = cv2.blendLinear(self.image[box], layer.astype(np.float32), self._weight[box], weight)
        self._weight[box] += weight


class FilmPainter:
    """Painter of faces from a film.

    Args:
        film: film of the target.
        layouts: (N, 256, 256) uint8 grey, the decoder's output for the film's own boundaries.
        is_own: whether the decoder was trained on the film's person. If so, its output replaces the film where the
            film does not fit.
    """

    def __init__(self, film: Film, layouts: np.ndarray, is_own: bool):
        self.film, self._layouts, self.space = film, layouts, FaceSpace(film.landmarks)
        self._small = np.stack([_small(layout) for layout in layouts])
        self._pupils, self._lids, self._brows = (
            measure(film.landmarks) for measure in (pupil_offsets, opening_of_eyes, brow_heights)
        )
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(1)  # half the resolution
        # a robust mean: areas beyond the image's edge say nothing about the decoder
        frames = film.reduced(IMAGE_SIZE).frames
        errors = [np.percentile(cv2.absdiff(_grey(frame), own), 75) for frame, own in zip(frames, layouts)]
        self._trust = max(TRUST * float(np.mean(errors)), 1.0) if is_own else None
        self.reset()

    def reset(self) -> None:
        """Start a new sequence."""
        self._choices = [Choice() for _ in range(3)]

    def paint(self, heatmap: np.ndarray, image: np.ndarray, landmarks: np.ndarray | None) -> np.ndarray:
        """Paint a face, (S, S, 3) uint8 at the film's resolution.

        Args:
            heatmap: (15, 64, 64), the decoder's input.
            image: (256, 256, 3) uint8, the decoder's output.
            landmarks: (98, 2) in pixels, or None if unknown.
        """
        layout, masks = _grey(image), masks_of(heatmap)
        distances = self._distances(layout, masks) if landmarks is None else self._distances_to(landmarks)
        asked = None if landmarks is None else _tied(landmarks, landmarks)
        size, large = self.film.size, self.film.size // IMAGE_SIZE
        canvas, warped = Canvas(size, size, 3), Canvas(IMAGE_SIZE, IMAGE_SIZE)  # film and layouts, warped alike
        for number, (choice, mask, apart) in enumerate(zip(self._choices, masks, distances)):
            choice.take(apart, 0.0 if landmarks is None else KEEP_PX)
            mask = cv2.resize(mask, (IMAGE_SIZE, IMAGE_SIZE))
            box = _box(mask)
            spline = None if asked is None else Spline(asked, SMOOTHING[number], box, STEPS_PX[number])
            for frame, share in choice.layers():
                places = _grid()[box]
                if spline is not None:
                    places = spline.places(_tied(self.film.landmarks[frame], landmarks))
                if spline is None or number == REST:
                    places = self._corrected(places, layout[box], self._layouts[frame])
                part = mask[box] * np.float32(share)
                canvas.add(box, _remap(self.film.frames[frame], _enlarged(places, large), cv2.INTER_CUBIC), part)
                if self._trust is not None:
                    warped.add(box, _remap(self._layouts[frame], places, cv2.INTER_LINEAR), part)
        painted = canvas.image
        if self._trust is not None:
            painted = self._mixed(painted, warped.image, image, layout)
        return np.clip(painted + 0.5, 0, 255).astype(np.uint8)

    def _corrected(self, places: np.ndarray, layout: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Correct source positions (h, w, 2) by the optical flow between two layouts, at half the resolution."""
        height, width = layout.shape
        size = math.ceil(width / 2), math.ceil(height / 2)
        places, layout = (cv2.resize(array, size, interpolation=cv2.INTER_AREA) for array in (places, layout))
        flow = self._flow.calc(layout, _remap(own, places, cv2.INTER_LINEAR), None)
        flow = cv2.GaussianBlur(flow, (0, 0), FLOW_BLUR_PX / 2)
        corrected = _remap(places, _grid()[: size[1], : size[0]] + flow, cv2.INTER_LINEAR)
        return cv2.resize(corrected, (width, height), interpolation=cv2.INTER_LINEAR)

    def _mixed(self, painted: np.ndarray, warped: np.ndarray, image: np.ndarray, layout: np.ndarray) -> np.ndarray:
        """Blend the film with the decoder's output where layouts differ, and add some of the decoder's shading."""
        size = len(painted)
        apart = cv2.GaussianBlur(np.abs(layout - warped), (0, 0), TRUST_BLUR_PX)
        share = cv2.resize(np.exp(-((apart / self._trust) ** 2)), (size, size))
        image = at_size(image, size).astype(np.float32)
        shading = cv2.GaussianBlur(image - painted, (0, 0), SHADING_PX * size / IMAGE_SIZE)
        return cv2.blendLinear(painted + SHADING * shading, image, share, 1 - share)

    def _distances(self, layout: np.ndarray, masks: list[np.ndarray]) -> list[np.ndarray]:
        """Compare the layout with those of all frames, within each mask."""
        squares = (self._small - _small(layout)) ** 2
        return [(squares * mask).sum(axis=(1, 2)) for mask in masks]

    def _distances_to(self, landmarks: np.ndarray) -> list[np.ndarray]:
        """Compare landmarks with those of all frames, in squared pixels."""

        def shape(part: slice | np.ndarray) -> np.ndarray:
            own, theirs = landmarks[part] - landmarks[part].mean(axis=0), self.film.landmarks[:, part]
            theirs = theirs - theirs.mean(axis=1, keepdims=True)
            return ((own - theirs) ** 2).sum(axis=2).mean(axis=1) + PLACE * place

        place = ((landmarks.mean(axis=0) - self.film.landmarks.mean(axis=1)) ** 2).sum(axis=1)
        gaze = GAZE * ((pupil_offsets(landmarks) - self._pupils) ** 2).sum(axis=(-1, -2))
        lids = LID * ((opening_of_eyes(landmarks) - self._lids) ** 2).sum(axis=-1)
        rest = ((landmarks[REST_PART] - self.film.landmarks[:, REST_PART]) ** 2).sum(axis=2).mean(axis=1)
        brows = BROW * ((brow_heights(landmarks) - self._brows) ** 2).sum(axis=-1)
        return [shape(MOUTH), shape(EYE_PARTS) + gaze + lids + brows, rest]


def _enlarged(places: np.ndarray, factor: int) -> np.ndarray:
    """Scale source positions (h, w, 2) of 256-pixel images to images `factor` times as large."""
    if factor == 1:
        return places
    height, width = places.shape[:2]
    return cv2.resize((places + 0.5) * factor - 0.5, (width * factor, height * factor), interpolation=cv2.INTER_LINEAR)


def _tied(own: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the control points of a frame with landmarks `own` that is warped to `asked`."""
    ring = asked.mean(axis=0) + np.column_stack([np.cos(RING), np.sin(RING)]) * 0.95 * np.ptp(asked, axis=0)
    return np.vstack([own[TIED], similarity(asked, own)(ring), RIM])


def open_painter(film: Film, decoder: Trained, backend: Backend, batch_size: int) -> FilmPainter:
    """Open a painter. The decoder's layouts of the film are cached beside the film's file."""
    path = None
    if film.path is not None:
        digest = hashlib.sha256(f"{file_digest(film.path)} {file_digest(decoder.weights)}".encode()).hexdigest()
        path = cache_folder(film.path.parent) / f".{film.path.stem}.{digest[:20]}.npy"
    layouts = None if path is None else _read_layouts(path, len(film.frames))
    if layouts is None:
        layouts = _lay_out(film, style_of(decoder.config), backend, batch_size)
        if path is not None:
            for old in path.parent.glob(f".{film.path.stem}.*.npy"):  # of an earlier film or other weights
                remove(old)
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.save(file, layouts)
    return FilmPainter(film, layouts, is_own=decoder.config.trg_celeb_name == film.person)


def _read_layouts(path: Path, count: int) -> np.ndarray | None:
    try:
        layouts = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return layouts if layouts.shape == (count, IMAGE_SIZE, IMAGE_SIZE) and layouts.dtype == np.uint8 else None


def _lay_out(film: Film, style: DrawingStyle, backend: Backend, batch_size: int) -> np.ndarray:
    """Run the decoder on the boundaries of each frame of a film, (N, 256, 256) uint8 grey."""
    layouts = []
    for indices, count in index_batches(len(film.frames), batch_size):
        heatmaps = np.stack([heatmap_of(film.landmarks[index], style) for index in indices])
        images = backend.infer("decoder", heatmaps)[:count]  # (count, 3, 256, 256)
        layouts += [_grey(face_image(image)) for image in images]
    return np.stack(layouts)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _small(layout: np.ndarray) -> np.ndarray:
    return cv2.resize(layout, (HEATMAP_SIZE, HEATMAP_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)


def _box(mask: np.ndarray) -> Box:
    """Return the bounding box of a mask, at least `MIN_BOX_PX` wide and high."""
    slices = []
    for axis in (1, 0):
        there = np.flatnonzero(mask.max(axis=axis) > 0.01)
        low, high = (int(there[0]), int(there[-1]) + 1) if len(there) else (0, IMAGE_SIZE)
        grow = max(MIN_BOX_PX - (high - low), 16) // 2
        low = max(min(low - grow, IMAGE_SIZE - MIN_BOX_PX), 0)
        slices.append(slice(low, min(max(high + grow, low + MIN_BOX_PX), IMAGE_SIZE)))
    return slices[0], slices[1]


def _remap(image: np.ndarray, places: np.ndarray, interpolation: int) -> np.ndarray:
    return cv2.remap(image, places, None, interpolation, borderMode=cv2.BORDER_REPLICATE)
