"""A moving head in a larger frame, as a video of a synthetic person."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from faces.crop import Square
from synthetic.expressions import Expression, expression_track
from synthetic.painter import render_cutout
from synthetic.people import identity_seed, random_identity
from utils.errors import ConfigError

VIDEO_SIZE = (640, 360)  # (width, height) in pixels
VIDEO_FPS = 25.0


def moving_head(person: str, num_frames: int, seed: int) -> Iterator[tuple[np.ndarray, Square]]:
    """Paint frames (360, 640, 3) uint8 of a moving head, with crops. Raises ConfigError if `person` is invalid."""
    try:
        name, identity_number = identity_seed(person)
    except ValueError as error:
        raise ConfigError(f"--person {error}") from None
    identity = random_identity(identity_number)
    rng = np.random.default_rng([seed, identity_number])
    width, height = VIDEO_SIZE
    room = cv2.resize(rng.integers(70, 170, (4, 6, 3)).astype(np.uint8), VIDEO_SIZE, interpolation=cv2.INTER_CUBIC)
    track = expression_track(num_frames, zlib.crc32(f"{seed} {name}".encode()))
    for time, row in enumerate(track):
        cutout, _ = render_cutout(identity, Expression(*row))
        side = int(height * (0.67 + 0.06 * np.sin(time / 40)))
        left, top = int((width - side) * (0.5 + 0.3 * np.sin(time / 25))), height - side
        cutout = cv2.resize(cutout, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        frame = room.copy()
        part = frame[top:, left : left + side].astype(np.float32)
        part += (cutout[..., :3] - part) * (cutout[..., 3:] / 255)
        frame[top:, left : left + side] = part.astype(np.uint8)
        yield frame, Square(left, top, side)
