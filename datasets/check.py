"""Look at every line and every image of a data set, and say what is wrong with it before a training does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets import celebv, wflw
from datasets.annotations import Annotations, read_annotations, read_names
from datasets.boundary import IMAGE_SIZE, NUM_LANDMARKS, draw_heatmap, overlay
from datasets.images import IMAGE_ENDINGS, read_image
from datasets.panels import evenly
from utils.errors import DataError
from utils.files import NotRegular, open_file
from utils.parallel import WorkerPool

MAX_EXAMPLES = 20  # kept of each finding
NUM_SAMPLES = 24  # faces of the sheet
IMAGES_AT_ONCE = 16  # handed to a worker together
MIN_FACE_PX = 24
EXIF_ORIENTATION = 0x0112
SQUARE = f"{IMAGE_SIZE}x{IMAGE_SIZE}"

# What is looked for: what it is called, and whether training fails on it
LIST = ("lists that cannot be read", True)
LINES = ("lines that cannot be read", True)
TWICE = ("images on several lines", True)
SHARED = ("images both in training and test", True)
MISSING = ("images that are not there", True)
UNDECODABLE = ("images that cannot be decoded", True)
NOT_SQUARE = (f"images that are not {SQUARE}", True)
NO_CROP = ("faces whose crop lies outside of the image", True)
NO_LIST = ("folders without all_98pt.txt", False)
KIND = ("images that are not 8-bit RGB; they are converted", False)
ROTATED = ("images with an EXIF rotation; it is not applied, since landmarks count in stored pixels", False)
OUTSIDE = ("lines with landmarks outside of the image", False)
TINY = (f"faces smaller than {MIN_FACE_PX} pixels", False)
NO_LINE = ("images without a line", False)
STRANGER = ("images of training or test that are not in the list of all", False)
SAME_FACE = ("faces on several lines", False)
NO_BOX = ("boxes without area", False)
IN_BOTH = ("images with faces both in training and test", False)


@dataclass
class Finding:
    """Count a kind of problem, with examples."""

    is_fatal: bool
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Report:
    """Collect what was seen of one person, or of one list of WFLW."""

    name: str
    num_lines: int = 0
    kinds: Counter[str] = field(default_factory=Counter)  # size and mode of images
    sides: set[int] = field(default_factory=set)  # widths and heights that occur, in pixels
    findings: dict[str, Finding] = field(default_factory=dict)
    # (256, 256) how many landmarks lie at each pixel of the face's picture
    positions: np.ndarray = field(default_factory=lambda: np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.int64))
    samples: list[np.ndarray] = field(default_factory=list)  # faces (256, 256, 3) uint8 with their boundaries

    def note(self, kind: tuple[str, bool], example: object) -> None:
        """Count a finding, and keep the first examples."""
        words, is_fatal = kind
        finding = self.findings.setdefault(words, Finding(is_fatal))
        finding.count += 1
        if len(finding.examples) < MAX_EXAMPLES:
            finding.examples.append(str(example))

    def count_positions(self, points: np.ndarray) -> None:
        """Count landmarks (..., 2) in pixels of the face's picture."""
        x, y = points.reshape(-1, 2).astype(np.int64).T
        inside = (x >= 0) & (y >= 0) & (x < IMAGE_SIZE) & (y < IMAGE_SIZE)
        np.add.at(self.positions, (y[inside], x[inside]), 1)

    @property
    def num_fatal(self) -> int:
        """Count the problems on which training fails."""
        return sum(finding.count for finding in self.findings.values() if finding.is_fatal)


class ImageFacts(NamedTuple):
    """Hold what is known of an image."""

    width: int
    height: int
    kind: str  # '8-bit RGB' or what else it is
    is_rotated: bool
    problem: str  # why it cannot be decoded, or ''


