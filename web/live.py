"""The web socket of the live tab: a camera's pictures in, what becomes of them out."""

from __future__ import annotations

import asyncio
import json
import math
import struct
import sys
import time
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from inference.live import LiveReenactor
from inference.motion import read_choice
from inference.output import lay_out
from inference.pictures import FaceFrame
from inference.reenactor import Result
from inference.steady import read_smooth
from inference.targets import Target
from utils.errors import UserError, describe, one_line
from web.jpeg import MAX_PICTURE_BYTES, decode

MAX_TEXT = 1000
MAX_SESSIONS = 2  # at a time; each takes about two cores
FIRST_S = 10.0  # seconds a browser gets to choose a person and send a picture; it has no place before that
IDLE_S = 15.0  # a session that sends no picture for this long gives its place up
QUIET_S = 3.0  # without a picture: then a session has to give its place up to somebody who sends one
NUMBER = struct.Struct(">I")  # sent before each picture
HEAD = struct.Struct(">IB")  # its number, and whether the driver's face is still being learned
JPEG_QUALITY = 88
RESULTS_WAITING = 8

Picture = tuple[int, np.ndarray]  # its number, and (H, W, 3) uint8 RGB


def encode(number: int, result: Result, is_learning: bool) -> bytes:
    """Lay out a result, always with the mark 'synthetic', behind its number."""
    panel = cv2.cvtColor(lay_out(result, "panel", has_label=True), cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", panel, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return HEAD.pack(number, is_learning) + jpeg.tobytes()


class _Place:
    """Hold a live session's place: when its last picture came, and whether somebody else has got it."""

    def __init__(self) -> None:
        self.seen_at = math.inf  # while it is being loaded
        self.is_taken = asyncio.Event()

    async def until_taken(self) -> None:
        await self.is_taken.wait()
        raise UserError("Stopped: no picture came, and others were waiting. Press Start to go on.")


class LiveSockets:
    """Serve live sessions, a few at a time.

    Args:
        targets: who can be shown, by name.
        context: as of `open_decoder`.
    """

    def __init__(self, targets: Mapping[str, Target], context: str):
        self._targets, self._context = targets, context
        self._places: list[_Place] = []

    async def serve(self, socket: WebSocket) -> None:
        """Serve one session to its end; it has a place only from its first picture on, and while more of them come."""
        await socket.accept()
        try:
            target, first = await _in_time(self._first_of(socket), FIRST_S)
            place = self._find_place()
            try:
                await self._serve(socket, target, first, place)
            finally:
                if place in self._places:
                    self._places.remove(place)
        except WebSocketDisconnect:
            pass
        except UserError as error:
            await _end(socket, one_line(error))

    def _find_place(self) -> _Place:
        """Take a free place, or the place of the session that has been quiet for longest.

        Raises:
            UserError: all of them send pictures.
        """
        if len(self._places) >= MAX_SESSIONS:
            quiet = min(self._places, key=lambda place: place.seen_at)
            if time.monotonic() - quiet.seen_at < QUIET_S:
                raise UserError("Others are using the live page; try again later.")
            quiet.is_taken.set()
            self._places.remove(quiet)
        self._places.append(_Place())
        return self._places[-1]

    async def _first_of(self, socket: WebSocket) -> tuple[Target, Picture]:
        """Receive who is to be shown, and the first picture."""
        target = self._targets.get(str((await receive_message(socket)).get("target", "")))
        if target is None:
            raise UserError("nobody of that name can be shown; load the page again")
        while (picture := await _picture_of(await socket.receive())) is None:
            pass
        return target, picture

    async def _serve(self, socket: WebSocket, target: Target, first: Picture, place: _Place) -> None:
        loop = asyncio.get_running_loop()
        results: asyncio.Queue[Any] = asyncio.Queue(RESULTS_WAITING)

        def put(item: Any) -> None:
            with suppress(asyncio.QueueFull):  # a browser that does not read misses some
                results.put_nowait(item)

        def tell(item: Any) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(put, item)

        def take(number: int, item: Result | FaceFrame) -> None:
            if isinstance(item, FaceFrame):
                tell(json.dumps({"number": number, "reason": item.reason}))
            else:
                tell(encode(number, item, session.geometry.is_learning))

        def open_session() -> LiveReenactor:
            return LiveReenactor(target.decoder, self._context, take, tell, target.film())

        session = await asyncio.to_thread(open_session)
        tasks: list[asyncio.Task] = []
        try:
            await socket.send_text(json.dumps({"ready": True}))
            session.camera.offer(*first)
            place.seen_at = time.monotonic()
            works = (_receive_all(socket, session, place), _send_all(socket, results), place.until_taken())
            tasks += map(asyncio.create_task, works)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises what ended it
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(session.end)


async def _receive_all(socket: WebSocket, session: LiveReenactor, place: _Place) -> None:
    while True:
        message = await _in_time(socket.receive(), place.seen_at + IDLE_S - time.monotonic())
        picture = await _picture_of(message)
        if picture is not None:
            session.camera.offer(*picture)
            place.seen_at = time.monotonic()
            continue
        wish = read_message(message["text"])
        if wish.get("calibrate"):
            session.geometry.calibrate()
        if "motion" in wish:
            session.geometry.choose(*read_choice(wish))
        if "smooth" in wish:
            session.steady(read_smooth(wish["smooth"]))


async def _picture_of(message: dict[str, Any]) -> Picture | None:
    """Return the picture of a message, or None of one that is a text."""
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    if message.get("text") is not None:
        return None
    data = message.get("bytes") or b""
    if not NUMBER.size < len(data) <= MAX_PICTURE_BYTES:
        raise UserError("a picture that is too large, or none")
    (number,) = NUMBER.unpack_from(data)
    return number, await asyncio.to_thread(decode, data[NUMBER.size :])


async def _in_time(work: Awaitable[Any], seconds: float) -> Any:
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        raise UserError("Stopped: no picture came for a while. Press Start to go on.") from None


async def _send_all(socket: WebSocket, results: asyncio.Queue) -> None:
    while True:
        item = await results.get()
        if isinstance(item, BaseException):
            if isinstance(item, UserError):
                raise item
            print(describe(item)[0], file=sys.stderr, flush=True)
            raise UserError("the network failed; see the server's messages")
        await (socket.send_text(item) if isinstance(item, str) else socket.send_bytes(item))


async def receive_message(socket: WebSocket) -> dict[str, Any]:
    """Receive what the page says.

    Raises:
        UserError: it is none of the page's.
        WebSocketDisconnect: the page is gone.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    return read_message(message.get("text") or "")


def read_message(text: str) -> dict[str, Any]:
    """Read a text that the page sent.

    Raises:
        UserError: it is none of the page's.
    """
    try:
        found = json.loads(text[:MAX_TEXT])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError("a message that is none of the page's")
    return found


async def _end(socket: WebSocket, why: str) -> None:
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_text(json.dumps({"error": why}))
        await socket.close()
