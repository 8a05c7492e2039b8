"""Decoding a browser's JPEG images in bounded time and memory."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from utils.errors import UserError

MAX_IMAGE_BYTES = 1 << 20
MAX_PIXELS = 1920 * 1080
MAX_SCANS = 4  # each costs a pass over the image
SCAN = b"\xff\xda"


def decode(data: bytes) -> np.ndarray:
    """Decode a baseline JPEG image to (H, W, 3) uint8 RGB. Raises UserError if it is anything else, or too large."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError("the camera's frames are too large")
            if image.info.get("progressive") or data.count(SCAN) > MAX_SCANS:
                raise UserError("the frame is not a baseline JPEG image")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError("the frame is not a JPEG image") from None
