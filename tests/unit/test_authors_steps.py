"""Training steps against the authors' code, computed in float64: tests/data/authors_steps.

Weights follow from parameters' names, inputs from seeds. The losses that need the authors' align network and PCA, which
are not ours to ship, are compared where REENACTGAN_AUTHORS_PRIOR names a folder with Align_40000.h5 and PCA_weights.h5.
"""

from __future__ import annotations

import csv
import os
import zlib

import nnabla as nn
import numpy as np
import pytest
from helpers import ROOT

import train_decoder
import train_transformer
from config import Config, complete_config
from models.network import Network
from models.networks import DECODER, DECODER_DISCRIMINATOR, TRANSFORMER_DISCRIMINATORS, TRANSFORMERS
from training.solver import Solver

DATA = ROOT / "tests/data/authors_steps"
PRIOR = os.environ.get("REENACTGAN_AUTHORS_PRIOR")
needs_prior = pytest.mark.skipif(PRIOR is None, reason="REENACTGAN_AUTHORS_PRIOR names no folder")
LOSS_TOLERANCE = {0: 1e-5, 1: 1e-3, 2: 1e-3}  # rounding: the authors' code in float32 is as far from its own float64
NORM_TOLERANCES = {
    "netG_transformer_A2B": 5e-3, "netG_transformer_B2A": 5e-3, "netG_decoder": 2e-2, "netD_decoder": 2e-3,
    "netD_transformer_A": 1e-4, "netD_transformer_B": 1e-4,
}  # fmt: skip
TOTALS = {"transformer": {"loss_netG", "loss_netD"}, "decoder": {"loss_netG"}}  # sums of the others


def figures(name: str) -> dict[tuple[str, int, str], float]:
    """Figures by module, step and the last part of the name."""
    with (DATA / f"{name}.csv").open() as file:
        rows = [(row[0].split("/", 3), float(row[1])) for row in list(csv.reader(file))[1:]]
    return {(module, int(step[1:]), rest): value for (module, step, _, rest), value in rows}


LOSSES, NORMS = figures("losses"), figures("gradient_norms")


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    draw = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF).randn(*shape)
    kind = name.rsplit("/", 1)[-1]
    if kind == "W":
        inputs = max(1, shape[0] * 4) if "/deconv/" in name else int(np.prod(shape[1:]))
        return (draw * np.sqrt(1.3 / inputs)).astype(np.float32)
    if kind in ("mean", "var"):
        return np.full(shape, float(kind == "var"), np.float32)
    return (float(kind == "gamma") + 0.02 * draw).astype(np.float32)


def boundaries(seed: int, count: int = 2, size: int = 64) -> np.ndarray:
    """Fifteen soft arcs a sample, (count, 15, size, size)."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[0:size, 0:size] / (size - 1.0)
    maps = np.empty((count, 15, size, size), np.float32)
    for row in maps.reshape(-1, size, size):
        height, slope, bend, half = (rng.uniform(*ends) for ends in ((0.2, 0.8), (-0.4, 0.4), (-1, 1), (0.15, 0.4)))
        middle = rng.uniform(0.3, 0.7)
        off = y - height - slope * (x - middle) - bend * (x - middle) ** 2
        arc = np.exp(-((off * 64 / 1.6) ** 2) / 2) / (1 + np.exp((np.abs(x - middle) - half) * 60))
        row[:] = np.round(arc * 255) / 255
    return maps


def pictures(seed: int, count: int = 2, size: int = 256) -> np.ndarray:
    """Sums of eight waves a channel, (count, 3, size, size)."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[0:size, 0:size] / (size - 1.0)
    found = np.zeros((count, 3, size, size))
    for plane in found.reshape(-1, size, size):
        for _ in range(8):
            across, down = rng.uniform(-9, 9), rng.uniform(-9, 9)
            phase, height = rng.uniform(0, 6.28), rng.uniform(0.05, 0.25)
            plane += height * np.cos(across * x * 6.28 + down * y * 6.28 + phase)
    return found.clip(-1, 1).astype(np.float32)


