"""Temporal smoothing of landmarks with the One Euro filter.

Casiez, Roussel and Vogel, 1 € filter: a simple speed-based low-pass filter for noisy input in interactive systems,
CHI 2012.
"""

from __future__ import annotations

import numpy as np

SMOOTH = 0.6  # default weight of the previous frame while a face is at rest
MAX_SMOOTH = 0.95
SPEED_FACTOR = 0.25  # increase of the cutoff in Hz per pixel per second
SPEED_CUTOFF_HZ = 2.0  # cutoff for the speed itself
MIN_STEP_S = 1e-3  # a camera may deliver two frames at once


class OneEuro:
    """One Euro filter for a sequence of landmarks.

    Args:
        smooth: weight of the previous frame while the face is at rest, in [0, 1); 0 disables the filter.
        fps: frame rate that `smooth` refers to.
    """

    def __init__(self, smooth: float, fps: float):
        self.smooth, self._fps = smooth, fps
        self.reset()

    def reset(self) -> None:
        """Start a new sequence."""
        self._last: np.ndarray | None = None
        self._speed: np.ndarray | float = 0.0
        self._time_s = 0.0

    def steady(self, landmarks: np.ndarray, time_s: float) -> np.ndarray:
        """Return smoothed landmarks (98, 2) in pixels. Times must increase."""
        smooth = self.smooth  # another thread may change it
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


def _share_of_new(cutoff_hz: np.ndarray | float, step_s: float) -> np.ndarray | float:
    """Return the weight of the newest value in an exponential filter with a cutoff frequency."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * step_s))
