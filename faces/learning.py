"""Geometry for a face that is seen for the first time."""

from __future__ import annotations

import numpy as np

from faces.geometry import MIN_NEUTRAL_FRAMES, NeutralToNeutral, Shape, shape_of, typical_neutral
from faces.motion import Motion, is_whole

LEARN_FRAMES = 75  # frames after which the source's shape is final
NEUTRAL_FRAMES = 8  # frames averaged by `calibrate`


class LearningGeometry:
    """Moves landmarks to a target while the source's shape is still being estimated.

    At first, the neutral face is the mean of a typical face and the frames so far, which limits the effect of unusual
    faces and grimaces. The estimate improves with each frame and is final after `LEARN_FRAMES`.
    """

    def __init__(self, target: Shape, source: Shape | None = None):
        self._target = target
        self._seen: list[np.ndarray] = []
        self._source: Shape | None = None
        self._geometry: NeutralToNeutral | None = None
        self._selected = ("all", 1.0)
        self._neutral_left = 0
        self.is_learning = True
        if source is not None:
            self._finish(source)

    @property
    def learned(self) -> Shape | None:
        """Return the source's final shape; None if it is still being estimated."""
        return None if self.is_learning else self._source

    def calibrate(self) -> None:
        """Use the next frames as the neutral face."""
        self._seen, self._neutral_left = [], NEUTRAL_FRAMES

    def choose(self, kind: str, strength: float) -> None:
        """Select the motion for the following frames, see `Motion`."""
        self._selected = kind, strength

    def move(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks (98, 2) in pixels of the crop to the target."""
        if self.is_learning or self._neutral_left:
            self._seen.append(landmarks)
        if self.is_learning:
            self._estimate()
        if self._neutral_left:
            self._neutral_left -= 1
            if not self._neutral_left:
                self._finish(Shape(np.mean(self._seen, axis=0), np.mean(self._seen, axis=0)))
        elif len(self._seen) == LEARN_FRAMES:
            self._finish(shape_of(self._seen))
        selected = self._selected  # another thread may change it
        if not is_whole(*selected):
            landmarks = Motion(*selected, self._source.neutral).choose(landmarks)
        return self._geometry.move(landmarks)

    def _estimate(self) -> None:
        count = len(self._seen)
        if count < MIN_NEUTRAL_FRAMES:
            face = np.mean([typical_neutral(self._seen[-1]), *self._seen], axis=0)
            self._use(Shape(self._seen[-1], face))
        elif count % MIN_NEUTRAL_FRAMES == 0:
            self._use(shape_of(self._seen))

    def _finish(self, source: Shape) -> None:
        self._use(source)
        self.is_learning, self._seen = False, []

    def _use(self, source: Shape) -> None:
        self._source, self._geometry = source, NeutralToNeutral(source, self._target)
