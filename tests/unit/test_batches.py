"""The sampler and the workers that prepare batches."""

import gc
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import GAZE, PATIENCE_S, ROOT, Numbers, numbers_of

from config.common import TrainKeys
from datasets.batches import Batches, InMemory, collate, make_batches
from datasets.celebv import HEATMAP, IMAGE, RESIZED_HEATMAP
from datasets.samples import DrawnDataset
from utils.errors import ConfigError, DataError, ResourceError
from utils.parallel import WorkerPool

PARTS = (IMAGE, HEATMAP, RESIZED_HEATMAP)


def test_an_epoch_is_a_permutation_that_follows_from_the_seed():
    batches = Batches(Numbers(10), 5, seed=1)
    assert batches.batches_per_epoch == 2  # not 3: the size divides
    epochs = [numbers_of(batches[2 * e]) + numbers_of(batches[2 * e + 1]) for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again = Batches(Numbers(10), 5, seed=1)
    assert numbers_of(again[5]) == epochs[2][5:]  # batches do not depend on earlier ones
    assert numbers_of(Batches(Numbers(10), 5, seed=2)[0]) != epochs[0][:5]


def test_the_last_batch_is_filled_up_with_the_epochs_first_samples():
    batches = Batches(Numbers(11), 4, seed=1)
    assert batches.batches_per_epoch == 3
    fillers = set()
    for epoch in range(20):
        order = [number for b in range(3) for number in numbers_of(batches[3 * epoch + b])]
        assert sorted(order[:11]) == list(range(11))  # everything once
        assert order[11:] == order[:1]
        fillers.add(order[11])
    assert len(fillers) > 5  # others in other epochs


def test_without_shuffling_every_epoch_has_the_sources_order():
    batches = Batches(Numbers(5), 2, seed=1, shuffle=False)
    assert [numbers_of(batches[i]) for i in range(6)] == [[0, 1], [2, 3], [4, 0]] * 2


def test_too_few_samples_for_a_batch():
    with pytest.raises(DataError, match="lower train.batch_size"):
        make_batches(Numbers(3), TrainKeys(batch_size=4), 0)


def test_kept_samples_cannot_be_changed():
    with pytest.raises(ConfigError, match="switch one of them off"):
        make_batches(Numbers(9), TrainKeys(batch_size=4, augmentation=True, with_memory_cache=True), 0)


def test_a_batch_larger_than_the_source_repeats_it():
    assert numbers_of(Batches(Numbers(3), 5, seed=0, shuffle=False)[0]) == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("num_workers", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_workers_give_the_same_batches(num_workers, batch_size):
    plain = Batches(Numbers(20), batch_size, seed=4)
    ahead = Batches(Numbers(20), batch_size, seed=4, num_workers=num_workers)
    for iteration in [*range(30), 7, 8, 3, 3, 100, 101]:  # on from the beginning, then with jumps
        assert numbers_of(ahead[iteration]) == numbers_of(plain[iteration]), iteration


def test_workers_never_write_into_the_batch_that_is_looked_at():
    batches = Batches(Numbers(400), 2, seed=4, num_workers=2)
    for iteration in range(100):
        batch = batches[iteration]
        before = numbers_of(batch)
        time.sleep(0.002)  # workers go on
        assert numbers_of(batch) == before


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_drawn_and_prepared_data_are_the_same(data, num_workers):
    root, ref_dir = data / "datasets/CelebV", data / "datasets/celebv_heatmaps_GT"
    drawn, prepared = (
        Batches(DrawnDataset(root, "Rowan", "train", PARTS, ref, style=GAZE), 3, seed=1, num_workers=num_workers)
        for ref in ("", ref_dir)
    )
    expected = [(3, 3, 256, 256), (3, 15, 64, 64), (3, 15, 256, 256)]
    for iteration in range(4):
        first, second = drawn[iteration], prepared[iteration]
        assert [part.shape for part in first] == expected
        plain = collate(drawn.dataset[index] for index in drawn.indices(iteration))
        for a, b, c in zip(first, second, plain):
            assert a.dtype == np.float32 and a.flags.c_contiguous
            assert np.array_equal(a, b) and np.array_equal(a, c)


def test_samples_kept_in_memory_are_read_once():
    source = Numbers(6)
    batches = Batches(source, 3, seed=0, in_memory=True)
    for iteration in range(8):
        batches[iteration]
    assert source.reads == 7  # and the first one for its shape


def test_samples_kept_in_memory_are_shared_by_workers():
    kept = InMemory(Numbers(6))
    batches = Batches(kept, 3, seed=0, num_workers=2)
    assert sorted(numbers_of(batches[0]) + numbers_of(batches[1])) == list(range(6))
    reads_here = kept.dataset.reads  # the first sample's, for its shape; the workers read them all
    assert [kept[index][0].item() for index in range(6)] == list(range(6))
    assert kept.dataset.reads == reads_here


class Broken(Numbers):
    def __getitem__(self, index):
        if index == 7:
            raise DataError("picture 7 cannot be decoded")
        return super().__getitem__(index)


class Deadly(Numbers):
    """A worker that reads sample 7 is killed, as by the kernel where memory runs out."""

    def __init__(self, count):
        super().__init__(count)
        self.parent = os.getpid()

    def __getitem__(self, index):
        if index == 7 and os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.parametrize("source, error, words", [(Broken, DataError, "picture 7"), (Deadly, ResourceError, "memory")])
def test_what_goes_wrong_in_a_worker_ends_the_loop_at_once(source, error, words):
    batches = Batches(source(10), 2, seed=0, num_workers=2)
    with pytest.raises(error, match=words):  # and does not hang, which pytest's own limit would end
        for iteration in range(5):
            batches[iteration]


PARENT = """
import sys, time
sys.path[:0] = [{root!r}, {tests!r}]
from helpers import Numbers
from datasets.batches import Batches
from utils.ending import call_main
def main():
    batches = Batches(Numbers(10), 2, seed=0, num_workers=3)
    print(*batches._pool._executor._processes, flush=True)
    for iteration in range(10**6):
        batches[iteration]
        time.sleep(0.01)
call_main(main)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(how):
    script = PARENT.format(root=str(ROOT), tests=str(ROOT / "tests"))
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 3
    parent.send_signal(how)
    parent.communicate(timeout=PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and any(map(is_alive, workers)):
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def is_alive(process_id: int) -> bool:
    try:
        with open(f"/proc/{process_id}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Noted:
    """Says when it is cleared away; nothing but the garbage collector can, for it refers to itself."""

    def __init__(self, said):
        self.itself, self.said = self, said

    def __del__(self):
        self.said.append(os.getpid())


def test_workers_leave_the_parents_garbage_alone():
    said = []
    gc.disable()  # so that it is still there at the fork
    try:
        Noted(said)
        with WorkerPool(lambda _: (gc.collect(), list(said)), 1) as pool:
            assert pool.result(pool.submit([0]))[0][1] == []
    finally:
        gc.enable()
    gc.collect()
    assert said == [os.getpid()]
