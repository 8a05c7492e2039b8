"""The findings of check.py, as lines for a terminal and as a page for the eye."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from datasets.check import MAX_EXAMPLES, Finding, Report
from utils.html import picture, render

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
    found = [
        {
            "name": report.name,
            "num_fatal": report.num_fatal,
            "rows": [
                ("annotation lines", report.num_lines),
                *report.kinds.most_common(12),
                ("sides of images", f"{_sides(report)} pixels"),
            ],
            "findings": _worst_first(report),
            "histogram": picture(heat_picture(report.positions)) if report.positions.any() else "",
            "samples": [picture(face) for face in report.samples],
        }
        for report in reports
    ]
    return render("check", title, reports=found, most=MAX_EXAMPLES)


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
