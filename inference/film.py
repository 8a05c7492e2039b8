"""Painting with a film: a decoder lays out the face, frames of the target's own video give its pixels.

For each result and each of three regions (mouth, eyes with brows, the rest), the film's frame that fits best is warped
to the boundaries asked for: by a thin plate spline on landmarks, where landmarks are asked for, then by the optical
flow between two decoder images, the one asked for and the one of that frame's own boundaries. Both images come from the
same network, so the decoder may be anybody's. This is not part of the paper (docs/FIDELITY.md).
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image

from config.config_decoder import DecoderConfig
from datasets.batches import heatmap_of
from datasets.boundary import CHANNELS, HEATMAP_SIZE, IMAGE_SIZE, NUM_LANDMARKS, DrawingStyle, style_of
from datasets.celebv import FROM_LANDMARKS, LARGE_FOLDER, PERSON_FILE, list_path, read_frame, read_person
from datasets.panels import at_size, face_picture
from inference.geometry import Shape, shape_of, similarity
from inference.onnx_export import cache_folder
from inference.space import FaceSpace
from inference.trained import Trained, index_batches
from utils.ending import remove
from utils.errors import DataError, one_line
from utils.files import atomic_path, file_digest, open_file

if TYPE_CHECKING:
    from inference.reenactor import Backend

FILM_FILE = "film.npz"  # in a decoder's run, beside its weights
MAX_FRAMES, NUM_FRAMES = 300, 200
SIZES = (256, 512)  # pixels of a film's frames
MAX_FILM_BYTES = 64 << 20
JPEG_QUALITY = 95

LIPS = [index for name, index in CHANNELS.items() if "lip" in name]
EYES_AND_BROWS = [index for name, index in CHANNELS.items() if "eye" in name or "brow" in name]
PUPILS = ((60, 64, 96), (68, 72, 97))  # corners and pupil
LIDS = ((62, 66), (70, 74))  # upper and lower lid
EYE_PARTS, MOUTH_PART, REST_PART = np.r_[33:51, 60:76], np.r_[76:96], np.r_[0:33, 51:60]
TIED = np.r_[0:33:2, 33:51:2, 51:60, 60:76:2, 76:96:2, 96, 97]  # landmarks that the spline is tied to
END = IMAGE_SIZE - 1
RIM = np.array([[x, y] for y in (0, END / 2, END) for x in (0, END / 2, END) if (x, y) != (END / 2, END / 2)])
RING = np.deg2rad(np.arange(180, 361, 30))  # about the upper half of the head
SMOOTHING = (8.0, 1.0, 8.0)  # of the splines of the regions; with less, shut lips fold
STEPS_PX = (4, 4, 8)  # distances at which the spline is computed, of the regions
KEEP, KEEP_PX = 1.0, 0.5  # a frame is kept until another is better by this share and so many squared pixels
FADE = 0.2  # share of a new frame that is added with each result
PLACE, GAZE, LID, BROW = 0.15, 8.0, 6.0, 2.5  # weights in the choice of frames
FLOW_BLUR_PX = 3.0
TRUST, TRUST_BLUR_PX = 9.0, 3.0  # difference of layouts at which the film fades, in the decoder's own error
SHADING, SHADING_PX = 0.7, 1.7  # share of the decoder's shading, and its scale
REST = 2  # the number of the last region
MIN_BOX_PX = 64  # the least that optical flow is computed on

Box = tuple[slice, slice]  # rows and columns of an image


class Film(NamedTuple):
    """Well-spread frames of one person."""

    person: str
    frames: list[np.ndarray]  # (256, 256, 3) or (512, 512, 3) uint8, all alike
    landmarks: np.ndarray  # (N, 98, 2) in pixels of 256
    shape: Shape  # by all frames of the person, not only these
    path: Path | None = None  # the file that it was read from

    @property
    def size(self) -> int:
        """Return the width and height of its frames in pixels."""
        return len(self.frames[0])

    def reduced(self, size: int) -> Film:
        """Return the film with frames of at most a size in pixels."""
        return self if self.size <= size else self._replace(frames=[at_size(frame, size) for frame in self.frames])


def spread(landmarks: np.ndarray, count: int) -> list[int]:
    """Choose frames that are as different as possible: each is the farthest from those chosen before it.

    Args:
        landmarks: (N, 98, 2) in pixels.
        count: the number of frames.

    Returns:
        their numbers, in order.
    """
    parts = [landmarks[:, part] - landmarks[:, part].mean(axis=1, keepdims=True) for part in (MOUTH_PART, EYE_PARTS)]
    parts += [landmarks[:, REST_PART] / 2, 2 * pupils_of(landmarks)]
    features = np.concatenate([part.reshape(len(landmarks), -1) / np.sqrt(part.shape[1]) for part in parts], axis=1)
    first = int(((features - features.mean(axis=0)) ** 2).sum(axis=1).argmin())
    chosen, nearest = [first], ((features - features[first]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(landmarks)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((features - features[chosen[-1]]) ** 2).sum(axis=1))
    return sorted(chosen)


def write_film(path: Path, film: Film) -> None:
    """Write a film, its frames as JPEG files in an npz archive.

    Raises:
        ResourceError: the disk is full.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    files = [cv2.imencode(".jpg", frame[..., ::-1], options)[1].ravel() for frame in film.frames]
    arrays = {f"frame_{number:03d}": data for number, data in enumerate(files)}
    with atomic_path(path) as temporary:
        landmarks = {"landmarks": film.landmarks.astype(np.float32), "shape": np.stack(film.shape)}
        with open(temporary, "wb") as file:  # np.savez appends .npz to other names
            np.savez(file, person=film.person, **landmarks, **arrays)


