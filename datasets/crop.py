"""Square cut-outs of pictures, as large as the networks take them."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from datasets.boundary import IMAGE_SIZE

BLUR_PX = 16.0  # width of the blur beyond an image's edge


class Seen(NamedTuple):
    """Say which pixels of a 256-pixel crop lie within its image: from left, top to before right, bottom."""

    left: int
    top: int
    right: int
    bottom: int

    def cut(self, crop: np.ndarray) -> np.ndarray:
        """Cut those pixels out of a crop (256, 256, 3)."""
        return crop[self.top : self.bottom, self.left : self.right]

    def mask(self) -> np.ndarray:
        """Return (256, 256) bool."""
        mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
        mask[self.top : self.bottom, self.left : self.right] = True
        return mask


ALL_SEEN = Seen(0, 0, IMAGE_SIZE, IMAGE_SIZE)


class Square(NamedTuple):
    """Place a square in pixels of an image, which it may leave."""

    left: int
    top: int
    side: int

    def outside(self, image_size: tuple[int, int]) -> int:
        """Measure how far it reaches out of an image (height, width) at most, in pixels; 0 where it lies in it."""
        height, width = image_size
        return max(-self.left, -self.top, self.left + self.side - width, self.top + self.side - height, 0)

    def seen(self, image_size: tuple[int, int]) -> Seen:
        """Say which pixels of the crop an image (height, width) holds."""
        height, width = image_size
        factor = IMAGE_SIZE / self.side
        low = [math.ceil(max(-start, 0) * factor) for start in (self.left, self.top)]
        ends = ((width - self.left) * factor, (height - self.top) * factor)
        return Seen(*low, *(min(math.floor(end), IMAGE_SIZE) for end in ends))


def cut_square(image: np.ndarray, square: Square, mirror: bool = False) -> np.ndarray:
    """Cut (256, 256, 3) uint8 out of an image (H, W, 3).

    Where the square leaves the image, the edges are drawn out and blurred: nothing there can be taken for a face.

    Args:
        mirror: mirror the image outward instead, as WFLW's crops do.
    """
    left, top, side = square
    outside = square.outside(image.shape[:2])
    if outside:
        border = cv2.BORDER_REFLECT_101 if mirror else cv2.BORDER_REPLICATE
        seen = square.seen(image.shape[:2])
        image = cv2.copyMakeBorder(image, outside, outside, outside, outside, border)
    crop = image[top + outside : top + outside + side, left + outside : left + outside + side]
    interpolation = cv2.INTER_AREA if side > IMAGE_SIZE else cv2.INTER_LINEAR
    crop = cv2.resize(crop, (IMAGE_SIZE, IMAGE_SIZE), interpolation=interpolation)
    if not outside or mirror:
        return crop
    is_seen = seen.mask()[..., None]
    return np.where(is_seen, crop, cv2.GaussianBlur(crop, (0, 0), BLUR_PX))
