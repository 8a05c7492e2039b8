"""Images to look at: heatmaps as white boundaries on black, and tiles."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

LABEL = "synthetic"


def heatmap_image(heatmap: np.ndarray, size: int = 256) -> np.ndarray:
    """Convert a heatmap (15, h, w), clipped to [0, 1], to (size, size, 3) uint8: white boundaries on black."""
    lines = np.clip(heatmap.max(axis=0), 0, 1)
    lines = cv2.resize(lines, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.repeat((lines * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def face_image(image: np.ndarray) -> np.ndarray:
    """Convert a face (3, H, W) in [-1, 1] to (H, W, 3) uint8."""
    return np.clip((image.transpose(1, 2, 0) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def monitor_path(folder: Path, index: int, number: int = 0) -> Path:
    """Return the path of an image of an iteration or frame, named as by nnabla's MonitorImage."""
    return folder / f"{index:06d}-{number:03d}.png"


def contact_sheet(images: list[np.ndarray], columns: int, tile_px: int) -> np.ndarray:
    """Arrange reduced images of one size in rows; (H, W, 3) uint8."""
    tiles = [cv2.resize(image, (tile_px, tile_px), interpolation=cv2.INTER_AREA) for image in images]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([side_by_side(tiles[first : first + columns]) for first in range(0, len(tiles), columns)])


def at_size(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a square image (H, H, 3) to (size, size, 3)."""
    if len(image) == size:
        return image
    interpolation = cv2.INTER_AREA if len(image) > size else cv2.INTER_CUBIC
    return cv2.resize(image, (size, size), interpolation=interpolation)


def side_by_side(images: list[np.ndarray]) -> np.ndarray:
    """Join images of one height in a row."""
    return np.hstack(images)


def labelled(image: np.ndarray) -> np.ndarray:
    """Return a copy of an image (H, W, 3) uint8 with the word 'synthetic' in the lower left corner."""
    copy, factor = image.copy(), max(round(image.shape[0] / 256), 1)
    place = (6 * factor, image.shape[0] - 8 * factor)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):  # legible on light and dark
        cv2.putText(copy, LABEL, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45 * factor, colour, width * factor, cv2.LINE_AA)
    return copy


def generated_metadata(what: str) -> dict[str, str]:
    """Return metadata of images and videos which say that they are AI-generated."""
    return {"Software": "ReenactGAN in NNabla", "Comment": f"AI-generated (synthetic): {what}"}
