"""Samples of people of CelebV's form: uint8 arrays, of which batches.py makes float32.

Where boundaries come from decides the class: `DrawnDataset` has landmarks, `EncodedDataset` the encoder's heatmaps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from config import Config
from datasets.augment import Transform
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, DrawingStyle, draw_heatmap, resize_heatmap, style_of
from datasets.celebv import (
    FROM_ENCODER,
    FROM_LANDMARKS,
    HEATMAP,
    IMAGE,
    RESIZED_HEATMAP,
    SHAPES,
    list_path,
    prepared_path,
    read_frame,
    read_frame_names,
    read_person,
    record_path,
)
from datasets.prepared import PreparedFile, drawing_in, images_digest, read_record
from utils.errors import ConfigError, DataError
from utils.files import file_digest


class FrameDataset:
    """Read frames of a person, with landmarks or without: samples (image (3, 256, 256),).

    Args:
        root: the folder that holds the people.
        mode: `all`, `train` or `test`.

    Raises:
        DataError: the list is missing or wrong; when read, an image is missing or damaged.
    """

    def __init__(self, root: str | Path, person: str, mode: str):
        self.root, self.person, self.mode = root, person, mode
        self.names = read_frame_names(root, person, mode)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray]:
        return (_read_image(self.root, self.person, self.names[index]),)


class _PersonDataset:
    """Keep what the data sets of a person share: whose samples, of which parts.

    Args:
        names: of the frames.
    """

    def __init__(
        self, root: str | Path, person: str, mode: str, parts: tuple[str, ...], style: DrawingStyle, names: list[str]
    ):
        self.root, self.person, self.mode, self.parts, self.style = root, person, mode, parts, style
        self.names = names

    def __len__(self) -> int:
        return len(self.names)


class DrawnDataset(_PersonDataset):
    """Read frames of a person with boundaries drawn from landmarks: on the fly, or ahead by preprocess.py, alike.

    Args:
        root: the folder that holds the people.
        mode: `all`, `train` or `test`.
        parts: of a sample, in order, out of `image`, `heatmap` and `resized_heatmap`; only these are made.
        ref_dir: folder of prepared npz files, or '' to draw.

    Raises:
        DataError: lists, images or prepared files are missing, damaged, or do not belong together.
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
        names, self.landmarks, _ = read_person(root, person, mode)  # landmarks (N, 98, 2) in pixels
        super().__init__(root, person, mode, parts, style, names)
        self._prepared: dict[str, PreparedFile] = {}
        self._made_from: dict[str, Any] = {}  # what is known of the prepared files
        if ref_dir:
            command = f"python preprocess.py --dataset CelebV --out-dir {ref_dir} --drawing {style.name}"
            self._prepared, self._made_from = _open_prepared(self, Path(ref_dir), FROM_LANDMARKS, command)

    def identity(self) -> dict[str, str | int]:
        """Tell these samples from others: their number, where they come from, and a digest."""
        path = list_path(self.root, self.person, self.mode)
        digest = hashlib.sha256(file_digest(path).encode()).hexdigest()
        about = {"count": len(self), "what": f"{path.name} of {self.person}, boundaries of landmarks", "digest": digest}
        if IMAGE in self.parts:
            # prepared or not, it is the same training: both stand for the person's pictures
            pictures = _pictures_digest(self.root, self.person, self.mode) or self._made_from.get("pictures")
            about |= {"images": pictures} if pictures else {}
        return about

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Read or make a sample: uint8 arrays of `SHAPES`, one for each of `parts`; one drawing at most."""
        if self._prepared:
            sample = {part: file[self.names[index]] for part, file in self._prepared.items()}
        else:
            sample = {IMAGE: self._image(index)} if IMAGE in self.parts else {}
            sample |= self._draw(self.landmarks[index])
        return tuple(sample[part] for part in self.parts)

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]:
        """Make a sample under a change of the face: boundaries are drawn from the changed landmarks."""
        sample = {IMAGE: transform.image(self._image(index))} if IMAGE in self.parts else {}
        sample |= self._draw(transform.landmarks(self.landmarks[index]))
        return tuple(sample[part] for part in self.parts)

    def _image(self, index: int) -> np.ndarray:
        name = self.names[index]
        return self._prepared[IMAGE][name] if self._prepared else _read_image(self.root, self.person, name)

    def _draw(self, landmarks: np.ndarray) -> dict[str, np.ndarray]:
        if not {HEATMAP, RESIZED_HEATMAP}.intersection(self.parts):
            return {}
        drawn = {RESIZED_HEATMAP: draw_heatmap(landmarks, style=self.style)}
        if HEATMAP in self.parts:
            drawn[HEATMAP] = resize_heatmap(drawn[RESIZED_HEATMAP], HEATMAP_SIZE)
        return drawn


class EncodedDataset(_PersonDataset):
    """Read frames of a person with the encoder's heatmaps, which prepare_person.py wrote; it needs no landmarks.

    Args:
        root, person, mode, parts, style: as of `DrawnDataset`.
        ref_dir: folder of the npz files.

    Raises:
        ConfigError: there is no such folder named.
        DataError: lists or npz files are missing, damaged, or do not belong together.
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
            raise ConfigError("boundary: encoder needs ref_dir, the folder that prepare_person.py wrote")
        super().__init__(root, person, mode, parts, style, read_frame_names(root, person, mode))
        command = f"python prepare_person.py {Path(root) / person} --name {person} --out-dir {ref_dir}"
        self._prepared, _ = _open_prepared(self, Path(ref_dir), FROM_ENCODER, command)

    def identity(self) -> dict[str, str | int]:
        """Tell these samples from others: their number, where they come from, and a digest."""
        path = list_path(self.root, self.person, self.mode)
        digest = hashlib.sha256(file_digest(path).encode())
        for part, file in self._prepared.items():
            digest.update(f"{part} {file.digest()}".encode())
        what = f"{path.name} of {self.person}, boundaries of the encoder"
        return {"count": len(self), "what": what, "digest": digest.hexdigest()}

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Read a sample: uint8 arrays of `SHAPES`, one for each of `parts`."""
        return tuple(self._prepared[part][self.names[index]] for part in self.parts)

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]:
        """Read a sample and change the face: heatmaps are warped as pictures are."""
        change = {IMAGE: transform.image, HEATMAP: transform.heatmap, RESIZED_HEATMAP: transform.heatmap}
        return tuple(change[part](array) for part, array in zip(self.parts, self[index]))


def open_dataset(
    config: Config,
    person: str,
    mode: str,
    parts: tuple[str, ...],
    draw_anew: bool = False,
) -> DrawnDataset | EncodedDataset:
    """Open the samples of a person with boundaries of the kind that a configuration asks for.

    Args:
        config: with `train_dir`, `boundary` and `ref_dir`.
        draw_anew: draw from landmarks even if files are prepared, as tests do.

    Raises:
        ConfigError, DataError: as of the two classes.
    """
    if config.boundary == FROM_ENCODER:
        return EncodedDataset(config.train_dir, person, mode, parts, config.ref_dir, style_of(config))
    ref_dir = "" if draw_anew else config.ref_dir
    return DrawnDataset(config.train_dir, person, mode, parts, ref_dir, style_of(config))


def _read_image(root: str | Path, person: str, name: str) -> np.ndarray:
    return np.ascontiguousarray(read_frame(root, person, name).transpose(2, 0, 1))


def _open_prepared(
    dataset: DrawnDataset | EncodedDataset, ref_dir: Path, boundary: str, command: str
) -> tuple[dict[str, PreparedFile], dict[str, Any]]:
    """Open the npz files of a person's parts.

    Returns:
        the files by part, and what they were made from.

    Raises:
        DataError: they are missing or damaged, lack samples, or were made of something else.
    """
    person = dataset.person
    record = read_record(record_path(ref_dir, person))
    made_from = record["made_from"] if record else {}  # other programs' files have no record
    found = made_from.get("boundary", FROM_LANDMARKS)
    if found != boundary:
        raise DataError(
            f"{ref_dir}: {person} is prepared with 'boundary: {found}', not '{boundary}'; "
            "change boundary, or name the folder of the other kind in ref_dir"
        )
    drawn = drawing_in(record)
    if drawn != dataset.style.name:
        raise DataError(
            f"{ref_dir}: {person} is prepared with 'drawing: {drawn}', not '{dataset.style.name}'; "
            f"run '{command}', or change drawing"
        )
    everything = list_path(dataset.root, person, "all")
    if "list" in made_from and made_from["list"] != file_digest(everything):
        raise DataError(f"{ref_dir}: {person} was prepared from another {everything}; run '{command}' again")
    if IMAGE in dataset.parts and "pictures" in made_from:
        now = _pictures_digest(dataset.root, person, dataset.mode)
        if now and now != made_from["pictures"]:
            raise DataError(f"{ref_dir}: {person} was prepared from other pictures; run '{command}' again")
    parts = [part for part in dataset.parts if part in SHAPES]
    files = {part: PreparedFile(prepared_path(ref_dir, person, part), SHAPES[part], command) for part in parts}
    for file in files.values():
        file.require(dataset.names)
    return files, made_from


def _pictures_digest(root: str | Path, person: str, mode: str) -> str:
    """Digest all of a person's pictures; '' where not all of them are there, which training on npz files allows."""
    everything = "all" if list_path(root, person, "all").exists() else mode
    try:
        return images_digest(Path(root) / person / "Image", read_frame_names(root, person, everything))
    except DataError:
        return ""


