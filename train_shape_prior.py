"""Train the transformer's shape prior: an align network (heatmaps to landmarks) and a PCA of landmarks.

    python train_shape_prior.py [--conf FILE.yaml]

Writes Align.h5 and PCA.h5 in the format of the published files, for train.shape_loss of the transformer, with a report
of their accuracy and an image of the components.
"""

from __future__ import annotations
from training.training import Training, call_training

from functools import partial
from itertools import combinations, islice
from pathlib import Path
from typing import NamedTuple

import nnabla as nn
import nnabla.functions as F
import numpy as np
from nnabla.logger import logger
from sklearn.decomposition import PCA

from config.config_shape_prior import ShapePriorConfig
from datasets import wflw
from datasets.augment import random_transform
from datasets.batches import Batches, heatmap_of
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, DrawingStyle, draw_heatmap, style_of
from datasets.celebv import read_person
from datasets.images import write_image
from datasets.panels import contact_sheet, heatmap_image, monitor_path
from datasets.samples import LandmarkDataset
from faces.geometry import NeutralToNeutral, shape_of
from faces.landmarks import normalized_error
from models.align import SHAPE_CODE_SIZE
from models.losses import mean, mean_squared_error
from models.networks import ALIGN, HEATMAP_SHAPE
from synthetic.truth import expressions_of, has_expressions, landmarks_on
from training.run import Run
from training.schedule import linear_decay
from training.solver import Solver
from utils.errors import DataError
from utils.files import atomic_path, write_yaml
from utils.sampling import evenly
from utils.weights import write_arrays

MIN_RELATIVE_VARIANCE = 1e-6
MIN_BETWEEN = 1e-3  # in heatmap pixels; smaller differences between people are ignored
MAX_PAIRS, FRAMES_OF_PAIR = 6, 128
COPIES = 6  # augmentations of each face
LARGE_SHAPE_LOSS = 0.2  # between people with equal expressions; 0.6 if the prior depends on the identity
SHOWN_DEVIATIONS = (-2.0, -1.0, 0.0, 1.0, 2.0)
TILE_PX = 128
TO_HEATMAP = HEATMAP_SIZE / IMAGE_SIZE


class Graph(NamedTuple):
    """Inputs, prediction and losses of one iteration."""

    heatmap: nn.Variable  # (B, 15, 64, 64) in [0, 1]
    landmarks: nn.Variable  # (B, 196) in heatmap pixels
    prediction: nn.Variable  # like the landmarks
    loss: nn.Variable
    distance: nn.Variable  # mean distance of a landmark from the truth, in heatmap pixels


