"""Landmarks on their way to the target: steadied, of chosen motion, from and to symmetric neutral faces."""

from __future__ import annotations

import numpy as np
import pytest

from faces import geometry
from faces.geometry import (
    NeutralToNeutral,
    Shape,
    looking_ahead,
    poses_of,
    shape_of,
    similarity,
    symmetric,
    typical_neutral,
    uncrossed,
)
from faces.motion import EYES, LIPS, Motion
from faces.space import FaceSpace
from faces.steady import SMOOTH, OneEuro
from synthetic.expressions import Expression, Habit, expression_track
from synthetic.geometry import UNIT_PX, landmarks_3d, landmarks_of
from synthetic.people import random_identity
from web.live_reenactor import LearningGeometry

WHO = random_identity(31)
NEUTRAL = looking_ahead(landmarks_of(WHO, Expression()))
DOES = Expression(mouth_open=0.8, smile=0.5, blink=0.9, gaze_x=0.6)
BUSY = DOES._replace(yaw=0.3, pitch=-0.1, roll=0.1, scale=1.05, shift_x=6)
FACE = landmarks_of(WHO, BUSY)


def jitter(track: np.ndarray) -> float:
    return np.linalg.norm(np.diff(track, 2, axis=0), axis=2).mean()


def filtered(track: np.ndarray, smooth: float = SMOOTH, fps: float = 25) -> np.ndarray:
    steady = OneEuro(smooth, fps)
    return np.array([steady.steady(marks, number / fps) for number, marks in enumerate(track)])


def test_a_resting_face_is_steadied_and_a_fast_one_not_held_back():
    rng = np.random.default_rng(0)
    still = NEUTRAL + rng.normal(0, 0.4, (100, 98, 2))
    assert jitter(filtered(still)) < 0.5 * jitter(still)
    t = np.arange(100) / 25
    fast = np.array(
        [landmarks_of(WHO, Expression(yaw=0.45 * np.sin(7.5 * s), mouth_open=np.sin(8 * s) ** 2)) for s in t]
    )
    late = filtered(fast)
    for point, axis in ((54, 0), (94, 1)):
        before, after = fast[:-1, point, axis], late[1:, point, axis]
        # nearer to the truth of the frame than to the previous frame
        assert np.abs(late[1:, point, axis] - fast[1:, point, axis]).mean() < np.abs(after - before).mean()
        assert np.ptp(late[:, point, axis]) > 0.93 * np.ptp(fast[:, point, axis])


def test_the_filter_is_the_one_of_the_paper():
    """A step of 10 pixels, by hand."""
    start, end = np.zeros((98, 2)), np.full((98, 2), 10.0)
    steady = OneEuro(0.5, 25)
    assert np.array_equal(steady.steady(start, 0.0), start)

    def alpha(cutoff: float) -> float:
        return 1 / (1 + (1 / (2 * np.pi * cutoff)) * 25)

    min_cutoff = 25 / (2 * np.pi)  # at which half comes from the frame before
    assert alpha(min_cutoff) == pytest.approx(0.5)
    speed = alpha(2.0) * 10 * 25 * np.sqrt(2)
    expected = alpha(min_cutoff + 0.25 * speed) * 10
    np.testing.assert_allclose(steady.steady(end, 0.04), np.full((98, 2), expected))


def test_the_filter_forgets_and_can_be_left_out():
    steady = OneEuro(0.9, 25)
    steady.steady(NEUTRAL, 0.0)
    steady.reset()
    assert np.array_equal(steady.steady(FACE, 0.04), FACE)
    none = OneEuro(0.0, 25)
    none.steady(NEUTRAL, 0.0)
    assert np.array_equal(none.steady(FACE, 0.04), FACE)
    none.smooth = 0.9  # changed in the middle: half of what comes next is what was
    assert 0 < abs(none.steady(NEUTRAL, 0.08) - FACE).max() < abs(NEUTRAL - FACE).max()


def test_all_of_the_motion_at_its_own_strength_is_the_face_itself():
    assert Motion("all", 1.0, NEUTRAL).choose(FACE) is FACE


@pytest.mark.parametrize("kind", ["all", "expression", "pose", "eyes", "lips"])
def test_no_strength_leaves_the_neutral_face(kind):
    np.testing.assert_allclose(Motion(kind, 0.0, NEUTRAL).choose(FACE), NEUTRAL, atol=1e-6)


def test_the_expression_alone_is_that_of_a_head_that_keeps_still():
    true = landmarks_of(WHO, DOES)
    found = Motion("expression", 1.0, NEUTRAL).choose(FACE)
    assert np.abs(found - true).mean() < 2.0 < np.abs(FACE - true).mean() / 3
    pose = poses_of(np.stack([found, NEUTRAL]))
    assert np.abs(pose.rotation[0] - pose.rotation[1]).max() < 0.05


