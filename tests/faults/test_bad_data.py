"""Every row of the table in docs/DATA.md: what the check says of bad data, and what training does with it."""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import GAZE, ROOT, must_fail, must_run
from PIL import Image

from datasets import check, wflw
from datasets.annotations import format_line
from datasets.celebv import HEATMAP, IMAGE, RESIZED_HEATMAP, SHAPES
from datasets.samples import DrawnDataset
from utils.errors import DataError

PERSON = "Linnea"
TABLE = (ROOT / "docs/DATA.md").read_text()


class Person(NamedTuple):
    folder: Path

    def lines(self) -> list[str]:
        return (self.folder / "all_98pt.txt").read_text().splitlines()

    def write(self, lines: list[str], mode: str = "all") -> None:
        (self.folder / f"{mode}_98pt.txt").write_text("\n".join(lines) + "\n")

    def change_line(self, change: Callable[[str], str]) -> None:
        lines = self.lines()
        lines[1] = change(lines[1])
        self.write(lines)

    def image(self) -> Path:
        return self.folder / "Image/000002.jpg"

    def save_image(self, image: Image.Image, **more) -> None:
        """Save another second frame, as a PNG under the same name if JPEG has no such mode."""
        with open(self.image(), "wb") as file:
            image.save(file, "PNG" if image.mode in ("P", "RGBA", "I;16") else "JPEG", **more)

    def image_now(self) -> Image.Image:
        return Image.open(io.BytesIO(self.image().read_bytes()))


def sixteen_bits(person: Person) -> None:
    gray = np.asarray(person.image_now().convert("L")).astype(np.uint16) * 257
    person.save_image(Image.fromarray(gray))


def rotate(person: Person) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    person.save_image(person.image_now(), exif=exif)


def share(person: Person) -> None:
    person.write(person.lines()[:8], "train")
    person.write(person.lines()[7:], "test")


# name in the table: how to get there, and what the check calls it
FATAL = {
    "empty list": (lambda p: p.write([""]), check.LIST),
    "list that is no text": (lambda p: (p.folder / "all_98pt.txt").write_bytes(b"\x89PNG\xff\xfe"), check.LIST),
    "too few columns": (lambda p: p.change_line(lambda line: line.split(" ", 1)[1]), check.LINES),
    "a word for a number": (lambda p: p.change_line(lambda line: "x" + line), check.LINES),
    "not a finite number": (lambda p: p.change_line(lambda line: "nan " + line.split(" ", 1)[1]), check.LINES),
    "a number beyond any image": (lambda p: p.change_line(lambda line: "1e7 " + line.split(" ", 1)[1]), check.LINES),
    "a name that leads elsewhere": (lambda p: p.change_line(lambda line: line.replace("0000", "../0000")), check.LINES),
    "an image on two lines": (lambda p: p.write([*p.lines(), p.lines()[3]]), check.TWICE),
    "an image that is not there": (lambda p: p.image().unlink(), check.MISSING),
    "an empty image file": (lambda p: p.image().write_bytes(b""), check.UNDECODABLE),
    "a truncated image": (lambda p: p.image().write_bytes(p.image().read_bytes()[:-900]), check.UNDECODABLE),
    "a file that is no image": (lambda p: p.image().write_text("<html>"), check.UNDECODABLE),
    "a 16-bit image": (sixteen_bits, check.UNDECODABLE),
    "an image of another size": (lambda p: p.save_image(p.image_now().resize((200, 256))), check.NOT_SQUARE),
    "an image in training and test": (share, check.SHARED),
}
HARMLESS = {
    "a gray image": (lambda p: p.save_image(p.image_now().convert("L")), check.KIND),
    "a CMYK image": (lambda p: p.save_image(p.image_now().convert("CMYK")), check.KIND),
    "a palette image": (lambda p: p.save_image(p.image_now().quantize(64)), check.KIND),
    "an image with alpha": (lambda p: p.save_image(p.image_now().convert("RGBA")), check.KIND),
    "an image with an EXIF rotation": (rotate, check.ROTATED),
    "landmarks outside of the image": (
        lambda p: p.change_line(lambda line: "-40 300 " + line.split(" ", 2)[2]),
        check.OUTSIDE,
    ),
    "a tiny face": (lambda p: p.change_line(lambda line: format_line(np.full((98, 2), 9.0), "000002.jpg")), check.TINY),
    "an image without a line": (lambda p: shutil.copy(p.image(), p.folder / "Image/extra.jpg"), check.NO_LINE),
    "a folder without a list": (lambda p: (p.folder.parent / "Nobody").mkdir(), check.NO_LIST),
    "Windows line ends, a byte-order mark, empty lines": (
        lambda p: (p.folder / "all_98pt.txt").write_bytes(("\ufeff" + "\r\n\r\n".join(p.lines())).encode()),
        None,
    ),
}


