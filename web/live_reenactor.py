"""Live reenactment: processes the newest frame, and drops late ones."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from datasets.film import Film
from faces.finder import FaceFinder
from faces.geometry import MIN_NEUTRAL_FRAMES, NeutralToNeutral, Shape, shape_of, typical_neutral
from faces.motion import Motion, is_whole
from faces.steady import SMOOTH
from inference.film import open_painter
from inference.inputs import CAMERA_FPS, FaceFrame, faces_of_camera
from inference.networks import Trained
from inference.reenactor import Reenactor, Result, open_decoder, target_shape
from utils.parallel import prefetched

LEARN_FRAMES = 75  # frames after which the source's shape is final
NEUTRAL_FRAMES = 8  # frames averaged by `calibrate`
FACES_AHEAD = 1

Take = Callable[[int, "Result | FaceFrame"], None]  # called with a frame's number and result


class LatestFrame:
    """A camera whose frames come from another thread. A frame that is not taken in time is replaced by the next."""

    def __init__(self, fps: float = CAMERA_FPS):
        self.fps = fps
        self.dropped = 0
        self._changed = threading.Condition()
        self._waiting: tuple[int, np.ndarray] | None = None
        self._taken: deque[int] = deque()  # numbers of frames in progress, in order
        self._is_over = False

    def offer(self, number: int, frame: np.ndarray) -> None:
        """Provide a frame (H, W, 3) uint8."""
        with self._changed:
            self.dropped += self._waiting is not None
            self._waiting = number, frame
            self._changed.notify_all()

    def end(self) -> None:
        """Stop the iteration."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._is_over)
                if self._is_over:
                    return
                (number, frame), self._waiting = self._waiting, None
                self._taken.append(number)
            yield frame

    def next_number(self) -> int:
        """Return the number of the next frame that is finished."""
        return self._taken.popleft()


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
        self._motion: Motion | None = None
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
        if is_whole(*selected):
            return self._geometry.move(landmarks)
        if self._motion is None or (self._motion.kind, self._motion.strength) != selected:
            self._motion = Motion(*selected, self._source.neutral)
        return self._geometry.move(self._motion.choose(landmarks))

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
        self._source, self._geometry, self._motion = source, NeutralToNeutral(source, self._target), None


class LiveReenactor:
    """Reenactment of a live stream. Faces are found in one thread and painted in another.

    `take` is called with each frame's number and result, `fail` with an error that ends the stream. `source` is the
    source's shape, if it is known. Raises WeightsError if the weights are invalid.
    """

    def __init__(
        self,
        decoder: Trained,
        context: str,
        take: Take,
        fail: Callable[[BaseException], None],
        film: Film | None = None,
        source: Shape | None = None,
    ):
        self.camera = LatestFrame()
        self.geometry = LearningGeometry(target_shape(decoder, film), source)
        backend, finder = open_decoder(decoder, context), FaceFinder(is_video=True)
        self._reenactor = Reenactor(
            backend,
            decoder,
            geometry=self.geometry,
            smooth=SMOOTH,
            fps=self.camera.fps,
            film=None if film is None else open_painter(film, decoder, backend, 1),
        )

        def run() -> None:
            try:
                with prefetched(faces_of_camera(self.camera, finder), FACES_AHEAD) as frames:
                    for item in self._reenactor.reenact(frames):
                        take(self.camera.next_number(), item)
            except BaseException as error:
                fail(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def apply(self, controls: dict[str, Any]) -> None:
        """Apply the values of the page's controls to the following frames."""
        self.geometry.choose(controls["motion"], controls["strength"])
        self._reenactor.set_smooth(controls["smooth"])

    def end(self) -> None:
        """Stop, and wait for the current frame."""
        self.camera.end()
        self._thread.join()