def test_the_pose_alone_is_that_of_a_neutral_face():
    true = landmarks_of(WHO, BUSY._replace(mouth_open=0, smile=0, blink=0, gaze_x=0))
    found = Motion("pose", 1.0, NEUTRAL).choose(FACE)
    assert np.abs(found - true).mean() < 2.0
    mouth = found[94, 1] - found[90, 1]
    assert mouth < 0.3 * (FACE[94, 1] - FACE[90, 1])


@pytest.mark.parametrize("kind, moved", [("eyes", EYES), ("lips", LIPS)])
def test_parts_move_alone(kind, moved):
    found = Motion(kind, 1.0, NEUTRAL).choose(FACE)
    rest = [point for point in range(98) if point not in moved]
    np.testing.assert_allclose(found[rest], NEUTRAL[rest], atol=1e-6)
    assert np.abs(found[list(moved)] - NEUTRAL[list(moved)]).max() > 3


def test_strength_scales_expression_and_turn():
    half, whole, twice = (Motion("all", strength, NEUTRAL) for strength in (0.5, 1.0, 2.0))
    opening = [motion.choose(FACE)[94, 1] - motion.choose(FACE)[90, 1] for motion in (half, whole, twice)]
    assert opening[0] < 0.75 * opening[1] < opening[1] < 0.75 * opening[2]
    turns = [np.arcsin(poses_of(m.choose(FACE)[None]).rotation[0, 0, 2]) for m in (half, whole, twice)]
    assert abs(turns[0]) < 0.7 * abs(turns[1]) and abs(turns[2]) > 1.4 * abs(turns[1])


def test_a_face_is_brought_to_the_middle_of_itself_and_its_mirror_image():
    rng = np.random.default_rng(2)
    face = NEUTRAL + rng.normal(0, 2, NEUTRAL.shape)
    found = symmetric(face)
    mirrored = symmetric((face * (-1, 1))[geometry.MIRRORED])
    np.testing.assert_allclose((mirrored * (-1, 1))[geometry.MIRRORED], found, atol=1e-6)
    np.testing.assert_allclose(symmetric(found), found, atol=1e-6)
    assert np.abs(found - NEUTRAL).mean() < 0.8 * np.abs(face - NEUTRAL).mean()


def test_symmetry_finds_the_neutral_face_better(monkeypatch):
    """People have habits here, and landmarks tremble; the truth is known."""

    def error(seed: int) -> float:
        who = random_identity(seed)
        track = expression_track(900, seed, Habit(yaw=8, mouth_open=0.5))[::3]
        noise = np.random.default_rng(seed).normal(0, 0.8, (len(track), 98, 2))
        found = shape_of(np.array([landmarks_of(who, Expression(*row)) for row in track]) + noise).neutral
        return np.abs(found - found.mean(axis=0) - NEUTRAL_OF[seed]).mean()

    seeds = range(30, 36)
    faces = {seed: landmarks_of(random_identity(seed), Expression()) for seed in seeds}
    NEUTRAL_OF = {seed: face - face.mean(axis=0) for seed, face in faces.items()}
    with_symmetry = [error(seed) for seed in seeds]
    monkeypatch.setattr(geometry, "symmetric", lambda face: face)
    assert np.mean(with_symmetry) < 0.95 * np.mean([error(seed) for seed in seeds])


def test_an_unknown_source_has_a_typical_face():
    """The first face may pull a grimace; taken for neutral, it would distort all that follow."""
    target = landmarks_of(random_identity(40), Expression())
    learning = LearningGeometry(Shape(target + 0, target))
    learning.move(FACE)
    found = learning.move(NEUTRAL)
    assert np.abs((found - found.mean(0)) - (target - target.mean(0))).mean() < 4
    typical = typical_neutral(FACE)
    assert np.ptp(typical[:33, 0]) == pytest.approx(np.ptp(NEUTRAL[:33, 0]), rel=0.15)


def test_the_gaze_goes_to_the_target():
    def across(face: np.ndarray) -> float:
        along = face[64] - face[60]
        return (face[96] - (face[60] + face[64]) / 2) @ along / (along @ along)

    other = random_identity(40)
    neutral = landmarks_of(other, Expression())
    geometry_ = NeutralToNeutral(Shape(NEUTRAL + 0, NEUTRAL), Shape(neutral + 0, neutral))
    for gaze in (-0.7, 0.0, 0.7):
        face = Expression(yaw=0.2, gaze_x=gaze)
        moved = geometry_.move(landmarks_of(WHO, face))
        assert across(moved) == pytest.approx(across(landmarks_of(other, face)), abs=0.05)


def mean_head(**does: float) -> np.ndarray:
    return UNIT_PX * np.mean([landmarks_3d(random_identity(seed), Expression(**does)) for seed in range(1000, 1200)], 0)


