"""Videos and animated previews: facts by PyAV, pictures and sound by imageio-ffmpeg, GIFs by Pillow.

No ffmpeg on the system is needed. What ffmpeg prints is shown to people, and never read as a fact.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import imageio_ffmpeg
import numpy as np
from PIL import Image

from utils.ending import end_child, run_child, start_child
from utils.errors import DataError, ResourceError, one_line, remedy
from utils.files import atomic_path, shown

MIN_FPS, MAX_FPS = 0.5, 240.0
USUAL_FPS = 25.0  # if a file claims an impossible rate, or none
MAX_SIDE = 4096  # pixels; larger frames are reduced to it
MAX_PIXELS = 36_000_000  # pixels of a frame in the file, as in 8192 x 4320
DECODER_THREADS = 2  # each holds frames of its own, which on many cores and of 8K would be gigabytes
LOOK_TIMEOUT_S = 30.0
END_S = 2.0  # for an encoder that fails to say why
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
# system errors that say what this machine lacks, and nothing about a file
RESOURCES = (errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.EIO)

# As a player shows it: pixels that are not square are stretched, never shrunk; what is too large is reduced.
AS_SHOWN = (
    f"scale=w='st(0,iw*max(sar,1));st(1,ih*max(1/sar,1));max(2,round(ld(0)*min(1,{MAX_SIDE}/max(ld(0),ld(1)))))':"
    f"h='st(0,iw*max(sar,1));st(1,ih*max(1/sar,1));max(2,round(ld(1)*min(1,{MAX_SIDE}/max(ld(0),ld(1)))))',setsar=1"
)
TO_SDR = "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv"


class Video(NamedTuple):
    """Describe a video file as it is to be seen."""

    path: Path
    fps: Fraction
    size: tuple[int, int]  # width and height of the frames in pixels
    seconds: float  # from the beginning of pictures or sound to the end of the pictures, as far as they are there
    stream: int  # number of the pictures' stream in the file
    sound: int | None  # number of the sound's stream: of several, the one that players choose
    lead_s: float  # how long after the beginning the first picture comes
    sound_lead_s: float  # and the sound
    is_timed: bool  # False of streams without times, whose pictures follow each other at the rate
    is_hdr: bool

    def num_frames(self, fps: float | Fraction) -> int:
        """Return about how many frames there are at a rate."""
        return max(round(self.seconds * float(fps)), 1)

    @property
    def has_sound(self) -> bool:
        """Tell whether there is any sound."""
        return self.sound is not None


def exact_rate(fps: float) -> Fraction:
    """Undo the rounding of times in a file: about 23.98 is 24000/1001, as television has it."""
    television = Fraction(round(fps * 1.001) * 1000, 1001)
    return television if abs(float(television) - fps) < 0.006 else Fraction(fps).limit_denominator(1000)


def _lacking(exit_code: int | None) -> int | None:
    """Return the number of the system error that ended ffmpeg, if it is one of what this machine lacks."""
    if exit_code == -signal.SIGXFSZ:
        return errno.EFBIG
    # ffmpeg's exit code is the number of its error, negative, in 8 bits
    return next((number for number in RESOURCES if exit_code == 256 - number), None)


def _require_means(what: object, exit_code: int | None) -> None:
    """Raise a ResourceError if ffmpeg ended because this machine lacks something."""
    if (reason := _lacking(exit_code)) is not None:
        raise ResourceError(f"{what}: {os.strerror(reason)}{remedy(reason)}") from None


def ffmpeg() -> str:
    """Return the program.

    Raises:
        ResourceError: it is missing.
    """
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except (RuntimeError, OSError):
        for program in Path(imageio_ffmpeg.__file__).parent.glob("binaries/ffmpeg-*"):  # it is there: why not usable?
            _require_means(program, run_child([str(program), "-version"])[0])
        raise ResourceError(
            "ffmpeg is missing; 'pip install --force-reinstall imageio-ffmpeg' brings one, or set IMAGEIO_FFMPEG_EXE"
        ) from None


def _input(path: Path) -> list[str]:
    # absolute, since a name with a colon would be taken for an address, and one with a hyphen for an option
    return ["-nostdin", "-threads", str(DECODER_THREADS), *SAFE, "-i", str(path.absolute())]


def probe(path: Path, at_most_s: float | None = None) -> dict[str, Any]:
    """Find out what a file holds, in a process of its own (utils/probe.py).

    Raises:
        DataError: it is no video.
        ResourceError: this machine lacks something.
    """
    arguments = (os.path.abspath(path), FORMATS, MAX_PIXELS, int(LOOK_TIMEOUT_S), at_most_s or 0)
    command = [sys.executable, str(Path(__file__).with_name("probe.py")), *map(str, arguments)]
    child = start_child(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        answer, words = child.communicate()
    finally:
        end_child(child)
    if child.returncode == -signal.SIGALRM:
        raise DataError(f"{path}: nothing can be decoded within {LOOK_TIMEOUT_S:.0f} s; {HINT}")
    try:
        found = json.loads(answer)
    except ValueError:
        if b"ImportError" in words or b"ModuleNotFoundError" in words:
            last = one_line(words.decode(errors="replace").strip().splitlines()[-1], 200)
            raise ResourceError(f"PyAV, which looks into videos, is not usable ({last}); install 'av' again") from None
        raise DataError(f"{path}: cannot be read as a video (PyAV crashes on it); {HINT}") from None
    if found.get("errno") in RESOURCES:
        raise ResourceError(f"{path}: {found['error']}{remedy(found['errno'])}")
    if "error" in found:
        raise DataError(f"{path}: cannot be read as a video ({one_line(found['error'], 120)}); {HINT}")
    return found


def open_film(path: Path, at_most_s: float | None = None) -> Video:
    """Find out what a video file holds; its pictures are counted, but not decoded.

    Args:
        at_most_s: how much of it is of interest.

    Raises:
        DataError: it is no video, a playlist, too large, or much of it is missing.
        ResourceError: this machine lacks something.
    """
    found = probe(path, at_most_s)
    fps, count = _rate(path, found["rates"]), found["count"]
    begin, sound_begin, lead_s, sound_lead_s = 0.0, found["sound_first_s"], 0.0, 0.0
    if found["is_timed"]:
        begin = found["first_s"] if sound_begin is None else min(found["first_s"], sound_begin)
        lead_s, sound_lead_s = found["first_s"] - begin, (begin if sound_begin is None else sound_begin) - begin
        seconds = found["last_s"] - begin + 1 / float(fps)
    else:
        seconds = count / float(fps)
    if count < MIN_FPS * seconds - 2:
        raise DataError(f"{path}: only {count} pictures in {seconds:.0f} s; its times are damaged, or it is no film")
    size = _shown_size(found["width"], found["height"], Fraction(*found["pixel_ratio"]), found["rotation"])
    sound = found["sound"] if sound_begin is not None else None
    video = Video(
        path, fps, size, seconds, found["stream"], sound, lead_s, sound_lead_s, found["is_timed"], found["is_hdr"]
    )
    if found["is_timed"] and (at_most_s is None or seconds < at_most_s - 1):
        _compare_length(video, found, begin)
    return video


def _shown_size(width: int, height: int, ratio: Fraction, rotation: int) -> tuple[int, int]:
    """Return a frame's size as a player shows it: pixels that are not square are stretched, never shrunk."""
    if rotation % 180:
        width, height, ratio = height, width, 1 / ratio
    wide, high = width * max(ratio, 1), height * max(1 / ratio, 1)
    factor = min(1, Fraction(MAX_SIDE) / max(wide, high))
    return tuple(max(2, int(side * factor + Fraction(1, 2))) for side in (wide, high))


