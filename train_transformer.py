"""Train the transformer: boundaries of A to boundaries of B and back, unpaired, on CelebV.

    python train_transformer.py [--conf FILE.yaml]

The shape loss uses an align network and a PCA: published ones, or those of train_shape_prior.py. Several sources
(src_celeb_names) share the generator to the target and the target's discriminator (many to one, paper section 3.2); the
generators back, and their discriminators, belong to each source.
"""

from __future__ import annotations
from training.training import Training, call_training

from functools import partial
from pathlib import Path
from typing import NamedTuple

import nnabla as nn
import numpy as np

from config.config_transformer import TransformerConfig
from datasets.batches import Batches
from datasets.celebv import FROM_ENCODER, HEATMAP
from datasets.images import write_image
from datasets.panels import heatmap_image, monitor_path, side_by_side
from datasets.samples import ShiftedDataset, open_dataset
from faces.geometry import NeutralToNeutral, shape_of
from models.losses import lsgan, mean_absolute_error, probability_bce, weighted_sum
from models.network import Network
from models.networks import ALIGN, HEATMAP_SHAPE, PCA, TRANSFORMER_DISCRIMINATORS, TRANSFORMERS
from models.transformer import enhance_edges
from training.averaging import Pass
from training.schedule import linear_decay
from training.solver import Solver
from utils.errors import ConfigError, WeightsError
from utils.weights import read_parameters

PAIRS = (("A", "B"), ("B", "A"))
Losses = dict[str, nn.Variable]  # by name, not read from the device
ALIGN_LAST_BIAS = "mlp5/affine/b"
WARM_START_BIAS = -3.0  # of the generators' output: heatmaps are mostly empty
SHARED = (TRANSFORMERS["A2B"], TRANSFORMER_DISCRIMINATORS["B"])  # among all sources


class Graph(NamedTuple):
    """Inputs, fakes and losses of one iteration, for one source and the target."""

    suffix: str  # of the names of the source's networks and losses
    real: dict[str, nn.Variable]  # A, B: (B, 15, 64, 64) in [0, 1]
    shifted: dict[str, nn.Variable]  # moved to the other person by geometry, for the warm start
    fake: dict[str, nn.Variable]  # fake_A = G_B2A(real_B), fake_B = G_A2B(real_A)
    fake_leaf: dict[str, nn.Variable]  # unlinked from fake; the generators' losses begin here
    recon: dict[str, nn.Variable]  # recon_A = G_B2A(fake_B), recon_B = G_A2B(fake_A); empty without the cycle loss
    discriminator_losses: dict[str, nn.Variable]
    discriminator_loss: nn.Variable
    generator_losses: dict[str, nn.Variable]
    generator_loss: nn.Variable  # their weighted sum
    warm_start_losses: dict[str, nn.Variable]
    warm_start_loss: nn.Variable | None  # their sum


class Solvers(NamedTuple):
    """One solver for all generators, and one for all discriminators."""

    generator: Solver
    discriminator: Solver


def of_source(network: Network, suffix: str) -> Network:
    """Return a source's network, or the shared one."""
    return network if network in SHARED else network.with_suffix(suffix)


def networks_of(networks: dict[str, Network], suffixes: list[str]) -> list[Network]:
    """Return the generators or discriminators of all sources without duplicates."""
    return list(dict.fromkeys(of_source(network, suffix) for suffix in suffixes for network in networks.values()))


def load_shape_prior(config: TransformerConfig) -> int:
    """Load align network and PCA; return the number of outputs. Raises WeightsError if a file is invalid."""
    shape_loss = config.train.shape_loss
    bias = read_parameters(shape_loss.align_param_path).get(ALIGN_LAST_BIAS)
    if bias is None or bias.ndim != 1:
        raise WeightsError(
            f"{shape_loss.align_param_path}: not the weights of the align network: {ALIGN_LAST_BIAS} is missing"
        )
    ALIGN(nn.Variable((1, *HEATMAP_SHAPE)), len(bias))
    ALIGN.load(shape_loss.align_param_path)
    PCA(nn.Variable((1, len(bias))))
    PCA.load(shape_loss.PCA_param_path)
    return len(bias)


