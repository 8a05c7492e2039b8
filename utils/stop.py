"""Requests to stop a training, by signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MESSAGE = b"\nstopping after this step, with a checkpoint; Ctrl-C again stops at once\n"
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
    was_interrupted = False

    def ask(number: int, _: object) -> None:
        nonlocal was_interrupted
        if number == signal.SIGINT:
            if was_interrupted:
                raise KeyboardInterrupt
            was_interrupted = True
        request.signal_number = request.signal_number or number
        os.write(2, MESSAGE)  # not print(): the signal may have come in the middle of one

    before = {number: signal.signal(number, ask) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
