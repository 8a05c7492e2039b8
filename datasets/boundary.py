"""From 98 facial landmarks to 15 boundary heatmaps (paper section 3.1).

The landmarks are in WFLW's order. Each of the 15 facial parts is a polyline with a heatmap of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

NUM_LANDMARKS = 98
NUM_BOUNDARIES = 15
IMAGE_SIZE = 256
HEATMAP_SIZE = 64

# Landmarks joined in order, one polyline a channel. The last two eye, lip entries close the ring at its other end.
BOUNDARY_PARTS: dict[str, tuple[int, ...]] = {
    "face_contour": tuple(range(0, 33)),
    "left_brow_upper": tuple(range(33, 38)),
    "left_brow_lower": tuple(range(38, 42)),
    "right_brow_upper": tuple(range(42, 47)),
    "right_brow_lower": tuple(range(47, 51)),
    "nose_bridge": tuple(range(51, 55)),
    "nose_base": tuple(range(55, 60)),
    "left_eye_upper": tuple(range(60, 65)),
    "left_eye_lower": (64, 65, 66, 67, 60),
    "right_eye_upper": tuple(range(68, 73)),
    "right_eye_lower": (72, 73, 74, 75, 68),
    "upper_lip_upper": tuple(range(76, 83)),
    "upper_lip_lower": tuple(range(88, 93)),
    "lower_lip_upper": (92, 93, 94, 95, 88),
    "lower_lip_lower": (82, 83, 84, 85, 86, 87, 76),
}


# All polylines in one array of landmark numbers, and where each begins in it
_JOINED = np.concatenate([np.array(part) for part in BOUNDARY_PARTS.values()])
_STARTS = np.cumsum([0, *(len(part) for part in BOUNDARY_PARTS.values())])

cv2.setNumThreads(1)  # pictures are small and work is spread over processes, which OpenCV's threads do not survive


@dataclass(frozen=True)
class DrawingStyle:
    """How boundary lines are drawn; sizes are in pixels of a 256-pixel image."""

    line_thickness: int = 3
    gaussian_kernel: int = 5
    gaussian_sigma: float = 3.0

    @classmethod
    def from_config(cls, preprocess: dict[str, Any]) -> DrawingStyle:
        """From the transformer's `preprocess` section, which has more keys than these."""
        return cls(**{field.name: preprocess[field.name] for field in fields(cls)})


def draw_boundaries(
    landmarks: np.ndarray, image_size: tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE), style: DrawingStyle = DrawingStyle()
) -> np.ndarray:
    """Draw the 15 boundaries at the image's own size.

    Args:
        landmarks: (98, 2) x, y in pixels.
        image_size: (height, width) in pixels.

    Returns:
        (15, height, width) uint8 in [0, 255].
    """
    if landmarks.shape != (NUM_LANDMARKS, 2):
        raise ValueError(f"landmarks must be of shape (98, 2), not {landmarks.shape}")
    height, width = image_size
    thickness = max(int(style.line_thickness / IMAGE_SIZE * max(height, width)), 1)
    kernel = (style.gaussian_kernel, style.gaussian_kernel)
    points = landmarks.astype(np.int32)[_JOINED]  # truncated towards zero, as the published weights were trained
    # Only the box around a line is blurred. Its rim is empty and as wide as the kernel reaches, so the numbers are
    # those of blurring the whole picture.
    rim = thickness + style.gaussian_kernel
    low = (np.minimum.reduceat(points, _STARTS[:-1]) - rim).clip(0, (width, height)).tolist()
    high = (np.maximum.reduceat(points, _STARTS[:-1]) + rim + 1).clip(0, (width, height)).tolist()
    maps = np.zeros((NUM_BOUNDARIES, height, width), np.uint8)
    for channel, ((left, top), (right, bottom)) in enumerate(zip(low, high)):
        if left < right and top < bottom:
            line = points[_STARTS[channel] : _STARTS[channel + 1]]
            cv2.polylines(maps[channel], [line], False, 255, thickness)
            box = maps[channel, top:bottom, left:right]
            box[...] = cv2.GaussianBlur(box, kernel, style.gaussian_sigma)
    return maps


def resize_boundaries(maps: np.ndarray, size: int) -> np.ndarray:
    """Resize (15, H, W) uint8 maps bilinearly to (15, size, size); maps of that size come back as they are."""
    channels, height, width = maps.shape
    if (height, width) == (size, size):
        return maps
    if height % size == 0:  # rows of one map never mix with the next map's: all of them as one tall picture
        tall = cv2.resize(maps.reshape(-1, width), (size, channels * size), interpolation=cv2.INTER_LINEAR)
        return tall.reshape(channels, size, size)
    return np.stack([cv2.resize(m, (size, size), interpolation=cv2.INTER_LINEAR) for m in maps])
