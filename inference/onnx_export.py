"""Networks as ONNX files, written by nnabla's own converter, checked against nnabla and kept with their weights.

The converter is the package nnabla-converter, installed without its dependencies (README).
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
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import nnabla as nn
import nnabla.utils.save
import numpy as np
from nnabla.ext_utils import get_extension_context

from config import to_dict
from inference.trained import Networks, Trained, load_network
from models.networks import INFERENCE
from utils.errors import ConfigError, ResourceError, WeightsError
from utils.files import atomic_path, check_writable, file_digest
from utils.libraries import load
from utils.parallel import available_cores, require_threads

FORMAT = 3  # version of the exported files; raise it when they are made differently
OPSET = "11"
MAX_RELATIVE_ERROR = 1e-4
EMPTY = 0.01  # heatmaps of noise can be empty: what stays below this has nothing that an error is a share of
NEEDED = {"onnxruntime": "onnxruntime", "onnx": "onnx", "nnabla.utils.converter.onnx": "nnabla-converter"}
HOW_TO_INSTALL = "pip install onnx==1.17.0 onnxruntime==1.23.2 && pip install --no-deps nnabla-converter==1.39.0"


def missing_packages() -> list[str]:
    """List the packages that exporting and running needs and that are not installed."""

    def is_there(module: str) -> bool:
        try:
            return importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            return False

    return [package for module, package in NEEDED.items() if not is_there(module)]


def require_packages() -> None:
    """Raise a ConfigError if a package is missing."""
    missing = missing_packages()
    if missing:
        raise ConfigError(f"{', '.join(missing)} not installed; '{HOW_TO_INSTALL}'")


def cached_path(module: str, trained: Trained, batch_size: int) -> Path:
    """Return where a network's ONNX file is kept: with its weights, named by a hash of all that decides it."""
    config, weights = trained.config, trained.weights
    options = [to_dict(config.model), getattr(config, "norm_type", None), getattr(config, "loss_name", None)]
    what = [FORMAT, module, *options, batch_size]
    digest = hashlib.sha256(f"{file_digest(weights)} {json.dumps(what, sort_keys=True)}".encode()).hexdigest()
    return cache_folder(weights.parent) / f".{weights.stem}.{digest[:20]}.onnx"


@lru_cache
def cache_folder(beside: Path) -> Path:
    """Choose where files made of weights are kept: with them, else in the user's cache, else with temporary files.

    Raises:
        ResourceError: none of them can be written to.
    """
    own = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "reenactgan"
    # a user who is unknown has no home, and keeps a '~'
    folders = [beside, *([own] if own.is_absolute() else []), Path(tempfile.gettempdir()) / f"reenactgan-{os.getuid()}"]
    for number, folder in enumerate(folders):
        with suppress(ResourceError, OSError):
            check_writable(folder, "cache")
            if number and folder.exists() and folder.stat().st_uid != os.getuid():
                continue  # what is kept there is somebody else's
            if number:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                print(f"note: {beside} cannot be written to; networks made of its weights are kept in {folder}")
            return folder
    raise ResourceError(f"none of {', '.join(map(str, folders))} can be written to; set XDG_CACHE_HOME to a folder")


def exported(module: str, trained: Trained, batch_size: int) -> Path:
    """Return the ONNX file of a network, made where it is not there yet.

    Raises:
        WeightsError: the weights are not of this network, or the exported network gives other numbers.
    """
    if not trained.weights.is_file():
        raise WeightsError(f"{trained.weights}: no such weights file; train the network or download its weights")
    path = cached_path(module, trained, batch_size)
    if not path.exists():
        print(f"exporting the {module} once: {path}")
        export({module: trained}, path, batch_size)
    return path


@contextlib.contextmanager
def _converting_in(folder: Path) -> Iterator[None]:
    """Silence the converters, which speak of their progress, and have their temporary files in a folder with room."""
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


def export(networks: Networks, path: Path, batch_size: int = 1) -> float:
    """Write one network, or several in a row, as one ONNX graph with an output for each.

    Args:
        networks: in the order encoder, transformer, decoder; any of them may be missing at either end.

    Returns:
        the largest error against nnabla on random input, as a share of the largest number of each output.

    Raises:
        ConfigError: batch statistics are wanted, which ONNX does not have, or a package is missing.
        WeightsError: the weights are not of this network, or the exported graph gives other numbers.
    """
    require_packages()
    for module, trained in networks.items():
        if trained.config.test.batch_stat:
            raise ConfigError(f"the {module}'s test.batch_stat is on: ONNX has no batch statistics; use nnabla")
    first = next(iter(networks))
    # networks of their own, on the CPU, whatever else this process has in memory
    with nn.parameter_scope("", OrderedDict()), nn.context_scope(get_extension_context("cpu")):
        x = h = nn.Variable((batch_size, *INFERENCE[first].input_shape))
        outputs = {}
        for module, trained in networks.items():
            h = outputs[module] = load_network(module, trained, h)
            h.persistent = True
        with atomic_path(path) as temporary:
            _convert(x, outputs, temporary, batch_size)
            error = _compare(x, outputs, temporary)
            if not error <= MAX_RELATIVE_ERROR:
                raise WeightsError(f"{path}: the exported network is {error:.2g} off nnabla's numbers; use nnabla")
    return error


def _convert(x: nn.Variable, outputs: dict[str, nn.Variable], path: Path, batch_size: int) -> None:
    importers, exporters = (load(f"nnabla.utils.converter.{name}", HOW_TO_INSTALL) for name in ("nnabla", "onnx"))
    network = {"name": "chain", "batch_size": batch_size, "outputs": outputs, "names": {"input": x}}
    executor = {"name": "run", "network": "chain", "data": ["input"], "output": list(outputs)}
    with _converting_in(path.parent):
        nnp = str(path.parent / "chain.nnp")  # in a temporary folder
        nnabla.utils.save.save(nnp, {"networks": [network], "executors": [executor]})
        importer = importers.NnpImporter(nnp, expand_network=False, executor_index=0)
        exporters.OnnxExporter(importer.execute(), batch_size, -1, opset=OPSET).execute(str(path))


def _compare(x: nn.Variable, outputs: dict[str, nn.Variable], path: Path) -> float:
    rng = np.random.default_rng(0)
    low = -1 if x.shape[1] == 3 else 0
    x.d = numbers = rng.uniform(low, 1, x.shape).astype(np.float32)
    nn.forward_all(list(outputs.values()))
    found = open_session(path)(numbers)
    truths = [output.d for output in outputs.values()]
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), EMPTY)) for a, b in zip(found, truths))


def open_session(path: Path, num_threads: int | None = None) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Open a file as a function from its input to its outputs.

    Raises:
        WeightsError: it is no ONNX file.
        LibraryError: ONNX Runtime cannot be loaded.
    """
    onnxruntime = load("onnxruntime", HOW_TO_INSTALL)
    options = onnxruntime.SessionOptions()
    # not the machine's cores, of which a container may have fewer
    options.intra_op_num_threads = num_threads or available_cores()
    require_threads(options.intra_op_num_threads)
    options.log_severity_level = 3
    # threads that spin would take time from the ones that read and write frames
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises types of its own, all below Exception
        raise WeightsError(f"{path}: not a complete ONNX file ({str(error).splitlines()[0]}); remove it") from None
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})
