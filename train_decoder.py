"""Train the decoder: boundary heatmaps to faces of one person, from CelebV.

python train_decoder.py [--conf FILE.yaml]
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

from pathlib import Path
from typing import Any, NamedTuple

import nnabla as nn
import nnabla.solvers as S
import numpy as np

from config.runs import weights_name
from datasets.batches import make_batches
from datasets.celebv import HEATMAP, IMAGE, RESIZED_HEATMAP
from datasets.images import write_image
from datasets.samples import DrawnDataset, open_dataset
from inference.geometry import write_geometry
from models.build import DECODER, DECODER_DISCRIMINATOR
from models.decoder import decoder, decoder_discriminator
from models.layers import blur
from models.losses import detail, feature_mse, gan_bce, mean_absolute_error
from models.vgg import vgg_features
from training.averaging import WeightAverage, weights_to_save
from training.plan import Plan
from training.run import dry_run, open_run
from training.schedule import linear_decay
from training.setup import call_training, parse_training_args, read_training_config, set_up
from training.updater import Updater, adam_of
from utils.download import load_vgg16
from utils.panels import face_picture, heatmap_picture, side_by_side
from utils.parameters import load_parameters, save_parameters


class Graph(NamedTuple):
    """Hold inputs, fakes and losses of an iteration."""

    heatmap: nn.Variable  # (B, 15, 64, 64) in [0, 1]
    large_heatmap: nn.Variable  # (B, 15, 256, 256) in [0, 1]
    real: nn.Variable  # (B, 3, 256, 256) in [-1, 1]
    fake: nn.Variable  # as real, the generator's output
    fake_leaf: nn.Variable  # the same numbers, where the generator's losses begin
    discriminator_loss: nn.Variable
    generator_losses: dict[str, nn.Variable]
    weights: dict[str, float]  # of the generator's losses
    generator_loss: nn.Variable  # the weighted sum of all of them


class Solvers(NamedTuple):
    """Hold a solver for each network."""

    generator: S.Solver
    discriminator: S.Solver


def build_graph(config: dict[str, Any], vgg: Any | None) -> Graph:
    """Build the losses of one iteration; `vgg` is None where the feature loss is off."""
    train, planes, batch_size = config["train"], config["model"]["planes"], config["train"]["batch_size"]
    heatmap = nn.Variable((batch_size, 15, 64, 64))
    large_heatmap = nn.Variable((batch_size, 15, 256, 256))
    real = nn.Variable((batch_size, 3, 256, 256))
    with nn.parameter_scope(DECODER):
        fake = decoder(heatmap, planes, training=True)
    fake.persistent = True

    def discriminate(image: nn.Variable, fixed: bool = False) -> nn.Variable:
        with nn.parameter_scope(DECODER_DISCRIMINATOR):
            return decoder_discriminator(large_heatmap, blur(image, train["discriminator"]["blur"]), planes, fixed)

    real_scores = discriminate(real)
    fake_scores = discriminate(fake.get_unlinked_variable(need_grad=False))
    discriminator_loss = 0.5 * (gan_bce(real_scores, True) + gan_bce(fake_scores, False))

    fake_leaf = fake.get_unlinked_variable(need_grad=True)
    fake_leaf.persistent = True
    losses = {
        "loss_gan": gan_bce(discriminate(fake_leaf, fixed=True), True),
        "loss_l1": mean_absolute_error(fake_leaf, real),
    }
    weights = {"loss_gan": 1.0, "loss_l1": train["weight_L1"]}
    if vgg is not None:
        feature_loss = train["feature_loss"]
        features = (vgg_features(vgg, image, feature_loss["layers"]) for image in (fake_leaf, real))
        losses["loss_feature"] = feature_mse(*features)
        weights["loss_feature"] = feature_loss["lambda"]
    if train["detail_loss"]["lambda"] > 0:
        details = (detail(blur(image, train["detail_loss"]["blur"])) for image in (fake_leaf, real))
        losses["loss_detail"] = mean_absolute_error(*details)
        weights["loss_detail"] = train["detail_loss"]["lambda"]
    for loss in (*losses.values(), discriminator_loss):
        loss.persistent = True  # read after the pass, or not at all
    return Graph(
        heatmap=heatmap,
        large_heatmap=large_heatmap,
        real=real,
        fake=fake,
        fake_leaf=fake_leaf,
        discriminator_loss=discriminator_loss,
        generator_losses=losses,
        weights=weights,
        generator_loss=weighted_sum(losses, weights),
    )


def weighted_sum(losses: dict[str, nn.Variable], weights: dict[str, float]) -> nn.Variable:
    """Add losses up by their weights."""
    first, *others = (weights[name] * loss for name, loss in losses.items())
    return sum(others, first)


def make_solvers(config: dict[str, Any]) -> Solvers:
    """Make a solver for each network."""
    rate, beta1 = config["train"]["lr"], config["train"]["beta1"]
    return Solvers(
        generator=adam_of(DECODER, rate, beta1=beta1),
        discriminator=adam_of(DECODER_DISCRIMINATOR, rate * config["train"]["discriminator"]["lr_factor"], beta1=beta1),
    )


def generate(graph: Graph, batch: tuple[np.ndarray, ...]) -> None:
    """Put a batch into the graph, and run the generator."""
    graph.real.d, graph.heatmap.d, graph.large_heatmap.d = batch
    graph.fake.forward(clear_no_need_grad=True)


def train_step(
    graph: Graph,
    solvers: Solvers,
    updater: Updater,
    batch: tuple[np.ndarray, ...],
    with_gan: bool,
    with_detail: bool = True,
) -> dict[str, nn.Variable]:
    """Generate, update D on the detached fake, then update G; gives the losses, unread.

    Args:
        with_gan, with_detail: whether the adversarial and, where there is one, the detail loss take part.
    """
    generate(graph, batch)
    losses = {}
    if with_gan:
        losses["loss_discriminator"] = graph.discriminator_loss
        graph.discriminator_loss.forward(clear_no_need_grad=True)
        solvers.discriminator.zero_grad()
        graph.discriminator_loss.backward(updater.scale, clear_buffer=True)
        updater.update(solvers.discriminator, losses)

    left_out = {"loss_gan": not with_gan, "loss_detail": not with_detail}
    taken = {name: loss for name, loss in graph.generator_losses.items() if not left_out.get(name)}
    losses |= taken
    generator_loss = weighted_sum(taken, graph.weights)
    generator_loss.forward(clear_no_need_grad=True)
    solvers.generator.zero_grad()
    # the losses run backward into the leaf, whose gradient the generator then continues from
    graph.fake_leaf.grad.zero()
    generator_loss.backward(updater.scale, clear_buffer=True)
    graph.fake.backward(grad=None, clear_buffer=True)
    updater.update(solvers.generator, losses)
    return losses


def save_panel(graph: Graph, path: Path) -> None:
    """Write heatmap, generated face and true face of a batch's first sample."""
    tiles = [heatmap_picture(graph.heatmap.d[0]), face_picture(graph.fake.d[0]), face_picture(graph.real.d[0])]
    write_image(path, side_by_side(tiles))


