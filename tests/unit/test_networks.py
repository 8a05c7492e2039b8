from __future__ import annotations

import csv

import nnabla as nn
import nnabla.functions as F
import numpy as np
import pytest
from helpers import ROOT
from reference import numpy_networks as reference

from config import load_config
from models.align import align, shape_code
from models.decoder import _resize_conv4, decoder, decoder_discriminator
from models.encoder import encoder
from models.layers import instance_norm, instance_norm_by_batch_norm
from models.transformer import transformer, transformer_discriminator

PUBLISHED = {
    "encoder": lambda: encoder(nn.Variable((1, 3, 256, 256))),
    "transformer_generator_batch_norm": lambda: transformer(nn.Variable((1, 15, 64, 64))),
    "transformer_generator_instance_norm": lambda: transformer(nn.Variable((1, 15, 64, 64)), "instance_norm"),
    "transformer_discriminator": lambda: transformer_discriminator(nn.Variable((1, 15, 64, 64))),
    "decoder_generator": lambda: decoder(nn.Variable((1, 15, 64, 64))),
    "decoder_discriminator": lambda: decoder_discriminator(
        nn.Variable((1, 15, 256, 256)), nn.Variable((1, 3, 256, 256))
    ),
    "align": lambda: align(nn.Variable((1, 15, 64, 64))),
    "pca": lambda: shape_code(nn.Variable((1, 212))),
}


@pytest.mark.parametrize("network", PUBLISHED)
def test_parameters_are_those_of_the_published_files(network):
    PUBLISHED[network]()
    built = [
        (name, "x".join(map(str, variable.shape)), int(variable.need_grad))
        for name, variable in nn.get_parameters(grad_only=False).items()
    ]
    with open(ROOT / "models/parameters" / f"{network}.csv") as file:
        table = [(row["name"], row["shape"], int(row["trainable"])) for row in csv.DictReader(file)]
    assert built == table


def randomize() -> dict[str, np.ndarray]:
    """Random values for every parameter, running statistics included; the arrays in float64."""
    rng = np.random.default_rng(3)
    arrays = {}
    for name, variable in nn.get_parameters(grad_only=False).items():
        scale = 1 / np.sqrt(np.prod(variable.shape[1:])) if name.endswith("/W") else 0.5
        values = rng.normal(0, scale, variable.shape)
        if name.endswith(("var", "gamma")):
            values = rng.uniform(0.5, 1.5, variable.shape)
        variable.d = values
        arrays[name] = variable.d.astype(np.float64)
    return arrays


def compare(output: nn.Variable, expected: np.ndarray):
    output.forward()
    np.testing.assert_allclose(output.d, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_encoder_equals_numpy_with_three_stacks_of_their_own():
    x = nn.Variable.from_numpy_array(np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64)))
    scores = encoder(x, num_stacks=3, planes=2, batch_stat=False)
    parameters = randomize()
    expected = reference.encoder(x.d.astype(np.float64), parameters, 3)
    for score, truth in zip(scores, expected):
        compare(score, truth)
    # stacks do not share parameters
    assert {name.split("/")[0] for name in parameters} >= {"hourglass2", "fc_", "fc_1", "score_", "score_1", "res2"}


def test_the_published_activation_has_no_effect(tmp_path):
    configs = []
    for name in ("tanh", "none"):
        (tmp_path / "own.yaml").write_text(f"model: {{planes: 2, activation: {name}}}")
        configs.append(load_config("encoder", tmp_path / "own.yaml"))
    x = nn.Variable.from_numpy_array(np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64)))
    first, second = (
        encoder(x, config.model.num_stacks, config.model.planes, batch_stat=False)[-1] for config in configs
    )
    randomize()
    nn.forward_all([first, second])
    assert np.array_equal(first.d, second.d)
    assert np.abs(first.d).max() > 1  # beyond what a tanh could give


@pytest.mark.parametrize("norm_type, norm", [("batch_norm", reference.bn), ("instance_norm", reference.instance)])
def test_transformer_equals_numpy(norm_type, norm):
    x = nn.Variable.from_numpy_array(np.random.default_rng(0).uniform(0, 1, (1, 15, 64, 64)))
    y = transformer(x, norm_type, planes=2, batch_stat=False)
    compare(y, reference.transformer(x.d.astype(np.float64), randomize(), norm))


def test_decoder_equals_numpy():
    x = nn.Variable.from_numpy_array(np.random.default_rng(0).uniform(0, 1, (1, 15, 64, 64)))
    y = decoder(x, planes=2, training=False)
    compare(y, reference.decoder(x.d.astype(np.float64), randomize()))


def test_align_equals_numpy():
    x = nn.Variable.from_numpy_array(np.random.default_rng(0).uniform(0, 1, (2, 15, 64, 64)))
    y = align(x, num_outputs=10, batch_stat=False)
    compare(y, reference.align(x.d.astype(np.float64), randomize()))


def test_shape_code_is_the_first_three_outputs_of_the_affine_map():
    x = nn.Variable.from_numpy_array(np.random.default_rng(0).normal(size=(2, 12)))
    y = shape_code(x)
    p = randomize()
    compare(y, (x.d @ p["affine/W"] + p["affine/b"])[:, :3])


