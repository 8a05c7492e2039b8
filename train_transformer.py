"""Train the transformer: boundaries of A to boundaries of B and back, unpaired, from CelebV.

    python train_transformer.py [--conf FILE.yaml]

The shape loss needs the align network and the PCA: published ones, or those of train_shape_prior.py. Several sources
(src_celeb_names) share the generator towards the target and the target's discriminator (many to one, paper section
3.2); the way back, and the discriminator there, are each source's own.
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import nnabla as nn
import nnabla.solvers as S
import numpy as np

from config.runs import source_names, source_suffix, weights_name
from datasets.batches import Batches, make_batches
from datasets.boundary import DrawingStyle
from datasets.celebv import ENCODER, HEATMAP
from datasets.images import write_image
from datasets.samples import ShiftedDataset, open_dataset
from inference.geometry import NeutralToNeutral, shape_of
from models.align import align, shape_code
from models.build import ALIGN, PCA, TRANSFORMER_DISCRIMINATORS, TRANSFORMERS
from models.losses import lsgan, mean_absolute_error, probability_bce
from models.transformer import enhance_edges, transformer, transformer_discriminator
from training.averaging import Pass, WeightAverage, weights_to_save
from training.communicator import Communicator
from training.plan import Plan
from training.run import dry_run, open_run
from training.setup import call_training, parse_training_args, read_training_config, set_up
from training.updater import Updater
from utils.errors import ConfigError, WeightsError
from utils.panels import heatmap_picture, side_by_side
from utils.parameters import load_parameters, parameters_of, save_parameters
from utils.weights import read_parameters

PAIRS = (("A", "B"), ("B", "A"))
WARM_START_LOSSES = ("loss_warm_A", "loss_warm_B")
Losses = dict[str, nn.Variable]  # by name, unread
ALIGN_LAST_BIAS = "mlp5/affine/b"
WARM_START_BIAS = -3.0  # heatmaps are mostly empty: begin the generators there
SHARED = (TRANSFORMERS["A2B"], TRANSFORMER_DISCRIMINATORS["B"])  # by all sources


class Graph(NamedTuple):
    """Hold inputs, fakes and losses of an iteration, of one source and the target."""

    suffix: str  # of the names of the source's own networks, and of its losses

    real: dict[str, nn.Variable]  # A, B: (B, 15, 64, 64) in [0, 1]
    shifted: dict[str, nn.Variable]  # the same faces moved to the other person by geometry, for the warm start
    fake: dict[str, nn.Variable]  # fake_A = G_B2A(real_B), fake_B = G_A2B(real_A)
    fake_leaf: dict[str, nn.Variable]  # the same numbers, where the generators' losses begin
    recon: dict[str, nn.Variable]  # recon_A = G_B2A(fake_B), recon_B = G_A2B(fake_A)
    discriminator_losses: dict[str, nn.Variable]
    discriminator_loss: nn.Variable
    generator_losses: dict[str, nn.Variable]
    generator_loss: nn.Variable  # their weighted sum
    warm_start_loss: nn.Variable | None


class Solvers(NamedTuple):
    """Hold a solver for all generators, and one for all discriminators."""

    generator: S.Solver
    discriminator: S.Solver


def scope_of(network: str, suffix: str) -> str:
    """Return the scope of a network: one for all sources, or a source's own."""
    return network if network in SHARED else network + suffix


def scopes_of(networks: dict[str, str], suffixes: Iterable[str]) -> list[str]:
    """List the scopes of generators or discriminators, each once."""
    return list(dict.fromkeys(scope_of(network, suffix) for suffix in suffixes for network in networks.values()))


def load_shape_prior(config: dict[str, Any]) -> int:
    """Build and fill the align network and the PCA; gives the number of the align network's outputs.

    Raises:
        WeightsError: a file is missing, damaged or of another network.
    """
    align_path, pca_path = (config["train"]["shape_loss"][key] for key in ("align_param_path", "PCA_param_path"))
    bias = read_parameters(align_path).get(ALIGN_LAST_BIAS)
    if bias is None or bias.ndim != 1:
        raise WeightsError(f"{align_path}: not the weights of the align network; no {ALIGN_LAST_BIAS} in it")
    with nn.parameter_scope(ALIGN):
        align(nn.Variable((1, 15, 64, 64)), len(bias))
    load_parameters(align_path, ALIGN)
    with nn.parameter_scope(PCA):
        shape_code(nn.Variable((1, len(bias))))
    load_parameters(pca_path, PCA)
    return len(bias)


