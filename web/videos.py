"""Videos of the page: uploads are checked, one is reenacted at a time, results are kept until they are deleted.

The server chooses all names and paths. Uploads are removed with the tab's session.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect, Request

from datasets.boundary import IMAGE_SIZE
from datasets.film import SIZES
from datasets.panels import generated_metadata
from faces.crop import Square, cut_square
from faces.finder import FaceFinder
from inference.inputs import MAX_CALIBRATION_FRAMES, FaceFrame, FrameSource, Part, open_input
from inference.outputs import lay_out, layout_size, open_result_video
from inference.reenactor import MissingFaces, open_reenactor, results_of
from people.targets import Target, free_name
from people.work import person_name
from utils.errors import DataError, UserError, describe
from utils.html import for_page, image_url
from utils.parallel import close_iterator
from utils.progress import progress_of
from utils.video import open_film, open_video, read_video
from web.controls import read_choice, read_controls
from web.session import Refused, Session

SPARE_BYTES = 256 << 20  # disk space that uploads leave free
MAX_JOB_S = 1800.0
MAX_RATE = 60  # frames per second of a video of the maximum length
MAX_RESULTS = 50
CHECK_S, CHECKS = 3.0, 6  # duration and number of the frames in which faces are searched first
FACE_PX = 72
KINDS = ("video", "person", "recording")
READING = "looking for a face"


class Limits(NamedTuple):
    """Limits of an uploaded video."""

    megabytes: int
    seconds: int

    def check(self, count: int, fps: float) -> None:
        """Check the length of a video. Raises DataError if it is too long, or has too many frames."""
        if count / fps > self.seconds:
            raise DataError(f"the video is {count / fps:.0f} s long, more than {self.seconds} s; cut it")
        if count > self.seconds * MAX_RATE:
            raise DataError(f"the video has {count} frames, more than {self.seconds * MAX_RATE}; lower its frame rate")


class _Stop(Exception):
    """The end of a job on request."""


class Videos:
    """The job of the page, and its results in a folder."""

    def __init__(self, targets: Mapping[str, Target], context: str, limits: Limits, results: Path):
        self._targets, self._context, self._limits, self._results = targets, context, limits, results
        self._job: asyncio.Task | None = None
        self._target = ""  # name of the job's target
        self.stop = threading.Event()  # ends the job
        self.state: dict[str, Any] = {}  # of the job, for the page

    def is_busy(self) -> bool:
        """Return whether a job is running."""
        return self._job is not None and not self._job.done()

    async def end(self, name: str = "") -> None:
        """Stop the job, or only that of a target, and wait for its end."""
        if self.is_busy() and name in ("", self._target):
            self.stop.set()
            await asyncio.gather(self._job, return_exceptions=True)

    async def take(self, request: Request, session: Session, kind: str) -> dict[str, Any]:
        """Receive a file, which replaces the previous one of its kind, and return what the page shows of it.

        Raises Refused if it is too large or cannot be stored, UserError if it cannot be used.
        """
        if kind not in KINDS:
            raise Refused(404, "not found")
        size = int(request.headers.get("content-length", 0))
        if not 0 < size <= self._limits.megabytes << 20:
            raise Refused(413, f"The file is empty, or larger than {self._limits.megabytes} MB; cut or compress it.")
        if kind == "video" and self.is_busy():
            raise Refused(409, "A video is being made; stop that first.")
        part = session.folder / f"{kind}.part"
        try:
            if shutil.disk_usage(session.folder).free < size + SPARE_BYTES:
                raise Refused(507, "The disk has too little space (in TMPDIR).")
            with open(part, "wb") as file:  # the web server ends the stream at the announced size
                async for chunk in request.stream():
                    await asyncio.to_thread(file.write, chunk)
            found = await asyncio.to_thread(self._keep if kind == "recording" else self._check, part)
            part.replace(session.folder / kind)
            return found
        except Refused:
            raise
        except ClientDisconnect:
            raise Refused(408, "The upload was interrupted; try again.") from None
        except OSError as error:
            raise Refused(507, f"The file cannot be stored ({error.strerror}).") from None
        except UserError as error:
            raise UserError(for_page(error, part)) from None
        finally:
            part.unlink(missing_ok=True)

    def _check(self, path: Path) -> dict[str, Any]:
        """Check a video; return its length, and the faces of its first seconds from left to right."""
        source = FrameSource(path)
        if not source.is_film:
            raise UserError("the file is an image; choose a video")
        self._limits.check(source.count, float(source.fps))
        count = min(round(CHECK_S * source.fps), source.count)
        finder, shown, most = FaceFinder(), None, []
        for frame in itertools.islice(source.first(count), 0, None, max(count // CHECKS, 1)):
            faces = finder.find(frame)
            shown, most = (frame, faces) if len(faces) > len(most) else (shown, most)
        faces = sorted(most, key=lambda face: face.box[0] + face.box[2] / 2)
        squares = [Square(*map(round, face.box[:3].tolist())) for face in faces]
        cuts = [image_url(cut_square(shown, square, size=FACE_PX)) for square in squares]
        return {"seconds": source.video.seconds, "faces": cuts}

    def _keep(self, path: Path) -> dict[str, Any]:
        """Write a recording of the live tab as a result, with metadata that mark it as generated."""
        film = open_film(path)
        self._limits.check(film.num_frames(film.fps), float(film.fps))
        comment = generated_metadata("face driven live with a camera")["Comment"]
        out = self._new_result("live")
        with open_video(out, film.size, film.fps, comment, film, film.seconds) as video:
            for frame in read_video(film):
                video.write(frame)
        return {"result": out.name}

    def results(self) -> list[dict[str, Any]]:
        """Return names and times of all results, the newest first."""
        with suppress(OSError):
            found = [{"name": path.name, "time": path.stat().st_mtime} for path in self._results.glob("*.mp4")]
            return sorted(found, key=lambda each: each["time"], reverse=True)
        return []

    def result(self, name: object) -> Path:
        """Return the file of a result. Raises Refused if it does not exist."""
        if name not in [result["name"] for result in self.results()]:
            raise Refused(404, "This result does not exist any more.")
        return self._results / name

    def _new_result(self, person: str) -> Path:
        """Return the path of a new result. Raises UserError if there are too many."""
        names = [result["name"] for result in self.results()]
        if len(names) >= MAX_RESULTS:
            raise UserError(f"there are already {MAX_RESULTS} results; delete some first")
        self._results.mkdir(parents=True, exist_ok=True)
        stem = free_name(person_name(person, "person"), [name.removesuffix(".mp4") for name in names])
        return self._results / f"{stem}.mp4"

    async def make(self, wish: dict[str, Any], session: Session) -> None:
        """Start a job. Raises UserError if the request is invalid, or a job is running."""
        name, (part, face) = str(wish.get("target")), read_choice(wish)
        target, controls, video = self._targets.get(name), read_controls("video", wish), session.folder / "video"
        if target is None:
            raise UserError("this person cannot be shown any more")
        if self.stop.is_set():
            await self.end()
        if self.is_busy():
            raise UserError("a video is being made; stop that first")
        if not video.exists():
            raise UserError("choose or record a video first")
        self.stop.clear()
        self._target, self.state, out = name, {"what": READING}, self._new_result(target.person)
        self._job = asyncio.create_task(self._run(video, target, controls, part, face, out))

    async def _run(self, video: Path, target: Target, controls: dict[str, Any], *work: Any) -> None:
        try:
            self.state = await asyncio.to_thread(self._reenact, video, target, controls, *work)
        except _Stop:
            self.state = {"said": "Stopped."}
        except UserError as error:
            self.state = {"failed": for_page(error, video)}
        except Exception as error:
            print(describe(error)[0], file=sys.stderr, flush=True)
            self.state = {"failed": "internal error; see the server's log"}

    def _watched(self, items: Iterator[FaceFrame], what: str, total: int) -> Iterator[FaceFrame]:
        """Report the progress of a loop over frames."""
        begun_at = time.monotonic()
        try:
            for done, item in enumerate(items, 1):
                self.state = {"what": what, **progress_of(done, total, time.monotonic() - begun_at)}
                yield item
        finally:
            close_iterator(items)

    def _reenact(
        self, path: Path, target: Target, controls: dict[str, Any], part: Part | None, face: int | None, out: Path
    ) -> dict[str, Any]:
        """Reenact a video; return the final state. Raises UserError if it is invalid, _Stop on request."""
        begun_at, decoded = time.monotonic(), itertools.count(1)

        def check() -> None:
            seconds, done = time.monotonic() - begun_at, next(decoded) / 2  # frames are decoded twice
            if self.state.get("what") == READING:
                self.state = {"what": READING, **progress_of(done, count, seconds)}
            if self.stop.is_set():
                raise _Stop
            if seconds > MAX_JOB_S:
                raise UserError(f"not finished after {MAX_JOB_S / 60:.0f} minutes; cut the video")

        frames_in = open_input(str(path), face, part=part, on_frame=check)
        count, calibration = frames_in.count, frames_in.calibration
        self._limits.check(count, float(frames_in.fps))
        frames_in = frames_in._replace(
            frames=self._watched(frames_in.frames, "painting", count),
            calibration=lambda: self._watched(calibration(), "measuring the face", min(count, MAX_CALIBRATION_FRAMES)),
        )
        networks, film = {"decoder": target.decoder}, target.film(max(SIZES))
        size = IMAGE_SIZE if film is None else film.size
        motion, strength, layout = controls["motion"], controls["strength"], controls["layout"]
        reenactor = open_reenactor(frames_in, networks, self._context, motion=motion, strength=strength, film=film)
        missing = MissingFaces("hold")
        comment = generated_metadata(f"face of {target.person}, driven by an uploaded video")["Comment"]
        with (
            open_result_video(out, layout_size(layout, False, size), frames_in, comment, with_sound=True) as made,
            results_of(reenactor, frames_in, missing) as results,
        ):
            for result in results:
                made.write(result.time_s, lay_out(result, layout, controls["label"], size))
            missing.require_some(str(path))
        without = f" Without a face: {missing.counts()}." if missing.reasons else ""
        return {"said": f"Done: {made.count} frames.{without}", "result": out.name}
