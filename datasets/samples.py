"""Data sets of people in CelebV's format. Samples are uint8 arrays; `datasets.batches` converts them to float32.

`DrawnDataset` draws boundaries from landmarks, `EncodedDataset` has the encoder's heatmaps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from config import Config
from datasets import celebv
from datasets.augment import Transform
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, DrawingStyle, draw_heatmap, resize_heatmap, style_in, style_of
from datasets.prepared import PreparedFile, images_digest, read_record
from utils.errors import ConfigError, DataError
from utils.files import file_digest


class FrameDataset:
    """Frames of a person, `all` or those of `train` or `test`: samples (image (3, 256, 256),).

    Raises DataError if the list is missing or invalid, or an image is missing or damaged.
    """

    def __init__(self, root: str | Path, person: str, mode: str):
        self.root, self.person, self.mode = root, person, mode
        self.names = celebv.read_frame_names(root, person, mode)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray]:
        return (_read_image(self.root, self.person, self.names[index]),)


class _PersonDataset:
    """Base of the data sets of one person."""

    def __init__(
        self, root: str | Path, person: str, mode: str, parts: tuple[str, ...], style: DrawingStyle, names: list[str]
    ):
        self.root, self.person, self.mode, self.parts, self.style = root, person, mode, parts, style
        self.names = names

    def __len__(self) -> int:
        return len(self.names)


class DrawnDataset(_PersonDataset):
    """Frames of a person with boundaries drawn from landmarks, on the fly or by preprocess.py.

    Args:
        root: folder of the people.
        mode: `all`, `train` or `test`.
        parts: parts of a sample, out of `image`, `heatmap` and `resized_heatmap`.
        ref_dir: folder of prepared npz files; '' draws on the fly.

    Raises DataError if lists, images or prepared files are missing, damaged, or do not belong together.
    """

    def __init__(
        self,
        root: str | Path,
        person: str,
        mode: str,
        parts: tuple[str, ...],
        ref_dir: str | Path = "",
        style: DrawingStyle = DrawingStyle(),
    ):
        names, self.landmarks, _ = celebv.read_person(root, person, mode)  # landmarks (N, 98, 2) in pixels
        super().__init__(root, person, mode, parts, style, names)
        self._prepared: dict[str, PreparedFile] = {}
        self._made_from: dict[str, Any] = {}  # origin of the prepared files
        if not ref_dir and celebv.IMAGE in parts:
            celebv.require_images(root, person, mode, names)
        if ref_dir:
            command = f"python preprocess.py --dataset CelebV --out-dir {ref_dir} --drawing {style.name}"
            self._prepared, self._made_from = _open_prepared(self, Path(ref_dir), celebv.FROM_LANDMARKS, command)

    def identity(self) -> dict[str, str | int]:
        """Return number, description and digest of the samples, by which a resumed run recognizes them."""
        path = celebv.list_path(self.root, self.person, self.mode)
        digest = hashlib.sha256(file_digest(path).encode()).hexdigest()
        about = {"count": len(self), "what": f"{path.name} of {self.person}, boundaries of landmarks", "digest": digest}
        if celebv.IMAGE in self.parts:
            # equal for prepared files and the images they were made from
            images = _images_digest(self.root, self.person, self.mode) or self._made_from.get("images")
            about |= {"images": images} if images else {}
        return about

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Return a sample: uint8 arrays of `SHAPES`, one for each of `parts`."""
        if self._prepared:
            sample = {part: file[self.names[index]] for part, file in self._prepared.items()}
        else:
            sample = {celebv.IMAGE: self._image(index)} if celebv.IMAGE in self.parts else {}
            sample |= self._draw(self.landmarks[index])
        return tuple(sample[part] for part in self.parts)

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]:
        """Return a transformed sample. Boundaries are drawn from the transformed landmarks."""
        sample = {celebv.IMAGE: transform.image(self._image(index))} if celebv.IMAGE in self.parts else {}
        sample |= self._draw(transform.landmarks(self.landmarks[index]))
        return tuple(sample[part] for part in self.parts)

    def _image(self, index: int) -> np.ndarray:
        name = self.names[index]
        return self._prepared[celebv.IMAGE][name] if self._prepared else _read_image(self.root, self.person, name)

    def _draw(self, landmarks: np.ndarray) -> dict[str, np.ndarray]:
        if not {celebv.HEATMAP, celebv.RESIZED_HEATMAP}.intersection(self.parts):
            return {}
        drawn = {celebv.RESIZED_HEATMAP: draw_heatmap(landmarks, style=self.style)}
        if celebv.HEATMAP in self.parts:
            drawn[celebv.HEATMAP] = resize_heatmap(drawn[celebv.RESIZED_HEATMAP], HEATMAP_SIZE)
        return drawn


