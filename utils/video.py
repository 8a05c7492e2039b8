"""Videos and animated previews from frames, through imageio-ffmpeg and Pillow; no ffmpeg on the system is needed."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import imageio_ffmpeg
import numpy as np
from PIL import Image

from utils.ending import end_child, run_child, start_child
from utils.errors import DataError, ResourceError, one_line
from utils.files import atomic_path, shown, temporary_folder

MIN_FPS, MAX_FPS = 0.5, 240.0
USUAL_FPS = 25.0  # where a file claims another rate, or none
MAX_SIDE = 4096  # pixels; larger frames are reduced to it
MAX_PIXELS = 36_000_000  # of a frame in the file, as of 8192 x 4320
DECODER_THREADS = 2  # each holds frames of its own, which on many cores and of 8K would be gigabytes
LOOK_TIMEOUT_S = 30.0
SPARE_FRAMES = 3
SHORTER = 0.9  # share of a video that must be there

# Files that hold pictures and sound themselves. Playlists name others, on this machine or elsewhere.
FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,live_flv,asf,ogg,ivf,obu,av1,mxf,nut,rm,dv,wtv,gif,apng,"
    "h264,hevc,vvc,mjpeg,yuv4mpegpipe,swf,nsv,bink,roq,amv,viv,smjpeg,mjpeg_2000,image2,bmp_pipe,jpeg_pipe,jpegls_pipe,"
    "jpegxl_pipe,jpegxl_anim,j2k_pipe,png_pipe,ppm_pipe,pgm_pipe,tiff_pipe,webp_pipe,psd_pipe,qoi_pipe,sgi_pipe,dpx_pipe,"
    "exr_pipe,hdr_pipe,pcx_pipe,pam_pipe,sunrast_pipe,xbm_pipe,xpm_pipe"
)
# Nothing but files is opened, whatever a file names.
SAFE = ["-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-max_pixels", str(MAX_PIXELS)]
HINT = "is it a video that plays to its end?"

# As a player shows it: pixels that are not square are stretched, never shrunk; what is too large is reduced.
AS_SHOWN = (
    f"scale=w='st(0,iw*max(sar,1));st(1,ih*max(1/sar,1));max(2,round(ld(0)*min(1,{MAX_SIDE}/max(ld(0),ld(1)))))':"
    f"h='st(0,iw*max(sar,1));st(1,ih*max(1/sar,1));max(2,round(ld(1)*min(1,{MAX_SIDE}/max(ld(0),ld(1)))))',setsar=1"
)
HDR = re.compile(r"smpte2084|arib-std-b67")
TO_SDR = "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv"


class Video(NamedTuple):
    """Describe a video file as it is to be seen."""

    path: Path
    fps: Fraction
    size: tuple[int, int]  # width and height of the frames in pixels
    seconds: float  # of its pictures, as far as they are there
    has_sound: bool
    is_hdr: bool

    def num_frames(self, fps: float | Fraction) -> int:
        """Return about how many frames there are at a rate."""
        return max(round(self.seconds * float(fps)), 1)


def exact_rate(fps: float) -> Fraction:
    """Undo the rounding of ffmpeg to two digits: 23.98 is 24000/1001, as television has it."""
    television = Fraction(round(fps * 1.001) * 1000, 1001)
    return television if abs(float(television) - fps) < 0.006 else Fraction(fps).limit_denominator(1000)


def ffmpeg() -> str:
    """Return the program.

    Raises:
        ResourceError: it is missing.
    """
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except (RuntimeError, OSError):
        raise ResourceError(
            "ffmpeg is missing; 'pip install --force-reinstall imageio-ffmpeg' brings one, or set IMAGEIO_FFMPEG_EXE"
        ) from None


def _input(path: Path) -> list[str]:
    # absolute, since a name with a colon would be taken for an address, and one with a hyphen for an option
    return ["-nostdin", "-threads", str(DECODER_THREADS), *SAFE, "-i", str(path.absolute())]


def look(path: Path, at_most_s: float | None = None) -> Video:
    """Find out what a video file holds; its pictures are counted, but not decoded.

    Args:
        at_most_s: how much of it is of interest.

    Raises:
        DataError: it is no video, a playlist, too large, or much of it is missing.
        ResourceError: there is no ffmpeg.
    """
    command = [ffmpeg(), "-hide_banner", *_input(path), "-an", "-sn", "-dn"]
    try:
        _, text = run_child([*command, "-frames:v", "1", "-vf", AS_SHOWN, "-f", "null", "-"], LOOK_TIMEOUT_S)
    except TimeoutError:
        raise DataError(f"{path}: nothing can be decoded within {LOOK_TIMEOUT_S:.0f} s; {HINT}") from None
    about, _, output = text.partition("Output #0")
    shown = re.search(r"Video: .*?, (\d+)x(\d+)[, ]", output)
    if shown is None:
        raise DataError(f"{path}: cannot be read as a video ({_why_not(text)}); {HINT}")
    chosen = re.search(r"Stream mapping:\s+Stream #0:(\d+)", text)
    streams = dict(re.findall(r"Stream #0:(\d+)[^\n]*?: (Video: [^\n]*)", about))
    stream = streams.get(chosen.group(1), "") if chosen else ""
    fps = _rate(path, stream)
    has_sound = re.search(r"Stream #0:\d+[^\n]*: Audio: ", about) is not None
    limit = [] if at_most_s is None else ["-t", f"{at_most_s:.6f}"]
    _, words = run_child([*command, "-v", "error", "-stats", "-c", "copy", *limit, "-f", "null", "-"])
    count, seconds = _count(words, float(fps))
    if count < MIN_FPS * seconds - 2:
        raise DataError(f"{path}: only {count} pictures in {seconds:.0f} s; its times are damaged, or it is no film")
    video = Video(path, fps, (int(shown.group(1)), int(shown.group(2))), seconds, has_sound, bool(HDR.search(stream)))
    if at_most_s is None or seconds < at_most_s - 1:
        _compare_length(video, about, words)
    return video


def _why_not(text: str) -> str:
    """Say in a few words why ffmpeg gives no picture."""
    if "Format not on whitelist" in text:
        return "a playlist, or no format of videos"
    if "exceeds specified max pixel count" in text:
        return f"its frames have more than {MAX_PIXELS // 1_000_000} million pixels"
    if "does not contain any stream" in text or "matches no streams" in text:
        return "no pictures in it"
    lines = [line for line in text.splitlines() if "Error" in line or "Invalid" in line]
    return one_line(re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] *", "", lines[0]), 120) if lines else "no pictures in it"


def _rate(path: Path, stream: str) -> Fraction:
    """Choose frames a second out of what a file says of its pictures: their mean rate, else that of its clock."""
    claims = re.findall(r", ([\d.]+)(k?) (?:fps|tbr)", stream)
    rates = [float(number) * (1000 if kilo else 1) for number, kilo in claims]
    fitting = [rate for rate in rates if MIN_FPS <= rate <= MAX_FPS]
    if rates and not fitting:
        print(f"note: {path}: claims {rates[0]:g} frames a second; taken for {USUAL_FPS:g} (--fps has others)")
    return exact_rate(fitting[0] if fitting else USUAL_FPS)


def _count(words: str, fps: float) -> tuple[int, float]:
    """Return the number of pictures, and when the last one ends in seconds, by what ffmpeg says while it copies."""
    times = re.findall(r"time=(\d+):(\d+):([\d.]+)", words)
    counts = [int(count) for count in re.findall(r"frame= *(\d+)", words)] or [0]
    hours, minutes, seconds = times[-1] if times else (0, 0, 0)
    end = 3600 * int(hours) + 60 * int(minutes) + float(seconds) + 1 / fps
    # it counts in the order of decoding, in which the last picture can come some places earlier
    return counts[-1], min(max(end, counts[-1] / fps), end + 4 / fps)


def _compare_length(video: Video, about: str, words: str) -> None:
    """Say it where pictures end before the file does.

    Raises:
        DataError: much is missing, and no longer sound explains it.
    """
    claimed = re.search(r"Duration: (\d+):(\d+):([\d.]+)", about)
    if claimed is None:
        return
    hours, minutes, seconds = claimed.groups()
    whole = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    is_cut = re.search("partial file|ended prematurely|truncated|Error during demuxing", words) is not None
    if whole - video.seconds <= 2.5 / float(video.fps) and not is_cut:
        return
    ends = f"{video.path}: ends after {video.seconds:.2f} of {whole:.2f} s"
    if is_cut or not video.has_sound:
        if video.seconds < SHORTER * whole:
            raise DataError(f"{ends}; {HINT}")
        print(f"note: {ends}; it seems to be cut")
    else:
        print(f"note: {video.path}: pictures last {video.seconds:.2f} of its {whole:.2f} s; sound is cut to them")


def read_video(video: Video, fps: float | Fraction | None = None, at_most: int | None = None) -> Iterator[np.ndarray]:
    """Decode a video at an even rate, also where the file's own is not.

    Args:
        fps: frames a second, into which the video's own are repeated or left out; None takes its own.
        at_most: number of frames.

    Yields:
        frames (H, W, 3) uint8 RGB, upright and with square pixels.

    Raises:
        DataError: it ends early.
    """
    fps = fps or video.fps
    width, height = video.size
    filters = [*([TO_SDR] if video.is_hdr else []), AS_SHOWN]
    # where frames change their size on the way, all of them get that of the first
    filters += [f"scale={width}:{height}:force_original_aspect_ratio=decrease", f"pad={width}:{height}:-1:-1"]
    # last, so that what it repeats of a picture that stays for long is not held in memory many times
    filters += ["format=rgb24", f"fps={fps}"]
    expected = min(video.num_frames(fps), at_most or video.num_frames(fps))
    limit = at_most or expected + SPARE_FRAMES  # a picture with a time of its own far away must not be waited for
    command = [ffmpeg(), "-v", "error", *_input(video.path), "-an", "-sn", "-dn", "-vf", ",".join(filters)]
    command += ["-frames:v", str(limit), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    child = start_child(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    complaints = _Complaints(child)
    count = 0
    try:
        while len(frame := child.stdout.read(width * height * 3)) == width * height * 3:
            yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
            count += 1
    finally:
        end_child(child)
    if count < SHORTER * expected - 2:  # a file's own words are rough
        raise DataError(f"{video.path}: ends after {count} of about {expected} frames; {HINT}")
    complaints.note(video.path)


class _Complaints:
    """Collect what a decoder says, which may be a lot, while it is at work."""

    def __init__(self, child: subprocess.Popen):
        self._first: list[str] = []
        self._count = 0
        self._thread = threading.Thread(target=self._read, args=(child.stderr,), daemon=True)
        self._thread.start()

    def _read(self, stream: object) -> None:
        while line := stream.readline(1000):
            self._count += 1
            if not self._first:
                self._first.append(re.sub(r"\[[^]]*\] *", "", line.decode(errors="replace")))

    def note(self, path: Path) -> None:
        """Say once what was wrong with a video."""
        self._thread.join()
        if self._count and path not in _noted:
            _noted.add(path)
            words = one_line(self._first[0].strip(), 100)
            print(f"note: {path}: damaged ({words}; {self._count} such lines); some pictures may be wrong")


_noted: set[Path] = set()


@contextmanager
def sound_of(video: Video, seconds: float) -> Iterator[Path | None]:
    """Extract a video's sound, in step with its frames, to a file that is there while the block runs.

    Of several tracks it is the one that players choose, the default one.

    Args:
        seconds: no more than so many.

    Yields:
        None where there is no sound.

    Raises:
        DataError: there is one that cannot be decoded.
    """
    if not video.has_sound:
        yield None
        return
    with temporary_folder() as folder:
        sound = folder / "sound.m4a"
        # filled up with silence where it begins later than the frames
        command = [ffmpeg(), "-v", "error", *_input(video.path), "-vn", "-sn", "-dn", "-t", f"{seconds:.6f}"]
        command += ["-af", "aresample=async=1:first_pts=0", "-c:a", "aac", "-b:a", "160k", str(sound)]
        exit_code, words = run_child(command)
        if exit_code != 0:
            reason = one_line((words.strip() or "ffmpeg failed").splitlines()[-1], 120)
            raise DataError(f"{video.path}: its sound cannot be decoded ({reason}); pass --no-audio to do without")
        yield sound


class VideoWriter:
    """Take the frames of a video that `open_video` opened."""

    def __init__(self, path: Path, child: subprocess.Popen):
        self.path, self.count = path, 0
        self._child = child
        self._words: deque[bytes] = deque(maxlen=20)
        self._reader = threading.Thread(target=lambda: self._words.extend(child.stderr), daemon=True)
        self._reader.start()

    def write(self, frame: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB.

        Raises:
            ResourceError: encoding failed.
        """
        try:
            self._child.stdin.write(np.ascontiguousarray(frame).data)
        except OSError:
            raise self._failure() from None
        self.count += 1

    def finish(self) -> None:
        """Have everything encoded.

        Raises:
            ResourceError: encoding failed.
        """
        try:
            self._child.stdin.close()
        except OSError:
            raise self._failure() from None
        if self._child.wait() != 0:
            raise self._failure()

    def _failure(self) -> ResourceError:
        self._child.kill()
        self._reader.join()
        words = one_line(next((line.decode(errors="replace").strip() for line in self._words), "ffmpeg ended"), 120)
        return ResourceError(f"{self.path}: cannot be encoded ({words}); is the disk full?")


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
        command = [ffmpeg(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}"]
        command += ["-r", str(fps), "-i", "-"]
        command += [] if sound is None else ["-i", str(sound.absolute()), "-c:a", "copy"]
        command += ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        command += ["-metadata", f"comment={shown(comment)}", "-f", "mp4", str(temporary.absolute())]
        child = start_child(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            video = VideoWriter(path, child)
            yield video
            if video.count == 0:
                raise DataError(f"{path}: there is no frame to write")
            video.finish()
        finally:
            end_child(child)
        found = count_frames(temporary)
        if found != video.count:
            raise ResourceError(f"{path}: {found} of {video.count} frames were encoded; is the disk full?")


def count_frames(path: Path) -> int:
    """Count the pictures in a video file without decoding them; 0 where there is none."""
    command = [ffmpeg(), "-v", "error", "-stats", *_input(path), "-map", "0:v:0", "-c", "copy", "-f", "null", "-"]
    counts = re.findall(r"frame= *(\d+)", run_child(command)[1])
    return int(counts[-1]) if counts else 0


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
            comment=shown(comment).encode(),
        )
