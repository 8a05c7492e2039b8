"""A face driven live: pictures come when they come, the newest counts, and what falls behind is dropped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from datasets.boundary import style_of
from inference.faces import make_finder
from inference.film import Film, open_painter
from inference.geometry import MIN_NEUTRAL_FRAMES, NeutralToNeutral, Shape, shape_of, typical_neutral
from inference.motion import Motion, is_whole
from inference.pictures import CAMERA_FPS, FaceFrame, faces_of_camera
from inference.pipeline import open_decoder, target_shape
from inference.reenactor import Reenactor, Result
from inference.steady import SMOOTH
from inference.trained import Trained
from utils.parallel import prefetched

LEARN_FRAMES = 75  # pictures of the driver's face before its shape is learned
NEUTRAL_FRAMES = 8  # pictures averaged for a neutral face
FACES_AHEAD = 1

Take = Callable[[int, "Result | FaceFrame"], None]  # the number of the picture, and what became of it


class LatestPicture:
    """Stand for a camera whose pictures somebody else brings; one that is not taken in time gives way to the next."""

    def __init__(self, fps: float = CAMERA_FPS):
        self.fps = fps
        self.dropped = 0
        self._changed = threading.Condition()
        self._waiting: tuple[int, np.ndarray] | None = None
        self._taken: deque[int] = deque()  # numbers of those under way, in order
        self._is_over = False

    def offer(self, number: int, picture: np.ndarray) -> None:
        """Bring a picture (H, W, 3) uint8."""
        with self._changed:
            self.dropped += self._waiting is not None
            self._waiting = number, picture
            self._changed.notify_all()

    def end(self) -> None:
        """Give no more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._is_over)
                if self._is_over:
                    return
                (number, picture), self._waiting = self._waiting, None
                self._taken.append(number)
            yield picture

    def next_number(self) -> int:
        """Return the number of the next picture to come out at the other end."""
        return self._taken.popleft()


class LearningGeometry:
    """Move a driver's landmarks to a target while the driver's face is still being learned.

    At first the middle of a typical face and of the driver's stands for the neutral one, so that neither a grimace nor
    an unusual face distorts much; it is better known as frames come, and final after `LEARN_FRAMES`. Asked to, it
    takes the next frames for the driver's neutral face.
    """

    def __init__(self, target: Shape):
        self._target = target
        self._seen: list[np.ndarray] = []
        self._source: Shape | None = None
        self._geometry: NeutralToNeutral | None = None
        self._wish = ("all", 1.0)
        self._motion: Motion | None = None  # None while all of the motion counts, as it is
        self._neutral_left = 0
        self.is_learning = True

    def calibrate(self) -> None:
        """Take the next frames for neutral ones."""
        self._seen, self._neutral_left = [], NEUTRAL_FRAMES

    def choose(self, kind: str, strength: float) -> None:
        """Choose which of the driver's motion counts, and how strongly, as of `Motion`, from the next face on."""
        self._wish = kind, strength

    def move(self, landmarks: np.ndarray) -> np.ndarray:
        """Move landmarks (98, 2) in pixels of the face's picture to the target."""
        if self.is_learning or self._neutral_left:
            self._seen.append(landmarks)
        if self.is_learning:
            self._guess()
        if self._neutral_left:
            self._neutral_left -= 1
            if not self._neutral_left:
                self._take(Shape(np.mean(self._seen, axis=0), np.mean(self._seen, axis=0)))
        elif len(self._seen) == LEARN_FRAMES:
            self._take(shape_of(self._seen))
        wish = self._wish
        if is_whole(*wish):
            return self._geometry.move(landmarks)
        if self._motion is None or (self._motion.kind, self._motion.strength) != wish:
            self._motion = Motion(*wish, self._source.neutral)
        return self._geometry.move(self._motion.choose(landmarks))

    def _guess(self) -> None:
        """Find a neutral face in the frames so far; few of them count together with a typical face."""
        count = len(self._seen)
        if count < MIN_NEUTRAL_FRAMES:
            face = np.mean([typical_neutral(self._seen[-1]), *self._seen], axis=0)
            self._use(Shape(self._seen[-1], face))
        elif count % MIN_NEUTRAL_FRAMES == 0:
            self._use(shape_of(self._seen))

    def _take(self, source: Shape) -> None:
        self._use(source)
        self.is_learning, self._seen = False, []

    def _use(self, source: Shape) -> None:
        self._source, self._geometry, self._motion = source, NeutralToNeutral(source, self._target), None


class LiveReenactor:
    """Reenact pictures as they come, in threads of their own: finding a face overlaps with painting one.

    Args:
        decoder: of the target.
        context: as of `open_decoder`.
        film: of the target, to paint with.
        take: called with each picture's number, and its result or the reason for having none.
        fail: called with an error that ends it.

    Raises:
        WeightsError: the weights are missing or damaged.
    """

    def __init__(
        self,
        decoder: Trained,
        context: str,
        take: Take,
        fail: Callable[[BaseException], None],
        film: Film | None = None,
    ):
        self.camera = LatestPicture()
        self.geometry = LearningGeometry(target_shape(decoder, film))
        backend, finder = open_decoder(decoder, context), make_finder(None, is_video=True)
        self._reenactor = reenactor = Reenactor(
            backend,
            smooth=SMOOTH,
            target=decoder.config.trg_celeb_name,
            networks=("decoder",),
            geometry=self.geometry,
            style=style_of(decoder.config),
            fps=self.camera.fps,
            film=None if film is None else open_painter(film, decoder, backend, 1),
        )

        def run() -> None:
            try:
                with prefetched(faces_of_camera(self.camera, finder), FACES_AHEAD) as frames:
                    for item in reenactor.reenact(frames):
                        take(self.camera.next_number(), item)
            except BaseException as error:
                fail(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def steady(self, smooth: float) -> None:
        """Change how steady landmarks are, from the next face on; as of `OneEuro`."""
        self._reenactor.steady(smooth)

    def end(self) -> None:
        """Stop, and wait for the picture under way."""
        self.camera.end()
        self._thread.join()
