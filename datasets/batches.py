"""Batches of the training loops as float32, prepared by worker processes."""

from __future__ import annotations

import math
import mmap
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from typing import NamedTuple, Protocol

import numpy as np

from config.common import TrainKeys
from datasets.augment import Transform, random_transform
from datasets.boundary import HEATMAP_SIZE, DrawingStyle, draw_heatmap, resize_heatmap
from utils.errors import ConfigError, DataError, ResourceError
from utils.parallel import WorkerPool, loader_workers

IMAGE_SCALE, HEATMAP_SCALE = 127.5, 255.0


class Dataset(Protocol):
    """A data set whose samples are tuples of arrays, uint8 or float32."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]: ...

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, ...]: ...


def to_float(array: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Convert uint8 (..., C, H, W) to float32: images (C = 3) to [-1, 1], heatmaps to [0, 1]."""
    if out is None:
        out = np.empty(array.shape, np.float32)
    if array.dtype != np.uint8:
        out[...] = array
    elif array.shape[-3] == 3:
        np.divide(array, IMAGE_SCALE, out=out, dtype=np.float32)
        out -= 1
    else:
        np.divide(array, HEATMAP_SCALE, out=out, dtype=np.float32)
    return out


def heatmap_of(landmarks: np.ndarray, style: DrawingStyle) -> np.ndarray:
    """Draw landmarks (98, 2) in pixels as a heatmap (15, 64, 64) in [0, 1]."""
    return to_float(resize_heatmap(draw_heatmap(landmarks, style=style), HEATMAP_SIZE))


