"""CUDA: the libraries that nnabla's extension needs, a proof that a device computes, and what its errors mean."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from pathlib import Path

import nnabla as nn
import nnabla.functions as F
import numpy as np

EXTENSION = "nnabla_ext.cudnn"
SIDE = 8  # side of the picture that a device proves itself on

# what a reason looks like, and what to do about it
ADVICE = (
    (r"libcuda\.so", "NVIDIA's driver is not installed, or not seen from within this container ('--gpus all')"),
    (r"cannot open shared object file|undefined symbol", "run 'make gpu', which installs CUDA's libraries"),
    (
        r"driver version is insufficient|driver.*too old|cudaErrorInsufficientDriver",
        "NVIDIA's driver is missing or too old ('nvidia-smi' shows it): CUDA 12 needs 525, CUDA 11 450 or newer",
    ),
    (
        r"no CUDA-capable device|cudaErrorNoDevice|initialization error|unknown error",
        "the driver shows no GPU: see 'nvidia-smi' and CUDA_VISIBLE_DEVICES; containers need '--gpus all'",
    ),
    (r"invalid device ordinal|cudaErrorInvalidDevice", "there is no device of that number: 'nvidia-smi -L' lists them"),
    (r"out of memory|[Mm]emory allocation|ALLOC_FAILED", "others hold the device's memory: 'nvidia-smi' says who"),
    (r"no kernel image", "the card is too old or too new for this extension: try 'make gpu CUDA=11' or 'CUDA=12'"),
)


def has_extension() -> bool:
    """Tell whether nnabla's CUDA extension is installed; whether it works is another matter."""
    return importlib.util.find_spec("nnabla_ext") is not None and importlib.util.find_spec(EXTENSION) is not None


def preload() -> None:
    """Load the libraries of the nvidia-*-cu* wheels, so that nnabla's extension finds them.

    The loader takes a library that is there under its name before it searches. So neither LD_LIBRARY_PATH nor links
    are needed, and another CUDA in /usr/local, which the extension's own search path names, does no harm. All of
    them, since cuDNN opens its parts by name when it computes.
    """
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else spec.submodule_search_locations
    waiting = [path for folder in folders for path in sorted(Path(folder).glob("*/lib/lib*.so.*"))]
    while waiting:  # what needs another one loads after it
        left = [path for path in waiting if not _loads(path)]
        waiting = left if len(left) < len(waiting) else []


def _loads(path: Path) -> bool:
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return True


def open_device(number: int, type_config: str) -> nn.Context:
    """Make the context of a device that computes.

    Not by the extension's own `context`, which asks NVML first: containers may have a GPU without it.

    Raises:
        Exception: of many types, where a library, a driver or the device is missing; see `reason_of`.
    """
    preload()
    extension = importlib.import_module(EXTENSION)
    count = extension.get_device_count()
    if number >= count:
        raise RuntimeError(f"invalid device ordinal: {number}, of {count} from 0 on")
    halves = ("cudnn:half", "cudnn:float", "cuda:half") if type_config == "half" else ("cudnn:float",)
    context = nn.Context([*halves, "cuda:float", "cpu:float"], extension.array_classes()[0], device_id=str(number))
    prove(context)
    return context


def prove(context: nn.Context) -> None:
    """Compute a small convolution, and read it back: an import, or filling an array, does not touch the device.

    Raises:
        RuntimeError: the result is wrong; or whatever the extension raises.
    """
    with nn.context_scope(context):
        x, kernel = (nn.Variable.from_numpy_array(np.ones((1, 1, n, n), np.float32)) for n in (SIDE, 3))
        y = F.convolution(x, kernel)
        y.forward()
        if not (y.d == 9).all():
            raise RuntimeError("the device computes wrongly: a convolution of ones gave other numbers")


def reason_of(error: BaseException) -> str:
    """Return the last line of a chain of errors, where nnabla's extension has the cause, and what to do about it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = lines[-1].rstrip(".") if lines else type(error).__name__
    advice = next((words for pattern, words in ADVICE if re.search(pattern, str(error))), "")
    return f"{why}; {advice}" if advice else why
