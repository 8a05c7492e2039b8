"""Where nnabla computes: CUDA or CPU."""

from __future__ import annotations

from typing import NamedTuple

import nnabla as nn
from nnabla.ext_utils import get_extension_context

from utils import cuda
from utils.errors import ConfigError, one_line


class Context(NamedTuple):
    """Say where nnabla computes."""

    name: str  # cpu | cudnn
    message: str  # what became of the wish, for whoever speaks to the user
    reason: str = ""  # why it is no GPU, where one was wished for


def set_context(wanted: str, device_id: int, must_have: bool = True, type_config: str = "float") -> Context:
    """Make the CPU or a GPU nnabla's default context.

    Args:
        wanted: `auto`, `cpu` or `cudnn`.
        type_config: `float`, or `half` for mixed precision on a GPU.
        must_have: False lets `cudnn` fall back to the CPU, for files that name it and were written elsewhere.

    Raises:
        ConfigError: `cudnn` must be had and is unavailable.
    """
    if wanted == "cpu":
        nn.set_default_context(get_extension_context("cpu"))
        return Context("cpu", "context: cpu")
    if cuda.has_extension():
        try:
            nn.set_default_context(cuda.open_device(device_id, type_config))
            return Context("cudnn", f"context: cudnn, device {device_id}")
        except Exception as error:  # the extension raises many types where it, a driver or a device is missing
            why = one_line(cuda.reason_of(error))
    else:
        why = "no CUDA extension of nnabla is installed; 'make gpu' does it"
    if wanted == "cudnn" and must_have:
        raise ConfigError(f"context cudnn is unavailable ({why}); '-c cpu' computes on the CPU")
    nn.set_default_context(get_extension_context("cpu"))
    note = f"context cudnn is unavailable ({why}); going on with cpu\n" if wanted == "cudnn" else ""
    return Context("cpu", f"{note}context: cpu" + ("" if note else f" ({why})"), why)


def current_context() -> str:
    """Return where nnabla computes by default, `cpu` or `cudnn`."""
    return "cudnn" if any("cudnn" in backend for backend in nn.get_current_context().backend) else "cpu"
