"""GPU code without a GPU: replacements of the extension and its communicator."""

from __future__ import annotations

import _ctypes
import importlib.util
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nnabla as nn
import nnabla_ext
import pytest
from helpers import PATIENCE_S, ROOT, must_fail, must_run
from reference.steps import small_config

import train_decoder
import train_encoder
import train_shape_prior
import train_transformer
from config import with_values
from training import communicator
from utils import cuda
from utils.context import set_context
from utils.errors import ConfigError

# messages of the extension without a device, and with an old version of NVIDIA's software
NO_DEVICE = """target_specific error in get_device_count
/builders/nnabla-ext-cuda/src/nbla/cuda/common.cpp:58
(cudaGetDeviceCount(&count)) failed with "no CUDA-capable device is detected" (cudaErrorNoDevice).
"""
OLD_DRIVER = NO_DEVICE.replace("no CUDA-capable device is detected", "CUDA driver version is insufficient for CUDA")


def load(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem + "_script", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_make_gpu_says_why_the_gpu_cannot_be_used():
    done = subprocess.run(
        [sys.executable, str(ROOT / "setup/gpu.py")], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 6 and "error: the GPU cannot be used: " in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["requirements-cuda11.txt", "requirements-cuda12.txt"])
def test_every_library_is_pinned_and_of_one_cuda(name):
    lines = [line for line in (ROOT / "setup" / name).read_text().splitlines() if not line.startswith("#")]
    assert len(lines) >= 8 and all(line.count("==") == 1 for line in lines)
    cuda_version, extension_version = ("11", "116") if "11" in name else ("12", "120")
    assert lines[0] == f"nnabla-ext-cuda{extension_version}=={nn.__version__}"
    assert all(f"-cu{cuda_version}==" in line for line in lines[1:])


@pytest.fixture
def extension(tmp_path, monkeypatch):
    """Put a stand-in for nnabla's extension in its place."""

    def install(code: str) -> None:
        (tmp_path / "cudnn").mkdir()
        (tmp_path / "cudnn" / "__init__.py").write_text(textwrap.dedent(code))

    monkeypatch.setattr(nnabla_ext, "__path__", [str(tmp_path), *nnabla_ext.__path__])
    monkeypatch.delitem(sys.modules, "nnabla_ext.cudnn", raising=False)
    before = nn.get_current_context()
    yield install
    sys.modules.pop("nnabla_ext.cudnn", None)
    nn.set_default_context(before)


DEVICES = """
def get_device_count():
    {}
def array_classes():
    return ["CpuCachedArray"]
"""


@pytest.mark.parametrize(
    "code, words",
    [
        ('raise ImportError("libcudart.so.12: cannot open shared object file: No such file")', "make gpu"),
        ('raise ImportError("libcuda.so.1: cannot open shared object file: No such file")', "driver is not installed"),
        (DEVICES.format(f"raise RuntimeError({NO_DEVICE!r})"), "shows no GPU"),
        (DEVICES.format(f"raise RuntimeError({OLD_DRIVER!r})"), "too old"),
        (DEVICES.format("return 2"), "no device with that number"),
        (DEVICES.format('raise RuntimeError("failed with out of memory (cudaErrorMemoryAllocation).")'), "memory"),
    ],
)
def test_why_there_is_no_gpu(extension, code, words):
    extension(code)
    found = set_context("auto", 2)
    assert found.name == "cpu" and words in found.message and "\n" not in found.message
    assert words in set_context("cudnn", 2, must_have=False).message.splitlines()[0]
    with pytest.raises(ConfigError, match="-c cpu") as caught:
        set_context("cudnn", 2)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_device_that_computes_is_taken(extension, monkeypatch):
    extension(DEVICES.format("return 1"))
    monkeypatch.setattr(cuda, "prove", lambda context: proved.append(context))
    proved: list[nn.Context] = []
    found = set_context("auto", 0, type_config="half")
    assert found.name == "cudnn" and found.message == "context: cudnn, device 0" and found.reason == ""
    assert proved[0].backend[0] == "cudnn:half" and proved[0].device_id == "0"


def test_a_device_that_computes_wrongly_is_none(monkeypatch):
    cpu = nn.get_current_context()
    cuda.prove(cpu)  # this one does not
    monkeypatch.setattr(cuda.F, "convolution", lambda x, kernel: 2 * x)
    with pytest.raises(RuntimeError, match="wrong results"):
        cuda.prove(cpu)


def test_the_reason_is_the_last_line_of_the_chain():
    try:
        try:
            raise ImportError("first line\nlibcublas.so.12: cannot open shared object file")
        except ImportError as error:
            raise ValueError("Extension `cudnn` does not exist.") from error
    except ValueError as error:
        assert cuda.reason_of(error).startswith("libcublas.so.12: cannot open")
    assert cuda.reason_of(KeyError()) == "KeyError"


def test_libraries_of_wheels_are_loaded(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / "nvidia" / name / "lib").mkdir(parents=True)
    real = tmp_path / "nvidia/two/lib/libreal.so.12"
    shutil.copy(_ctypes.__file__, real)
    (tmp_path / "nvidia/one/lib/libbroken.so.8").write_text("no library")
    monkeypatch.syspath_prepend(tmp_path)
    cuda.preload()
    assert str(real) in Path("/proc/self/maps").read_text()


class Nccl:
    """nnabla's communicator under an unknown launcher."""

    rank, size = 0, 1

    def __init__(self, context: nn.Context):
        pass

    def init(self) -> None:
        pass


class NoNccl(Nccl):
    def init(self) -> None:
        raise RuntimeError("value error\nlibnccl.so: cannot open shared object file")


@pytest.mark.parametrize(
    "kind, words", [(Nccl, "4 processes were started, of which nnabla sees 1"), (NoNccl, "libnccl")]
)
@pytest.mark.parametrize("variable", communicator.SIZE_VARIABLES)
def test_processes_that_nnabla_does_not_connect_are_stopped(monkeypatch, kind, words, variable):
    monkeypatch.setenv(variable, "4")
    monkeypatch.setattr("nnabla.communicators.MultiProcessDataParalellCommunicator", kind)
    with pytest.raises(ConfigError, match=words):
        communicator.connect("cudnn")


def losses_of(module: str, batch_size: int) -> list[nn.Variable]:
    """Build a training's graph; returns its losses."""
    if module == "shape_prior":
        graph = train_shape_prior.build_graph(batch_size, 196)
        return [graph.loss, graph.distance]
    config = small_config(module, 2, batch_size)
    if module == "encoder":
        return [train_encoder.build_graph(config, batch_size, training=True).loss]
    if module == "decoder":
        graph = train_decoder.build_graph(config)
    else:
        graph = train_transformer.build_graph(with_values(config, {"norm_type": "instance_norm"}), 196)
    return [graph.discriminator_loss, *graph.generator_losses.values()]


@pytest.mark.parametrize("module", ["encoder", "transformer", "shape_prior", "decoder"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_no_training_computes_what_stops_on_a_gpu(module, batch_size, monkeypatch):
    for name in ("losses", "layers"):
        monkeypatch.setattr(f"models.{name}.current_context", lambda: "cudnn")
    functions = []
    for output in losses_of(module, batch_size):
        output.visit(functions.append)
    names = {function.info.type_name for function in functions}
    assert names.isdisjoint({"Mean", "Max", "Min", "Prod", "Norm", "InstanceNormalization", "LayerNormalization"})
    for function in functions:  # sums down columns alone, of which there is more than one
        if function.info.type_name == "Sum":
            assert function.info.args["axes"] == [0] and function.outputs[0].size > 1
    assert "Affine" in names


KINDS = {
    "convolution": ["difference 0.0e+00 and 0.0e+00"],
    "demo": ["0 of 255"],
    "parity": ["encoder 0.0e+00, transformer 0.0e+00, decoder 0.0e+00"],
    "reenactment": ["frames/s"],
    "training": ["samples/s"] * 3,
    "data": ["waiting"],
    "person": ["held-out frames: pixels PSNR"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds, minutes",
    [
        (["parity"], 10),
        # ten minutes are none that it must fill: without a person it ends when all is measured
        pytest.param([*KINDS][:-1], 10, marks=pytest.mark.long),
        pytest.param(["person"], 1, marks=pytest.mark.long),
    ],
)
def test_the_benchmark_runs_without_a_gpu(tmp_path, kinds, minutes):
    out, fewest = tmp_path / "gpu.md", ("--planes", 2, "--batches", 1, "--rounds", 1)
    must_run(ROOT, "benchmarks/gpu.py", *fewest, "--out", out, "-c", "cpu", "--minutes", minutes, "--only", *kinds)
    rows, expected = out.read_text().splitlines()[4:], [words for kind in kinds for words in KINDS[kind]]
    assert all(words in row for words, row in zip(expected, rows, strict=True)), rows
    assert out.with_suffix(".png").is_file() == ("person" in kinds)


def test_the_benchmark_wants_a_gpu(tmp_path):
    must_fail(ROOT, 2, "'-c cpu' to measure the CPU", "benchmarks/gpu.py", "--out", tmp_path / "gpu.md")


def test_a_case_that_fails_is_a_row_of_the_table():
    benchmark = load("benchmarks/gpu.py")
    case = {"kind": "reenactment", "context": "cpu", "device_id": 0, "type": "float", "batch": 1, "rounds": 1}
    found = benchmark.result_of(case | {"weights": "/nowhere"}, 60)
    assert "/nowhere" in found["error"] and "\n" not in found["error"]
    assert "/nowhere" in benchmark.row_of(case, found)