def _rate(path: Path, claims: list[list[int]]) -> Fraction:
    """Choose frames a second out of what a file says of its pictures: their mean rate, else its clock's."""
    rates = [top / bottom for top, bottom in claims]
    fitting = [rate for rate in rates if MIN_FPS <= rate <= MAX_FPS]
    if rates and not fitting:
        print(f"note: {path}: claims {rates[0]:g} frames a second; taken for {USUAL_FPS:g} (--fps has others)")
    return exact_rate(fitting[0] if fitting else USUAL_FPS)


def _compare_length(video: Video, found: dict[str, Any], begin: float) -> None:
    """Say it where pictures end before the file does.

    Raises:
        DataError: much is missing, and no longer sound explains it.
    """
    slack = 2.5 / float(video.fps)
    if found["stream_s"] is not None:  # the pictures' own
        whole = found["stream_s"] + video.lead_s
    elif found["claimed_s"] is not None:
        whole = (found["start_of_all_s"] or 0.0) + found["claimed_s"] - begin
    else:
        whole = video.seconds
    is_there = video.seconds if found["stream_s"] is not None else found["end_of_all_s"] - begin
    is_cut = found["claimed_count"] - found["num_packets"] > 2 or bool(found["problem"])
    if is_cut or whole - is_there > slack:
        ends = f"{video.path}: ends after {video.seconds:.2f} of {max(whole, video.seconds):.2f} s"
        if video.seconds < SHORTER * whole:
            raise DataError(f"{ends}; {HINT}")
        print(f"note: {ends}; it seems to be cut")
    elif found["end_of_all_s"] - begin - video.seconds > slack:
        whole = found["end_of_all_s"] - begin
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
    begin = f"setpts=PTS-STARTPTS+{video.lead_s:.6f}/TB" if video.is_timed else f"setpts=N/({video.fps}*TB)"
    filters = [begin, *([TO_SDR] if video.is_hdr else []), AS_SHOWN]
    # if frames change their size on the way, all of them get the first one's
    filters += [f"scale={width}:{height}:force_original_aspect_ratio=decrease", f"pad={width}:{height}:-1:-1"]
    # last, so that what it repeats of a picture that stays for long is not held in memory many times
    filters += ["format=rgb24", f"fps={fps}:start_time=0"]
    expected = min(video.num_frames(fps), at_most or video.num_frames(fps))
    limit = at_most or expected + SPARE_FRAMES  # a picture with a time of its own far away must not be waited for
    command = [ffmpeg(), "-v", "error", *_input(video.path), "-map", f"0:{video.stream}", "-vf", ",".join(filters)]
    command += ["-frames:v", str(limit), "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    child = start_child(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    complaints = _Complaints(child)
    count = 0
    try:
        while len(frame := child.stdout.read(width * height * 3)) == width * height * 3:
            yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
            count += 1
        child.stdout.close()
        child.wait()
    finally:
        end_child(child)
    _require_means(f"{video.path}: decoding ended", child.returncode)
    if count < SHORTER * expected - 2:  # a file's own words are rough
        raise DataError(f"{video.path}: ends after {count} of about {expected} frames; {HINT}")
    if count < expected - SPARE_FRAMES:
        print(f"note: {video.path}: {count} of about {expected} frames can be decoded; it seems to be cut")
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


def _sound_filter(video: Video, seconds: float) -> str:
    # in step with the frames, filled up with silence where it begins later or has gaps
    begin = f"asetpts=PTS-STARTPTS+{video.sound_lead_s:.6f}/TB"
    return f"{begin},aresample=async=1:first_pts=0,atrim=end={seconds:.6f}"


def check_sound(video: Video, seconds: float) -> None:
    """Decode a video's sound once, so that a fault of it is known before the work.

    Args:
        seconds: as much as will be used.

    Raises:
        DataError: it cannot be decoded.
        ResourceError: this machine lacks something.
    """
    if not video.has_sound:
        return
    command = [ffmpeg(), "-v", "error", *_input(video.path), "-map", f"0:{video.sound}"]
    exit_code, words = run_child([*command, "-af", _sound_filter(video, seconds), "-f", "null", "-"])
    _require_means(f"{video.path}: decoding ended", exit_code)
    if exit_code != 0:
        words = one_line((words.strip() or "ffmpeg failed").splitlines()[-1], 120)
        raise DataError(f"{video.path}: its sound cannot be decoded ({words}); pass --no-audio to do without")


class VideoWriter:
    """Take the frames of a video that `open_video` opened."""

    def __init__(self, path: Path, child: subprocess.Popen):
        self.path, self.count = path, 0
        self._child, self._exit_code = child, None
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
        with suppress(subprocess.TimeoutExpired):  # it says why, and ends
            self._exit_code = self._child.wait(END_S)
        self._child.kill()
        self._reader.join()
        words = one_line(next((line.decode(errors="replace").strip() for line in self._words), "ffmpeg ended"), 120)
        return ResourceError(f"{self.path}: cannot be encoded ({words}){remedy(_lacking(self._exit_code))}")


@contextmanager
def open_video(
    path: Path,
    size: tuple[int, int],
    fps: float | Fraction,
    comment: str,
    sound: Video | None = None,
    seconds: float = 0.0,
) -> Iterator[VideoWriter]:
    """Open an H.264 mp4 that plays everywhere (yuv420p, faststart), to write frames to while the block runs.

    It gets its name when the block ends well and all frames are found in it; else nothing is left under `path`.

    Args:
        size: (width, height) of the frames in pixels, both even.
        fps: frames a second.
        comment: kept in the file's tags.
        sound: a video whose sound it gets, of as many seconds, if that has any.

    Raises:
        DataError: no frame was written, or the sound cannot be decoded.
        ResourceError: encoding failed.
    """
    if sound is not None:
        check_sound(sound, seconds)
    with atomic_path(path) as temporary:
        command = [ffmpeg(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}"]
        command += ["-r", str(fps), "-i", "-"]
        if sound is not None and sound.has_sound:
            # what its pictures say does not matter here
            command += [*_input(sound.path), "-map", "0:v", "-map", f"1:{sound.sound}"]
            command += ["-af", _sound_filter(sound, seconds), "-c:a", "aac", "-b:a", "160k"]
        command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18"]
        command += ["-pix_fmt", "yuv420p", "-movflags", "+faststart"]
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
            raise ResourceError(f"{path}: {found} of {video.count} frames were encoded; is there room on the disk?")


def count_frames(path: Path) -> int:
    """Count the pictures in a video file without decoding them; 0 if it has none."""
    try:
        return probe(path)["count"]
    except DataError:
        return 0


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
