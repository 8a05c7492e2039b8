"""Small random changes of a face, of its landmarks and of its boundaries alike, as the authors train with.

A face is turned, zoomed, moved and half of the time mirrored. Where there are landmarks, boundaries are drawn anew from
the changed ones, so that lines stay as thin as they were; the encoder's heatmaps are changed as pictures are.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from datasets.boundary import BOUNDARY_PARTS, IMAGE_SIZE

MAX_ROTATION_DEG = 5.0
MAX_SHIFT_PX = 10.0  # pixels of a 256-pixel image, along each axis
ZOOM_RANGE = (0.97, 1.03)

# rows of landmarks that stand for each other in a mirror, the second one backwards
_PAIRS = (
    (range(0, 33), range(32, -1, -1)),  # contour
    (range(33, 38), range(46, 41, -1)),  # brows, upper edge
    (range(38, 42), range(50, 46, -1)),  # brows, lower edge
    (range(51, 55), range(51, 55)),  # nose bridge
    (range(55, 60), range(59, 54, -1)),  # nose base
    (range(60, 65), range(72, 67, -1)),  # eyes, upper lid
    (range(65, 68), range(75, 72, -1)),  # eyes, lower lid
    (range(76, 83), range(82, 75, -1)),  # lips, outer edge, upper
    (range(83, 88), range(87, 82, -1)),  # lips, outer edge, lower
    (range(88, 93), range(92, 87, -1)),  # lips, inner edge, upper
    (range(93, 96), range(95, 92, -1)),  # lips, inner edge, lower
    (range(96, 97), range(97, 98)),  # pupils
)


def _mirror_order() -> np.ndarray:
    order = np.empty(98, int)
    for landmarks, partners in _PAIRS:
        order[list(landmarks)], order[list(partners)] = list(partners), list(landmarks)
    return order


def _mirror_channels() -> list[int]:
    names = list(BOUNDARY_PARTS)
    swap = {"left": "right", "right": "left"}
    mirrored = ["_".join(swap.get(word, word) for word in name.split("_")) for name in names]
    return [names.index(name) for name in mirrored]


MIRRORED_LANDMARKS = _mirror_order()  # landmark i of the mirrored face is landmark MIRRORED_LANDMARKS[i] of the face
MIRRORED_CHANNELS = _mirror_channels()  # the same for boundaries


class Transform(NamedTuple):
    """Describe one change; the matrix takes pixels of a 256-pixel image to pixels of the changed one."""

    matrix: np.ndarray  # (2, 3)
    is_mirrored: bool

    def image(self, image: np.ndarray) -> np.ndarray:
        """Change a picture (3, 256, 256) uint8; what comes from outside is mirrored outward."""
        changed = cv2.warpAffine(
            np.ascontiguousarray(image.transpose(1, 2, 0)),
            self.matrix,
            (IMAGE_SIZE, IMAGE_SIZE),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return np.ascontiguousarray(changed.transpose(2, 0, 1))

    def landmarks(self, landmarks: np.ndarray) -> np.ndarray:
        """Change landmarks (98, 2) in pixels; left and right change their names in a mirror."""
        changed = landmarks @ self.matrix[:, :2].T + self.matrix[:, 2]
        return changed[MIRRORED_LANDMARKS] if self.is_mirrored else changed

    def heatmap(self, heatmap: np.ndarray) -> np.ndarray:
        """Change a heatmap (15, S, S) uint8; left and right change their channels in a mirror."""
        size = heatmap.shape[1]
        matrix = _at_size(self.matrix, size)
        changed = np.stack([cv2.warpAffine(x, matrix, (size, size), flags=cv2.INTER_LINEAR) for x in heatmap])
        return changed[MIRRORED_CHANNELS] if self.is_mirrored else changed


def _at_size(matrix: np.ndarray, size: int) -> np.ndarray:
    """Return the matrix for a picture of another size; pixel (0, 0) has its centre half a pixel inside either."""
    factor = size / IMAGE_SIZE
    shift = (factor - 1) / 2
    linear, offset = matrix[:, :2], matrix[:, 2]
    return np.column_stack([linear, factor * offset + shift - linear @ np.full(2, shift)])


def random_transform(rng: np.random.Generator, may_mirror: bool = True) -> Transform:
    """Draw a rotation of up to 5 degrees, a zoom of 0.97 to 1.03 and a shift of up to 10 pixels about the image's
    centre, and, if it may, a mirror half of the time."""
    angle = np.deg2rad(rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG))
    zoom = rng.uniform(*ZOOM_RANGE)
    shift = rng.uniform(-MAX_SHIFT_PX, MAX_SHIFT_PX, 2)
    is_mirrored = bool(rng.random() < 0.5) and may_mirror
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if is_mirrored:
        linear = linear @ np.diag([-1.0, 1.0])
    center = np.full(2, (IMAGE_SIZE - 1) / 2)
    return Transform(np.column_stack([linear, center + shift - linear @ center]), is_mirrored)
