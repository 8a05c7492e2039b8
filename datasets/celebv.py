"""CelebV: one folder a person, frames of a talking head and 98 landmarks each.

A person made by prepare_person.py has frames, but no landmarks: its lists are `*_frames.txt`, a name a line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from config.common import DRAWINGS, GAZE, PUBLISHED
from datasets.annotations import NUM_COORDINATES, Annotations, read_annotations, read_names
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE
from datasets.images import read_image
from datasets.prepared import RECORD_ENDING, Archives, drawing_in, images_digest, read_record
from utils.errors import DataError
from utils.files import file_digest, read_yaml

MODES = ("all", "train", "test")
LARGE_FOLDER = "Large"  # of a person that prepare_person.py made: some frames at 512 pixels, for a film
PERSON_FILE = "person.yaml"  # of a person that prepare_person.py made: how boundaries are drawn
WITH_LANDMARKS, NAMES_ONLY = "_98pt.txt", "_frames.txt"
FROM_LANDMARKS, FROM_ENCODER = "landmarks", "encoder"  # where boundaries come from
IMAGE, HEATMAP, RESIZED_HEATMAP = "image", "heatmap", "resized_heatmap"
SHAPES = {
    IMAGE: (3, IMAGE_SIZE, IMAGE_SIZE),
    HEATMAP: (15, HEATMAP_SIZE, HEATMAP_SIZE),
    RESIZED_HEATMAP: (15, IMAGE_SIZE, IMAGE_SIZE),
}


def list_path(root: str | Path, person: str, mode: str) -> Path:
    """Return the list of a person: `{mode}_98pt.txt`, or `{mode}_frames.txt` of a person without landmarks."""
    folder = Path(root) / person
    without_landmarks = (folder / "all_frames.txt").exists() and not (folder / "all_98pt.txt").exists()
    return folder / (mode + (NAMES_ONLY if without_landmarks else WITH_LANDMARKS))


def drawing_of(root: str | Path, people: Sequence[str]) -> str:
    """Return how the boundaries of people are drawn: `gaze` if the folders of all of them say so.

    Raises:
        DataError: a folder says something else.
    """
    found = set()
    for person in people:
        path = Path(root) / person / PERSON_FILE
        try:
            content = read_yaml(path)
        except FileNotFoundError:
            content = {"drawing": PUBLISHED}
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from None
        drawing = content.get("drawing") if isinstance(content, dict) else None
        if drawing not in DRAWINGS:
            raise DataError(f"{path}: 'drawing' must be one of {', '.join(DRAWINGS)}")
        found.add(drawing)
    return GAZE if found == {GAZE} else PUBLISHED


def prepared_drawing(ref_dir: str | Path, people: Sequence[str]) -> str:
    """Return how the boundaries of prepared files are drawn: `gaze` if everybody's are."""
    records = [read_record(record_path(Path(ref_dir), person)) for person in people]
    return GAZE if records and all(drawing_in(record) == GAZE for record in records) else PUBLISHED


def people_of(root: str | Path) -> list[str]:
    """List the people under a CelebV folder: every folder with a list of all frames."""
    lists = [*Path(root).glob("*/all_98pt.txt"), *Path(root).glob("*/all_frames.txt")]
    return sorted({path.parent.name for path in lists if not path.parent.name.startswith(".")})


def find_people(root: str | Path) -> list[str]:
    """List the people with landmarks.

    Raises:
        DataError: the folder is not there or holds nobody.
    """
    people = [person for person in people_of(root) if list_path(root, person, "all").name == "all_98pt.txt"]
    if not people:
        raise DataError(f"{root}: no person there (a folder with Image/ and all_98pt.txt); unpack CelebV into it")
    return people


def read_person(root: str | Path, person: str, mode: str) -> Annotations:
    """Read the landmarks of a person: of `all` frames, or of one of the two lists that split_celebv.sh writes.

    Raises:
        DataError: there is no such person or list, a line is wrong, an image is duplicated, or training and
            test share one.
    """
    path = _existing_list(root, person, mode)
    if path.name.endswith(NAMES_ONLY):
        raise DataError(
            f"{path.parent}: it has no landmarks (all_98pt.txt is missing); "
            "only training with 'boundary: encoder' works without"
        )
    annotations = read_annotations(path, 0, _hint(root, mode))
    _check_names(path, annotations.names)
    return annotations


def read_frame_names(root: str | Path, person: str, mode: str) -> list[str]:
    """List the images of a person, whether it has landmarks or not; errors as of `read_person`."""
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
    """Count the numbers that stand before the name on each line."""
    return 0 if path.name.endswith(NAMES_ONLY) else NUM_COORDINATES


def _hint(root: str | Path, mode: str) -> str:
    return "unpack CelebV again" if mode == "all" else f"run 'sh split_celebv.sh {root}' first"


def _check_names(path: Path, names: list[str]) -> None:
    """Raise if an image is duplicated in a list, or is in both training and test."""
    known = set(names)
    if len(known) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{path}: '{twice}' is duplicated; keep the line whose landmarks are right")
    mode, _, kind = path.name.partition("_")
    other = path.with_name(f"{'test' if mode == 'train' else 'train'}_{kind}")
    if mode != "all" and other.exists():
        shared = known.intersection(read_names(other, num_numbers(other), ""))
        if shared:
            raise DataError(
                f"{path}: shares {len(shared)} images with {other.name}, '{min(shared)}' first; "
                f"run 'sh split_celebv.sh {path.parent.parent}' again"
            )


def read_frame(root: str | Path, person: str, name: str, folder: str = "Image", size: int = IMAGE_SIZE) -> np.ndarray:
    """Read a frame from a folder of a person, (size, size, 3) uint8 RGB.

    Raises:
        DataError: it is missing, damaged or of another size.
    """
    path = Path(root) / person / folder / name
    image = read_image(path)
    if image.shape != (size, size, 3):
        raise DataError(
            f"{path}: {image.shape[1]}x{image.shape[0]} pixels instead of {size}x{size}; "
            "crop and resize it together with its landmarks"
        )
    return image


def prepared_path(folder: Path, person: str, part: str) -> Path:
    """Return the npz file of a part of a person's samples."""
    return folder / f"{person}_{part}.npz"


def record_path(folder: Path, person: str) -> Path:
    """Return the file that says how the npz files of a person were made."""
    return folder / f"{person}{RECORD_ENDING}"


def describe_archives(root: Path, person: str, names: list[str], out_dir: Path, made_from: dict[str, Any]) -> Archives:
    """Describe the npz files of all frames of a person, a file for each of `SHAPES`.

    Args:
        names: of all frames.
        made_from: what decides the files' bytes besides list and images: `boundary`, and what that needs.

    Raises:
        DataError: an image is missing.
    """
    digests = {
        "list": file_digest(list_path(root, person, "all")),
        "pictures": images_digest(root / person / "Image", names),
    }
    return Archives(
        name=person,
        count=len(names),
        record=record_path(out_dir, person),
        made_from=made_from | digests,
        paths=[prepared_path(out_dir, person, part) for part in SHAPES],
        texts={},
    )
