"""Find out what a video file holds, with PyAV. It runs in its own process, which a damaged file may crash or hang.

    python utils/probe.py FILE FORMATS MAX_PIXELS SECONDS AT_MOST_S

Prints one line of JSON: the facts, or under `error` why there are none. It ends itself where a first picture takes
longer than SECONDS; pictures are counted, as far as AT_MOST_S (0: all of it), but only the first is decoded.
"""

from __future__ import annotations

import errno
import json
import resource
import signal
import sys
from typing import Any

if __name__ == "__main__":
    del sys.path[0]  # this folder: its html.py would hide Python's own
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the alarm ends the process
    signal.alarm(int(sys.argv[4]))

import av
from av.format import Flags
from av.stream import Disposition

MAX_MEMORY = 4 << 30  # bytes of addresses, the libraries' included
HDR = (16, 18)  # transfer functions by their numbers in ITU-T H.273: PQ, HLG
MAX_BROKEN = 50  # packets in a row that cannot be decoded, before the first picture
JUMP_S = 10.0  # a longer jump forward, or one back, is where another recording begins, as ffmpeg has it
# what a file is opened with: nothing but itself, whatever it names
OPTIONS = {"protocol_whitelist": "file", "max_streams": "64"}


class NoVideo(Exception):
    """Say why a file is no video."""


def probe(path: str, formats: str, max_pixels: int, at_most_s: float) -> dict[str, Any]:
    """Return the facts about a video file.

    Raises:
        NoVideo: it is none.
    """
    with _open(path, formats) as container:
        pictures = [stream for stream in container.streams.video if _is_film(stream)]
        if not pictures:
            raise NoVideo("no pictures in it")
        stream = max(pictures, key=lambda stream: (bool(stream.disposition & Disposition.default), -stream.index))
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        stream.codec_context.thread_count = 1  # for one picture; more could be more than may be started
        if stream.codec_context.width * stream.codec_context.height > max_pixels:
            raise NoVideo(f"its frames have more than {max_pixels // 1_000_000} million pixels")
        first = _first_picture(container, stream)
        signal.alarm(0)
        sounds = list(container.streams.audio)
        sounds.sort(key=lambda sound: (not sound.disposition & Disposition.default, sound.index))
        ratio = stream.sample_aspect_ratio or 1
        facts = {
            "stream": stream.index,
            "sound": sounds[0].index if sounds else None,
            "width": first.width,
            "height": first.height,
            "pixel_ratio": [ratio.numerator, ratio.denominator],
            "rotation": first.rotation,
            "is_hdr": first.color_trc in HDR or stream.codec_context.color_trc in HDR,
            "rates": [
                [rate.numerator, rate.denominator]
                for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate)
                if rate
            ],
            "claimed_count": stream.frames,  # 0 where the file does not say
            "claimed_s": None if container.duration is None else container.duration / av.time_base,
            "stream_s": None if stream.duration is None else float(stream.duration * stream.time_base),
        }
    with _open(path, formats) as container:  # from its beginning
        return facts | _count(container, facts["stream"], facts["sound"], at_most_s)


def _open(path: str, formats: str) -> Any:
    try:
        return av.open(f"file:{path}", options={**OPTIONS, "format_whitelist": formats})
    except ValueError:  # EINVAL, of the white list
        raise NoVideo("a playlist, or no format of videos") from None


def _is_film(stream: av.VideoStream) -> bool:
    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return stream.codec_context is not None and not stream.disposition & still


def _first_picture(container: Any, stream: av.VideoStream) -> av.VideoFrame:
    broken = 0
    for packet in container.demux(stream):
        try:
            for frame in packet.decode():
                return frame
        except av.FFmpegError as error:
            broken += 1
            if broken > MAX_BROKEN or error.errno in (errno.EAGAIN, errno.ENOMEM):
                raise
    raise NoVideo("no pictures in it")


class Clock:
    """Follow when a stream begins and ends, in seconds of the file's clock, on which recordings may be joined."""

    def __init__(self, may_jump: bool):
        self._may_jump = may_jump
        self._offset, self._before = 0.0, None
        self.first: float | None = None
        self.last: float | None = None
        self.end: float | None = None

    def add(self, packet: av.Packet) -> bool:
        """Count a packet; returns whether it has a time."""
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return False
        begin, length = float(time * packet.time_base), float((packet.duration or 0) * packet.time_base)
        order = begin if packet.dts is None else float(packet.dts * packet.time_base)
        if self._may_jump and self._before is not None and not -0.1 <= order - self._before <= JUMP_S:
            self._offset += self._before + length - order
        self._before = order
        begin += self._offset
        self.first = begin if self.first is None else min(begin, self.first)
        self.last = begin if self.last is None else max(begin, self.last)
        self.end = max(begin + length, self.end or begin)
        return True


def _count(container: Any, chosen: int, sound: int | None, at_most_s: float) -> dict[str, Any]:
    """Count the pictures, and find when they begin and end, and when everything does."""
    count, timed, num_packets, is_broken, problem = 0, 0, 0, False, ""
    may_jump = bool(container.format.flags & Flags.ts_discont.value)
    clocks = {stream.index: Clock(may_jump) for stream in container.streams}
    pictures = clocks[chosen]
    try:
        for packet in container.demux():
            num_packets += packet.size > 0 and packet.stream.index == chosen
            if packet.size == 0 or packet.is_discard:  # the last of each stream is empty
                continue
            is_timed = clocks.setdefault(packet.stream.index, Clock(may_jump)).add(packet)
            if packet.stream.index == chosen:
                count, timed, is_broken = count + 1, timed + is_timed, packet.is_corrupt
                if at_most_s and is_timed and pictures.last - pictures.first > at_most_s:
                    break
    except av.FFmpegError as error:
        problem = str(error.strerror)
    return {
        "count": count,
        "num_packets": num_packets,  # also of pictures that an edit leaves out
        "is_timed": 2 * timed > count,
        "first_s": pictures.first,
        "last_s": pictures.last,
        "sound_first_s": None if sound is None else clocks[sound].first,
        "end_of_all_s": max((clock.end for clock in clocks.values() if clock.end is not None), default=None),
        "start_of_all_s": None if container.start_time is None else container.start_time / av.time_base,
        "problem": problem or ("its last picture is not whole" if is_broken else ""),
    }


def main() -> None:
    path, formats, max_pixels, _, at_most_s = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    av.logging.set_level(None)
    try:
        found = probe(path, formats, int(max_pixels), float(at_most_s))
    except NoVideo as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": "it needs too much memory"}
    except OSError as error:  # av's errors are some of them
        found = {"error": str(error.strerror), "errno": error.errno}
    except av.FFmpegError as error:
        found = {"error": str(error.strerror)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
