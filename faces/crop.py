"""Square face crops at the size of the networks."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from faces.landmarks import IMAGE_SIZE

BLUR_PX = 16.0  # standard deviation of the blur beyond the image's edge
BLUR_STEP = 4  # the blur is computed at a reduced size, for speed


class Square(NamedTuple):
    """A square in pixels of an image; it may extend beyond the image."""

    left: int
    top: int
    side: int

    def outside(self, image_size: tuple[int, int]) -> int:
        """Return how far the square extends beyond an image (height, width), in pixels; 0 if it lies inside."""
        height, width = image_size
        return max(-self.left, -self.top, self.left + self.side - width, self.top + self.side - height, 0)


def cut_square(image: np.ndarray, square: Square, mirror: bool = False, size: int = IMAGE_SIZE) -> np.ndarray:
    """Crop a square from an image (H, W, 3) uint8 and resize it to (size, size, 3).

    Beyond the image, edges are replicated and blurred, so that nothing there resembles a face.

    Args:
        mirror: reflect the image instead, as in WFLW's crops.
    """
    left, top, side = square
    outside = square.outside(image.shape[:2])
    is_within = np.ones(image.shape[:2], np.uint8)
    if outside:
        border = cv2.BORDER_REFLECT_101 if mirror else cv2.BORDER_REPLICATE
        image, is_within = (
            cv2.copyMakeBorder(array, *[outside] * 4, kind)
            for array, kind in ((image, border), (is_within, cv2.BORDER_CONSTANT))
        )
    part = slice(top + outside, top + outside + side), slice(left + outside, left + outside + side)
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    crop = cv2.resize(image[part], (size, size), interpolation=interpolation)
    if not outside or mirror:
        return crop
    is_within = cv2.resize(is_within[part], (size, size), interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(crop, None, fx=1 / BLUR_STEP, fy=1 / BLUR_STEP, interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(cv2.GaussianBlur(small, (0, 0), BLUR_PX / BLUR_STEP * size / IMAGE_SIZE), (size, size))
    return np.where(is_within[..., None], crop, blurred)