def read_film(path: Path, person: str | None = None) -> Film:
    """Read a film, of `person` if that is given.

    Raises:
        DataError: the file is missing, damaged, too large, or of another person.
    """
    try:
        with open_file(path) as opened, zipfile.ZipFile(opened) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_FILM_BYTES:
                raise DataError(f"{path}: larger than {MAX_FILM_BYTES >> 20} MiB, the most that a film may have")
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as arrays:
                found, points = str(arrays["person"]), [arrays[name].astype(float) for name in ("landmarks", "shape")]
                names = sorted(name for name in arrays.files if name.startswith("frame_"))[: MAX_FRAMES + 1]
                frames = [_decoded(arrays[name]) for name in names]
    except FileNotFoundError:
        raise DataError(f"{path}: no such film") from None
    except (OSError, ValueError, KeyError, TypeError, MemoryError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a complete film ({one_line(error)}); make it again") from None
    landmarks, shape = points
    sizes = {None if frame is None else len(frame) for frame in frames}
    if len(sizes) != 1 or None in sizes or landmarks.shape != (len(frames), NUM_LANDMARKS, 2):
        raise DataError(
            f"{path}: not a film of pictures of one size, with {NUM_LANDMARKS} landmarks each; make it again"
        )
    if len(frames) > MAX_FRAMES or shape.shape != (2, NUM_LANDMARKS, 2):
        raise DataError(f"{path}: not a film of 1 to {MAX_FRAMES} frames and a neutral face; make it again")
    if not all(np.isfinite(array).all() for array in points):
        raise DataError(f"{path}: landmarks that are not finite; make it again")
    if person not in (None, found):
        raise DataError(f"{path}: a film of {one_line(found, 40)}, not of {person}")
    return Film(found, frames, landmarks, Shape(*shape), path)


def _decoded(data: np.ndarray) -> np.ndarray | None:
    """Decode a JPEG file; None if it is of another size, which is told before it is decoded."""
    with Image.open(io.BytesIO(data.tobytes())) as image:
        return np.array(image.convert("RGB")) if image.size in [(size, size) for size in SIZES] else None


def film_of(root: Path, person: str, mode: str, count: int = NUM_FRAMES) -> Film:
    """Choose a film from the frames of a prepared person.

    Args:
        root: the folder that holds the people.
        mode: whose frames: `train`, or `all`.

    Raises:
        DataError: there is no such person or list, or it has no landmarks.
    """
    annotations = read_person(root, person, mode)
    landmarks, names = annotations.landmarks, annotations.names
    large, source = Path(root) / person / LARGE_FOLDER, ()
    if kept := [number for number, name in enumerate(names) if (large / name).exists()]:
        landmarks, names, source = landmarks[kept], [names[number] for number in kept], (LARGE_FOLDER, max(SIZES))
    chosen = spread(landmarks, count)
    frames = [read_frame(root, person, names[number], *source) for number in chosen]
    return Film(person, frames, landmarks[chosen], shape_of(annotations.landmarks))


def load_film(path: Path) -> Film:
    """Read a film, or choose one from the folder of a prepared person: of its training frames, if it is split.

    Raises:
        DataError: it is neither, or damaged.
    """
    if not path.is_dir():
        return read_film(path)
    root, person = path.absolute().parent, path.absolute().name
    return film_of(root, person, "train" if list_path(root, person, "train").exists() else "all")


def keep_film(config: DecoderConfig, folder: Path) -> None:
    """Keep a film of a decoder's person in the folder of its run, if the person was prepared from videos."""
    person = Path(config.train_dir) / config.trg_celeb_name
    is_own = (person / PERSON_FILE).exists() and (person / "Image").is_dir()  # npz files alone train as well
    if is_own and config.boundary == FROM_LANDMARKS and not (folder / FILM_FILE).exists():
        write_film(folder / FILM_FILE, film_of(Path(config.train_dir), config.trg_celeb_name, config.mode))


def find_film(decoder: Trained) -> Film | None:
    """Read the film that lies beside a decoder's weights or its configuration; None if there is none.

    Raises:
        DataError: it is damaged, too large, or of another person.
    """
    folders = [decoder.weights.parent, *([decoder.info.parent] if decoder.info else [])]
    path = next((folder / FILM_FILE for folder in folders if (folder / FILM_FILE).exists()), None)
    return None if path is None else read_film(path, decoder.config.trg_celeb_name)


def pupils_of(landmarks: np.ndarray) -> np.ndarray:
    """Return how far the pupils lie from the middle between their corners, (..., 2, 2) in pixels."""
    middles = [(landmarks[..., a, :] + landmarks[..., b, :]) / 2 for a, b, _ in PUPILS]
    return np.stack([landmarks[..., p, :] - middle for (_, _, p), middle in zip(PUPILS, middles)], axis=-2)


def lids_of(landmarks: np.ndarray) -> np.ndarray:
    """Return how far the eyes are open, (..., 2) in pixels."""
    return np.stack([landmarks[..., low, 1] - landmarks[..., up, 1] for up, low in LIDS], axis=-1)


def brows_of(landmarks: np.ndarray) -> np.ndarray:
    """Return how far the brows lie above the eyes, (..., 2) in pixels."""
    parts = ((np.r_[33:42], np.r_[60:68]), (np.r_[42:51], np.r_[68:76]))
    return np.stack([(landmarks[..., eye, 1].mean(-1) - landmarks[..., brow, 1].mean(-1)) for brow, eye in parts], -1)


def masks_of(heatmap: np.ndarray) -> list[np.ndarray]:
    """Return soft masks (64, 64) of the mouth, the eyes with the brows, and the rest, which add up to 1.

    Args:
        heatmap: (15, 64, 64) in [0, 1].
    """

    def about(channels: list[int], blur_px: float) -> np.ndarray:
        mask = cv2.GaussianBlur(cv2.dilate(heatmap[channels].max(axis=0), np.ones((5, 5))), (0, 0), blur_px)
        return np.clip(1.6 * mask / (mask.max() + 1e-6), 0, 1)

    mouth = about(LIPS, 2.5)
    eyes = about(EYES_AND_BROWS, 2.0) * (1 - mouth)
    return [mouth, eyes, np.clip(1 - mouth - eyes, 0, 1)]


@lru_cache(maxsize=1)
def _grid() -> np.ndarray:
    """Return x and y of each pixel, (256, 256, 2) float32."""
    return np.stack(np.meshgrid(np.arange(IMAGE_SIZE), np.arange(IMAGE_SIZE)), axis=-1).astype(np.float32)


class Spline:
    """A thin plate spline that takes points of a result to those of any frame (Bookstein, 1989).

    Args:
        points: (N, 2) in pixels of the result.
        smoothing: 0 passes through all points.
        box: the part of the result that is computed.
        step: distance in pixels at which the spline is computed; between them it is linear.
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
        # float32 is up to 0.1 px off, and twice as fast
        kernel = _kernel(coarse.astype(np.float32), points.astype(np.float32))
        self._weights = kernel @ inverse[:count].astype(np.float32) + affine.astype(np.float32)
        self._points, self._shape, self._box = points, (rows, columns), box

    def places(self, points: np.ndarray) -> np.ndarray:
        """Return where the pixels of the box come from if the spline's points come from `points`.

        Returns:
            (h, w, 2) float32, x and y in pixels.
        """
        grid = _grid()[self._box]
        moved = (self._weights @ (points - self._points).astype(np.float32)).reshape(*self._shape, 2)
        return grid + cv2.resize(moved, grid.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _kernel(places: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return r^2 log r between places (M, 2) and points (N, 2), (M, N)."""
    (x, y), (other_x, other_y) = places.T, points.T
    squared = (x[:, None] - other_x) ** 2 + (y[:, None] - other_y) ** 2
    return 0.5 * squared * np.log(squared + places.dtype.type(1e-9))


class Choice:
    """The frame that serves a region, kept for a while, and the one before it while it fades out."""

    def __init__(self) -> None:
        self.frame, self.before, self.share = -1, -1, 1.0

    def take(self, distances: np.ndarray, keep_px: float) -> None:
        """Take the nearest frame, unless the present one is nearly as near."""
        best = int(distances.argmin())
        if self.frame < 0:
            self.frame = best
        elif distances[self.frame] > distances[best] * (1 + KEEP) + keep_px:
            self.before, self.frame, self.share = self.frame, best, 0.0
        self.share = min(self.share + FADE, 1.0)

    def layers(self) -> list[tuple[int, float]]:
        """List the frames to mix, with their shares."""
        if self.share == 1.0:
            return [(self.frame, 1.0)]
        return [(self.frame, self.share), (self.before, 1 - self.share)]


class Canvas:
    """The weighted mean of layers, each in a box of an image of 256 pixels."""

    def __init__(self, *shape: int):
        self.image, self._weight = np.zeros(shape, np.float32), np.zeros(shape[:2], np.float32)
        self._factor = shape[0] // IMAGE_SIZE

    def add(self, box: Box, layer: np.ndarray, weight: np.ndarray) -> None:
        """Add a layer uint8 of the box, as large as the canvas is, with its weight (h, w) at 256 pixels."""
        box = tuple(slice(part.start * self._factor, part.stop * self._factor) for part in box)
        weight = cv2.resize(weight, layer.shape[1::-1])
        self.image[box] = cv2.blendLinear(self.image[box], layer.astype(np.float32), self._weight[box], weight)
        self._weight[box] += weight


class FilmPainter:
    """Paints faces with a film.

    Args:
        film: of the target.
        layouts: (N, 256, 256) uint8 grey, the decoder's images of the film's own boundaries.
        is_own: whether the decoder was trained on the film's person: then its own image is shown where the film does
            not fit, the more so the better it paints the film's frames.
    """

    def __init__(self, film: Film, layouts: np.ndarray, is_own: bool):
        self.film, self._layouts, self.space = film, layouts, FaceSpace(film.landmarks)
        self._small = np.stack([_small(layout) for layout in layouts])
        self._pupils, self._lids, self._brows = (of(film.landmarks) for of in (pupils_of, lids_of, brows_of))
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(1)  # of half of the size
        # the upper quartile: what lies beyond a picture's edge is no fault of the decoder's
        frames = film.reduced(IMAGE_SIZE).frames
        errors = [np.percentile(cv2.absdiff(_grey(frame), own), 75) for frame, own in zip(frames, layouts)]
        self._trust = max(TRUST * float(np.mean(errors)), 1.0) if is_own else None
        self.reset()

    def reset(self) -> None:
        """Forget what was painted before: the next face does not follow it."""
        self._choices = [Choice() for _ in range(3)]

    def paint(self, heatmap: np.ndarray, image: np.ndarray, landmarks: np.ndarray | None) -> np.ndarray:
        """Paint a face.

        Args:
            heatmap: (15, 64, 64), what is asked for.
            image: (256, 256, 3) uint8, the decoder's.
            landmarks: (98, 2) in pixels, if they are known.

        Returns:
            (S, S, 3) uint8, as large as the film's frames.
        """
        layout, masks = _grey(image), masks_of(heatmap)
        distances = self._distances(layout, masks) if landmarks is None else self._distances_to(landmarks)
        asked = None if landmarks is None else _tied(landmarks, landmarks)
        size, large = self.film.size, self.film.size // IMAGE_SIZE
        canvas, warped = Canvas(size, size, 3), Canvas(IMAGE_SIZE, IMAGE_SIZE)  # frames, and layouts warped as they are
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
        """Correct where pixels come from, (h, w, 2), by the optical flow between two layouts at half of their size."""
        height, width = layout.shape
        size = math.ceil(width / 2), math.ceil(height / 2)
        places, layout = (cv2.resize(array, size, interpolation=cv2.INTER_AREA) for array in (places, layout))
        flow = self._flow.calc(layout, _remap(own, places, cv2.INTER_LINEAR), None)
        flow = cv2.GaussianBlur(flow, (0, 0), FLOW_BLUR_PX / 2)
        corrected = _remap(places, _grid()[: size[1], : size[0]] + flow, cv2.INTER_LINEAR)
        return cv2.resize(corrected, (width, height), interpolation=cv2.INTER_LINEAR)

    def _mixed(self, painted: np.ndarray, warped: np.ndarray, image: np.ndarray, layout: np.ndarray) -> np.ndarray:
        """Mix the film with the decoder's image: by how well the layouts match, and with a share of its shading."""
        size = len(painted)
        apart = cv2.GaussianBlur(np.abs(layout - warped), (0, 0), TRUST_BLUR_PX)
        share = cv2.resize(np.exp(-((apart / self._trust) ** 2)), (size, size))
        image = at_size(image, size).astype(np.float32)
        shading = cv2.GaussianBlur(image - painted, (0, 0), SHADING_PX * size / IMAGE_SIZE)
        return cv2.blendLinear(painted + SHADING * shading, image, share, 1 - share)

    def _distances(self, layout: np.ndarray, masks: list[np.ndarray]) -> list[np.ndarray]:
        """Compare what is asked for with each frame of the film by their layouts, under the masks."""
        squares = (self._small - _small(layout)) ** 2
        return [(squares * mask).sum(axis=(1, 2)) for mask in masks]

    def _distances_to(self, landmarks: np.ndarray) -> list[np.ndarray]:
        """Compare landmarks with those of each frame of the film, in squared pixels."""

        def shape(part: np.ndarray) -> np.ndarray:
            own, theirs = landmarks[part] - landmarks[part].mean(axis=0), self.film.landmarks[:, part]
            theirs = theirs - theirs.mean(axis=1, keepdims=True)
            return ((own - theirs) ** 2).sum(axis=2).mean(axis=1) + PLACE * place

        place = ((landmarks.mean(axis=0) - self.film.landmarks.mean(axis=1)) ** 2).sum(axis=1)
        gaze = GAZE * ((pupils_of(landmarks) - self._pupils) ** 2).sum(axis=(-1, -2))
        lids = LID * ((lids_of(landmarks) - self._lids) ** 2).sum(axis=-1)
        rest = ((landmarks[REST_PART] - self.film.landmarks[:, REST_PART]) ** 2).sum(axis=2).mean(axis=1)
        brows = BROW * ((brows_of(landmarks) - self._brows) ** 2).sum(axis=-1)
        return [shape(MOUTH_PART), shape(EYE_PARTS) + gaze + lids + brows, rest]


def _enlarged(places: np.ndarray, factor: int) -> np.ndarray:
    """Bring where pixels come from, (h, w, 2), from images of 256 pixels to images so many times as large."""
    if factor == 1:
        return places
    height, width = places.shape[:2]
    return cv2.resize((places + 0.5) * factor - 0.5, (width * factor, height * factor), interpolation=cv2.INTER_LINEAR)


def _tied(own: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the points that a spline is tied to, of a frame with landmarks `own` that shall become `asked`."""
    ring = asked.mean(axis=0) + np.column_stack([np.cos(RING), np.sin(RING)]) * 0.95 * np.ptp(asked, axis=0)
    return np.vstack([own[TIED], similarity(asked, own)(ring), RIM])


def open_painter(film: Film, decoder: Trained, backend: Backend, batch_size: int) -> FilmPainter:
    """Let a decoder lay out a film's frames, once: the layouts are kept beside a film that is a file.

    Args:
        backend: computes the decoder, so many faces at a time.
    """
    path = None
    if film.path is not None:
        digest = hashlib.sha256(f"{file_digest(film.path)} {file_digest(decoder.weights)}".encode()).hexdigest()
        path = cache_folder(film.path.parent) / f".{film.path.stem}.{digest[:20]}.npy"
    layouts = None if path is None else _read_layouts(path, len(film.frames))
    if layouts is None:
        layouts = _lay_out(film, style_of(decoder.config), backend, batch_size)
        if path is not None:
            for old in path.parent.glob(f".{film.path.stem}.*.npy"):  # of other weights
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
    """Let the decoder paint the boundaries of each frame of a film, (N, 256, 256) uint8 grey."""
    layouts = []
    for indices, count in index_batches(len(film.frames), batch_size):
        heatmaps = np.stack([heatmap_of(film.landmarks[index], style) for index in indices])
        images = backend.infer("decoder", heatmaps)[:count]  # (count, 3, 256, 256)
        layouts += [_grey(face_picture(image)) for image in images]
    return np.stack(layouts)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _small(layout: np.ndarray) -> np.ndarray:
    return cv2.resize(layout, (HEATMAP_SIZE, HEATMAP_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)


def _box(mask: np.ndarray) -> Box:
    """Return the part of an image where a mask counts, at least `MIN_BOX_PX` wide and high."""
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
