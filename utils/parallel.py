"""Worker processes and prefetching, with results in order and a bounded number of pending tasks."""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from utils.errors import ResourceError

MAX_WORKERS = 64
MAX_LOADER_WORKERS = 8  # more are limited by the memory bandwidth

GRACE_S = 5
POLL_S = 0.1
JOIN_S = 0.5

_work: Callable[[Any], Any] | None = None  # the function of this worker process


def available_cores() -> int:
    """Return the number of CPU cores available to this process, which in a container may be a subset."""
    from joblib import cpu_count  # slow to import

    return cpu_count()


def loader_workers(wanted: int) -> int:
    """Return the number of processes that prepare batches; -1 means all cores but one."""
    return wanted if wanted >= 0 else min(max(available_cores() - 1, 1), MAX_LOADER_WORKERS)


class WorkerPool:
    """A pool of processes that apply one function to tasks.

    Processes are forked at once, so `work` may be any callable and large data is shared; only tasks and results are
    pickled. Workers end with their parent, even if it is killed.

    Args:
        work: function from a task to its result. Its exceptions are raised by `result`.
        num_workers: 1 or more.

    Raises ResourceError if processes cannot be started.
    """

    def __init__(self, work: Callable[[Any], Any], num_workers: int):
        self.num_workers = num_workers
        context = multiprocessing.get_context("fork")
        try:
            self._executor = ProcessPoolExecutor(num_workers, context, initializer=_enter_worker, initargs=(work,))
        except OSError as error:
            raise ResourceError(
                f"/dev/shm: not usable by worker processes ({error.strerror or error}); free some space there, "
                "mount it writable, or set num_workers: 0"
            ) from None
        self.result(self._executor.submit(os.getpid))  # starts all processes

    def submit(self, tasks: list[Any]) -> Future:
        """Start some tasks; `result` returns the list of their results. Raises ResourceError if a worker was killed."""
        try:
            return self._executor.submit(_do, tasks)
        except BrokenProcessPool:
            raise _killed() from None

    @staticmethod
    def result(future: Future) -> Any:
        """Wait for the results of `submit`, and raise their exceptions. Raises ResourceError if a worker was killed."""
        try:
            return future.result()
        except BrokenProcessPool:
            raise _killed() from None

    def map(self, tasks: Iterable[Any], at_once: int) -> Iterator[Any]:
        """Yield results in the order of the tasks, which are handed out in groups of `at_once`."""
        remaining = iter(tasks)
        groups = iter(lambda: list(islice(remaining, at_once)), [])
        under_way = deque(self.submit(group) for group in islice(groups, 2 * self.num_workers))
        while under_way:
            results = self.result(under_way.popleft())
            under_way.extend(self.submit(group) for group in islice(groups, 1))
            yield from results

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        # after an error, running tasks are not waited for; workers end with their parent
        self._executor.shutdown(wait=kind is None, cancel_futures=True)


def _killed() -> ResourceError:
    return ResourceError("a worker process was killed, probably out of memory; use fewer workers or a smaller batch")


def close_iterator(iterator: Iterator[Any]) -> None:
    """Close an iterator if it is a generator."""
    if hasattr(iterator, "close"):
        iterator.close()


@contextmanager
def prefetched(items: Iterable[Any], at_most: int | None) -> Iterator[Iterator[Any]]:
    """Compute items ahead in a thread, at most `at_most` of them (None: no limit).

    Exceptions are raised when the item is requested. The thread ends soon after the block.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(at_most or 0)
    is_over = threading.Event()

    def put(what: tuple[str, Any]) -> bool:
        while not is_over.is_set():
            with suppress(queue.Full):
                ready.put(what, timeout=POLL_S)
                return True
        return False

    def make() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))
        finally:
            close_iterator(iterator)

    def take() -> Iterator[Any]:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        is_over.set()
        thread.join(JOIN_S)


def _enter_worker(work: Callable[[Any], Any]) -> None:
    gc.freeze()  # finalizers of the parent's objects may wait for locks that no thread holds here
    global _work
    _work = work
    signal.set_wakeup_fd(-1)  # the parent's
    # A signal to the training often reaches all its processes. The training may need more batches before it stops.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _do(tasks: list[Any]) -> list[Any]:
    return [_work(task) for task in tasks]
