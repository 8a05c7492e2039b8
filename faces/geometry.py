"""Face shapes and head poses from landmarks, and moving one person's landmarks to another's face by geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from faces.landmarks import BROWS, CONTOUR, EYE_RINGS, EYES, MIRRORED, MOUTH_CORNERS, NUM_LANDMARKS, opening_of_eyes
from utils.errors import DataError
from utils.sampling import evenly

MAX_SHAPE_FRAMES = 2000  # frames from which a person's shape is estimated
MIN_NEUTRAL_FRAMES = 20  # with fewer frames, the mean stands for the neutral face

# Landmarks that expressions hardly move: eye corners, nose and upper contour. All heads are about equally deep at
# ANCHOR; noses differ in length.
ANCHOR = (60, 64, 68, 72, *range(7), *range(26, 33))
RIGID = (*ANCHOR, *range(51, 60))
POSE_ROUNDS = 15
MIN_SCALE = 1e-3
TYPICAL = Path(__file__).with_name("typical_head.npz")  # means of 200 synthetic people
# Mouth corners and brows, in pixels of the typical head: standard deviation among neutral faces of different people,
# error of the estimate for a person who shows the full range, and that range.
REST_SPREAD, REST_ERROR, REST_RANGE = np.array([0.8, 2.7]), np.array([1.3, 0.9]), np.array([11.0, 11.0])
# Position of the neutral face within the observed range of each expression: mouth shut, eyes open, mouth corners and
# brows slightly below the middle.
RANGE_PERCENTILES = (2, 98)
NEUTRAL_SHARES = {"mouth": 0.0, "eyes": 0.9, "smile": 0.33, "brows": 0.41}
RIDGE = 1e-3
# left and right corner, and the landmarks above and below, of eyes and inner lips
OPENINGS = (
    (60, 64, [61, 62, 63], [67, 66, 65]),
    (68, 72, [69, 70, 71], [75, 74, 73]),
    (88, 92, [89, 90, 91], [95, 94, 93]),
)
MIN_SHORTENED = 0.2  # foreshortening below this carries no information about the gaze
EYE_RATIOS = (0.5, 2.0)  # bounds of the ratio of two people's eyes


class Shape(NamedTuple):
    """Mean and neutral face of one person."""

    mean: np.ndarray  # (98, 2) in pixels of a crop
    neutral: np.ndarray  # (98, 2) in pixels: mouth shut, eyes open, looking straight ahead


class Poses(NamedTuple):
    """Poses of N heads: pixels = scale * (rotation @ head)[:2] + center."""

    rotation: np.ndarray  # (N, 3, 3)
    scale: np.ndarray  # (N,); at 1 half a face is 70 pixels wide
    center: np.ndarray  # (N, 2) in pixels, the mean of the rigid landmarks


class Typical(NamedTuple):
    """Mean of many people, in pixels of a face 140 pixels wide."""

    head: np.ndarray  # (98, 3), neutral, centred on its rigid landmarks
    rest: np.ndarray  # (2,), `_rest` of that head
    changes: np.ndarray  # (2, 98, 2), change of a frontal face's landmarks with each measure


@lru_cache(maxsize=1)
def typical() -> Typical:
    """Read the typical head (computed in tests/unit/test_motion.py)."""
    with np.load(TYPICAL) as arrays:
        return Typical(*(arrays[name] for name in Typical._fields))


def typical_head() -> np.ndarray:
    """Return the landmarks (98, 3) of a typical neutral head in pixels, centred on its rigid landmarks."""
    return typical().head


def similarity(points: np.ndarray, others: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the least-squares similarity transform from points (N, 2) to others, as a function of points."""
    middle, middle_other = points.mean(axis=0), others.mean(axis=0)
    (x, y), (other_x, other_y) = (points - middle).T, (others - middle_other).T
    squares = max((x**2 + y**2).sum(), 1e-9)
    along, across = (x * other_x + y * other_y).sum() / squares, (x * other_y - y * other_x).sum() / squares
    matrix = np.array([[along, across], [-across, along]])
    return lambda places: (places - middle) @ matrix + middle_other


