"""Checking data sets: every line and every image is examined before a training fails on one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets import celebv, wflw
from datasets.annotations import NUM_COORDINATES, Annotations, read_annotations, read_names
from datasets.images import DEEP, IMAGE_ENDINGS
from faces.landmarks import IMAGE_SIZE, NUM_LANDMARKS
from utils.errors import DataError
from utils.files import NotRegular, open_file
from utils.parallel import WorkerPool

MAX_EXAMPLES = 3
IMAGES_AT_ONCE = 16  # images per task of a worker
MIN_FACE_PX = 24
EXIF_ORIENTATION = 0x0112
SQUARE = f"{IMAGE_SIZE}x{IMAGE_SIZE}"

# findings: description, and whether training fails
LIST = ("lists that cannot be read", True)
LINES = ("lines that cannot be read", True)
TWICE = ("images on several lines", True)
SHARED = ("images both in training and test", True)
MISSING = ("images that are missing", True)
UNDECODABLE = ("images that cannot be decoded", True)
NOT_SQUARE = (f"images that are not {SQUARE}", True)
NO_CROP = ("faces whose crop is outside the image", True)
NO_LIST = ("folders without all_98pt.txt", False)
KIND = ("images that are not 8-bit RGB; they are converted", False)
ROTATED = ("images with an EXIF rotation, which is not applied: landmarks refer to stored pixels", False)
OUTSIDE = ("lines with landmarks outside the image", False)
TINY = (f"faces smaller than {MIN_FACE_PX} pixels", False)
NO_LINE = ("images without a line", False)


@dataclass
class Report:
    """Findings of one person, or of one list of WFLW."""

    name: str
    num_lines: int = 0
    kinds: Counter[str] = field(default_factory=Counter)  # sizes and modes of images
    findings: dict[tuple[str, bool], list[str]] = field(default_factory=dict)

    def note(self, kind: tuple[str, bool], example: object) -> None:
        """Add a finding."""
        self.findings.setdefault(kind, []).append(str(example))

    @property
    def num_fatal(self) -> int:
        """Return the number of problems on which training fails."""
        return sum(len(examples) for (_, is_fatal), examples in self.findings.items() if is_fatal)

    def lines(self) -> Iterator[str]:
        """Format the report, fatal findings first."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common(4))
        yield f"{self.name}: {self.num_lines} lines; images: {kinds or 'none'}{', ...' if len(self.kinds) > 4 else ''}"
        for (words, is_fatal), examples in sorted(self.findings.items(), key=lambda item: not item[0][1]):
            rest = ["..."] if len(examples) > MAX_EXAMPLES else []
            kind = "problem" if is_fatal else "note"
            yield f"  {kind:8}{len(examples)} {words}: {'; '.join(examples[:MAX_EXAMPLES] + rest)}"


class ImageFacts(NamedTuple):
    """Properties of an image."""

    width: int = 0
    height: int = 0
    kind: str = ""  # for example '8-bit RGB'
    is_rotated: bool = False
    problem: str = ""  # why it cannot be decoded


def examine(path: Path) -> ImageFacts | None:
    """Decode an image; return None if it is missing."""
    try:
        with open_file(path) as file, Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(DEEP)
            image.load()
            kind = "8-bit RGB" if image.mode == "RGB" else f"mode {image.mode}"
            return ImageFacts(*image.size, kind, image.getexif().get(EXIF_ORIENTATION, 1) not in (0, 1))
    except FileNotFoundError:
        return None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        problem = error.strerror if isinstance(error, NotRegular) else str(error)
        return ImageFacts(problem=problem.replace(str(path), path.name))


