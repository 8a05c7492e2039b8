"""One page with a reenactment of two people: the video, what was measured, frames, losses."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from datasets.boundary import IMAGE_SIZE
from datasets.images import read_image, write_image
from datasets.panels import contact_sheet, evenly, generated_mark
from people.work import Work
from training.series import TIMER, read_series
from utils.files import write_text
from utils.html import address as address_of
from utils.html import curve, render

SHOWN_FRAMES, TILE_PX = 6, 192


def write_comparison(path: Path, result: Path) -> None:
    """Lay real faces of a result's frames over the generated ones."""
    panels = sorted((result / "result").glob("*.png"))
    panels = [read_image(panels[number]) for number in evenly(len(panels), SHOWN_FRAMES)]
    tiles = [panel[:, place * IMAGE_SIZE : (place + 1) * IMAGE_SIZE] for place in (0, 3) for panel in panels]
    picture = contact_sheet(tiles, len(panels), TILE_PX)
    write_image(path, picture, generated_mark("the faces of the lower row"))


def write_page(work: Work, video: Path, results: dict[str, Path]) -> Path:
    """Write one page with all of it."""
    address = partial(address_of, folder=work.folder)
    scores = {
        name: json.loads((folder / "scores.json").read_text(encoding="utf-8")) for name, folder in results.items()
    }
    words = "PSNR {psnr:.2f} dB, SSIM {ssim:.3f}, sharpness {sharpness:.2f} of the real"
    rows = [("the target's held-out frames", words.format(**scores["held-out"]["self_reenactment"]))]
    without = scores["held-out"].get("self_without_film")
    if without is not None and not work.is_instant:
        rows.append(("the same without the film", words.format(**without)))
    for name, found in scores.items():
        words = ", ".join(
            f"{key} {'not measured' if value is None else f'{value:.2f}'}"
            for key, value in found["gestures"]["with_driver"].items()
        )
        rows.append((f"{name}: follows the driver, correlations", words))
        rows.append((f"{name}: a face is found in", f"{100 * found['gestures']['found']:.0f} %"))
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
        scores=rows,
        links=links,
        comparison=address(comparison),
        curves=[
            curve(f"{module}: {name}", points)
            for module in work.modules
            for name, points in read_series(work.run(module)).items()
            if name != TIMER
        ],
        sheets=[
            (name, address(work.person(name) / "contact_sheet.png"))
            for name in (work.source, work.target)
            if work.person(name).exists()
        ],
    )
    path = work.folder / "index.html"
    write_text(path, text)
    return path
