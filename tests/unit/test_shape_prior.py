"""The shape prior: components of what faces do, without whose they are."""

from __future__ import annotations

import numpy as np
import pytest

from config.config_shape_prior import ShapePriorConfig
from datasets.samples import LandmarkDataset
from models.align import SHAPE_CODE_SIZE
from synthetic.expressions import Expression, expression_track
from synthetic.geometry import landmarks_of
from synthetic.people import random_identity
from synthetic.truth import expressions_of, has_expressions, landmarks_on
from train_shape_prior import fit_pca, moved_about, neutral_faces, same_expressions

WHO, NUM_FRAMES = (9, 29, 41), 300


@pytest.fixture(scope="module")
def people() -> LandmarkDataset:
    """Three people with different expressions."""
    tracks = [expression_track(8 * NUM_FRAMES, seed)[::8] for seed in range(len(WHO))]
    lists = [
        [landmarks_of(random_identity(seed), Expression(*row)) for row in track] for seed, track in zip(WHO, tracks)
    ]
    return LandmarkDataset(np.concatenate(lists), "people", np.repeat(np.arange(len(WHO)), NUM_FRAMES))


def codes_of(pca, seed: int) -> np.ndarray:
    """Shape codes of a person in a track that was not used in the fit."""
    landmarks = np.array([landmarks_of(random_identity(seed), Expression(*row)) for row in expression_track(200, 77)])
    return (LandmarkDataset(landmarks, "").targets @ pca.weight + pca.bias)[:, :SHAPE_CODE_SIZE]


def test_components_are_whitened_and_hold_no_person(people):
    neutrals = neutral_faces(people)
    pca = fit_pca(people.targets, people.persons, neutrals)
    codes = (people.targets @ pca.weight + pca.bias)[:, :SHAPE_CODE_SIZE]
    within = [codes[people.persons == who] - codes[people.persons == who].mean(axis=0) for who in range(len(WHO))]
    np.testing.assert_allclose(np.concatenate(within).std(axis=0), 1, rtol=0.01)
    of_neutrals = (neutrals @ pca.weight + pca.bias)[:, :SHAPE_CODE_SIZE]
    np.testing.assert_allclose(of_neutrals, of_neutrals[:1].repeat(3, axis=0), atol=0.01)
    assert np.all(np.diff(pca.explained) <= 1e-9)


def test_a_right_answer_costs_little_where_people_are_centred_and_much_where_not(people):
    def cost(pca) -> float:
        return float(np.abs(codes_of(pca, WHO[0]) - codes_of(pca, WHO[1])).mean())

    assert cost(fit_pca(people.targets, people.persons, neutral_faces(people))) < 0.1
    assert cost(fit_pca(people.targets)) > 0.4  # all together: what separates them is a component


def test_the_first_components_of_moved_faces_are_movements(people):
    """As the authors' are; of faces as they are, movement is mixed with what faces do."""
    neutrals = neutral_faces(people)
    c = people.targets.mean(axis=0).reshape(-1, 2) - people.targets.mean(axis=0).reshape(-1, 2).mean(axis=0)
    columns = [np.tile(ends, 98) for ends in ((1, 0), (0, 1))] + [np.stack([-c[:, 1], c[:, 0]], 1).ravel(), c.ravel()]
    rigid = np.linalg.qr(np.stack(columns, axis=1))[0]  # across, down, turned, zoomed

    def shares(pca) -> np.ndarray:
        units = pca.modes[:SHAPE_CODE_SIZE] / np.linalg.norm(pca.modes[:SHAPE_CODE_SIZE], axis=1, keepdims=True)
        return ((units @ rigid) ** 2).sum(axis=1)

    moved = shares(fit_pca(*moved_about(people, 0), neutrals))
    as_they_are = shares(fit_pca(people.targets, people.persons, neutrals))
    assert moved.min() > 0.65 and as_they_are.min() < 0.4 and moved.mean() > as_they_are.mean() + 0.1


def test_one_person_is_an_ordinary_pca(people):
    one = people.targets[:NUM_FRAMES]
    pca, alone = fit_pca(one, np.zeros(NUM_FRAMES, int)), fit_pca(one)
    np.testing.assert_allclose(pca.weight, alone.weight)
    centred = one - one.mean(axis=0)
    shares = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose(pca.explained[:10], (shares / shares.sum())[:10], rtol=1e-3)


def test_pairs_that_do_the_same(data):
    root = data / "datasets/CelebV"
    config = ShapePriorConfig(train_dir=str(root), mode="train", celeb_names=("Rowan", "Linnea"))
    ((name, (first, second)),) = same_expressions(config).items()
    assert name == "Rowan and Linnea" and has_expressions(root, "Linnea")
    truth = landmarks_on(root, "Linnea", expressions_of(root, "Rowan", "train"))
    np.testing.assert_allclose(second, truth)
    # what is read is what was painted
    again = landmarks_on(root, "Rowan", expressions_of(root, "Rowan", "train"))
    np.testing.assert_allclose(first, again, atol=1e-3)
