"""The findings of check.py, as lines for a terminal and as a page for the eye."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import cv2
import numpy as np

from datasets.check import MAX_EXAMPLES, Finding, Report
from utils.html import page, picture, table

EXAMPLES_OF_A_LINE = 3


def summary(report: Report) -> Iterator[str]:
    """Write the findings as lines for a terminal."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.kinds.most_common(4))
    more = f", and {len(report.kinds) - 4} more kinds" if len(report.kinds) > 4 else ""
    yield f"{report.name}: {report.num_lines} lines; images: {kinds or 'none'}{more}; sides: {_sides(report)} pixels"
    for words, finding in _worst_first(report):
        examples = "; ".join(finding.examples[:EXAMPLES_OF_A_LINE])
        rest = "; ..." if finding.count > EXAMPLES_OF_A_LINE else ""
        yield f"  {'problem' if finding.is_fatal else 'note':8}{finding.count} {words}: {examples}{rest}"


def check_page(title: str, reports: list[Report]) -> str:
    """Write the findings as a page of HTML."""
    body = []
    for report in reports:
        verdict = (
            f'<span class="bad">{report.num_fatal} problems on which training fails</span>'
            if report.num_fatal
            else '<span class="good">nothing on which training fails</span>'
        )
        body.append(f"<h2>{escape(report.name)}: {verdict}</h2>")
        rows = [("annotation lines", report.num_lines), *report.kinds.most_common(12)]
        body.append(table([*rows, ("sides of images", f"{_sides(report)} pixels")]))
        body.extend(_finding(words, finding) for words, finding in _worst_first(report))
        if report.positions.any():
            caption = (
                "Where the landmarks of all faces lie in the 256-pixel picture; brighter is more. It should look "
                "like a blurred face, upright and in the middle."
            )
            histogram = picture(heat_picture(report.positions), "histogram of landmark positions", 384)
            body.append(f"<figure>{histogram}<figcaption>{caption}</figcaption></figure>")
        if report.samples:
            caption = (
                "Faces from all over the list with their boundaries: the left brow and eye of the picture are "
                "orange, the right ones blue, the nose yellow, the upper lip pink, the lower lip green."
            )
            tiles = "".join(picture(face, "face with its boundaries") for face in report.samples)
            body.append(f'<figure><div class="tiles">{tiles}</div><figcaption>{caption}</figcaption></figure>')
    return page(title, body)


def _finding(words: str, finding: Finding) -> str:
    kind = "bad" if finding.is_fatal else "mild"
    items = "".join(f"<li><code>{escape(example)}</code></li>" for example in finding.examples)
    rest = f"<li>and {finding.count - MAX_EXAMPLES} more</li>" if finding.count > MAX_EXAMPLES else ""
    is_open = " open" if finding.is_fatal else ""
    head = f'<summary class="{kind}">{finding.count} {escape(words)}</summary>'
    return f"<details{is_open}>{head}<ul>{items}{rest}</ul></details>"


def _sides(report: Report) -> str:
    return f"{min(report.sides, default=0)} to {max(report.sides, default=0)}"


def _worst_first(report: Report) -> list[tuple[str, Finding]]:
    return sorted(report.findings.items(), key=lambda item: not item[1].is_fatal)


def heat_picture(positions: np.ndarray) -> np.ndarray:
    """Draw counts (256, 256) as a picture (256, 256, 3) uint8 on a logarithmic scale, a little blurred."""
    level = np.log1p(cv2.GaussianBlur(positions.astype(np.float32), (0, 0), 1.0))
    # a landmark that all crops have at one place must not darken the others
    level /= np.percentile(level[level > 0], 99.5)
    colours = cv2.applyColorMap((level.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)
