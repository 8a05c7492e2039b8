import os
import subprocess
from pathlib import Path

import h5py
import nnabla as nn
import numpy as np
import pytest

from inference.networks import find_trained
from models import network
from models.align import shape_code
from models.network import Network
from models.transformer import transformer_discriminator
from utils.errors import WeightsError
from utils.files import write_yaml
from utils.weights import SUMS_FILE, last_epoch_file, read_parameters

NET = Network("net")


@pytest.fixture
def saved(tmp_path):
    """A weights file of a small network, which is then at other values in memory."""
    with nn.parameter_scope(NET.name):
        transformer_discriminator(nn.Variable((1, 15, 64, 64)), planes=2)
    path = tmp_path / "weights.h5"
    NET.save(path)
    (tmp_path / SUMS_FILE).unlink()  # like a published file, which has none
    for variable in NET.parameters().values():
        variable.d = 7.0
    return path


def assert_untouched():
    assert all((variable.d == 7.0).all() for variable in NET.parameters().values())


def test_round_trip_with_running_statistics(saved):
    with h5py.File(saved) as file:
        truth = {name: file[name][()] for name in NET.parameters()}
    assert "conv1/bn/mean" in truth
    NET.load(saved)
    for name, variable in NET.parameters().items():
        assert np.array_equal(variable.d, truth[name])
    assert [path.name for path in saved.parent.iterdir()] == ["weights.h5"]


def test_the_file_is_one_that_nnabla_itself_loads(saved):
    nn.clear_parameters()
    nn.load_parameters(str(saved))
    assert nn.get_parameters(grad_only=False)["conv0/conv/W"].shape == (2, 15, 4, 4)


def replace(file, name, array):
    del file[name]
    file.create_dataset(name, data=array)


def link_outside(file, name, path):
    with h5py.File(path, "w") as other:
        other["x"] = np.zeros(2, np.float32)
    del file[name]
    file[name] = h5py.ExternalLink(str(path), "x")


def external_data(file, name, path):
    path.write_bytes(np.zeros(2, np.float32).tobytes())
    del file[name]
    file.create_dataset(name, shape=(2,), dtype="f4", external=[(str(path), 0, 8)])


