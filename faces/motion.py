"""Selecting parts of the source's motion, and their strength, before landmarks are moved to the target."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from faces.geometry import in_head, looking_ahead, poses_of, typical_head

MOTIONS = ("all", "expression", "pose", "eyes", "lips")
MAX_STRENGTH = 2.0
MAX_TURN = np.deg2rad(50)
# landmarks that keep their expression
EYES = (*range(60, 76), 96, 97)
LIPS = (*range(3, 30), *range(76, 96))  # with the contour, since the chin moves as the mouth opens
PARTS = {"all": tuple(range(98)), "expression": tuple(range(98)), "pose": (), "eyes": EYES, "lips": LIPS}
WITH_POSE = ("all", "pose")


def is_whole(kind: str, strength: float) -> bool:
    """Return whether the motion is used unchanged."""
    return kind == "all" and strength == 1


class Motion:
    """A selection of the source's motion; everything else comes from the source's neutral face.

    A face is decomposed into a pose (weak perspective) and an expression: the difference from the neutral landmarks in
    the head's own frame, with the depths of a typical head.

    Args:
        kind: one of `MOTIONS`: `all`, `expression` without head pose, `pose` without expression, or the expression of
            `eyes` or `lips` alone.
        strength: factor of expression and pose, in [0, 2].
        neutral: the source's neutral landmarks (98, 2) in pixels.
    """

    def __init__(self, kind: str, strength: float, neutral: np.ndarray):
        self.kind, self.strength = kind, strength
        self._factors = np.zeros((98, 1))
        self._factors[list(PARTS[kind])] = strength
        pose = poses_of(neutral[None])
        self._rotation, self._scale, self._center = pose.rotation[0], pose.scale[0], pose.center[0]
        self._neutral = in_head(looking_ahead(neutral), self._rotation, self._scale, self._center)

    def choose(self, landmarks: np.ndarray) -> np.ndarray:
        """Return landmarks (98, 2) in pixels with the selected motion only."""
        if is_whole(self.kind, self.strength):
            return landmarks
        pose = poses_of(landmarks[None])
        rotation, scale, center = pose.rotation[0], pose.scale[0], pose.center[0]
        expression = in_head(landmarks, rotation, scale, center) - self._neutral
        strength = self.strength if self.kind in WITH_POSE else 0.0
        turn = strength * Rotation.from_matrix(rotation @ self._rotation.T).as_rotvec()
        turn *= min(1, MAX_TURN / max(np.linalg.norm(turn), 1e-9))
        rotation = Rotation.from_rotvec(turn).as_matrix() @ self._rotation
        scale = self._scale * (scale / self._scale) ** strength
        center = self._center + strength * (center - self._center)
        head = np.column_stack([self._neutral + self._factors * expression, typical_head()[:, 2]])
        return scale * (head @ rotation.T)[:, :2] + center