def generate(config: dict[str, Any], direction: str, x: nn.Variable, suffix: str = "") -> nn.Variable:
    """Transform heatmaps (B, 15, 64, 64) to the other person's; the direction is `A2B` or `B2A`."""
    with nn.parameter_scope(scope_of(TRANSFORMERS[direction], suffix)):
        return transformer(x, config["norm_type"], config["model"]["planes"], batch_stat=True)


def discriminate(
    config: dict[str, Any], person: str, x: nn.Variable, fixed: bool = False, suffix: str = ""
) -> nn.Variable:
    """Score how much x is the person's, (B, 1, 6, 6)."""
    if config["train"]["edge_enhancement"]:
        x = enhance_edges(x)
    with nn.parameter_scope(scope_of(TRANSFORMER_DISCRIMINATORS[person], suffix)):
        return transformer_discriminator(x, config["model"]["planes"], fixed)


def fixed_shape_code(x: nn.Variable, num_align_outputs: int) -> nn.Variable:
    """Map (B, 15, 64, 64) to (B, 3) by the align network with batch statistics, as the authors run it, and the PCA."""
    with nn.parameter_scope(ALIGN):
        landmarks = align(x, num_align_outputs, batch_stat=True, fixed=True)
    with nn.parameter_scope(PCA):
        return shape_code(landmarks)


def build_graph(config: dict[str, Any], num_align_outputs: int | None, suffix: str = "") -> Graph:
    """Build the losses of one iteration; `num_align_outputs` is None where the shape loss is off."""
    train = config["train"]
    to_a, to_b = (partial(generate, config, direction, suffix=suffix) for direction in ("B2A", "A2B"))
    score = partial(discriminate, config, suffix=suffix)
    shape = (train["batch_size"], 15, 64, 64)
    real = {person: nn.Variable(shape) for person in "AB"}
    shifted = {person: nn.Variable(shape) for person in "AB"}
    fake = {"A": to_a(real["B"]), "B": to_b(real["A"])}
    fake_leaf = {person: x.get_unlinked_variable(need_grad=True) for person, x in fake.items()}
    recon = {"A": to_a(fake_leaf["B"]), "B": to_b(fake_leaf["A"])}

    discriminator_losses, losses, weights = {}, {}, {}
    for person, other in PAIRS:
        real_scores = score(person, real[person])
        fake_scores = score(person, fake[person].get_unlinked_variable(need_grad=False))
        discriminator_losses[f"loss_discriminator_{person}"] = lsgan(real_scores, True) + lsgan(fake_scores, False)

        losses[f"loss_gan_{person}"] = lsgan(score(person, fake_leaf[person], fixed=True), True)
        weights[f"loss_gan_{person}"] = 1.0
        losses[f"loss_cycle_{person}"] = mean_absolute_error(recon[person], real[person])
        weights[f"loss_cycle_{person}"] = train["cycle_loss"]["lambda"]
        if num_align_outputs is not None:
            codes = (fixed_shape_code(x, num_align_outputs) for x in (fake_leaf[other], real[person]))
            losses[f"loss_shape_{person}"] = mean_absolute_error(*codes)
            weights[f"loss_shape_{person}"] = train["shape_loss"]["lambda"]
        if train["warm_start"]["epochs"]:
            losses[f"loss_warm_{person}"] = probability_bce(fake_leaf[other], shifted[person])
            weights[f"loss_warm_{person}"] = train["warm_start"]["lambda"]
    warm_start_losses = {name: loss for name, loss in losses.items() if name in WARM_START_LOSSES}
    # read after a forward pass, which would otherwise free or overwrite them
    kept = (fake, fake_leaf, recon, discriminator_losses, losses)
    for variable in (x for part in kept for x in part.values()):
        variable.persistent = True
    return Graph(
        suffix=suffix,
        real=real,
        shifted=shifted,
        fake=fake,
        fake_leaf=fake_leaf,
        recon=recon,
        discriminator_losses=discriminator_losses,
        discriminator_loss=sum_of(discriminator_losses),
        generator_losses=losses,
        generator_loss=sum_of({name: weights[name] * loss for name, loss in losses.items()}),
        warm_start_loss=sum_of(warm_start_losses) if warm_start_losses else None,
    )


def sum_of(losses: dict[str, nn.Variable]) -> nn.Variable:
    """Add losses up."""
    first, *others = losses.values()
    return sum(others, first)


def make_solvers(config: dict[str, Any], suffixes: Iterable[str] = ("",)) -> Solvers:
    """Make a solver for all generators, and one for all discriminators."""
    train = config["train"]
    betas = {"beta1": train["beta1"], "beta2": train["beta2"]}
    # a discriminator that learns as fast as the generator breaks the lines
    solvers = Solvers(S.Adam(train["lr"], **betas), S.Adam(train["lr"] / 2, **betas))
    for solver, networks in zip(solvers, (TRANSFORMERS, TRANSFORMER_DISCRIMINATORS)):
        for scope in scopes_of(networks, suffixes):
            parameters = {f"{scope}/{name}": v for name, v in parameters_of(scope).items() if v.need_grad}
            solver.set_parameters(parameters, reset=False)
    return solvers


