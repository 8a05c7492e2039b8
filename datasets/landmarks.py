"""Faces of real people in pictures: where they are, and WFLW's 98 landmarks of each, by MediaPipe's face mesh.

Two of MediaPipe's models work one after the other: its full-range detector looks for faces, also small ones, in the
whole picture; its mesh (478 points) is laid on a cut about each. The points that belong to WFLW's landmarks follow from
the mesh by a correction of convention, which `benchmarks/landmarks.py` fitted on synthetic people.
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

from utils.libraries import load
from utils.parallel import available_cores, require_threads

CORRECTION = Path(__file__).with_name("mesh_to_wflw.npz")

NUM_THREADS = 8  # roughly what MediaPipe starts, plus one for each core
MIN_CONFIDENCE = 0.5  # the detector's input
MAX_FACES = 8  # in a picture, the largest
MAX_DETECTION_PX = 1280  # larger pictures are reduced to find faces; the mesh sees the picture itself
MESH_PX, MESH_MARGIN = 256, 2.0  # the cut for the mesh, and its side / the side of the detector's box
TILE_SHARE = 0.6  # side of overlapping tiles / side of the picture, searched if the whole shows no face
MAX_DEVIATION = 2.5  # largest shape along a mode, in standard deviations of the fitted ones
SAME_SHARE = 0.5  # share of a box's width; nearer centres belong to one face

# What tells faces of one film apart: colours at some points, and the shape of the head. Both differ by about their
# spread between two frames of one person; found on real clips and synthetic people (docs/REENACTMENT.md).
_COLOR_POINTS = (151, 50, 280, 4, 199, 105, 334, 14)  # forehead, cheeks, nose, chin, brows, mouth
_SHAPE_POINTS = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 9, 8, 151, 10, 234, 454, 127, 356, 98, 97, 2, 326, 327)
_SHAPE_POINTS += (70, 105, 336, 300, 58, 288, 132, 361)
COLOR_SPREAD, SHAPE_SPREAD = 0.08, 0.0065  # logarithms of colours, and units of the head's scale
COLOR_SHARE = 0.06  # share of the box's width: side of the square that is averaged for a colour
DARK = 8.0  # added to colours, so that black ones do not count for much

_silencing = threading.Lock()  # stderr is the process's, not a thread's

# Points of the mesh that WFLW's landmarks lie near. Left and right are the picture's, as in WFLW.
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
# Points that expressions hardly move
RIGID_MESH = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 10, 152, 234, 454, 127, 356, 9, 8, 151)


class Pose(NamedTuple):
    """Say how a head lies in a picture: mesh = scale * canonical @ rotation.T + center, for the rigid points."""

    rotation: np.ndarray  # (3, 3)
    scale: float  # in pixels
    center: np.ndarray  # (3,) in pixels


class Face(NamedTuple):
    """Hold a face of a picture."""

    box: np.ndarray  # (4,) left, top, width, height in pixels: a square about the face, of one size in all poses
    landmarks: np.ndarray | None = None  # (98, 2) in pixels of the picture; None of a detector that has none
    confidence: float = 1.0  # the detector's, from 0 to 1
    mesh: np.ndarray | None = None  # (478, 3) in pixels; z, away from the camera, at the scale of x
    look: np.ndarray | None = None  # (88,), what tells it from others; faces of one person are 1 to 2.5 apart


class FaceFinder:
    """Find faces in one picture after another. It holds MediaPipe's graphs, which belong to the process that made it.

    Args:
        is_video: pictures follow each other: where the detector loses a face for a moment, it is looked for where it
            was.

    Raises:
        LibraryError: MediaPipe cannot be loaded.
        ResourceError: its threads cannot be started.
    """

    def __init__(self, is_video: bool = False):
        require_threads(NUM_THREADS + available_cores())
        with _silenced():
            solutions = load("mediapipe", "pip install --no-deps -r requirements-nodeps.txt").solutions
            self._detector = solutions.face_detection.FaceDetection(MIN_CONFIDENCE, model_selection=1)
            self._mesh = solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True)
            blank = np.zeros((MESH_PX, MESH_PX, 3), np.uint8)
            self._detector.process(blank)  # the models speak when they are loaded
            self._mesh.process(blank)
        self._is_video = is_video
        self._before: list[np.ndarray] = []  # boxes of the picture before with their confidence, (5,) each

    def reset(self) -> None:
        """Forget the picture before; what comes is another sequence."""
        self._before = []

    def find(self, image: np.ndarray) -> list[Face]:
        """Find faces, the largest first.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        found = self._detect(image)
        if self._is_video:
            found += [box for box in self._before if not any(_is_same(box, other) for other in found)]
        found = found or self._detect_in_tiles(image)
        faces: list[Face] = []
        for left, top, width, height, confidence in sorted(found, key=lambda box: -box[2])[:MAX_FACES]:
            mesh = self._lay_mesh(image, left + width / 2, top + height / 2, MESH_MARGIN * max(width, height))
            if mesh is None:
                continue
            face = face_of_mesh(mesh, float(confidence))
            face = face._replace(look=look_of(image, face))
            if not any(_is_same(face.box, other.box) for other in faces):
                faces.append(face)
        self._before = [np.append(_tight(face), face.confidence) for face in faces]
        return faces

    def _detect(self, image: np.ndarray, left: int = 0, top: int = 0) -> list[np.ndarray]:
        """Run the detector on a part of the picture; return left, top, width, height in the picture and score, (5,)."""
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
        """Look for faces that are too small in the whole picture, in four parts of it that overlap."""
        height, width = (round(TILE_SHARE * size) for size in image.shape[:2])
        found: list[np.ndarray] = []
        for top in (0, image.shape[0] - height):
            for left in (0, image.shape[1] - width):
                boxes = self._detect(image[top : top + height, left : left + width], left, top)
                found += [box for box in boxes if not any(_is_same(box, other) for other in found)]
        return found

    def _lay_mesh(self, image: np.ndarray, center_x: float, center_y: float, side: float) -> np.ndarray | None:
        """Lay the mesh on the face about a point; return (478, 3) in pixels of the picture, or None."""
        factor = MESH_PX / max(side, 1)
        shift = np.array([MESH_PX / 2 - center_x * factor, MESH_PX / 2 - center_y * factor])
        if factor < 1:  # reduced first, since warping knows no averages
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
    """Describe what tells a face from others in the same film (88,): colours, and the shape of its head."""
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
    """Return the box about the points of a face, as large as the detector's are."""
    low, high = face.mesh[:, :2].min(axis=0), face.mesh[:, :2].max(axis=0)
    return np.concatenate([low, high - low])


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep what MediaPipe's C++ code says while it loads off stderr."""
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


