"""Convert the authors' PyTorch weights to HDF5.

    python tools/convert_authors_weights.py encoder v8_net_boundary_detection.pth encoder.h5
    python tools/convert_authors_weights.py align Align_40000.pth Align_40000.h5
    python tools/convert_authors_weights.py pca pca_init PCA_weights.h5

Requires PyTorch and h5py, but not nnabla. `pca` is a folder with weight_212.txt and bias_212.txt, and does not require
PyTorch.
"""

from __future__ import annotations

import argparse
import pickle
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.ending import call_main

from utils import cli
from utils.errors import ConfigError, WeightsError
from utils.files import atomic_path, check_outputs, open_file
from utils.weights import listed, read_manifest, require_names, write_arrays

# order of parameters in a PyTorch module
TORCH_ORDER = ("weight", "bias", "running_mean", "running_var")
KINDS = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}
NOT_CONVERTED = "num_batches_tracked"  # counter of newer PyTorch versions

# from our module names to the authors', which are those of the stacked hourglass and of the released align network
ENCODER_NAMES = (
    (r"^(layer\d)/downsample$", r"\1.0.downsample.0"),
    (r"^(layer\d)/", r"\1.0."),
    (r"^hourglass(\d)/(\d\.\d\.\d)/", r"hg.\1.hg.\2."),
    (r"^res(\d)/", r"res.\1.0."),
    (r"^fc(\d)/bn$", r"fc.\1.1"),
    (r"^fc(\d)$", r"fc.\1.0"),
    (r"^score(\d)$", r"score.\1"),
    (r"^(fc|score)_$", r"\1_.0"),
    (r"^", "model.0."),
)
ALIGN_NAMES = (
    (r"^layer(\d)_(\d)/downsample/bn$", r"model.\1.\2.downsample.1"),
    (r"^layer(\d)_(\d)/downsample$", r"model.\1.\2.downsample.0"),
    (r"^layer(\d)_(\d)/", r"model.\1.\2."),
    (r"^layer(\d)(/bn)?$", r"model.\1"),
    (r"^mlp(\d)$", r"mlp.\1"),
    (r"^", "module."),
)
# Layers of the generators are identified by their order, because their names are positions in containers.
TRANSFORMER_POSITIONS = {"conv1": 1, "conv2": 4, "conv3": 7, "deconv1": 19, "deconv2": 22, "deconv3": 26}


class Network(NamedTuple):
    manifest: str
    names: tuple[tuple[str, str], ...] | None  # patterns; None identifies layers by their order


NETWORKS = {
    "encoder": Network("encoder", ENCODER_NAMES),
    "transformer": Network("transformer_generator_batch_norm", None),
    "transformer-instance-norm": Network("transformer_generator_instance_norm", None),
    "decoder": Network("decoder_generator", None),
    "align": Network("align", ALIGN_NAMES),
}
PCA = "pca"
PCA_WEIGHT, PCA_BIAS = "weight_212.txt", "bias_212.txt"


class Parameter(NamedTuple):
    ours: str  # name in an h5 file
    theirs: str  # name in a state dict
    shape: tuple[int, ...]  # ours

    def their_shape(self) -> tuple[int, ...]:
        if "/affine/" in self.ours:
            return self.shape[::-1]
        return self.shape[1:2] if self._is_norm() else self.shape

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        return (array.T if "/affine/" in self.ours else array).reshape(self.shape)

    def _is_norm(self) -> bool:
        return self.ours.rpartition("/")[2] in ("gamma", "beta", "mean", "var")


def parameters_of(name: str) -> list[Parameter]:
    """Return the parameters of a network in the order of a state dict."""
    network = NETWORKS[name]
    modules: dict[str, dict[str, Parameter]] = {}
    for ours, shape in read_manifest(network.manifest).items():
        module, _, leaf = ours.rpartition("/")
        theirs = _renamed(module, network.names) if network.names else _position(name, module)
        modules.setdefault(module, {})[KINDS[leaf]] = Parameter(ours, f"{theirs}.{KINDS[leaf]}", shape)
    return [kinds[kind] for kinds in modules.values() for kind in TORCH_ORDER if kind in kinds]


def _renamed(module: str, names: tuple[tuple[str, str], ...]) -> str:
    # `x/bn` belongs to the layer after `x/conv`; `bn1/bn` is a separate layer
    module = re.sub(r"/(conv|deconv|affine)$", "", module)
    module = re.sub(r"(bn\d)/bn$", r"\1", module)
    for pattern, replacement in names:
        module = re.sub(pattern, replacement, module)
    return module


def _position(name: str, module: str) -> str:
    layer, _, kind = module.rpartition("/")
    is_norm = kind in ("bn", "instance_normalization")
    if name == "decoder":
        return f"{layer}.{'norm' if is_norm else 'conv'}"
    match = re.fullmatch(r"res(\d)/block(\d)", layer)
    if match:
        block, half = int(match.group(1)), int(match.group(2))
        return f"model.{9 + block}.conv_block.{4 * half - 3 + is_norm}"
    return f"model.{TRANSFORMER_POSITIONS[layer] + is_norm}"