def collate(samples: Iterable[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """Stack samples to a batch: an array (B, C, H, W) float32 for each part of a sample."""
    return tuple(to_float(np.stack(part)) for part in zip(*samples))


def shared_array(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Allocate zeros in memory shared with forked processes, outside /dev/shm. Raises ResourceError if it is full."""
    num_bytes = max(math.prod(shape) * np.dtype(dtype).itemsize, 1)
    try:
        memory = mmap.mmap(-1, num_bytes)
    except OSError:
        raise ResourceError(
            f"{num_bytes / 2**30:.1f} GiB of memory are unavailable; set train.with_memory_cache: false, "
            "or lower train.batch_size"
        ) from None
    return np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)


class InMemory:
    """A cache of samples in memory shared by all processes."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self._parts = [shared_array((len(dataset), *part.shape), part.dtype) for part in dataset[0]]
        self._is_kept = shared_array((len(dataset),), np.bool_)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        if not self._is_kept[index]:
            for kept, part in zip(self._parts, self.dataset[index]):
                kept[index] = part
            self._is_kept[index] = True
        return tuple(kept[index] for kept in self._parts)


class Pending(NamedTuple):
    """A batch in preparation."""

    iteration: int
    futures: list[Future]


class Batches:
    """An endless sequence of batches; batch i is a pure function of (seed, i).

    Each epoch is a permutation drawn from (seed, epoch). If the batch size does not divide the number of samples, the
    last batch is completed with the epoch's first samples. Workers prepare the following batches in shared memory.

    Args:
        shuffle: whether to permute samples.
        in_memory: cache all samples in memory.
        num_workers: number of processes; 0 prepares batches on request, -1 is the number of cores minus one.
        rank: number of this process among `num_ranks`, each of which takes `batch_size` samples of a larger batch.
        augmentation: transform each sample at random, by (seed, epoch, index).
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        in_memory: bool = False,
        num_workers: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        augmentation: bool = False,
    ):
        self._identified = dataset
        self.dataset = InMemory(dataset) if in_memory else dataset
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self._rank, self._size_of_all, self._augmentation = rank, batch_size * num_ranks, augmentation
        self.batches_per_epoch = math.ceil(len(dataset) / self._size_of_all)
        self._epoch, self._order = -1, np.empty(0, int)
        num_workers = loader_workers(num_workers)
        # workers share a batch, so that the next one is ready early
        self._rows = math.ceil(batch_size / max(num_workers, 1))
        pieces = math.ceil(batch_size / self._rows)
        self._num_ahead = max(2, math.ceil(2 * num_workers / pieces)) if num_workers else 0
        # one more for the batch that the caller is looking at
        shapes = [part.shape for part in self.dataset[0]]
        self._slots = [shared_array((self._num_ahead + 1, batch_size, *shape), np.float32) for shape in shapes]
        self._ahead: deque[Pending] = deque()
        self._pool = WorkerPool(self._fill, num_workers) if num_workers else None

    def identity(self) -> dict[str, str | int]:
        """Return the identity of the dataset."""
        return self._identified.identity()

    def indices(self, iteration: int) -> np.ndarray:
        """Return the samples of a batch, (B,)."""
        epoch, position = divmod(iteration, self.batches_per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.dataset)) if self.shuffle else np.arange(len(self.dataset))
            self._order = np.resize(order, self.batches_per_epoch * self._size_of_all)
            self._epoch = epoch
        first = position * self._size_of_all + self._rank * self.batch_size
        return self._order[first : first + self.batch_size]

    def __getitem__(self, iteration: int) -> tuple[np.ndarray, ...]:
        """Return a batch, (B, C, H, W) float32 for each part of a sample. It is valid until the next request.

        Raises:
            DataError: a sample is missing or damaged.
            ResourceError: a worker was killed.
        """
        if self._pool is None:
            self._fill((iteration, 0, self.indices(iteration)))
        else:
            self._wait_for(iteration)
        return tuple(part[self._slot(iteration)] for part in self._slots)

    def _slot(self, iteration: int) -> int:
        return iteration % (self._num_ahead + 1)

    def _wait_for(self, iteration: int) -> None:
        if self._ahead and self._ahead[0].iteration != iteration:  # a jump: wait until no worker writes into the slots
            while self._ahead:
                self._finish(self._ahead.popleft())
        if not self._ahead:
            self._ahead.append(self._begin(iteration))
        self._finish(self._ahead.popleft())
        following = self._ahead[-1].iteration + 1 if self._ahead else iteration + 1
        self._ahead.extend(self._begin(i) for i in range(following, iteration + 1 + self._num_ahead))

    def _begin(self, iteration: int) -> Pending:
        indices = self.indices(iteration)
        first_rows = range(0, self.batch_size, self._rows)
        tasks = [(iteration, first, indices[first : first + self._rows]) for first in first_rows]
        return Pending(iteration, [self._pool.submit([task]) for task in tasks])

    def _finish(self, pending: Pending) -> None:
        for future in pending.futures:
            self._pool.result(future)

    def _fill(self, task: tuple[int, int, np.ndarray]) -> None:
        """Fill rows of a batch."""
        iteration, first_row, indices = task
        epoch, slot = iteration // self.batches_per_epoch, self._slot(iteration)
        for row, index in enumerate(indices.tolist(), start=first_row):
            for slots, part in zip(self._slots, self._sample(index, epoch)):
                to_float(part, out=slots[slot, row])

    def _sample(self, index: int, epoch: int) -> tuple[np.ndarray, ...]:
        if not self._augmentation:
            return self.dataset[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        return self.dataset.augmented(index, random_transform(rng))


def make_batches(dataset: Dataset, train: TrainKeys, seed: int, rank: int = 0, num_ranks: int = 1) -> Batches:
    """Return batches for the `train` section of a configuration.

    Raises ConfigError if augmentation and memory cache are both on, DataError if there are fewer samples than a batch.
    """
    if train.augmentation and train.with_memory_cache:
        raise ConfigError("train.augmentation cannot be combined with train.with_memory_cache; switch one of them off")
    if len(dataset) < train.batch_size:
        raise DataError(f"{len(dataset)} samples are fewer than a batch of {train.batch_size}; lower train.batch_size")
    return Batches(
        dataset,
        train.batch_size,
        seed,
        shuffle=train.shuffle,
        in_memory=train.with_memory_cache,
        num_workers=train.num_workers,
        rank=rank,
        num_ranks=num_ranks,
        augmentation=train.augmentation,
    )
