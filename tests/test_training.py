"""One step of each training script at tiny width, against the same step written the straightforward way."""

from __future__ import annotations

import nnabla as nn
import nnabla.solvers as S
import numpy as np
import pytest

import train_decoder
import train_encoder
import train_shape_prior
import train_transformer
from config import load_config
from models import losses as L
from models.transformer import transformer, transformer_discriminator
from utils.checkpoints import parameters_of
from utils.errors import NotFiniteError
from utils.training import Updater

rng = np.random.default_rng(0)


def read(losses) -> dict[str, float]:
    return {name: float(loss.d) for name, loss in losses.items()}


def snapshot(scopes) -> dict[str, np.ndarray]:
    return {
        f"{scope}/{name}": variable.d.copy()
        for scope in scopes
        for name, variable in parameters_of(scope).items()
        if variable.need_grad
    }


def test_transformer_step_equals_the_straightforward_graph():
    config = load_config("transformer")
    config["model"]["planes"], config["train"]["batch_size"], config["norm_type"] = 2, 2, "instance_norm"
    train = config["train"]
    graph = train_transformer.build_graph(config, num_align_outputs=None)
    solvers = train_transformer.make_solvers(config)
    real = {person: rng.uniform(0, 1, (2, 15, 64, 64)).astype(np.float32) for person in "AB"}
    scopes = (*train_transformer.GENERATORS.values(), *train_transformer.DISCRIMINATORS.values())
    start = snapshot(scopes)

    train_transformer.set_batch(graph, (real["A"],), (real["B"],))
    losses = read(train_transformer.train_step(graph, solvers, Updater(), train["weight_decay"]))
    result = snapshot(scopes)

    # the same from the same start, all gradients on, nothing shared between the two updates
    for scope in scopes:
        for name, variable in parameters_of(scope).items():
            if variable.need_grad:
                variable.d = start[f"{scope}/{name}"]

    def generate(scope, x):
        with nn.parameter_scope(scope):
            return transformer(x, "instance_norm", 2)

    def judge(scope, x):
        with nn.parameter_scope(scope):
            return transformer_discriminator(x, 2)

    a, b = (nn.Variable.from_numpy_array(real[person]) for person in "AB")
    (a2b, b2a), (d_a, d_b) = train_transformer.GENERATORS.values(), train_transformer.DISCRIMINATORS.values()
    fake_b, fake_a = generate(a2b, a), generate(b2a, b)
    loss_d = L.lsgan(judge(d_a, a), True) + L.lsgan(judge(d_a, fake_a), False)
    loss_d = loss_d + L.lsgan(judge(d_b, b), True) + L.lsgan(judge(d_b, fake_b), False)
    cycle = L.mean_absolute_error(generate(b2a, fake_b), a) + L.mean_absolute_error(generate(a2b, fake_a), b)
    loss_g = L.lsgan(judge(d_a, fake_a), True) + L.lsgan(judge(d_b, fake_b), True) + 50 * cycle
    for loss, part, rate, decay in ((loss_d, scopes[2:], 2.5e-5, 1e-4), (loss_g, scopes[:2], 5e-5, 0)):
        solver = S.Adam(rate, beta1=0.5, beta2=0.999)
        solver.set_parameters({f"{s}/{n}": v for s in part for n, v in parameters_of(s).items() if v.need_grad})
        loss.forward()
        solver.zero_grad()
        loss.backward()
        solver.weight_decay(decay)
        solver.update()
        total = sum(value for name, value in losses.items() if ("discriminator" in name) == (loss is loss_d))
        if loss is loss_d:
            assert float(loss.d) == pytest.approx(total, rel=1e-5)
    for name, array in snapshot(scopes).items():
        moved = np.abs(array - start[name])
        # biases before a normalisation have no gradient but rounding, of which Adam makes steps
        if moved.max() > 0:
            agreement = (np.abs(array - result[name]) < 1e-6 + 0.02 * moved.max()).mean()
            assert agreement > 0.98, name
    assert losses["loss_cycle_A"] + losses["loss_cycle_B"] == pytest.approx(float(cycle.d), rel=1e-4)


def decoder_step(with_gan: bool):
    config = load_config("decoder")
    config["model"]["planes"], config["train"]["batch_size"] = 2, 2
    graph = train_decoder.build_graph(config, None)
    solvers = train_decoder.make_solvers(config)
    scopes = (train_decoder.GENERATOR, train_decoder.DISCRIMINATOR)
    start = snapshot(scopes)
    batch = [rng.uniform(0, 1, v.shape).astype(np.float32) for v in (graph.real, graph.heatmap, graph.large_heatmap)]
    losses = read(train_decoder.train_step(graph, solvers, Updater(), batch, with_gan))
    end = snapshot(scopes)
    moved = {scope: any((start[n] != end[n]).any() for n in start if n.startswith(scope)) for scope in scopes}
    return graph, batch, losses, moved


