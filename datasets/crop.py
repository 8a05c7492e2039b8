"""Square cut-outs of pictures, as large as the networks take them."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from datasets.boundary import IMAGE_SIZE


class Square(NamedTuple):
    """Place a square in pixels of an image, which it may leave."""

    left: int
    top: int
    side: int

    def outside(self, image_size: tuple[int, int]) -> int:
        """Measure how far it reaches out of an image (height, width) at most, in pixels; 0 where it lies in it."""
        height, width = image_size
        return max(-self.left, -self.top, self.left + self.side - width, self.top + self.side - height, 0)


def cut_square(image: np.ndarray, square: Square) -> np.ndarray:
    """Cut (256, 256, 3) uint8 out of an image (H, W, 3), mirrored outward where the square leaves it."""
    left, top, side = square
    outside = square.outside(image.shape[:2])
    if outside:
        image = cv2.copyMakeBorder(image, outside, outside, outside, outside, cv2.BORDER_REFLECT_101)
    crop = image[top + outside : top + outside + side, left + outside : left + outside + side]
    interpolation = cv2.INTER_AREA if side > IMAGE_SIZE else cv2.INTER_LINEAR
    return cv2.resize(crop, (IMAGE_SIZE, IMAGE_SIZE), interpolation=interpolation)
