"""Test nnabla's CUDA extension: compute a convolution on the GPU and on the CPU, and compare. Run by 'make gpu'."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.ending import call_main

import nnabla as nn
import nnabla.functions as F
import numpy as np
from nnabla.ext_utils import get_extension_context

from utils.context import set_context
from utils.errors import ResourceError

SHAPE, CHANNELS, ROUNDS = (8, 64, 128, 128), 64, 10  # of the convolution
TOLERANCE = 1e-3  # relative to the largest value


def convolve(context: nn.Context, x: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, float]:
    """Compute a convolution; return it, and the mean time in seconds after the first run."""
    with nn.context_scope(context):
        y = F.convolution(nn.Variable.from_numpy_array(x), nn.Variable.from_numpy_array(kernel), pad=(1, 1))
        corner = y[:1, :1, :1, :1]
        corner.forward()
        float(corner.d)  # wait for the device
        start = time.perf_counter()
        for _ in range(ROUNDS):
            corner.forward()
        float(corner.d)
        seconds = (time.perf_counter() - start) / ROUNDS
        y.forward()
        return y.d.copy(), seconds


def main() -> None:
    context = set_context("auto", 0)
    if context.name != "cudnn":
        raise ResourceError(f"the GPU cannot be used: {context.reason}")
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal(SHAPE, np.float32), rng.standard_normal((CHANNELS, SHAPE[1], 3, 3), np.float32)
    found, on_gpu = convolve(nn.get_current_context(), x, kernel)
    true, on_cpu = convolve(get_extension_context("cpu"), x, kernel)
    error = float(abs(found - true).max() / abs(true).max())
    if not error < TOLERANCE:
        raise ResourceError(f"the GPU computes other results than the CPU: relative difference {error:.1e}")
    print(
        f"convolution: {1e3 * on_gpu:.2f} ms on the GPU, {1e3 * on_cpu:.1f} ms on the CPU, "
        f"relative difference {error:.1e}"
    )
    print("the scripts now use the GPU by default (-c auto)")


if __name__ == "__main__":
    call_main(main)
