"""Networks as ONNX files: the same numbers as nnabla, or no file."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import nnabla as nn
import numpy as np
import onnxruntime
import pytest
from helpers import ROOT, must_fail, must_run
from nnabla.utils.nnp_graph import NnpLoader

from config import complete_config, with_values
from inference import backends as onnx
from inference.backends import NnablaBackend, OnnxBackend, open_backend
from inference.networks import Networks, Trained
from models.networks import INFERENCE
from utils.errors import ConfigError, WeightsError

rng = np.random.default_rng(0)
DEMO = ROOT / "demo/weights"


def networks_in(folder, **more) -> Networks:
    """Small networks with random weights and statistics; of the encoder's, one trained with cross entropy."""
    networks = {}
    for module in INFERENCE:
        config = complete_config(module, {"model": {"planes": 2}, **more.get(module, {})}, None)
        with nn.parameter_scope("made"):
            INFERENCE[module].evaluate(nn.Variable((1, *INFERENCE[module].input_shape)), config)
            for name, variable in INFERENCE[module].parameters().items():
                low, high = (0.5, 1.5) if name.endswith(("var", "gamma")) else (-0.3, 0.3)
                if name.endswith("W"):  # numbers keep their size
                    high = float(np.prod(variable.shape[1:]) / 3) ** -0.5
                    low = -high
                variable.d = rng.uniform(low, high, variable.shape)
            INFERENCE[module].save(folder / f"{module}.h5")
        networks[module] = Trained(config, folder / f"{module}.h5", folder / f"{module}.yaml")
    nn.clear_parameters()
    return networks


@pytest.mark.parametrize("batch_size", [1, 3])
def test_backends_agree(tmp_path, batch_size):
    more = {"encoder": {"loss_name": "bce"}, "transformer": {"norm_type": "instance_norm"}}
    networks = networks_in(tmp_path, **more)
    backends = NnablaBackend(networks, batch_size), OnnxBackend(networks, batch_size)
    for module in INFERENCE:
        x = rng.uniform(0, 1, (batch_size, *INFERENCE[module].input_shape)).astype(np.float32)
        a, b = (backend.infer(module, x) for backend in backends)
        assert a.shape == b.shape and np.abs(a - b).max() < 5e-5 * max(np.abs(a).max(), 0.1)
        assert a.std() > 1e-4
    again = backends[0].infer(module, x)
    assert again is not a and np.array_equal(again, a)  # outputs are the caller's


def with_test(trained: Trained, **test) -> Trained:
    """Return the network with other keys of `test`."""
    return trained._replace(config=with_values(trained.config, {"test": test}))


