"""Where nnabla computes: CUDA or CPU."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import nnabla as nn
from nnabla.ext_utils import get_extension_context

from utils.errors import ConfigError


class Context(NamedTuple):
    """Say where nnabla computes."""

    name: str  # cpu | cudnn
    message: str  # what became of the wish, for whoever speaks to the user


def set_context(wanted: str, device_id: int, must_have: bool = True, type_config: str = "float") -> Context:
    """Make the CPU or a GPU nnabla's default context.

    Args:
        wanted: `auto`, `cpu` or `cudnn`.
        type_config: `float`, or `half` for mixed precision on a GPU.
        must_have: False lets `cudnn` fall back to the CPU, for files that name it and were written elsewhere.

    Raises:
        ConfigError: `cudnn` must be had and is unavailable.
    """
    found, why = None, ""
    if wanted != "cpu" and importlib.util.find_spec("nnabla_ext.cudnn") is None:
        why = "no CUDA extension of nnabla is installed"
    elif wanted != "cpu":
        try:
            found = get_extension_context("cudnn", device_id=str(device_id), type_config=type_config)
            with nn.context_scope(found):
                probe = nn.NdArray((1,))
                probe.fill(1)
                probe.data  # noqa: B018 - the copy back from the device shows that it works
        except Exception as error:  # the extension raises many types where it, a driver or a device is missing
            found, why = None, str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if found is not None:
        nn.set_default_context(found)
        return Context("cudnn", f"context: cudnn, device {device_id}")
    if wanted == "cudnn" and must_have:
        raise ConfigError(
            f"context cudnn is unavailable ({why}); install nnabla-ext-cuda ('make gpu'), or pass '-c cpu'"
        )
    nn.set_default_context(get_extension_context("cpu"))
    note = f"context cudnn is unavailable ({why}); going on with cpu\n" if wanted == "cudnn" else ""
    return Context("cpu", f"{note}context: cpu")


def current_context() -> str:
    """Return where nnabla computes by default, `cpu` or `cudnn`."""
    return "cudnn" if any("cudnn" in backend for backend in nn.get_current_context().backend) else "cpu"