def config_of(module: str) -> Config:
    train = {"batch_size": 2}
    if module == "transformer":
        paths = {"align_param_path": f"{PRIOR}/Align_40000.h5", "PCA_param_path": f"{PRIOR}/PCA_weights.h5"}
        train["shape_loss"] = paths
    if module == "decoder":
        train["feature_loss"] = {"lambda": 0}
    return complete_config(module, {"model": {"planes": 16}, "train": train}, None)


def fill(networks: list[Network]) -> None:
    for network in networks:
        for name, variable in network.parameters().items():
            variable.d = weight(f"{network.name}/{name}", variable.shape)


def compare(module: str, step: int, losses: dict, without: str = "nothing") -> None:
    expected = {name: value for (m, s, name), value in LOSSES.items() if (m, s) == (module, step)}
    parts = {name: loss for name, loss in losses.items() if name not in TOTALS[module]}
    assert set(expected) - {name for name in expected if without in name} == set(parts)
    for name, loss in parts.items():
        assert float(loss.d) == pytest.approx(expected[name], rel=LOSS_TOLERANCE[step]), (step, name)


@pytest.fixture
def norms(monkeypatch) -> dict[str, float]:
    """The norms of the first gradients that solvers see, before weight decay, by the parameters' names."""
    found: dict[str, float] = {}
    update = Solver.update

    def look(solver, losses, weight_decay=0.0) -> None:
        for name, variable in solver.adam.get_parameters().items():
            found.setdefault(name, float(np.linalg.norm(variable.g)))
        update(solver, losses, weight_decay)

    monkeypatch.setattr(Solver, "update", look)
    return found


def compare_norms(module: str, norms: dict[str, float]) -> None:
    expected = {name: value for (m, _, name), value in NORMS.items() if m == module}
    assert set(expected) == set(norms)
    for name, norm in norms.items():
        scope = name.split("/")[0]
        network = scope.removesuffix("_0").removesuffix("_1")
        largest = max(value for other, value in expected.items() if other.startswith(scope))
        # rounding alone makes these, so nothing can be said of them
        assert norm == pytest.approx(expected[name], rel=NORM_TOLERANCES[network], abs=1e-6 * largest), name


def run_transformer(steps: int, num_align_outputs: int | None) -> None:
    config = config_of("transformer")
    graphs = [train_transformer.build_graph(config, num_align_outputs)]
    solvers = train_transformer.make_solvers(config)
    fill([*TRANSFORMERS.values(), *TRANSFORMER_DISCRIMINATORS.values()])
    for step in range(steps):
        train_transformer.set_batch(graphs[0], (boundaries(100 + step),), (boundaries(200 + step),))
        losses = train_transformer.train_step(graphs, solvers, config.train.weight_decay)
        compare("transformer", step, losses, "nothing" if num_align_outputs else "shape")


def test_the_transformers_first_step_without_the_prior(norms):
    """Every loss but the prior's, and the discriminators' gradients, which the prior does not reach."""
    run_transformer(1, None)
    norms = {name: norm for name, norm in norms.items() if name.startswith("netD")}
    expected = {name: value for (m, _, name), value in NORMS.items() if m == "transformer" and name.startswith("netD")}
    assert set(norms) == set(expected)
    for name, norm in norms.items():
        assert norm == pytest.approx(expected[name], rel=1e-4, abs=1e-5), name