def look_at_image(path: Path) -> ImageFacts | None:
    """Decode an image fully; None where it is not there."""
    kind, is_rotated, size = "", False, (0, 0)
    try:
        with open_file(path) as file, Image.open(file) as image:
            size, kind = image.size, _kind_of(image)
            image.load()
            is_rotated = image.getexif().get(EXIF_ORIENTATION, 1) not in (0, 1)
    except FileNotFoundError:
        return None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        words = error.strerror if isinstance(error, NotRegular) else str(error)
        return ImageFacts(*size, kind, is_rotated, words.replace(str(path), path.name))
    return ImageFacts(*size, kind, is_rotated, "")


def _kind_of(image: Image.Image) -> str:
    raw_modes = "".join(str(tile[3]) for tile in image.tile)
    if image.mode.startswith("I") or ";16" in raw_modes:
        return "16-bit"
    names = {"RGB": "8-bit RGB", "L": "gray", "1": "black and white", "LA": "gray with alpha", "P": "palette"}
    return names.get(image.mode, image.mode)


def check_people(root: Path, people: list[str] | None, num_workers: int) -> list[Report]:
    """Check everyone of a CelebV folder, or those named.

    Raises:
        DataError: the folder, or somebody who is named, is not there.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; unpack CelebV into it")
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    unknown = set(people or ()) - set(folders)
    if unknown:
        raise DataError(f"{root}: no {', '.join(sorted(unknown))} there; it holds {', '.join(folders) or 'nobody'}")
    if not celebv.people_of(root):
        raise DataError(f"{root}: no person there (a folder with Image/ and all_98pt.txt); unpack CelebV into it")
    return [check_person(root, person, num_workers) for person in people or folders]


def check_person(root: Path, person: str, num_workers: int) -> Report:
    """Check a person of CelebV's form, with landmarks or, as prepare_person.py makes them, without."""
    report = Report(person)
    image_dir = root / person / "Image"
    path = celebv.list_path(root, person, "all")
    if not path.exists():
        report.note(NO_LIST, root / person)
        return report
    has_landmarks = not path.name.endswith(celebv.NAMES_ONLY)
    if has_landmarks:
        names, landmarks, _ = _parse_list(report, path, 0)
    else:
        names = _parse_names(report, path)
        report.num_lines = len(names)
    for name, count in Counter(names).items():
        if count > 1:
            report.note(TWICE, f"{name} ({count} lines)")
    _compare_split(report, root, person, set(names))
    if has_landmarks:
        _note_faces(report, names, landmarks, np.full((len(names), 2), IMAGE_SIZE))
        report.count_positions(landmarks)

    with WorkerPool(lambda name: look_at_image(image_dir / name), num_workers) as pool:
        answers = pool.map(names, IMAGES_AT_ONCE)
        bar = tqdm(answers, desc=person, total=len(names), unit="image", disable=None)
        is_good = [_note_image(report, name, facts, must_be_square=True) for name, facts in zip(names, bar)]
    _note_images_without_a_line(report, image_dir, names)
    for row in _samples(is_good):
        face = read_image(image_dir / names[row])
        report.samples.append(overlay(face, draw_heatmap(landmarks[row])) if has_landmarks else face)
    return report


def check_wflw(root: Path, modes: Iterable[str], num_workers: int) -> list[Report]:
    """Check the lists of WFLW, each with the images that it names."""
    reports, images = [], {}
    for mode in modes:
        report = Report(f"WFLW {mode}")
        images[mode] = set(_check_faces(report, root, mode, num_workers))
        reports.append(report)
    _note_images_without_a_line(reports[-1], root / "WFLW_images", set().union(*images.values()))
    if len(images) > 1:
        for name in sorted(set.intersection(*images.values())):
            reports[-1].note(IN_BOTH, name)
    return reports


