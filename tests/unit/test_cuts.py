"""Two people at one place, one after the other: the image changes at once, and so does the face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faces.finder import Face, FaceFinder
from faces.follower import FaceFollower, Placed, follow_face
from synthetic.expressions import Expression, expression_track
from synthetic.painter import render
from synthetic.people import random_identity

SIZE, FPS = (360, 640), 25
DARK, BRIGHT = (np.full((16, 16, 3), level, np.uint8) for level in (60, 120))


def people_in(crops: list[Placed | str]) -> list[int | str]:
    return [crop.person if isinstance(crop, Placed) else crop for crop in crops]


def test_two_people_joined_by_hard_cuts_are_told_apart():
    """Their looks differ by less than those of one person may."""
    finder, faces = FaceFinder(is_video=True), []
    for seed in (11, 16, 11):
        identity = random_identity(seed)
        for row in expression_track(26, seed):
            image = render(identity, Expression(*map(float, row)))[0]
            faces.append(finder.find(cv2.copyMakeBorder(image, 52, 52, 192, 192, cv2.BORDER_CONSTANT)))
    assert all(len(found) == 1 for found in faces)
    found = people_in(follow_face(faces, [SIZE] * len(faces), FPS))
    assert found[:26] == found[52:] == [0] * 26 and 0 not in found[26:52]


def faces_of(apart: list[float], scenes: list[np.ndarray]) -> list[list[Face]]:
    """Faces at one place, with looks that far from the first in one direction, and a little noise."""
    rng, direction = np.random.default_rng(0), np.eye(88)[0]
    looks = [distance * direction + 0.03 * rng.standard_normal(88) for distance in apart]
    landmarks, box = np.full((98, 2), (320.0, 180.0)), np.array([270.0, 130, 100, 100])
    return [[Face(box, landmarks, look=look, scene=scene)] for look, scene in zip(looks, scenes)]


@pytest.mark.parametrize(
    "apart, second, is_same",
    [
        (2.3, BRIGHT, False),
        (2.3, DARK, True),  # no cut: one person turns
        (1.2, BRIGHT, True),  # a cut from one person to the same
    ],
)
def test_a_face_after_a_cut_is_another_person_by_less(apart, second, is_same):
    faces = faces_of([0.0] * 40 + [apart] * 20 + [0.0] * 40, [DARK] * 40 + [second] * 20 + [DARK] * 40)
    found = people_in(follow_face(faces, [SIZE] * 100, FPS))
    assert found[:40] == found[60:] == [0] * 40
    assert found[40:60] == [0] * 20 if is_same else 0 not in found[40:60]


def test_a_restless_person_stays_one_over_a_cut():
    """The threshold grows with the person's own spread."""
    apart = [0.0, 2.6] * 30
    found = people_in(follow_face(faces_of(apart, ([DARK] * 30 + [BRIGHT] * 30)), [SIZE] * 60, FPS))
    assert found == [0] * 60
    follower = FaceFollower(FPS)
    for one in faces_of(apart, [DARK] * 60):
        list(follower.add(one, SIZE))
    assert follower._people[0].threshold(is_cut=True) > 1.6
