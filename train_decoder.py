"""Train the decoder: boundary heatmaps to faces of one person, from CelebV.

python train_decoder.py [--conf FILE.yaml]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import nnabla as nn
import nnabla.solvers as S
import numpy as np

from datasets.batches import make_batches
from datasets.celebv import HEATMAP, IMAGE, RESIZED_HEATMAP, CelebVSource
from datasets.images import write_image
from models.decoder import decoder, decoder_discriminator
from models.losses import feature_mse, gan_bce, mean_absolute_error
from models.vgg import vgg_features
from utils.checkpoints import save_parameters
from utils.errors import run as run_script
from utils.panels import face_picture, heatmap_picture, side_by_side
from utils.run import dry_run, open_run
from utils.schedule import linear_decay
from utils.training import Updater, parse_training_args, start_training
from utils.vgg_file import load_vgg16

GENERATOR, DISCRIMINATOR = "netG_decoder", "netD_decoder"


class Graph(NamedTuple):
    heatmap: nn.Variable  # (B, 15, 64, 64) in [0, 1]
    large_heatmap: nn.Variable  # (B, 15, 256, 256) in [0, 1]
    real: nn.Variable  # (B, 3, 256, 256) in [-1, 1]
    fake: nn.Variable  # as real, the generator's output
    fake_leaf: nn.Variable  # the same numbers, where the generator's losses begin
    discriminator_loss: nn.Variable
    generator_losses: dict[str, nn.Variable]
    generator_loss: nn.Variable  # their weighted sum
    loss_without_gan: nn.Variable  # the same without the adversarial term


class Solvers(NamedTuple):
    generator: S.Solver
    discriminator: S.Solver


def build_graph(config: dict[str, Any], vgg: Any | None) -> Graph:
    """The losses of one iteration; `vgg` is None where the feature loss is off."""
    train, planes, batch_size = config["train"], config["model"]["planes"], config["train"]["batch_size"]
    heatmap = nn.Variable((batch_size, 15, 64, 64))
    large_heatmap = nn.Variable((batch_size, 15, 256, 256))
    real = nn.Variable((batch_size, 3, 256, 256))
    with nn.parameter_scope(GENERATOR):
        fake = decoder(heatmap, planes, training=True)
    fake.persistent = True

    def discriminate(image: nn.Variable, fixed: bool = False) -> nn.Variable:
        with nn.parameter_scope(DISCRIMINATOR):
            return decoder_discriminator(large_heatmap, image, planes, fixed)

    real_scores = discriminate(real)
    fake_scores = discriminate(fake.get_unlinked_variable(need_grad=False))
    discriminator_loss = 0.5 * (gan_bce(real_scores, True) + gan_bce(fake_scores, False))

    fake_leaf = fake.get_unlinked_variable(need_grad=True)
    fake_leaf.persistent = True
    losses = {
        "loss_gan": gan_bce(discriminate(fake_leaf, fixed=True), True),
        "loss_l1": mean_absolute_error(fake_leaf, real),
    }
    weighted = train["weight_L1"] * losses["loss_l1"]
    if vgg is not None:
        feature_loss = train["feature_loss"]
        features = (vgg_features(vgg, image, feature_loss["layers"]) for image in (fake_leaf, real))
        losses["loss_feature"] = feature_mse(*features)
        weighted = weighted + feature_loss["lambda"] * losses["loss_feature"]
    for loss in (*losses.values(), discriminator_loss):
        loss.persistent = True  # read after the pass, or not at all
    return Graph(
        heatmap,
        large_heatmap,
        real,
        fake,
        fake_leaf,
        discriminator_loss,
        losses,
        losses["loss_gan"] + weighted,
        weighted,
    )


def make_solvers(config: dict[str, Any]) -> Solvers:
    solvers = Solvers(*(S.Adam(config["train"]["lr"], beta1=config["train"]["beta1"]) for _ in Solvers._fields))
    for solver, scope in zip(solvers, (GENERATOR, DISCRIMINATOR)):
        with nn.parameter_scope(scope):
            solver.set_parameters(nn.get_parameters())
    return solvers


def train_step(
    graph: Graph, solvers: Solvers, updater: Updater, batch: tuple[np.ndarray, ...], with_gan: bool
) -> dict[str, nn.Variable]:
    """Generate, update D on the detached fake, then update G; gives the losses, unread."""
    graph.real.d, graph.heatmap.d, graph.large_heatmap.d = batch
    graph.fake.forward(clear_no_need_grad=True)
    losses = {}
    if with_gan:
        losses["loss_discriminator"] = graph.discriminator_loss
        graph.discriminator_loss.forward(clear_no_need_grad=True)
        solvers.discriminator.zero_grad()
        graph.discriminator_loss.backward(updater.scale, clear_buffer=True)
        updater.update(solvers.discriminator, losses)

    generator_loss = graph.generator_loss if with_gan else graph.loss_without_gan
    losses |= {name: loss for name, loss in graph.generator_losses.items() if with_gan or name != "loss_gan"}
    generator_loss.forward(clear_no_need_grad=True)
    solvers.generator.zero_grad()
    # the losses run backward into the leaf, whose gradient the generator then continues from
    graph.fake_leaf.grad.zero()
    generator_loss.backward(updater.scale, clear_buffer=True)
    graph.fake.backward(grad=None, clear_buffer=True)
    updater.update(solvers.generator, losses)
    return losses


def save_panel(graph: Graph, path: Path) -> None:
    tiles = [heatmap_picture(graph.heatmap.d[0]), face_picture(graph.fake.d[0]), face_picture(graph.real.d[0])]
    write_image(path, side_by_side(tiles))


def main() -> None:
    args = parse_training_args(__doc__)
    start = start_training("decoder", args)
    config, train, updater = start.config, start.config["train"], start.updater
    source = CelebVSource(
        config["train_dir"],
        config["trg_celeb_name"],
        config["mode"],
        (IMAGE, HEATMAP, RESIZED_HEATMAP),
        config["ref_dir"],
        boundary=config["boundary"],
    )
    batches = make_batches(source, train, config["seed"], updater.communicator)
    vgg = load_vgg16() if train["feature_loss"]["lambda"] > 0 else None
    graph = build_graph(config, vgg)
    solvers = make_solvers(config)
    plan = start.plan(
        networks=(GENERATOR, DISCRIMINATOR),
        solvers=solvers._asdict(),
        batches_per_epoch=batches.batches_per_epoch,
        data={"B": source.identity()},
        graphs=(graph.fake, graph.discriminator_loss, graph.generator_loss),
        series_interval=config["monitor"]["interval"],
    )
    if args.dry_run:
        dry_run(plan)
        return

    with open_run(plan) as run:
        for epoch in run.epochs():
            rate = linear_decay(train["lr"], epoch - 1, train["lr_decay_start_at"], train["epochs"])
            for solver in solvers:
                solver.set_learning_rate(rate)
            with_gan = epoch > train["gan_start_at"]
            for iteration, bar in run.iterations(epoch):
                losses = train_step(graph, solvers, updater, batches[iteration], with_gan)
                run.show(bar, losses)
                if run.is_writer and (iteration + 1) % config["monitor"]["interval"] == 0:
                    save_panel(graph, run.folder / "result" / f"iteration-{iteration + 1}.png")
            if run.is_writer:
                save_panel(graph, run.folder / "result" / f"epoch-{epoch}.png")
            if run.saves(epoch):
                for scope in (GENERATOR, DISCRIMINATOR):
                    save_parameters(run.folder / f"{scope}_{epoch}.h5", scope)
            run.end_epoch(epoch)
    print(f"weights in {run.folder}")


if __name__ == "__main__":
    run_script(main)
