"""Pictures to look at: heatmaps as lines on black, tiles side by side."""

from __future__ import annotations

import cv2
import numpy as np


def heatmap_picture(heatmap: np.ndarray, size: int = 256) -> np.ndarray:
    """(15, h, w) in [0, 1], or beyond where a network has no output activation, to (size, size, 3) uint8."""
    lines = np.clip(heatmap.max(axis=0), 0, 1)
    lines = cv2.resize(lines, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.repeat((lines * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def face_picture(image: np.ndarray) -> np.ndarray:
    """(3, H, W) in [-1, 1] to (H, W, 3) uint8."""
    return np.clip((image.transpose(1, 2, 0) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    return np.hstack(pictures)


def generated_mark(what: str) -> dict[str, str]:
    """Metadata that says that a picture is no photograph; for `write_image` and video tags."""
    return {"Software": "ReenactGAN in NNabla", "Comment": f"AI-generated (synthetic): {what}"}