def set_batch(graph: Graph, batch_a: tuple[np.ndarray, ...], batch_b: tuple[np.ndarray, ...]) -> None:
    """Put heatmaps of A and B into the graph; with the warm start each comes with its shifted heatmap."""
    for person, batch in (("A", batch_a), ("B", batch_b)):
        for variable, array in zip((graph.real[person], graph.shifted[person]), batch):
            variable.d = array


def set_batches(graphs: list[Graph], batches_a: list[Batches], batches_b: Batches, iteration: int) -> None:
    """Put an iteration's heatmaps of each source and of the target into the graphs."""
    real_b, *shifted_b = batches_b[iteration]
    for number, graph in enumerate(graphs):
        set_batch(graph, batches_a[number][iteration], (real_b, *shifted_b[number : number + 1]))


def passes_of(graphs: list[Graph], batches_a: list[Batches], batches_b: Batches) -> list[Pass]:
    """List the passes through the generators, each with its scopes, by the number of their batch."""

    def run(graph: Graph, number: int) -> None:
        set_batches(graphs, batches_a, batches_b, number)
        generate_fakes([graph])

    return [(scopes_of(TRANSFORMERS, [graph.suffix]), partial(run, graph)) for graph in graphs]


def generate_fakes(graphs: list[Graph]) -> None:
    """Run all generators."""
    for graph in graphs:
        nn.forward_all([graph.fake["A"], graph.fake["B"]], clear_no_need_grad=True)


def update_generators(graphs: list[Graph], solver: S.Solver, updater: Updater, is_warm_start: bool) -> Losses:
    """Update all generators once, from losses that begin at the fakes, summed over sources; gives them, unread."""
    solver.zero_grad()
    losses = {}
    for graph in graphs:
        loss = graph.warm_start_loss if is_warm_start else graph.generator_loss
        names = WARM_START_LOSSES if is_warm_start else graph.generator_losses
        losses |= {name + graph.suffix: graph.generator_losses[name] for name in names}
        loss.forward(clear_no_need_grad=True)
        # the losses run backward into the leaves, whose gradient the generators then continue from
        for leaf in graph.fake_leaf.values():
            leaf.grad.zero()
        loss.backward(updater.scale, clear_buffer=True)
        for fake in graph.fake.values():
            fake.backward(grad=None, clear_buffer=True)
    updater.update(solver, losses)
    return losses


def warm_start_step(graphs: list[Graph], solvers: Solvers, updater: Updater) -> Losses:
    """Generate, then teach the generators the shifted landmarks alone."""
    generate_fakes(graphs)
    return update_generators(graphs, solvers.generator, updater, is_warm_start=True)


def train_step(graphs: list[Graph], solvers: Solvers, updater: Updater, weight_decay: float) -> Losses:
    """Generate, update D on the detached fakes, then update G; gives the losses, unread."""
    generate_fakes(graphs)
    solvers.discriminator.zero_grad()
    losses = {}
    for graph in graphs:
        graph.discriminator_loss.forward(clear_no_need_grad=True)
        graph.discriminator_loss.backward(updater.scale, clear_buffer=True)
        losses |= {name + graph.suffix: loss for name, loss in graph.discriminator_losses.items()}
    updater.update(solvers.discriminator, losses, weight_decay)
    return losses | update_generators(graphs, solvers.generator, updater, is_warm_start=False)


def save_panel(graph: Graph, path: Path, is_warm_start: bool) -> None:
    """Write real A, fake B, real B, reconstructed A, fake A, reconstructed B.

    At the warm start, which reconstructs nothing, the shifted heatmaps stand in their places.
    """
    last = "shifted" if is_warm_start else "recon"
    order = (("real", "A"), ("fake", "B"), ("real", "B"), (last, "A"), ("fake", "A"), (last, "B"))
    tiles = [heatmap_picture(getattr(graph, kind)[person].d[0]) for kind, person in order]
    write_image(path, side_by_side(tiles))


def save_panels(graphs: list[Graph], folder: Path, name: str, is_warm_start: bool) -> None:
    """Write a panel for each source."""
    for graph in graphs:
        save_panel(graph, folder / "result" / f"{name}{graph.suffix}.png", is_warm_start)


