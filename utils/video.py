"""Reading and writing videos with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition

from utils.errors import DataError, ResourceError, is_of_system, one_line, remedy
from utils.files import atomic_path, open_file, shown

MIN_FPS, MAX_FPS = 0.5, 240.0
USUAL_FPS = 25.0  # if a file claims no frame rate, or an impossible one
MAX_SIDE = 4096  # pixels; larger frames are reduced
MAX_PIXELS = 36_000_000  # of a frame in the file, e.g. 8192 x 4320
DECODER_THREADS = 2  # each keeps frames in memory
COMPLETE = 0.9  # fraction of the claimed frames that must exist
HDR = (16, 18)  # transfer functions of ITU-T H.273: PQ, HLG
# Containers that hold their own data; playlists, which name other files, are not among them.
FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,m4v,flv,asf,ogg,mxf,gif,apng"
FORMATS += ",image2,jpeg_pipe,png_pipe,webp_pipe,bmp_pipe,tiff_pipe"
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "pattern_type": "none"}

av.logging.set_level(None)


class Video(NamedTuple):
    """Properties of a video file."""

    path: Path
    fps: Fraction
    size: tuple[int, int]  # (width, height) of a frame as displayed, in pixels
    seconds: float  # from the start of video or audio to the end of the video
    has_sound: bool
    lead_s: float  # start of the video after the start of the file
    sound_lead_s: float  # start of the audio after the start of the file
    is_part: bool = False  # whether frames follow the end

    def num_frames(self, fps: float | Fraction) -> int:
        """Return the approximate number of frames at a frame rate."""
        return max(round(self.seconds * float(fps)), 1)

    def part(self, start_s: float, end_s: float) -> Video:
        """Return the part between two times; the end is limited to the video's. Raises DataError if it is empty."""
        seconds = min(end_s, self.seconds) - start_s
        if seconds <= 0:
            raise DataError(f"{self.path}: {self.seconds:.1f} s long; nothing from {start_s:g} s to {end_s:g} s")
        leads = {"lead_s": self.lead_s - start_s, "sound_lead_s": self.sound_lead_s - start_s}
        return self._replace(seconds=seconds, is_part=True, **leads)


def exact_rate(fps: float) -> Fraction:
    """Return the exact frame rate for a rounded one: 23.98 is 24000/1001."""
    television = Fraction(round(fps * 1.001) * 1000, 1001)
    return television if abs(float(television) - fps) < 0.006 else Fraction(fps).limit_denominator(1000)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a container; errors of the block name the file."""
    try:
        open_file(path).close()  # a pipe would block
        # tags of any encoding are allowed
        with av.open(f"file:{path.absolute()}", options=OPTIONS, metadata_errors="replace") as container:
            yield container
    except av.FFmpegError as error:
        if is_of_system(error):
            raise ResourceError(f"{path}: {error.strerror}{remedy(error.errno)}") from None
        raise _unreadable(path, one_line(error.strerror or error, 120)) from None


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(f"{path}: cannot be read as a video ({why}); re-encode it, for example as mp4")


def _best(streams: Any) -> Any:
    """Return the default stream, else the first one, without cover images; None if there is none that is known."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in streams if stream.codec_context is not None and not stream.disposition & still]
    streams = [stream for stream in streams if stream.type != "audio" or stream.codec_context.channels]
    return min(streams, key=lambda s: (not s.disposition & Disposition.default, s.index), default=None)


