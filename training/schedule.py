"""Learning rates over epochs."""

from __future__ import annotations


def linear_decay(rate: float, epoch: int, decay_from: int, epochs: int) -> float:
    """Return a rate that is constant before `decay_from`, then falls linearly to 0 when the last epoch ends.

    Args:
        epoch: counted from 0; epochs: of the whole training.
    """
    if epoch < decay_from:
        return rate
    return rate * (epochs - epoch) / (epochs - decay_from)