def shape_prior_files(config: TransformerConfig) -> dict[str, str]:
    """Return the files of the shape prior by name, if the shape loss is on."""
    shape_loss = config.train.shape_loss
    if not shape_loss.lambda_:
        return {}
    return {"align": shape_loss.align_param_path, "PCA": shape_loss.PCA_param_path}


def generate(config: TransformerConfig, direction: str, x: nn.Variable, suffix: str = "") -> nn.Variable:
    """Transform heatmaps (B, 15, 64, 64) in the direction `A2B` or `B2A`."""
    network = of_source(TRANSFORMERS[direction], suffix)
    return network(x, config.norm_type, **config.model.options(), batch_stat=True)


def discriminate(
    config: TransformerConfig, person: str, x: nn.Variable, fixed: bool = False, suffix: str = ""
) -> nn.Variable:
    """Run a person's discriminator; returns scores (B, 1, 6, 6)."""
    if config.train.edge_enhancement:
        x = enhance_edges(x)
    return of_source(TRANSFORMER_DISCRIMINATORS[person], suffix)(x, config.model.planes, fixed)


def fixed_shape_code(x: nn.Variable, num_align_outputs: int) -> nn.Variable:
    """Map heatmaps (B, 15, 64, 64) to shape codes (B, 3). The align network uses batch statistics (as the authors')."""
    return PCA(ALIGN(x, num_align_outputs, batch_stat=True, fixed=True))


def build_graph(
    config: TransformerConfig, num_align_outputs: int | None, suffix: str = "", scores_real_b: bool = True
) -> Graph:
    """Build networks and losses of one iteration.

    Args:
        num_align_outputs: None if the shape loss is off.
        suffix: suffix of the source's networks.
        scores_real_b: whether this graph scores the target's real heatmaps. Several sources share the discriminator, so
            only one does.
    """
    train = config.train
    to_a, to_b = (partial(generate, config, direction, suffix=suffix) for direction in ("B2A", "A2B"))
    score = partial(discriminate, config, suffix=suffix)
    shape = (train.batch_size, *HEATMAP_SHAPE)
    real = {person: nn.Variable(shape) for person in "AB"}
    shifted = {person: nn.Variable(shape) for person in "AB"}
    fake = {"A": to_a(real["B"]), "B": to_b(real["A"])}
    fake_leaf = {person: x.get_unlinked_variable(need_grad=True) for person, x in fake.items()}
    recon = {"A": to_a(fake_leaf["B"]), "B": to_b(fake_leaf["A"])} if train.cycle_loss.lambda_ else {}

    discriminator_losses, losses, warm_start_losses, weights = {}, {}, {}, {}
    for person, other in PAIRS:
        loss = lsgan(score(person, fake[person].get_unlinked_variable(need_grad=False)), False)
        if person == "A" or scores_real_b:
            loss = lsgan(score(person, real[person]), True) + loss
        discriminator_losses[f"loss_netD_{person}"] = loss

        if train.gan_loss.lambda_:
            losses[f"loss_gan_{person}"] = lsgan(score(person, fake_leaf[person], fixed=True), True)
            weights[f"loss_gan_{person}"] = train.gan_loss.lambda_
        if train.cycle_loss.lambda_:
            losses[f"loss_cycle_{person}"] = mean_absolute_error(recon[person], real[person])
            weights[f"loss_cycle_{person}"] = train.cycle_loss.lambda_
        if num_align_outputs is not None:
            codes = (fixed_shape_code(x, num_align_outputs) for x in (fake_leaf[other], real[person]))
            losses[f"loss_shape_{person}"] = mean_absolute_error(*codes)
            weights[f"loss_shape_{person}"] = train.shape_loss.lambda_
        if train.warm_start.epochs:
            loss = probability_bce(fake_leaf[other], shifted[person])
            losses[f"loss_warm_{person}"] = warm_start_losses[f"loss_warm_{person}"] = loss
            weights[f"loss_warm_{person}"] = train.warm_start.lambda_
    if not any(weights.values()):
        raise ConfigError("train: the weights of all losses are 0 (gan_loss, cycle_loss, shape_loss)")
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
        discriminator_loss=weighted_sum(discriminator_losses),
        generator_losses=losses,
        generator_loss=weighted_sum(losses, weights),
        warm_start_losses=warm_start_losses,
        warm_start_loss=weighted_sum(warm_start_losses) if warm_start_losses else None,
    )