def _check_faces(report: Report, root: Path, mode: str, num_workers: int) -> list[str]:
    """Check the faces of a list; return the names of its images."""
    image_dir = root / "WFLW_images"
    names, landmarks, extras = _parse_list(report, wflw.list_path(root, mode), wflw.NUM_EXTRAS)
    boxes = extras[:, :4]

    def look(row: int) -> ImageFacts | None:
        return look_at_image(image_dir / names[row])

    sizes = np.full((len(names), 2), IMAGE_SIZE)
    is_good = []
    with WorkerPool(look, num_workers) as pool:
        answers = pool.map(range(len(names)), IMAGES_AT_ONCE)
        for row, facts in enumerate(tqdm(answers, desc=report.name, total=len(names), unit="face", disable=None)):
            good = _note_image(report, names[row], facts, must_be_square=False)
            if good:
                sizes[row] = facts.width, facts.height
                try:
                    square = wflw.square_about(landmarks[row], boxes[row], 0.0, (facts.height, facts.width))
                    report.count_positions((landmarks[row] - (square.left, square.top)) * (IMAGE_SIZE / square.side))
                except ValueError as error:
                    report.note(NO_CROP, f"face {row}, {names[row]}: {error}")
                    good = False
            is_good.append(good)
    faces = Counter((name, points.tobytes()) for name, points in zip(names, landmarks))
    for (name, _), count in faces.items():
        if count > 1:
            report.note(SAME_FACE, f"{name} ({count} lines)")
    for name, (left, top, right, bottom) in zip(names, boxes):
        if right <= left or bottom <= top:
            report.note(NO_BOX, f"{name}: {left:g} {top:g} {right:g} {bottom:g}")
    _note_faces(report, names, landmarks, sizes)
    for row in _samples(is_good):
        crop, points = wflw.crop_face(read_image(image_dir / names[row]), landmarks[row], boxes[row], 0.0)
        report.samples.append(overlay(crop, draw_heatmap(points)))
    return names


def _parse_list(report: Report, path: Path, num_extras: int) -> Annotations:
    """Read the lines that can be read, and note the others."""

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


def _parse_names(report: Report, path: Path) -> list[str]:
    try:
        return read_names(path, celebv.num_numbers(path), "split again")
    except DataError as error:
        report.note(LIST, error)
        return []


def _compare_split(report: Report, root: Path, person: str, everyone: set[str]) -> None:
    """Compare the lists of training and test with each other and with the full list."""
    paths = {mode: celebv.list_path(root, person, mode) for mode in ("train", "test")}
    lists = {mode: set(_parse_names(report, path)) for mode, path in paths.items() if path.exists()}
    for names in lists.values():
        for name in sorted(names - everyone):
            report.note(STRANGER, name)
    if len(lists) == 2:
        for name in sorted(set.intersection(*lists.values())):
            report.note(SHARED, name)


def _note_faces(report: Report, names: list[str], landmarks: np.ndarray, sizes: np.ndarray) -> None:
    """Compare landmarks (N, 98, 2) with the sizes (N, 2) of their images, width first."""
    outside = ((landmarks < 0) | (landmarks >= sizes[:, None])).any(axis=2).sum(axis=1)
    for row in np.flatnonzero(outside):
        report.note(OUTSIDE, f"{names[row]}: {outside[row]} of {NUM_LANDMARKS}")
    extent = np.ptp(landmarks, axis=1).max(axis=1) if len(names) else np.empty(0)
    for row in np.flatnonzero(extent < MIN_FACE_PX):
        report.note(TINY, f"{names[row]}: {extent[row]:.0f} pixels")


def _note_image(report: Report, name: str, facts: ImageFacts | None, must_be_square: bool) -> bool:
    """Note what is wrong with an image; return whether training can use it."""
    if facts is None:
        report.note(MISSING, name)
        return False
    if facts.problem:
        report.note(UNDECODABLE, f"{name}: {facts.problem}")
        return False
    report.sides |= {facts.width, facts.height}
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


def _samples(is_good: list[bool]) -> list[int]:
    """Pick some of the good rows to show."""
    good = np.flatnonzero(is_good)
    return good[evenly(len(good), NUM_SAMPLES)].tolist()
