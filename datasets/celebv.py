"""CelebV: one folder a person, frames of a talking head and 98 landmarks each.

A person made by prepare_person.py has frames, but no landmarks: its lists are `*_frames.txt`, a name a line.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from datasets.annotations import NUM_COORDINATES, Annotations, read_annotations, read_names
from datasets.augment import Transform
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, DrawingStyle, draw_boundaries, resize_boundaries
from datasets.images import read_image
from datasets.prepared import PreparedFile, read_record
from utils.errors import ConfigError, DataError
from utils.files import file_digest

MODES = ("all", "train", "test")
NAMES_ONLY = "_frames.txt"
LANDMARKS, ENCODER = "landmarks", "encoder"  # where boundaries come from
IMAGE, HEATMAP, RESIZED_HEATMAP = "image", "heatmap", "resized_heatmap"
SHAPES = {
    IMAGE: (3, IMAGE_SIZE, IMAGE_SIZE),
    HEATMAP: (15, HEATMAP_SIZE, HEATMAP_SIZE),
    RESIZED_HEATMAP: (15, IMAGE_SIZE, IMAGE_SIZE),
}


def list_path(root: str | Path, person: str, mode: str) -> Path:
    """The list of a person: `{mode}_98pt.txt`, or `{mode}_frames.txt` where nobody has landmarked the frames."""
    folder = Path(root) / person
    without_landmarks = (folder / "all_frames.txt").exists() and not (folder / "all_98pt.txt").exists()
    return folder / (mode + (NAMES_ONLY if without_landmarks else "_98pt.txt"))


def people_of(root: str | Path) -> list[str]:
    """Names of the people under a CelebV folder: every folder with a list of all frames."""
    lists = [*Path(root).glob("*/all_98pt.txt"), *Path(root).glob("*/all_frames.txt")]
    return sorted({path.parent.name for path in lists if not path.parent.name.startswith(".")})


def find_people(root: str | Path) -> list[str]:
    """Names of the people with landmarks.

    Raises:
        DataError: the folder is not there or holds nobody.
    """
    people = [person for person in people_of(root) if list_path(root, person, "all").name == "all_98pt.txt"]
    if not people:
        raise DataError(f"{root}: no person there (a folder with Image/ and all_98pt.txt); unpack CelebV into it")
    return people


def read_person(root: str | Path, person: str, mode: str) -> Annotations:
    """The landmarks of a person: of `all` frames, or of one of the two lists that split_celebv.sh writes.

    Raises:
        DataError: there is no such person or list, a line is wrong, an image stands twice, or training and test
            share one.
    """
    path = _existing_list(root, person, mode)
    if path.name.endswith(NAMES_ONLY):
        raise DataError(
            f"{path.parent}: nobody has landmarked it (no all_98pt.txt); "
            "only training with 'boundary: encoder' does without"
        )
    annotations = read_annotations(path, 0, _hint(root, mode))
    _check_names(path, annotations.names)
    return annotations


def read_frame_names(root: str | Path, person: str, mode: str) -> list[str]:
    """The images of a person, whether it has landmarks or not; errors as of `read_person`."""
    path = _existing_list(root, person, mode)
    names = read_names(path, num_numbers(path), _hint(root, mode))
    _check_names(path, names)
    return names


def _existing_list(root: str | Path, person: str, mode: str) -> Path:
    folder = Path(root) / person
    if not person or not folder.is_dir():
        people = ", ".join(people_of(root)) or "nobody"
        raise DataError(f"{folder}: no such person; {root} holds {people}")
    return list_path(root, person, mode)


def num_numbers(path: Path) -> int:
    """How many numbers stand before the name on each line."""
    return 0 if path.name.endswith(NAMES_ONLY) else NUM_COORDINATES


def _hint(root: str | Path, mode: str) -> str:
    return "unpack CelebV again" if mode == "all" else f"run 'sh split_celebv.sh {root}' first"


def _check_names(path: Path, names: list[str]) -> None:
    """No image twice in a list, none in both training and test."""
    known = set(names)
    if len(known) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{path}: '{twice}' stands on several lines; keep the one whose landmarks are right")
    mode, _, kind = path.name.partition("_")
    other = path.with_name(f"{'test' if mode == 'train' else 'train'}_{kind}")
    if mode != "all" and other.exists():
        shared = known.intersection(read_names(other, num_numbers(other), ""))
        if shared:
            raise DataError(
                f"{path}: shares {len(shared)} images with {other.name}, '{min(shared)}' first; "
                f"run 'sh split_celebv.sh {path.parent.parent}' again"
            )


def read_frame(root: str | Path, person: str, name: str) -> np.ndarray:
    """(256, 256, 3) uint8 RGB."""
    path = Path(root) / person / "Image" / name
    image = read_image(path)
    if image.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise DataError(
            f"{path}: {image.shape[1]}x{image.shape[0]} pixels instead of {IMAGE_SIZE}x{IMAGE_SIZE}; "
            "crop and resize it together with its landmarks"
        )
    return image


class CelebVSource:
    """Samples of one person: drawn on the fly, or read from prepared files, which give the same arrays.

    Args:
        root: the folder that holds the people.
        mode: `all`, `train` or `test`.
        parts: what a sample holds, in order, of `image`, `heatmap` and `resized_heatmap`; only these are made.
        ref_dir: folder of prepared npz files, or '' to draw.
        boundary: `landmarks`, or `encoder` for files that prepare_person.py wrote into `ref_dir`.

    Raises:
        ConfigError: encoder boundaries without a folder that holds them.
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
        boundary: str = LANDMARKS,
    ):
        self.root, self.person, self.mode, self.parts, self.style = root, person, mode, parts, style
        self.boundary = boundary
        if boundary == ENCODER:
            if not ref_dir and parts != (IMAGE,):
                raise ConfigError("boundary: encoder needs ref_dir, the folder that prepare_person.py wrote")
            self.names = read_frame_names(root, person, mode)
        else:
            self.names, self.landmarks, _ = read_person(root, person, mode)  # landmarks (N, 98, 2) in pixels
        self._prepared = self._open_prepared(Path(ref_dir), boundary) if ref_dir else {}

    def _open_prepared(self, ref_dir: Path, boundary: str) -> dict[str, PreparedFile]:
        if boundary == ENCODER:
            folder = Path(self.root) / self.person
            command = f"python prepare_person.py {folder} --name {self.person} --out-dir {ref_dir}"
        else:
            command = f"python preprocess.py --dataset CelebV --out-dir {ref_dir}"
        record = read_record(record_path(ref_dir, self.person))
        made_from = record["made_from"] if record else {}  # other programs' files have no record
        found = made_from.get("boundary", LANDMARKS)
        if found != boundary:
            raise DataError(
                f"{ref_dir}: {self.person} is prepared with 'boundary: {found}', not '{boundary}'; "
                "set the one or name the other's folder"
            )
        everything = list_path(self.root, self.person, "all")
        if "list" in made_from and made_from["list"] != file_digest(everything):
            raise DataError(f"{ref_dir}: {self.person} was prepared from another {everything}; run '{command}' again")
        files = {
            part: PreparedFile(prepared_path(ref_dir, self.person, part), SHAPES[part], command) for part in self.parts
        }
        for file in files.values():
            file.require(self.names)
        return files

    def identity(self) -> dict[str, str | int]:
        """What tells these samples from others: their number, where they come from, and a digest."""
        kind = "the encoder" if self.boundary == ENCODER else "landmarks"
        path = list_path(self.root, self.person, self.mode)
        what = f"{path.name} of {self.person}, boundaries of {kind}"
        digest = hashlib.sha256(file_digest(path).encode())
        for part, file in self._prepared.items() if self.boundary == ENCODER else ():
            digest.update(f"{part} {file.digest()}".encode())
        return {"count": len(self), "what": what, "digest": digest.hexdigest()}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """uint8 arrays of `SHAPES`, one for each of `parts`; one decode and one drawing at most."""
        if self._prepared:
            name = self.names[index]
            return tuple(self._prepared[part][name] for part in self.parts)
        sample = {IMAGE: self._image(index)} if IMAGE in self.parts else {}
        if HEATMAP in self.parts or RESIZED_HEATMAP in self.parts:
            sample |= self._drawn(self.landmarks[index])
        return tuple(sample[part] for part in self.parts)

    def changed(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]:
        """The sample under a change of the face: drawn from changed landmarks, or the encoder's maps changed."""
        sample = {IMAGE: transform.image(self._image(index))} if IMAGE in self.parts else {}
        if self.boundary == ENCODER:
            name = self.names[index]
            sample |= {part: transform.maps(self._prepared[part][name]) for part in self.parts if part != IMAGE}
        elif HEATMAP in self.parts or RESIZED_HEATMAP in self.parts:
            sample |= self._drawn(transform.landmarks(self.landmarks[index]))
        return tuple(sample[part] for part in self.parts)

    def _image(self, index: int) -> np.ndarray:
        name = self.names[index]
        if IMAGE in self._prepared:
            return self._prepared[IMAGE][name]
        return np.ascontiguousarray(read_frame(self.root, self.person, name).transpose(2, 0, 1))

    def _drawn(self, landmarks: np.ndarray) -> dict[str, np.ndarray]:
        boundaries = draw_boundaries(landmarks, style=self.style)
        drawn = {RESIZED_HEATMAP: boundaries}
        if HEATMAP in self.parts:
            drawn[HEATMAP] = resize_boundaries(boundaries, HEATMAP_SIZE)
        return drawn


