"""Pictures to look at: heatmaps as lines on black, tiles side by side."""

from __future__ import annotations

import cv2
import numpy as np

# Of the 15 boundaries, RGB. Each side has a colour of its own, so that a swap of left and right is seen.
LEFT, RIGHT = (255, 120, 60), (80, 160, 255)
CONTOUR, NOSE, UPPER_LIP, LOWER_LIP = (255, 255, 255), (255, 230, 60), (255, 90, 200), (120, 255, 120)
SIDES = (LEFT, LEFT, RIGHT, RIGHT)  # brows, and again eyes
LABEL = "synthetic"
COLOURS = np.array([CONTOUR, *SIDES, NOSE, NOSE, *SIDES, UPPER_LIP, UPPER_LIP, LOWER_LIP, LOWER_LIP], np.float32)


def heatmap_picture(heatmap: np.ndarray, size: int = 256) -> np.ndarray:
    """(15, h, w) in [0, 1], or beyond where a network has no output activation, to (size, size, 3) uint8."""
    lines = np.clip(heatmap.max(axis=0), 0, 1)
    lines = cv2.resize(lines, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.repeat((lines * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def face_picture(image: np.ndarray) -> np.ndarray:
    """(3, H, W) in [-1, 1] to (H, W, 3) uint8."""
    return np.clip((image.transpose(1, 2, 0) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def overlay(image: np.ndarray, boundaries: np.ndarray) -> np.ndarray:
    """A face (H, W, 3) uint8 with its boundaries (15, H, W) uint8 over it in colours, uint8."""
    strength = boundaries.astype(np.float32) / 255  # (15, H, W)
    total = strength.sum(axis=0)[..., None]  # (H, W, 1)
    colour = np.einsum("chw,ck->hwk", strength, COLOURS) / np.maximum(total, 1e-6)
    cover = 0.8 * strength.max(axis=0)[..., None]
    return (image * (1 - cover) + colour * cover).astype(np.uint8)


def evenly(count: int, at_most: int) -> list[int]:
    """At most so many of the numbers 0..count-1, spread over all of them."""
    return sorted({round(position) for position in np.linspace(0, count - 1, min(at_most, count))})


def contact_sheet(pictures: list[np.ndarray], columns: int, tile_px: int) -> np.ndarray:
    """Pictures of one size, reduced, in rows; (H, W, 3) uint8."""
    tiles = [cv2.resize(picture, (tile_px, tile_px), interpolation=cv2.INTER_AREA) for picture in pictures]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([side_by_side(tiles[first : first + columns]) for first in range(0, len(tiles), columns)])


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    return np.hstack(pictures)


def labelled(image: np.ndarray) -> np.ndarray:
    """A copy (H, W, 3) uint8 with the word 'synthetic' small in its lower left corner."""
    copy = image.copy()
    place = (6, image.shape[0] - 8)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):  # to be read on light and on dark
        cv2.putText(copy, LABEL, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)
    return copy


def generated_mark(what: str) -> dict[str, str]:
    """Metadata that says that a picture is no photograph; for `write_image` and video tags."""
    return {"Software": "ReenactGAN in NNabla", "Comment": f"AI-generated (synthetic): {what}"}
