"""Backends that compute a reenactment's networks: nnabla, or on a CPU ONNX Runtime, which is several times faster."""

from __future__ import annotations

import argparse
import threading
from collections import OrderedDict

import nnabla as nn
import numpy as np

from inference.onnx_export import exported, missing_packages, open_session, require_packages
from inference.reenactor import Backend
from inference.trained import Networks, load_network
from models.networks import INFERENCE
from utils.errors import ConfigError
from utils.libraries import LibraryError

BACKENDS = ("auto", "nnabla", "onnxruntime")

# nnabla's context and parameter scope, and stdout, which converters are kept off, are the process's, not a thread's
_loading = threading.Lock()


def add_backend_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--backend`."""
    help_backend = "what computes (default auto: nnabla on a GPU, on a CPU onnxruntime where it is installed)"
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help=help_backend)


class NnablaBackend:
    """Compute with nnabla, on the CPU or a GPU."""

    name = "nnabla"

    def __init__(self, networks: Networks, batch_size: int):
        self._graphs = {}
        with nn.parameter_scope("", OrderedDict()):  # or another backend's networks would get these weights
            for module, trained in networks.items():
                x = nn.Variable((batch_size, *INFERENCE[module].input_shape))
                self._graphs[module] = x, load_network(module, trained, x)

    def infer(self, module: str, x: np.ndarray) -> np.ndarray:
        """Run a network on a batch (B, C, H, W) float32; its output belongs to the caller."""
        variable, output = self._graphs[module]
        variable.d = x
        output.forward(clear_buffer=True)
        return output.d.copy()


class OnnxBackend:
    """Compute with ONNX Runtime on the CPU."""

    name = "onnxruntime"

    def __init__(self, networks: Networks, batch_size: int):
        require_packages()
        paths = {module: exported(module, trained, batch_size) for module, trained in networks.items()}
        self._sessions = {module: open_session(path) for module, path in paths.items()}

    def infer(self, module: str, x: np.ndarray) -> np.ndarray:
        """Run a network on a batch (B, C, H, W) float32; its output belongs to the caller."""
        return self._sessions[module](x)[0]


def open_backend(backend: str, context: str, networks: Networks, batch_size: int) -> Backend:
    """Load the networks into a backend; other threads may do the same, and are waited for.

    Args:
        backend: one of `BACKENDS`; `auto` takes nnabla on a GPU, else ONNX Runtime where it can be had.
        context: `cpu` or `cudnn`, which nnabla computes on.

    Raises:
        ConfigError: ONNX Runtime is asked for and unavailable.
        WeightsError: weights are missing, damaged or of another network.
    """
    chosen, why = backend, ""
    if backend == "auto":
        why = _why_not_onnx(context, networks)
        chosen = "nnabla" if why else "onnxruntime"
    elif backend == "onnxruntime" and context == "cudnn":
        raise ConfigError("--backend onnxruntime computes on the CPU; pass '-c cpu' with it, or take nnabla")
    print(f"backend: {chosen}" + (f" ({why})" if why else ""))
    with _loading:
        if chosen == "nnabla":
            return NnablaBackend(networks, batch_size)
        try:
            return OnnxBackend(networks, batch_size)
        except LibraryError as error:
            if backend != "auto":
                raise
            print(f"note: {error}\nbackend: nnabla (slower)")
            return NnablaBackend(networks, batch_size)


def _why_not_onnx(context: str, networks: Networks) -> str:
    if context == "cudnn":
        return "on a GPU"
    if any(trained.config.test.batch_stat for trained in networks.values()):
        return "test.batch_stat is on, which ONNX does not have"
    missing = missing_packages()
    return f"{', '.join(missing)} not installed, which would be faster" if missing else ""