def main() -> None:
    args = parse_training_args(__doc__)
    config, options = read_training_config("decoder", args)
    updater = set_up(config, args, options)
    train, communicator = config["train"], updater.communicator
    dataset = open_dataset(config, config["trg_celeb_name"], config["mode"], (IMAGE, HEATMAP, RESIZED_HEATMAP))
    batches = make_batches(dataset, train, config["seed"], communicator.rank, communicator.size)
    vgg = load_vgg16() if train["feature_loss"]["lambda"] > 0 else None
    graph = build_graph(config, vgg)
    if config["finetune"]["param_path"] and options.resumed is None:
        load_parameters(config["finetune"]["param_path"], DECODER)
    solvers = make_solvers(config)
    average = WeightAverage((DECODER,), train["average"])
    plan = Plan(
        module="decoder",
        config=config,
        options=options,
        networks=(DECODER, DECODER_DISCRIMINATOR, *average.scopes),
        solvers=solvers._asdict(),
        updater=updater,
        batches_per_epoch=batches.batches_per_epoch,
        data={"B": dataset.identity()},
        graphs=(graph.fake, graph.discriminator_loss, graph.generator_loss),
        series_interval=config["monitor"]["interval"],
    )
    if args.dry_run:
        return dry_run(plan)

    with open_run(plan) as run:
        if run.is_writer and isinstance(dataset, DrawnDataset):
            write_geometry(run.folder, dataset.landmarks)
        for epoch in run.epochs():
            rate = linear_decay(train["lr"], epoch - 1, train["lr_decay_start_at"], train["epochs"])
            solvers.generator.set_learning_rate(rate)
            solvers.discriminator.set_learning_rate(rate * train["discriminator"]["lr_factor"])
            with_gan, with_detail = epoch > train["gan_start_at"], epoch > train["detail_loss"]["start_at"]
            for iteration, bar in run.iterations(epoch):
                losses = train_step(graph, solvers, updater, batches[iteration], with_gan, with_detail)
                average.update(iteration)
                run.show(bar, losses)
                if run.is_writer and (iteration + 1) % config["monitor"]["interval"] == 0:
                    save_panel(graph, run.folder / "result" / f"iteration-{iteration + 1}.png")
            if run.is_writer:
                save_panel(graph, run.folder / "result" / f"epoch-{epoch}.png")
            if run.saves(epoch):
                passes = [((DECODER,), lambda number: generate(graph, batches[number]))]
                with weights_to_save(average, passes, run.batches_after(train["statistics_batches"])):
                    for scope in (DECODER, DECODER_DISCRIMINATOR):
                        save_parameters(run.folder / weights_name(scope, epoch), scope)
            run.end_epoch(epoch)
    communicator.say(f"weights in {run.folder}")


if __name__ == "__main__":
    call_training(main)
