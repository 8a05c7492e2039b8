"""Pictures from and to disk, as (H, W, 3) uint8 RGB."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from utils.errors import DataError, ResourceError, one_line
from utils.files import NotRegular, atomic_path, open_file, shown

IMAGE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif")
MAX_PIXELS = 64_000_000  # per picture, which is 0.2 GB decoded
MAX_RATIO = 40  # ratio of a picture's sides; beyond it nobody can be seen
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "AVIF", "GIF")
ANIMATED, NEVER_ANIMATED = ("PNG", "WEBP", "AVIF", "GIF"), (".jpg", ".jpeg", ".jpe", ".jfif", ".bmp")
MAX_ANIMATION = 100_000  # pictures
MIN_STAY_MS, USUAL_STAY_MS = 11, 100  # shortest time of a picture; less counts as 0.1 s, as in browsers
BITS_PER_SAMPLE = 258  # TIFF's tag

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit comes earlier


def list_pictures(folder: Path) -> list[Path]:
    """List the pictures of a folder by their endings; hidden files are none. Says which other files are left out."""
    files = [path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir()]
    # a link that leads nowhere is named when it is read
    real = {path for path in files if path.is_file() or path.is_symlink() and not path.exists()}
    pictures = [path for path in files if path in real and path.suffix.lower() in IMAGE_ENDINGS]
    others = Counter(path.suffix.lower() or path.name for path in set(files).difference(pictures))
    if pictures and others:
        endings = ", ".join(one_line(ending, 20) for ending, _ in others.most_common(5))
        print(f"note: {folder}: {others.total()} other files left out ({endings})")
    return pictures


def read_image(path: str | Path, upright: bool = False) -> np.ndarray:
    """Decode a picture fully; whatever its mode, it comes back as (H, W, 3) uint8 RGB.

    Args:
        upright: apply an EXIF rotation. Where there are landmarks it is not, since they count in stored pixels.

    Raises:
        DataError: the file is missing, truncated or no picture.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            _check_size(image)
            image.load()  # Pillow notices truncation only here; OpenCV would fill the rest with grey
            return to_rgb(ImageOps.exif_transpose(image) if upright else image)
    except FileNotFoundError:
        if not Path(path).parent.is_dir():
            raise ResourceError(f"{Path(path).parent}: the folder is gone; is its disk there?") from None
        if Path(path).is_symlink():
            raise DataError(f"{path}: a link to a file that is not there; replace or remove it") from None
        raise DataError(f"{path}: no such image; the annotation list names it") from None
    except NotRegular as error:
        raise DataError(f"{path}: {error.strerror}; remove it") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
        raise _not_decoded(path, error, "replace or remove it") from None


def _not_decoded(path: str | Path, error: Exception, way_on: str) -> DataError:
    words = one_line(str(error).replace(repr(str(path)), "it") or type(error).__name__, 120)
    return DataError(f"{path}: cannot be decoded ({words}); {way_on}")


def is_picture(path: Path) -> bool:
    """Tell whether a file is a picture or an animation, by its ending or its first bytes.

    What can be an animation is known by its bytes: others would show its first picture as if that were all.
    """
    if path.suffix.lower() in IMAGE_ENDINGS:
        return True
    with open_file(path) as file:
        head = file.read(12)
    is_webp = head[:4] == b"RIFF" and head[8:] == b"WEBP"
    return is_webp or head[:8] == b"\x89PNG\r\n\x1a\n" or head[4:] in (b"ftypavif", b"ftypavis")


def animation_times(path: Path) -> list[float]:
    """Return how long each picture of an animation stays, in seconds; nothing for a single picture.

    Raises:
        DataError: it cannot be decoded, or has more pictures than a film of an hour.
    """
    return [stays_s for _, stays_s in _animation(path)] if is_animated(path) else []


def read_animation(path: Path) -> Iterator[np.ndarray]:
    """Decode the pictures of an animation, (H, W, 3) uint8 RGB, one after the other.

    Raises:
        DataError: they cannot be decoded.
    """
    for picture, _ in _animation(path):
        yield to_rgb(picture)


def is_animated(path: Path) -> bool:
    """Tell whether a file is an animation; pages of a TIFF, and a camera's second pictures, are none."""
    if path.suffix.lower() in NEVER_ANIMATED:
        return False
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            count = getattr(image, "n_frames", 1)
            if count > 1 and image.format not in ANIMATED:
                print(f"note: {path}: {count} pages, of which the first is taken")
            return count > 1 and image.format in ANIMATED
    except Exception:  # whoever reads it says what is wrong
        return False


def _animation(path: Path) -> Iterator[tuple[Image.Image, float]]:
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            _check_size(image)
            if image.n_frames > MAX_ANIMATION:
                raise ValueError(f"{image.n_frames} pictures, {MAX_ANIMATION} at most")
            for number in range(image.n_frames):
                image.seek(number)
                image.load()
                milliseconds = image.info.get("duration") or 0
                yield image, (milliseconds if milliseconds >= MIN_STAY_MS else USUAL_STAY_MS) / 1000
    except (MemoryError, GeneratorExit):
        raise
    except Exception as error:
        raise _not_decoded(path, error, "is it an animation that plays to its end?") from None


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels, {MAX_PIXELS // 1_000_000} million at most")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"{width}x{height} pixels, which is no picture of a face")


def to_rgb(image: Image.Image) -> np.ndarray:
    """Convert a loaded picture of any mode to (H, W, 3) uint8; of more bits the upper eight, where Pillow would clip.

    Raises:
        ValueError: floating point numbers that are not in [0, 1].
    """
    if image.mode == "F":
        gray = np.asarray(image)
        if not (gray.min() >= 0 and gray.max() <= 1):
            raise ValueError("floating point numbers beyond 0 to 1; save it with 8 or 16 bits")
    elif image.mode.startswith("I"):
        tag = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, 16)
        bits = min(max(tag if isinstance(tag, int) else tag[0], 8), 32 if image.mode == "I" else 16)
        gray = np.asarray(image).astype(np.float64) / (2**bits - 1)
    else:
        return np.asarray(image.convert("RGB"))
    return np.repeat((gray * 255).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def write_image(path: str | Path, image: np.ndarray, comment: dict[str, str] | None = None) -> None:
    """Write (H, W, 3) or (H, W) uint8 to a .png or .jpg; `comment` becomes PNG text chunks."""
    with atomic_path(path) as temporary:
        picture = Image.fromarray(image)
        if temporary.suffix.lower() in (".jpg", ".jpeg"):
            picture.save(temporary, quality=95)
        else:
            text = PngImagePlugin.PngInfo()
            for key, value in (comment or {}).items():
                text.add_text(key, shown(value))
            picture.save(temporary, pnginfo=text, compress_level=3)