def make_solvers(config: TransformerConfig, suffixes: tuple[str, ...] = ("",)) -> Solvers:
    """Create the solvers."""
    train = config.train
    betas = {"beta1": train.beta1, "beta2": train.beta2}
    # with equal learning rates, boundaries become fragmented
    return Solvers(
        generator=Solver(networks_of(TRANSFORMERS, suffixes), train.lr, **betas),
        discriminator=Solver(networks_of(TRANSFORMER_DISCRIMINATORS, suffixes), train.lr / 2, **betas),
    )


def set_batch(graph: Graph, batch_a: tuple[np.ndarray, ...], batch_b: tuple[np.ndarray, ...]) -> None:
    """Set heatmaps of A and B, and shifted heatmaps for the warm start."""
    for person, batch in (("A", batch_a), ("B", batch_b)):
        for variable, array in zip((graph.real[person], graph.shifted[person]), batch):
            variable.d = array


def set_batches(graphs: list[Graph], batches_a: list[Batches], batches_b: Batches, iteration: int) -> None:
    """Set the heatmaps of an iteration in the graphs of all sources."""
    real_b, *shifted_b = batches_b[iteration]
    for number, graph in enumerate(graphs):
        set_batch(graph, batches_a[number][iteration], (real_b, *shifted_b[number : number + 1]))


def passes_of(graphs: list[Graph], batches_a: list[Batches], batches_b: Batches) -> list[Pass]:
    """Return the forward passes through the generators of each source."""

    def run(graph: Graph, number: int) -> None:
        set_batches(graphs, batches_a, batches_b, number)
        generate_fakes([graph])

    return [(networks_of(TRANSFORMERS, [graph.suffix]), partial(run, graph)) for graph in graphs]


def generate_fakes(graphs: list[Graph]) -> None:
    """Run all generators."""
    for graph in graphs:
        nn.forward_all([graph.fake["A"], graph.fake["B"]], clear_no_need_grad=True)


def update_generators(graphs: list[Graph], solver: Solver, is_warm_start: bool) -> Losses:
    """Update all generators with the losses of all sources."""
    solver.zero_grad()
    losses, totals = {}, {}
    for graph in graphs:
        loss = graph.warm_start_loss if is_warm_start else graph.generator_loss
        terms = graph.warm_start_losses if is_warm_start else graph.generator_losses
        losses |= {name + graph.suffix: term for name, term in terms.items()}
        totals["loss_netG" + graph.suffix] = loss
        solver.add_gradient(loss, through=list(zip(graph.fake_leaf.values(), graph.fake.values())))
    solver.update(losses)
    return totals | losses


def warm_start_step(graphs: list[Graph], solvers: Solvers) -> Losses:
    """Generate, and update the generators with the warm start's losses only."""
    generate_fakes(graphs)
    return update_generators(graphs, solvers.generator, is_warm_start=True)


def train_step(graphs: list[Graph], solvers: Solvers, weight_decay: float, with_gan: bool = True) -> Losses:
    """Generate, update the discriminators on the unlinked fakes, then update the generators."""
    generate_fakes(graphs)
    if not with_gan:
        return update_generators(graphs, solvers.generator, is_warm_start=False)
    solvers.discriminator.zero_grad()
    losses, totals = {}, {}
    for graph in graphs:
        solvers.discriminator.add_gradient(graph.discriminator_loss)
        losses |= {name + graph.suffix: loss for name, loss in graph.discriminator_losses.items()}
        totals["loss_netD" + graph.suffix] = graph.discriminator_loss
    solvers.discriminator.update(losses, weight_decay)
    return totals | losses | update_generators(graphs, solvers.generator, is_warm_start=False)