def poses_of(landmarks: np.ndarray) -> Poses:
    """Estimate the poses of heads from landmarks (N, 98, 2).

    Weak perspective: each round solves an orthogonal Procrustes problem (Kabsch) with the depths of the previous one.
    """
    head, points = typical_head()[list(RIGID)], landmarks[:, list(RIGID)]
    center = points.mean(axis=1)
    points = points - center[:, None]
    scale = np.sqrt((points**2).sum(axis=(1, 2)) / (head[:, :2] ** 2).sum())
    depth = scale[:, None] * head[:, 2]
    for _ in range(POSE_ROUNDS):
        left, _, right = np.linalg.svd(np.einsum("ki,nkj->nij", head, np.dstack([points, depth])))
        left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
        rotation = (left @ right).transpose(0, 2, 1)
        turned = head @ rotation.transpose(0, 2, 1)
        scale = (points * turned[..., :2]).sum(axis=(1, 2)) / (turned[..., :2] ** 2).sum(axis=(1, 2))
        scale = np.maximum(scale, MIN_SCALE)
        depth = scale[:, None] * turned[..., 2]
    return Poses(rotation, scale, center)


def in_head(landmarks: np.ndarray, rotation: np.ndarray, scale: float, center: np.ndarray) -> np.ndarray:
    """Transform landmarks (98, 2) to the head's own frame, assuming the depths of a typical head."""
    flat = (landmarks - center) / scale - np.outer(typical_head()[:, 2], rotation[:2, 2])
    return np.linalg.solve(rotation[:2, :2], flat.T).T


def _upright(landmarks: np.ndarray, pose: Poses) -> np.ndarray:
    """Remove translation, scale and roll from landmarks (N, 98, 2)."""
    along = pose.rotation[:, :2, 0] / np.linalg.norm(pose.rotation[:, :2, 0], axis=1)[:, None]
    roll = np.stack([along, np.stack([-along[:, 1], along[:, 0]], axis=1)], axis=1)  # (N, 2, 2)
    return (landmarks - pose.center[:, None]) / pose.scale[:, None, None] @ roll.transpose(0, 2, 1)


