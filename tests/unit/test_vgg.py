"""The feature loss on a small file of the published VGG-16's format, fetched from a local server."""

from __future__ import annotations

import nnabla as nn
import nnabla.functions as F
import nnabla.parametric_functions as PF
import nnabla.utils.save
import numpy as np
import pytest
from helpers import serve

from config import load_config
from models.vgg import LAYERS, vgg_features
from utils.errors import ResourceError

CONVOLUTIONS = 13
POOLED = (2, 4, 7, 10, 13)


def write_small_vgg(path):
    """A VGG-16 of two channels under the published file's names."""
    path.parent.mkdir(parents=True)
    with nn.parameter_scope("vgg"):
        x = nn.Variable((1, 3, 64, 64))
        names, h = {"TrainingInput": x}, x * 0.01
        for number in range(1, CONVOLUTIONS + 1):
            suffix = "" if number == 1 else f"_{number}"
            h = PF.convolution(h, 2, (3, 3), (1, 1), name=f"conv{number}")
            names[f"VGG16/Convolution{suffix}"] = h
            h = F.relu(h)
            names[f"VGG16/ReLU{suffix}"] = h
            if number in POOLED:
                h = F.max_pooling(h, (2, 2))
        network = {"name": "Training", "batch_size": 1, "outputs": {"y": h}, "names": {**names, "y": h}}
        executor = {"name": "Runtime", "network": "Training", "data": ["TrainingInput"], "output": ["y"]}
        nnabla.utils.save.save(str(path), {"networks": [network], "executors": [executor]})
    weights = {name: v.d.copy() for name, v in nn.get_parameters().items()}
    nn.clear_parameters()
    return weights


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder behind an HTTP server, from which nnabla downloads to an empty home."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with serve(folder) as address:
        monkeypatch.setenv("NNABLA_MODELS_URL_BASE", address)
        yield folder


def numpy_features(image, weights):
    from reference.numpy_networks import conv, pool2, relu

    h = (image + 1) * 127.5 * 0.01
    found = []
    for number in range(1, 8):
        p = {key.replace("vgg/", ""): value for key, value in weights.items()}
        h = relu(conv(h, p, f"conv{number}", pad=1))
        if number in (4, 7):
            found.append(h)
        if number in POOLED:
            h = pool2(h)
    return found


def test_features_are_fetched_and_equal_numpy(served):
    weights = write_small_vgg(served / "imagenet/VGG-16/VGG-16.nnp")
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    x = nn.Variable.from_numpy_array(image).apply(need_grad=True)
    (features,) = vgg_features([x], load_config("decoder").train.feature_loss.layers)
    assert len(features) == 2
    assert features[0].shape[2:] == (32, 32) and features[1].shape[2:] == (16, 16)
    nn.forward_all(features)
    for feature, truth in zip(features, numpy_features(image.astype(np.float64), weights)):
        np.testing.assert_allclose(feature.d, truth, atol=1e-5)
    loss = F.mean(features[1])
    loss.forward()
    x.grad.zero()
    loss.backward()
    assert np.abs(x.g).max() > 0  # gradient reaches the image
    # by name: each block has half the size of the one before, and every layer is another
    (features,) = vgg_features([x], LAYERS)
    nn.forward_all(features)
    assert [feature.shape[2] for feature in features] == [64] * 2 + [32] * 2 + [16] * 3 + [8] * 3 + [4] * 3
    assert len({feature.d.tobytes() for feature in features}) == 13 and all(f.d.min() >= 0 for f in features)


def test_what_cannot_be_fetched_says_how_to_go_on(served):
    with pytest.raises(ResourceError, match="train.feature_loss.lambda to 0"):
        vgg_features([nn.Variable((1, 3, 64, 64))], ("relu1_1",))


def test_a_damaged_file_on_disk_is_named(served, tmp_path):
    path = tmp_path / "home/nnabla_data/nnp_models/imagenet/VGG-16.nnp"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK half of it")
    with pytest.raises(ResourceError, match="or read"):
        vgg_features([nn.Variable((1, 3, 64, 64))], ("relu1_1",))
