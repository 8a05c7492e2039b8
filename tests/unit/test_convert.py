"""The authors' files to ours; those tests that need PyTorch skip where no Python has it.

REENACTGAN_TORCH_PYTHON names a Python that has PyTorch, numpy and h5py, where it is not the one that runs the tests.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nnabla as nn
import numpy as np
import pytest
from helpers import ROOT, must_fail

from models.align import align
from models.decoder import decoder
from models.encoder import encoder
from models.network import Network
from models.transformer import transformer
from tools.convert_authors_weights import NETWORKS, import_torch, parameters_of, read_pca, to_ours, write_h5
from utils.errors import ConfigError, WeightsError
from utils.weights import read_manifest, read_parameters

TORCH_PYTHON = os.environ.get("REENACTGAN_TORCH_PYTHON", sys.executable)
AUTHORS = ROOT.parent / "shared/weights/authors"
OURS = {
    "encoder": lambda x: encoder(x, batch_stat=False),
    "transformer": lambda x: [transformer(x, batch_stat=False)],
    "transformer-instance-norm": lambda x: [transformer(x, "instance_norm", batch_stat=False)],
    "decoder": lambda x: [decoder(x, training=False)],
    "align": lambda x: [align(x, batch_stat=False)],
}


@functools.cache
def has_torch() -> bool:
    return subprocess.run([TORCH_PYTHON, "-c", "import torch, h5py"], capture_output=True).returncode == 0


@pytest.fixture
def torch_python():
    if not has_torch():
        pytest.skip("no PyTorch; REENACTGAN_TORCH_PYTHON can name a Python that has it")


def with_torch(script: str, *args: object) -> str:
    command = [TORCH_PYTHON, str(ROOT / script), *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def convert(*args: object) -> str:
    return with_torch("tools/convert_authors_weights.py", *args)


def state_of(network: str) -> dict[str, np.ndarray]:
    """A state dict of numbers that are all different."""
    state, start = {}, 0
    for parameter in parameters_of(network):
        size = int(np.prod(parameter.shape))
        state[parameter.theirs] = np.arange(start, start + size, dtype=np.float32).reshape(parameter.their_shape())
        start = (start + size) % 2**23
    return state


@pytest.mark.parametrize("network", NETWORKS)
def test_every_array_comes_back(network, tmp_path):
    state = state_of(network)
    arrays = to_ours(Path("x.pth"), state, network)
    write_h5(tmp_path / "x.h5", arrays, NETWORKS[network].manifest)
    again = read_parameters(tmp_path / "x.h5", read_manifest(NETWORKS[network].manifest))
    for parameter in parameters_of(network):
        found, given = again[parameter.ours], state[parameter.theirs]
        assert np.array_equal(found.ravel(), (given.T if "/affine/" in parameter.ours else given).ravel())


def test_names_of_the_authors_files():
    names = {parameter.ours: parameter.theirs for parameter in parameters_of("encoder")}
    assert names["hourglass1/0.3.0/conv2/conv/W"] == "model.0.hg.1.hg.0.3.0.conv2.weight"
    assert names["layer1/downsample/conv/b"] == "model.0.layer1.0.downsample.0.bias"
    assert names["fc0/bn/var"] == "model.0.fc.0.1.running_var"
    assert names["fc_/conv/W"] == "model.0.fc_.0.weight"
    names = {parameter.ours: parameter.theirs for parameter in parameters_of("align")}
    assert names["layer7_0/downsample/bn/gamma"] == "module.model.7.0.downsample.1.weight"
    assert names["mlp3/affine/b"] == "module.mlp.3.bias"


@pytest.mark.parametrize("network", ["align", "decoder"])
def test_what_does_not_fit_is_listed(network):
    state = state_of(network)
    first = next(iter(state))
    with pytest.raises(WeightsError, match="1 unknown: more"):
        to_ours(Path("x.pth"), {**state, "more": np.zeros(1, np.float32)}, network)
    last = list(state)[-1]
    with pytest.raises(WeightsError, match="1 missing: "):
        to_ours(Path("x.pth"), {key: array for key, array in state.items() if key != last}, network)
    with pytest.raises(WeightsError, match=first.removeprefix("module.")):
        to_ours(Path("x.pth"), {**state, first: state[first][:1]}, network)


def test_the_pca_is_the_same_map(tmp_path):
    rng = np.random.default_rng(0)
    weight, bias, x = rng.normal(size=(212, 212)), rng.normal(size=212), rng.normal(size=212)
    np.savetxt(tmp_path / "weight_212.txt", weight)
    np.savetxt(tmp_path / "bias_212.txt", bias)
    arrays = read_pca(tmp_path)
    np.testing.assert_allclose(x @ arrays["affine/W"] + arrays["affine/b"], weight @ x + bias, rtol=1e-4, atol=1e-4)


def test_needs_neither_nnabla_nor_pytorch_to_be_imported():
    code = "import sys, tools.convert_authors_weights; print('nnabla' in sys.modules, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"


def test_wrong_input(tmp_path):
    script = "tools/convert_authors_weights.py"
    must_fail(tmp_path, 2, "must end in .h5", script, "align", "a.pth", "b.pth")
    must_fail(tmp_path, 4, "weight_212.txt: no such file", script, "pca", tmp_path, "b.h5")
    (tmp_path / "weight_212.txt").write_text("1 2\n3 4\n")
    must_fail(tmp_path, 4, "(2, 2) numbers", script, "pca", tmp_path, "b.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weight_212.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_converted_networks_give_the_same_output(network, tmp_path, torch_python):
    with_torch("tests/reference/torch_output.py", network, tmp_path)
    convert(network, tmp_path / "weights.pth", tmp_path / "weights.h5")
    answer = np.load(tmp_path / "output.npz")
    x = nn.Variable.from_numpy_array(answer["x"])
    with nn.parameter_scope(network):
        outputs = OURS[network](x)
    Network(network).load(tmp_path / "weights.h5")
    nn.forward_all(outputs)
    for index, output in enumerate(outputs):
        truth = answer[f"y{index}"]
        assert abs(output.d - truth).max() < 1e-5 * abs(truth).max()
        assert truth.std() > 0.1


def test_a_file_that_is_no_state_dict(tmp_path, torch_python):
    (tmp_path / "x.pth").write_bytes(b"no weights")
    code = (
        "import torch, os\n"
        "class Evil:\n"
        "    def __reduce__(self): return (os.mkdir, ('was-run',))\n"
        "torch.save({'a': Evil()}, 'evil.pth')\n"
        "torch.save({'a': 1}, 'numbers.pth')\n"
        "torch.save({'module.model.0.weight': torch.full((3, 15, 3, 3), float('nan'))}, 'nan.pth')\n"
    )
    subprocess.run([TORCH_PYTHON, "-c", code], cwd=tmp_path, check=True)
    script = ROOT / "tools/convert_authors_weights.py"
    for name, words in (
        ("x.pth", "not a file of PyTorch tensors"),
        ("evil.pth", "not a file of PyTorch tensors"),
        ("numbers.pth", "not a state dict"),
        ("nan.pth", "not finite"),
    ):
        command = [TORCH_PYTHON, str(script), "align", name, "out.h5"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 4 and words in result.stderr and "Traceback" not in result.stderr, result.stderr
    assert not (tmp_path / "was-run").exists() and not (tmp_path / "out.h5").exists()


@pytest.mark.skipif(not AUTHORS.exists(), reason="the authors' files are not here")
def test_the_authors_pca_whitens_landmarks(tmp_path):
    arrays = read_pca(AUTHORS / "pca_init")
    inverse = np.loadtxt(AUTHORS / "pca_init/inverse_weight_212.txt")
    mean = np.loadtxt(AUTHORS / "pca_init/inverse_bias_212.txt")
    # their inverse takes components to landmarks; ours then takes these to the same components
    components = np.eye(3, 212)
    landmarks = components @ inverse.T + mean
    again = landmarks @ arrays["affine/W"].astype(float) + arrays["affine/b"]
    np.testing.assert_allclose(again[:, :3], np.eye(3), atol=1e-3)


@pytest.mark.skipif(not AUTHORS.exists(), reason="the authors' files are not here")
def test_the_authors_align_network(tmp_path, torch_python):
    convert("align", AUTHORS / "Align_40000.pth", tmp_path / "a.h5")
    with nn.parameter_scope("align"):
        landmarks = align(nn.Variable.from_numpy_array(np.zeros((4, 15, 64, 64))), batch_stat=False)
    Network("align").load(tmp_path / "a.h5")
    landmarks.forward()
    assert landmarks.d.min() > 0 and landmarks.d.max() < 64  # in pixels of the heatmap


def test_an_old_pytorch_is_refused(monkeypatch):
    """Loading without executing what a file says came with 1.13."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="1.12.1+cu102"))
    with pytest.raises(ConfigError, match="PyTorch 1.12.1.cu102 is too old"):
        import_torch()
    for version in ("1.13.0", "2.9.1+cpu", "2.11"):
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=version))
        assert import_torch().__version__ == version
