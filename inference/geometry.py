"""Moving a driver's landmarks to a target's face by geometry, where no transformer does it.

What is known of a face's shape lies with its decoder's weights in a small list, `face_98pt.txt`, in the form of
CelebV's: its mean and its neutral landmarks, found in the frames that it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config.runs import GEOMETRY_FILE
from datasets.annotations import format_line, read_annotations
from datasets.augment import MIRRORED_LANDMARKS
from datasets.celebv import read_person
from datasets.panels import evenly
from datasets.samples import DrawnDataset, EncodedDataset
from inference.trained import Trained
from utils.errors import DataError, WeightsError
from utils.files import write_text

MEAN, NEUTRAL = "mean", "neutral"
MAX_CALIBRATION_FRAMES = 250  # a video's first frames with a face
CAMERA_CALIBRATION_S = 3.0
MAX_SHAPE_FRAMES = 2000  # frames in which a person's shape is found
MIN_NEUTRAL_FRAMES = 20  # fewer do not tell a habit from an expression: then the mean stands for the neutral face

# Points that expressions hardly move: corners of the eyes, nose, upper contour
NOSE = tuple(range(51, 60))
ANCHOR = (60, 64, 68, 72, *range(7), *range(26, 33))  # equally deep in every head, unlike noses
RIGID_LANDMARKS = (*ANCHOR, *NOSE)
POSE_ROUNDS = 15
MIN_SCALE = 1e-3  # the size of landmarks that all lie on one point
TYPICAL = Path(__file__).with_name("typical_head.npz")  # means of 200 synthetic people
# Of mouth corners and brows, in pixels of the typical head: how far neutral ones lie apart among people, how wrong they
# are where a person is read who does everything, and how far they move then
REST_SPREAD, REST_ERROR, REST_RANGE = np.array([0.8, 2.7]), np.array([1.3, 0.9]), np.array([11.0, 11.0])
# Where neutral lies between the least and the most that a person does, as a share of that range: the mouth shut, the
# eyes open, corners of the mouth and brows a little nearer to their lower end
RANGE_PERCENTILES = (2, 98)
NEUTRAL_SHARES = {"mouth": 0.0, "eyes": 0.9, "smile": 0.33, "brows": 0.41}
RIDGE = 1e-3
# corners, the pupil, and the lids
EYES = ((60, 64, 96, (61, 62, 63, 65, 66, 67)), (68, 72, 97, (69, 70, 71, 73, 74, 75)))
# corners, and what lies above and below of eyes and inner lips
OPENINGS = (
    (60, 64, [61, 62, 63], [67, 66, 65]),
    (68, 72, [69, 70, 71], [75, 74, 73]),
    (88, 92, [89, 90, 91], [95, 94, 93]),
)
MIN_SHORTENED = 0.2  # of a turned head, what is shortened to less tells nothing
EYE_RATIOS = (0.5, 2.0)  # ratio of two people's eyes; beyond it, one was never seen open


class Shape(NamedTuple):
    """Say what is known of a person's face."""

    mean: np.ndarray  # (98, 2) in pixels of the pictures of CelebV's form
    neutral: np.ndarray  # like the mean: shut mouth, open eyes, looking straight ahead


class Placement(NamedTuple):
    """Say how heads lie in their pictures, each: pixels = scale * (rotation @ head)[:2] + place."""

    rotation: np.ndarray  # (N, 3, 3)
    scale: np.ndarray  # (N,); 1 is the typical head's 70 pixels for half a face's width
    center: np.ndarray  # (N, 2) in pixels, where the middle of the rigid points lies


class Typical(NamedTuple):
    """The mean of many people, in pixels of a head whose face is 140 pixels wide."""

    head: np.ndarray  # (98, 3), neutral, about the middle of its rigid points
    rest: np.ndarray  # (2,): what `_rest` measures of it
    changes: np.ndarray  # (2, 98, 2): how a straight head's landmarks change with each measure


@lru_cache(maxsize=1)
def typical() -> Typical:
    """Read what is typical of people; tests/unit/test_motion.py computes it."""
    with np.load(TYPICAL) as arrays:
        return Typical(*(arrays[name] for name in Typical._fields))


def typical_head() -> np.ndarray:
    """Return the landmarks (98, 3) of a typical neutral head in pixels, about the middle of its rigid points."""
    return typical().head


