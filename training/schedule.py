"""Learning rates over epochs."""

from __future__ import annotations


def linear_decay(rate: float, epoch: int, decay_from: int, epochs: int) -> float:
    """Return a learning rate that is constant before epoch `decay_from` and then decreases linearly to 0.

    Args:
        epoch: current epoch, counted from 0.
        epochs: number of epochs of the training.
    """
    if epoch < decay_from:
        return rate
    return rate * (epochs - epoch) / (epochs - decay_from)