def open_batches(config: dict[str, Any], communicator: Communicator) -> list[Batches]:
    """Open the batches of each source, and of the target at last.

    With the warm start, heatmaps come with shifted ones: a source's with one, the target's with one for each source.

    Raises:
        ConfigError: source and target are one, or the warm start lacks landmarks.
        DataError: data are missing or damaged.
    """
    train = config["train"]
    style = DrawingStyle(**config["preprocess"])
    names, target = source_names(config), config["trg_celeb_name"]
    if target in names:
        raise ConfigError(f"{target} is both source and target (trg_celeb_name); a transformer is for two people")
    datasets = [open_dataset(config, name, config["mode"], (HEATMAP,), style) for name in (*names, target)]
    if train["warm_start"]["epochs"]:
        if config["boundary"] == ENCODER:
            raise ConfigError(
                "train.warm_start moves landmarks, which 'boundary: encoder' does not have; set epochs to 0"
            )
        *sources, of_target = (shape_of(dataset.landmarks) for dataset in datasets)
        moves = [[NeutralToNeutral(of_source, of_target).move] for of_source in sources]
        moves += [[NeutralToNeutral(of_target, of_source).move for of_source in sources]]
        datasets = [ShiftedDataset(dataset, to_others) for dataset, to_others in zip(datasets, moves)]
    # seeds apart, so that equally long lists are not walked in step
    seeds = [config["seed"] + 2000 * number for number in range(len(names))] + [config["seed"] + 1000]
    return [
        make_batches(dataset, train, seed, communicator.rank, communicator.size)
        for dataset, seed in zip(datasets, seeds)
    ]


def make_graphs(config: dict[str, Any], num_align_outputs: int | None) -> list[Graph]:
    """Make the networks, and a graph for each source."""
    suffixes = [source_suffix(config, source) for source in source_names(config)]
    graphs = [build_graph(config, num_align_outputs, suffix) for suffix in suffixes]
    if config["train"]["warm_start"]["epochs"]:
        for scope in scopes_of(TRANSFORMERS, suffixes):
            parameters_of(scope)["deconv3/conv/b"].d = WARM_START_BIAS
    return graphs


def main() -> None:
    args = parse_training_args(__doc__)
    config, options = read_training_config("transformer", args)
    updater = set_up(config, args, options)
    train, communicator = config["train"], updater.communicator
    *batches_a, batches_b = all_batches = open_batches(config, communicator)
    num_align_outputs = load_shape_prior(config) if train["shape_loss"]["lambda"] > 0 else None
    graphs = make_graphs(config, num_align_outputs)
    suffixes = [graph.suffix for graph in graphs]
    scopes = scopes_of(TRANSFORMERS | TRANSFORMER_DISCRIMINATORS, suffixes)
    solvers = make_solvers(config, suffixes)
    average = WeightAverage(scopes_of(TRANSFORMERS, suffixes), train["average"])
    plan = Plan(
        module="transformer",
        config=config,
        options=options,
        networks=(*scopes, *average.scopes),
        solvers=solvers._asdict(),
        updater=updater,
        # an epoch sees all of the longest list; shorter ones start over in a new order
        batches_per_epoch=max(part.batches_per_epoch for part in all_batches),
        data={name: part.identity() for name, part in zip([f"A{suffix}" for suffix in suffixes] + ["B"], all_batches)},
        graphs=tuple(
            variable
            for graph in graphs
            for variable in (*graph.fake.values(), graph.discriminator_loss, graph.generator_loss)
        ),
        series_interval=config["monitor"]["interval"],
    )
    if args.dry_run:
        return dry_run(plan)

    with open_run(plan) as run:
        for epoch in run.epochs():
            is_warm_start = epoch <= train["warm_start"]["epochs"]
            solvers.generator.set_learning_rate(train["warm_start"]["lr"] if is_warm_start else train["lr"])
            for iteration, bar in run.iterations(epoch):
                set_batches(graphs, batches_a, batches_b, iteration)
                if is_warm_start:
                    losses = warm_start_step(graphs, solvers, updater)
                else:
                    losses = train_step(graphs, solvers, updater, train["weight_decay"])
                average.update(iteration)
                run.show(bar, losses)
                if run.is_writer and (iteration + 1) % config["monitor"]["interval"] == 0:
                    save_panels(graphs, run.folder, f"iteration-{iteration + 1}", is_warm_start)
            if run.is_writer:
                save_panels(graphs, run.folder, f"epoch-{epoch}", is_warm_start)
            if run.saves(epoch):
                passes = passes_of(graphs, batches_a, batches_b)
                with weights_to_save(average, passes, run.batches_after(train["statistics_batches"])):
                    for scope in scopes:
                        save_parameters(run.folder / weights_name(scope, epoch), scope)
            run.end_epoch(epoch)
    communicator.say(f"weights in {run.folder}")


if __name__ == "__main__":
    call_training(main)
