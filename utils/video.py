"""Videos and animated previews from frames, through imageio-ffmpeg and Pillow; no ffmpeg on the system is needed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from utils.errors import DataError, ResourceError
from utils.files import atomic_path

# it warns about every video that is turned upright, which is what is wanted
logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)


def read_video(path: Path) -> tuple[float, tuple[int, int], Iterator[np.ndarray]]:
    """Open a video file.

    Returns:
        frames a second (0 where the file does not say), (width, height) of the frames as they are to be seen, and the
        frames (H, W, 3) uint8 RGB one by one.

    Raises:
        DataError: it is no video, or it ends early.
    """
    hint = "is it a video that plays to its end?"
    # a path, never an address: whatever a file names, nothing but files is opened
    frames = imageio_ffmpeg.read_frames(str(path), input_params=["-protocol_whitelist", "file"])
    try:
        about = next(frames)
        width, height = about["size"]
    except (OSError, RuntimeError, StopIteration, LookupError, AttributeError):
        raise DataError(f"{path}: cannot be read as a video; {hint}") from None

    def decode() -> Iterator[np.ndarray]:
        count = 0
        try:
            for frame in frames:
                yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
                count += 1
        except (OSError, RuntimeError):
            raise DataError(f"{path}: cannot be decoded to its end; {hint}") from None
        finally:
            frames.close()
        expected = int(about["duration"] * about["fps"])
        if count < 0.9 * expected - 2:  # the file's own words are rough
            raise DataError(f"{path}: ends after {count} of about {expected} frames; {hint}")

    return about["fps"], (width, height), decode()


def write_video(path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float, comment: str) -> int:
    """Write an H.264 mp4 that plays everywhere (yuv420p, faststart).

    Args:
        frames: (H, W, 3) uint8 RGB, both sides even.
        size: (width, height) of the frames in pixels.
        comment: kept in the file's tags.

    Returns:
        the number of frames.

    Raises:
        ResourceError: encoding failed; nothing is left under `path`.
    """
    count = 0
    with atomic_path(path) as temporary:
        writer = imageio_ffmpeg.write_frames(
            str(temporary),
            size,
            fps=fps,
            codec="libx264",
            pix_fmt_out="yuv420p",
            macro_block_size=2,
            output_params=["-crf", "18", "-movflags", "+faststart", "-metadata", f"comment={comment}"],
            ffmpeg_log_level="error",
        )
        writer.send(None)
        try:
            for frame in frames:
                writer.send(np.ascontiguousarray(frame))
                count += 1
        except OSError as error:
            raise ResourceError(f"{path}: cannot be encoded ({error})") from None
        finally:
            writer.close()
        if count:
            written, _ = imageio_ffmpeg.count_frames_and_secs(str(temporary))
            if written != count:
                raise ResourceError(f"{path}: {written} of {count} frames were encoded; is the disk full?")
    return count


def write_preview(path: Path, frames: list[np.ndarray], fps: float, comment: str) -> None:
    """Write an animated GIF of (H, W, 3) uint8 frames, all with one palette so that nothing flickers."""
    sample = np.concatenate(frames[:: max(len(frames) // 8, 1)])
    palette = Image.fromarray(sample).quantize(192)
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with atomic_path(path) as temporary:
        pictures[0].save(
            temporary,
            save_all=True,
            append_images=pictures[1:],
            duration=int(1000 / fps),
            loop=0,
            comment=comment.encode(),
        )
