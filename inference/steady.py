"""Steady landmarks: trembling is taken out of a face that rests, and fast movement is not held back.

The One Euro filter (Casiez, Roussel and Vogel, 1 € filter: a simple speed-based low-pass filter for noisy input in
interactive systems, CHI 2012), once for each coordinate.
"""

from __future__ import annotations

import numpy as np

from utils.errors import UserError

SMOOTH = 0.6  # share of a resting face that comes from the frame before, unless --smooth says another
MAX_SMOOTH = 0.95
SPEED_FACTOR = 0.25  # by how many Hz the cutoff rises for each pixel a second
SPEED_CUTOFF_HZ = 2.0  # of the filter of the speed itself
MIN_STEP_S = 1e-3  # between frames; a camera's may come at once


class OneEuro:
    """Filter landmarks that come one after another.

    Args:
        smooth: the share that comes from the frame before while a face rests, from 0 (no filter) to below 1.
        fps: frames a second that the share is meant for.
    """

    def __init__(self, smooth: float, fps: float):
        self.smooth, self._fps = smooth, fps
        self.reset()

    def reset(self) -> None:
        """Forget what came before."""
        self._last: np.ndarray | None = None
        self._speed: np.ndarray | float = 0.0
        self._time_s = 0.0

    def steady(self, landmarks: np.ndarray, time_s: float) -> np.ndarray:
        """Return steadied landmarks (98, 2) in pixels; times go up."""
        smooth = self.smooth  # may be changed at any time
        if not smooth or self._last is None:
            self._last, self._time_s = landmarks, time_s
            return landmarks
        step_s = max(time_s - self._time_s, MIN_STEP_S)
        speed = (landmarks - self._last) / step_s
        self._speed = self._speed + _share_of_new(SPEED_CUTOFF_HZ, step_s) * (speed - self._speed)
        # share = 1 - 1 / (1 + tau * fps), with tau = 1 / (2 pi cutoff)
        min_cutoff_hz = self._fps * (1 - smooth) / (2 * np.pi * smooth)
        cutoff_hz = min_cutoff_hz + SPEED_FACTOR * np.linalg.norm(self._speed, axis=1, keepdims=True)
        self._last = self._last + _share_of_new(cutoff_hz, step_s) * (landmarks - self._last)
        self._time_s = time_s
        return self._last


def read_smooth(smooth: object) -> float:
    """Read a share that a page sent.

    Raises:
        UserError: it is no number from 0 to `MAX_SMOOTH`.
    """
    if not isinstance(smooth, (int, float)) or isinstance(smooth, bool) or not 0 <= smooth <= MAX_SMOOTH:
        raise UserError(f"steadiness is a number from 0 to {MAX_SMOOTH:g}")
    return float(smooth)


def _share_of_new(cutoff_hz: np.ndarray | float, step_s: float) -> np.ndarray | float:
    """Return the share of a new value in an exponential filter of a cutoff frequency."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * step_s))
