"""Train the transformer's shape prior: an align network (heatmaps to landmarks) and a PCA of landmarks.

    python train_shape_prior.py [--conf FILE.yaml]

Writes Align.h5 and PCA.h5 in the published files' form, for train.shape_loss of the transformer.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import nnabla as nn
import nnabla.functions as F
import nnabla.solvers as S
import numpy as np
from sklearn.decomposition import PCA

from datasets.batches import make_batches
from datasets.celebv import LandmarkSource, find_people
from models.align import SHAPE_CODE_SIZE, align
from models.losses import mean_squared_error
from utils.checkpoints import parameters_of, save_parameters
from utils.errors import DataError
from utils.errors import run as run_script
from utils.files import atomic_path
from utils.run import dry_run, open_run
from utils.schedule import linear_decay
from utils.training import Updater, parse_training_args, start_training
from utils.weights import write_arrays

SCOPE = "align"
MIN_RELATIVE_VARIANCE = 1e-6


class Graph(NamedTuple):
    heatmap: nn.Variable  # (B, 15, 64, 64) in [0, 1]
    landmarks: nn.Variable  # (B, 196) in heatmap pixels
    loss: nn.Variable
    distance: nn.Variable  # mean distance of a point from the truth, in heatmap pixels


def build_graph(batch_size: int, num_outputs: int) -> Graph:
    heatmap = nn.Variable((batch_size, 15, 64, 64))
    landmarks = nn.Variable((batch_size, num_outputs))
    with nn.parameter_scope(SCOPE):
        answer = align(heatmap, num_outputs)
    points = F.reshape((answer - landmarks) ** 2, (batch_size, num_outputs // 2, 2))
    distance = F.mean(F.sum(points, axis=2) ** 0.5)
    loss = mean_squared_error(answer, landmarks)
    loss.persistent = distance.persistent = True
    return Graph(heatmap, landmarks, loss, distance)


def train_step(
    graph: Graph, solver: S.Solver, updater: Updater, batch: tuple[np.ndarray, ...]
) -> dict[str, nn.Variable]:
    """One update; gives the loss and the mean distance, unread."""
    graph.heatmap.d, graph.landmarks.d = batch
    nn.forward_all([graph.loss, graph.distance])
    losses = {"loss": graph.loss, "distance_px": graph.distance}
    solver.zero_grad()
    graph.loss.backward(updater.scale, clear_buffer=True)
    updater.update(solver, losses)
    return losses


def fit_pca(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whitened principal components as an affine map, as in the published file.

    Args:
        landmarks: (N, D).

    Returns:
        W (D, D) and b (D,), so that `landmarks @ W + b` are components of unit variance, largest first; and the
        share of the variance that each explains. Directions in which the data does not vary are left unscaled.
    """
    size = landmarks.shape[1]
    pca = PCA(n_components=min(landmarks.shape), svd_solver="full").fit(landmarks)
    deviation = np.sqrt(pca.explained_variance_)
    varies = pca.explained_variance_ > MIN_RELATIVE_VARIANCE * pca.explained_variance_[0]
    weight = np.zeros((size, size))
    weight[:, : len(deviation)] = pca.components_.T / np.where(varies, deviation, 1.0)
    return weight.astype(np.float32), (-pca.mean_ @ weight).astype(np.float32), pca.explained_variance_ratio_


def save_pca(path: Path, weight: np.ndarray, bias: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        write_arrays(temporary, {"affine/W": weight, "affine/b": bias})


def main() -> None:
    args = parse_training_args(__doc__)
    start = start_training("shape_prior", args)
    config, train, updater = start.config, start.config["train"], start.updater
    config["celeb_names"] = config["celeb_names"] or find_people(config["train_dir"])
    source = LandmarkSource(config["train_dir"], config["celeb_names"], config["mode"])
    if len(source) <= SHAPE_CODE_SIZE:
        raise DataError(f"{config['train_dir']}: {len(source)} faces are too few for a shape prior; add annotations")
    batches = make_batches(source, train, config["seed"], updater.communicator)
    graph = build_graph(train["batch_size"], source.targets.shape[1])
    parameters_of(SCOPE)["mlp5/affine/b"].d = source.targets.mean(axis=0)  # begin at the mean face
    solver = S.Adam(train["lr"])
    with nn.parameter_scope(SCOPE):
        solver.set_parameters(nn.get_parameters())
    plan = start.plan(
        networks=(SCOPE,),
        solvers={"align": solver},
        batches_per_epoch=batches.batches_per_epoch,
        data={"landmarks": source.identity()},
        graphs=(graph.loss,),
        series_interval=config["monitor"]["interval"],
    )
    if args.dry_run:
        dry_run(plan)
        return

    with open_run(plan) as run:
        for epoch in run.epochs():
            solver.set_learning_rate(linear_decay(train["lr"], epoch - 1, train["epochs"] // 2, train["epochs"]))
            for iteration, bar in run.iterations(epoch):
                run.show(bar, train_step(graph, solver, updater, batches[iteration]))
            if run.saves(epoch):
                save_parameters(run.folder / "Align.h5", SCOPE)
                weight, bias, explained = fit_pca(source.targets)
                save_pca(run.folder / "PCA.h5", weight, bias)
            run.end_epoch(epoch)
    if run.is_writer:
        share = explained[:SHAPE_CODE_SIZE].sum()
        distance = float(graph.distance.d)
        print(f"align: {distance:.2f} px of 64 off at the end; the shape code explains {share:.1%} of variance")
        print(f"weights: {run.folder / 'Align.h5'}, {run.folder / 'PCA.h5'}")


if __name__ == "__main__":
    run_script(main)
