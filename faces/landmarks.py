"""The 98 landmarks of WFLW: which number is which part of the face."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NUM_LANDMARKS = 98
IMAGE_SIZE = 256  # width and height of a face crop in pixels


class Eye(NamedTuple):
    """Landmark numbers of one eye."""

    ring: slice  # corners and lids
    corners: tuple[int, int]  # left and right in the image
    top: int  # middle of the upper lid
    bottom: int  # middle of the lower lid
    lids: tuple[int, ...]
    pupil: int
    brow: slice


CONTOUR = slice(0, 33)
BROWS = slice(33, 51)
INNER_BROWS = [38, 50]  # ends of the lower edges
NOSE = slice(51, 60)
EYES = (
    Eye(slice(60, 68), (60, 64), 62, 66, (61, 62, 63, 65, 66, 67), 96, slice(33, 42)),
    Eye(slice(68, 76), (68, 72), 70, 74, (69, 70, 71, 73, 74, 75), 97, slice(42, 51)),
)
EYE_RINGS = slice(60, 76)
MOUTH = slice(76, 96)
MOUTH_CORNERS = [76, 82]
UPPER_LIP, LOWER_LIP = 90, 94  # middles of the inner edges

# Landmarks that swap places in a mirror; the second row runs backwards.
_MIRROR_PAIRS = (
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
    order = np.empty(NUM_LANDMARKS, int)
    for landmarks, partners in _MIRROR_PAIRS:
        order[list(landmarks)], order[list(partners)] = list(partners), list(landmarks)
    return order


MIRRORED = _mirror_order()  # landmark i of a mirrored face is landmark MIRRORED[i] of the face


def opening_of_eyes(landmarks: np.ndarray) -> np.ndarray:
    """Return the height of both eyes, left then right, (..., 2) in pixels, of landmarks (..., 98, 2)."""
    return np.stack([landmarks[..., eye.bottom, 1] - landmarks[..., eye.top, 1] for eye in EYES], axis=-1)


def pupil_offsets(landmarks: np.ndarray) -> np.ndarray:
    """Return the offset of both pupils from the middle of the eye's corners, (..., 2, 2) in pixels."""
    middles = [landmarks[..., list(eye.corners), :].mean(axis=-2) for eye in EYES]
    return np.stack([landmarks[..., eye.pupil, :] - middle for eye, middle in zip(EYES, middles)], axis=-2)


def brow_heights(landmarks: np.ndarray) -> np.ndarray:
    """Return the height of both brows above the eyes, (..., 2) in pixels."""
    return np.stack(
        [landmarks[..., eye.ring, 1].mean(axis=-1) - landmarks[..., eye.brow, 1].mean(axis=-1) for eye in EYES], axis=-1
    )


def normalized_error(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean error of each face's landmarks (N, 98, 2), relative to the distance of the outer eye corners."""
    left, right = (truth[:, eye.corners[side]] for side, eye in enumerate(EYES))
    return np.linalg.norm(found - truth, axis=2).mean(axis=1) / np.linalg.norm(left - right, axis=1)
