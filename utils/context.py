"""Where nnabla computes: CUDA or CPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import nnabla as nn
from nnabla.ext_utils import get_extension_context

from utils import cuda
from utils.errors import ConfigError, one_line


class Context(NamedTuple):
    """Result of choosing where nnabla computes."""

    name: str  # cpu | cudnn
    message: str  # for the user
    reason: str = ""  # why no GPU is used, if one was requested


def set_context(wanted: str, device_id: int, must_have: bool = True, type_config: str = "float") -> Context:
    """Set nnabla's default context to the CPU or a GPU.

    Args:
        wanted: `auto`, `cpu` or `cudnn`.
        type_config: `float`, or `half` for mixed precision on a GPU.
        must_have: whether `cudnn` is required. If not, the CPU is the fallback.

    Raises ConfigError if `cudnn` is required and unavailable.
    """
    if wanted == "cpu":
        nn.set_default_context(get_extension_context("cpu"))
        return Context("cpu", "context: cpu")
    if cuda.has_extension():
        try:
            nn.set_default_context(cuda.open_device(device_id, type_config))
            return Context("cudnn", f"context: cudnn, device {device_id}")
        except Exception as error:  # the extension raises various types
            why = one_line(cuda.reason_of(error))
    else:
        why = "nnabla's CUDA extension is not installed; run 'make gpu'"
    if wanted == "cudnn" and must_have:
        raise ConfigError(f"context cudnn is unavailable ({why}); use '-c cpu' to compute on the CPU")
    nn.set_default_context(get_extension_context("cpu"))
    note = f"context cudnn is unavailable ({why}); using cpu\n" if wanted == "cudnn" else ""
    return Context("cpu", f"{note}context: cpu" + ("" if note else f" ({why})"), why)


def set_configured_context(config: Any, context: str | None, device_id: int | None) -> str:
    """Set the context of a run's configuration, unless a command line names another, and print it.

    The configuration may come from another machine, so the CPU is a fallback for its GPU. Raises ConfigError if the
    command line's context is unavailable.
    """
    wanted = context or ("cudnn" if config.context == "cudnn" else "auto")
    found = set_context(wanted, config.device_id if device_id is None else device_id, must_have=context is not None)
    print(found.message)
    return found.name


def current_context() -> str:
    """Return the name of nnabla's default context, `cpu` or `cudnn`."""
    return "cudnn" if any("cudnn" in backend for backend in nn.get_current_context().backend) else "cpu"
