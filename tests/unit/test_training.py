"""One step of each training script at tiny width, against the same step written the straightforward way."""

from __future__ import annotations

import json

import nnabla as nn
import nnabla.functions as F
import nnabla.solvers as S
import numpy as np
import pytest
from reference import steps as plain

import train_decoder
import train_encoder
import train_shape_prior
import train_transformer
from models.network import Network
from models.networks import ALIGN, DECODER, DECODER_DISCRIMINATOR, ENCODER, TRANSFORMER_DISCRIMINATORS, TRANSFORMERS
from training.communicator import Communicator
from training.series import Series
from training.solver import LossScale, Solver
from utils.errors import ConfigError, NotFiniteError

rng = np.random.default_rng(0)
NETWORKS = {
    "encoder": (ENCODER,),
    "transformer": (*TRANSFORMERS.values(), *TRANSFORMER_DISCRIMINATORS.values()),
    "decoder": (DECODER, DECODER_DISCRIMINATOR),
}


def read(losses) -> dict[str, float]:
    return {name: float(loss.d) for name, loss in losses.items()}


def snapshot(networks) -> dict[str, np.ndarray]:
    return {
        f"{network.name}/{name}": variable.d.copy()
        for network in networks
        for name, variable in network.trained().items()
    }


@pytest.mark.parametrize("module", plain.PLAIN)
def test_a_step_equals_the_straightforward_graph_with_all_gradients_on(module):
    """Losses and updated weights, from the same start. Running statistics of the generators are another matter: the
    straightforward graph runs them twice."""
    scopes = [network.name for network in NETWORKS[module]]
    config = plain.small_config(module, planes=2, batch_size=2)
    batch = plain.random_batch(module, 2)
    ours = plain.our_step(module, config, batch)
    theirs = plain.PLAIN[module](config, batch)
    if module == "transformer":  # something to say for the prior, which starts near nothing
        for variable in Network("pca").parameters().values():
            variable.d = rng.normal(0, 0.1, variable.shape)
    start = {name: v.d.copy() for name, v in nn.get_parameters(grad_only=False).items()}
    nn.random.set_function_seed(plain.DROPOUT_SEED)
    our_losses, our_end = ours(), {name: v.d.copy() for name, v in nn.get_parameters(grad_only=False).items()}
    for name, variable in nn.get_parameters(grad_only=False).items():
        variable.d = start[name]
    their_losses = theirs()
    assert set(our_losses) == set(their_losses)
    for name, value in their_losses.items():
        assert our_losses[name] == pytest.approx(value, rel=1e-4), name
    for name, variable in nn.get_parameters(grad_only=False).items():
        moved = np.abs(variable.d - start[name])
        if name.split("/")[0] not in scopes:
            assert np.array_equal(our_end[name], start[name]) or "/bn" in name, name  # the prior stays
        elif name.startswith("netG") and not variable.need_grad:
            continue
        # biases before a normalisation have no gradient but rounding, of which Adam makes steps
        elif moved.max() > 0:
            agreement = (np.abs(variable.d - our_end[name]) < 1e-6 + 0.02 * moved.max()).mean()
            assert agreement > 0.98, name


def decoder_step(with_gan: bool):
    config = plain.small_config("decoder", 2, 2)
    graph = train_decoder.build_graph(config)
    solvers = train_decoder.make_solvers(config)
    networks = (DECODER, DECODER_DISCRIMINATOR)
    start = snapshot(networks)
    batch = [rng.uniform(0, 1, v.shape).astype(np.float32) for v in (graph.real, graph.heatmap, graph.large_heatmap)]
    losses = read(train_decoder.train_step(graph, solvers, batch, with_gan))
    end = snapshot(networks)
    moved = {w.name: any((start[n] != end[n]).any() for n in start if n.startswith(w.name)) for w in networks}
    return graph, batch, losses, moved


def test_decoder_step_gives_its_losses_and_moves_both_networks():
    graph, batch, losses, moved = decoder_step(with_gan=True)
    assert all(moved.values())
    assert losses["L1_loss"] == pytest.approx(np.abs(graph.fake.d - batch[0]).mean(), rel=1e-4)
    assert set(losses) == {"loss_netG", "loss_netD", "loss_gan", "L1_loss"}
    assert losses["loss_netD"] == pytest.approx(np.log(2), abs=0.2)  # half of real and fake, undecided


def test_decoder_without_gan_leaves_the_discriminator_alone():
    _, _, losses, moved = decoder_step(with_gan=False)
    assert moved == {"netG_decoder": True, "netD_decoder": False}
    assert set(losses) == {"loss_netG", "L1_loss"}


