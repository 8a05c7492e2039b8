"""Run a script that is killed when it renames a file: killed.py SCRIPT before|after NUMBER [its own options]."""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.ending import call_main

script, moment, number = (sys.argv.pop(1) for _ in range(3))
replace, count = os.replace, itertools.count(1)


def replace_or_die(*args: object) -> None:
    """Replace a file, unless it is the one at which the process is killed."""
    is_last = next(count) == int(number)
    if is_last and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*args)
    if is_last:
        os.kill(os.getpid(), signal.SIGKILL)


os.replace = replace_or_die
call_main(importlib.import_module(script.replace("/", ".")).main)
