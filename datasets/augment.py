"""Data augmentation as in the authors' training: random rotation, zoom, shift and mirroring.

Boundaries are drawn from transformed landmarks; the encoder's heatmaps are transformed like images.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from datasets.boundary import BOUNDARY_PARTS, IMAGE_SIZE
from faces.landmarks import MIRRORED

MAX_ROTATION_DEG = 5.0
MAX_SHIFT_PX = 10.0  # pixels of a 256-pixel image, along each axis
ZOOM_RANGE = (0.97, 1.03)


def _mirror_channels() -> list[int]:
    names = list(BOUNDARY_PARTS)
    swap = {"left": "right", "right": "left"}
    mirrored = ["_".join(swap.get(word, word) for word in name.split("_")) for name in names]
    return [names.index(name) for name in mirrored]


MIRRORED_CHANNELS = _mirror_channels()  # channel i of a mirrored heatmap is channel MIRRORED_CHANNELS[i]


class Transform(NamedTuple):
    """An affine transform from pixels of a 256-pixel image to pixels of the transformed image."""

    matrix: np.ndarray  # (2, 3)
    is_mirrored: bool

    def image(self, image: np.ndarray) -> np.ndarray:
        """Transform an image (3, 256, 256) uint8, reflected at the border."""
        changed = cv2.warpAffine(
            np.ascontiguousarray(image.transpose(1, 2, 0)),
            self.matrix,
            (IMAGE_SIZE, IMAGE_SIZE),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return np.ascontiguousarray(changed.transpose(2, 0, 1))

    def landmarks(self, landmarks: np.ndarray) -> np.ndarray:
        """Transform landmarks (98, 2) in pixels."""
        changed = landmarks @ self.matrix[:, :2].T + self.matrix[:, 2]
        return changed[MIRRORED] if self.is_mirrored else changed

    def heatmap(self, heatmap: np.ndarray) -> np.ndarray:
        """Transform a heatmap (15, S, S) uint8."""
        size = heatmap.shape[1]
        matrix = _at_size(self.matrix, size)
        changed = np.stack([cv2.warpAffine(x, matrix, (size, size), flags=cv2.INTER_LINEAR) for x in heatmap])
        return changed[MIRRORED_CHANNELS] if self.is_mirrored else changed


def _at_size(matrix: np.ndarray, size: int) -> np.ndarray:
    """Convert the matrix to another image size; pixel centres are at half-integer positions."""
    factor = size / IMAGE_SIZE
    shift = (factor - 1) / 2
    linear, offset = matrix[:, :2], matrix[:, 2]
    return np.column_stack([linear, factor * offset + shift - linear @ np.full(2, shift)])


def random_transform(rng: np.random.Generator, may_mirror: bool = True) -> Transform:
    """Draw a rotation of up to 5 degrees, a zoom of 0.97 to 1.03, a shift of up to 10 pixels, and possibly a mirror."""
    angle = np.deg2rad(rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG))
    zoom = rng.uniform(*ZOOM_RANGE)
    shift = rng.uniform(-MAX_SHIFT_PX, MAX_SHIFT_PX, 2)
    is_mirrored = bool(rng.random() < 0.5) and may_mirror
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if is_mirrored:
        linear = linear @ np.diag([-1.0, 1.0])
    center = np.full(2, (IMAGE_SIZE - 1) / 2)
    return Transform(np.column_stack([linear, center + shift - linear @ center]), is_mirrored)
