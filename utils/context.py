"""Where nnabla computes: CUDA or CPU."""

from __future__ import annotations

import importlib.util

import nnabla as nn
from nnabla.ext_utils import get_extension_context

from utils.errors import ConfigError


def set_context(name: str, device_id: int, must_have: bool = True, type_config: str = "float") -> str:
    """Make `auto`, `cpu` or `cudnn` nnabla's default context and say which it became.

    Args:
        type_config: `float`, or `half` for mixed precision on a GPU.
        must_have: False lets `cudnn` fall back to the CPU, for files that name it and were written elsewhere.

    Returns:
        `cpu` or `cudnn`.

    Raises:
        ConfigError: `cudnn` must be had and cannot.
    """
    chosen, why = "cpu", ""
    if name != "cpu" and importlib.util.find_spec("nnabla_ext.cudnn") is None:
        why = "no CUDA extension of nnabla is installed"
    elif name != "cpu":
        try:
            context = get_extension_context("cudnn", device_id=str(device_id), type_config=type_config)
            with nn.context_scope(context):
                probe = nn.NdArray((1,))
                probe.fill(1)
                probe.data  # noqa: B018 - the copy back from the device shows that it works
            chosen = "cudnn"
        except Exception as error:  # the extension raises many types where it, a driver or a device is missing
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if name == "cudnn" and chosen == "cpu":
        if must_have:
            raise ConfigError(
                f"context cudnn cannot be had ({why}); install nnabla-ext-cuda ('make gpu'), or pass '-c cpu'"
            )
        print(f"context cudnn cannot be had ({why}); going on with cpu")
    if chosen == "cudnn":
        nn.set_default_context(context)
    else:
        nn.set_default_context(get_extension_context("cpu"))
    print(f"context: {chosen}" + (f", device {device_id}" if chosen == "cudnn" else ""))
    return chosen
