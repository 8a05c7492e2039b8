"""Face detection and 98 landmarks with MediaPipe.

MediaPipe's full-range detector finds faces in the whole image, and its face mesh (478 points) is fitted to a crop of
each. A linear correction, fitted on synthetic people by `benchmarks/landmarks.py`, maps the mesh to WFLW's landmarks.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

CORRECTION = Path(__file__).with_name("mesh_to_wflw.npz")

MIN_CONFIDENCE = 0.5
SCENE_PX = 16  # width and height of the thumbnail by which cuts are detected
MAX_FACES = 8  # the largest faces of an image
MAX_DETECTION_PX = 1280  # larger images are reduced for the detector, not for the mesh
MESH_PX, MESH_MARGIN = 256, 2.0  # size of the mesh's crop, and its side relative to the detector's box
TILE_SHARE = 0.6  # side of overlapping tiles relative to the image, searched if the whole image shows no face
MAX_DEVIATION = 2.5  # limit of shape coefficients, in standard deviations
SAME_SHARE = 0.5  # faces whose centres are nearer than this share of the width are the same

# Appearance descriptor: colours at some points and the shape of the head, each divided by its typical difference
# between two frames of one person, measured on real clips and synthetic people (docs/REENACTMENT.md).
_COLOR_POINTS = (151, 50, 280, 4, 199, 105, 334, 14)  # forehead, cheeks, nose, chin, brows, mouth
_SHAPE_POINTS = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 9, 8, 151, 10, 234, 454, 127, 356, 98, 97, 2, 326, 327)
_SHAPE_POINTS += (70, 105, 336, 300, 58, 288, 132, 361)
COLOR_SPREAD, SHAPE_SPREAD = 0.08, 0.0065  # of log colours, and in units of the head's scale
COLOR_SHARE = 0.06  # side of the averaged square relative to the box
DARK = 8.0  # added to colours before the logarithm

_silencing = threading.Lock()  # redirecting stderr affects the whole process

# Mesh points near WFLW's landmarks. Left and right are the image's, as in WFLW.
_CONTOUR = (127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152)  # from the left ear to the chin
_CONTOUR += (377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356)
_BROWS = ((70, 63, 105, 66, 107), (55, 65, 52, 53), (336, 296, 334, 293, 300), (283, 282, 295, 285))
_NOSE = ((168, 197, 5, 4), (98, 97, 2, 326, 327))
_EYES = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (133, 155, 154, 153, 145, 144, 163, 7, 33)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (263, 249, 390, 373, 374, 380, 381, 382, 362)),
)
_LIPS = ((61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181), (78, 81, 13, 311, 308, 402, 14, 178))
_PUPILS = (468, 473)
# mesh points that expressions hardly move
RIGID_MESH = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 10, 152, 234, 454, 127, 356, 9, 8, 151)


class Pose(NamedTuple):
    """Pose of a mesh: mesh = scale * canonical @ rotation.T + center, for the rigid points."""

    rotation: np.ndarray  # (3, 3)
    scale: float  # in pixels
    center: np.ndarray  # (3,) in pixels


class Face(NamedTuple):
    """A detected face."""

    box: np.ndarray  # (4,) left, top, width, height in pixels: a square whose size does not depend on the pose
    landmarks: np.ndarray  # (98, 2) in pixels of the image
    confidence: float = 1.0  # of the detector, in [0, 1]
    mesh: np.ndarray | None = None  # (478, 3) in pixels; z points away from the camera
    scene: np.ndarray | None = None  # (16, 16, 3) thumbnail of the whole image, to detect cuts
    look: np.ndarray | None = None  # (88,) appearance descriptor; one person's are 1 to 2.5 apart


class FaceFinder:
    """Face finder for a sequence of images. It must be used in the process that made it.

    Args:
        is_video: consecutive images show the same scene, so a face that the detector misses is searched for at its
            last position.

    Raises ImportError if MediaPipe is not installed.
    """

    def __init__(self, is_video: bool = False):
        with _silenced():
            from mediapipe import solutions  # slow to import

            self._detector = solutions.face_detection.FaceDetection(MIN_CONFIDENCE, model_selection=1)
            self._mesh = solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True)
            blank = np.zeros((MESH_PX, MESH_PX, 3), np.uint8)
            self._detector.process(blank)  # loading the models prints warnings
            self._mesh.process(blank)
        self._is_video = is_video
        self._before: list[np.ndarray] = []  # boxes of the previous image with their confidence, (5,) each

    def reset(self) -> None:
        """Start a new sequence."""
        self._before = []

    def find(self, image: np.ndarray) -> list[Face]:
        """Return the faces of an image (H, W, 3) uint8 RGB, the largest first."""
        found = self._detect(image)
        if self._is_video:
            found += [box for box in self._before if not any(_is_same(box, other) for other in found)]
        found = found or self._detect_in_tiles(image)
        scene = cv2.resize(image, (SCENE_PX, SCENE_PX), interpolation=cv2.INTER_AREA)
        faces: list[Face] = []
        for left, top, width, height, confidence in sorted(found, key=lambda box: -box[2])[:MAX_FACES]:
            mesh = self._lay_mesh(image, left + width / 2, top + height / 2, MESH_MARGIN * max(width, height))
            if mesh is None:
                continue
            face = face_of_mesh(mesh, float(confidence))
            face = face._replace(scene=scene, look=look_of(image, face))
            if not any(_is_same(face.box, other.box) for other in faces):
                faces.append(face)
        self._before = [np.append(_tight(face), face.confidence) for face in faces]
        return faces

    def _detect(self, image: np.ndarray, left: int = 0, top: int = 0) -> list[np.ndarray]:
        """Run the detector on a part of the image; return boxes (5,): left, top, width, height, and score."""
        factor = max(max(image.shape[:2]) / MAX_DETECTION_PX, 1)
        size = max(round(image.shape[1] / factor), 1), max(round(image.shape[0] / factor), 1)
        small = image if factor == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        height, width = image.shape[:2]
        boxes = []
        for detection in self._detector.process(np.ascontiguousarray(small)).detections or ():
            box = detection.location_data.relative_bounding_box
            place = (left + box.xmin * width, top + box.ymin * height, box.width * width, box.height * height)
            boxes.append(np.array([*place, detection.score[0]]))
        return boxes

    def _detect_in_tiles(self, image: np.ndarray) -> list[np.ndarray]:
        """Run the detector on four overlapping tiles, to find faces that are too small in the whole image."""
        height, width = (round(TILE_SHARE * size) for size in image.shape[:2])
        found: list[np.ndarray] = []
        for top in (0, image.shape[0] - height):
            for left in (0, image.shape[1] - width):
                boxes = self._detect(image[top : top + height, left : left + width], left, top)
                found += [box for box in boxes if not any(_is_same(box, other) for other in found)]
        return found

    def _lay_mesh(self, image: np.ndarray, center_x: float, center_y: float, side: float) -> np.ndarray | None:
        """Fit the mesh to the face around a point; return (478, 3) in pixels of the image, or None."""
        factor = MESH_PX / max(side, 1)
        shift = np.array([MESH_PX / 2 - center_x * factor, MESH_PX / 2 - center_y * factor])
        if factor < 1:  # reduce first: warpAffine does not average
            left, top = (max(int(c - side / 2), 0) for c in (center_x, center_y))
            right, bottom = (int(c + side / 2) + 1 for c in (center_x, center_y))
            part = image[top:bottom, left:right]
            if part.size == 0:
                return None
            size = max(round(part.shape[1] * factor), 1), max(round(part.shape[0] * factor), 1)
            part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            move = np.array([[1, 0, left * factor + shift[0]], [0, 1, top * factor + shift[1]]])
        else:
            part, move = image, np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
        cut = cv2.warpAffine(part, move, (MESH_PX, MESH_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        found = self._mesh.process(cut).multi_face_landmarks
        if not found:
            return None
        mesh = np.array([(point.x, point.y, point.z) for point in found[0].landmark]) * MESH_PX
        mesh[:, :2] -= shift
        return mesh / factor


def look_of(image: np.ndarray, face: Face) -> np.ndarray:
    """Compute the appearance descriptor (88,) of a face: colours, and the shape of the head."""
    side = max(COLOR_SHARE * face.box[2], 2)
    colors = []
    for x, y in face.mesh[list(_COLOR_POINTS), :2]:
        left, top = (int(np.clip(round(v - side / 2), 0, n - 1)) for v, n in zip((x, y), image.shape[1::-1]))
        part = image[top : max(round(y + side / 2), top + 1), left : max(round(x + side / 2), left + 1)]
        colors.append(np.log(part.reshape(-1, 3).mean(axis=0) + DARK))
    shape = straightened(face.mesh, fit_pose(face.mesh, correction()["canonical"]))[list(_SHAPE_POINTS), :2]
    spreads = COLOR_SPREAD * np.sqrt(3 * len(_COLOR_POINTS)), SHAPE_SPREAD * np.sqrt(len(_SHAPE_POINTS))
    return np.concatenate([np.ravel(colors) / spreads[0], shape.ravel() / spreads[1]])


def _is_same(first: np.ndarray, second: np.ndarray) -> bool:
    apart = np.abs(first[:2] + first[2:4] / 2 - second[:2] - second[2:4] / 2).max()
    return bool(apart < SAME_SHARE * max(first[2], second[2]))


def _tight(face: Face) -> np.ndarray:
    """Return the bounding box of the mesh, which is as large as the detector's."""
    low, high = face.mesh[:, :2].min(axis=0), face.mesh[:, :2].max(axis=0)
    return np.concatenate([low, high - low])


