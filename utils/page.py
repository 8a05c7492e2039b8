"""Web pages of one file each: they open from disk, without a server or a network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape

import numpy as np
from PIL import Image

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1100px; padding: 1rem; color: #222;
       background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-top: 1px solid #ccc; padding-top: 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
.scroll { overflow-x: auto; } .bad { color: #a40000; font-weight: 600; } .mild { color: #7a5200; }
.good { color: #1a6b1a; } .tiles { display: flex; flex-wrap: wrap; gap: 4px; } .tiles img { width: 128px; }
img { max-width: 100%; height: auto; } figure { margin: 0 0 1rem; } figcaption { color: #555; font-size: .9rem; }
details { margin: .3rem 0; } code { overflow-wrap: anywhere; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole page from parts of HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def picture(image: np.ndarray, description: str, width: int | None = None) -> str:
    """A picture (H, W, 3) uint8 that lies in the page itself."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f' width="{width}"' if width else ""
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(description)}"{size}>'


def table(rows: Iterable[tuple[object, ...]], head: tuple[str, ...] = ()) -> str:
    """Rows of plain values."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"] if head else []
    lines += ["<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return '<div class="scroll"><table>' + "".join(lines) + "</table></div>"