def test_decoder_step_gives_its_losses_and_moves_both_networks():
    graph, batch, losses, moved = decoder_step(with_gan=True)
    assert all(moved.values())
    assert losses["loss_l1"] == pytest.approx(np.abs(graph.fake.d - batch[0]).mean(), rel=1e-4)
    assert set(losses) == {"loss_discriminator", "loss_gan", "loss_l1"}
    assert losses["loss_discriminator"] == pytest.approx(np.log(2), abs=0.2)  # half of real and fake, undecided


def test_decoder_without_gan_leaves_the_discriminator_alone():
    _, _, losses, moved = decoder_step(with_gan=False)
    assert moved == {"netG_decoder": True, "netD_decoder": False}
    assert set(losses) == {"loss_l1"}


def test_decoder_gradient_equals_finite_differences():
    """The generator's gradient through leaf and linked fake is that of the weighted sum."""
    config = load_config("decoder")
    config["model"]["planes"], config["train"]["batch_size"] = 2, 1
    graph = train_decoder.build_graph(config, None)
    graph.heatmap.d, graph.large_heatmap.d = (
        rng.uniform(0, 1, graph.heatmap.shape),
        rng.uniform(0, 1, (1, 15, 256, 256)),
    )
    graph.real.d = rng.uniform(-1, 1, graph.real.shape)
    bias = parameters_of("netG_decoder")["up7/deconv/b"]

    def loss() -> float:
        nn.random.set_function_seed(1)  # the same dropout each time
        graph.fake.forward()
        graph.generator_loss.forward()
        return float(graph.generator_loss.d)

    loss()
    for variable in (bias, graph.fake_leaf):
        variable.grad.zero()
    graph.generator_loss.backward()
    graph.fake.backward(grad=None)
    gradient = bias.g.copy()
    for channel in range(3):
        values = []
        for step in (1e-2, -1e-2):
            bias.d[channel] += step
            values.append(loss())
            bias.d[channel] -= step
        assert (values[0] - values[1]) / 2e-2 == pytest.approx(gradient[channel], rel=0.05, abs=0.02)


def test_encoder_learns_and_its_evaluation_follows():
    config = load_config("encoder")
    config["model"]["planes"] = 2
    graph, test_graph = (train_encoder.build_graph(config, 2, training) for training in (True, False))
    solver = S.Adam(5e-3)
    with nn.parameter_scope(train_encoder.SCOPE):
        solver.set_parameters(nn.get_parameters())
    batch = (rng.uniform(-1, 1, (2, 3, 256, 256)), rng.uniform(0, 1, (2, 15, 64, 64)))
    first = read(train_encoder.train_step(graph, solver, Updater(), batch, 0.0))["loss"]
    assert first == pytest.approx(2 * (batch[1] ** 2).mean(), rel=1e-4)  # both scores start at empty maps
    for _ in range(24):
        last = read(train_encoder.train_step(graph, solver, Updater(), batch, 0.0))["loss"]
    assert last < 0.8 * first
    test_graph.image.d, test_graph.heatmap.d = batch
    test_graph.loss.forward()
    assert float(test_graph.loss.d) < first


def test_a_loss_that_is_not_finite_stops_before_the_update():
    config = load_config("encoder")
    config["model"]["planes"] = 2
    graph = train_encoder.build_graph(config, 1, training=True)
    solver = S.Adam(1e-3)
    with nn.parameter_scope(train_encoder.SCOPE):
        solver.set_parameters(nn.get_parameters())
    start = snapshot([train_encoder.SCOPE])
    batch = (np.zeros((1, 3, 256, 256)), np.full((1, 15, 64, 64), np.nan))
    with pytest.raises(NotFiniteError, match="loss is nan"):
        train_encoder.train_step(graph, solver, Updater(), batch, 0.0)
    assert all(np.array_equal(array, start[name]) for name, array in snapshot([train_encoder.SCOPE]).items())


def test_align_network_learns_a_batch():
    graph = train_shape_prior.build_graph(8, 4)
    solver = S.Adam(3e-3)
    with nn.parameter_scope(train_shape_prior.SCOPE):
        solver.set_parameters(nn.get_parameters())
    batch = (rng.uniform(0, 1, (8, 15, 64, 64)), rng.uniform(0, 4, (8, 4)))
    first = read(train_shape_prior.train_step(graph, solver, Updater(), batch))
    for _ in range(30):
        last = read(train_shape_prior.train_step(graph, solver, Updater(), batch))
    assert last["loss"] < 0.3 * first["loss"]


def test_fixed_networks_get_no_gradient():
    """The generator's pass leaves the discriminator's and the prior's weights without a gradient."""
    config = load_config("transformer")
    config["model"]["planes"], config["train"]["batch_size"] = 2, 2
    graph = train_transformer.build_graph(config, num_align_outputs=6)
    for person in "AB":
        graph.real[person].d = rng.uniform(0, 1, (2, 15, 64, 64))
    frozen = ("align", "pca", *train_transformer.DISCRIMINATORS.values())
    for scope in frozen:
        for variable in parameters_of(scope).values():
            variable.g = 123.0
    train_transformer.generate_fakes(graph)
    graph.generator_loss.forward()
    graph.generator_loss.backward()
    for scope in frozen:
        for name, variable in parameters_of(scope).items():
            assert (variable.g == 123.0).all(), f"{scope}/{name}"
