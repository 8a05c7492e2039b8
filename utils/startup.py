"""Imported first by every script: a library that cannot be imported after it ends the script in one line.

Scripts import nnabla, OpenCV and others at their top, where `call_main` is not yet there to report an error.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

from utils.errors import ConfigError, cannot_load


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an exception that nobody caught: in one line if an import at the top raised it, else as Python does."""
    name = _library_in(trace)
    if issubclass(kind, ImportError) or (name and issubclass(kind, Exception)):
        print(f"error: {cannot_load(error, name)}", file=sys.stderr, flush=True)
        os._exit(ConfigError.exit_code)
    sys.__excepthook__(kind, error, trace)


def _library_in(trace: TracebackType | None) -> str:
    """Return the library whose import a script, or a module of ours, was in the middle of; '' for none."""
    own = {path.partition(".")[0] for path in os.listdir(Path(__file__).resolve().parent.parent)} | {"__main__"}
    while trace is not None and trace.tb_frame.f_code.co_name == "<module>":
        name = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if name not in own:
            return name
        trace = trace.tb_next
    return ""


sys.excepthook = _report
