"""Augmentation: faces, landmarks and boundaries change alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from helpers import GAZE

from datasets.augment import MIRRORED_CHANNELS, Transform, random_transform
from datasets.batches import Batches
from datasets.boundary import BOUNDARY_PARTS, draw_heatmap, resize_heatmap
from datasets.celebv import HEATMAP, IMAGE, RESIZED_HEATMAP
from datasets.samples import DrawnDataset, EncodedDataset, LandmarkDataset, ShiftedDataset
from datasets.wflw import WFLWDataset
from faces.landmarks import MIRRORED
from synthetic.expressions import Expression
from synthetic.geometry import landmarks_of
from synthetic.people import random_identity

MIRROR = Transform(np.array([[-1.0, 0, 255], [0, 1, 0]]), True)


@pytest.fixture
def transforms():
    rng = np.random.default_rng(0)
    return [random_transform(rng) for _ in range(40)]


@pytest.fixture
def source(data):
    return DrawnDataset(data / "datasets/CelebV", "Rowan", "all", (IMAGE, HEATMAP, RESIZED_HEATMAP), style=GAZE)


def overlap(a, b) -> float:
    """Correlation of two stacks of maps that are blurred a little, so that a pixel's difference counts little."""
    a, b = (np.stack([cv2.GaussianBlur(x.astype(np.float32), (0, 0), 2) for x in maps]).ravel() for maps in (a, b))
    return float(np.corrcoef(a, b)[0, 1])


def test_a_mirror_exchanges_left_and_right():
    face = landmarks_of(random_identity(3), Expression())
    face[:, 0] -= face[[60, 72], 0].mean() - 127.5  # in the middle, looking ahead: its own mirror image
    np.testing.assert_allclose(MIRROR.landmarks(face), face, atol=2.0)
    assert np.array_equal(np.sort(MIRRORED), np.arange(98))
    assert np.array_equal(MIRRORED[MIRRORED], np.arange(98))
    for name, partner in zip(BOUNDARY_PARTS, MIRRORED_CHANNELS):
        mirrored = {int(MIRRORED[landmark]) for landmark in BOUNDARY_PARTS[name]}
        assert mirrored == set(list(BOUNDARY_PARTS.values())[partner])


def test_boundaries_of_changed_landmarks_lie_where_the_changed_picture_has_them(source, transforms):
    landmarks = source.landmarks[0]
    drawn = draw_heatmap(landmarks)
    for transform in transforms:
        again = draw_heatmap(transform.landmarks(landmarks))
        assert overlap(again, transform.heatmap(drawn)) > 0.97
        # one channel after another: a swap of two would not be seen in all of them together
        assert min(overlap(again[c : c + 1], transform.heatmap(drawn)[c : c + 1]) for c in range(15)) > 0.9
        small = resize_heatmap(drawn, 64)
        assert overlap(transform.heatmap(small), resize_heatmap(again, 64)) > 0.97


def test_a_dot_moves_with_its_landmark(transforms):
    landmarks = np.full((98, 2), 100.0)
    landmarks[54] = (90.0, 140.0)  # the nose's tip stays what it is in a mirror
    image = np.zeros((3, 256, 256), np.uint8)
    image[:, 138:143, 88:93] = 255
    for transform in transforms:
        changed = transform.image(image)[0].astype(float)
        ys, xs = np.mgrid[0:256, 0:256]
        centre = [(xs * changed).sum() / changed.sum(), (ys * changed).sum() / changed.sum()]
        np.testing.assert_allclose(transform.landmarks(landmarks)[54], centre, atol=0.1)


def test_changes_stay_within_their_bounds():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(2000):
        transform = random_transform(rng)
        linear = transform.matrix[:, :2] @ (np.diag([-1, 1]) if transform.is_mirrored else np.eye(2))
        zoom = np.sqrt(np.linalg.det(linear))
        shift = transform.matrix[:, :2] @ [127.5, 127.5] + transform.matrix[:, 2] - 127.5
        found.append((np.degrees(np.arctan2(linear[1, 0], linear[0, 0])), zoom, *shift, transform.is_mirrored))
    found = np.array(found, float)
    low, high, mean = found.min(axis=0), found.max(axis=0), found.mean(axis=0)
    np.testing.assert_allclose(low[:4], [-5, 0.97, -10, -10], atol=0.05)
    np.testing.assert_allclose(high[:4], [5, 1.03, 10, 10], atol=0.05)
    np.testing.assert_allclose(mean, [0, 1, 0, 0, 0.5], atol=0.5)
    assert 0.45 < mean[4] < 0.55