def to_ours(path: Path, state: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Convert names and shapes of a state dict. Raises WeightsError if names or shapes do not match the network."""
    parameters = parameters_of(name)
    state = {key: array for key, array in state.items() if not key.endswith(NOT_CONVERTED)}
    if NETWORKS[name].names:
        state = {_without_prefix(key): array for key, array in state.items()}
        found = {key: array.shape for key, array in state.items()}
        require_names(path, found, {_without_prefix(p.theirs): p.their_shape() for p in parameters})
        return {p.ours: p.to_ours(state[_without_prefix(p.theirs)]) for p in parameters}
    _require_places(path, state, parameters)
    return {p.ours: p.to_ours(array) for p, array in zip(parameters, state.values())}


def _without_prefix(key: str) -> str:
    return key.removeprefix("module.")


def _require_places(path: Path, state: dict[str, np.ndarray], parameters: list[Parameter]) -> None:
    problems = [
        f"{key} {array.shape} where {p.ours} needs {p.theirs.rpartition('.')[2]} {p.their_shape()}"
        for (key, array), p in zip(state.items(), parameters)
        if array.shape != p.their_shape() or key.rpartition(".")[2] != p.theirs.rpartition(".")[2]
    ]
    extra, missing = list(state)[len(parameters) :], [p.ours for p in parameters[len(state) :]]
    if extra:
        problems.append(f"{len(extra)} unknown: {listed(extra)}")
    if missing:
        problems.append(f"{len(missing)} missing: {listed(missing)}")
    if problems:
        raise WeightsError(f"{path}: not the weights of this network; {listed(problems)}")


def import_torch() -> Any:
    """Import PyTorch. Raises ConfigError if it is missing or too old."""
    try:
        import torch
    except ModuleNotFoundError:
        raise ConfigError(
            "PyTorch is not installed; run 'pip install torch numpy h5py' in a separate environment"
        ) from None
    # older versions execute code from files
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (1, 13):
        raise ConfigError(f"PyTorch {torch.__version__} is too old to load files safely; 'pip install torch>=1.13'")
    return torch


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a .pth file without executing code. Raises WeightsError if it is not a valid state dict."""
    torch = import_torch()
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, UnicodeDecodeError):
        raise WeightsError(f"{path}: not a file of PyTorch tensors; save the network's state_dict()") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: not a state dict (tensors by name); save the network's state_dict()")
    arrays = {str(key): value.numpy() for key, value in state.items()}
    for key, array in arrays.items():
        if key.endswith(NOT_CONVERTED):
            continue
        if array.dtype != np.float32:
            raise WeightsError(f"{path}: '{key}' is {array.dtype} instead of float32")
        if not np.isfinite(array).all():
            raise WeightsError(f"{path}: '{key}' has values that are not finite; download it again")
    return arrays


def write_h5(path: Path, arrays: dict[str, np.ndarray], manifest: str) -> None:
    """Write an h5 file in the order of the published files."""
    with atomic_path(path) as temporary:
        write_arrays(
            temporary,
            {name: arrays[name] for name in read_manifest(manifest)},
            {name: not name.endswith(("/mean", "/var")) for name in arrays},
        )


def read_pca(folder: Path) -> dict[str, np.ndarray]:
    """Read the authors' text files (y = W x + b) as nnabla's affine map (x W' + b)."""
    arrays = {}
    for name, ours, shape in ((PCA_WEIGHT, "affine/W", (212, 212)), (PCA_BIAS, "affine/b", (212,))):
        try:
            with open_file(folder / name, "r") as file:
                array = np.loadtxt(file).astype(np.float32)
        except FileNotFoundError:
            raise WeightsError(f"{folder / name}: no such file; pass the folder that contains it") from None
        except OSError as error:
            raise WeightsError(f"{folder / name}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise WeightsError(f"{folder / name}: not a table of numbers ({error})") from None
        if array.shape != shape or not np.isfinite(array).all():
            raise WeightsError(f"{folder / name}: {array.shape} numbers, expected {shape} finite ones")
        arrays[ours] = array.T
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=(*NETWORKS, PCA))
    parser.add_argument("source", type=cli.path, metavar="FROM", help="FILE.pth, or the folder of text files for pca")
    parser.add_argument("target", type=cli.path, metavar="TO.h5")
    args = parser.parse_args()
    check_outputs({"TO": args.target}, [args.source], ".h5")
    if args.network == PCA:
        arrays, manifest = read_pca(args.source), PCA
    else:
        arrays = to_ours(args.source, read_state_dict(args.source), args.network)
        manifest = NETWORKS[args.network].manifest
    write_h5(args.target, arrays, manifest)
    print(f"{args.network}: {len(arrays)} arrays from {args.source} to {args.target}")


if __name__ == "__main__":
    call_main(main)
