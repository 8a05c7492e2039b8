"""Choose which of a driver's motion counts, and how strongly, in its landmarks before they are moved to the target."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from inference.geometry import in_head, looking_ahead, poses_of, typical_head
from utils.errors import UserError

MOTIONS = ("all", "expression", "pose", "eyes", "lips")
MAX_STRENGTH = 2.0
MAX_TURN = np.deg2rad(50)  # a head that is turned further shows no face
# landmarks whose expression counts
EYES = (*range(60, 76), 96, 97)
LIPS = (*range(3, 30), *range(76, 96))  # the chin falls as the mouth opens
PARTS = {"all": tuple(range(98)), "expression": tuple(range(98)), "pose": (), "eyes": EYES, "lips": LIPS}
WITH_POSE = ("all", "pose")


def is_whole(kind: str, strength: float) -> bool:
    """Tell whether all of a motion counts, as it is."""
    return kind == "all" and strength == 1


def read_choice(choice: dict[str, Any]) -> tuple[str, float]:
    """Read which motion counts, and how strongly, of what a page sent; what it does not name is all of it, as it is.

    Raises:
        UserError: it is none of the choices.
    """
    kind, strength = choice.get("motion", "all"), choice.get("strength", 1.0)
    is_number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
    if kind not in MOTIONS or not is_number or not 0 <= strength <= MAX_STRENGTH:
        raise UserError(f"motion is one of {', '.join(MOTIONS)}, and strength a number from 0 to {MAX_STRENGTH:g}")
    return kind, float(strength)


class Motion:
    """Keep of a driver's landmarks the motion that was chosen; the rest of the face is as its neutral one.

    A face is a head in a pose, by weak perspective, and an expression: what its landmarks differ by from the neutral
    ones in the head's own frame, with the depths of a typical head.

    Args:
        kind: of `MOTIONS`: `all`, `expression` without the head's movement, `pose` without expression, or the
            expression of `eyes` or `lips` alone.
        strength: factor of expression and movement, from 0 to 2.
        neutral: the driver's neutral landmarks (98, 2) in pixels.
    """

    def __init__(self, kind: str, strength: float, neutral: np.ndarray):
        self.kind, self.strength = kind, strength
        self._factors = np.zeros((98, 1))
        self._factors[list(PARTS[kind])] = strength
        pose = poses_of(neutral[None])
        self._rotation, self._scale, self._center = pose.rotation[0], pose.scale[0], pose.center[0]
        self._neutral = in_head(looking_ahead(neutral), self._rotation, self._scale, self._center)

    def choose(self, landmarks: np.ndarray) -> np.ndarray:
        """Return the landmarks (98, 2) in pixels of the driver's face with the chosen motion alone."""
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