def open_film(path: Path, at_most_s: float | None = None) -> Video:
    """Read the properties of a video file, counting frames without decoding (of the first `at_most_s` seconds).

    Raises DataError if it is not a video, is HDR, too large or incomplete, ResourceError if the system lacks resources.
    """
    with _opened(path) as container:
        stream, sound = _best(container.streams.video), _best(container.streams.audio)
        if stream is None:
            raise _unreadable(path, "no video stream")
        if sound is None and container.streams.audio:
            print(f"note: {path}: the format of its sound is unknown; the sound is left out")
        _configure(path, stream)
        fps, index, sound_index = _rate(path, stream), stream.index, None if sound is None else sound.index
        first = next(_decoded(container, stream), None)
        if first is None:
            raise _unreadable(path, "no frame can be decoded")
        if {first.color_trc, stream.codec_context.color_trc} & {*HDR}:
            raise DataError(f"{path}: HDR video; convert it to SDR first, or record without HDR")
        size = _displayed_size(first.width, first.height, stream.sample_aspect_ratio or 1, first.rotation)
        claimed_s = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if not claimed_s and not container.streams.audio:
            claimed_s = (container.duration or 0) / av.time_base
        # an AVI file may claim empty frames between the real ones
        claimed_frames = stream.frames if (stream.average_rate or 0) <= MAX_FPS else 0
    count, num_packets, end_s, is_damaged = 0, 0, None, False
    starts: dict[int, float] = {}
    with _opened(path) as container:  # from the beginning
        try:
            for packet in container.demux([s for s in container.streams if s.index in (index, sound_index)]):
                number = packet.stream.index
                num_packets += number == index and packet.size > 0
                if packet.pts is None or packet.is_discard:  # an edit list discards packets
                    continue
                time_s = float(packet.pts * packet.time_base)
                starts[number] = min(time_s, starts.get(number, time_s))
                if number == index:
                    count, end_s = count + 1, max(time_s, time_s if end_s is None else end_s)
                    if at_most_s is not None and end_s - starts[index] > at_most_s:
                        break
        except av.FFmpegError:
            is_damaged = True
    if end_s is None:
        raise DataError(f"{path}: its frames have no times; re-encode it, for example as mp4")
    begin_s = min(starts.values())
    seconds = end_s - begin_s + 1 / float(fps)
    if count < MIN_FPS * seconds - 2:
        raise DataError(f"{path}: only {count} frames in {seconds:.0f} s; it is not a film, or its times are damaged")
    expected, found = (claimed_frames, num_packets) if claimed_frames else (claimed_s * fps, seconds * fps)
    if at_most_s is None and found < expected - 2:
        _report_missing(path, round(found), round(expected))
    elif is_damaged:
        print(f"note: {path}: damaged after {seconds:.2f} s")
    has_sound = sound_index in starts
    leads = (starts[index] - begin_s, starts[sound_index] - begin_s if has_sound else 0.0)
    return Video(path, fps, size, seconds, has_sound, *leads)


def _configure(path: Path, stream: Any) -> None:
    """Limit size and threads of a stream's decoder."""
    codec = stream.codec_context
    if codec.width * codec.height > MAX_PIXELS:
        raise _unreadable(path, f"frames of more than {MAX_PIXELS // 1_000_000} million pixels")
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    stream.thread_type, codec.thread_count = "AUTO", DECODER_THREADS


def _report_missing(path: Path, count: int, expected: int) -> None:
    words = f"{path}: {count} of {expected} frames exist"
    if count < COMPLETE * expected - 2:
        raise DataError(f"{words}; is it a video that plays to its end?")
    print(f"note: {words}; the file seems to be truncated")


def _displayed_size(width: int, height: int, ratio: Fraction, rotation: int) -> tuple[int, int]:
    """Return a frame's (width, height) as displayed: pixels that are not square are stretched, never reduced."""
    if rotation % 180:
        width, height, ratio = height, width, 1 / ratio
    wide, high = width * max(ratio, 1), height * max(1 / ratio, 1)
    factor = min(1, Fraction(MAX_SIDE) / max(wide, high))
    return tuple(max(2, int(side * factor + Fraction(1, 2))) for side in (wide, high))