@pytest.fixture
def person(data, tmp_path) -> Person:
    shutil.copytree(data / "datasets/CelebV" / PERSON, tmp_path / "CelebV" / PERSON)
    return Person(tmp_path / "CelebV" / PERSON)


def train_on(root: Path) -> None:
    """Run a training's reading of everybody's training list, and of the full list."""
    for mode in ("train", "all"):
        source = DrawnDataset(root, PERSON, mode, (IMAGE, HEATMAP, RESIZED_HEATMAP))
        for index in range(len(source)):
            assert [part.shape for part in source[index]] == list(SHAPES.values())


def findings_of(root: Path) -> dict[tuple[str, bool], list[str]]:
    reports = check.check_people(root, None, 2)
    assert all(list(report.lines()) for report in reports)
    return {kind: examples for report in reports for kind, examples in report.findings.items()}


def in_table(case: str) -> bool:
    return re.search(rf"^\| {re.escape(case)} \|", TABLE, re.M) is not None


def test_good_data(person):
    assert findings_of(person.folder.parent) == {}
    train_on(person.folder.parent)


@pytest.mark.parametrize("case", FATAL)
def test_what_training_fails_on_is_found_by_the_check(person, case):
    spoil, kind = FATAL[case]
    spoil(person)
    assert findings_of(person.folder.parent)[kind] and kind[1]
    with pytest.raises(DataError) as error:
        train_on(person.folder.parent)
    message = str(error.value)
    assert "\n" not in message and PERSON in message and re.search(r"; \w+", message)  # where, and what to do
    assert in_table(case)


@pytest.mark.parametrize("case", HARMLESS)
def test_what_training_can_live_with_is_noted_by_the_check(person, case):
    spoil, kind = HARMLESS[case]
    spoil(person)
    found = findings_of(person.folder.parent)
    assert set(found) == ({kind} if kind else set()) and not (kind and kind[1])
    train_on(person.folder.parent)
    assert in_table(case)


def test_no_list_at_all(person):
    (person.folder / "all_98pt.txt").unlink()
    with pytest.raises(DataError, match="no such annotation list; unpack CelebV again"):
        DrawnDataset(person.folder.parent, PERSON, "all", (IMAGE,))
    (person.folder / "test_98pt.txt").unlink()
    with pytest.raises(DataError, match="run 'sh split_celebv.sh"):
        DrawnDataset(person.folder.parent, PERSON, "test", (IMAGE,))
    assert in_table("no list")


def test_converted_images_keep_their_brightness(person):
    source = DrawnDataset(person.folder.parent, PERSON, "all", (IMAGE,))
    (before,) = source[1]
    gray = before.astype(float).mean(axis=0)
    for case in ("a gray image", "a CMYK image", "a palette image", "an image with alpha"):
        shutil.copy(person.folder / "Image/000002.jpg", person.folder / "keep")
        HARMLESS[case][0](person)
        (after,) = source[1]
        assert np.abs(after.astype(float).mean(axis=0) - gray).mean() < 12, case
        shutil.move(person.folder / "keep", person.folder / "Image/000002.jpg")


def test_an_exif_rotation_leaves_the_pixels_to_the_landmarks(person):
    source = DrawnDataset(person.folder.parent, PERSON, "all", (IMAGE,))
    (before,) = source[1]
    rotate(person)
    (after,) = source[1]
    assert np.abs(before.astype(float) - after).mean() < 6


def test_boundaries_alone_open_no_image(person):
    shutil.rmtree(person.folder / "Image")
    source = DrawnDataset(person.folder.parent, PERSON, "train", (HEATMAP,))
    assert source[0][0].shape == (15, 64, 64)


# Prepared files


@pytest.fixture
def prepared(data, tmp_path) -> Path:
    shutil.copytree(data / "datasets/CelebV", tmp_path / "CelebV")
    return Path(shutil.copytree(data / "datasets/celebv_heatmaps_GT", tmp_path / "prepared"))