def decoders_in(folder, count: int) -> list[Networks]:
    """Decoders of different people and widths, for one process."""
    found = []
    for number in range(count):
        (folder / str(number)).mkdir()
        model = {"planes": 2 + number // 2}
        found.append({"decoder": networks_in(folder / str(number), decoder={"model": model})["decoder"]})
    return found


@pytest.mark.parametrize("name", ["nnabla", "onnxruntime"])
def test_people_of_one_process_keep_their_own_weights(tmp_path, name):
    x = rng.uniform(0, 1, (1, *INFERENCE["decoder"].input_shape)).astype(np.float32)
    people = decoders_in(tmp_path, 3)
    alone = []
    for networks in people:
        alone.append(open_backend("nnabla", "cpu", networks, 1).infer("decoder", x))
        nn.clear_parameters()
    together = [open_backend(name, "cpu", networks, 1) for networks in people]
    for expected, backend in zip(alone, together):
        np.testing.assert_allclose(backend.infer("decoder", x), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["nnabla", "onnxruntime"])
def test_threads_load_networks_at_the_same_time(tmp_path, name):
    people, stdout = decoders_in(tmp_path, 4), sys.stdout
    x = rng.uniform(0, 1, (1, *INFERENCE["decoder"].input_shape)).astype(np.float32)
    with ThreadPoolExecutor(len(people)) as threads:
        opened = list(threads.map(lambda networks: open_backend(name, "cpu", networks, 1), people))
        painted = list(threads.map(lambda backend: [backend.infer("decoder", x) for _ in range(5)], opened))
    assert sys.stdout is stdout
    for networks, pictures in zip(people, painted):
        expected = open_backend("nnabla", "cpu", networks, 1).infer("decoder", x)
        for picture in pictures:
            np.testing.assert_allclose(picture, expected, atol=1e-4)


def test_files_are_kept_under_the_hash_of_what_they_are_made_of(tmp_path):
    networks = networks_in(tmp_path)
    trained = networks["encoder"]
    path = onnx.exported("encoder", trained, 1)
    made = path.stat().st_mtime_ns
    assert path.parent == tmp_path and onnx.exported("encoder", trained, 1) == path
    assert path.stat().st_mtime_ns == made
    other = trained._replace(config=with_values(trained.config, {"loss_name": "bce"}))
    assert onnx.cached_path("encoder", other, 1) != path != onnx.cached_path("encoder", trained, 2)
    networks_in(tmp_path)  # other weights in the same file
    assert onnx.cached_path("encoder", trained, 1) != path


def test_other_numbers_leave_no_file(tmp_path, monkeypatch):
    networks = networks_in(tmp_path)
    whole = onnx._convert

    def convert(x, outputs, path, batch_size):
        for name, variable in INFERENCE["decoder"].parameters().items():
            if name.endswith("W"):
                variable.d = variable.d * 1.01
        whole(x, outputs, path, batch_size)
        for name, variable in INFERENCE["decoder"].parameters().items():
            if name.endswith("W"):
                variable.d = variable.d / 1.01

    monkeypatch.setattr(onnx, "_convert", convert)
    with pytest.raises(WeightsError, match="differs from nnabla's"):
        onnx.export({"decoder": networks["decoder"]}, tmp_path / "decoder.onnx")
    assert not list(tmp_path.glob("*.onnx")) and not list(tmp_path.glob(".*"))


def test_which_backend_is_taken_and_why(tmp_path, monkeypatch, capsys):
    networks = {"decoder": networks_in(tmp_path)["decoder"]}
    assert open_backend("auto", "cpu", networks, 1).name == "onnxruntime"
    assert "backend: onnxruntime" in capsys.readouterr().out
    networks["decoder"] = with_test(networks["decoder"], batch_stat=True)
    assert open_backend("auto", "cpu", networks, 1).name == "nnabla"
    assert "nnabla (test.batch_stat is on" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="ONNX does not support"):
        open_backend("onnxruntime", "cpu", networks, 1)
    with pytest.raises(ConfigError, match="runs on the CPU"):
        open_backend("onnxruntime", "cudnn", networks, 1)
    monkeypatch.setattr(onnx, "PACKAGES", {"no_such_module.inside": "some-package"})
    networks["decoder"] = with_test(networks["decoder"], batch_stat=False)
    assert open_backend("auto", "cpu", networks, 1).name == "nnabla"
    assert "nnabla (some-package not installed" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="some-package not installed; run 'pip install"):
        open_backend("onnxruntime", "cpu", networks, 1)


def test_a_damaged_file_is_named(tmp_path):
    trained = networks_in(tmp_path)["encoder"]
    path = onnx.exported("encoder", trained, 1)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="not a complete ONNX file .*; remove it"):
        OnnxBackend({"encoder": trained}, 1)
    trained.weights.unlink()
    with pytest.raises(WeightsError, match="no such weights file"):
        OnnxBackend({"encoder": trained}, 1)


@pytest.mark.slow
def test_the_script(tmp_path):
    def flags(*modules):
        return [
            word
            for module in modules
            for word in (
                f"--{module}-config", DEMO / module / "training_info.yaml",
                f"--{module}-param-file", DEMO / module / "weights.h5",
            )
        ]  # fmt: skip

    every = flags("encoder", "transformer", "decoder")
    out = must_run(tmp_path, "tools/export.py", *every, "--out-dir", "onnx", "--batch-size", 2)
    assert out.count("maximum relative error") == 6
    must_run(tmp_path, "tools/export.py", *every, "--out-dir", "onnx", "--chain")
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx/chain.onnx"))
    assert [output.name for output in session.get_outputs()] == ["encoder", "transformer", "decoder"]
    assert session.get_inputs()[0].shape == [1, 3, 256, 256]
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == [
        f"{name}.{kind}" for name in ("chain", "decoder", "encoder", "transformer") for kind in ("nnp", "onnx")
    ]
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 256, 256)).astype(np.float32)
    truths = session.run(None, {"input": x})
    network = NnpLoader(str(tmp_path / "onnx/chain.nnp")).get_network("reenactgan", batch_size=1)
    network.inputs["input"].d = x
    for name, truth in zip(("encoder", "transformer", "decoder"), truths):
        network.variables[name].forward()
        assert np.abs(network.variables[name].d - truth).max() < 1e-5 * max(np.abs(truth).max(), 1), name
    must_fail(tmp_path, 2, "pass at least one", "tools/export.py", "--out-dir", "onnx")
    ends = flags("encoder", "decoder")
    must_fail(tmp_path, 2, "requires the transformer", "tools/export.py", *ends, "--chain", "--out-dir", "onnx")
    wrong = [*flags("decoder")[:-1], DEMO / "encoder/weights.h5"]
    must_fail(tmp_path, 4, "not the weights of this network", "tools/export.py", *wrong, "--out-dir", "none")
    assert not list((tmp_path / "none").glob("*"))