def test_discriminators_equal_numpy_and_give_a_score_a_patch():
    rng = np.random.default_rng(0)
    heatmap = nn.Variable.from_numpy_array(rng.uniform(0, 1, (2, 15, 64, 64)))
    y = transformer_discriminator(heatmap, planes=2)
    assert y.shape == (2, 1, 6, 6)
    p = randomize()
    h = reference.leaky(reference.conv(heatmap.d.astype(np.float64), p, "conv0", 2, 1))
    for name, stride in (("conv1", 2), ("conv2", 2), ("conv3", 1)):
        h = reference.conv(h, p, name, stride, 1)
        statistics = {
            f"{name}/bn/mean": h.mean((0, 2, 3), keepdims=True),
            f"{name}/bn/var": h.var((0, 2, 3), keepdims=True),
        }
        h = reference.leaky(reference.bn(h, p | statistics, name))
    compare(y, reference.conv(h, p, "conv4", 1, 1))
    nn.clear_parameters()
    scores = decoder_discriminator(nn.Variable((1, 15, 256, 256)), nn.Variable((1, 3, 256, 256)), planes=2)
    assert scores.shape == (1, 1, 30, 30)


def test_dropout_and_batch_statistics_only_in_training():
    x = nn.Variable.from_numpy_array(np.random.default_rng(0).uniform(0, 1, (2, 15, 64, 64)))
    evaluated = decoder(x, planes=2, training=False)
    trained = decoder(x, planes=2, training=True)
    types = {}

    def count(function):
        types[function.info.type_name] = types.get(function.info.type_name, 0) + 1

    trained.visit(count)
    assert types["Dropout"] == 3
    types.clear()
    evaluated.visit(count)
    assert "Dropout" not in types
    evaluated.forward()
    first = evaluated.d.copy()
    evaluated.forward()
    assert np.array_equal(first, evaluated.d)


def test_gan_weights_start_at_the_authors_distribution():
    decoder(nn.Variable((1, 15, 64, 64)), planes=16)
    parameters = nn.get_parameters()
    assert abs(parameters["down4/conv/W"].d.std() - 0.02) < 5e-4
    gamma = parameters["down4/bn/gamma"].d
    assert abs(gamma.mean() - 1) < 0.01 and 0.01 < gamma.std() < 0.03


def test_wrong_input_shapes_are_refused():
    with pytest.raises(ValueError, match="expected a tensor of shape"):
        transformer(nn.Variable((1, 3, 64, 64)))
    with pytest.raises(ValueError, match="expected a tensor of shape"):
        decoder(nn.Variable((1, 15, 32, 32)))


def test_an_instance_norm_for_gpus_is_an_instance_norm():
    rng = np.random.default_rng(4)
    array = rng.normal(2, 3, (3, 5, 8, 8)).astype(np.float32)
    found = []
    for norm in (instance_norm, instance_norm_by_batch_norm):
        x = nn.Variable.from_numpy_array(array, need_grad=True)
        y = norm(x, "in0")
        parameters = nn.get_parameters()
        assert list(parameters) == ["in0/instance_normalization/beta", "in0/instance_normalization/gamma"]
        for number, parameter in enumerate(parameters.values()):
            parameter.d = np.random.default_rng(number).normal(1, 0.3, parameter.shape)
        loss = F.sum(y**3)
        loss.forward()
        for variable in (x, *parameters.values()):
            variable.grad.zero()
        loss.backward()
        found.append([y.d.copy(), *(variable.g.copy() for variable in (x, *parameters.values()))])
    for ours, nnablas in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(ours, nnablas, rtol=0, atol=1e-5 * abs(nnablas).max())


def test_levels_without_lattice_are_doubling_and_a_convolution():
    """One deconvolution computes them, whose kernel is the 3x3 one over each of the 2x2 copies of a pixel."""
    rng = np.random.default_rng(5)
    x = nn.Variable.from_numpy_array(rng.standard_normal((2, 5, 7, 7)))
    found = _resize_conv4(x, 4, "up", with_bias=True)
    weights, bias = (nn.get_parameters()[f"up/resize_conv/{name}"] for name in "Wb")
    bias.d = rng.standard_normal(4)
    plain = nn.Variable.from_numpy_array(weights.d.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1].copy())
    expected = F.convolution(F.unpooling(F.relu(x), (2, 2)), plain, bias, pad=(1, 1))
    nn.forward_all([found, expected])
    assert found.shape == (2, 4, 14, 14)
    np.testing.assert_allclose(found.d, expected.d, atol=1e-5)


def test_dropout_can_be_left_out():
    x = nn.Variable.from_numpy_array(np.random.default_rng(0).uniform(0, 1, (2, 15, 64, 64)))
    faces = {}
    for dropout in (0.5, 0):
        y = decoder(x, 2, dropout=dropout, training=True)
        faces[dropout] = [y.d.copy() for _ in range(2) if y.forward() is None]
    assert (faces[0][0] == faces[0][1]).all() and (faces[0.5][0] != faces[0.5][1]).any()


def test_only_the_outermost_levels_change_their_parameters():
    x = nn.Variable((1, 15, 64, 64))
    decoder(x, 2, resize_levels=3)
    names = {name.rsplit("/", 1)[0] for name in nn.get_parameters() if name.startswith("up")}
    assert {name for name in names if "resize_conv" in name} == {f"up{level}/resize_conv" for level in (5, 6, 7)}
    assert {name for name in names if "deconv" in name} == {f"up{level}/deconv" for level in range(5)}
