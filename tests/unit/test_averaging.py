"""Weights as they are saved: averages over time, and running statistics that are estimated anew."""

from __future__ import annotations

import nnabla as nn
import numpy as np
import pytest
from reference import steps as plain

import train_transformer
from models.layers import batch_norm
from models.network import Network
from models.networks import TRANSFORMERS
from training.averaging import WeightAverage, fresh_statistics, weights_to_save
from training.solver import Solver

rng = np.random.default_rng(0)
NET = Network("n")
BATCHES = rng.normal(3, 2, (5, 4, 2, 6, 6)).astype(np.float32)


@pytest.fixture
def network():
    """A BatchNorm in training mode under the scope `n`, its input, and what is said of it."""
    x = nn.Variable((4, 2, 6, 6))
    with nn.parameter_scope("n"):
        y = batch_norm(x, batch_stat=True)

    def run(number: int) -> None:
        x.d = BATCHES[number]
        y.forward()

    return run


def statistics() -> dict[str, np.ndarray]:
    return {name: v.d.copy() for name, v in NET.parameters().items() if not v.need_grad}


def test_statistics_are_means_over_the_batches_and_put_back(network):
    network(0)
    before = statistics()
    with fresh_statistics([([NET], network)], range(1, 5)):
        found = statistics()
    means = BATCHES[1:5].mean(axis=(1, 3, 4)).mean(axis=0)
    variances = BATCHES[1:5].var(axis=(1, 3, 4), ddof=1).mean(axis=0)
    np.testing.assert_allclose(found["bn/mean"].ravel(), means, rtol=1e-5)
    np.testing.assert_allclose(found["bn/var"].ravel(), variances, rtol=1e-4)
    assert all(np.array_equal(before[name], after) for name, after in statistics().items())
    with fresh_statistics([([NET], network)], range(0)):  # none: as they are
        assert all(np.array_equal(before[name], now) for name, now in statistics().items())


def test_statistics_of_a_network_that_several_passes_go_through(network):
    with fresh_statistics([([NET], network), ([NET], lambda number: network(number - 1))], range(1, 3)):
        found = statistics()
    batches = BATCHES[[1, 0, 2, 1]]
    np.testing.assert_allclose(found["bn/mean"].ravel(), batches.mean(axis=(1, 3, 4)).mean(axis=0), rtol=1e-5)


def test_an_average_follows_the_weights():
    with nn.parameter_scope("w"):
        weight = nn.parameter.get_parameter_or_create("a/W", (3,), np.array([1.0, 2.0, 3.0]))
        nn.parameter.get_parameter_or_create("a/mean", (3,), np.zeros(3), need_grad=False)
    average = WeightAverage([Network("w")], 0.9)
    (kept,) = average.networks
    assert kept.name == "w_average" and list(kept.parameters()) == ["a/W"]
    expected = weight.d.copy()
    for iteration, values in enumerate(rng.normal(size=(120, 3))):
        weight.d = values
        average.update(iteration)
        decay = min(0.9, (1 + iteration) / (10 + iteration))
        expected = decay * expected + (1 - decay) * weight.d
    now = weight.d.copy()
    with average.applied():
        np.testing.assert_allclose(weight.d, expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(weight.d, now)
    nothing = WeightAverage([Network("w")], 0.0)
    nothing.update(0)
    with weights_to_save(nothing, [], range(3)):
        assert np.array_equal(weight.d, now)


def test_sources_share_the_way_to_the_target(monkeypatch):
    """One step of two sources is the sum of two: gradients of the shared networks add up, the others are their own."""
    config = plain.small_config("transformer", planes=2, batch_size=2)
    suffixes = ("_P", "_Q")
    graphs = [train_transformer.build_graph(config, None, suffix, suffix == "_P") for suffix in suffixes]
    seen: list[dict[str, np.ndarray]] = []

    def look(solver, losses, weight_decay=0.0):
        seen.append({name: v.g.copy() for name, v in solver.adam.get_parameters().items()})

    monkeypatch.setattr(Solver, "update", look)

    def gradients(of: list) -> dict[str, np.ndarray]:
        seen.clear()
        for number, graph in enumerate(graphs):
            batch = plain.random_batch("transformer", 2, seed=number)
            train_transformer.set_batch(graph, *((array,) for array in batch))
        train_transformer.train_step(of, solvers, 0.0)
        return seen[0] | seen[1]

    solvers = train_transformer.make_solvers(config, suffixes)
    names = {name.split("/")[0] for solver in solvers for name in solver.adam.get_parameters()}
    assert names == {"netG_transformer_A2B", "netD_transformer_B"} | {
        f"net{kind}{suffix}" for kind in ("G_transformer_B2A", "D_transformer_A") for suffix in suffixes
    }
    alone, together = [gradients([graph]) for graph in graphs], gradients(graphs)
    shared = [name for name in together if name.startswith((TRANSFORMERS["A2B"].name, "netD_transformer_B/"))]
    assert shared
    for name in together:
        expected = alone[0][name] + alone[1][name]
        np.testing.assert_allclose(together[name], expected, atol=1e-5 + 1e-4 * np.abs(expected).max(), err_msg=name)
    for suffix, gradient in zip(suffixes, alone):
        assert any(np.abs(gradient[name]).max() > 0 for name in gradient if f"B2A{suffix}" in name)
