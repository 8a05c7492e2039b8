"""The range of one person's faces in a film, and projection of landmarks towards it."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from faces.geometry import in_head, poses_of, similarity, typical_head
from faces.landmarks import EYES

COMPONENTS = 25
SHARE = 0.6  # fraction of the way towards the projection
BEYOND = 0.5  # fraction that remains of a rotation beyond the film's range


class FaceSpace:
    """Principal components of one person's landmarks (Cootes et al., Active Shape Models, CVIU 1995).

    Coefficients are not bounded: bounds would remove the smile of people who never smile in the film.

    Args:
        landmarks: (N, 98, 2) in pixels.
    """

    def __init__(self, landmarks: np.ndarray):
        mean = landmarks.mean(axis=0)
        faces = np.stack([similarity(face, mean)(face) for face in landmarks])
        self._mean = faces.mean(axis=0)
        self._axes = np.linalg.svd((faces - self._mean).reshape(len(faces), -1), full_matrices=False)[2][:COMPONENTS]
        turns = _turns(poses_of(landmarks).rotation)
        self._least, self._most = turns.min(axis=0), turns.max(axis=0)
        self.num_turned = 0  # faces rotated beyond the film's range so far

    def toward(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks (98, 2) in pixels towards the person's faces; pupils keep their position within the eyes."""
        landmarks = self._turned_less(landmarks)
        offset = (similarity(landmarks, self._mean)(landmarks) - self._mean).ravel()
        nearest = self._mean + (self._axes.T @ (self._axes @ offset)).reshape(-1, 2)
        drawn = landmarks + SHARE * (similarity(nearest, landmarks)(nearest) - landmarks)
        for eye in EYES:
            corners = list(eye.corners)
            drawn[eye.pupil] = landmarks[eye.pupil] + (drawn[corners] - landmarks[corners]).mean(axis=0)
        return drawn

    def _turned_less(self, landmarks: np.ndarray) -> np.ndarray:
        """Halve the rotation beyond the film's range, and count the face."""
        pose = poses_of(landmarks[None])
        rotation, scale, center = pose.rotation[0], pose.scale[0], pose.center[0]
        (turn,) = _turns(pose.rotation)
        excess = turn - turn.clip(self._least, self._most)
        if not excess.any():
            return landmarks
        self.num_turned += 1
        ahead = np.sin(turn - (1 - BEYOND) * excess)
        ahead = np.append(ahead, np.sqrt(max(1 - (ahead**2).sum(), 0)))
        axis = np.cross(rotation[:, 2], ahead)
        angle = np.arctan2(np.linalg.norm(axis), rotation[:, 2] @ ahead)
        axis *= angle / max(np.linalg.norm(axis), 1e-9)
        head = np.column_stack([in_head(landmarks, rotation, scale, center), typical_head()[:, 2]])
        return scale * (head @ (Rotation.from_rotvec(axis).as_matrix() @ rotation).T)[:, :2] + center


def _turns(rotations: np.ndarray) -> np.ndarray:
    """Return yaw and pitch (N, 2) in radians of rotations (N, 3, 3)."""
    return np.arcsin(rotations[:, :2, 2].clip(-1, 1))