@pytest.mark.parametrize("off", ["gan", "cycle", "shape"])
def test_transformer_without_a_loss(off):
    """The ablations: the loss is left out, the others keep their weights, and no discriminator learns for nothing."""
    config = plain.small_config("transformer", 2, 2, **{f"{off}_loss": None})
    graph = train_transformer.build_graph(config, None if off == "shape" else plain.NUM_ALIGN_OUTPUTS)
    solvers = train_transformer.make_solvers(config)
    networks = NETWORKS["transformer"]
    start, batch = snapshot(networks), plain.random_batch("transformer", 2)
    train_transformer.set_batch(graph, batch[:1], batch[1:])
    losses = read(train_transformer.train_step([graph], solvers, 1e-4, with_gan=off != "gan"))
    end = snapshot(networks)
    moved = {n.name: any((start[k] != end[k]).any() for k in start if k.startswith(n.name)) for n in networks}
    assert moved == {n.name: n in TRANSFORMERS.values() or off != "gan" for n in networks}
    weights = {kind: weight for kind, weight in {"gan": 1, "cycle": 50, "shape": 10}.items() if kind != off}
    assert {name.split("_")[1] for name in losses if name[-2:] in ("_A", "_B")} == {*weights} | (
        set() if off == "gan" else {"netD"}
    )
    expected = sum(weight * losses[f"loss_{kind}_{person}"] for kind, weight in weights.items() for person in "AB")
    assert losses["loss_netG"] == pytest.approx(expected, rel=1e-5)
    assert bool(graph.recon) == (off != "cycle")


@pytest.mark.parametrize(
    "module, train",
    [
        ("transformer", {"gan_loss": None, "cycle_loss": None, "shape_loss": None}),
        ("decoder", {"gan_loss": None, "weight_L1": 0}),
        ("decoder", {"gan_start_at": 1, "weight_L1": 0}),
    ],
)
def test_a_training_without_any_loss_is_refused(module, train):
    script = {"transformer": train_transformer, "decoder": train_decoder}[module]
    with pytest.raises(ConfigError, match="the weights of all losses are 0"):
        script.build_graph(plain.small_config(module, 2, 2, **train), *([None] if module == "transformer" else []))


def test_encoder_learns_and_its_evaluation_follows():
    config = plain.small_config("encoder", 2, 2)
    graph, test_graph = (train_encoder.build_graph(config, 2, training) for training in (True, False))
    solver = Solver([ENCODER], 5e-3)
    batch = (rng.uniform(-1, 1, (2, 3, 256, 256)), rng.uniform(0, 1, (2, 15, 64, 64)))
    first = read(train_encoder.train_step(graph, solver, batch, 0.0))["loss"]
    assert first == pytest.approx(2 * (batch[1] ** 2).mean(), rel=1e-4)  # both scores start at empty maps
    for _ in range(24):
        last = read(train_encoder.train_step(graph, solver, batch, 0.0))["loss"]
    assert last < 0.8 * first
    test_graph.image.d, test_graph.heatmap.d = batch
    test_graph.loss.forward()
    assert float(test_graph.loss.d) < first


def test_a_loss_that_is_not_finite_stops_before_the_update():
    config = plain.small_config("encoder", 2, 1)
    graph = train_encoder.build_graph(config, 1, training=True)
    solver = Solver([ENCODER], 1e-3)
    start = snapshot([ENCODER])
    batch = (np.zeros((1, 3, 256, 256)), np.full((1, 15, 64, 64), np.nan))
    with pytest.raises(NotFiniteError, match="loss is nan"):
        train_encoder.train_step(graph, solver, batch, 0.0)
    assert all(np.array_equal(array, start[name]) for name, array in snapshot([ENCODER]).items())


def test_align_network_learns_a_batch():
    graph = train_shape_prior.build_graph(8, 4)
    solver = Solver([ALIGN], 3e-3)
    batch = (rng.uniform(0, 1, (8, 15, 64, 64)), rng.uniform(0, 4, (8, 4)))
    first = read(train_shape_prior.train_step(graph, solver, batch))
    for _ in range(30):
        last = read(train_shape_prior.train_step(graph, solver, batch))
    assert last["loss"] < 0.3 * first["loss"]


def gradients_untouched(networks) -> bool:
    return all((v.g == 123.0).all() for network in networks for v in network.parameters().values())


def mark_gradients(networks) -> None:
    for network in networks:
        for variable in network.parameters().values():
            variable.g = 123.0


def test_the_transformers_passes_compute_no_gradient_that_no_solver_uses():
    """The generators' pass leaves the discriminators and the prior alone, the discriminators' pass the generators."""
    graph = train_transformer.build_graph(plain.small_config("transformer", 2, 2), num_align_outputs=6)
    train_transformer.set_batch(graph, *((array,) for array in plain.random_batch("transformer", 2)))
    generators, discriminators = TRANSFORMERS.values(), TRANSFORMER_DISCRIMINATORS.values()
    train_transformer.generate_fakes([graph])
    mark_gradients(generators)
    graph.discriminator_loss.forward()
    graph.discriminator_loss.backward()
    assert gradients_untouched(generators) and not gradients_untouched(discriminators)
    frozen = (Network("align"), Network("pca"), *discriminators)
    mark_gradients(frozen)
    graph.generator_loss.forward()
    graph.generator_loss.backward()
    assert gradients_untouched(frozen) and not gradients_untouched(generators)


