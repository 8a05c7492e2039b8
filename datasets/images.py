"""Reading and writing images as (H, W, 3) uint8 RGB."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from utils.errors import DataError, ResourceError, is_of_system, one_line
from utils.files import NotRegular, atomic_path, open_file, shown

IMAGE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif")
MAX_PIXELS = 64_000_000  # 0.2 GB when decoded
MAX_RATIO = 40  # of an image's sides
DEEP = "more than 8 bits per channel; save it with 8 bits"
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "AVIF", "GIF")

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is lower


def list_images(folder: Path) -> list[Path]:
    """Return the images of a folder, by their endings and without hidden files. Prints a note about other files."""
    files = [path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir()]
    # broken links are reported when they are read
    real = {path for path in files if path.is_file() or path.is_symlink() and not path.exists()}
    images = [path for path in files if path in real and path.suffix.lower() in IMAGE_ENDINGS]
    if images and len(images) < len(files):
        print(f"note: {folder}: {len(files) - len(images)} other files are ignored")
    return images


def read_image(path: str | Path, upright: bool = False) -> np.ndarray:
    """Read an image of any 8-bit mode as (H, W, 3) uint8 RGB.

    Args:
        upright: apply the EXIF rotation. Landmarks of data sets refer to stored pixels, without it.

    Raises:
        DataError: the file is missing, damaged or not an image.
        ResourceError: its folder is missing.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            _check_size(image)
            if image.mode.startswith(("I", "F")):
                raise ValueError(DEEP)
            image.load()  # detects truncated files
            return np.asarray((ImageOps.exif_transpose(image) if upright else image).convert("RGB"))
    except FileNotFoundError:
        if not Path(path).parent.is_dir():
            raise ResourceError(f"{Path(path).parent}: the folder does not exist; is its disk mounted?") from None
        if Path(path).is_symlink():
            raise DataError(f"{path}: a broken link; replace or remove it") from None
        raise DataError(f"{path}: no such image; restore it, or remove its line from the list") from None
    except NotRegular as error:
        raise DataError(f"{path}: {error.strerror}; remove it") from None
    except Exception as error:  # Pillow's decoders raise various types for damaged files
        if isinstance(error, MemoryError) or is_of_system(error):
            raise
        reason = one_line(str(error).replace(repr(str(path)), "it") or type(error).__name__, 120)
        raise DataError(f"{path}: cannot be decoded ({reason}); replace or remove it") from None


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels, more than {MAX_PIXELS // 1_000_000} million")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"{width}x{height} pixels, too narrow")


def write_image(path: str | Path, image: np.ndarray, metadata: dict[str, str] | None = None) -> None:
    """Write (H, W, 3) or (H, W) uint8 to a .png or .jpg file, with metadata as text chunks of a PNG."""
    with atomic_path(path) as temporary:
        encoded = Image.fromarray(image)
        if temporary.suffix.lower() in (".jpg", ".jpeg"):
            encoded.save(temporary, quality=95)
        else:
            text = PngImagePlugin.PngInfo()
            for key, value in (metadata or {}).items():
                text.add_text(key, shown(value))
            encoded.save(temporary, pnginfo=text, compress_level=3)
