"""Heavy and optional libraries, loaded when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from utils.errors import ConfigError, cannot_load


class LibraryError(ConfigError):
    """Report a library that is missing, or that is installed and cannot be loaded."""


def load(name: str, how: str = "") -> ModuleType:
    """Import a module.

    Args:
        how: the command that installs it; '' stands for all requirements.

    Raises:
        LibraryError: it cannot be loaded, for whatever reason, such as a system library that is missing.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # C++ code raises whatever it likes
        raise LibraryError(cannot_load(error, name, how)) from None