class EncodedDataset(_PersonDataset):
    """Frames of a person with the encoder's heatmaps, written by prepare_person.py to `ref_dir`.

    Raises ConfigError if `ref_dir` is empty, DataError if files are missing, damaged, or do not belong together.
    """

    def __init__(
        self,
        root: str | Path,
        person: str,
        mode: str,
        parts: tuple[str, ...],
        ref_dir: str | Path,
        style: DrawingStyle = DrawingStyle(),
    ):
        if not ref_dir:
            raise ConfigError("boundary: encoder requires ref_dir, the output folder of prepare_person.py")
        super().__init__(root, person, mode, parts, style, celebv.read_frame_names(root, person, mode))
        command = f"python prepare_person.py {Path(root) / person} --name {person} --out-dir {ref_dir}"
        self._prepared, _ = _open_prepared(self, Path(ref_dir), celebv.FROM_ENCODER, command)

    def identity(self) -> dict[str, str | int]:
        """Return number, description and digest of the samples, by which a resumed run recognizes them."""
        path = celebv.list_path(self.root, self.person, self.mode)
        digest = hashlib.sha256(file_digest(path).encode())
        for part, file in self._prepared.items():
            digest.update(f"{part} {file.digest()}".encode())
        what = f"{path.name} of {self.person}, boundaries of the encoder"
        return {"count": len(self), "what": what, "digest": digest.hexdigest()}

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Read a sample: uint8 arrays of `SHAPES`, one for each of `parts`."""
        return tuple(self._prepared[part][self.names[index]] for part in self.parts)

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]:
        """Return a transformed sample."""
        change = {
            celebv.IMAGE: transform.image,
            celebv.HEATMAP: transform.heatmap,
            celebv.RESIZED_HEATMAP: transform.heatmap,
        }
        return tuple(change[part](array) for part, array in zip(self.parts, self[index]))


def open_dataset(
    config: Config, person: str, mode: str, parts: tuple[str, ...], draw_anew: bool = False
) -> DrawnDataset | EncodedDataset:
    """Open the data set of a person for a configuration, for errors see `DrawnDataset` and `EncodedDataset`.

    With `draw_anew`, prepared files of drawn boundaries are ignored.
    """
    if config.boundary == celebv.FROM_ENCODER:
        return EncodedDataset(config.train_dir, person, mode, parts, config.ref_dir, style_of(config))
    ref_dir = "" if draw_anew else config.ref_dir
    return DrawnDataset(config.train_dir, person, mode, parts, ref_dir, style_of(config))


def _read_image(root: str | Path, person: str, name: str) -> np.ndarray:
    return np.ascontiguousarray(celebv.read_frame(root, person, name).transpose(2, 0, 1))


def _open_prepared(
    dataset: DrawnDataset | EncodedDataset, ref_dir: Path, boundary: str, command: str
) -> tuple[dict[str, PreparedFile], dict[str, Any]]:
    """Open the npz files of a person by part, and read their origin.

    Raises DataError if they are missing or damaged, lack samples, or have another origin.
    """
    person = dataset.person
    if not ref_dir.is_dir():
        raise DataError(f"{ref_dir}: no such folder (ref_dir); run '{command}' first")
    record = read_record(celebv.record_path(ref_dir, person))
    made_from = record["made_from"] if record else {}  # the port's files have no record
    found = made_from.get("boundary", celebv.FROM_LANDMARKS)
    if found != boundary:
        raise DataError(
            f"{ref_dir}: {person} is prepared with 'boundary: {found}', not '{boundary}'; change boundary or ref_dir"
        )
    drawn = style_in(record)
    if drawn != dataset.style:
        raise DataError(
            f"{ref_dir}: {person} is prepared with 'drawing: {drawn}', not '{dataset.style}'; "
            f"run '{command}', or change drawing or preprocess"
        )
    everything = celebv.list_path(dataset.root, person, "all")
    if "list" in made_from and made_from["list"] != file_digest(everything):
        raise DataError(f"{ref_dir}: {person} was prepared from another {everything}; run '{command}' again")
    if celebv.IMAGE in dataset.parts and "images" in made_from:
        now = _images_digest(dataset.root, person, dataset.mode)
        if now and now != made_from["images"]:
            raise DataError(f"{ref_dir}: {person} was prepared from other images; run '{command}' again")
    parts = [part for part in dataset.parts if part in celebv.SHAPES]
    files = {
        part: PreparedFile(celebv.prepared_path(ref_dir, person, part), celebv.SHAPES[part], command) for part in parts
    }
    for file in files.values():
        file.require(dataset.names)
    return files, made_from


def _images_digest(root: str | Path, person: str, mode: str) -> str:
    """Return the digest of all images of a person; '' if some are missing, which training on npz files allows."""
    everything = "all" if celebv.list_path(root, person, "all").exists() else mode
    try:
        return images_digest(Path(root) / person / "Image", celebv.read_frame_names(root, person, everything))
    except DataError:
        return ""


class JoinedDataset:
    """Concatenation of data sets."""

    def __init__(self, parts: list[DrawnDataset]):
        self.parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def identity(self) -> dict[str, Any]:
        """Return number, description and digest of the samples."""
        said = [part.identity() for part in self.parts]
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        return {"count": len(self), "what": "; ".join(about["what"] for about in said), "digest": digest}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        part, inside = self._find(index)
        return part[inside]

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]:
        """Return a transformed sample."""
        part, inside = self._find(index)
        return part.augmented(inside, transform)

    def _find(self, index: int) -> tuple[DrawnDataset, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[number], index - int(self._ends[number]) + len(self.parts[number])


class ShiftedDataset:
    """Heatmaps of one person, with heatmaps of its landmarks moved to other people's faces by functions."""

    def __init__(self, faces: DrawnDataset, moves: list[Callable[[np.ndarray], np.ndarray]]):
        self.faces, self.moves = faces, moves

    def identity(self) -> dict[str, str | int]:
        """Return the identity of the faces."""
        return self.faces.identity()

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Return the heatmap and the shifted heatmaps, (15, 64, 64) uint8 each."""
        landmarks = self.faces.landmarks[index]
        return (*self.faces[index], *(self._heatmap(move(landmarks)) for move in self.moves))

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]:
        """Return a transformed sample."""
        landmarks = self.faces.landmarks[index]
        shifted = (self._heatmap(transform.landmarks(move(landmarks))) for move in self.moves)
        return (*self.faces.augmented(index, transform), *shifted)

    def _heatmap(self, landmarks: np.ndarray) -> np.ndarray:
        return resize_heatmap(draw_heatmap(landmarks, style=self.faces.style), HEATMAP_SIZE)


class LandmarkDataset:
    """Heatmaps (15, 64, 64) uint8 drawn from landmarks, with the landmarks (196,) in heatmap pixels.

    Args:
        landmarks: (N, 98, 2) in pixels of 256-pixel images.
        what: description.
        persons: number of each face's person, (N,); None if each face is another person.
    """

    def __init__(
        self, landmarks: np.ndarray, what: str, persons: np.ndarray | None = None, style: DrawingStyle = DrawingStyle()
    ):
        self.landmarks, self.what, self.persons, self.style = landmarks, what, persons, style
        self.targets = self.targets_of(landmarks)  # (N, 196)

    @classmethod
    def of_people(
        cls, root: str | Path, people: Sequence[str], mode: str, style: DrawingStyle = DrawingStyle()
    ) -> LandmarkDataset:
        """Read the landmarks of people. Raises DataError if a list is missing or invalid."""
        lists = [celebv.read_person(root, person, mode).landmarks for person in people]
        persons = np.repeat(np.arange(len(lists)), [len(landmarks) for landmarks in lists])
        return cls(np.concatenate(lists), f"landmarks of {', '.join(people)} ({mode})", persons, style)

    def identity(self) -> dict[str, str | int]:
        """Return number, description and digest of the samples, by which a resumed run recognizes them."""
        digest = hashlib.sha256(self.landmarks.tobytes()).hexdigest()
        return {"count": len(self), "what": self.what, "digest": digest}

    def __len__(self) -> int:
        return len(self.landmarks)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._sample(self.landmarks[index])

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
        """Return a transformed sample."""
        return self._sample(transform.landmarks(self.landmarks[index]))

    def _sample(self, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        heatmap = resize_heatmap(draw_heatmap(landmarks, style=self.style), HEATMAP_SIZE)
        return heatmap, self.targets_of(landmarks[None])[0]

    @staticmethod
    def targets_of(landmarks: np.ndarray) -> np.ndarray:
        """Convert landmarks (N, 98, 2) in pixels to (N, 196) float32, x and y in heatmap pixels."""
        return (landmarks * (HEATMAP_SIZE / IMAGE_SIZE)).reshape(len(landmarks), -1).astype(np.float32)
