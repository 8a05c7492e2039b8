"""Train the encoder: face images to boundary heatmaps, on the crops that preprocess.py made of WFLW.

python train_encoder.py [--conf FILE.yaml]
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

from pathlib import Path
from typing import Any, NamedTuple

import nnabla as nn
import nnabla.solvers as S
import numpy as np

from config.runs import weights_folder, weights_name
from datasets.batches import Batches, make_batches
from datasets.celebv import HEATMAP, IMAGE, find_people
from datasets.images import write_image
from datasets.samples import DrawnDataset, JoinedDataset
from datasets.wflw import WFLWDataset
from models.build import ENCODER
from models.encoder import encoder, heatmap_of
from models.losses import encoder_loss
from training.plan import Plan
from training.run import dry_run, open_run, require_finite
from training.setup import call_training, parse_training_args, read_training_config, set_up
from training.updater import Updater, adam_of
from utils.errors import ConfigError
from utils.files import write_yaml
from utils.panels import face_picture, heatmap_picture, side_by_side
from utils.parameters import load_parameters, save_parameters

NUM_PANELS = 4


class Graph(NamedTuple):
    """Hold inputs, prediction and loss of an iteration."""

    image: nn.Variable  # (B, 3, 256, 256) in [-1, 1]
    heatmap: nn.Variable  # (B, 15, 64, 64) in [0, 1]
    prediction: nn.Variable  # (B, 15, 64, 64) as the heatmap
    loss: nn.Variable


def open_faces(config: dict[str, Any]) -> dict[str, WFLWDataset | JoinedDataset]:
    """Open the faces to train and to validate on, by mode: WFLW's, or those of people of CelebV's form.

    Raises:
        ConfigError: WFLW has no list of all.
        DataError: they are missing or damaged, or people are not split.
    """
    if config["dataset"] == "WFLW":
        if config["mode"] != "train":
            raise ConfigError("mode: of WFLW it is train, which is validated on its test list")
        data_dir, with_landmarks = config["path"]["data_dir"], config["train"]["augmentation"]
        return {"train": WFLWDataset(data_dir, "train", with_landmarks), "test": WFLWDataset(data_dir, "test")}
    root = config["train_dir"]
    config["celeb_names"] = config["celeb_names"] or find_people(root)

    def faces(mode: str) -> JoinedDataset:
        return JoinedDataset([DrawnDataset(root, name, mode, (IMAGE, HEATMAP)) for name in config["celeb_names"]])

    return {"train": faces(config["mode"]), "test": faces("test" if config["mode"] == "train" else config["mode"])}


def build_graph(config: dict[str, Any], batch_size: int, training: bool) -> Graph:
    """Build the network with its loss."""
    image = nn.Variable((batch_size, 3, 256, 256))
    heatmap = nn.Variable((batch_size, 15, 64, 64))
    with nn.parameter_scope(ENCODER):
        scores = encoder(image, batch_stat=training, **config["model"])
    loss = encoder_loss(scores, heatmap, config["loss_name"])
    prediction = heatmap_of(scores, config["loss_name"])
    prediction.persistent = loss.persistent = True
    return Graph(image, heatmap, prediction, loss)


def train_step(
    graph: Graph, solver: S.Solver, updater: Updater, batch: tuple[np.ndarray, ...], weight_decay: float
) -> dict[str, nn.Variable]:
    """Update once; gives the loss, unread."""
    graph.image.d, graph.heatmap.d = batch
    graph.loss.forward(clear_no_need_grad=True)
    losses = {"loss": graph.loss}
    solver.zero_grad()
    graph.loss.backward(updater.scale, clear_buffer=True)
    updater.update(solver, losses, weight_decay)
    return losses


def validate(graph: Graph, batches: Batches, epoch: int, panels_dir: Path | None) -> tuple[float, float]:
    """Measure the error on every test sample, in evaluation mode.

    Returns:
        mean squared error of the prediction, and the same as a share of an all-zero prediction's.
    """
    squared_error = squared_zero_error = 0.0
    num_samples, batch_size = len(batches.dataset), batches.batch_size
    for number in range(batches.batches_per_epoch):
        first = number * batch_size
        image, heatmap = batches[(epoch - 1) * batches.batches_per_epoch + number]
        heatmap = heatmap[: num_samples - first]  # without those that only fill up the last batch
        graph.image.d = image
        graph.prediction.forward(clear_buffer=True)
        prediction = graph.prediction.d[: len(heatmap)]
        squared_error += float(((prediction - heatmap) ** 2).sum(dtype=np.float64))
        squared_zero_error += float((heatmap**2).sum(dtype=np.float64))
        for row in range(min(len(heatmap), NUM_PANELS - first) if panels_dir else 0):
            tiles = [face_picture(image[row]), heatmap_picture(prediction[row]), heatmap_picture(heatmap[row])]
            write_image(panels_dir / f"{first + row:03d}.png", side_by_side(tiles))
    return squared_error / (num_samples * heatmap[0].size), squared_error / squared_zero_error


def main() -> None:
    args = parse_training_args(__doc__)
    config, options = read_training_config("encoder", args)
    updater = set_up(config, args, options)
    train, communicator = config["train"], updater.communicator
    datasets = open_faces(config)
    batches = make_batches(datasets["train"], train, config["seed"], communicator.rank, communicator.size)
    test_batch_size = min(config["test"]["batch_size"], len(datasets["test"]))
    test_batches = Batches(
        datasets["test"], test_batch_size, config["seed"], shuffle=False, num_workers=train["num_workers"]
    )

    graph = build_graph(config, train["batch_size"], training=True)
    test_graph = build_graph(config, test_batch_size, training=False)
    if config["finetune"]["param_path"] and options.resumed is None:
        load_parameters(config["finetune"]["param_path"], ENCODER)
    solver = adam_of(ENCODER, train["lr"])
    plan = Plan(
        module="encoder",
        config=config,
        options=options,
        networks=(ENCODER,),
        solvers={"encoder": solver},
        updater=updater,
        batches_per_epoch=batches.batches_per_epoch,
        data={mode: dataset.identity() for mode, dataset in datasets.items()},
        graphs=(graph.loss, test_graph.prediction),
        series_interval=batches.batches_per_epoch,
    )
    if args.dry_run:
        return dry_run(plan)

    with open_run(plan) as run:
        weights_dir = weights_folder("encoder", config, run.folder)
        for epoch in run.epochs():
            for iteration, bar in run.iterations(epoch):
                run.show(bar, train_step(graph, solver, updater, batches[iteration], train["weight_decay"]))
            if run.is_writer:
                is_shown = epoch % config["monitor"]["interval"] == 0
                mse, share = validate(
                    test_graph, test_batches, epoch, run.folder / f"result_epoch-{epoch}" if is_shown else None
                )
                require_finite({"validation mse": mse})
                run.series.write("validation/mse", iteration, mse)
                run.series.write("validation/share_of_zero_answer", iteration, share)
                print(f"epoch {epoch}: validation mse {mse:.6f}, {share:.3f} of an all-zero prediction's")
                if mse < run.best.get("mse", float("inf")):
                    run.best = {"epoch": epoch, "mse": mse, "share_of_zero_answer": share}
                    save_parameters(weights_dir / "model_best.h5", ENCODER)
                    write_yaml(weights_dir / "best.yaml", run.best)
            if run.saves(epoch):
                save_parameters(weights_dir / weights_name(ENCODER, epoch), ENCODER)
            run.end_epoch(epoch)
    if run.is_writer:
        print(f"best epoch: {run.best['epoch']}, validation mse {run.best['mse']:.6f}; weights in {weights_dir}")


if __name__ == "__main__":
    call_training(main)