def test_what_is_typical_is_the_mean_of_synthetic_people():
    found, head = geometry.typical(), mean_head()
    head -= head[list(geometry.RIGID)].mean(axis=0)
    np.testing.assert_allclose(found.head, head, atol=1e-4)
    (rest,) = geometry._rest(head[None, :, :2])
    np.testing.assert_allclose(found.rest, rest, atol=1e-4)
    for number, name in enumerate(("smile", "brow_raise")):
        change = (mean_head(**{name: 0.5}) - mean_head(**{name: -0.5}))[:, :2]
        (after,) = geometry._rest((head[:, :2] + change)[None])
        np.testing.assert_allclose(found.changes[number], change / (after - rest)[number], atol=1e-4)


def restless(seed: int, habit: str) -> tuple[np.ndarray, np.ndarray]:
    """Return landmarks of a person who always frowns and squints, or smiles, and the true neutral face."""
    who, columns = random_identity(5000 + seed), list(Expression._fields)
    track = expression_track(200, 9000 + seed).astype(float)
    smile, brows = columns.index("smile"), columns.index("brow_raise")
    if habit == "frowns":
        track[:, smile] = np.interp(track[:, smile], [-0.5, 1], [-0.5, -0.2])
        track[:, brows] = np.interp(track[:, brows], [-0.7, 1], [-0.7, -0.3])
    else:
        track[:, smile] = np.interp(track[:, smile], [-0.5, 1], [0.4, 1])
    landmarks = np.array([landmarks_of(who, Expression(*row)) for row in track])
    for eye, inwards in zip(geometry.EYES, (0.09, -0.09)):
        (first, last), pupil = eye.corners, eye.pupil
        landmarks[:, pupil] += inwards * (landmarks[:, last] - landmarks[:, first])
    return landmarks, landmarks_of(who, Expression())


@pytest.mark.parametrize("habit", ["frowns", "smiles"])
def test_people_who_never_rest_have_a_neutral_face(habit):
    corners, anchors = [], list(geometry.RIGID)
    for seed in range(12):
        landmarks, truth = restless(seed, habit)
        found = shape_of(landmarks).neutral
        found = similarity(found[anchors], truth[anchors])(found)
        corners.append(np.linalg.norm((found - truth)[[76, 82]], axis=1).mean())
        for eye in geometry.EYES:
            (first, last), pupil = eye.corners, eye.pupil
            off = [face[pupil, 0] - face[[first, last], 0].mean() for face in (found, truth)]
            assert abs(off[0] - off[1]) < 0.02 * np.linalg.norm(truth[last] - truth[first])
    assert np.mean(corners) < 1.5  # 3.6 and 6.1 without what is typical


def test_lids_and_lips_never_cross():
    crossed = Motion("all", 2.0, NEUTRAL).choose(landmarks_of(WHO, DOES._replace(blink=1.0, mouth_open=0.0)))
    assert crossed[66, 1] < crossed[62, 1] - 1
    found = uncrossed(crossed)
    for _, _, upper, lower in geometry.OPENINGS:
        assert ((found[lower] - found[upper])[:, 1] > -0.05).all()
    np.testing.assert_allclose(found[[62, 66]].sum(axis=0), crossed[[62, 66]].sum(axis=0))
    assert np.array_equal(uncrossed(FACE), FACE)


def test_landmarks_are_drawn_towards_faces_that_the_target_makes():
    rng = np.random.default_rng(1)
    track = [Expression(*row) for row in expression_track(300, 4)]
    space = FaceSpace(np.array([landmarks_of(WHO, does) for does in track[:200]]))
    smiles = np.array([landmarks_of(WHO, does._replace(yaw=0, pitch=0)) for does in track[200:]])
    wry = smiles + rng.normal(0, 1.0, smiles.shape)
    drawn = np.array([space.toward(face) for face in wry])
    apart = [np.linalg.norm(faces - smiles, axis=2).mean() for faces in (wry, drawn)]
    assert apart[1] < 0.75 * apart[0]
    width = [faces[:, 82, 0] - faces[:, 76, 0] for faces in (smiles, np.array([space.toward(f) for f in smiles]))]
    assert np.corrcoef(width)[0, 1] > 0.98 and np.std(width[1]) > 0.9 * np.std(width[0])
    for eye in geometry.EYES:  # the gaze is the source's
        (first, last), pupil = eye.corners, eye.pupil
        looks = [face[:, pupil] - (face[:, first] + face[:, last]) / 2 for face in (wry, drawn)]
        np.testing.assert_allclose(*looks)


def test_a_head_is_turned_back_towards_the_films_poses():
    space = FaceSpace(np.array([landmarks_of(WHO, Expression(yaw=yaw)) for yaw in np.linspace(-0.2, 0.2, 30)]))

    def turn(face: np.ndarray) -> float:
        return float(np.arcsin(poses_of(face[None]).rotation[0, 0, 2]))

    within, beyond = (landmarks_of(WHO, Expression(yaw=yaw)) for yaw in (0.15, 0.5))
    assert turn(space.toward(within)) == pytest.approx(turn(within), abs=0.01) and space.num_turned == 0
    edge = turn(landmarks_of(WHO, Expression(yaw=0.2)))
    assert turn(space.toward(beyond)) == pytest.approx((turn(beyond) + edge) / 2, abs=0.04) and space.num_turned == 1
