"""Batches for the training loops: which samples, in which order, as float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from datasets.images import to_network
from utils.errors import DataError


class Source(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]: ...


def to_float(array: np.ndarray) -> np.ndarray:
    """uint8 (..., C, H, W) as the networks take it: pictures (C = 3) in [-1, 1], heatmaps in [0, 1], float32."""
    if array.dtype != np.uint8:
        return np.ascontiguousarray(array, np.float32)
    return to_network(array) if array.shape[-3] == 3 else array.astype(np.float32) / 255


def collate(samples: Iterable[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """Samples to a batch: (B, C, H, W) float32, one array for each part of a sample."""
    return tuple(to_float(np.stack(part)) for part in zip(*samples))


class Batches:
    """Batch number i of an endless training, as a pure function of (seed, i).

    Each epoch is a permutation of its own, drawn from (seed, epoch). It has `len(source) // batch_size` full
    batches; the few samples left over are others in every epoch.

    Raises:
        DataError: the source has fewer samples than a batch.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, shuffle: bool = True, in_memory: bool = False):
        if len(source) < batch_size:
            raise DataError(f"{len(source)} samples do not fill a batch of {batch_size}; lower train.batch_size")
        self.source, self.batch_size, self.seed, self.shuffle = source, batch_size, seed, shuffle
        self.batches_per_epoch = len(source) // batch_size
        self._kept: dict[int, tuple[np.ndarray, ...]] | None = {} if in_memory else None
        self._epoch, self._order = -1, np.empty(0, int)

    def indices(self, iteration: int) -> np.ndarray:
        epoch, position = divmod(iteration, self.batches_per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._order = rng.permutation(len(self.source)) if self.shuffle else np.arange(len(self.source))
            self._epoch = epoch
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]

    def __getitem__(self, iteration: int) -> tuple[np.ndarray, ...]:
        """The arrays of a batch, (B, C, H, W) float32, one for each part of a sample."""
        return collate(self._sample(int(index)) for index in self.indices(iteration))

    def _sample(self, index: int) -> tuple[np.ndarray, ...]:
        if self._kept is None:
            return self.source[index]
        if index not in self._kept:
            self._kept[index] = self.source[index]
        return self._kept[index]
