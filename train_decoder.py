"""Train the decoder: boundary heatmaps to faces of one person of CelebV.

python train_decoder.py [--conf FILE.yaml]
"""

from __future__ import annotations
from training.training import Training, call_training

from functools import partial
from pathlib import Path
from typing import NamedTuple

import nnabla as nn
import numpy as np

from config.config_decoder import DecoderConfig
from datasets.celebv import HEATMAP, IMAGE, RESIZED_HEATMAP
from datasets.film import keep_film
from datasets.images import write_image
from datasets.panels import face_image, generated_metadata, heatmap_image, monitor_path, side_by_side
from datasets.samples import open_dataset
from datasets.shape_file import keep_shape
from models.losses import feature_mse, gan_bce, mean_absolute_error, weighted_sum
from models.networks import DECODER, DECODER_DISCRIMINATOR, HEATMAP_SHAPE, IMAGE_SHAPE, LARGE_HEATMAP_SHAPE
from models.vgg import vgg_features
from training.schedule import linear_decay
from training.solver import Solver
from utils.errors import ConfigError


class Graph(NamedTuple):
    """Inputs, fakes and losses of one iteration."""

    heatmap: nn.Variable  # (B, 15, 64, 64) in [0, 1]
    large_heatmap: nn.Variable  # (B, 15, 256, 256) in [0, 1]
    real: nn.Variable  # (B, 3, 256, 256) in [-1, 1]
    fake: nn.Variable  # like real: the generator's output
    fake_leaf: nn.Variable  # unlinked from fake; the generator's losses begin here
    discriminator_loss: nn.Variable
    pixel_losses: dict[str, nn.Variable]  # of the generator, without the adversarial loss
    pixel_loss: nn.Variable  # their weighted sum
    generator_losses: dict[str, nn.Variable]  # all losses of the generator
    generator_loss: nn.Variable  # their weighted sum


class Solvers(NamedTuple):
    """One solver for each network."""

    generator: Solver
    discriminator: Solver


def build_graph(config: DecoderConfig) -> Graph:
    """Build networks and losses of one iteration."""
    train, planes, batch_size = config.train, config.model.planes, config.train.batch_size
    if not (train.weight_L1 or train.feature_loss.lambda_) and (train.gan_start_at or not train.gan_loss.lambda_):
        raise ConfigError("train: the weights of all losses are 0 (gan_loss, weight_L1, feature_loss)")
    heatmap = nn.Variable((batch_size, *HEATMAP_SHAPE))
    large_heatmap = nn.Variable((batch_size, *LARGE_HEATMAP_SHAPE))
    real = nn.Variable((batch_size, *IMAGE_SHAPE))

    fake = DECODER(heatmap, **config.model.options(), training=True)
    fake.persistent = True

    real_scores = DECODER_DISCRIMINATOR(large_heatmap, real, planes)
    fake_scores = DECODER_DISCRIMINATOR(large_heatmap, fake.get_unlinked_variable(need_grad=False), planes)
    discriminator_loss = 0.5 * (gan_bce(real_scores, True) + gan_bce(fake_scores, False))

    fake_leaf = fake.get_unlinked_variable(need_grad=True)
    fake_leaf.persistent = True
    gan_loss = gan_bce(DECODER_DISCRIMINATOR(large_heatmap, fake_leaf, planes, fixed=True), True)
    pixel_losses = {"L1_loss": mean_absolute_error(fake_leaf, real)}
    if train.feature_loss.lambda_ > 0:
        pixel_losses["vgg_feature_loss"] = feature_mse(*vgg_features((fake_leaf, real), train.feature_loss.layers))
    losses = {"loss_gan": gan_loss} | pixel_losses
    weights = {"loss_gan": train.gan_loss.lambda_, "L1_loss": train.weight_L1}
    weights["vgg_feature_loss"] = train.feature_loss.lambda_
    for loss in (*losses.values(), discriminator_loss):
        loss.persistent = True  # may be read after the backward pass
    return Graph(
        heatmap=heatmap,
        large_heatmap=large_heatmap,
        real=real,
        fake=fake,
        fake_leaf=fake_leaf,
        discriminator_loss=discriminator_loss,
        pixel_losses=pixel_losses,
        pixel_loss=weighted_sum(pixel_losses, weights),
        generator_losses=losses,
        generator_loss=weighted_sum(losses, weights),
    )


def make_solvers(config: DecoderConfig) -> Solvers:
    """Make a solver for each network."""
    train = config.train
    return Solvers(
        generator=Solver([DECODER], train.lr, beta1=train.beta1),
        discriminator=Solver([DECODER_DISCRIMINATOR], train.lr * train.discriminator.lr_factor, beta1=train.beta1),
    )


def generate(graph: Graph, batch: tuple[np.ndarray, ...]) -> None:
    """Set a batch, and run the generator."""
    graph.real.d, graph.heatmap.d, graph.large_heatmap.d = batch
    graph.fake.forward(clear_no_need_grad=True)


def train_step(
    graph: Graph, solvers: Solvers, batch: tuple[np.ndarray, ...], with_gan: bool = True
) -> dict[str, nn.Variable]:
    """Generate, update the discriminator on the unlinked fake, then update the generator.

    Returns the losses without reading them from the device; `with_gan` includes the adversarial loss.
    """
    generate(graph, batch)
    losses = {}
    if with_gan:
        losses["loss_netD"] = graph.discriminator_loss
        solvers.discriminator.zero_grad()
        solvers.discriminator.add_gradient(graph.discriminator_loss)
        solvers.discriminator.update(losses)

    losses |= graph.generator_losses if with_gan else graph.pixel_losses
    generator_loss = graph.generator_loss if with_gan else graph.pixel_loss
    solvers.generator.zero_grad()
    solvers.generator.add_gradient(generator_loss, through=[(graph.fake_leaf, graph.fake)])
    solvers.generator.update(losses)
    return {"loss_netG": generator_loss} | losses


def save_panel(graph: Graph, folder: Path, iteration: int, epoch: int) -> None:
    """Write heatmap, generated face and real face of a batch's first sample."""
    tiles = [heatmap_image(graph.heatmap.d[0]), face_image(graph.fake.d[0]), face_image(graph.real.d[0])]
    write_image(monitor_path(folder, iteration), side_by_side(tiles), generated_metadata("face in the middle"))


def main() -> None:
    training = Training("decoder", __doc__)
    config, train = training.config, training.config.train
    dataset = open_dataset(config, config.trg_celeb_name, config.mode, (IMAGE, HEATMAP, RESIZED_HEATMAP))
    batches = training.batches(dataset)
    graph = build_graph(config)
    solvers = make_solvers(config)
    gan_start_at = train.gan_start_at if train.gan_loss.lambda_ else train.epochs
    with training.run(
        networks=[DECODER], discriminators=[DECODER_DISCRIMINATOR], solvers=solvers._asdict(), batches={"B": batches}
    ) as run:
        for epoch, iterations in run.epochs():
            rate = linear_decay(train.lr, epoch - 1, train.lr_decay_start_at, train.epochs)
            solvers.generator.set_rate(rate)
            solvers.discriminator.set_rate(rate * train.discriminator.lr_factor)
            for iteration in iterations:
                losses = train_step(graph, solvers, batches[iteration], with_gan=epoch > gan_start_at)
                run.average.update(iteration)
                run.log(losses, partial(save_panel, graph))
            passes = [([DECODER], lambda number: generate(graph, batches[number]))]
            run.end_epoch(epoch, passes, keep=[partial(keep_shape, dataset), partial(keep_film, config)])


if __name__ == "__main__":
    call_training(main)
