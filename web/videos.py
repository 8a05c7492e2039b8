"""Videos of the page: each open page may bring one file at a time, and have one video made of it, in its turn.

A page's session lasts as long as its web socket. What it is called, where its files lie and what they are called is
decided here alone; with the session they go.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.websockets import WebSocket, WebSocketDisconnect

from datasets.boundary import IMAGE_SIZE
from datasets.panels import generated_mark
from inference.film import SIZES
from inference.inputs import Input, open_input
from inference.motion import read_choice
from inference.output import LAYOUTS, lay_out, layout_size, open_result_video
from inference.pictures import FaceFrame
from inference.pipeline import open_reenactor, results_of
from inference.reenactor import MissingFaces
from inference.targets import Target
from utils.ending import remove
from utils.errors import UserError, describe, one_line
from web.live import receive_message

SAY_EVERY_S = 0.5
MAX_PAGES = 100  # open at a time
KEEP_S = 600.0  # a page that did nothing for this long gives way if too many are open
MAX_WAITING = 20  # videos that are made or wait, of all sessions
MAX_UPLOADS = 8  # all sessions' files together may be as large as this many of the largest
SPARE_BYTES = 256 << 20  # disk space that uploads leave free
CHUNK_S, SLOWEST = 20.0, 50_000  # an upload's longest pause in seconds, and its least bytes a second
MAX_JOB_S = 1800.0  # for one video, from its turn on
MESSAGES_WAITING = 100


class Limits(NamedTuple):
    """Bound what is taken in."""

    megabytes: int  # of a file
    seconds: int  # of a video


class Refused(UserError):
    """Report a request that is not served, with the status of the answer."""

    def __init__(self, status: int, words: str):
        super().__init__(words)
        self.status = status


class _Stop(Exception):
    """End the making of a video on request."""


class Session:
    """Hold what belongs to one open page."""

    def __init__(self, folder: Path):
        self.token = secrets.token_urlsafe(24)
        self.folder = folder / f"session-{secrets.token_hex(8)}"
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MESSAGES_WAITING)
        self.upload: Path | None = None
        self.upload_bytes = 0  # its size, reserved before it comes
        self.is_uploading = False
        self.result: tuple[str, Path] | None = None  # its name in addresses, and its file
        self.job: asyncio.Task | None = None
        self.stop = threading.Event()
        self.is_over = False
        self.active_at = time.monotonic()

    def say(self, **message: Any) -> None:
        """Tell the page something; one that does not listen misses some."""
        with suppress(asyncio.QueueFull):
            self.messages.put_nowait(message)

    def holds_much(self) -> bool:
        """Tell whether the page is at work, or used its files recently."""
        if self.is_uploading or self.is_busy():
            return True
        return bool(self.upload or self.result) and time.monotonic() - self.active_at < KEEP_S

    def is_busy(self) -> bool:
        """Tell whether a video is made, or waits for its turn."""
        return self.job is not None and not self.job.done()


class Videos:
    """Serve the sessions of the video tab.

    Args:
        targets: who can be shown, by name.
        context: as of `open_reenactor`.
        limits: of an upload.
        folder: where sessions have their folders.
    """

    def __init__(self, targets: Mapping[str, Target], context: str, limits: Limits, folder: Path):
        self._targets, self._limits, self._folder = targets, limits, folder
        self._context = context
        self._sessions: dict[str, Session] = {}
        self._turn = asyncio.Lock()
        self._maker = ThreadPoolExecutor(1)

    # -- a page's socket

    async def serve(self, socket: WebSocket) -> None:
        """Serve a page from its opening to its end, and remove what it brought and made."""
        await socket.accept()
        session = self._open()
        if session is None:
            await socket.send_text(json.dumps({"error": "Too many pages are open; try again later."}))
            return await socket.close()
        tasks = [asyncio.create_task(work) for work in (self._listen(socket, session), _tell(socket, session))]
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

    def _open(self) -> Session | None:
        """Make a session; if there are too many, one that holds nothing, or does nothing, gives way."""
        if len(self._sessions) >= MAX_PAGES:
            idle = [session for session in self._sessions.values() if not session.holds_much()]
            if not idle:
                return None
            longest = min(idle, key=lambda session: session.active_at)
            longest.is_over = True
            longest.say(error="Others opened the page; load it again to go on.")
            del self._sessions[longest.token]
        session = Session(self._folder)
        self._sessions[session.token] = session
        return session

    async def _close(self, session: Session) -> None:
        session.is_over = True
        self._sessions.pop(session.token, None)
        session.stop.set()
        if session.job is not None:
            await asyncio.gather(session.job, return_exceptions=True)
        await asyncio.to_thread(remove, session.folder)

    async def _listen(self, socket: WebSocket, session: Session) -> None:
        while True:
            try:
                wish = await receive_message(socket)
                if "make" in wish:
                    await self._begin(session, wish["make"])
                elif "stop" in wish:
                    session.stop.set()
            except WebSocketDisconnect:
                return
            except UserError as error:
                session.say(failed=one_line(error))

    # -- uploads

    def session_of(self, token: str) -> Session:
        """Return the session of a token.

        Raises:
            Refused: no page has it.
        """
        session = self._sessions.get(token)
        if session is None:
            raise Refused(403, "this page is not connected any more; load it again")
        return session

    async def take(self, request: Request) -> None:
        """Take a session's file, in the place of the one before.

        Raises:
            Refused: it is too large, too slow, or not its turn.
        """
        session = self.session_of(request.headers.get("x-session", ""))
        size = request.headers.get("content-length", "")
        if not (size.isascii() and size.isdigit() and len(size) < 15 and int(size) > 0):
            raise Refused(411, "the size of the file is not said, or it is empty")
        if int(size) > self._limits.megabytes << 20:
            raise Refused(413, f"larger than {self._limits.megabytes} MB; cut it, or reduce it")
        if session.is_uploading or session.is_busy():
            raise Refused(409, "one file at a time; wait for what is under way, or stop it")
        taken = sum(other.upload_bytes for other in self._sessions.values() if other is not session)
        if taken + int(size) > MAX_UPLOADS * self._limits.megabytes << 20:
            raise Refused(503, "others' files take all the room; try again later")
        self._drop_upload(session)
        self._drop_result(session)
        if shutil.disk_usage(self._folder).free < int(size) + SPARE_BYTES:
            raise Refused(507, "the server has no room for it (TMPDIR names where it is kept); try again later")
        session.is_uploading, session.upload_bytes = True, int(size)
        path = session.folder / secrets.token_hex(8)
        try:
            session.folder.mkdir(exist_ok=True)
            await self._write(request.stream(), path, int(size))
            if session.is_over:
                raise ClientDisconnect
            session.upload, session.active_at = path, time.monotonic()
        except (asyncio.TimeoutError, ClientDisconnect):
            raise Refused(408, "the file did not come to its end; send it again") from None
        except OSError as error:
            raise Refused(507, f"the file cannot be kept ({error.strerror}); try again later") from None
        finally:
            session.is_uploading = False
            if session.upload is None:
                session.upload_bytes = 0
                path.unlink(missing_ok=True)
                if session.is_over:
                    remove(session.folder)

    def give_away(self, token: str) -> Path:
        """Return a session's file to another owner; the session has it no longer.

        Raises:
            Refused: no page has that token, or it brought no file.
        """
        session = self.session_of(token)
        if session.is_uploading or session.is_busy() or session.upload is None:
            raise Refused(409, "choose or record a video first")
        path, session.upload, session.upload_bytes = session.upload, None, 0
        return path

    @staticmethod
    async def _write(chunks: AsyncIterator[bytes], path: Path, size: int) -> None:
        came, until = 0, time.monotonic() + CHUNK_S + size / SLOWEST
        with open(path, "xb") as file:
            while chunk := await asyncio.wait_for(anext(chunks, b""), min(CHUNK_S, until - time.monotonic())):
                came += len(chunk)
                if came > size:
                    raise Refused(413, "the file is larger than was said")
                await asyncio.to_thread(file.write, chunk)
        if came != size:
            raise ClientDisconnect

    @staticmethod
    def _drop_upload(session: Session) -> None:
        if session.upload is not None:
            session.upload.unlink(missing_ok=True)
        session.upload, session.upload_bytes = None, 0

    @staticmethod
    def _drop_result(session: Session) -> None:
        if session.result is not None:
            session.result[1].unlink(missing_ok=True)
        session.result = None

    def result(self, name: str) -> Path:
        """Return the file of a result by its name in addresses.

        Raises:
            Refused: no result has that name.
        """
        for session in self._sessions.values():
            if session.result is not None and secrets.compare_digest(session.result[0].encode(), name.encode()):
                return session.result[1]
        raise Refused(404, "not there")

    # -- making

    async def _begin(self, session: Session, wish: Any) -> None:
        """Begin on a video, or put it in the queue; one that was stopped is waited for.

        Raises:
            UserError: it cannot be made.
        """
        wish = wish if isinstance(wish, dict) else {}
        target = self._targets.get(str(wish.get("target")))
        layout, has_label, choice = wish.get("layout"), wish.get("label") is not False, read_choice(wish)
        if target is None or layout not in LAYOUTS:
            raise UserError("nobody of that name can be shown; load the page again")
        if session.is_busy() and session.stop.is_set():
            await asyncio.gather(session.job, return_exceptions=True)
        if session.is_busy():
            raise UserError("a video is being made; stop it first")
        if session.is_uploading or session.upload is None:
            raise UserError("choose or record a video first")
        if sum(other.is_busy() for other in self._sessions.values()) >= MAX_WAITING:
            raise UserError("too many are waiting; try again later")
        session.stop.clear()
        session.job = asyncio.create_task(self._make(session, target, layout, has_label, choice))

    async def _make(
        self, session: Session, target: Target, layout: str, has_label: bool, choice: tuple[str, float]
    ) -> None:
        loop = asyncio.get_running_loop()

        def say(words: str) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(lambda: session.say(progress=words))

        self._drop_result(session)
        if self._turn.locked():
            session.say(progress="waiting for others' videos ...")
        waiting = asyncio.create_task(self._turn.acquire())
        try:
            while not waiting.done() and not session.stop.is_set():
                await asyncio.wait([waiting], timeout=SAY_EVERY_S)
            if session.stop.is_set():
                raise _Stop
            name, path = secrets.token_hex(16), session.folder / f"{secrets.token_hex(8)}.mp4"
            work = (session.upload, target, layout, has_label, choice, path, session.stop, say)
            words = await loop.run_in_executor(self._maker, self._reenact, *work)
            session.result, session.active_at = (name, path), time.monotonic()
            session.say(done=words, result=name, person=target.person)
        except _Stop:
            session.say(stopped=True)
        except UserError as error:
            words = one_line(error).replace(str(session.upload), "the video").replace(str(session.folder), "")
            session.say(failed=words)
        except Exception as error:
            print(describe(error)[0], file=sys.stderr, flush=True)
            session.say(failed="it failed; see the server's messages")
        finally:
            if waiting.done() and not waiting.cancelled():
                self._turn.release()
            waiting.cancel()

    def _reenact(
        self,
        path: Path,
        target: Target,
        layout: str,
        has_label: bool,
        choice: tuple[str, float],
        out: Path,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> str:
        """Reenact an uploaded video; returns how much of it was made, in words.

        Raises:
            UserError: what is wrong with the video.
            _Stop: on request.
        """
        until = time.monotonic() + MAX_JOB_S

        def watched(items: Iterator[Any]) -> Iterator[Any]:
            for item in items:
                if stop.is_set():
                    raise _Stop
                if time.monotonic() > until:
                    raise UserError(f"not done after {MAX_JOB_S / 60:.0f} minutes; cut the video, or reduce it")
                yield item

        say("looking at the video ...")
        frames_in = open_input(str(path))
        seconds = (frames_in.count or 0) / float(frames_in.fps)
        if seconds > self._limits.seconds:
            raise UserError(f"{path}: {seconds:.0f} s long; at most {self._limits.seconds} s are taken, so cut it")
        frames_in = _watched(frames_in, watched)
        networks, film = {"decoder": target.decoder}, target.film(max(SIZES))
        size = IMAGE_SIZE if film is None else film.size
        motion, strength = choice
        reenactor = open_reenactor(
            frames_in,
            networks,
            self._context,
            motion=motion,
            strength=strength,
            film=film,
        )
        missing = MissingFaces("hold")
        comment = generated_mark(f"face of {target.person}, driven by an uploaded video")["Comment"]
        said = time.monotonic()
        with (
            open_result_video(out, layout_size(layout, False, size), frames_in, comment, with_sound=True) as made,
            results_of(reenactor, frames_in, missing) as results,
        ):
            for count, result in enumerate(watched(results), 1):
                made.write(result.time_s, lay_out(result, layout, has_label, size))
                if time.monotonic() - said > SAY_EVERY_S:
                    said = time.monotonic()
                    say(f"{count} of {frames_in.count} frames")
            missing.require_some(str(path))
        return f"{made.count} frames" + (f"; without a face: {missing.words()}" if missing.reasons else "")


def _watched(frames_in: Input, watched: Callable[[Iterator[FaceFrame]], Iterator[FaceFrame]]) -> Input:
    """Let a job also be stopped while the face's shape is being found, which may take many frames."""
    some_frames = frames_in.some_frames
    return frames_in._replace(some_frames=lambda: watched(some_frames()))


async def _tell(socket: WebSocket, session: Session) -> None:
    while True:
        message = await session.messages.get()
        await socket.send_text(json.dumps(message))
        if session.is_over:
            return
