"""Web pages of one file each, which open from disk without a network; templates escape what they are given."""

from __future__ import annotations

import base64
import io
import os
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

CHART_WIDTH, CHART_HEIGHT, MAX_POINTS = 320, 120, 400

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).resolve().parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


def render(template: str, title: str, **values: Any) -> str:
    """Fill a template of `utils/templates/`."""
    return _templates.get_template(f"{template}.html").render(title=title, **values)


def render_file(path: Path, **values: Any) -> str:
    """Fill a template that lies elsewhere."""
    return _templates.from_string(path.read_text(encoding="utf-8")).render(values)


def address(path: str | Path, folder: Path) -> str:
    """Return the address of a file for a page in a folder, as a link has it; its name may hold anything."""
    relative = os.path.relpath(os.path.abspath(path), os.path.abspath(folder))
    quoted = urllib.parse.quote(os.fsencode(relative))
    return f"./{quoted}" if ":" in relative.partition("/")[0] else quoted  # else it seems to name a protocol


def jpeg(image: np.ndarray) -> bytes:
    """Return a picture (H, W, 3) uint8 as a file's content."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def picture(image: np.ndarray) -> str:
    """Return a picture (H, W, 3) uint8 as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(image)).decode()}"


class Curve(NamedTuple):
    """Hold a small curve for a page."""

    name: str
    last: str
    points: str  # of an SVG polyline
    range: str


def curve(name: str, points: list[tuple[int, float]], across_name: str = "iterations") -> Curve | None:
    """Draw a small curve with its range and its last value; points that are not finite are left out.

    Returns:
        None if no point is left.
    """
    points = [(x, y) for x, y in points if np.isfinite(y)]
    if not points:
        return None
    thinned = points[:: -(-len(points) // MAX_POINTS)]
    thinned += [points[-1]] if thinned[-1] != points[-1] else []
    x, y = np.array(thinned, np.float64).T
    left, right, low, high = x.min(), x.max(), y.min(), y.max()
    across = (x - left) / max(right - left, 1e-12) * CHART_WIDTH
    up = CHART_HEIGHT - (y - low) / max(high - low, 1e-12) * CHART_HEIGHT
    return Curve(
        name,
        f"{points[-1][1]:.4g}",
        " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, up)),
        f"{low:.4g} to {high:.4g}, {across_name} {left:.0f} to {right:.0f}",
    )
