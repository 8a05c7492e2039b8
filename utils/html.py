"""Web pages of one file each: they open from disk, without a server or a network."""

from __future__ import annotations

import base64
import io
import os
import urllib.parse
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1100px; padding: 1rem; color: #222;
       background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-top: 1px solid #ccc; padding-top: 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
.scroll { overflow-x: auto; } .bad { color: #a40000; font-weight: 600; } .mild { color: #7a5200; }
.good { color: #1a6b1a; } .tiles { display: flex; flex-wrap: wrap; gap: 4px; } .tiles img { width: 128px; }
img, video { max-width: 100%; height: auto; } figure { margin: 0 0 1rem; } figcaption { color: #555; font-size: .9rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 1rem; }
.chart { margin: 0; } .chart svg { width: 100%; background: #f5f7fa; display: block; }
pre { background: #f5f7fa; padding: .6rem; overflow-x: auto; font-size: .85rem; }
details { margin: .3rem 0; } code { overflow-wrap: anywhere; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """Build a whole page from parts of HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def address(path: str | Path, folder: Path) -> str:
    """Return the address of a file for a page in a folder, as a link has it; its name may hold anything."""
    relative = os.path.relpath(os.path.abspath(path), os.path.abspath(folder))
    quoted = urllib.parse.quote(os.fsencode(relative))
    return escape(f"./{quoted}" if ":" in relative.partition("/")[0] else quoted)  # else it seems to name a protocol


def picture(image: np.ndarray, description: str, width: int | None = None) -> str:
    """Embed a picture (H, W, 3) uint8 in the page itself."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f' width="{width}"' if width else ""
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(description)}"{size}>'


def table(rows: Iterable[tuple[object, ...]], head: tuple[str, ...] = ()) -> str:
    """Build a table of plain values."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"] if head else []
    lines += ["<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return '<div class="scroll"><table>' + "".join(lines) + "</table></div>"


CHART_WIDTH, CHART_HEIGHT, MAX_POINTS = 320, 120, 400


def line_chart(name: str, points: list[tuple[int, float]], across_name: str = "iterations") -> str:
    """Draw a small curve with its range and its last value; points that are not finite are left out."""
    points = [(x, y) for x, y in points if np.isfinite(y)]
    if not points:
        return ""
    thinned = points[:: -(-len(points) // MAX_POINTS)]
    thinned += [points[-1]] if thinned[-1] != points[-1] else []
    x, y = np.array(thinned, np.float64).T
    left, right, low, high = x.min(), x.max(), y.min(), y.max()
    across = (x - left) / max(right - left, 1e-12) * CHART_WIDTH
    up = CHART_HEIGHT - (y - low) / max(high - low, 1e-12) * CHART_HEIGHT
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, up))
    return (
        f'<figure class="chart"><figcaption><b>{escape(name)}</b> {points[-1][1]:.4g}</figcaption>'
        f'<svg viewBox="-2 -4 {CHART_WIDTH + 4} {CHART_HEIGHT + 8}" role="img" aria-label="{escape(name)}">'
        f'<polyline points="{path}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/></svg>'
        f"<figcaption>{low:.4g} to {high:.4g}, {across_name} {left:.0f} to {right:.0f}</figcaption></figure>"
    )
