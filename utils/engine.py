"""What computes a reenactment's networks: nnabla, or on a CPU ONNX Runtime, which is several times faster there."""

from __future__ import annotations

from typing import Any, Protocol

import nnabla as nn
import numpy as np

from models.chain import INPUT_SHAPES, SCOPES, build
from utils.checkpoints import load_parameters
from utils.errors import ConfigError
from utils.onnx import Networks, exported, missing_packages, open_session, require_packages

BACKENDS = ("auto", "nnabla", "onnxruntime")


class Engine(Protocol):
    name: str

    def run(self, module: str, x: np.ndarray) -> np.ndarray:
        """A network on a batch (B, C, H, W) float32; its output belongs to the caller."""
        ...


class NnablaEngine:
    name = "nnabla"

    def __init__(self, networks: Networks, batch_size: int):
        self._graphs = {}
        for module, (config, weights) in networks.items():
            x = nn.Variable((batch_size, *INPUT_SHAPES[module]))
            self._graphs[module] = x, build(module, config, x)
            load_parameters(weights, SCOPES[module])

    def run(self, module: str, x: np.ndarray) -> np.ndarray:
        variable, output = self._graphs[module]
        variable.d = x
        output.forward(clear_buffer=True)
        return output.d.copy()


class OnnxEngine:
    name = "onnxruntime"

    def __init__(self, networks: Networks, batch_size: int):
        require_packages()
        self._sessions = {
            module: open_session(exported(module, config, weights, batch_size))
            for module, (config, weights) in networks.items()
        }

    def run(self, module: str, x: np.ndarray) -> np.ndarray:
        return self._sessions[module](x)[0]


def open_engine(backend: str, context: str, networks: Networks, batch_size: int) -> Engine:
    """The networks, ready to run.

    Args:
        backend: one of `BACKENDS`; `auto` takes nnabla on a GPU, else ONNX Runtime where it can be had.
        context: `cpu` or `cudnn`, which nnabla computes on.

    Raises:
        ConfigError: ONNX Runtime is asked for and cannot be had.
        WeightsError: weights are missing, damaged or of another network.
    """
    chosen, why = backend, ""
    if backend == "auto":
        why = _why_not_onnx(context, networks)
        chosen = "nnabla" if why else "onnxruntime"
    elif backend == "onnxruntime" and context == "cudnn":
        raise ConfigError("--backend onnxruntime computes on the CPU; pass '-c cpu' with it, or take nnabla")
    print(f"backend: {chosen}" + (f" ({why})" if why else ""))
    return {"nnabla": NnablaEngine, "onnxruntime": OnnxEngine}[chosen](networks, batch_size)


def _why_not_onnx(context: str, networks: dict[str, tuple[dict[str, Any], Any]]) -> str:
    if context == "cudnn":
        return "on a GPU"
    if any(config["test"]["batch_stat"] for config, _ in networks.values()):
        return "test.batch_stat is on, which ONNX does not have"
    missing = missing_packages()
    return f"{', '.join(missing)} not installed, which would be faster" if missing else ""