def check_people(root: Path, people: list[str] | None, num_workers: int) -> list[Report]:
    """Check people (None: all) in CelebV's format. Raises DataError if the folder or a person does not exist."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; unpack CelebV into it")
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    unknown = set(people or ()) - set(folders)
    if unknown:
        raise DataError(f"{root}: no {', '.join(sorted(unknown))}; it contains {', '.join(folders) or 'no folders'}")
    celebv.find_people(root)
    return [check_person(root, person, num_workers) for person in people or folders]


def check_person(root: Path, person: str, num_workers: int) -> Report:
    """Check one person."""
    report = Report(person)
    image_dir, path = root / person / "Image", celebv.list_path(root, person, "all")
    if not path.exists():
        report.note(NO_LIST, root / person)
        return report
    names, landmarks, _ = _read_list(report, path, 0)
    for name, count in Counter(names).items():
        if count > 1:
            report.note(TWICE, f"{name} ({count} lines)")
    _compare_split(report, root, person)
    _check_landmarks(report, names, landmarks, np.full((len(names), 2), IMAGE_SIZE))
    with WorkerPool(lambda name: examine(image_dir / name), num_workers) as pool:
        answers = pool.map(names, IMAGES_AT_ONCE)
        for name, facts in zip(names, tqdm(answers, desc=person, total=len(names), unit="image", disable=None)):
            _check_image(report, name, facts, must_be_square=True)
    _note_images_without_a_line(report, image_dir, names)
    return report


def check_wflw(root: Path, modes: Iterable[str], num_workers: int) -> list[Report]:
    """Check lists of WFLW with their images."""
    reports, names = [], set()
    for mode in modes:
        reports.append(Report(f"WFLW {mode}"))
        names.update(_check_faces(reports[-1], root, mode, num_workers))
    _note_images_without_a_line(reports[-1], root / "WFLW_images", names)
    return reports


def _check_faces(report: Report, root: Path, mode: str, num_workers: int) -> list[str]:
    """Check the faces of a list; return the names of its images."""
    image_dir = root / "WFLW_images"
    names, landmarks, extras = _read_list(report, wflw.list_path(root, mode), wflw.NUM_EXTRAS)
    sizes = np.full((len(names), 2), IMAGE_SIZE)
    with WorkerPool(lambda name: examine(image_dir / name), num_workers) as pool:
        answers = pool.map(names, IMAGES_AT_ONCE)
        for row, facts in enumerate(tqdm(answers, desc=report.name, total=len(names), unit="face", disable=None)):
            if not _check_image(report, names[row], facts, must_be_square=False):
                continue
            sizes[row] = facts.width, facts.height
            try:
                wflw.square_about(landmarks[row], extras[row, :4], 0.0, (facts.height, facts.width))
            except ValueError as error:
                report.note(NO_CROP, f"face {row}, {names[row]}: {error}")
    _check_landmarks(report, names, landmarks, sizes)
    return names


def _read_list(report: Report, path: Path, num_extras: int) -> Annotations:
    """Read the valid lines, and note the others."""

    def note(words: str) -> None:
        report.num_lines += 1
        report.note(LINES, f"{path.name}: {words}")

    try:
        annotations = read_annotations(path, num_extras, "unpack the annotations", note)
    except DataError as error:
        report.note(LIST, error)
        return Annotations([], np.empty((0, NUM_LANDMARKS, 2)), np.empty((0, num_extras)))
    report.num_lines += len(annotations)
    return annotations


def _compare_split(report: Report, root: Path, person: str) -> None:
    """Compare the lists of training and test."""
    lists = []
    for path in (celebv.list_path(root, person, mode) for mode in ("train", "test")):
        try:
            lists.append(set(read_names(path, NUM_COORDINATES, "split again")) if path.exists() else set())
        except DataError as error:
            report.note(LIST, error)
    for name in sorted(set.intersection(*lists)) if lists else ():
        report.note(SHARED, name)


def _check_landmarks(report: Report, names: list[str], landmarks: np.ndarray, sizes: np.ndarray) -> None:
    """Compare landmarks (N, 98, 2) with the sizes (N, 2) of their images, width first."""
    outside = ((landmarks < 0) | (landmarks >= sizes[:, None])).any(axis=2).sum(axis=1)
    for row in np.flatnonzero(outside):
        report.note(OUTSIDE, f"{names[row]}: {outside[row]} of {NUM_LANDMARKS}")
    extent = np.ptp(landmarks, axis=1).max(axis=1) if len(names) else np.empty(0)
    for row in np.flatnonzero(extent < MIN_FACE_PX):
        report.note(TINY, f"{names[row]}: {extent[row]:.0f} pixels")


def _check_image(report: Report, name: str, facts: ImageFacts | None, must_be_square: bool) -> bool:
    """Note problems of an image; return whether training can use it."""
    if facts is None or facts.problem:
        report.note(*((MISSING, name) if facts is None else (UNDECODABLE, f"{name}: {facts.problem}")))
        return False
    report.kinds[f"{facts.width}x{facts.height} {facts.kind}" if must_be_square else facts.kind] += 1
    if facts.kind != "8-bit RGB":
        report.note(KIND, f"{name}: {facts.kind}")
    if facts.is_rotated:
        report.note(ROTATED, name)
    if must_be_square and (facts.width, facts.height) != (IMAGE_SIZE, IMAGE_SIZE):
        report.note(NOT_SQUARE, f"{name}: {facts.width}x{facts.height}")
        return False
    return True


def _note_images_without_a_line(report: Report, image_dir: Path, names: Iterable[str]) -> None:
    listed = set(names)
    for path in sorted(image_dir.rglob("*")):
        name = path.relative_to(image_dir).as_posix()
        if path.suffix.lower() in IMAGE_ENDINGS and name not in listed:
            report.note(NO_LINE, name)
