"""Films: well-spread frames of one person with landmarks, from which inference paints the target."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from config.config_decoder import DecoderConfig
from datasets.celebv import FROM_LANDMARKS, LARGE_FOLDER, PERSON_FILE, list_path, read_frame, read_person
from datasets.panels import at_size
from faces.geometry import Shape, shape_of
from faces.landmarks import BROWS, CONTOUR, EYE_RINGS, MOUTH, NOSE, NUM_LANDMARKS, pupil_offsets
from utils.errors import DataError, is_of_system, one_line
from utils.files import atomic_path, open_file

FILM_FILE = "film.npz"  # in a decoder's run, beside its weights
MAX_FRAMES, NUM_FRAMES = 300, 200
SIZES = (256, 512)  # width and height of frames in pixels
MAX_FILM_BYTES = 64 << 20
JPEG_QUALITY = 95
EYE_PARTS, REST_PART = np.r_[BROWS, EYE_RINGS], np.r_[CONTOUR, NOSE]


class Film(NamedTuple):
    """Well-spread frames of one person."""

    person: str
    frames: list[np.ndarray]  # (S, S, 3) uint8, S one of `SIZES`
    landmarks: np.ndarray  # (N, 98, 2) in pixels of a 256-pixel image
    shape: Shape  # estimated from all frames of the person
    path: Path | None = None  # file that the film was read from

    @property
    def size(self) -> int:
        """Return the width and height of its frames in pixels."""
        return len(self.frames[0])

    def reduced(self, size: int) -> Film:
        """Return the film with frames of at most `size` pixels."""
        return self if self.size <= size else self._replace(frames=[at_size(frame, size) for frame in self.frames])


def spread(landmarks: np.ndarray, count: int) -> list[int]:
    """Select `count` frames by farthest point sampling of landmarks (N, 98, 2); return sorted indices."""
    parts = [landmarks[:, part] - landmarks[:, part].mean(axis=1, keepdims=True) for part in (MOUTH, EYE_PARTS)]
    parts += [landmarks[:, REST_PART] / 2, 2 * pupil_offsets(landmarks)]
    features = np.concatenate([part.reshape(len(landmarks), -1) / np.sqrt(part.shape[1]) for part in parts], axis=1)
    first = int(((features - features.mean(axis=0)) ** 2).sum(axis=1).argmin())
    chosen, nearest = [first], ((features - features[first]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(landmarks)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((features - features[chosen[-1]]) ** 2).sum(axis=1))
    return sorted(chosen)


def write_film(path: Path, film: Film) -> None:
    """Write a film as an npz archive with JPEG frames. Raises ResourceError if the disk is full."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    files = [cv2.imencode(".jpg", frame[..., ::-1], options)[1].ravel() for frame in film.frames]
    arrays = {f"frame_{number:03d}": data for number, data in enumerate(files)}
    with atomic_path(path) as temporary:
        landmarks = {"landmarks": film.landmarks.astype(np.float32), "shape": np.stack(film.shape)}
        with open(temporary, "wb") as file:  # np.savez appends .npz to other names
            np.savez(file, person=film.person, **landmarks, **arrays)


def read_film(path: Path, person: str | None = None) -> Film:
    """Read a film. Raises DataError if it is missing, damaged, too large, or not of `person` (None: anybody)."""
    try:
        with open_file(path) as opened, zipfile.ZipFile(opened) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_FILM_BYTES:
                raise DataError(f"{path}: larger than {MAX_FILM_BYTES >> 20} MiB")
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as arrays:
                found, points = str(arrays["person"]), [arrays[name].astype(float) for name in ("landmarks", "shape")]
                names = sorted(name for name in arrays.files if name.startswith("frame_"))[: MAX_FRAMES + 1]
                frames = [_decoded(arrays[name]) for name in names]
    except FileNotFoundError:
        raise DataError(f"{path}: no such film") from None
    except (OSError, ValueError, KeyError, TypeError, MemoryError, EOFError, zipfile.BadZipFile) as error:
        if is_of_system(error):
            raise
        raise DataError(f"{path}: not a complete film ({one_line(error)}); make it again") from None
    landmarks, shape = points
    sizes = {None if frame is None else len(frame) for frame in frames}
    if len(sizes) != 1 or None in sizes or landmarks.shape != (len(frames), NUM_LANDMARKS, 2):
        raise DataError(f"{path}: not a film of images of one size with {NUM_LANDMARKS} landmarks each; make it again")
    if len(frames) > MAX_FRAMES or shape.shape != (2, NUM_LANDMARKS, 2):
        raise DataError(f"{path}: not a film of 1 to {MAX_FRAMES} frames and a neutral face; make it again")
    if not all(np.isfinite(array).all() for array in points):
        raise DataError(f"{path}: landmarks are not finite; make it again")
    if person not in (None, found):
        raise DataError(f"{path}: a film of {one_line(found, 40)}, not of {person}")
    return Film(found, frames, landmarks, Shape(*shape), path)


def _decoded(data: np.ndarray) -> np.ndarray | None:
    """Decode a JPEG file; return None for a size not in `SIZES`, without decoding it."""
    with Image.open(io.BytesIO(data.tobytes())) as image:
        return np.array(image.convert("RGB")) if image.size in [(size, size) for size in SIZES] else None


def film_of(root: Path, person: str, mode: str, count: int = NUM_FRAMES) -> Film:
    """Select a film from the `train` or `all` frames of a prepared person. Raises DataError if there are none."""
    annotations = read_person(root, person, mode)
    landmarks, names = annotations.landmarks, annotations.names
    large, source = Path(root) / person / LARGE_FOLDER, ()
    if kept := [number for number, name in enumerate(names) if (large / name).exists()]:
        landmarks, names, source = landmarks[kept], [names[number] for number in kept], (LARGE_FOLDER, max(SIZES))
    chosen = spread(landmarks, count)
    frames = [read_frame(root, person, names[number], *source) for number in chosen]
    return Film(person, frames, landmarks[chosen], shape_of(annotations.landmarks))


def load_film(path: Path) -> Film:
    """Read a film file, or select a film from a prepared person's folder. Raises DataError if the path is neither."""
    if not path.is_dir():
        return read_film(path)
    root, person = path.absolute().parent, path.absolute().name
    return film_of(root, person, "train" if os.path.lexists(list_path(root, person, "train")) else "all")


def keep_film(config: DecoderConfig, folder: Path) -> None:
    """Write a film of a decoder's person to the folder of its run, if the person was prepared from videos."""
    person = Path(config.train_dir) / config.trg_celeb_name
    is_own = (person / PERSON_FILE).exists() and (person / "Image").is_dir()  # training needs only npz files
    if is_own and config.boundary == FROM_LANDMARKS and not (folder / FILM_FILE).exists():
        write_film(folder / FILM_FILE, film_of(Path(config.train_dir), config.trg_celeb_name, config.mode))
