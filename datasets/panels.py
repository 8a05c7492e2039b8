"""Pictures to look at: heatmaps as lines on black, tiles side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

LABEL = "synthetic"


def heatmap_picture(heatmap: np.ndarray, size: int = 256) -> np.ndarray:
    """Draw a heatmap as white lines on black.

    Args:
        heatmap: (15, h, w) in [0, 1], or beyond where a network has no output activation.

    Returns:
        (size, size, 3) uint8.
    """
    lines = np.clip(heatmap.max(axis=0), 0, 1)
    lines = cv2.resize(lines, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.repeat((lines * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def face_picture(image: np.ndarray) -> np.ndarray:
    """Convert a face (3, H, W) in [-1, 1] to (H, W, 3) uint8."""
    return np.clip((image.transpose(1, 2, 0) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def monitor_path(folder: Path, index: int, number: int = 0) -> Path:
    """Return the path of a picture, named as nnabla's MonitorImage names it; that one could not mark what is generated.

    Args:
        index: of the iteration or the frame.
        number: of the picture, if there are several at an index.
    """
    return folder / f"{index:06d}-{number:03d}.png"


def evenly(count: int, at_most: int) -> list[int]:
    """Pick at most so many of the numbers 0..count-1, spread over all of them."""
    return sorted({round(position) for position in np.linspace(0, count - 1, min(at_most, count))}) if count else []


def contact_sheet(pictures: list[np.ndarray], columns: int, tile_px: int) -> np.ndarray:
    """Reduce pictures of one size and lay them out in rows; (H, W, 3) uint8."""
    tiles = [cv2.resize(picture, (tile_px, tile_px), interpolation=cv2.INTER_AREA) for picture in pictures]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([side_by_side(tiles[first : first + columns]) for first in range(0, len(tiles), columns)])


def at_size(picture: np.ndarray, size: int) -> np.ndarray:
    """Bring a square picture (H, H, 3) to a size in pixels."""
    if len(picture) == size:
        return picture
    interpolation = cv2.INTER_AREA if len(picture) > size else cv2.INTER_CUBIC
    return cv2.resize(picture, (size, size), interpolation=interpolation)


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """Join pictures of one height in a row."""
    return np.hstack(pictures)


def labelled(image: np.ndarray) -> np.ndarray:
    """Copy a picture (H, W, 3) uint8, with the word 'synthetic' small in its lower left corner."""
    copy, factor = image.copy(), max(round(image.shape[0] / 256), 1)
    place = (6 * factor, image.shape[0] - 8 * factor)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):  # to be read on light and on dark
        cv2.putText(copy, LABEL, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45 * factor, colour, width * factor, cv2.LINE_AA)
    return copy


def generated_mark(what: str) -> dict[str, str]:
    """Build metadata that say that a picture is no photograph; for `write_image` and video tags."""
    return {"Software": "ReenactGAN in NNabla", "Comment": f"AI-generated (synthetic): {what}"}
