"""Images of a folder: read, or skipped, counted and named."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import DEMO_NETWORKS, must_fail, must_run
from PIL import Image, PngImagePlugin

from datasets.images import IMAGE_ENDINGS, MAX_PIXELS, list_images, read_image, write_image
from faces.finder import FaceFinder
from inference.inputs import UNREADABLE, FrameSource, faces_of, natural_order
from synthetic.moving import moving_head
from utils.errors import DataError


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return next(frame for frame, _ in moving_head("Rowan=9", 1, seed=0))


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
def test_every_ending_is_read_and_said_to_be(face, tmp_path, ending):
    kind = {".jfif": "JPEG", ".jpe": "JPEG", ".tif": "TIFF"}.get(ending)
    Image.fromarray(face).save(tmp_path / f"a{ending.upper()}", kind)
    assert np.abs(next(iter(FrameSource(tmp_path))).astype(int) - face).mean() < 4


def test_hidden_companions_are_no_frames(face, tmp_path, capsys):
    for name in ("1.jpg", "2.jpg"):
        write_image(tmp_path / name, face)
        (tmp_path / f"._{name}").write_bytes(b"\0\5\26\7 of another system")
    (tmp_path / ".x.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in sorted(list_images(tmp_path))] == ["1.jpg", "2.jpg"]
    assert sum(1 for _ in FrameSource(tmp_path)) == 2 and capsys.readouterr().out == ""
    for name in ("a.heic", "b.heic", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert FrameSource(tmp_path).count == 2
    out = capsys.readouterr().out
    assert "3 other files are ignored" in out


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_bad(folder: Path, face: np.ndarray) -> list[str]:
    """Write images that cannot be read."""
    Image.fromarray(face).save(folder / "text.png", pnginfo=PngImagePlugin.PngInfo())
    content = (folder / "text.png").read_bytes()
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)))
    (folder / "text.png").write_bytes(content[:33] + text + content[33:])
    Image.fromarray(np.zeros((3, 5000, 3), np.uint8)).save(folder / "thin.png")
    Image.fromarray(np.zeros((5000, 3, 3), np.uint8)).save(folder / "tall.png")
    (folder / "link.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "empty.png").write_bytes(b"")
    (folder / "svg.png").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    large = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b""))
    (folder / "claims.png").write_bytes(content[:8] + large + chunk(b"IEND", b""))
    return ["claims.png", "empty.png", "link.jpg", "loop.jpg", "svg.png", "tall.png", "text.png", "thin.png"]


def test_a_bad_picture_is_counted_and_named_and_ends_nothing(face, tmp_path, capsys):
    names = write_bad(tmp_path, face)
    write_image(tmp_path / "a.jpg", face)
    write_image(tmp_path / "z.jpg", face)
    pictures = FrameSource(tmp_path)
    found = list(faces_of(pictures, FaceFinder()))
    assert [frame.reason for frame in found] == ["", *[UNREADABLE] * len(names), ""]
    notes = capsys.readouterr().out
    assert all(f"/{name}: " in notes for name in names) and sorted(p.name for p in pictures.unreadable) == names
    assert "the annotation list" not in notes and "a broken link" in notes


@pytest.mark.slow
def test_a_folder_with_bad_pictures_is_reenacted_and_prepared(face, tmp_path):
    (tmp_path / "in").mkdir()
    names = write_bad(tmp_path / "in", face)
    write_image(tmp_path / "in/a.jpg", face)
    (tmp_path / "in/._a.jpg").write_bytes(b"x")
    out = must_run(tmp_path, "test_reenactment.py", *DEMO_NETWORKS, "--input", "in", "--no-face", "skip")
    assert "1 frames of in" in out and f"{len(names)} x {UNREADABLE}" in out
    out = must_run(tmp_path, "prepare_person.py", "in", "--name", "Me", "--data-dir", "people")
    assert f"1 of {len(names) + 1} frames; left out: {len(names)} x {UNREADABLE}" in out
    must_fail(
        tmp_path, 3, "no usable face in 1 frames", "test_reenactment.py", *DEMO_NETWORKS, "--input", "in/thin.png"
    )


def test_what_a_picture_claims_is_checked_before_it_is_decoded(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    assert MAX_PIXELS < 9000 * 9000
    with pytest.raises(DataError, match="9000x9000 pixels, more than 64 million"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("turn", range(1, 9))
def test_all_eight_turns_of_exif(face, tmp_path, turn):
    turned = {
        1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x), 7: lambda x: np.rot90(x, 2).transpose(1, 0, 2), 8: lambda x: np.rot90(x, -1),
    }[turn]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = np.ascontiguousarray(turned(face))
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png", upright=True), face)
    assert np.array_equal(read_image(tmp_path / "a.png"), stored)


def test_names_of_any_letters_are_ordered():
    names = ["①1.jpg", "②.jpg", "a²3.jpg", "9.jpg", "10.jpg", "٣.jpg", "1" * 400 + ".jpg", os.fsdecode(b"\xff2.jpg")]
    assert sorted((Path(name) for name in names), key=natural_order)[0].name == "9.jpg"