def virtual_data(file, name, path):
    with h5py.File(path, "w") as other:
        other["x"] = np.zeros(2, np.float32)
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(path), "x", (2,))
    del file[name]
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda f, p: f.pop("conv0/conv/b"), "1 missing: conv0/conv/b"),
        (lambda f, p: f.create_dataset("conv9/conv/b", data=np.zeros(2, "f4")), "1 unknown: conv9/conv/b"),
        (lambda f, p: replace(f, "conv0/conv/b", np.zeros(3, "f4")), "conv0/conv/b (3,) instead of (2,)"),
        (lambda f, p: replace(f, "conv0/conv/b", np.array([1, np.nan], "f4")), "not finite in conv0/conv/b"),
        (lambda f, p: replace(f, "conv0/conv/b", np.array([1, np.inf], "f4")), "not finite in conv0/conv/b"),
        (lambda f, p: replace(f, "conv0/conv/b", np.zeros(2)), "float64 instead of float32"),
        (lambda f, p: (f.pop("conv0/conv/b"), f.update({"conv0/conv/b": h5py.SoftLink("/conv4/conv/b")})), "a link"),
        (lambda f, p: link_outside(f, "conv0/conv/b", p), "is a link"),
        (lambda f, p: external_data(f, "conv0/conv/b", p), "outside the file"),
        (lambda f, p: virtual_data(f, "conv0/conv/b", p), "outside the file"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_half_loaded(saved, tmp_path, damage, words):
    with h5py.File(saved, "a") as file:
        try:
            damage(file, tmp_path / "other")
        except (AttributeError, TypeError):  # soft links are set by item
            file["conv0/conv/b"] = h5py.SoftLink("/conv4/conv/b")
    with pytest.raises(WeightsError) as error:
        NET.load(saved)
    assert words in str(error.value) and str(saved) in str(error.value)
    assert_untouched()


@pytest.mark.parametrize("keep", [0, 10, 500, 4000])
def test_truncated_files_are_refused(saved, keep):
    os.truncate(saved, keep)
    with pytest.raises(WeightsError, match="not a complete HDF5 file"):
        NET.load(saved)
    assert_untouched()


def test_foreign_and_missing_files_are_refused(saved, tmp_path):
    foreign = tmp_path / "page.h5"
    foreign.write_text("<html>not found</html>")
    with pytest.raises(WeightsError, match="not a complete HDF5 file"):
        NET.load(foreign)
    with pytest.raises(WeightsError, match="no such weights file"):
        NET.load(tmp_path / "nowhere.h5")
    empty = tmp_path / "empty.h5"
    h5py.File(empty, "w").close()
    with pytest.raises(WeightsError, match="no parameters"):
        read_parameters(empty)
    assert_untouched()


def test_a_failed_save_keeps_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def die_half_way(path, *_):
        Path(path).write_bytes(b"half")
        raise ZeroDivisionError

    monkeypatch.setattr(network, "write_arrays", die_half_way)
    with pytest.raises(ZeroDivisionError):
        NET.save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["weights.h5"]


def test_the_best_epoch_by_validation_is_taken_before_the_last(tmp_path):
    info = tmp_path / "training_info.yaml"
    write_yaml(info, {"logdir": str(tmp_path)})
    (tmp_path / "model").mkdir()
    for name in ("model_epoch-1.h5", "model_epoch-2.h5"):
        (tmp_path / "model" / name).touch()
    assert find_trained("encoder", info).weights.name == "model_epoch-2.h5"
    (tmp_path / "model/model_best.h5").touch()
    assert find_trained("encoder", info).weights.name == "model_best.h5"
    assert find_trained("encoder", info, tmp_path / "own.h5").weights.name == "own.h5"


def test_last_epoch_is_found_by_number_not_by_time(tmp_path):
    for epoch in (10, 9, 100, 20):
        (tmp_path / f"netG_decoder_{epoch}.h5").touch()
    (tmp_path / "netG_decoder_best.h5").touch()
    (tmp_path / "netD_decoder_200.h5").touch()
    assert last_epoch_file([tmp_path / "nowhere", tmp_path], "netG_decoder_").name == "netG_decoder_100.h5"
    with pytest.raises(WeightsError, match="no model_epoch-<epoch>.h5; train"):
        last_epoch_file([tmp_path], "model_epoch-")


def test_pca_file_of_the_shape_prior_loads(tmp_path):
    from train_shape_prior import fit_pca, save_pca

    landmarks = np.random.default_rng(0).normal(size=(40, 6)) * [9, 7, 5, 1, 1, 1]
    pca = fit_pca(landmarks)
    save_pca(tmp_path / "PCA.h5", pca)
    x = nn.Variable.from_numpy_array(landmarks)
    with nn.parameter_scope("pca"):
        code = shape_code(x)
    Network("pca").load(tmp_path / "PCA.h5")
    code.forward()
    # whitened, uncorrelated, and the same subspace as the covariance's eigenvectors
    np.testing.assert_allclose(np.cov(code.d.T), np.eye(3), atol=1e-3)
    values, vectors = np.linalg.eigh(np.cov(landmarks.T))
    expected = (landmarks - landmarks.mean(0)) @ vectors[:, ::-1][:, :3] / np.sqrt(values[::-1][:3])
    np.testing.assert_allclose(np.abs(code.d), np.abs(expected), atol=1e-4)
    assert pca.explained[0] == pytest.approx(values[-1] / values.sum())
    moved = np.array([pca.mean + 2 * pca.modes[1]]) @ pca.weight + pca.bias  # two deviations of the second component
    np.testing.assert_allclose(moved[0, :3], [0, 2, 0], atol=1e-3)


def test_a_file_that_changed_since_it_was_saved_is_refused(saved):
    NET.save(saved)
    content = saved.read_bytes()
    saved.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match="weights.h5: changed since it was saved"):
        NET.load(saved)
    assert_untouched()
    (saved.parent / SUMS_FILE).write_text("no list of sums")
    with pytest.raises(WeightsError, match="SHA256SUMS: damaged"):
        NET.load(saved)


def test_sums_are_those_that_sha256sum_checks(saved):
    NET.save(saved)
    subprocess.run(["sha256sum", "--check", "--strict", SUMS_FILE], cwd=saved.parent, check=True, capture_output=True)
