"""Geometry of synthetic people: 98 landmarks from identity and expression.

Head coordinates: x to the image's right, y down, z towards the camera, in units of half a face width. The origin is
between eyes and mouth.
"""

from __future__ import annotations

import numpy as np

from faces.landmarks import BROWS, CONTOUR, EYES, MOUTH, NOSE, NUM_LANDMARKS
from synthetic.expressions import Expression
from synthetic.people import Identity

UNIT_PX = 70.0  # one head unit in pixels at scale 1
ORIGIN_PX = (128.0, 116.0)  # the head's origin in the 256-pixel frame
PIVOT_Z = -0.35  # depth of the rotation axis
PERSPECTIVE = 0.12


def _rotation(expression: Expression) -> np.ndarray:
    (cos_y, cos_p, cos_r), (sin_y, sin_p, sin_r) = np.cos(expression[:3]), np.sin(expression[:3])
    yaw = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    pitch = np.array([[1, 0, 0], [0, cos_p, -sin_p], [0, sin_p, cos_p]])
    roll = np.array([[cos_r, -sin_r, 0], [sin_r, cos_r, 0], [0, 0, 1]])
    return roll @ pitch @ yaw


def project(points: np.ndarray, expression: Expression) -> np.ndarray:
    """Project head coordinates (N, 3) to pixels (N, 2): rotation about the neck and weak perspective."""
    pivot = np.array([0, 0, PIVOT_Z])
    turned = (np.asarray(points, np.float64) - pivot) @ _rotation(expression).T + pivot
    pixels = UNIT_PX * expression.scale / (1 - PERSPECTIVE * turned[:, 2])
    center = np.array(ORIGIN_PX) + (expression.shift_x, expression.shift_y)
    return center + pixels[:, None] * turned[:, :2]


def _bow(start: np.ndarray, end: np.ndarray, count: int, bulge: tuple[float, float, float]) -> np.ndarray:
    """Return `count` points on a parabola from start to end whose middle is displaced by `bulge`."""
    t = np.linspace(0, 1, count)[:, None]
    return start * (1 - t) + end * t + 4 * t * (1 - t) * np.asarray(bulge)


def _contour(person: Identity, face: Expression) -> np.ndarray:
    angle = np.pi * np.arange(33) / 32
    cos, sin = np.cos(angle), np.sin(angle)
    x = -np.sign(cos) * np.abs(cos) ** person.jaw_power * person.face_width * (1 + 0.02 * face.smile * sin)
    y = person.temple_y + (person.chin_y - person.temple_y) * sin**0.95 + 0.17 * face.mouth_open * sin**3
    return np.stack([x, y, -0.55 * (x / person.face_width) ** 2 + 0.05], axis=1)


