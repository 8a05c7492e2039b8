"""Backends that run networks: nnabla, or ONNX Runtime on a CPU, which is several times faster.

ONNX files are exported by nnabla-converter, compared with nnabla, and cached beside the weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import nnabla as nn
import nnabla.utils.save
import numpy as np
from nnabla.ext_utils import get_extension_context

from config import to_dict
from inference.networks import Networks, Trained, load_network
from models.networks import INFERENCE
from utils.errors import ConfigError, ResourceError, WeightsError
from utils.files import atomic_path, check_writable, file_digest
from utils.parallel import available_cores

BACKENDS = ("auto", "nnabla", "onnxruntime")
FORMAT = 4  # version of cached ONNX files; increment it if they are exported differently
OPSET = "11"
NNP_NETWORK, NNP_INPUT = "reenactgan", "input"  # names in NNP files
MAX_RELATIVE_ERROR = 1e-4
EMPTY = 0.01  # lower bound of the maximum that errors are divided by: heatmaps of noise can be empty
PACKAGES = {"onnxruntime": "onnxruntime", "onnx": "onnx", "nnabla.utils.converter.onnx": "nnabla-converter"}
INSTALL = "pip install onnx==1.17.0 onnxruntime==1.23.2 && pip install --no-deps nnabla-converter==1.39.0"

_loading = threading.Lock()  # nnabla's context and scope, and stdout, are global to the process


class Backend(Protocol):
    """Runs the networks of a reenactment."""

    name: str

    def infer(self, module: str, x: np.ndarray) -> np.ndarray:
        """Run a network on a batch (B, C, H, W) float32 and return a new array."""
        ...


class NnablaBackend:
    """nnabla on the CPU or a GPU."""

    name = "nnabla"

    def __init__(self, networks: Networks, batch_size: int):
        self._graphs = {}
        with nn.parameter_scope("", OrderedDict()):  # a scope that no other backend shares
            for module, trained in networks.items():
                x = nn.Variable((batch_size, *INFERENCE[module].input_shape))
                self._graphs[module] = x, load_network(module, trained, x)

    def infer(self, module: str, x: np.ndarray) -> np.ndarray:
        """Run a network on a batch (B, C, H, W) float32 and return a new array."""
        variable, output = self._graphs[module]
        variable.d = x
        output.forward(clear_buffer=True)
        return output.d.copy()


class OnnxBackend:
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"

    def __init__(self, networks: Networks, batch_size: int):
        require_packages()
        paths = {module: exported(module, trained, batch_size) for module, trained in networks.items()}
        self._sessions = {module: open_session(path) for module, path in paths.items()}

    def infer(self, module: str, x: np.ndarray) -> np.ndarray:
        """Run a network on a batch (B, C, H, W) float32 and return a new array."""
        return self._sessions[module](x)[0]


def open_backend(backend: str, context: str, networks: Networks, batch_size: int) -> Backend:
    """Load networks into a backend. Concurrent calls wait for each other.

    Args:
        backend: one of `BACKENDS`; `auto` is nnabla on a GPU, else ONNX Runtime if it is installed.
        context: nnabla's context, `cpu` or `cudnn`.

    Raises ConfigError if ONNX Runtime is requested and unavailable, WeightsError if weights are invalid.
    """
    reason = _why_not_onnx(context, networks) if backend == "auto" else ""
    if backend == "auto":
        backend = "nnabla" if reason else "onnxruntime"
    elif backend == "onnxruntime" and context == "cudnn":
        raise ConfigError("--backend onnxruntime runs on the CPU; add '-c cpu', or use nnabla")
    print(f"backend: {backend}" + (f" ({reason})" if reason else ""))
    with _loading:
        return NnablaBackend(networks, batch_size) if backend == "nnabla" else OnnxBackend(networks, batch_size)


def _why_not_onnx(context: str, networks: Networks) -> str:
    if context == "cudnn":
        return "on a GPU"
    if any(trained.config.test.batch_stat for trained in networks.values()):
        return "test.batch_stat is on, which ONNX does not support"
    missing = missing_packages()
    return f"{', '.join(missing)} not installed, which would be faster" if missing else ""


def missing_packages() -> list[str]:
    """Return the packages for ONNX that are not installed."""

    def is_installed(module: str) -> bool:
        try:
            return importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            return False

    return [package for module, package in PACKAGES.items() if not is_installed(module)]


def require_packages() -> None:
    """Raise a ConfigError if a package for ONNX is missing."""
    if missing := missing_packages():
        raise ConfigError(f"{', '.join(missing)} not installed; run '{INSTALL}'")


def cached_path(module: str, trained: Trained, batch_size: int) -> Path:
    """Return the path of a network's cached ONNX file, which contains a hash of its weights and configuration."""
    key = [FORMAT, module, to_dict(trained.config), batch_size, file_digest(trained.weights)]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_folder(trained.weights.parent) / f".{trained.weights.stem}.{digest[:20]}.onnx"


@lru_cache
def cache_folder(preferred: Path) -> Path:
    """Return a writable folder for cached files: the preferred one, else the user's, else a temporary one.

    Raises ResourceError if none is writable.
    """
    own = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "reenactgan"
    shared = Path(tempfile.gettempdir()) / f"reenactgan-{os.getuid()}"
    folders = [preferred, *([own] if own.is_absolute() else []), shared]
    for number, folder in enumerate(folders):
        with suppress(ResourceError, OSError):
            check_writable(folder, "cache")
            if number and folder.exists() and folder.stat().st_uid != os.getuid():
                continue  # another user could put files there
            if number:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                print(f"note: {preferred} is not writable; exported networks are cached in {folder}")
            return folder
    raise ResourceError(f"none of {', '.join(map(str, folders))} is writable; set XDG_CACHE_HOME to a folder")


