"""What computes a reenactment's networks: nnabla, or on a CPU ONNX Runtime, which is several times faster there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import nnabla as nn
import numpy as np

from models.chain import INPUT_SHAPES, SCOPES, build
from utils.checkpoints import load_parameters
from utils.errors import ConfigError, DataError
from utils.onnx_export import Networks, exported, missing_packages, open_session, quantized, require_packages

BACKENDS = ("auto", "nnabla", "onnxruntime")
PRECISIONS = ("float32", "int8")


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

    def __init__(self, networks: Networks, batch_size: int, calibration: Iterable[np.ndarray] | None = None):
        """With faces (3, 256, 256) to calibrate on, convolutions compute with 8 bits."""
        require_packages()
        inputs = None if calibration is None else list(calibration)
        if inputs == []:
            raise DataError("no usable face to calibrate 8 bits on; take --precision float32, or another input")
        self._sessions = {}
        before = None
        for module, (config, weights) in networks.items():
            path = full = exported(module, config, weights, batch_size)
            if inputs is not None:
                if before is not None:  # calibrated on what the network before gives in full precision
                    whole = open_session(before)
                    inputs = [whole(np.stack([x] * batch_size))[0][0] for x in inputs]
                path = quantized(module, config, weights, batch_size, inputs)
            self._sessions[module] = open_session(path)
            before = full

    def run(self, module: str, x: np.ndarray) -> np.ndarray:
        return self._sessions[module](x)[0]


def open_engine(
    backend: str,
    context: str,
    networks: Networks,
    batch_size: int,
    calibration: Callable[[], Iterable[np.ndarray]] | None = None,
) -> Engine:
    """The networks, ready to run.

    Args:
        backend: one of `BACKENDS`; `auto` takes nnabla on a GPU, else ONNX Runtime where it can be had.
        context: `cpu` or `cudnn`, which nnabla computes on.
        calibration: where 8 bits are wanted, gives faces (3, 256, 256) to calibrate on.

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
    if chosen == "nnabla" and calibration is not None:
        raise ConfigError("--precision int8 needs --backend onnxruntime, on a CPU and without test.batch_stat")
    if chosen == "nnabla":
        return NnablaEngine(networks, batch_size)
    return OnnxEngine(networks, batch_size, None if calibration is None else calibration())


def _why_not_onnx(context: str, networks: dict[str, tuple[dict[str, Any], Any]]) -> str:
    if context == "cudnn":
        return "on a GPU"
    if any(config["test"]["batch_stat"] for config, _ in networks.values()):
        return "test.batch_stat is on, which ONNX does not have"
    missing = missing_packages()
    return f"{', '.join(missing)} not installed, which would be faster" if missing else ""
