"""Live reenactment of frames that arrive one by one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from datasets.film import Film
from faces.finder import FaceFinder
from faces.geometry import Shape
from faces.learning import LearningGeometry
from faces.steady import SMOOTH
from inference.film import open_painter
from inference.inputs import CAMERA_FPS, FaceFrame, faces_of_camera
from inference.networks import Trained
from inference.reenactor import Reenactor, Result, open_decoder, target_shape
from utils.errors import UserError
from utils.parallel import prefetched

FACES_AHEAD, FRAMES_WAITING = 1, 8


class LiveFrames:
    """A camera whose frames come from another thread."""

    def __init__(self) -> None:
        self.fps, self._is_over = CAMERA_FPS, False
        self._waiting: queue.Queue[np.ndarray | None] = queue.Queue(FRAMES_WAITING)

    def offer(self, frame: np.ndarray | None) -> None:
        """Provide a frame (H, W, 3) uint8. Raises UserError if too many are waiting."""
        try:
            self._waiting.put_nowait(frame)
        except queue.Full:
            raise UserError("frames arrive faster than they are processed") from None

    def end(self) -> None:
        """Stop the iteration."""
        self._is_over = True
        with suppress(UserError):
            self.offer(None)

    def __iter__(self) -> Iterator[np.ndarray]:
        while (frame := self._waiting.get()) is not None and not self._is_over:
            yield frame


class LiveReenactor:
    """Reenactment of a live stream. Faces are found in one thread and painted in another.

    `take` is called with each frame's result, `fail` with an error that ends the stream. `source` is the
    source's shape, if it is known. Raises WeightsError if the weights are invalid.
    """

    def __init__(
        self,
        decoder: Trained,
        context: str,
        take: Callable[[Result | FaceFrame], None],
        fail: Callable[[BaseException], None],
        film: Film | None = None,
        source: Shape | None = None,
    ):
        self.camera = LiveFrames()
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
                        take(item)
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
