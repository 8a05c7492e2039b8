"""Learning rates over epochs."""

from __future__ import annotations


def linear_decay(rate: float, epoch: int, decay_from: int, epochs: int) -> float:
    """Return a learning rate that is constant before epoch `decay_from` (from 0), then decreases linearly to 0."""
    if epoch < decay_from:
        return rate
    return rate * (epochs - epoch) / (epochs - decay_from)
