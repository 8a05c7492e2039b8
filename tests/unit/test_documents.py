"""Numbers in the documents are those of the shipped demo (demo/weights/scores.json)."""

from __future__ import annotations

import json
import re

import pytest
from helpers import DEMO, ROOT

from people.targets import read_held_out

SCORES = {(score["of"], score["name"]): score["value"] for score in json.loads((DEMO / "scores.json").read_text())}
IMAGES = ("PSNR", "face PSNR", "SSIM")
FOLLOWS, TRUE = (
    "the result follows the source, correlations over time",
    "the result follows the true expression, correlations",
)
UNITS = [name for of, name in SCORES if of == FOLLOWS and name.startswith("AU")] + ["mean of the AUs"]


def cells_of(document: str, start: str) -> list[float]:
    """The numbers of the only row of a table that begins with a word."""
    (row,) = re.findall(rf"^\| (?:\*\*)?{re.escape(start)}(.*)\|$", (ROOT / document).read_text(), re.MULTILINE)
    return [float(cell) for cell in row.split("|")[1:] if cell.strip()]


@pytest.mark.parametrize(
    "row, of",
    [
        ("chain (source frame to target face)", "chain"),
        ("chain, painted with the film", "chain, painted with the film"),
        ("decoder without transformer", "decoder without transformer"),
        ("landmarks moved from neutral to neutral, decoder", "landmarks moved from neutral to neutral, decoder"),
        ("true boundary, decoder", "true boundary, decoder"),
    ],
)
def test_the_readmes_table(row, of):
    expected = [SCORES[f"{of}, against the true target", name] for name in IMAGES]
    assert cells_of("README.md", row) == [
        pytest.approx(value, abs=tie) for value, tie in zip(expected, (5e-3, 5e-3, 5e-4))
    ]


def test_tables_of_the_documents():
    document = "docs/REENACTMENT.md"
    for row, of in (("result and source", FOLLOWS), ("result and true expression", TRUE)):
        assert cells_of(document, row) == pytest.approx([SCORES[of, name] for name in UNITS], abs=5e-3)
    moved = [f"landmarks moved from {name}, decoder" for name in ("mean to mean", "neutral to neutral")]
    faces = [
        SCORES[f"{of}, against the true target", "face PSNR"] for of in (*moved, "chain", "true boundary, decoder")
    ]
    text = (ROOT / document).read_text()
    inline = re.search(r"whole chain ([0-9.]+), true boundaries ([0-9.]+)", text).groups()
    assert [*cells_of(document, "demo's pair (dB)"), *map(float, inline)] == pytest.approx(faces, abs=5e-3)


def test_the_demos_weights_name_their_measures():
    text = (DEMO / "README.md").read_text()
    (row,) = re.findall(r"these weights\*\* \|.*\| ([0-9.]+), ([0-9.]+) \|", text)
    expected = [SCORES["chain, against the true target", name] for name in IMAGES[:2]]
    assert [float(cell) for cell in row] == pytest.approx(expected, abs=5e-3)
    held_out = {name: value for (of, name), value in SCORES.items() if of.startswith("decoder on test frames")}
    assert read_held_out(DEMO / "decoder").items() <= held_out.items() and read_held_out(DEMO / "decoder")
