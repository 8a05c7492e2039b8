"""Even sampling."""

from __future__ import annotations

import numpy as np


def evenly(count: int, at_most: int) -> list[int]:
    """Return at most `at_most` of the numbers 0..count-1, evenly spaced."""
    return sorted({round(position) for position in np.linspace(0, count - 1, min(at_most, count))}) if count else []
