"""Annotation lists: names in them, line ends, encodings."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import must_fail, must_run

from datasets import celebv
from datasets.annotations import format_line, read_annotations, read_names
from utils.errors import DataError

NUMBERS = " ".join(["1"] * 196)


def test_names_in_a_list_that_cannot_be_an_images(tmp_path):
    path = tmp_path / "all_98pt.txt"
    for name in ("a\0.jpg", "a\x1b[31m.jpg", "../a.jpg", "/etc/passwd"):
        path.write_text(format_line(np.zeros((98, 2)), "x").replace(" x", f" {name}") + "\n")
        for read in (lambda: read_annotations(path, 0, ""), lambda: read_names(path, 196, "")):
            with pytest.raises(DataError, match="line 1 names"):
                read()
    path.write_text("x" * 10**6)
    with pytest.raises(DataError, match="line 1 is longer than"):
        read_names(path, 0, "")
    path.write_bytes("café.jpg\n".encode("latin-1"))
    with pytest.raises(DataError, match="not a text file"):
        read_names(path, 0, "")


@pytest.mark.parametrize("ends", ["\r", "\r\n", "\n", "\n\n"])
def test_split_of_lists_with_any_line_ends(tmp_path, ends):
    person = tmp_path / "-people/Ann"
    person.mkdir(parents=True)
    names = [f"{k}.jpg" for k in range(12)]
    (person / "all_98pt.txt").write_bytes(ends.join([*(f"{NUMBERS} {name}" for name in names), ""]).encode())
    out = must_run(tmp_path, "split_celebv.sh", "-people", "8")
    assert "8 for training, 4 for testing" in out
    assert celebv.read_frame_names(tmp_path / "-people", "Ann", "test") == names[8:]
    assert not list(person.glob(".*"))


def test_split_keeps_lines_of_any_encoding(tmp_path):
    person = tmp_path / "people/Ann"
    person.mkdir(parents=True)
    lines = [f"é{k}.jpg".encode("latin-1") for k in range(5)]
    (person / "all_98pt.txt").write_bytes(b"\n".join(lines) + b"\n")
    must_run(tmp_path, "split_celebv.sh", "people", "3", LC_ALL="C.UTF-8")
    assert (person / "train_98pt.txt").read_bytes().split() == lines[:3]
    assert (person / "test_98pt.txt").read_bytes().split() == lines[3:]
    for number in ("0", "08", "-1", "1e3", "999999999999999999999"):
        must_fail(tmp_path, 2, "NUM_TRAIN must be", "split_celebv.sh", "people", number)