def run_two_sources(num_align_outputs: int | None, losses_without: str) -> None:
    config = config_of("transformer")
    suffixes = ["_0", "_1"]
    graphs = [train_transformer.build_graph(config, num_align_outputs, s, s == "_0") for s in suffixes]
    solvers = train_transformer.make_solvers(config, suffixes)
    fill(train_transformer.networks_of(TRANSFORMERS | TRANSFORMER_DISCRIMINATORS, suffixes))
    for number, graph in enumerate(graphs):
        train_transformer.set_batch(graph, (boundaries(100 + 1000 * number),), (boundaries(200),))
    losses = train_transformer.train_step(graphs, solvers, config.train.weight_decay)
    for total in TOTALS["transformer"]:
        for suffix in suffixes:
            del losses[total + suffix]
    # one discriminator of the target: its loss has a part in each source's graph
    parts = [losses.pop(f"loss_netD_B{suffix}") for suffix in suffixes]
    whole = sum(float(part.d) for part in parts)
    assert whole == pytest.approx(LOSSES["transformer_two_sources", 0, "loss_netD_B"], rel=1e-5)
    expected = {name for m, _, name in LOSSES if m == "transformer_two_sources" and losses_without not in name}
    assert expected - {"loss_netD_B"} == set(losses)
    for name, loss in losses.items():
        assert float(loss.d) == pytest.approx(LOSSES["transformer_two_sources", 0, name], rel=1e-5), name


def test_two_sources_without_the_prior(norms):
    run_two_sources(None, "shape")
    of_two = {name: value for (m, _, name), value in NORMS.items() if m == "transformer_two_sources"}
    found = {name: norm for name, norm in norms.items() if name.startswith("netD")}
    assert set(found) == {name for name in of_two if name.startswith("netD")}
    for name, norm in found.items():
        assert norm == pytest.approx(of_two[name], rel=1e-4, abs=1e-5), name


@needs_prior
def test_two_sources(norms):
    run_two_sources(train_transformer.load_shape_prior(config_of("transformer")), "nothing")
    compare_norms("transformer_two_sources", norms)


@needs_prior
def test_the_transformers_three_steps(norms):
    num_align_outputs = train_transformer.load_shape_prior(config_of("transformer"))
    run_transformer(3, num_align_outputs)
    compare_norms("transformer", norms)


def test_the_decoders_three_steps(norms, monkeypatch):
    config = config_of("decoder")
    monkeypatch.setattr("models.decoder.DROPOUT_LEVELS", ())
    graph, solvers = train_decoder.build_graph(config), train_decoder.make_solvers(config)
    fill([DECODER, DECODER_DISCRIMINATOR])
    for step in range(3):
        batch = pictures(400 + step), boundaries(300 + step), boundaries(300 + step, size=256)
        losses = train_decoder.train_step(graph, solvers, batch)
        compare("decoder", step, losses)
    network_of = {name: network for network in (DECODER, DECODER_DISCRIMINATOR) for name in network.parameters()}
    compare_norms("decoder", {f"{network_of[name].name}/{name}": norm for name, norm in norms.items()})


def test_the_discriminators_weights_decay():
    """Three steps do not show it: with no loss to learn from, weights fall as Adam on their own decay makes them."""
    config = config_of("transformer")
    with nn.parameter_scope("netD_transformer_A"):
        held = nn.parameter.get_parameter_or_create("w", (4,), lambda shape: np.array([1.0, -2.0, 0.5, 0.0]))
    solver = train_transformer.make_solvers(config).discriminator
    solver.adam.set_parameters({"w": held}, reset=True)
    decay, rate = config.train.weight_decay, config.train.lr / 2
    assert decay == 1e-4
    betas, expected = (config.train.beta1, config.train.beta2), held.d.copy().astype(np.float64)
    first, second = np.zeros(4), np.zeros(4)
    for time in range(1, 6):
        held.g = np.zeros(4)  # nnabla passes over gradients that were only marked as zero
        solver.update({}, decay)
        gradient = decay * expected
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        step = rate * np.sqrt(1 - betas[1] ** time) / (1 - betas[0] ** time)
        expected = expected - step * first / (np.sqrt(second) + 1e-8)
    np.testing.assert_allclose(held.d, expected, rtol=1e-6)
    assert abs(held.d[0]) < 1 and held.d[3] == 0