def flip_a_bit(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        info = archive.infolist()[3]
    content = bytearray(path.read_bytes())
    content[info.header_offset + 60 + info.compress_size // 2] ^= 4
    path.write_bytes(content)


def rewrite(path: Path, change: Callable[[dict], dict]) -> None:
    with np.load(path) as arrays:
        content = change({name: arrays[name] for name in arrays.files})
    np.savez(path, **content)


PREPARED = {
    "a prepared file that is not there": (lambda path: path.unlink(), "missing; run"),
    "a truncated prepared file": (lambda path: path.write_bytes(path.read_bytes()[:-200]), "not a complete npz"),
    "a flipped bit in a prepared file": (flip_a_bit, "is damaged; remove it"),
    "a prepared file that lacks samples": (
        lambda path: rewrite(path, lambda arrays: dict(list(arrays.items())[:5])),
        "lacks 3 samples of the list",
    ),
    "a prepared file of another shape": (
        lambda path: rewrite(path, lambda arrays: {name: a[:, ::2] for name, a in arrays.items()}),
        "instead of uint8",
    ),
    "a prepared file with pickled objects": (
        lambda path: rewrite(path, lambda arrays: {name: np.array([{}], object) for name in arrays}),
        "is damaged; remove it",
    ),
    "a prepared file that is something else": (lambda path: path.write_text("x" * 999), "not a complete npz"),
}


@pytest.mark.parametrize("case", PREPARED)
def test_prepared_files(prepared, case):
    spoil, words = PREPARED[case]
    spoil(prepared / f"{PERSON}_heatmap.npz")
    with pytest.raises(DataError) as error:
        source = DrawnDataset(prepared.parent / "CelebV", PERSON, "train", (HEATMAP,), prepared, style=GAZE)
        for index in range(len(source)):
            assert source[index]
    assert words in str(error.value) and "preprocess.py" in str(error.value)
    assert in_table(case)


def test_prepared_from_another_list(prepared):
    path = prepared.parent / "CelebV" / PERSON / "all_98pt.txt"
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(DataError, match="was prepared from another .*all_98pt.txt; run 'python preprocess.py"):
        DrawnDataset(prepared.parent / "CelebV", PERSON, "all", (HEATMAP,), prepared, style=GAZE)
    assert in_table("prepared from another list")


def test_files_of_other_programs_have_no_record(prepared):
    (prepared / f"{PERSON}_prepared.yaml").unlink()
    assert len(DrawnDataset(prepared.parent / "CelebV", PERSON, "all", (HEATMAP,), prepared)) == 14


# WFLW


@pytest.fixture
def faces(data, tmp_path) -> Path:
    for name in ("WFLW_images", "WFLW_annotations"):
        shutil.copytree(data / "datasets" / name, tmp_path / "wflw" / name)
    return tmp_path / "wflw"


def change_face(root: Path, first: int, *values: str) -> None:
    path = wflw.list_path(root, "train")
    lines = path.read_text().splitlines()
    columns = lines[1].split(" ")
    columns[first : first + len(values)] = values
    lines[1] = " ".join(columns)
    path.write_text("\n".join(lines) + "\n")


WFLW = {
    "a WFLW box far outside of the image": (lambda root: change_face(root, 196, "-9000", "-9000"), check.NO_CROP),
    "a WFLW image that is not there": (
        lambda root: (root / "WFLW_images" / wflw.WFLWFaces(root, "train", 0).names[1]).unlink(),
        check.MISSING,
    ),
}


@pytest.mark.parametrize("case", WFLW)
def test_wflw(faces, case):
    spoil, kind = WFLW[case]
    spoil(faces)
    assert any(kind in report.findings for report in check.check_wflw(faces, wflw.MODES, 2))
    source = wflw.WFLWFaces(faces, "train", 0)
    with pytest.raises(DataError):
        for index in range(len(source)):
            assert source[index].image.shape == (3, 256, 256)
    assert in_table(case)


def test_good_wflw(faces):
    reports = check.check_wflw(faces, wflw.MODES, 1)
    assert [report.num_lines for report in reports] == [6, 5]
    assert not any(report.num_fatal for report in reports)


@pytest.mark.slow
def test_the_commands(person, tmp_path):
    args = ("--dataset", "CelebV", "--src-dir", tmp_path, "--check")
    out = must_run(tmp_path, "preprocess.py", *args)
    assert "Linnea: 14 lines; images: 14 256x256 8-bit RGB" in out and "no problems on which training would fail" in out
    person.image().unlink()
    line = must_fail(tmp_path, 3, "training would fail on 1 problems", "preprocess.py", *args)
    assert "CelebV" in line
    must_fail(tmp_path, 3, "no Nobody; it contains", "preprocess.py", *args, "--celeb-name-list", "Nobody")
    must_fail(tmp_path, 3, "no such folder", "preprocess.py", "--dataset", "CelebV", "--check")


@pytest.mark.slow
def test_the_command_for_wflw(data):
    out = must_run(data, "preprocess.py", "--dataset", "WFLW", "--check")
    assert "WFLW train: 6 lines" in out and "WFLW test: 5 lines" in out
    assert "WFLW test" not in must_run(data, "preprocess.py", "--dataset", "WFLW", "--check", "--mode", "train")