def _expressions(upright: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Measure mouth, eyes, smile and brows of upright faces (N, 98, 2), (N, 4)."""
    x, y = upright[..., 0], upright[..., 1]
    mouth = np.abs(y[:, 89:92] - y[:, [95, 94, 93]]).mean(axis=1)
    eyes = (np.abs(y[:, 62] - y[:, 66]) + np.abs(y[:, 70] - y[:, 74])) / 2
    # an open mouth and a turned head also make the mouth narrower
    known = np.column_stack([np.ones(len(x)), mouth, angles, angles[:, 0] ** 2])
    width = x[:, 82] - x[:, 76]
    smile = width - known[:, 1:] @ np.linalg.lstsq(known, width, rcond=None)[0][1:]
    return np.stack([mouth, eyes, smile, y[:, EYE_RINGS].mean(axis=1) - y[:, BROWS].mean(axis=1)], axis=1)


def _rest(upright: np.ndarray) -> np.ndarray:
    """Measure how low the mouth corners and how high the brows of upright faces (N, 98, 2) are, (N, 2)."""
    y = upright[..., 1]
    corners = y[:, MOUTH_CORNERS].mean(axis=1) - y[:, [79, 90]].mean(axis=1)
    return np.stack([corners, y[:, EYE_RINGS].mean(axis=1) - y[:, BROWS].mean(axis=1)], axis=1)


def _neutral_of(landmarks: np.ndarray) -> np.ndarray:
    """Estimate the neutral landmarks (98, 2) of a person from the landmarks of all frames (N, 98, 2).

    People may rest with an open mouth or raised brows, so neither the mean nor a single frame is neutral. Landmarks
    are regressed on pose and expression (quadratic, with ridge), and the regression is evaluated at a neutral
    expression, a fixed share of the observed range. Mouth corners and brows are then shrunk towards the typical head,
    more strongly if the person shows little of their range. The result is symmetric and looks straight ahead.
    """
    pose = poses_of(landmarks)
    upright = _upright(landmarks, pose)
    yaw = np.arcsin(pose.rotation[:, 0, 2].clip(-1, 1))
    pitch = np.arcsin(-pose.rotation[:, 1, 2].clip(-1, 1))
    # noses differ in length, so the pitch is only known relative to the person's other frames
    angles = np.stack([yaw, pitch - np.median(pitch)], axis=1)
    expressions = _expressions(upright, angles)
    least, most = np.percentile(expressions, RANGE_PERCENTILES, axis=0)
    offset = expressions - (least + np.array([*NEUTRAL_SHARES.values()]) * (most - least))
    offset /= offset.std(axis=0) + 1e-9
    terms = [np.ones(len(yaw)), angles, angles**2, angles.prod(axis=1), offset, offset**2]
    known = np.column_stack(terms)
    ridge = RIDGE * len(known) * np.diag([0.0] + [1.0] * (known.shape[1] - 1))
    fitted = np.linalg.solve(known.T @ known + ridge, known.T @ upright.reshape(len(known), -1))
    # a head that turns also moves
    center = np.linalg.lstsq(np.column_stack([np.ones(len(yaw)), angles]), pose.center, rcond=None)[0][0]
    neutral, rest = fitted[0].reshape(-1, 2), _rest(upright)
    shown = np.ptp(np.percentile(rest, RANGE_PERCENTILES, axis=0), axis=0)
    (read,) = _rest(neutral[None])
    doubt = REST_ERROR**2 + (np.maximum(REST_RANGE - shown, 0) / 2) ** 2
    wanted = read + doubt / (doubt + REST_SPREAD**2) * (typical().rest - read)
    neutral = neutral + np.tensordot(wanted - read, typical().changes, 1)
    return center + np.median(pose.scale) * looking_ahead(symmetric(neutral))


def uncrossed(face: np.ndarray) -> np.ndarray:
    """Return a copy of a face (98, 2) in which crossed lids and lips touch instead."""
    face = face.copy()
    for left, right, upper, lower in OPENINGS:
        across = face[right] - face[left]
        down = np.array([-across[1], across[0]]) / max(np.linalg.norm(across), 1e-6)
        crossed = np.minimum((face[lower] - face[upper]) @ down, 0)[:, None] * down / 2
        face[upper] += crossed
        face[lower] -= crossed
    return face


def looking_ahead(face: np.ndarray) -> np.ndarray:
    """Return a copy of a face (98, 2) with centred pupils."""
    face = face.copy()
    for eye in EYES:
        face[eye.pupil] = face[list(eye.corners)].sum(axis=0) / 2
    return face


def symmetric(face: np.ndarray) -> np.ndarray:
    """Return the mean of a face (98, 2) and its aligned mirror image, without asymmetric expressions."""
    mirrored = (face * (-1, 1))[MIRRORED]
    middle, middle_mirrored = face.mean(axis=0), mirrored.mean(axis=0)
    left, _, right = np.linalg.svd((mirrored - middle_mirrored).T @ (face - middle))
    flip = np.diag([1, np.linalg.det(left @ right)])
    return (face + (mirrored - middle_mirrored) @ left @ flip @ right + middle) / 2


def typical_neutral(landmarks: np.ndarray) -> np.ndarray:
    """Return the typical neutral face (98, 2) at the position and scale of a face."""
    pose = poses_of(landmarks[None])
    return pose.scale[0] * typical_head()[:, :2] + pose.center[0]


def shape_of(landmarks: Iterable[np.ndarray]) -> Shape:
    """Estimate a person's shape from landmarks (98, 2) of many frames. Raises DataError if there are none."""
    frames = list(landmarks)
    if not frames:
        raise DataError("no face with landmarks; does the input show a face?")
    mean = np.mean(frames, axis=0)
    if len(frames) < MIN_NEUTRAL_FRAMES:
        return Shape(mean, mean)
    return Shape(mean, _neutral_of(np.array([frames[index] for index in evenly(len(frames), MAX_SHAPE_FRAMES)])))


class MeanToMean:
    """Translation of landmarks by the difference of two mean faces, a baseline of `evaluate.py`."""

    def __init__(self, source: Shape, target: Shape):
        self.shift = target.mean - source.mean

    def move(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks (98, 2) of the source to the target."""
        return landmarks + self.shift


class NeutralToNeutral:
    """Move landmarks by the difference of two neutral faces, rotated with the source's head.

    Pose and expression come from the source, shape and position from the target. The difference is taken as flat except
    at the contour, which gets the depth of the typical head. Eyelids are scaled by the ratio of the two people's eyes,
    so that eyes of a different height close fully, and pupils keep their position between the corners.
    """

    def __init__(self, source: Shape, target: Shape):
        if source.neutral is source.mean:  # the source's neutral face is unknown
            target = target._replace(neutral=target.mean)
        faces = np.stack([looking_ahead(source.neutral), looking_ahead(target.neutral)])
        pose = poses_of(faces)
        anchors = faces[:, list(ANCHOR)].mean(axis=1)
        self._scale, self._place = pose.scale[0], anchors[1] - anchors[0]
        self._straight = pose.rotation[0].T  # noses differ in length, so a neutral face may seem raised
        depths = pose.scale[0] * (_contour_depths(faces[1]) - _contour_depths(faces[0]))
        self._between = np.column_stack([faces[1] - faces[0] - self._place, depths])
        of_source, of_target = abs(opening_of_eyes(faces)).mean(axis=1)
        self._eye_ratio = float(np.clip(of_target / max(of_source, 1e-6), *EYE_RATIOS))
        of_source, of_target = np.linalg.norm(faces[:, [60, 68]] - faces[:, [64, 72]], axis=2).mean(axis=1)
        self._width_ratio = float(np.clip(of_target / max(of_source, 1e-6), *EYE_RATIOS))
        self._neutral = faces[0]

    def move(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks (98, 2) in pixels of the source to the target."""
        pose = poses_of(landmarks[None])
        rotation, scale = pose.rotation[0] @ self._straight, pose.scale[0] / self._scale
        moved = landmarks + scale * self._between @ rotation[:2].T + self._place
        turn = rotation[:2, :2]
        down = turn[:, 1] / max(np.linalg.norm(turn[:, 1]), 1e-6)
        for eye in EYES:
            first, last = eye.corners
            for lid in eye.lids:
                now, before = (_below(face, lid, first, last) for face in (landmarks, self._neutral))
                moved[lid] += (self._eye_ratio - 1) * (now - scale * before) * down
            now, before = (face[eye.pupil] - (face[first] + face[last]) / 2 for face in (landmarks, self._neutral))
            # horizontal and vertical, in pixels of a frontal head
            look = np.linalg.pinv(turn, rcond=MIN_SHORTENED) @ now - scale * before
            moved[eye.pupil] += turn @ ((self._width_ratio - 1, self._eye_ratio - 1) * look)
        return moved


def _contour_depths(face: np.ndarray) -> np.ndarray:
    """Estimate the depth of a frontal face's contour, (98,) in pixels of the typical head; other landmarks get 0."""

    def aside(points: np.ndarray) -> np.ndarray:
        middle, half = (points[0, 0] + points[32, 0]) / 2, (points[32, 0] - points[0, 0]) / 2
        return np.abs(points[:33, 0] - middle) / max(half, 1e-6)

    typical, depths = typical_head(), np.zeros(NUM_LANDMARKS)
    order = np.argsort(aside(typical))
    depths[CONTOUR] = np.interp(aside(face), aside(typical)[order], typical[:33][order, 2])
    return depths


def _below(face: np.ndarray, point: int, first: int, last: int) -> float:
    """Return the distance of a landmark below the line between two others, in pixels."""
    along = face[last] - face[first]
    along = along / max(np.linalg.norm(along), 1e-6)
    return float((face[point] - face[first]) @ np.array([-along[1], along[0]]))