def exported(module: str, trained: Trained, batch_size: int) -> Path:
    """Return the cached ONNX file of a network; export it if necessary. Raises WeightsError if that fails."""
    if not trained.weights.is_file():
        raise WeightsError(f"{trained.weights}: no such weights file; train the network or download weights")
    path = cached_path(module, trained, batch_size)
    if path.exists():
        print(f"weights of the {module}: {trained.weights}")
    else:
        print(f"exporting the {module} once: {path}")
        export({module: trained}, path, batch_size=batch_size)
    return path


@contextlib.contextmanager
def _converting_in(folder: Path) -> Iterator[None]:
    """Silence the converters, and put their temporary files into a folder."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    loggers = [logging.getLogger(name) for name in ("nnabla", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tempfile.tempdir = before
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def export(networks: Networks, *paths: Path, batch_size: int = 1) -> list[float]:
    """Write one network, or several in a row, as one graph with an output for each: `.onnx`, or `.nnp` for NNabla.

    Returns the maximum error of each file against nnabla on random input, relative to each output's maximum. Raises
    ConfigError for batch statistics or a missing package, WeightsError if the weights do not fit or the export is
    inaccurate.
    """
    require_packages()
    for module, trained in networks.items():
        if trained.config.test.batch_stat:
            raise ConfigError(f"test.batch_stat of the {module} is on, which ONNX does not support; use nnabla")
    first = next(iter(networks))
    with nn.parameter_scope("", OrderedDict()), nn.context_scope(get_extension_context("cpu")):
        x = h = nn.Variable((batch_size, *INFERENCE[first].input_shape))
        outputs = {}
        for module, trained in networks.items():
            h = outputs[module] = load_network(module, trained, h)
            h.persistent = True
        return [_export_to(path, x, outputs, batch_size) for path in paths]


def _export_to(path: Path, x: nn.Variable, outputs: dict[str, nn.Variable], batch_size: int) -> float:
    with atomic_path(path) as temporary:
        if path.suffix == ".nnp":
            _save_nnp(x, outputs, temporary, batch_size)
            found = _run_nnp(temporary, x, list(outputs), batch_size)
        else:
            _convert(x, outputs, temporary, batch_size)
            found = open_session(temporary)(_random_input(x))
        error = _compare(x, outputs, found)
        if not error <= MAX_RELATIVE_ERROR:
            raise WeightsError(f"{path}: the exported network differs from nnabla's by {error:.2g}; use nnabla")
    return error


def _save_nnp(x: nn.Variable, outputs: dict[str, nn.Variable], path: Path, batch_size: int) -> None:
    network = {"name": NNP_NETWORK, "batch_size": batch_size, "outputs": outputs, "names": {NNP_INPUT: x}}
    executor = {"name": "run", "network": NNP_NETWORK, "data": [NNP_INPUT], "output": list(outputs)}
    with _converting_in(path.parent):
        nnabla.utils.save.save(str(path), {"networks": [network], "executors": [executor]})


def _run_nnp(path: Path, x: nn.Variable, names: list[str], batch_size: int) -> list[np.ndarray]:
    from nnabla.utils.nnp_graph import NnpLoader

    with nn.parameter_scope("", OrderedDict()), _converting_in(path.parent):
        network = NnpLoader(str(path)).get_network(NNP_NETWORK, batch_size)
        network.inputs[NNP_INPUT].d = _random_input(x)
        outputs = [network.variables[name] for name in names]  # `outputs` lacks inner ones
        for output in outputs:
            output.persistent = True
        nn.forward_all(outputs)
        return [output.d for output in outputs]


def _convert(x: nn.Variable, outputs: dict[str, nn.Variable], path: Path, batch_size: int) -> None:
    from nnabla.utils.converter.nnabla import NnpImporter
    from nnabla.utils.converter.onnx import OnnxExporter

    nnp = path.parent / "chain.nnp"
    _save_nnp(x, outputs, nnp, batch_size)
    with _converting_in(path.parent):
        importer = NnpImporter(str(nnp), expand_network=False, executor_index=0)
        OnnxExporter(importer.execute(), batch_size, -1, opset=OPSET).execute(str(path))


def _random_input(x: nn.Variable) -> np.ndarray:
    low = -1 if x.shape[1] == 3 else 0
    return np.random.default_rng(0).uniform(low, 1, x.shape).astype(np.float32)


def _compare(x: nn.Variable, outputs: dict[str, nn.Variable], found: list[np.ndarray]) -> float:
    x.d = _random_input(x)
    nn.forward_all(list(outputs.values()))
    truths = [output.d for output in outputs.values()]
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), EMPTY)) for a, b in zip(found, truths))


def open_session(path: Path, num_threads: int | None = None) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Open an ONNX file as a function from its input to its outputs. Raises WeightsError if the file is damaged."""
    import onnxruntime  # slow to import

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or available_cores()  # the default ignores a container's limits
    options.log_severity_level = 3
    # spinning threads would slow down those that read and write frames
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise WeightsError(f"{path}: not a complete ONNX file ({str(error).splitlines()[0]}); remove it") from None
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})
