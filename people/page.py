"""The page of a reenactment of two people: video, measures, frames, losses."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from datasets.boundary import IMAGE_SIZE
from datasets.images import read_image, write_image
from datasets.panels import contact_sheet, generated_metadata
from inference.measures import Measure, by_subject
from inference.outputs import FRAMES_DIR
from inference.record import SCORES_FILE
from people.work import Work
from training.series import TIMER, read_series
from utils.files import write_text
from utils.html import address as address_of
from utils.html import curve, render
from utils.sampling import evenly

SHOWN_FRAMES, TILE_PX = 6, 192


def read_scores(result: Path) -> list[Measure]:
    """Read the measures of a result."""
    return [Measure(**measure) for measure in json.loads((result / SCORES_FILE).read_text(encoding="utf-8"))]


def write_comparison(path: Path, result: Path) -> None:
    """Write some frames of a result: real faces above generated ones."""
    panels = sorted((result / FRAMES_DIR).glob("*.png"))
    panels = [read_image(panels[number]) for number in evenly(len(panels), SHOWN_FRAMES)]
    tiles = [panel[:, place * IMAGE_SIZE : (place + 1) * IMAGE_SIZE] for place in (0, 3) for panel in panels]
    write_image(path, contact_sheet(tiles, len(panels), TILE_PX), generated_metadata("faces of the lower row"))


def write_page(work: Work, video: Path, results: dict[str, Path]) -> Path:
    """Write the page, given the folders of the results by name (`held-out` among them); return its path."""
    address = partial(address_of, folder=work.folder)
    links = [(f"{name}, frame by frame", address(folder / "index.html")) for name, folder in results.items()]
    links += [(f"training of the {module}", address(work.run(module) / "index.html")) for module in work.modules]
    comparison = work.folder / "held-out.png"
    write_comparison(comparison, results["held-out"])
    text = render(
        "people",
        f"{work.source} to {work.target}",
        source=work.source,
        target=work.target,
        video=address(video),
        scores=[
            (f"{name}: {of}", values)
            for name, folder in results.items()
            for of, values in by_subject(read_scores(folder))
        ],
        links=links,
        comparison=address(comparison),
        curves=[
            curve(f"{module}: {name}", points)
            for module in work.modules
            for name, points in read_series(work.run(module)).items()
            if name != TIMER
        ],
        sheets=[(name, address(work.person(name) / "contact_sheet.png")) for name in work.learned],
    )
    path = work.folder / "index.html"
    write_text(path, text)
    return path