class JoinedDataset:
    """Put the samples of several people behind each other.

    Args:
        parts: datasets of samples of the same parts.
    """

    def __init__(self, parts: list[DrawnDataset]):
        self.parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def identity(self) -> dict[str, Any]:
        """Tell these samples from others: their number, whose they are, and a digest of all that each part says."""
        said = [part.identity() for part in self.parts]
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        return {"count": len(self), "what": "; ".join(about["what"] for about in said), "digest": digest}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        part, inside = self._find(index)
        return part[inside]

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]:
        """Make a sample under a change of the face."""
        part, inside = self._find(index)
        return part.augmented(inside, transform)

    def _find(self, index: int) -> tuple[DrawnDataset, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[number], index - int(self._ends[number]) + len(self.parts[number])


class ShiftedDataset:
    """Join heatmaps of one person with heatmaps of its landmarks moved to other people's faces.

    Args:
        faces: samples of one part, the heatmap.
        moves: move landmarks (98, 2) of this person to another's face, each to one's.
    """

    def __init__(self, faces: DrawnDataset, moves: list[Callable[[np.ndarray], np.ndarray]]):
        self.faces, self.moves = faces, moves

    def identity(self) -> dict[str, str | int]:
        """Tell these samples from others, as the faces do."""
        return self.faces.identity()

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Return heatmap and shifted heatmaps, (15, 64, 64) uint8."""
        landmarks = self.faces.landmarks[index]
        return (*self.faces[index], *(self._heatmap(move(landmarks)) for move in self.moves))

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]:
        """Make a sample under a change of the face."""
        landmarks = self.faces.landmarks[index]
        shifted = (self._heatmap(transform.landmarks(move(landmarks))) for move in self.moves)
        return (*self.faces.augmented(index, transform), *shifted)

    def _heatmap(self, landmarks: np.ndarray) -> np.ndarray:
        return resize_heatmap(draw_heatmap(landmarks, style=self.faces.style), HEATMAP_SIZE)


class LandmarkDataset:
    """Draw heatmaps (15, 64, 64) uint8 of many faces, each with its landmarks (196,) in heatmap pixels.

    Args:
        landmarks: (N, 98, 2) in pixels of 256-pixel images.
        what: they are, for people.
        persons: the number of each face's person, (N,); None where everybody has one face.
    """

    def __init__(
        self,
        landmarks: np.ndarray,
        what: str,
        persons: np.ndarray | None = None,
        style: DrawingStyle = DrawingStyle(),
    ):
        self.landmarks, self.what, self.persons, self.style = landmarks, what, persons, style
        self.targets = self.targets_of(landmarks)  # (N, 196)

    @classmethod
    def of_people(
        cls, root: str | Path, people: Sequence[str], mode: str, style: DrawingStyle = DrawingStyle()
    ) -> LandmarkDataset:
        """Read the landmarks of people of CelebV's form.

        Raises:
            DataError: a list is missing or wrong.
        """
        lists = [read_person(root, person, mode).landmarks for person in people]
        persons = np.repeat(np.arange(len(lists)), [len(landmarks) for landmarks in lists])
        return cls(np.concatenate(lists), f"landmarks of {', '.join(people)} ({mode})", persons, style)

    def identity(self) -> dict[str, str | int]:
        """Tell these samples from others: their number, where they come from, and a digest."""
        digest = hashlib.sha256(self.landmarks.tobytes()).hexdigest()
        return {"count": len(self), "what": self.what, "digest": digest}

    def __len__(self) -> int:
        return len(self.landmarks)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._sample(self.landmarks[index])

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
        """Make a sample under a change of the face."""
        return self._sample(transform.landmarks(self.landmarks[index]))

    def _sample(self, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        heatmap = resize_heatmap(draw_heatmap(landmarks, style=self.style), HEATMAP_SIZE)
        return heatmap, self.targets_of(landmarks[None])[0]

    @staticmethod
    def targets_of(landmarks: np.ndarray) -> np.ndarray:
        """Turn landmarks (N, 98, 2) in pixels into (N, 196) float32: x, y of each in pixels of the 64-pixel heatmap."""
        return (landmarks * (HEATMAP_SIZE / IMAGE_SIZE)).reshape(len(landmarks), -1).astype(np.float32)