def _eye(person: Identity, face: Expression, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return eight lid landmarks and the pupil; side -1 is the eye on the image's left."""
    center, half = side * person.eye_x, person.eye_width / 2
    tilt = side * person.eye_tilt
    left = np.array([center - half, person.eye_y + tilt, -0.08 - (0.12 if side < 0 else 0)])
    right = np.array([center + half, person.eye_y - tilt, -0.08 - (0.12 if side > 0 else 0)])
    above = person.eye_height * (0.62 * (1 + 0.12 * face.brow_raise) * (1 - face.blink) - 0.16 * face.blink)
    below = person.eye_height * 0.42 * (1 - 0.25 * face.blink - 0.25 * max(face.smile, 0))
    upper = _bow(left, right, 5, (0, -above, 0.03))
    lower = _bow(right, left, 5, (0, below, 0.03))
    gaze = np.array([face.gaze_x * half * 0.84, (below - above) * 0.3 + face.gaze_y * person.eye_height * 0.2, 0.05])
    return np.vstack([upper, lower[1:4]]), (left + right) / 2 + gaze


def _brow(person: Identity, face: Expression, side: int) -> np.ndarray:
    lift = -0.1 * face.brow_raise
    frown = -min(face.brow_raise, 0)
    inner = np.array(
        [side * (person.brow_gap - 0.03 * frown), person.brow_y + person.brow_tilt + 1.1 * lift + 0.02 * frown, 0.06]
    )
    outer_y = person.brow_y - 0.5 * person.brow_tilt + 0.7 * lift + 0.05
    outer = np.array([side * (person.brow_gap + person.brow_length), outer_y, -0.22])
    start, end = (outer, inner) if side < 0 else (inner, outer)
    upper = _bow(start, end, 5, (0, -person.brow_arch, 0.04))
    thickness = person.brow_thickness * np.array([0.9, 1, 1, 0.8, 0.35])
    lower = upper.copy()
    lower[:, 1] += thickness[::-1] if side < 0 else thickness
    lower = lower[::-1]
    return np.vstack([upper, lower[:4] if side < 0 else lower[1:]])


def _nose(person: Identity, face: Expression) -> np.ndarray:
    base = person.nose_top + person.nose_length
    width = person.nose_width * (1 + 0.08 * max(face.smile, 0))
    bridge_y = np.linspace(person.nose_top, base - 0.03, 4)
    bridge = np.stack([np.zeros(4), bridge_y, np.linspace(0.05, person.nose_depth, 4)], axis=1)
    x, dy, z = width * np.array([-1, -0.5, 0, 0.5, 1]), (0.01, 0.07, 0.09, 0.07, 0.01), (0.08, 0.16, 0.24, 0.16, 0.08)
    return np.vstack([bridge, np.stack([x, base + np.array(dy), z], axis=1)])


def _mouth(person: Identity, face: Expression) -> np.ndarray:
    """Return the landmarks 76..95: outer ring, then inner ring."""
    width = person.mouth_width * (1 + 0.25 * face.smile - 0.12 * face.mouth_open)
    middle = person.mouth_y + 0.06 * face.mouth_open
    corner = -0.11 * face.smile
    gap = 0.3 * face.mouth_open

    def depth(t: np.ndarray) -> np.ndarray:
        return 0.17 * (1 - t**2)

    t = np.linspace(-1, 1, 7)
    cupid = np.array([0, 0.62, 1.0, 0.82, 1.0, 0.62, 0])
    arch = middle + corner * t**2 + 0.015 * (1 - t**2) * face.smile
    outer_top = np.stack([t * width, arch - cupid * person.upper_lip - 0.22 * gap * (1 - t**2), depth(t)], axis=1)
    t = t[::-1][1:-1]
    drop = (1 - t**2) ** 0.8 * (person.lower_lip + gap)
    outer_low = np.stack([t * width * 0.94, middle + corner * t**2 + drop, depth(t)], axis=1)
    t = np.linspace(-0.84, 0.84, 5)
    open_ = 1 - (t / 0.84) ** 2
    inner_y = middle + corner * t**2
    inner_top = np.stack([t * width, inner_y - 0.22 * gap * open_ + 0.003, depth(t) - 0.02], axis=1)
    t, open_, inner_y = t[::-1][1:-1], open_[::-1][1:-1], inner_y[::-1][1:-1]
    inner_low = np.stack([t * width, inner_y + (0.95 * gap + 0.012) * open_, depth(t) - 0.02], axis=1)
    return np.vstack([outer_top, outer_low, inner_top, inner_low])


def landmarks_3d(person: Identity, face: Expression) -> np.ndarray:
    """Return the landmarks (98, 3) in head coordinates."""
    points = np.empty((NUM_LANDMARKS, 3))
    points[CONTOUR] = _contour(person, face)
    points[BROWS] = np.vstack([_brow(person, face, -1), _brow(person, face, 1)])
    points[NOSE] = _nose(person, face)
    for eye, side in zip(EYES, (-1, 1)):
        points[eye.ring], points[eye.pupil] = _eye(person, face, side)
    points[MOUTH] = _mouth(person, face)
    return points


def landmarks_of(person: Identity, face: Expression) -> np.ndarray:
    """Return the landmarks (98, 2) float64 in pixels of the 256-pixel frame."""
    return project(landmarks_3d(person, face), face)