def build_graph(batch_size: int, num_outputs: int) -> Graph:
    """Build the align network and its loss."""
    heatmap = nn.Variable((batch_size, *HEATMAP_SHAPE))
    landmarks = nn.Variable((batch_size, num_outputs))
    prediction = ALIGN(heatmap, num_outputs)
    squares = (prediction.get_unlinked_variable(need_grad=False) - landmarks) ** 2
    squares = F.reshape(squares, (batch_size, num_outputs // 2, 2))
    distance = mean((squares[:, :, 0] + squares[:, :, 1]) ** 0.5)
    loss = mean_squared_error(prediction, landmarks)
    prediction.persistent = loss.persistent = distance.persistent = True
    return Graph(heatmap, landmarks, prediction, loss, distance)


def train_step(graph: Graph, solver: Solver, batch: tuple[np.ndarray, ...]) -> dict[str, nn.Variable]:
    """Update the align network once. Returns loss and mean distance without reading them from the device."""
    graph.heatmap.d, graph.landmarks.d = batch
    losses = {"loss": graph.loss, "distance_px": graph.distance}
    solver.zero_grad()
    solver.add_gradient(graph.loss)
    graph.distance.forward()
    solver.update(losses)
    return losses


def predict(graph: Graph, heatmaps: np.ndarray) -> np.ndarray:
    """Run the align network with batch statistics, as in the transformer's training, on complete batches."""
    statistics = {v: v.d.copy() for v in ALIGN.statistics()}
    size, found = graph.heatmap.shape[0], []
    for first in range(0, len(heatmaps) - size + 1, size):
        graph.heatmap.d = heatmaps[first : first + size]
        graph.prediction.forward()
        found.append(graph.prediction.d.copy())
    for variable, kept in statistics.items():  # measuring must not change them
        variable.d = kept
    return np.concatenate(found)


def measure_error(graph: Graph, batches: Batches) -> float:
    """Return the normalized mean error of the landmarks."""
    errors = []
    for number in range(batches.batches_per_epoch):
        heatmaps, truth = batches[number]
        points, truth = (x.reshape(len(x), -1, 2) for x in (predict(graph, heatmaps), truth))
        errors.append(normalized_error(points, truth))
    return float(np.concatenate(errors)[: len(batches.dataset)].mean())


class FittedPCA(NamedTuple):
    """A PCA as an affine map, with its modes."""

    weight: np.ndarray  # (D, D), one component a column
    bias: np.ndarray  # (D,)
    mean: np.ndarray  # (D,)
    modes: np.ndarray  # (K, D): change by one standard deviation of a component, largest first
    explained: np.ndarray  # (K,) fraction of the variance


def neutral_faces(dataset: LandmarkDataset) -> np.ndarray:
    """Estimate the neutral face of each person, (P, 196) in heatmap pixels."""
    people = [dataset.landmarks[dataset.persons == person] for person in range(dataset.persons.max() + 1)]
    return np.stack([shape_of(frames).neutral for frames in people]).reshape(len(people), -1) * TO_HEATMAP


def moved_about(dataset: LandmarkDataset, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Apply random augmentations to each face; return landmarks (N, 196) and persons (N,).

    Without them, components mix translation with pose and expression. The authors' PCA was fitted on augmented faces.
    """
    rng = np.random.default_rng([seed, 2])
    moved = [random_transform(rng, False).landmarks(face) for face in dataset.landmarks for _ in range(COPIES)]
    persons = None if dataset.persons is None else np.repeat(dataset.persons, COPIES)
    return dataset.targets_of(np.stack(moved)), persons


def directions_between(faces: np.ndarray) -> np.ndarray:
    """Return unit vectors (K, D) that span the differences between people's faces (P, D)."""
    _, lengths, between = np.linalg.svd(faces - faces.mean(axis=0), full_matrices=False)
    return between[lengths > MIN_BETWEEN]


def fit_pca(landmarks: np.ndarray, persons: np.ndarray | None = None, neutrals: np.ndarray | None = None) -> FittedPCA:
    """Fit whitened principal components as an affine map, as in the published file.

    Components must describe expression and pose but not identity; otherwise the shape loss pulls B's boundaries back to
    A's shape. Each person's landmarks are therefore centred on its own mean, and the directions between people's
    neutral faces are removed.

    Args:
        landmarks: (N, D).
        persons: number of each row's person, (N,); None if every row is another person.
        neutrals: neutral faces of the people, (P, D).

    Returns:
        The map. `landmarks @ weight + bias` are components of unit variance, largest first. Directions without variance
        are not scaled.
    """
    size, mean = landmarks.shape[1], landmarks.mean(axis=0)
    if persons is None:
        persons = np.zeros(len(landmarks), int)
    means = np.stack([landmarks[persons == person].mean(axis=0) for person in range(persons.max() + 1)])
    faces = means if neutrals is None else neutrals
    between = directions_between(faces)
    landmarks = landmarks - means[persons]
    pca = PCA(n_components=min(landmarks.shape), svd_solver="full").fit(landmarks - landmarks @ between.T @ between)
    deviation = np.sqrt(pca.explained_variance_)
    varies = pca.explained_variance_ > MIN_RELATIVE_VARIANCE * pca.explained_variance_[0]
    weight = np.zeros((size, size))
    weight[:, : len(deviation)] = pca.components_.T / np.where(varies, deviation, 1.0)
    return FittedPCA(
        weight.astype(np.float32),
        (-mean @ weight).astype(np.float32),
        mean,
        pca.components_ * deviation[:, None],
        pca.explained_variance_ratio_,
    )


def same_expressions(config: ShapePriorConfig) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the landmarks (N, 98, 2) of pairs of people with equal expressions, by the pairs' names.

    They are known for synthetic people; otherwise landmarks are moved by geometry.
    """
    root, mode, people = config.train_dir, config.mode, config.celeb_names
    found = {}
    for first, second in islice(combinations(people, 2), MAX_PAIRS):
        landmarks = read_person(root, first, mode).landmarks
        picks = evenly(len(landmarks), FRAMES_OF_PAIR)
        if all(has_expressions(root, person) for person in (first, second)):
            expressions = expressions_of(root, first, mode)
            moved = landmarks_on(root, second, [expressions[index] for index in picks])
        else:
            shapes = shape_of(landmarks), shape_of(read_person(root, second, mode).landmarks)
            moved = np.array([NeutralToNeutral(*shapes).move(landmarks[index]) for index in picks])
        found[f"{first} and {second}"] = landmarks[picks], moved
    return found


def shape_loss_between(
    graph: Graph, pca: FittedPCA, pair: tuple[np.ndarray, np.ndarray], style: DrawingStyle
) -> float | None:
    """Return the shape loss between two people with equal expressions; None if there are too few frames."""
    if len(pair[0]) < graph.heatmap.shape[0]:
        return None
    codes = [
        predict(graph, np.stack([heatmap_of(face, style) for face in landmarks])) @ pca.weight[:, :SHAPE_CODE_SIZE]
        for landmarks in pair
    ]
    return float(np.abs(codes[0] - codes[1]).mean())


def draw_components(pca: FittedPCA) -> np.ndarray:
    """Draw the mean face with -2 to 2 standard deviations of each component of the shape code, one per row."""
    faces = [pca.mean + deviation * mode for mode in pca.modes[:SHAPE_CODE_SIZE] for deviation in SHOWN_DEVIATIONS]
    to_image = IMAGE_SIZE / HEATMAP_SIZE
    tiles = [heatmap_image(draw_heatmap(face.reshape(-1, 2) * to_image) / 255) for face in faces]
    return contact_sheet(tiles, len(SHOWN_DEVIATIONS), TILE_PX)


def save_pca(path: Path, pca: FittedPCA) -> None:
    """Write the PCA as a weights file."""
    with atomic_path(path) as temporary:
        write_arrays(temporary, {"affine/W": pca.weight, "affine/b": pca.bias})


def open_landmarks(config: ShapePriorConfig, mode: str) -> LandmarkDataset:
    """Open the landmarks of people of CelebV, or of WFLW's crops. Raises DataError if they are missing."""
    if config.dataset == "WFLW":
        files = [wflw.open_landmarks(config.wflw_dir, part) for part in (wflw.MODES if mode == "all" else [mode])]
        landmarks = np.stack([file[name] for file in files for name in file.names]).astype(np.float64)
        return LandmarkDataset(landmarks, f"landmarks of WFLW ({mode})", style=style_of(config))
    return LandmarkDataset.of_people(config.train_dir, config.celeb_names, mode, style_of(config))


def save_prior(
    run: Run, graph: Graph, dataset: LandmarkDataset, validation: Batches, pairs: dict[str, tuple], epoch: int
) -> None:
    """Write align network and PCA, a report of their accuracy, and an image of the components."""
    ALIGN.save(run.folder / "Align.h5")
    neutrals = None if dataset.persons is None else neutral_faces(dataset)
    pca = fit_pca(*moved_about(dataset, run.config.seed), neutrals)
    save_pca(run.folder / "PCA.h5", pca)
    image = monitor_path(run.folder / "result", run.iteration)
    write_image(image, draw_components(pca))
    explained = [float(share) for share in pca.explained[:SHAPE_CODE_SIZE]]
    report = {
        "normalised_mean_error": measure_error(graph, validation),
        "measured_on": validation.dataset.what,
        "explained_variance": explained,
        "shape_loss_between": {
            name: shape_loss_between(graph, pca, pair, dataset.style) for name, pair in pairs.items()
        },
    }
    write_yaml(run.folder / "shape_prior.yaml", report)
    error = report["normalised_mean_error"]
    where = f"on {report['measured_on']}, relative to the distance of the outer eye corners"
    logger.info(f"align: normalised mean error {error:.3f} {where}")
    shares = " + ".join(f"{share:.1%}" for share in explained)
    logger.info(f"the shape code explains {sum(explained):.1%} of the variance ({shares})")
    for names, loss in report["shape_loss_between"].items():
        if loss is not None:
            logger.info(f"shape loss between {names} for the same expression: {loss:.3f}")
        if loss is not None and loss > LARGE_SHAPE_LOSS:
            logger.warning(f"above {LARGE_SHAPE_LOSS}: the prior depends on the identity; use more frames")
    logger.info(f"components of the shape code: {image}")
    logger.info(f"weights: {run.folder / 'Align.h5'}, {run.folder / 'PCA.h5'}")


def main() -> None:
    training = Training("shape_prior", __doc__)
    config, train = training.config, training.config.train
    dataset = open_landmarks(config, config.mode)
    if len(dataset) <= SHAPE_CODE_SIZE:
        raise DataError(f"{dataset.what}: {len(dataset)} faces are too few for a shape prior")
    # validation on unseen faces if there are any
    validation = open_landmarks(config, "test") if config.mode == "train" else dataset
    validation_batches = Batches(validation, train.batch_size, config.seed)
    pairs = same_expressions(config) if config.dataset == "CelebV" else {}
    batches = training.batches(dataset)
    graph = build_graph(train.batch_size, dataset.targets.shape[1])
    ALIGN.parameters()["mlp5/affine/b"].d = dataset.targets.mean(axis=0)  # start at the mean face
    solver = Solver([ALIGN], train.lr)
    with training.run(networks=[ALIGN], solvers={"align": solver}, batches={"landmarks": batches}) as run:
        for epoch, iterations in run.epochs():
            solver.set_rate(linear_decay(train.lr, epoch - 1, train.epochs // 2, train.epochs))
            for iteration in iterations:
                run.log(train_step(graph, solver, batches[iteration]))
            run.end_epoch(epoch, save=partial(save_prior, run, graph, dataset, validation_batches, pairs, epoch))


if __name__ == "__main__":
    call_training(main)