def test_the_decoders_passes_compute_no_gradient_that_no_solver_uses():
    graph = train_decoder.build_graph(plain.small_config("decoder", 2, 2))
    graph.real.d, graph.heatmap.d, graph.large_heatmap.d = plain.random_batch("decoder", 2)
    graph.fake.forward()
    mark_gradients([DECODER])
    graph.discriminator_loss.forward()
    graph.discriminator_loss.backward()
    assert gradients_untouched([DECODER])
    mark_gradients([DECODER_DISCRIMINATOR])
    graph.generator_loss.forward()
    graph.generator_loss.backward()
    graph.fake.backward(grad=None)
    assert gradients_untouched([DECODER_DISCRIMINATOR]) and not gradients_untouched([DECODER])


def small_problem():
    """A parameter of 3, and a loss that is its square times x."""
    x = nn.Variable((1,))
    with nn.parameter_scope("net"):
        weight = nn.parameter.get_parameter_or_create("w", (1,), np.array([3.0], np.float32))
    loss = F.sum(weight**2 * x)
    loss.persistent = True
    solver = Solver([Network("net")], 0.1)
    solver.adam = S.Sgd(0.1)
    solver.adam.set_parameters(Network("net").trained())
    return x, weight, loss, solver


def one_update(x, loss, solver, value: float) -> None:
    x.d = value
    loss.forward()
    solver.zero_grad()
    loss.backward(solver.scale)
    solver.update({"loss": loss})


def test_a_loss_scale_changes_no_update():
    ends = []
    for is_half in (False, True):
        nn.clear_parameters()
        x, weight, loss, solver = small_problem()
        solver.join(Communicator(), LossScale(is_half))
        for value in (0.5, 1.0, 0.25):
            one_update(x, loss, solver, value)
        ends.append(weight.d.copy())
    assert LossScale(is_dynamic=True).value == 8.0
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)
    assert ends[0][0] == pytest.approx(3 * (1 - 0.2 * 0.5) * (1 - 0.2) * (1 - 0.2 * 0.25))


def test_an_overflow_leaves_the_update_out_and_halves_the_scale():
    x, weight, loss, solver = small_problem()
    scale = LossScale(is_dynamic=True)
    solver.join(Communicator(), scale)
    one_update(x, loss, solver, np.inf)
    assert weight.d[0] == 3.0 and scale.value == 4.0
    one_update(x, loss, solver, 1.0)
    assert weight.d[0] == pytest.approx(2.4)
    for _ in range(LossScale.GROW_AFTER - 1):
        scale.grow()
    assert scale.value == 8.0
    with pytest.raises(NotFiniteError, match="loss is inf"):
        for _ in range(100):  # a loss that is infinite at any scale
            one_update(x, loss, solver, np.inf)


def test_a_gradient_that_is_not_finite_is_named():
    x, weight, loss, solver = small_problem()
    x.d = 1.0
    loss.forward()
    weight.g = np.nan
    with pytest.raises(NotFiniteError, match="the gradient of w is not finite"):
        solver.update({"loss": loss})
    assert weight.d[0] == 3.0


def test_losses_are_summed_where_they_are_and_a_resumed_series_goes_on(tmp_path):
    loss = nn.Variable(())

    def add(series, index):
        loss.d = np.sqrt(index + 1.0)
        series.add(index, {"loss": loss})

    whole = Series(tmp_path / "whole", 3)
    parts = Series(tmp_path / "parts", 3)
    for series in (whole, parts):
        series.folder.mkdir()
        for index in range(5):
            add(series, index)
    state = json.loads(json.dumps(parts.state()))  # the way a checkpoint holds it
    for index in range(5, 9):
        add(whole, index)
        add(parts, index)  # lost, since the checkpoint was before
    again = Series(tmp_path / "parts", 3)
    again.restore(state, 5)
    for index in range(5, 9):
        add(again, index)
    text = (tmp_path / "whole/loss.series.txt").read_text()
    assert text == (tmp_path / "parts/loss.series.txt").read_text()
    means = [np.sqrt(np.arange(first, first + 3)).mean() for first in (1, 4, 7)]
    lines = [line.split() for line in text.splitlines()]
    assert [int(index) for index, _ in lines] == [2, 5, 8]
    np.testing.assert_allclose([float(value) for _, value in lines], means, rtol=1e-6)


def test_plot_series_of_nnabla_reads_the_files(tmp_path):
    loss = nn.Variable(())
    loss.d = 2.5
    series = Series(tmp_path, 1)
    for index in range(4):
        series.add(index, {"loss": loss})
    values = np.loadtxt(tmp_path / "loss.series.txt", ndmin=2)  # plot_series reads it so
    assert values.tolist() == [[0, 2.5], [1, 2.5], [2, 2.5], [3, 2.5]]
    assert np.loadtxt(tmp_path / "time_training.timer.txt", ndmin=2).shape == (4, 4)  # plot_timer reads it so
