"""Make the pictures of imgs/ from a finished `make demo`.

    python demo/pictures.py

Runs the test scripts of transformer and decoder on the demo's people, and draws the overview of the method.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from datasets.check import check_person  # noqa: E402
from datasets.check_page import heat_picture  # noqa: E402
from datasets.images import read_image, write_image  # noqa: E402
from datasets.panels import contact_sheet, generated_mark  # noqa: E402
from make_synthetic import make_sheet  # noqa: E402
from utils.ending import call_main  # noqa: E402
from utils.errors import DataError  # noqa: E402
from utils.parallel import available_cores  # noqa: E402

TILE, GAP, MARGIN, CAPTION = 256, 184, 40, 50
INK, ACCENT, PAPER = (40, 44, 52), (62, 100, 170), (255, 255, 255)
FRAME = 40  # a frame of the demo's test split
STAGES = ("Encoder", "Transformer", "Decoder")
CAPTIONS = ("A's frame", "A's boundaries", "B's boundaries", "B's face")
NOTES = ("one for everybody", "one for A and B", "one for B")


def test_panel(script: str, module: str, index: int) -> np.ndarray:
    """Run a test script with the shipped weights; return its panel of a frame."""
    folder = ROOT / "demo/weights" / module
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [
                sys.executable,
                str(ROOT / script),
                str(folder / "training_info.yaml"),
                "--param-file",
                str(folder / "weights.h5"),
                "--data-dir",
                str(ROOT / "demo_result/CelebV"),
                "-n",
                str(index + 1),
            ],
            cwd=scratch,
            check=True,
        )
        (panel,) = Path(scratch).glob(f"tmp.result/*/*/*/result/{index:06d}-*.png")
        return read_image(panel)


def draw_overview(tiles: list[np.ndarray]) -> np.ndarray:
    """Draw four pictures in a row, with an arrow and a network's name from each to the next."""
    size = (2 * MARGIN + 4 * TILE + 3 * GAP, 2 * MARGIN + TILE + CAPTION)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(26), ImageFont.load_default(18)
    for index, tile in enumerate(tiles):
        left = MARGIN + index * (TILE + GAP)
        sheet.paste(Image.fromarray(tile), (left, MARGIN))
        pen.rectangle((left, MARGIN, left + TILE, MARGIN + TILE), outline=INK, width=2)
        pen.text((left + TILE / 2, MARGIN + TILE + 34), CAPTIONS[index], fill=INK, font=large, anchor="mm")
        if index < len(STAGES):
            start, end, y = left + TILE + 12, left + TILE + GAP - 12, MARGIN + TILE // 2
            pen.line((start, y, end - 12, y), fill=ACCENT, width=5)
            pen.polygon(((end, y), (end - 18, y - 11), (end - 18, y + 11)), fill=ACCENT)
            pen.text(((start + end) / 2, y - 26), STAGES[index], fill=ACCENT, font=large, anchor="mm")
            pen.text(((start + end) / 2, y + 24), NOTES[index], fill=INK, font=small, anchor="mm")
    return np.asarray(sheet)


def half_size(picture: np.ndarray) -> np.ndarray:
    """Reduce a picture to half its size."""
    return np.asarray(Image.fromarray(picture).reduce(2))


def check_picture() -> np.ndarray:
    """Draw what the page of `preprocess.py --check` shows of the demo's target person."""
    report = check_person(ROOT / "demo_result/CelebV", "Linnea", available_cores())
    return np.hstack([heat_picture(report.positions), contact_sheet(report.samples[:12], 6, TILE // 2)])


def person_picture() -> np.ndarray:
    """Prepare a person from a synthetic video; return two rows of the contact sheet."""
    with tempfile.TemporaryDirectory() as scratch:

        def call(script: str, *args: object) -> None:
            subprocess.run([sys.executable, str(ROOT / script), *map(str, args)], cwd=scratch, check=True)

        call("make_synthetic.py", "video", "--person", "Mira=41", "--out-file", "mira.mp4")
        call("prepare_person.py", "mira.mp4", "--name", "Mira", "--data-dir", "people")
        return read_image(Path(scratch) / "people/Mira/contact_sheet.png")[:TILE]


def main() -> None:
    panels = sorted((ROOT / "demo_result/reenactment/Rowan2Linnea").glob(f"*/result/{FRAME:06d}-000.png"))
    if not panels:
        raise DataError("demo_result: no frames there; run 'make demo' first")
    panel = read_image(panels[-1])
    tiles = [panel[:, k * TILE : (k + 1) * TILE] for k in range(5)]
    imgs = ROOT / "imgs"
    write_image(imgs / "overview.png", draw_overview(tiles[:4]), generated_mark("the face on the right"))
    write_image(imgs / "encoder.png", np.hstack([tiles[0], tiles[1], tiles[4]]))
    write_image(imgs / "transformer.png", test_panel("test_transformer.py", "transformer", FRAME))
    decoded = test_panel("test_decoder.py", "decoder", FRAME)
    write_image(imgs / "decoder.png", decoded, generated_mark("the face in the middle"))
    shutil.copy(ROOT / "demo_result/preview.gif", imgs / "example.gif")
    comparison = half_size(read_image(panels[-1].parent.parent / "sheet.png"))
    write_image(imgs / "comparison.png", comparison, generated_mark("the faces from the third row on"))
    write_image(imgs / "check.png", check_picture())
    write_image(imgs / "person.png", person_picture())
    with tempfile.TemporaryDirectory() as scratch:
        make_sheet(4, 8, 100, Path(scratch) / "people.png")
        write_image(imgs / "people.png", half_size(read_image(Path(scratch) / "people.png")))


if __name__ == "__main__":
    call_main(main)