def similarity(points: np.ndarray, others: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the rotation, scale and shift that lay points (N, 2) on others by least squares."""
    middle, middle_other = points.mean(axis=0), others.mean(axis=0)
    (x, y), (other_x, other_y) = (points - middle).T, (others - middle_other).T
    squares = max((x**2 + y**2).sum(), 1e-9)
    along, across = (x * other_x + y * other_y).sum() / squares, (x * other_y - y * other_x).sum() / squares
    matrix = np.array([[along, across], [-across, along]])
    return lambda places: (places - middle) @ matrix + middle_other


def poses_of(landmarks: np.ndarray) -> Placement:
    """Find how heads lie by the rigid points of landmarks (N, 98, 2).

    Weak perspective, by an orthogonal Procrustes problem (Kabsch) with the depths of the previous round.
    """
    head, points = typical_head()[list(RIGID_LANDMARKS)], landmarks[:, list(RIGID_LANDMARKS)]
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
    return Placement(rotation, scale, center)


def in_head(landmarks: np.ndarray, rotation: np.ndarray, scale: float, center: np.ndarray) -> np.ndarray:
    """Return landmarks (98, 2) in the head's own frame, where they are as deep as a typical head's."""
    flat = (landmarks - center) / scale - np.outer(typical_head()[:, 2], rotation[:2, 2])
    return np.linalg.solve(rotation[:2, :2], flat.T).T


def _upright(landmarks: np.ndarray, pose: Placement) -> np.ndarray:
    """Bring landmarks (N, 98, 2) into a frame about the head: without its place, size and roll."""
    along = pose.rotation[:, :2, 0] / np.linalg.norm(pose.rotation[:, :2, 0], axis=1)[:, None]
    roll = np.stack([along, np.stack([-along[:, 1], along[:, 0]], axis=1)], axis=1)  # (N, 2, 2), to upright
    return (landmarks - pose.center[:, None]) / pose.scale[:, None, None] @ roll.transpose(0, 2, 1)


def _expressions(upright: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Measure what upright faces (N, 98, 2) do, (N, 4): mouth, eyes, smile, brows of `NEUTRAL_SHARES`."""
    x, y = upright[..., 0], upright[..., 1]
    mouth = np.abs(y[:, 89:92] - y[:, [95, 94, 93]]).mean(axis=1)
    eyes = (np.abs(y[:, 62] - y[:, 66]) + np.abs(y[:, 70] - y[:, 74])) / 2
    # an open mouth and a turned head are narrower, too
    known = np.column_stack([np.ones(len(x)), mouth, angles, angles[:, 0] ** 2])
    width = x[:, 82] - x[:, 76]
    smile = width - known[:, 1:] @ np.linalg.lstsq(known, width, rcond=None)[0][1:]
    return np.stack([mouth, eyes, smile, y[:, 60:76].mean(axis=1) - y[:, 33:51].mean(axis=1)], axis=1)


def _rest(upright: np.ndarray) -> np.ndarray:
    """Measure how low the corners of upright mouths (N, 98, 2) lie, and how high the brows, (N, 2)."""
    y = upright[..., 1]
    corners = y[:, [76, 82]].mean(axis=1) - y[:, [79, 90]].mean(axis=1)
    return np.stack([corners, y[:, 60:76].mean(axis=1) - y[:, 33:51].mean(axis=1)], axis=1)


def _neutral_of(landmarks: np.ndarray) -> np.ndarray:
    """Find a person's neutral landmarks (98, 2) in the landmarks of its frames (N, 98, 2).

    A person may rest with open mouth or raised brows, so neither a mean nor a frame is neutral. Landmarks are fitted as
    a quadratic function of pose and expressions, over all frames, which is then read at neutral expressions. Ranges
    count as the same for everybody: from a shut mouth to an open one, from a frown to raised brows. Mouth corners and
    brows are drawn to where people typically have them, the more so the less of their range is seen: of somebody who
    frowns in all frames nobody knows the rest. Pupils lie in the middle of their eyes.
    """
    pose = poses_of(landmarks)
    upright = _upright(landmarks, pose)
    yaw = np.arcsin(pose.rotation[:, 0, 2].clip(-1, 1))
    pitch = np.arcsin(-pose.rotation[:, 1, 2].clip(-1, 1))
    # noses differ in length: only the person's other frames tell whether a head is raised
    angles = np.stack([yaw, pitch - np.median(pitch)], axis=1)
    expressions = _expressions(upright, angles)
    least, most = np.percentile(expressions, RANGE_PERCENTILES, axis=0)
    offset = expressions - (least + np.array([*NEUTRAL_SHARES.values()]) * (most - least))
    offset /= offset.std(axis=0) + 1e-9
    terms = [np.ones(len(yaw)), angles, angles**2, angles.prod(axis=1), offset, offset**2]
    known = np.column_stack(terms)
    ridge = RIDGE * len(known) * np.diag([0.0] + [1.0] * (known.shape[1] - 1))
    fitted = np.linalg.solve(known.T @ known + ridge, known.T @ upright.reshape(len(known), -1))
    # a head that turns also moves aside
    center = np.linalg.lstsq(np.column_stack([np.ones(len(yaw)), angles]), pose.center, rcond=None)[0][0]
    neutral, rest = fitted[0].reshape(-1, 2), _rest(upright)
    shown = np.ptp(np.percentile(rest, RANGE_PERCENTILES, axis=0), axis=0)
    (read,) = _rest(neutral[None])
    doubt = REST_ERROR**2 + (np.maximum(REST_RANGE - shown, 0) / 2) ** 2
    wanted = read + doubt / (doubt + REST_SPREAD**2) * (typical().rest - read)
    neutral = neutral + np.tensordot(wanted - read, typical().changes, 1)
    return center + np.median(pose.scale) * looking_ahead(symmetric(neutral))


def uncrossed(face: np.ndarray) -> np.ndarray:
    """Return a face (98, 2) whose lids and lips touch where upper and lower ones have crossed."""
    face = face.copy()
    for left, right, upper, lower in OPENINGS:
        across = face[right] - face[left]
        down = np.array([-across[1], across[0]]) / max(np.linalg.norm(across), 1e-6)
        crossed = np.minimum((face[lower] - face[upper]) @ down, 0)[:, None] * down / 2
        face[upper] += crossed
        face[lower] -= crossed
    return face


def looking_ahead(face: np.ndarray) -> np.ndarray:
    """Return a face (98, 2) with its pupils in the middle between the corners of the eyes, whatever it mostly does."""
    face = face.copy()
    for first, last, pupil, _ in EYES:
        face[pupil] = (face[first] + face[last]) / 2
    return face


def symmetric(face: np.ndarray) -> np.ndarray:
    """Bring a face (98, 2) to the middle of itself and its mirror image, laid on it.

    What a person that pulls faces does to one side more often than to the other is no part of the neutral face.
    """
    mirrored = (face * (-1, 1))[MIRRORED_LANDMARKS]
    middle, middle_mirrored = face.mean(axis=0), mirrored.mean(axis=0)
    left, _, right = np.linalg.svd((mirrored - middle_mirrored).T @ (face - middle))
    flip = np.diag([1, np.linalg.det(left @ right)])
    return (face + (mirrored - middle_mirrored) @ left @ flip @ right + middle) / 2


def typical_neutral(landmarks: np.ndarray) -> np.ndarray:
    """Lay a typical neutral face (98, 2) where a face lies of which nothing else is known, as large as it is."""
    pose = poses_of(landmarks[None])
    return pose.scale[0] * typical_head()[:, :2] + pose.center[0]


def shape_of(landmarks: Iterable[np.ndarray]) -> Shape:
    """Find what is to be known of a person's face in landmarks (98, 2) of many frames.

    Raises:
        DataError: no landmarks are given.
    """
    frames = list(landmarks)
    if not frames:
        raise DataError("no face with landmarks; is one to be seen in the input?")
    mean = np.mean(frames, axis=0)
    if len(frames) < MIN_NEUTRAL_FRAMES:
        return Shape(mean, mean)
    return Shape(mean, _neutral_of(np.array([frames[index] for index in evenly(len(frames), MAX_SHAPE_FRAMES)])))


class MeanToMean:
    """Move landmarks by what lies between two faces' means: habits move along; a baseline of `evaluate.py`."""

    def __init__(self, source: Shape, target: Shape):
        self.shift = target.mean - source.mean

    def move(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks (98, 2) of the source to the target."""
        return landmarks + self.shift


class NeutralToNeutral:
    """Move landmarks by what lies between two neutral faces, turned as the driver's head is.

    Placement and expression are the driver's, shape and place the target's. What lies between is taken for flat, but
    for the contour, whose depth is the typical head's as far to the side. The target's eyes open by the share by which
    the driver's do, so eyes of another height close fully, and pupils keep their place between the corners.
    """

    def __init__(self, source: Shape, target: Shape):
        if source.neutral is source.mean:  # too little is known of the source
            target = target._replace(neutral=target.mean)
        faces = np.stack([looking_ahead(source.neutral), looking_ahead(target.neutral)])
        pose = poses_of(faces)
        anchors = faces[:, list(ANCHOR)].mean(axis=1)
        self._scale, self._place = pose.scale[0], anchors[1] - anchors[0]
        self._straight = pose.rotation[0].T  # noses differ in length, so that a neutral face may seem to be raised
        depths = pose.scale[0] * (_contour_depths(faces[1]) - _contour_depths(faces[0]))
        self._between = np.column_stack([faces[1] - faces[0] - self._place, depths])
        of_source, of_target = abs(faces[:, [62, 70], 1] - faces[:, [66, 74], 1]).mean(axis=1)
        self._eye_ratio = float(np.clip(of_target / max(of_source, 1e-6), *EYE_RATIOS))
        of_source, of_target = np.linalg.norm(faces[:, [60, 68]] - faces[:, [64, 72]], axis=2).mean(axis=1)
        self._width_ratio = float(np.clip(of_target / max(of_source, 1e-6), *EYE_RATIOS))
        self._neutral = faces[0]

    def move(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks (98, 2) of the source to the target."""
        pose = poses_of(landmarks[None])
        rotation, scale = pose.rotation[0] @ self._straight, pose.scale[0] / self._scale
        moved = landmarks + scale * self._between @ rotation[:2].T + self._place
        turn = rotation[:2, :2]
        down = turn[:, 1] / max(np.linalg.norm(turn[:, 1]), 1e-6)
        for first, last, pupil, lids in EYES:
            for lid in lids:
                now, before = (_below(face, lid, first, last) for face in (landmarks, self._neutral))
                # beyond what the neutral eyes differ by
                moved[lid] += (self._eye_ratio - 1) * (now - scale * before) * down
            now, before = (face[pupil] - (face[first] + face[last]) / 2 for face in (landmarks, self._neutral))
            # across and down, in pixels of a straight head
            look = np.linalg.pinv(turn, rcond=MIN_SHORTENED) @ now - scale * before
            moved[pupil] += turn @ ((self._width_ratio - 1, self._eye_ratio - 1) * look)
        return moved


def _contour_depths(face: np.ndarray) -> np.ndarray:
    """Estimate how deep the contour of a straight face (98, 2) lies, (98,) in the typical head's pixels, else 0."""

    def aside(points: np.ndarray) -> np.ndarray:
        middle, half = (points[0, 0] + points[32, 0]) / 2, (points[32, 0] - points[0, 0]) / 2
        return np.abs(points[:33, 0] - middle) / max(half, 1e-6)

    typical, depths = typical_head(), np.zeros(len(face))
    order = np.argsort(aside(typical))
    depths[:33] = np.interp(aside(face), aside(typical)[order], typical[:33][order, 2])
    return depths


def _below(face: np.ndarray, point: int, first: int, last: int) -> float:
    """Measure how far a point lies below the line between two others, in pixels."""
    along = face[last] - face[first]
    along = along / max(np.linalg.norm(along), 1e-6)
    return float((face[point] - face[first]) @ np.array([-along[1], along[0]]))


def write_geometry(folder: Path, landmarks: np.ndarray) -> None:
    """Keep the geometry of a person, by the landmarks (N, 98, 2) of its frames, in the folder of its weights."""
    shape = shape_of(landmarks)
    lines = [format_line(points, name) for name, points in ((MEAN, shape.mean), (NEUTRAL, shape.neutral))]
    write_text(folder / GEOMETRY_FILE, "\n".join(lines) + "\n")


def keep_geometry(dataset: DrawnDataset | EncodedDataset, folder: Path) -> None:
    """Keep the geometry of a dataset's person, if it has landmarks, in the folder of a run."""
    if isinstance(dataset, DrawnDataset):
        write_geometry(folder, dataset.landmarks)


def read_geometry(decoder: Trained) -> Shape:
    """Read the shape of a decoder's person: as a file of its run, or from the person's frames.

    Raises:
        WeightsError: neither is there.
    """
    folders = [decoder.weights.parent, *([decoder.info.parent] if decoder.info else [])]
    paths = [folder / GEOMETRY_FILE for folder in folders]
    path = next((path for path in paths if path.exists()), paths[0])
    config = decoder.config
    if path.exists():
        found = read_annotations(path, 0, "")
        if not {MEAN, NEUTRAL} <= {*found.names}:
            raise WeightsError(f"{path}: no lines '{MEAN}' and '{NEUTRAL}'; remove it, and train the decoder again")
        return Shape(*(found.landmarks[found.names.index(name)] for name in (MEAN, NEUTRAL)))
    try:
        return shape_of(read_person(config.train_dir, config.trg_celeb_name, config.mode).landmarks)
    except DataError:
        raise WeightsError(
            f"{path}: not there, nor are landmarks of {config.trg_celeb_name} in {config.train_dir}; "
            "name a --transformer-config, or train the decoder on landmarks"
        ) from None
