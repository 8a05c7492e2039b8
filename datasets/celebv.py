"""CelebV: one folder a person, frames of a talking head and 98 landmarks each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.annotations import Annotations, read_annotations
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, DrawingStyle, draw_boundaries, resize_boundaries
from datasets.images import read_image
from datasets.prepared import PreparedFile
from utils.errors import DataError

MODES = ("all", "train", "test")
IMAGE, HEATMAP, RESIZED_HEATMAP = "image", "heatmap", "resized_heatmap"
SHAPES = {
    IMAGE: (3, IMAGE_SIZE, IMAGE_SIZE),
    HEATMAP: (15, HEATMAP_SIZE, HEATMAP_SIZE),
    RESIZED_HEATMAP: (15, IMAGE_SIZE, IMAGE_SIZE),
}


def find_people(root: str | Path) -> list[str]:
    """Names of the people under a CelebV folder: every folder with an `all_98pt.txt`.

    Raises:
        DataError: the folder is not there or holds nobody.
    """
    people = sorted(path.parent.name for path in Path(root).glob("*/all_98pt.txt"))
    if not people:
        raise DataError(f"{root}: no person there (a folder with Image/ and all_98pt.txt); unpack CelebV into it")
    return people


def read_person(root: str | Path, person: str, mode: str) -> Annotations:
    """The list of a person: `all`, or one of the two that split_celebv.sh writes."""
    folder = Path(root) / person
    if not folder.is_dir():
        people = ", ".join(sorted(path.parent.name for path in Path(root).glob("*/all_98pt.txt"))) or "nobody"
        raise DataError(f"{folder}: no such person; {root} holds {people}")
    split = f"run 'sh split_celebv.sh {root}' first"
    hint = "unpack CelebV again" if mode == "all" else split
    return read_annotations(folder / f"{mode}_98pt.txt", 0, hint)


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
    """Samples of one person, drawn on the fly or read from the files that preprocess.py wrote.

    Args:
        root: the folder that holds the people.
        mode: `all`, `train` or `test`.
        ref_dir: folder of prepared npz files, or '' to draw.
        parts: what a sample holds, in order, of `image`, `heatmap` and `resized_heatmap`.
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
        self.root, self.person, self.parts, self.style = root, person, parts, style
        self.annotations = read_person(root, person, mode)
        self._prepared = {}
        if ref_dir:
            command = f"python preprocess.py --dataset CelebV --out-dir {ref_dir}"
            for part in parts:
                path = Path(ref_dir) / f"{person}_{part}.npz"
                self._prepared[part] = PreparedFile(path, SHAPES[part], command)
                self._prepared[part].require(self.annotations.names)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """uint8 arrays of `SHAPES`, one for each of `parts`."""
        name = self.annotations.names[index]
        if self._prepared:
            return tuple(self._prepared[part][name] for part in self.parts)
        return draw_sample(self.root, self.person, name, self.annotations.landmarks[index], self.parts, self.style)


def draw_sample(
    root: str | Path, person: str, name: str, landmarks: np.ndarray, parts: tuple[str, ...], style: DrawingStyle
) -> tuple[np.ndarray, ...]:
    """One decode and one drawing at most, whatever parts are asked for."""
    sample = {}
    if IMAGE in parts:
        sample[IMAGE] = np.ascontiguousarray(read_frame(root, person, name).transpose(2, 0, 1))
    if HEATMAP in parts or RESIZED_HEATMAP in parts:
        sample[RESIZED_HEATMAP] = draw_boundaries(landmarks, style=style)
    if HEATMAP in parts:
        sample[HEATMAP] = resize_boundaries(sample[RESIZED_HEATMAP], HEATMAP_SIZE)
    return tuple(sample[part] for part in parts)


def prepare_person(root: str | Path, person: str, style: DrawingStyle) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    """(file name, (image, heatmap, resized heatmap)) of every line of all_98pt.txt, whatever other lists there are.

    The list is read and checked at once, the frames one by one as they are asked for.
    """
    annotations = read_person(root, person, "all")
    return (
        (name, draw_sample(root, person, name, landmarks, tuple(SHAPES), style))
        for name, landmarks in zip(annotations.names, annotations.landmarks)
    )


class ShiftedSource:
    """Heatmaps of one person, each beside that of its landmarks moved to another person's mean face.

    Args:
        source: samples of one part, the heatmap.
        other: the person whose mean the landmarks are moved to.
    """

    def __init__(self, source: CelebVSource, other: CelebVSource):
        self.source = source
        self.shift = other.annotations.landmarks.mean(axis=0) - source.annotations.landmarks.mean(axis=0)  # (98, 2)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Heatmap and shifted heatmap, (15, 64, 64) uint8."""
        (heatmap,) = self.source[index]
        shifted = draw_boundaries(self.source.annotations.landmarks[index] + self.shift, style=self.source.style)
        return heatmap, resize_boundaries(shifted, HEATMAP_SIZE)


class LandmarkSource:
    """Drawn heatmaps (15, 64, 64) uint8 of several people, each with its landmarks (196,) in heatmap pixels."""

    def __init__(self, root: str | Path, people: list[str], mode: str):
        lists = [read_person(root, person, mode).landmarks for person in people]
        self.landmarks = np.concatenate(lists)  # (N, 98, 2) in image pixels
        # (N, 196) float32: x, y of each landmark in pixels of the 64-pixel heatmap
        self.targets = (self.landmarks * (HEATMAP_SIZE / IMAGE_SIZE)).reshape(len(self), -1).astype(np.float32)

    def __len__(self) -> int:
        return len(self.landmarks)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        heatmap = resize_boundaries(draw_boundaries(self.landmarks[index]), HEATMAP_SIZE)
        return heatmap, self.targets[index]