@contextmanager
def _silenced() -> Iterator[None]:
    """Suppress what MediaPipe's C++ code prints to stderr while the block runs."""
    with _silencing:
        os.environ.setdefault("GLOG_minloglevel", "3")
        sys.stderr.flush()
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            for handle in (kept, nowhere):
                with suppress(OSError):
                    os.close(handle)


def spread(points: np.ndarray, count: int) -> np.ndarray:
    """Resample a polyline (N, 2) to `count` equidistant points."""
    walked = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    places = np.linspace(0, walked[-1], count)
    return np.stack([np.interp(places, walked, points[:, axis]) for axis in (0, 1)], axis=1)


def nearest_points(mesh: np.ndarray) -> np.ndarray:
    """Return the mesh points (98, 2) nearest to WFLW's landmarks, before the correction."""
    flat = mesh[:, :2]
    eyes = []
    for upper, lower in _EYES:
        eyes += [spread(flat[list(upper)], 5), spread(flat[list(lower)], 5)[1:4]]
    plain = [flat[list(part)] for part in (*_BROWS, *_NOSE)]
    rest = [flat[list(part)] for part in (*_LIPS, _PUPILS)]
    return np.concatenate([spread(flat[list(_CONTOUR)], 33), *plain, *eyes, *rest])


@lru_cache(maxsize=1)
def correction() -> dict[str, np.ndarray]:
    """Read the correction that `benchmarks/landmarks.py --fit` wrote: canonical head, modes of meshes, weights."""
    with np.load(CORRECTION, allow_pickle=False) as file:
        return {name: file[name].astype(np.float64) for name in file.files}