# -- from the mesh to WFLW's landmarks ----------------------------------------------------------------------------


def spread(points: np.ndarray, count: int) -> np.ndarray:
    """Lay so many points along a line (N, 2), equally far apart."""
    walked = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    places = np.linspace(0, walked[-1], count)
    return np.stack([np.interp(places, walked, points[:, axis]) for axis in (0, 1)], axis=1)


def nearest_points(mesh: np.ndarray) -> np.ndarray:
    """Pick the points (98, 2) of a mesh that WFLW's landmarks lie near, as yet uncorrected."""
    flat = mesh[:, :2]
    eyes = []
    for upper, lower in _EYES:
        eyes += [spread(flat[list(upper)], 5), spread(flat[list(lower)], 5)[1:4]]
    plain = [flat[list(part)] for part in (*_BROWS, *_NOSE)]
    rest = [flat[list(part)] for part in (*_LIPS, _PUPILS)]
    return np.concatenate([spread(flat[list(_CONTOUR)], 33), *plain, *eyes, *rest])


@lru_cache(maxsize=1)
def correction() -> dict[str, np.ndarray]:
    """Read what `benchmarks/landmarks.py --fit` wrote: the canonical head, modes of meshes, weights."""
    with np.load(CORRECTION, allow_pickle=False) as file:
        return {name: file[name].astype(np.float64) for name in file.files}


def fit_pose(mesh: np.ndarray, canonical: np.ndarray) -> Pose:
    """Find how a head lies by its rigid points (Kabsch and Umeyama).

    Args:
        mesh: (478, 3) in pixels.
        canonical: (20, 3), the rigid points of a head that looks straight ahead, about their centre.
    """
    points = mesh[list(RIGID_MESH)]
    center = points.mean(axis=0)
    left, stretch, right = np.linalg.svd(canonical.T @ (points - center))
    signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    return Pose((left * signs @ right).T, float((stretch * signs).sum() / (canonical**2).sum()), center)


def straightened(mesh: np.ndarray, pose: Pose) -> np.ndarray:
    """Turn a mesh (478, 3) to look straight ahead, in units of its scale."""
    return (mesh - pose.center) @ pose.rotation / pose.scale


def angles_of(pose: Pose) -> tuple[float, float, float]:
    """Return yaw, pitch and roll in radians, as the mesh has them: its yaw is a little smaller than the head's."""
    turn = pose.rotation
    yaw, pitch = -np.arcsin(np.clip(turn[0, 2], -1, 1)), np.arcsin(np.clip(turn[1, 2], -1, 1))
    return float(yaw), float(pitch), float(np.arctan2(turn[1, 0], turn[0, 0]))


def features(mesh: np.ndarray, pose: Pose, modes: dict[str, np.ndarray]) -> np.ndarray:
    """Describe a face by what the correction depends on: its angles, and its shape along the modes of meshes."""
    yaw, pitch, _ = angles_of(pose)
    angles = [1, yaw, pitch, yaw**2, yaw * pitch, pitch**2, yaw**3, yaw**2 * pitch]
    shape = modes["modes"] @ (straightened(mesh, pose).reshape(-1) - modes["mean"]) / modes["deviation"]
    return np.concatenate([angles, shape.clip(-MAX_DEVIATION, MAX_DEVIATION)])


def to_face_frame(points: np.ndarray, pose: Pose) -> np.ndarray:
    """Bring points (N, 2) in pixels into a frame about the head: without its place, size and roll."""
    return (points - pose.center[:2]) @ _roll(pose).T / pose.scale


def from_face_frame(points: np.ndarray, pose: Pose) -> np.ndarray:
    """Bring points back into pixels of the picture."""
    return points * pose.scale @ _roll(pose) + pose.center[:2]


def _roll(pose: Pose) -> np.ndarray:
    _, _, roll = angles_of(pose)
    return np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])


def face_of_mesh(mesh: np.ndarray, confidence: float) -> Face:
    """Find WFLW's landmarks and the box of a face by its mesh (478, 3) in pixels."""
    fitted = correction()
    pose = fit_pose(mesh, fitted["canonical"])
    moved = (features(mesh, pose, fitted) @ fitted["weights"]).reshape(-1, 2)
    landmarks = from_face_frame(to_face_frame(nearest_points(mesh), pose) + moved, pose)
    side = pose.scale * float(fitted["box_side"])
    center = from_face_frame(fitted["box_center"][None], pose)[0]
    box = np.array([center[0] - side / 2, center[1] - side / 2, side, side])
    return Face(box, landmarks, confidence, mesh)
