"""Videos of the page: one file at a time is uploaded and reenacted.

One browser tab uses the page at a time; another can take over. Its session lasts as long as its web socket. The server
chooses all names and paths, and removes a session's files with the session.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.websockets import WebSocket, WebSocketDisconnect

from datasets.boundary import IMAGE_SIZE
from datasets.film import SIZES
from datasets.panels import generated_metadata
from inference.inputs import FaceFrame, Input, open_input
from inference.outputs import lay_out, layout_size, open_result_video
from inference.reenactor import MissingFaces, open_reenactor, results_of
from people.targets import Target
from utils.errors import UserError, describe, one_line
from utils.files import remove
from utils.html import without_paths
from utils.parallel import close_iterator
from web.controls import read_controls
from web.live import receive_message

PROGRESS_S = 0.5
SPARE_BYTES = 256 << 20  # disk space that uploads leave free
CHUNK_S, SLOWEST = 20.0, 50_000  # longest pause of an upload in seconds, and lowest rate in bytes per second
MAX_JOB_S = 1800.0
RELOAD_S = 1.0
MAX_RATE = 60  # frames per second of a video of the maximum length
MESSAGES_WAITING = 100


class Limits(NamedTuple):
    """Limits of an uploaded video."""

    megabytes: int
    seconds: int

    def check(self, name: str, count: int, fps: float) -> None:
        """Check the length of a video. Raises UserError if it is too long, or has too many frames."""
        if count / fps > self.seconds:
            raise UserError(f"{name}: {count / fps:.0f} s long, more than {self.seconds} s; cut it")
        if count > self.seconds * MAX_RATE:
            raise UserError(f"{name}: {count} frames, more than {self.seconds * MAX_RATE}; lower its frame rate")


class Refused(UserError):
    """A refused request, with its HTTP status."""

    def __init__(self, status: int, words: str):
        super().__init__(words)
        self.status = status


class _Stop(Exception):
    """The end of a job on request."""


class Session:
    """State of the tab that uses the page."""

    def __init__(self, folder: Path):
        self.token = secrets.token_urlsafe(24)
        self.folder = folder / f"session-{secrets.token_hex(8)}"
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MESSAGES_WAITING)
        self.upload: Path | None = None
        self.is_uploading = False
        self.result: tuple[str, Path] | None = None  # name in URLs, and file
        self.job: asyncio.Task | None = None
        self.target = ""  # name of the job's target
        self.stop = threading.Event()
        self.is_over = False
        self.closed = asyncio.Event()

    def say(self, **message: Any) -> None:
        """Send a message to the page, unless its queue is full."""
        with suppress(asyncio.QueueFull):
            self.messages.put_nowait(message)

    def is_busy(self) -> bool:
        """Return whether a job is running."""
        return self.job is not None and not self.job.done()


class Videos:
    """The session of the tab that uses the page, whose upload and result are in a folder.

    `on_end` is called when a session ends.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        context: str,
        limits: Limits,
        folder: Path,
        on_end: Callable[[], Awaitable[None]],
    ):
        self._targets, self._limits, self._folder = targets, limits, folder
        self._context, self._on_end = context, on_end
        self._session: Session | None = None
        self._entering = asyncio.Lock()

    async def serve(self, socket: WebSocket) -> None:
        """Serve a tab until it is closed or another takes over (`?take`), and remove its files."""
        await socket.accept()
        async with self._entering:
            before = self._session
            if before is not None and "take" not in socket.query_params:
                with suppress(asyncio.TimeoutError):  # it may be just ending, as when a page is reloaded
                    await asyncio.wait_for(before.closed.wait(), RELOAD_S)
                if not before.is_over:
                    await socket.send_text(json.dumps({"busy": True}))
                    return await socket.close()
            if before is not None:
                before.is_over = True
                before.say(taken=True)
                await before.closed.wait()
            session = self._session = Session(self._folder)
        tasks = [asyncio.create_task(work) for work in (self._listen(socket, session), _send(socket, session))]
        try:
            session.say(session=session.token)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.shield(self._close(session))
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.close()

    async def _close(self, session: Session) -> None:
        session.is_over = True
        session.stop.set()
        await self._on_end()
        if session.job is not None:
            await asyncio.gather(session.job, return_exceptions=True)
        await asyncio.to_thread(remove, session.folder)
        self._session = None
        session.closed.set()

    async def forget(self, name: str) -> None:
        """Stop the job that shows a target."""
        session = self._session
        if session is not None and session.is_busy() and session.target == name:
            session.stop.set()
            await asyncio.gather(session.job, return_exceptions=True)

    async def _listen(self, socket: WebSocket, session: Session) -> None:
        while True:
            try:
                request = await receive_message(socket)
                if "make" in request:
                    await self._begin(session, request["make"])
                elif "stop" in request:
                    session.stop.set()
            except WebSocketDisconnect:
                return
            except UserError as error:
                session.say(failed=without_paths(one_line(error)))

    def session_of(self, token: str) -> Session:
        """Return the session of a token. Raises Refused if there is none."""
        session = self._session
        if session is None or not secrets.compare_digest(session.token.encode(), token.encode()):
            raise Refused(403, "another tab uses the page; reload this one")
        return session

    def is_current(self, token: str) -> bool:
        """Return whether a token is that of the session."""
        with suppress(Refused):
            return self.session_of(token) is not None
        return False

    async def take(self, request: Request) -> None:
        """Receive a session's file, which replaces the previous one.

        Raises Refused if it is too large, too slow, or the session is busy.
        """
        session = self.session_of(request.headers.get("x-session", ""))
        size = request.headers.get("content-length", "")
        if not (size.isascii() and size.isdigit() and len(size) < 15 and int(size) > 0):
            raise Refused(411, "the file is empty, or its size is unknown")
        if int(size) > self._limits.megabytes << 20:
            raise Refused(413, f"larger than {self._limits.megabytes} MB; cut or compress it")
        if session.is_uploading or session.is_busy():
            raise Refused(409, "one file at a time; wait for the current job, or stop it")
        self._drop_upload(session)
        self._drop_result(session)
        if shutil.disk_usage(self._folder).free < int(size) + SPARE_BYTES:
            raise Refused(507, "the disk has too little space (in TMPDIR)")
        session.is_uploading = True
        path = session.folder / secrets.token_hex(8)
        try:
            session.folder.mkdir(exist_ok=True)
            await self._write(request.stream(), path, int(size))
            if session.is_over:
                raise ClientDisconnect
            session.upload = path
        except (asyncio.TimeoutError, ClientDisconnect):
            raise Refused(408, "the upload was interrupted; try again") from None
        except OSError as error:
            raise Refused(507, f"the file cannot be stored ({error.strerror})") from None
        finally:
            session.is_uploading = False
            if session.upload is None:
                path.unlink(missing_ok=True)
                if session.is_over:
                    remove(session.folder)

    def give_away(self, token: str) -> Path:
        """Hand over a session's file to the caller. Raises Refused if there is no session or no file."""
        session = self.session_of(token)
        if session.is_uploading or session.is_busy() or session.upload is None:
            raise Refused(409, "choose or record a video first")
        path, session.upload = session.upload, None
        return path

    @staticmethod
    async def _write(chunks: AsyncIterator[bytes], path: Path, size: int) -> None:
        received, until = 0, time.monotonic() + CHUNK_S + size / SLOWEST
        with open(path, "xb") as file:
            while chunk := await asyncio.wait_for(anext(chunks, b""), min(CHUNK_S, until - time.monotonic())):
                received += len(chunk)
                if received > size:
                    raise Refused(413, "the file is larger than announced")
                await asyncio.to_thread(file.write, chunk)
        if received != size:
            raise ClientDisconnect

    @staticmethod
    def _drop_upload(session: Session) -> None:
        if session.upload is not None:
            session.upload.unlink(missing_ok=True)
        session.upload = None

    @staticmethod
    def _drop_result(session: Session) -> None:
        if session.result is not None:
            session.result[1].unlink(missing_ok=True)
        session.result = None

    def result(self, name: str) -> Path:
        """Return the file of a result by its name in URLs. Raises Refused if it does not exist."""
        result = self._session and self._session.result
        if result is None or not secrets.compare_digest(result[0].encode(), name.encode()):
            raise Refused(404, "not found")
        return result[1]

    async def _begin(self, session: Session, request: Any) -> None:
        """Start a job. Raises UserError if the request is invalid, or a job is running."""
        request = request if isinstance(request, dict) else {}
        name = str(request.get("target"))
        target = self._targets.get(name)
        controls = read_controls("video", request)
        if target is None:
            raise UserError("this person cannot be shown any more; reload the page")
        if session.is_busy() and session.stop.is_set():
            await asyncio.gather(session.job, return_exceptions=True)
        if session.is_busy():
            raise UserError("a job is running; stop it first")
        if session.is_uploading or session.upload is None:
            raise UserError("choose or record a video first")
        session.stop.clear()
        session.target = name
        session.job = asyncio.create_task(self._make(session, target, controls))

    async def _make(self, session: Session, target: Target, controls: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()

        def say(words: str) -> None:
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(lambda: session.say(progress=words))

        self._drop_result(session)
        try:
            name, path = secrets.token_hex(16), session.folder / f"{secrets.token_hex(8)}.mp4"
            work = (session.upload, target, controls, path, session.stop, say)
            words = await asyncio.to_thread(self._reenact, *work)
            session.result = (name, path)
            session.say(done=words, result=name, person=target.person)
        except _Stop:
            session.say(stopped=True)
        except UserError as error:
            session.say(failed=without_paths(one_line(error).replace(str(session.upload), "the video")))
        except Exception as error:
            print(describe(error)[0], file=sys.stderr, flush=True)
            session.say(failed="internal error; see the server's log")

    def _reenact(
        self,
        path: Path,
        target: Target,
        controls: dict[str, Any],
        out: Path,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> str:
        """Reenact an uploaded video; return a summary. Raises UserError if it is invalid, _Stop on request."""
        until = time.monotonic() + MAX_JOB_S

        def watched(items: Iterator[Any]) -> Iterator[Any]:
            try:
                for item in items:
                    if stop.is_set():
                        raise _Stop
                    if time.monotonic() > until:
                        raise UserError(f"not finished after {MAX_JOB_S / 60:.0f} minutes; cut the video")
                    yield item
            finally:
                close_iterator(items)

        say("reading the video ...")
        frames_in = open_input(str(path))
        self._limits.check(str(path), frames_in.count or 0, float(frames_in.fps))
        frames_in = _watched(frames_in, watched)
        networks, film = {"decoder": target.decoder}, target.film(max(SIZES))
        size = IMAGE_SIZE if film is None else film.size
        motion, strength, layout = controls["motion"], controls["strength"], controls["layout"]
        reenactor = open_reenactor(frames_in, networks, self._context, motion=motion, strength=strength, film=film)
        missing = MissingFaces("hold")
        comment = generated_metadata(f"face of {target.person}, driven by an uploaded video")["Comment"]
        reported_at = time.monotonic()
        with (
            open_result_video(out, layout_size(layout, False, size), frames_in, comment, with_sound=True) as made,
            results_of(reenactor, frames_in, missing) as results,
        ):
            for count, result in enumerate(results, 1):
                made.write(result.time_s, lay_out(result, layout, controls["label"], size))
                if time.monotonic() - reported_at > PROGRESS_S:
                    reported_at = time.monotonic()
                    say(f"{count} of {frames_in.count} frames")
            missing.require_some(str(path))
        return f"{made.count} frames" + (f"; without a face: {missing.counts()}" if missing.reasons else "")


def _watched(frames_in: Input, watched: Callable[[Iterator[FaceFrame]], Iterator[FaceFrame]]) -> Input:
    """Watch every frame, also those without a face, which have no result, and those of the calibration."""
    calibration = frames_in.calibration
    return frames_in._replace(frames=watched(frames_in.frames), calibration=lambda: watched(calibration()))


async def _send(socket: WebSocket, session: Session) -> None:
    while True:
        message = await session.messages.get()
        await socket.send_text(json.dumps(message))
        if session.is_over:
            return