def fit_pose(mesh: np.ndarray, canonical: np.ndarray) -> Pose:
    """Fit the pose of a mesh (478, 3) to its centred, frontal rigid points (20, 3) (Kabsch and Umeyama)."""
    points = mesh[list(RIGID_MESH)]
    center = points.mean(axis=0)
    left, stretch, right = np.linalg.svd(canonical.T @ (points - center))
    signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    return Pose((left * signs @ right).T, float((stretch * signs).sum() / (canonical**2).sum()), center)


def straightened(mesh: np.ndarray, pose: Pose) -> np.ndarray:
    """Rotate a mesh (478, 3) to a frontal pose, in units of its scale."""
    return (mesh - pose.center) @ pose.rotation / pose.scale


def angles_of(pose: Pose) -> tuple[float, float, float]:
    """Return yaw, pitch and roll in radians. The mesh underestimates the yaw slightly."""
    turn = pose.rotation
    yaw, pitch = -np.arcsin(np.clip(turn[0, 2], -1, 1)), np.arcsin(np.clip(turn[1, 2], -1, 1))
    return float(yaw), float(pitch), float(np.arctan2(turn[1, 0], turn[0, 0]))


def features(mesh: np.ndarray, pose: Pose, modes: dict[str, np.ndarray]) -> np.ndarray:
    """Return the features of the correction: angles, and shape coefficients of the mesh."""
    yaw, pitch, _ = angles_of(pose)
    angles = [1, yaw, pitch, yaw**2, yaw * pitch, pitch**2, yaw**3, yaw**2 * pitch]
    shape = modes["modes"] @ (straightened(mesh, pose).reshape(-1) - modes["mean"]) / modes["deviation"]
    return np.concatenate([angles, shape.clip(-MAX_DEVIATION, MAX_DEVIATION)])


def to_face_frame(points: np.ndarray, pose: Pose) -> np.ndarray:
    """Remove translation, scale and roll from points (N, 2) in pixels."""
    return (points - pose.center[:2]) @ _roll(pose).T / pose.scale


def from_face_frame(points: np.ndarray, pose: Pose) -> np.ndarray:
    """Invert `to_face_frame`."""
    return points * pose.scale @ _roll(pose) + pose.center[:2]


def _roll(pose: Pose) -> np.ndarray:
    _, _, roll = angles_of(pose)
    return np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])


def face_of_mesh(mesh: np.ndarray, confidence: float) -> Face:
    """Compute landmarks and box of a face from its mesh (478, 3) in pixels."""
    fitted = correction()
    pose = fit_pose(mesh, fitted["canonical"])
    moved = (features(mesh, pose, fitted) @ fitted["weights"]).reshape(-1, 2)
    landmarks = from_face_frame(to_face_frame(nearest_points(mesh), pose) + moved, pose)
    side = pose.scale * float(fitted["box_side"])
    center = from_face_frame(fitted["box_center"][None], pose)[0]
    box = np.array([center[0] - side / 2, center[1] - side / 2, side, side])
    return Face(box, landmarks, confidence, mesh)
