"""Self-contained HTML pages from templates, which open from disk. Templates escape their values."""

from __future__ import annotations

import base64
import io
import os
import re
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from utils.errors import one_line

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
    """Fill a template at any path."""
    return _templates.from_string(path.read_text(encoding="utf-8")).render(values)


def address(path: str | Path, folder: Path) -> str:
    """Return the relative URL of a file for a page in a folder."""
    relative = os.path.relpath(os.path.abspath(path), os.path.abspath(folder))
    quoted = urllib.parse.quote(os.fsencode(relative))
    return f"./{quoted}" if ":" in relative.partition("/")[0] else quoted  # a colon would look like a scheme


def jpeg(image: np.ndarray) -> bytes:
    """Encode an image (H, W, 3) uint8 as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def image_url(image: np.ndarray) -> str:
    """Return an image (H, W, 3) uint8 as a data URL."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(image)).decode()}"


class Curve(NamedTuple):
    """A small chart."""

    name: str
    last: str
    points: str  # of an SVG polyline
    range: str


def curve(name: str, points: list[tuple[int, float]], across_name: str = "iterations") -> Curve | None:
    """Return a chart of the finite points, with their range and the last value; None if there are none."""
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


def for_page(message: object, video: Path | None = None) -> str:
    """Return a message as one line without the server's folders, and with the path of an uploaded video replaced."""
    words = one_line(message if video is None else str(message).replace(str(video), "the video"))
    return re.sub(r"(?<![\w:/.])/(?:[^/\s'\"]+/)+", "", words)
