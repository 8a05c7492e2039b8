"""CUDA: loading the libraries of nnabla's extension, a test computation, and explanations of errors."""

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
SIDE = 8  # pixels, of the test computation

# patterns of error messages, and what to do
ADVICE = (
    (r"libcuda\.so", "NVIDIA's driver is not installed, or not visible in this container ('--gpus all')"),
    (r"cannot open shared object file|undefined symbol", "run 'make gpu', which installs CUDA's libraries"),
    (
        r"driver version is insufficient|driver.*too old|cudaErrorInsufficientDriver",
        "NVIDIA's driver is missing or too old ('nvidia-smi' shows it): CUDA 12 needs 525, CUDA 11 450 or newer",
    ),
    (
        r"no CUDA-capable device|cudaErrorNoDevice|initialization error|unknown error",
        "the driver shows no GPU: see 'nvidia-smi' and CUDA_VISIBLE_DEVICES; containers need '--gpus all'",
    ),
    (
        r"invalid device ordinal|cudaErrorInvalidDevice",
        "there is no device with that number: 'nvidia-smi -L' lists them",
    ),
    (r"out of memory|[Mm]emory allocation|ALLOC_FAILED", "the device's memory is in use: see 'nvidia-smi'"),
    (r"no kernel image", "the card is too old or too new for this extension: try 'make gpu CUDA=11' or 'CUDA=12'"),
)


def has_extension() -> bool:
    """Return whether nnabla's CUDA extension is installed."""
    return importlib.util.find_spec("nnabla_ext") is not None and importlib.util.find_spec(EXTENSION) is not None


def preload() -> None:
    """Load the libraries of the nvidia-*-cu* wheels, so that nnabla's extension finds them.

    The dynamic loader reuses libraries that are already loaded, so LD_LIBRARY_PATH is not needed and another CUDA in
    /usr/local does not interfere. All are loaded, because cuDNN opens some of its parts by name.
    """
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else spec.submodule_search_locations
    waiting = [path for folder in folders for path in sorted(Path(folder).glob("*/lib/lib*.so.*"))]
    while waiting:  # libraries load after those they depend on
        left = [path for path in waiting if not _loads(path)]
        waiting = left if len(left) < len(waiting) else []


def _loads(path: Path) -> bool:
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return True


def open_device(number: int, type_config: str) -> nn.Context:
    """Return the context of a device after a test computation.

    The extension's own `context` requires NVML, which containers may lack. Raises various exceptions if a library, a
    driver or the device is missing; see `reason_of`.
    """
    preload()
    extension = importlib.import_module(EXTENSION)
    count = extension.get_device_count()
    if number >= count:
        raise RuntimeError(f"invalid device ordinal: {number} of {count}, counted from 0")
    halves = ("cudnn:half", "cudnn:float", "cuda:half") if type_config == "half" else ("cudnn:float",)
    context = nn.Context([*halves, "cuda:float", "cpu:float"], extension.array_classes()[0], device_id=str(number))
    prove(context)
    return context


def prove(context: nn.Context) -> None:
    """Check a small convolution on a device. Raises RuntimeError if the result is wrong or the extension fails."""
    with nn.context_scope(context):
        x, kernel = (nn.Variable.from_numpy_array(np.ones((1, 1, n, n), np.float32)) for n in (SIDE, 3))
        y = F.convolution(x, kernel)
        y.forward()
        if not (y.d == 9).all():
            raise RuntimeError("the device computes wrong results")


def reason_of(error: BaseException) -> str:
    """Return the last line of a chain of errors, which has the cause, and what to do."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = lines[-1].rstrip(".") if lines else type(error).__name__
    advice = next((words for pattern, words in ADVICE if re.search(pattern, str(error))), "")
    return f"{why}; {advice}" if advice else why
