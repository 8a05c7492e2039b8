"""Faces and their landmarks, on synthetic people whose landmarks are known, and on one photograph."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from helpers import ROOT
from skimage.data import astronaut

from faces.finder import Face, FaceFinder, angles_of, correction, fit_pose, spread
from faces.follower import EDGE, SMALL, Placed, follow_face
from synthetic.expressions import Expression, random_expression
from synthetic.painter import render
from synthetic.people import random_identity

MAX_ERROR = 0.025  # mean over the landmarks, as a share of the distance of the outer corners of the eyes
NOT_FITTED_ON = 900_000  # first seed


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def error_of(found: Face, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found.landmarks - truth, axis=1).mean() / np.linalg.norm(truth[60] - truth[72]))


def face(number: int = 0, **expression: float) -> tuple[np.ndarray, np.ndarray]:
    return render(random_identity(NOT_FITTED_ON + number), Expression(**expression))


def on_grey(picture: np.ndarray, size: tuple[int, int], left: int, top: int) -> np.ndarray:
    """Place an image on gray of (width, height)."""
    canvas = np.full((size[1], size[0], 3), 110, np.uint8)
    part = canvas[max(top, 0) : top + picture.shape[0], max(left, 0) : left + picture.shape[1]]
    part[:] = picture[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]]
    return canvas


def test_landmarks_of_people_that_nothing_was_fitted_on(finder):
    rng = np.random.default_rng(0)
    errors = []
    for number in range(60):
        expression = random_expression(rng)
        if number % 3 == 0:
            expression = expression._replace(yaw=float(np.deg2rad(rng.uniform(-40, 40))))
        picture, truth = render(random_identity(NOT_FITTED_ON + number), expression)
        (found,) = finder.find(picture)
        errors.append(error_of(found, truth))
    assert np.mean(errors) < 1.1 * MAX_ERROR, np.mean(errors)  # fitted on fewer people than the benchmark's


def test_eyes_mouth_and_turns_are_seen(finder):
    def opening(upper: int, lower: int, **expression: float) -> float:
        picture, truth = face(3, **expression)
        (found,) = finder.find(picture)
        return float(found.landmarks[lower, 1] - found.landmarks[upper, 1])

    assert opening(90, 94, mouth_open=1.0) > opening(90, 94, mouth_open=0.0) + 10
    assert opening(62, 66, blink=1.0) < 0.6 * opening(62, 66, blink=0.0)
    yaws = []
    for yaw in (-0.5, 0.0, 0.5):
        (found,) = finder.find(face(3, yaw=yaw)[0])
        yaws.append(angles_of(fit_pose(found.mesh, correction()["canonical"]))[0])
    assert yaws[0] < -0.2 < 0.2 < yaws[2] and abs(yaws[1]) < 0.12


@pytest.mark.parametrize("degrees", [-45, -20, 30])
def test_a_face_on_its_side(finder, degrees):
    picture, truth = face(1)
    turn = cv2.getRotationMatrix2D((200, 200), degrees, 1.0)
    canvas = cv2.warpAffine(on_grey(picture, (400, 400), 72, 72), turn, (400, 400), borderValue=(110,) * 3)
    (found,) = finder.find(canvas)
    assert error_of(found, (truth + 72) @ turn[:, :2].T + turn[:, 2]) < 0.06


@pytest.mark.parametrize("size, side", [((512, 512), 300), ((1920, 1080), 200), ((3840, 2160), 300), ((640, 360), 90)])
def test_faces_small_and_large_in_pictures_of_any_size(finder, size, side):
    picture, truth = face(2)
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    left, top = int(0.6 * size[0]), int(0.2 * size[1])
    found = finder.find(on_grey(small, size, left, top))
    assert len(found) == 1 and error_of(found[0], truth * side / 256 + (left, top)) < (0.08 if side < 100 else 0.05)


def test_two_faces_and_none(finder):
    both = np.hstack([face(4)[0], face(5)[0]])
    found = sorted(finder.find(both), key=lambda face: face.box[0])
    assert len(found) == 2
    for person, (number, shift) in zip(found, ((4, 0), (5, 256))):
        assert error_of(person, face(number)[1] + (shift, 0)) < 0.05
    rng = np.random.default_rng(0)
    for picture in (np.zeros((300, 400, 3), np.uint8), rng.integers(0, 255, (300, 400, 3)).astype(np.uint8)):
        assert finder.find(picture) == []
    assert finder.find(np.zeros((1, 1, 3), np.uint8)) == [] == finder.find(np.zeros((3, 900, 3), np.uint8))


def test_grey_dark_and_pale(finder):
    picture, truth = face(6)
    grey = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    for changed in (grey, (0.3 * picture).astype(np.uint8), (155 + 0.35 * picture).astype(np.uint8)):
        (found,) = finder.find(changed)
        assert error_of(found, truth) < 0.06


def test_a_photograph(finder):
    picture = astronaut()
    (found,) = finder.find(picture)
    left, right = found.landmarks[96], found.landmarks[97]  # left and right in the image
    np.testing.assert_allclose(left, (203, 100), atol=3)
    np.testing.assert_allclose(right, (246, 103), atol=3)
    assert found.landmarks[90, 1] + 3 < found.landmarks[94, 1]  # she smiles with teeth
    assert found.confidence > 0.5 and 60 < found.box[2] < 140


def test_what_is_small_or_cut_off_is_a_reason(finder):
    picture, _ = face(7)
    small = on_grey(cv2.resize(picture, (80, 80), interpolation=cv2.INTER_AREA), (640, 360), 300, 100)  # a face of 40
    cut_off = on_grey(cv2.resize(picture, (512, 512)), (640, 360), -200, 0)
    for image, reason in ((small, SMALL), (cut_off, EDGE)):
        found = finder.find(image)
        assert found, reason
        assert follow_face([found] * 10, [image.shape[:2]] * 10, 25) == [reason] * 10


def test_the_crop_of_a_picture_of_celebvs_form_is_the_picture(finder):
    for number in range(8, 12):
        (found,) = finder.find(face(number)[0])
        (placed,) = follow_face([[found]], [(256, 256)], 25, min_shot_s=0)
        assert isinstance(placed, Placed)
        square = placed.square
        assert abs(square.side - 256) < 40 and max(abs(square.left), abs(square.top)) < 40
        marks = placed.landmarks()
        np.testing.assert_allclose(marks * square.side / 256 + square[:2], found.landmarks, atol=1e-9)


def test_a_face_that_the_detector_loses_is_looked_for_where_it_was():
    picture, truth = face(12)
    finder = FaceFinder(is_video=True)
    assert len(finder.find(picture)) == 1
    finder._detect = lambda *_: []
    (found,) = finder.find(picture)
    assert error_of(found, truth) < 0.05
    finder.reset()
    assert finder.find(picture) == []


def test_points_are_spread_evenly():
    np.testing.assert_allclose(
        spread(np.array([[0, 0], [3, 0], [3, 1.0]]), 5), [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1]]
    )


def test_nothing_is_said_that_nobody_wants_to_read():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import numpy as np\n"
    code += "from faces.finder import FaceFinder\n"
    code += "FaceFinder().find(np.zeros((99, 99, 3), np.uint8)); print('here', file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "here\n" and result.stdout == ""