def prepared_path(folder: Path, person: str, part: str) -> Path:
    return folder / f"{person}_{part}.npz"


def record_path(folder: Path, person: str) -> Path:
    return folder / f"{person}_prepared.yaml"


class ShiftedSource:
    """Heatmaps of one person, each beside those of its landmarks moved to other people's mean faces.

    Args:
        source: samples of one part, the heatmap.
        others: the people whose means the landmarks are moved to.
    """

    def __init__(self, source: CelebVSource, others: list[CelebVSource]):
        self.source = source
        mean = source.landmarks.mean(axis=0)
        self.shifts = [other.landmarks.mean(axis=0) - mean for other in others]  # (98, 2) each

    def identity(self) -> dict[str, str | int]:
        return self.source.identity()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Heatmap and shifted heatmaps, (15, 64, 64) uint8."""
        landmarks = self.source.landmarks[index]
        return (*self.source[index], *(self._heatmap(landmarks + shift) for shift in self.shifts))

    def changed(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]:
        """The sample under a change of the face."""
        landmarks = self.source.landmarks[index]
        shifted = (self._heatmap(transform.landmarks(landmarks + shift)) for shift in self.shifts)
        return (*self.source.changed(index, transform), *shifted)

    def _heatmap(self, landmarks: np.ndarray) -> np.ndarray:
        return resize_boundaries(draw_boundaries(landmarks, style=self.source.style), HEATMAP_SIZE)


class LandmarkSource:
    """Drawn heatmaps (15, 64, 64) uint8 of many faces, each with its landmarks (196,) in heatmap pixels."""

    def __init__(self, landmarks: np.ndarray, what: str):
        self.landmarks, self.what = landmarks, what  # (N, 98, 2) in pixels of 256-pixel images
        self.targets = self._targets(landmarks)  # (N, 196)

    @classmethod
    def of_people(cls, root: str | Path, people: list[str], mode: str) -> LandmarkSource:
        """Raises:
        DataError: a list is missing or wrong.
        """
        lists = [read_person(root, person, mode).landmarks for person in people]
        return cls(np.concatenate(lists), f"landmarks of {', '.join(people)} ({mode})")

    def identity(self) -> dict[str, str | int]:
        """What tells these samples from others: their number, where they come from, and a digest."""
        digest = hashlib.sha256(self.landmarks.tobytes()).hexdigest()
        return {"count": len(self), "what": self.what, "digest": digest}

    def __len__(self) -> int:
        return len(self.landmarks)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._sample(self.landmarks[index])

    def changed(self, index: int, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
        """The sample under a change of the face."""
        return self._sample(transform.landmarks(self.landmarks[index]))

    def _sample(self, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return resize_boundaries(draw_boundaries(landmarks), HEATMAP_SIZE), self._targets(landmarks[None])[0]

    @staticmethod
    def _targets(landmarks: np.ndarray) -> np.ndarray:
        """(N, 196) float32: x, y of each landmark in pixels of the 64-pixel heatmap."""
        return (landmarks * (HEATMAP_SIZE / IMAGE_SIZE)).reshape(len(landmarks), -1).astype(np.float32)
