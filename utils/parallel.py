"""Work spread over processes: results in order, a bounded number of tasks under way, nobody left behind."""

from __future__ import annotations

import errno
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

from utils.errors import ResourceError, remedy

MAX_WORKERS = 64  # the most that can be asked for
TASKS_OF_WORKER, TASKS_OF_POOL = 3, 4  # processes and threads that count together against a limit
MAX_LOADER_WORKERS = 8  # more only wait for each other's memory

GRACE_S = 5
POLL_S = 0.1
JOIN_S = 0.5  # for what a thread is in the middle of, which may be a slow detector; the script's end does not wait

_work: Callable[[Any], Any] | None = None  # what this process does, if it is a worker


def available_cores() -> int:
    """Count the cores that this process may use, which in a container can be fewer than the machine has."""
    from joblib import cpu_count  # not above: it takes a quarter of a second, which most processes can do without

    return cpu_count()


def require_threads(count: int) -> None:
    """Check that so many threads can be started: libraries written in C++ end the process where they cannot.

    Raises:
        ResourceError: they cannot.
    """
    is_over = threading.Event()
    threads = [threading.Thread(target=is_over.wait, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:
        raise ResourceError(f"{count} threads cannot be started{remedy(errno.EAGAIN)}") from None
    finally:
        is_over.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def loader_workers(wanted: int) -> int:
    """Return how many processes prepare batches for the one that trains: for -1, all cores but one."""
    return wanted if wanted >= 0 else min(max(available_cores() - 1, 1), MAX_LOADER_WORKERS)


class WorkerPool:
    """Run processes that all do one piece of work on one task after another.

    They are forked at once, so that `work` may be any callable and large data is shared rather than copied; only
    tasks and results are pickled. A worker ends with its parent, however the parent ends.

    Args:
        work: from a task to its result; its exceptions reach whoever asks for the result.
        num_workers: 1 or more.
    """

    def __init__(self, work: Callable[[Any], Any], num_workers: int):
        self.num_workers = num_workers
        context = multiprocessing.get_context("fork")
        require_threads(num_workers * TASKS_OF_WORKER + TASKS_OF_POOL)  # too few later would be a pool that hangs
        try:
            self._executor = ProcessPoolExecutor(num_workers, context, initializer=_enter_worker, initargs=(work,))
        except OSError as error:
            raise ResourceError(
                f"/dev/shm: worker processes need a few bytes of it ({error.strerror or error}); make room there, "
                "have it mounted to be written to, or do without workers (num_workers: 0)"
            ) from None
        is_collecting = gc.isenabled()
        gc.disable()  # until the workers have set aside what they inherit
        try:
            first = self._executor.submit(os.getpid)  # this starts all of them
        finally:
            if is_collecting:
                gc.enable()
        self.result(first)

    def submit(self, tasks: list[Any]) -> Future:
        """Begin on some tasks; `result` returns the list of their results.

        Raises:
            ResourceError: a worker was killed.
        """
        try:
            return self._executor.submit(_do, tasks)
        except BrokenProcessPool:
            raise _killed() from None

    @staticmethod
    def result(future: Future) -> Any:
        """Wait for what `submit` began.

        Raises:
            ResourceError: a worker was killed.
            Exception: what the work raised.
        """
        try:
            return future.result()
        except BrokenProcessPool:
            raise _killed() from None

    def map(self, tasks: Iterable[Any], at_once: int) -> Iterator[Any]:
        """Give results in the order of the tasks, of which `at_once` at a time are handed out, not all at first."""
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
        # after an error nobody waits for what workers are in the middle of; they end with their parent
        self._executor.shutdown(wait=kind is None, cancel_futures=True)


def _killed() -> ResourceError:
    words = "a worker process was killed; most often memory ran out: use fewer workers or a smaller batch"
    return ResourceError(words)


def close_iterator(iterator: Iterator[Any]) -> None:
    """End a generator now, whoever else holds it; other iterators have nothing to end."""
    if hasattr(iterator, "close"):
        iterator.close()


@contextmanager
def prefetched(items: Iterable[Any], at_most: int | None) -> Iterator[Iterator[Any]]:
    """Make items in a thread before they are asked for, `at_most` of them (None: as many as come).

    What making them raises is raised where they are asked for; the thread ends soon after the block.
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
    # Garbage of the parent's is never collected here: tidying up after it may wait for a lock that one of the parent's
    # threads held when this process was forked. It also leaves the parent's memory shared.
    gc.freeze()
    gc.enable()
    global _work
    _work = work
    signal.set_wakeup_fd(-1)  # the parent's
    # Signals that are meant for the training often reach all its processes. The training decides what happens, and
    # may want another batch or two before it stops; workers end with it.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))  # ends with the signal that comes then
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _do(tasks: list[Any]) -> list[Any]:
    return [_work(task) for task in tasks]