def test_every_source_changes_all_its_parts_alike(data, source, transforms):
    transform = next(t for t in transforms if t.is_mirrored)
    landmarks = transform.landmarks(source.landmarks[0])
    image, heatmap, large = source.augmented(0, transform)
    assert np.array_equal(large, draw_heatmap(landmarks, style=GAZE))
    assert np.array_equal(heatmap, resize_heatmap(large, 64))
    assert np.array_equal(image, transform.image(source[0][0]))
    prepared = DrawnDataset(
        data / "datasets/CelebV", "Rowan", "all", source.parts, data / "datasets/celebv_heatmaps_GT", style=GAZE
    )
    assert all(np.array_equal(a, b) for a, b in zip(prepared.augmented(0, transform), (image, heatmap, large)))
    first, *shifted = ShiftedDataset(
        DrawnDataset(data / "datasets/CelebV", "Rowan", "all", (HEATMAP,), style=GAZE), [lambda x: x, lambda x: x + 9]
    ).augmented(0, transform)
    assert np.array_equal(first, heatmap) and np.array_equal(shifted[0], heatmap)
    moved = transform.landmarks(source.landmarks[0] + 9)  # moved first, changed then
    assert np.array_equal(shifted[1], resize_heatmap(draw_heatmap(moved, style=GAZE), 64))
    drawn, target = LandmarkDataset.of_people(data / "datasets/CelebV", ["Rowan"], "all", GAZE).augmented(0, transform)
    assert np.array_equal(drawn, heatmap)
    np.testing.assert_allclose(target.reshape(98, 2) * 4, landmarks, rtol=1e-5)


def test_crops_of_wflw_carry_their_landmarks(data, transforms):
    source = WFLWDataset(data / "datasets/WFLW_heatmaps", "train", GAZE, with_landmarks=True)
    image, heatmap = source[2]
    still = Transform(np.eye(2, 3), False)
    same_image, same_heatmap = source.augmented(2, still)
    assert np.array_equal(same_image, image) and np.array_equal(same_heatmap, heatmap)
    _, changed = source.augmented(2, transforms[0])
    assert overlap(changed, transforms[0].heatmap(heatmap)) > 0.95


def test_the_encoders_maps_are_changed_as_pictures_are(transforms):
    maps = draw_heatmap(landmarks_of(random_identity(3), Expression()))
    source = EncodedDataset.__new__(EncodedDataset)
    source.names, source.parts = ["a"], (HEATMAP, RESIZED_HEATMAP)
    source._prepared = {HEATMAP: {"a": resize_heatmap(maps, 64)}, RESIZED_HEATMAP: {"a": maps}}
    small, large = source.augmented(0, transforms[1])
    assert small.shape == (15, 64, 64) and np.array_equal(large, transforms[1].heatmap(maps))
    assert overlap(small, resize_heatmap(large, 64)) > 0.97


def test_batches_depend_on_seed_and_epoch_alone(source):
    def batches(seed, num_workers):
        return Batches(source, 3, seed, shuffle=False, num_workers=num_workers, augmentation=True)

    count = batches(5, 0).batches_per_epoch
    one, other = batches(5, 0), batches(5, 2)
    for iteration in (0, count):
        assert all(np.array_equal(a, b) for a, b in zip(one[iteration], other[iteration]))
    first, next_epoch, other_seed = (b[i][0].copy() for b, i in ((one, 0), (one, count), (batches(6, 0), 0)))
    assert not np.array_equal(first, next_epoch) and not np.array_equal(first, other_seed)
    plain = Batches(source, 3, 5, shuffle=False)[0][0]
    assert not np.array_equal(first, plain)
