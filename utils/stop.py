"""Requests to stop a training, by signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@dataclass
class StopRequest:
    signal_number: int = 0  # 0 while nobody asked

    @property
    def exit_code(self) -> int:
        """As shells count: 130 for Ctrl-C, 143 for being terminated in whatever way."""
        return 128 + (signal.SIGINT if self.signal_number == signal.SIGINT else signal.SIGTERM)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """While the block runs, the first signal only asks; a second Ctrl-C stops at once."""
    request = StopRequest()

    def ask(number: int, _: object) -> None:
        if number == signal.SIGINT and request.signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal_number = request.signal_number or number
        # not print(): the signal may have come in the middle of one
        sys.stderr.flush()
        sys.__stderr__.write("\nstopping after this step, with a checkpoint; Ctrl-C again stops at once\n")

    before = {number: signal.signal(number, ask) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