def save_panel(graph: Graph, path: Path, is_warm_start: bool) -> None:
    """Write real A, fake B, real B, reconstructed (in the warm start shifted) A, fake A, reconstructed B.

    Without the cycle loss nothing is reconstructed.
    """
    last = "shifted" if is_warm_start else "recon"
    order = (("real", "A"), ("fake", "B"), ("real", "B"), (last, "A"), ("fake", "A"), (last, "B"))
    found = ((getattr(graph, kind), person) for kind, person in order)
    tiles = [heatmap_image(variables[person].d[0]) for variables, person in found if variables]
    write_image(path, side_by_side(tiles))


def save_panels(graphs: list[Graph], warm_start_epochs: int, folder: Path, iteration: int, epoch: int) -> None:
    """Write a panel for each source."""
    for number, graph in enumerate(graphs):
        save_panel(graph, monitor_path(folder, iteration, number), epoch <= warm_start_epochs)


def open_batches(training: Training) -> list[Batches]:
    """Open the batches of each source, then the target's.

    For the warm start, a sample also contains shifted heatmaps: one of a source, one per source of the target. Raises
    ConfigError if source and target are the same or the warm start lacks landmarks, DataError if data are invalid.
    """
    config = training.config
    names, target = config.sources, config.trg_celeb_name
    if target in names:
        raise ConfigError(f"{target} is both source and target (trg_celeb_name)")
    datasets = [open_dataset(config, name, config.mode, (HEATMAP,)) for name in (*names, target)]
    if config.train.warm_start.epochs:
        if config.boundary == FROM_ENCODER:
            raise ConfigError(
                "train.warm_start requires landmarks, which 'boundary: encoder' does not provide; set epochs to 0"
            )
        *shapes_a, shape_b = (shape_of(dataset.landmarks) for dataset in datasets)
        moves = [[NeutralToNeutral(shape_a, shape_b).move] for shape_a in shapes_a]
        moves += [[NeutralToNeutral(shape_b, shape_a).move for shape_a in shapes_a]]
        datasets = [ShiftedDataset(dataset, to_others) for dataset, to_others in zip(datasets, moves)]
    offsets = [*(2000 * number for number in range(len(names))), 1000]
    return [training.batches(dataset, offset) for dataset, offset in zip(datasets, offsets)]


def make_graphs(config: TransformerConfig, num_align_outputs: int | None) -> list[Graph]:
    """Build the networks, and a graph for each source."""
    suffixes = [config.suffix_of(source) for source in config.sources]
    graphs = [build_graph(config, num_align_outputs, suffix, suffix == suffixes[0]) for suffix in suffixes]
    if config.train.warm_start.epochs:
        for network in networks_of(TRANSFORMERS, suffixes):
            network.parameters()["deconv3/conv/b"].d = WARM_START_BIAS
    return graphs


def main() -> None:
    training = Training("transformer", __doc__)
    config, train, warm_start = training.config, training.config.train, training.config.train.warm_start
    *batches_a, batches_b = all_batches = open_batches(training)
    graphs = make_graphs(config, load_shape_prior(config) if train.shape_loss.lambda_ > 0 else None)
    suffixes = [graph.suffix for graph in graphs]
    solvers = make_solvers(config, suffixes)
    with training.run(
        networks=networks_of(TRANSFORMERS, suffixes),
        discriminators=networks_of(TRANSFORMER_DISCRIMINATORS, suffixes),
        solvers=solvers._asdict(),
        batches=dict(zip([*(f"A{suffix}" for suffix in suffixes), "B"], all_batches)),
        files=shape_prior_files(config),
    ) as run:
        for epoch, iterations in run.epochs():
            is_warm_start = epoch <= warm_start.epochs
            rate = train.lr
            if is_warm_start:
                rate = linear_decay(warm_start.lr, epoch - 1, warm_start.lr_decay_start_at, warm_start.epochs)
            solvers.generator.set_rate(rate)
            for iteration in iterations:
                set_batches(graphs, batches_a, batches_b, iteration)
                if is_warm_start:
                    losses = warm_start_step(graphs, solvers)
                else:
                    losses = train_step(graphs, solvers, train.weight_decay, train.gan_loss.lambda_ > 0)
                run.average.update(iteration)
                run.log(losses, partial(save_panels, graphs, warm_start.epochs))
            run.end_epoch(epoch, passes_of(graphs, batches_a, batches_b))


if __name__ == "__main__":
    call_training(main)
