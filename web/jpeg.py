"""A camera's pictures, decoded within a bounded time: plain JPEG, looked through before anything is decoded."""

from __future__ import annotations

import re

import cv2
import numpy as np

from utils.errors import UserError

MAX_PICTURE_BYTES = 1 << 20
MAX_PIXELS = 1920 * 1080  # of a picture
MAX_SEGMENTS, MAX_SCANS = 64, 4
START, END, SCAN = 0xD8, 0xD9, 0xDA
BASELINE = (0xC0, 0xC1)  # others decode the whole picture again and again, or need memory that the size hides
FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
# what ends the packed data of a scan: a mark that is no stuffed zero, no restart and no fill
MARK = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")


def decode(data: bytes) -> np.ndarray:
    """Decode a JPEG from a browser, (H, W, 3) uint8 RGB.

    Raises:
        UserError: it is none, too large, or of a kind that takes long to decode.
    """
    _look_through(data)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise UserError("a picture that is no JPEG")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _look_through(data: bytes) -> None:
    """Follow a JPEG's marks from its start to its end; each scan costs a pass over the picture.

    Raises:
        UserError: as of `decode`.
    """
    if data[:2] != bytes((0xFF, START)):
        raise UserError("a picture that is no JPEG")
    place, segments, scans, frames = 2, 0, 0, 0
    while (mark := MARK.match(data, place)) is not None:
        kind, place, segments = mark.group(1)[0], mark.end(), segments + 1
        if kind == END:
            break
        if segments > MAX_SEGMENTS:
            raise UserError("a picture of more parts than a camera's has")
        length = int.from_bytes(data[place : place + 2], "big")
        if length < 2 or place + length > len(data):
            raise UserError("a picture that is no JPEG")
        if kind in FRAMES:
            height, width = (int.from_bytes(data[place + i : place + i + 2], "big") for i in (3, 5))
            frames += 1
            if kind not in BASELINE or frames > 1:
                raise UserError("a picture that is no plain (baseline) JPEG")
            if not 0 < width * height <= MAX_PIXELS:
                raise UserError("the camera's pictures are too large")
        place += length
        if kind == SCAN:
            scans += 1
            if scans > MAX_SCANS or not frames:
                raise UserError("a picture that is no plain (baseline) JPEG")
            following = MARK.search(data, place)
            place = len(data) if following is None else following.start()
    if not scans:
        raise UserError("a picture that is no JPEG")
