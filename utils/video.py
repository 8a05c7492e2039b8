"""Videos and animated previews from frames, through imageio-ffmpeg and Pillow; no ffmpeg on the system is needed."""

from __future__ import annotations

import logging
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from PIL import Image

from utils.errors import DataError, ResourceError
from utils.files import atomic_path

# it warns about every video that is turned upright, which is what is wanted
logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)

FILES_ONLY = ["-protocol_whitelist", "file"]


def exact_rate(fps: float) -> Fraction:
    """Undo the rounding of ffmpeg to two digits: 23.98 is 24000/1001, as television has it."""
    television = Fraction(round(fps * 1.001) * 1000, 1001)
    return television if abs(float(television) - fps) < 0.006 else Fraction(fps).limit_denominator(1000)


def read_video(
    path: Path, fps: float | Fraction | None = None
) -> tuple[float | Fraction, tuple[int, int], Iterator[np.ndarray]]:
    """Open a video file. Frames come at an even rate, also where the file's own do not.

    Args:
        fps: frames a second to read; None takes the file's own.

    Returns:
        frames a second (0 where the file does not say), (width, height) of the frames as they are to be seen, and the
        frames (H, W, 3) uint8 RGB one by one.

    Raises:
        DataError: it is no video, or it ends early.
    """
    hint = "is it a video that plays to its end?"
    # a path, never an address: whatever a file names, nothing but files is opened
    try:
        about = _look_at(path)
        fps = fps or exact_rate(about["fps"])
        width, height = about["size"]
    except (OSError, RuntimeError, StopIteration, LookupError, AttributeError):
        raise DataError(f"{path}: cannot be read as a video; {hint}") from None
    rate = ["-vf", f"fps={fps}"] if fps else []
    frames = imageio_ffmpeg.read_frames(str(path), input_params=FILES_ONLY, output_params=rate)

    def decode() -> Iterator[np.ndarray]:
        count = 0
        try:
            next(frames)  # says what it is
            for frame in frames:
                yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
                count += 1
        except (OSError, RuntimeError, StopIteration):
            raise DataError(f"{path}: cannot be decoded to its end; {hint}") from None
        finally:
            frames.close()
        expected = int(about["duration"] * float(fps or about["fps"]))
        if count < 0.9 * expected - 2:  # the file's own words are rough
            raise DataError(f"{path}: ends after {count} of about {expected} frames; {hint}")

    return fps, (width, height), decode()


def _look_at(path: Path) -> dict[str, Any]:
    frames = imageio_ffmpeg.read_frames(str(path), input_params=FILES_ONLY)
    try:
        return next(frames)
    finally:
        frames.close()


@contextmanager
def sound_of(path: Path, seconds: float | None = None) -> Iterator[Path | None]:
    """Extract the first sound track of a video, in step with the frames, to a file that is there while the block runs.

    Args:
        seconds: no more than so many.

    Yields:
        None where there is no sound.

    Raises:
        DataError: there is one that cannot be decoded.
    """
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound.m4a"
        length = [] if seconds is None else ["-t", f"{seconds:.6f}"]
        # filled up with silence where it begins later than the frames
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *FILES_ONLY, "-i", str(path)]
        command += ["-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", "-c:a", "aac", "-b:a", "160k"]
        result = subprocess.run([*command, *length, str(sound)], capture_output=True, text=True, errors="replace")
        if "matches no streams" in result.stderr:
            yield None
            return
        if result.returncode != 0:
            reason = (result.stderr.strip() or "ffmpeg failed").splitlines()[-1]
            raise DataError(f"{path}: its sound cannot be decoded ({reason}); pass --no-audio to do without")
        yield sound


class VideoWriter:
    """Take the frames of a video that `open_video` opened."""

    def __init__(self, path: Path, frames: Any):
        self.path, self.count, self._frames = path, 0, frames

    def write(self, frame: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB.

        Raises:
            ResourceError: encoding failed.
        """
        try:
            self._frames.send(np.ascontiguousarray(frame))
        except OSError as error:
            raise ResourceError(f"{self.path}: cannot be encoded ({_last_word(error)}); is the disk full?") from None
        self.count += 1


@contextmanager
def open_video(
    path: Path, size: tuple[int, int], fps: float | Fraction, comment: str, sound: Path | None = None
) -> Iterator[VideoWriter]:
    """Open an H.264 mp4 that plays everywhere (yuv420p, faststart), to write frames to while the block runs.

    It gets its name when the block ends well and all frames are found in it; else nothing is left under `path`.

    Args:
        size: (width, height) of the frames in pixels, both even.
        fps: frames a second.
        comment: kept in the file's tags.
        sound: a file of AAC, as `sound_of` gives it.

    Raises:
        DataError: no frame was written.
        ResourceError: encoding failed.
    """
    with atomic_path(path) as temporary:
        frames = imageio_ffmpeg.write_frames(
            str(temporary),
            size,
            fps=fps,
            codec="libx264",
            quality=None,
            pix_fmt_out="yuv420p",
            macro_block_size=2,
            output_params=["-crf", "18", "-movflags", "+faststart", "-metadata", f"comment={comment}"],
            ffmpeg_log_level="error",
            audio_path=None if sound is None else str(sound),
            audio_codec=None if sound is None else "copy",
        )
        frames.send(None)
        video = VideoWriter(path, frames)
        try:
            yield video
        finally:
            frames.close()
        if video.count == 0:
            raise DataError(f"{path}: there is no frame to write")
        found = 0
        with suppress(RuntimeError):  # said of a file that holds no video
            found, _ = imageio_ffmpeg.count_frames_and_secs(str(temporary))
        if found != video.count:
            raise ResourceError(f"{path}: {found} of {video.count} frames were encoded; is the disk full?")


def _last_word(error: OSError) -> str:
    """Cut the exception of imageio-ffmpeg, which holds ffmpeg's whole output, down to a line."""
    return (error.strerror or str(error).strip()).splitlines()[0]


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
