"""Pictures from and to disk, as (H, W, 3) uint8 RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from utils.errors import DataError, ResourceError
from utils.files import atomic_path

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_image(path: str | Path, upright: bool = False) -> np.ndarray:
    """Decode a picture fully; whatever its mode, it comes back as (H, W, 3) uint8 RGB.

    Args:
        upright: apply an EXIF rotation. Where there are landmarks it is not, since they count in stored pixels.

    Raises:
        DataError: the file is missing, truncated or no picture.
    """
    try:
        with Image.open(path) as image:
            image.load()  # Pillow notices truncation only here; OpenCV would fill the rest with grey
            return to_rgb(ImageOps.exif_transpose(image) if upright else image)
    except FileNotFoundError:
        if not Path(path).parent.is_dir():
            raise ResourceError(f"{Path(path).parent}: the folder is gone; is its disk there?") from None
        raise DataError(f"{path}: no such image; the annotation list names it") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be decoded ({error}); replace or remove it") from None


def to_rgb(image: Image.Image) -> np.ndarray:
    """Convert a loaded picture of any mode to (H, W, 3) uint8; of 16 bits the upper eight, where Pillow would clip."""
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.uint32) >> 8
        return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def write_image(path: str | Path, image: np.ndarray, comment: dict[str, str] | None = None) -> None:
    """Write (H, W, 3) or (H, W) uint8 to a .png or .jpg; `comment` becomes PNG text chunks."""
    with atomic_path(path) as temporary:
        picture = Image.fromarray(image)
        if temporary.suffix.lower() in (".jpg", ".jpeg"):
            picture.save(temporary, quality=95)
        else:
            text = PngImagePlugin.PngInfo()
            for key, value in (comment or {}).items():
                text.add_text(key, value)
            picture.save(temporary, pnginfo=text, compress_level=3)
