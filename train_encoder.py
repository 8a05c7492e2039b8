"""Train the encoder: face images to boundary heatmaps, on the crops that preprocess.py made of WFLW.

python train_encoder.py [--conf FILE.yaml]
"""

from __future__ import annotations
from training.training import Training, call_training

from pathlib import Path
from typing import NamedTuple

import nnabla as nn
import numpy as np
from nnabla.logger import logger

from config.config_encoder import EncoderConfig
from datasets.batches import Batches
from datasets.boundary import style_of
from datasets.celebv import HEATMAP, IMAGE
from datasets.images import write_image
from datasets.panels import face_image, heatmap_image, monitor_path, side_by_side
from datasets.samples import DrawnDataset, JoinedDataset
from datasets.wflw import WFLWDataset
from models.encoder import prediction_of
from models.losses import encoder_loss
from models.networks import ENCODER, HEATMAP_SHAPE, IMAGE_SHAPE
from training.run import Run
from training.schedule import linear_decay
from training.solver import Solver
from utils.errors import ConfigError

NUM_PANELS = 4


class Graph(NamedTuple):
    """Inputs, prediction and loss of one iteration."""

    image: nn.Variable  # (B, 3, 256, 256) in [-1, 1]
    heatmap: nn.Variable  # (B, 15, 64, 64) in [0, 1]
    prediction: nn.Variable  # (B, 15, 64, 64) as the heatmap
    loss: nn.Variable


def open_faces(config: EncoderConfig) -> dict[str, WFLWDataset | JoinedDataset]:
    """Open the faces for training and validation, by mode: WFLW's, or those of people in CelebV's format.

    Raises ConfigError if the mode does not exist for WFLW, DataError if data are missing, damaged or not split.
    """
    style = style_of(config)
    if config.dataset == "WFLW":
        if config.mode != "train":
            raise ConfigError("mode: must be 'train' for WFLW; its test list is used for validation")
        data_dir, with_landmarks = config.wflw_dir, config.train.augmentation
        return {
            "train": WFLWDataset(data_dir, "train", style, with_landmarks),
            "test": WFLWDataset(data_dir, "test", style),
        }

    def faces(mode: str) -> JoinedDataset:
        return JoinedDataset(
            [DrawnDataset(config.train_dir, name, mode, (IMAGE, HEATMAP), style=style) for name in config.celeb_names]
        )

    return {"train": faces(config.mode), "test": faces("test" if config.mode == "train" else config.mode)}


def build_graph(config: EncoderConfig, batch_size: int, training: bool) -> Graph:
    """Build the network and its loss."""
    image = nn.Variable((batch_size, *IMAGE_SHAPE))
    heatmap = nn.Variable((batch_size, *HEATMAP_SHAPE))
    scores = ENCODER(image, **config.model.options(), batch_stat=training)
    loss = encoder_loss(scores, heatmap, config.loss_name)
    prediction = prediction_of(scores, config.loss_name)
    prediction.persistent = loss.persistent = True
    return Graph(image, heatmap, prediction, loss)


def train_step(
    graph: Graph, solver: Solver, batch: tuple[np.ndarray, ...], weight_decay: float
) -> dict[str, nn.Variable]:
    """Update the network once. Returns the loss without reading it from the device."""
    graph.image.d, graph.heatmap.d = batch
    losses = {"loss": graph.loss}
    solver.zero_grad()
    solver.add_gradient(graph.loss)
    solver.update(losses, weight_decay)
    return losses


def validate(graph: Graph, batches: Batches, epoch: int, panels_dir: Path | None) -> tuple[float, float]:
    """Return the mean squared error on all test samples, and the same relative to an all-zero prediction."""
    squared_error = squared_zero_error = 0.0
    num_samples, batch_size = len(batches.dataset), batches.batch_size
    for number in range(batches.batches_per_epoch):
        first = number * batch_size
        image, heatmap = batches[(epoch - 1) * batches.batches_per_epoch + number]
        heatmap = heatmap[: num_samples - first]  # without the last batch's padding
        graph.image.d = image
        graph.prediction.forward(clear_buffer=True)
        prediction = graph.prediction.d[: len(heatmap)]
        squared_error += float(((prediction - heatmap) ** 2).sum(dtype=np.float64))
        squared_zero_error += float((heatmap**2).sum(dtype=np.float64))
        for row in range(min(len(heatmap), NUM_PANELS - first) if panels_dir else 0):
            tiles = [face_image(image[row]), heatmap_image(prediction[row]), heatmap_image(heatmap[row])]
            write_image(monitor_path(panels_dir, first + row), side_by_side(tiles))
    return squared_error / (num_samples * heatmap[0].size), squared_error / squared_zero_error


def save_if_best(run: Run, graph: Graph, batches: Batches, epoch: int) -> None:
    """Validate, and keep the weights if they are the best so far."""
    is_shown = epoch % run.config.monitor.interval == 0
    mse, share = validate(graph, batches, epoch, run.folder / f"result_epoch-{epoch}" if is_shown else None)
    found = {"validation/mse": mse, "validation/share_of_zero_answer": share}
    run.log_metrics(found)
    logger.info(f"epoch {epoch}: validation mse {mse:.6f}, {share:.3f} relative to an all-zero prediction")
    if mse < run.best.get("mse", float("inf")):
        run.keep_best(ENCODER, {"epoch": epoch, "mse": mse, "share_of_zero_answer": share})


def main() -> None:
    training = Training("encoder", __doc__)
    config, train = training.config, training.config.train
    datasets = open_faces(config)
    batches = training.batches(datasets["train"])
    test_batches = training.test_batches(datasets["test"], config.test.batch_size)
    graph = build_graph(config, train.batch_size, training=True)
    test_graph = build_graph(config, test_batches.batch_size, training=False)
    solver = Solver([ENCODER], train.lr)
    with training.run(
        networks=[ENCODER],
        solvers={"encoder": solver},
        batches={"train": batches},
        data=datasets,
        series_interval=batches.batches_per_epoch,
    ) as run:
        for epoch, iterations in run.epochs():
            solver.set_rate(linear_decay(train.lr, epoch - 1, train.lr_decay_start_at, train.epochs))
            for iteration in iterations:
                run.log(train_step(graph, solver, batches[iteration], train.weight_decay))
            if run.is_writer:
                save_if_best(run, test_graph, test_batches, epoch)
            run.end_epoch(epoch)
    if run.is_writer:
        logger.info(f"best epoch: {run.best['epoch']}, validation mse {run.best['mse']:.6f}")


if __name__ == "__main__":
    call_training(main)
