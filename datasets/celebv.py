"""CelebV's format: one folder per person, with frames of a talking head and 98 landmarks each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from config.common import DRAWINGS, PUBLISHED
from datasets.annotations import NUM_COORDINATES, Annotations, read_annotations, read_names
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, style_in
from datasets.images import read_image
from datasets.prepared import RECORD_ENDING, Archives, images_digest, read_record
from utils.errors import DataError
from utils.files import file_digest, read_yaml

MODES = ("all", "train", "test")
LARGE_FOLDER = "Large"  # from prepare_person.py: some frames at 512 pixels, for a film
PERSON_FILE = "person.yaml"  # from prepare_person.py: the drawing style
FROM_LANDMARKS, FROM_ENCODER = "landmarks", "encoder"  # origin of boundaries
IMAGE, HEATMAP, RESIZED_HEATMAP = "image", "heatmap", "resized_heatmap"
SHAPES = {
    IMAGE: (3, IMAGE_SIZE, IMAGE_SIZE),
    HEATMAP: (15, HEATMAP_SIZE, HEATMAP_SIZE),
    RESIZED_HEATMAP: (15, IMAGE_SIZE, IMAGE_SIZE),
}


def list_path(root: str | Path, person: str, mode: str) -> Path:
    """Return the path of a person's annotation list."""
    return Path(root) / person / f"{mode}_98pt.txt"


def drawing_of(root: str | Path, people: Sequence[str]) -> str:
    """Return the style that the folders of people name; `published` if they name none.

    Raises DataError if one is unknown or they differ.
    """
    found = {}
    for person in people:
        path = Path(root) / person / PERSON_FILE
        try:
            content = read_yaml(path)
        except FileNotFoundError:
            if path.is_symlink():
                raise DataError(f"{path}: a broken link; restore or remove it") from None
            content = {"drawing": PUBLISHED}
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from None
        drawing = content.get("drawing") if isinstance(content, dict) else None
        if drawing not in DRAWINGS:
            raise DataError(f"{path}: 'drawing' must be one of {', '.join(DRAWINGS)}")
        found[person] = drawing
    return _only(root, found)


def prepared_drawing(ref_dir: str | Path, people: Sequence[str]) -> str:
    """Return the drawing style that the prepared files of people name. Raises DataError if they differ."""
    records = {person: read_record(record_path(Path(ref_dir), person)) for person in people}
    return _only(ref_dir, {person: style_in(record).name for person, record in records.items()})


def _only(root: str | Path, drawings: dict[str, str]) -> str:
    """Return the only drawing style of people. Raises DataError if there are several."""
    if len(set(drawings.values())) > 1:
        words = ", ".join(f"{person} '{drawing}'" for person, drawing in drawings.items())
        raise DataError(f"{root}: people of different drawing styles: {words}; set drawing to one of them")
    return next(iter(drawings.values()), PUBLISHED)


def people_of(root: str | Path) -> list[str]:
    """Return the names of all people in a folder."""
    lists = Path(root).glob("*/all_98pt.txt")
    return sorted(path.parent.name for path in lists if not path.parent.name.startswith("."))


def find_people(root: str | Path) -> list[str]:
    """Return the names of all people in a folder. Raises DataError if there are none."""
    people = people_of(root)
    if not people:
        raise DataError(f"{root}: no person (a folder with Image/ and all_98pt.txt); unpack CelebV into it")
    return people


def read_person(root: str | Path, person: str, mode: str) -> Annotations:
    """Read an annotation list of a person: of `all` frames, or of `train` or `test`, written by split_celebv.sh.

    Raises DataError if it is missing or invalid, or an image is duplicated or in both train and test.
    """
    path = _existing_list(root, person, mode)
    annotations = read_annotations(path, 0, _hint(root, mode))
    _check_names(path, annotations.names)
    return annotations


def read_frame_names(root: str | Path, person: str, mode: str) -> list[str]:
    """Read the image names of a list; see `read_person` for errors."""
    path = _existing_list(root, person, mode)
    names = read_names(path, NUM_COORDINATES, _hint(root, mode))
    _check_names(path, names)
    return names


def _existing_list(root: str | Path, person: str, mode: str) -> Path:
    folder = Path(root) / person
    if not person or not folder.is_dir():
        people = ", ".join(people_of(root)) or "no people"
        raise DataError(f"{folder}: no such person; {root} contains {people}")
    return list_path(root, person, mode)


def _hint(root: str | Path, mode: str) -> str:
    return "unpack CelebV again" if mode == "all" else f"run 'sh split_celebv.sh {root}' first"


def _check_names(path: Path, names: list[str]) -> None:
    """Raise a DataError if an image is duplicated in a list, or is in both train and test."""
    known = set(names)
    if len(known) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{path}: '{twice}' is duplicated; remove one of the lines")
    mode, _, kind = path.name.partition("_")
    other = path.with_name(f"{'test' if mode == 'train' else 'train'}_{kind}")
    if mode != "all" and os.path.lexists(other):
        shared = known.intersection(read_names(other, NUM_COORDINATES, ""))
        if shared:
            raise DataError(
                f"{path}: shares {len(shared)} images with {other.name}, for example '{min(shared)}'; "
                f"run 'sh split_celebv.sh {path.parent.parent}' again"
            )


def require_images(root: str | Path, person: str, mode: str, names: list[str]) -> None:
    """Raise a DataError if images of a person's list are missing."""
    folder = Path(root) / person / "Image"
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        lists = ", ".join(path.name for path in (list_path(root, person, m) for m in MODES) if path.exists())
        raise DataError(
            f"{folder}: {len(missing)} of {len(names)} images of {mode}_98pt.txt are missing, for example "
            f"{missing[0]}; restore them, or remove their lines from {lists}"
        )


def read_frame(root: str | Path, person: str, name: str, folder: str = "Image", size: int = IMAGE_SIZE) -> np.ndarray:
    """Read a frame, (size, size, 3) uint8 RGB. Raises DataError if it is missing, damaged or of another size."""
    path = Path(root) / person / folder / name
    image = read_image(path)
    if image.shape != (size, size, 3):
        raise DataError(
            f"{path}: {image.shape[1]}x{image.shape[0]} pixels instead of {size}x{size}; "
            "crop and resize it together with its landmarks"
        )
    return image


def prepared_path(folder: Path, person: str, part: str) -> Path:
    """Return the npz file of a part (a key of `SHAPES`) of a person's samples."""
    return folder / f"{person}_{part}.npz"


def record_path(folder: Path, person: str) -> Path:
    """Return the record of a person's npz files."""
    return folder / f"{person}{RECORD_ENDING}"


def describe_archives(root: Path, person: str, names: list[str], out_dir: Path, made_from: dict[str, Any]) -> Archives:
    """Describe the npz files of all frames of a person, one for each of `SHAPES`.

    Args:
        made_from: everything that determines the content besides list and images.

    Raises DataError if an image is missing.
    """
    digests = {
        "list": file_digest(list_path(root, person, "all")),
        "images": images_digest(root / person / "Image", names),
    }
    return Archives(
        name=person,
        count=len(names),
        record=record_path(out_dir, person),
        made_from=made_from | digests,
        paths=[prepared_path(out_dir, person, part) for part in SHAPES],
        texts={},
    )