def _rate(path: Path, stream: Any) -> Fraction:
    rates = [float(rate) for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
    possible = [rate for rate in rates if MIN_FPS <= rate <= MAX_FPS]
    if rates and not possible:
        print(f"note: {path}: claims {rates[0]:g} frames per second; {USUAL_FPS:g} are assumed (see --fps)")
    return exact_rate(possible[0] if possible else USUAL_FPS)


def _decoded(container: Any, stream: Any, damaged: list[str] | None = None) -> Iterator[av.VideoFrame]:
    """Decode a stream; packets that cannot be decoded are skipped and their errors appended to `damaged`."""
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError as error:
            if damaged is not None:
                damaged.append(str(error.strerror))


def _filtered(stream: Any, filters: list[tuple[str, str]], frames: Iterator[Any]) -> Iterator[Any]:
    """Pass frames of a stream through a chain of FFmpeg filters."""
    graph = av.filter.Graph()
    add_input = graph.add_buffer if stream.type == "video" else graph.add_abuffer
    nodes = [add_input(template=stream), *(graph.add(name, arguments) for name, arguments in filters)]
    nodes.append(graph.add("buffersink" if stream.type == "video" else "abuffersink"))
    graph.link_nodes(*nodes).configure()

    def pulled() -> Iterator[Any]:
        while True:
            try:
                yield graph.pull()
            except (BlockingIOError, av.EOFError):
                return

    with suppress(av.EOFError):  # a filter has ended the stream
        for frame in chain(frames, [None]):
            graph.push(frame)
            yield from pulled()


def read_video(video: Video, fps: float | Fraction | None = None, at_most: int | None = None) -> Iterator[np.ndarray]:
    """Decode a video at a constant frame rate.

    Args:
        fps: frame rate; frames are repeated or dropped. None is the video's own.
        at_most: number of frames.

    Yields:
        Frames (H, W, 3) uint8 RGB, upright, with square pixels.

    Raises DataError if the video ends early.
    """
    fps = fps or video.fps
    width, height = video.size
    expected = min(video.num_frames(fps), at_most or video.num_frames(fps))
    if video.is_part:
        at_most = expected
    count, damaged = 0, []
    with _opened(video.path) as container:
        stream = _best(container.streams.video)
        _configure(video.path, stream)
        frames = _decoded(container, stream, damaged)
        first = next(frames, None)
        turns = 0 if first is None else round(first.rotation / 90) % 4
        stored = (height, width) if turns % 2 else (width, height)
        fit = "force_original_aspect_ratio=decrease"  # of frames whose size changes later
        filters = [
            ("setpts", f"PTS-STARTPTS+{video.lead_s:.6f}/TB"),
            ("scale", f"{stored[0]}:{stored[1]}" + ("" if stream.sample_aspect_ratio not in (None, 1) else f":{fit}")),
            ("pad", f"{stored[0]}:{stored[1]}:-1:-1"),
            ("format", "rgb24"),
            ("fps", f"fps={fps}:start_time=0"),
        ]
        for frame in _filtered(stream, filters, chain([] if first is None else [first], frames)):
            yield np.ascontiguousarray(np.rot90(frame.to_ndarray(), turns))
            count += 1
            if count == (at_most or expected + 3):  # a last frame may claim a time far away
                break
    if damaged:
        print(f"note: {video.path}: damaged ({damaged[0]}, {len(damaged)} times); some frames may be wrong")
    if count < expected - 3:
        _report_missing(video.path, count, expected)


def _read_sound(video: Video, seconds: float) -> Iterator[av.AudioFrame]:
    """Decode the first seconds of a video's sound, with silence in gaps and before a late start."""
    with _opened(video.path) as container:
        stream = _best(container.streams.audio)
        filters = [
            ("asetpts", f"PTS-STARTPTS+{video.sound_lead_s:.6f}/TB"),
            ("aresample", "async=1:first_pts=0"),
            ("atrim", f"end={seconds:.6f}"),
            ("aformat", "sample_fmts=fltp:channel_layouts=stereo|mono"),
        ]
        yield from _filtered(
            stream, filters, (frame for packet in container.demux(stream) for frame in packet.decode())
        )


def check_sound(video: Video, seconds: float) -> None:
    """Decode a video's sound once, to find errors before the work starts. Raises DataError if it cannot be decoded."""
    try:
        for _ in _read_sound(video, seconds) if video.has_sound else ():
            pass
    except DataError as error:
        raise DataError(f"{error}; the sound is damaged: pass --no-audio to leave it out") from None


class VideoWriter:
    """Writer of frames into an open container."""

    def __init__(self, path: Path, container: Any, stream: Any):
        self.path, self.count = path, 0
        self._container, self._stream = container, stream

    def write(self, frame: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8 RGB."""
        self._mux(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24"))
        self.count += 1

    def finish(self) -> None:
        """Encode the frames that the encoder holds back."""
        self._mux(None)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


@contextmanager
def open_video(
    path: Path,
    size: tuple[int, int],
    fps: float | Fraction,
    comment: str,
    sound: Video | None = None,
    seconds: float = 0.0,
) -> Iterator[VideoWriter]:
    """Open an H.264 mp4 (yuv420p, faststart) for writing. It gets its final name when the block ends without an error.

    Args:
        size: (width, height) of the frames in pixels, both even.
        fps: frame rate.
        comment: comment in the metadata.
        sound: video whose sound is copied, if it has any.
        seconds: length of the sound.

    Raises:
        DataError: no frame was written, or the sound cannot be decoded.
        ResourceError: encoding failed, for example because the disk is full.
    """
    if sound is not None:
        check_sound(sound, seconds)
    with atomic_path(path) as temporary:
        try:
            options = {"movflags": "+faststart"}
            with av.open(str(temporary.absolute()), "w", format="mp4", options=options) as container:
                container.metadata["comment"] = shown(comment)
                stream = container.add_stream("libx264", exact_rate(float(fps)), {"preset": "veryfast", "crf": "18"})
                (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
                if sound is not None and sound.has_sound:
                    _copy_sound(container, sound, seconds)
                video = VideoWriter(path, container, stream)
                yield video
                if video.count == 0:
                    raise DataError(f"{path}: there is no frame to write")
                video.finish()
        except av.FFmpegError as error:
            raise ResourceError(f"{path}: cannot be encoded ({error.strerror}){remedy(error.errno)}") from None


def _copy_sound(container: Any, sound: Video, seconds: float) -> None:
    """Encode all sound first: it is small, and the container interleaves it with the frames to come."""
    output = None
    for frame in _read_sound(sound, seconds):
        if output is None:
            output = container.add_stream("aac", frame.sample_rate, layout=frame.layout.name)
            output.bit_rate = 160_000
        for packet in output.encode(frame):
            container.mux(packet)
    for packet in output.encode(None) if output is not None else ():
        container.mux(packet)
