"""Install nnabla's CUDA extension with the libraries it needs, and compute something on the GPU: 'make gpu'.

    python setup/gpu.py [11|12]

A driver is all that has to be there. The CUDA version is read from nvidia-smi, or said by hand.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

SETUP = Path(__file__).resolve().parent
sys.path.insert(0, str(SETUP.parent))

import nnabla as nn  # noqa: E402
import nnabla.functions as F  # noqa: E402
import numpy as np  # noqa: E402
from nnabla.ext_utils import get_extension_context  # noqa: E402

from utils.context import set_context  # noqa: E402
from utils.ending import call_main  # noqa: E402
from utils.errors import ConfigError, ResourceError  # noqa: E402

CHOICES = (11, 12)
DOWNLOAD, ON_DISK = "1.5 GB", "3 GB"
FREE_BYTES = 6 << 30  # the wheels, what they unpack to, and something to breathe
ASK_S = 30.0  # a driver that hangs is none
SHAPE, CHANNELS, ROUNDS = (8, 64, 128, 128), 64, 10  # the convolution that is compared
TOLERANCE = 1e-3  # share of its largest value: sums of 576 products in another order


def cuda_of(text: str) -> int | None:
    """Read the major CUDA version from what nvidia-smi prints; None where it names none.

    Older drivers print `CUDA Version: 12.4`, newer ones `CUDA UMD Version: 13.3`, a broken one `N/A`.
    """
    found = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+)\.\d+", text)
    return int(found[1]) if found else None


def ask_driver(*options: str) -> str:
    """Run nvidia-smi; return what it prints.

    Raises:
        ResourceError: it is missing, fails or hangs.
    """
    by_hand = "if there is a GPU all the same, say 'make gpu CUDA=12' or 'make gpu CUDA=11'"
    program = shutil.which("nvidia-smi")
    if program is None:
        raise ResourceError(f"nvidia-smi: not there, so no NVIDIA driver is installed; {by_hand}")
    try:
        done = subprocess.run([program, *options], capture_output=True, text=True, timeout=ASK_S, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ResourceError(f"nvidia-smi: {error}; {by_hand}") from None
    if done.returncode != 0:
        words = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
        raise ResourceError(f"nvidia-smi: {words[-1]}; {by_hand}")
    return done.stdout


def choose_cuda(by_hand: int | None) -> int:
    """Choose the extension's CUDA, 11 or 12: a driver runs extensions of its own version and of older ones.

    Raises:
        ResourceError: nvidia-smi does not say, or says too old a one.
    """
    if by_hand is not None:
        return by_hand
    version = cuda_of(ask_driver())
    if version is None:
        raise ResourceError("nvidia-smi names no CUDA version; say 'make gpu CUDA=12' or 'make gpu CUDA=11'")
    if version < min(CHOICES):
        raise ResourceError(f"the driver is for CUDA {version}; nnabla needs 11 or newer: bring the driver up to date")
    return min(version, max(CHOICES))


def is_installed(requirements: Path) -> bool:
    """Tell whether all packages of a requirements file are there in their versions."""
    pins = (line.split("==") for line in requirements.read_text().splitlines() if "==" in line)
    try:
        return all(metadata.version(name) == version for name, version in pins)
    except metadata.PackageNotFoundError:
        return False


def install(cuda: int) -> None:
    """Install the extension and its libraries, unless they are there.

    Raises:
        ResourceError: the disk is too full, or the package index is out of reach.
    """
    requirements = SETUP / f"requirements-cuda{cuda}.txt"
    if is_installed(requirements):
        print(f"set-up: the extension for CUDA {cuda} and its libraries are there")
        return
    free = shutil.disk_usage(sys.prefix).free
    if free < FREE_BYTES:
        raise ResourceError(f"{sys.prefix}: {free / 1e9:.1f} GB free; CUDA's libraries need {FREE_BYTES / 1e9:.0f} GB")
    print(f"set-up: nnabla's extension for CUDA {cuda} and its libraries: {DOWNLOAD} to fetch, {ON_DISK} on disk")
    sys.stdout.flush()
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir"]
    if subprocess.run([*pip, "-r", str(requirements)]).returncode != 0:
        raise ResourceError(f"{requirements.name} could not be installed; is the package index reachable?")
    importlib.invalidate_caches()


def convolve(context: nn.Context, x: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, float]:
    """Compute a convolution; return it, and the mean seconds of one after the first."""
    with nn.context_scope(context):
        y = F.convolution(nn.Variable.from_numpy_array(x), nn.Variable.from_numpy_array(kernel), pad=(1, 1))
        corner = y[:1, :1, :1, :1]
        corner.forward()
        float(corner.d)  # read, since a device only begins with what is asked for
        start = time.perf_counter()
        for _ in range(ROUNDS):
            corner.forward()
        float(corner.d)
        seconds = (time.perf_counter() - start) / ROUNDS
        y.forward()
        return y.d.copy(), seconds


def compare_with_cpu() -> None:
    """Compute the same on the GPU and on the CPU, and say how they compare.

    Raises:
        ResourceError: there is no device that computes, or it computes something else.
    """
    context = set_context("auto", 0)
    if context.name != "cudnn":
        raise ResourceError(f"installed, but nothing computes on a GPU: {context.reason}")
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal(SHAPE, np.float32), rng.standard_normal((CHANNELS, SHAPE[1], 3, 3), np.float32)
    ours, on_gpu = convolve(nn.get_current_context(), x, kernel)
    true, on_cpu = convolve(get_extension_context("cpu"), x, kernel)
    error = float(abs(ours - true).max() / abs(true).max())
    if not error < TOLERANCE:
        raise ResourceError(f"the GPU computes something else than the CPU: a relative difference of {error:.1e}")
    try:
        card = ask_driver("--query-gpu=name,memory.total", "--format=csv,noheader").splitlines()[0]
    except (ResourceError, IndexError):
        card = "name unknown"
    print(f"set-up: {card}: a convolution in {1e3 * on_gpu:.2f} ms, on the CPU in {1e3 * on_cpu:.1f} ms, "
          f"{on_cpu / on_gpu:.0f} times as fast; relative difference {error:.1e}")  # fmt: skip
    print("set-up: done; the scripts now choose the GPU by themselves (-c auto)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cuda", nargs="?", metavar="11|12", help="CUDA's version (default: what nvidia-smi says)")
    args = parser.parse_args()
    if args.cuda is not None and args.cuda not in map(str, CHOICES):
        raise ConfigError(f"CUDA '{args.cuda}': nnabla 1.39.0 has extensions for CUDA 11 and 12")
    cuda = choose_cuda(None if args.cuda is None else int(args.cuda))
    install(cuda)
    compare_with_cpu()


if __name__ == "__main__":
    call_main(main)
