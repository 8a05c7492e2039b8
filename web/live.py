"""The web socket of the live tab: a camera's frames in, results out."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import cv2
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from faces.geometry import Shape
from inference.inputs import FaceFrame
from inference.outputs import lay_out
from inference.reenactor import Result
from people.targets import Target
from utils.errors import UserError, describe, one_line
from utils.html import without_paths
from web.controls import read_controls
from web.jpeg import MAX_IMAGE_BYTES, decode
from web.live_reenactor import LiveReenactor

MAX_TEXT = 1000
FIRST_S = 10.0  # time to choose a person and send the first frame
IDLE_S = 15.0  # a session without frames ends after this time
NUMBER = struct.Struct(">I")  # precedes each frame
HEAD = struct.Struct(">IB")  # number of the frame, and whether the source's shape is still being estimated
JPEG_QUALITY = 88
RESULTS_WAITING = 8

Frame = tuple[int, np.ndarray]  # number, and (H, W, 3) uint8 RGB


def encode(number: int, result: Result, is_learning: bool) -> bytes:
    """Encode the panel of a result, with the label 'synthetic', as a message."""
    panel = cv2.cvtColor(lay_out(result, "panel", has_label=True), cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", panel, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return HEAD.pack(number, is_learning) + jpeg.tobytes()


class Driven(NamedTuple):
    """A target that is driven live."""

    name: str
    end: asyncio.Future[str]  # set to end it, with the reason
    ended: asyncio.Event


class LiveSockets:
    """The live session of the tab that uses the page."""

    def __init__(self, targets: Mapping[str, Target], context: str):
        self._targets, self._context = targets, context
        self._driven: Driven | None = None
        self._face: tuple[str, Shape] | None = None  # token of a tab, and what was learned of its user's face
        self._beginning = asyncio.Lock()

    async def end(self, why: str, name: str = "") -> None:
        """End the live session, or only that of a target."""
        driven = self._driven
        if driven is not None and name in ("", driven.name):
            if not driven.end.done():
                driven.end.set_result(why)
            await driven.ended.wait()

    async def serve(self, socket: WebSocket, is_current: Callable[[str], bool]) -> None:
        """Serve a session, from its first frame on, which ends the one before.

        `is_current` tells whether a token is that of the tab that uses the page.
        """
        await socket.accept()
        try:
            request, first = await _in_time(_first_of(socket), FIRST_S)
            name, token = str(request.get("target", "")), str(request.get("session", ""))
            async with self._beginning:
                if not is_current(token):
                    raise UserError("Another tab uses the page.")
                await self.end("Stopped: started anew.")
                if name not in self._targets:
                    raise UserError("this person cannot be shown any more; reload the page")
                driven = Driven(name, asyncio.get_running_loop().create_future(), asyncio.Event())
                self._driven = driven
            try:
                await self._serve(socket, self._targets[name], first, driven.end, token)
            finally:
                self._driven = None
                driven.ended.set()
        except WebSocketDisconnect:
            pass
        except UserError as error:
            await _end(socket, one_line(error))

    async def _serve(
        self, socket: WebSocket, target: Target, first: Frame, end: asyncio.Future[str], token: str
    ) -> None:
        loop = asyncio.get_running_loop()
        results: asyncio.Queue[Any] = asyncio.Queue(RESULTS_WAITING)

        def put(item: Any) -> None:
            with suppress(asyncio.QueueFull):  # the browser is too slow
                results.put_nowait(item)

        def tell(item: Any) -> None:
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(put, item)

        def take(number: int, item: Result | FaceFrame) -> None:
            if isinstance(item, FaceFrame):
                tell(json.dumps({"number": number, "reason": item.reason}))
            else:
                tell(encode(number, item, session.geometry.is_learning))

        def open_session() -> LiveReenactor:
            source = self._face[1] if self._face is not None and self._face[0] == token else None
            return LiveReenactor(target.decoder, self._context, take, tell, target.film(), source)

        session = await asyncio.to_thread(open_session)
        tasks: list[asyncio.Task] = []
        try:
            await socket.send_text(json.dumps({"ready": True}))
            session.camera.offer(*first)
            tasks += map(asyncio.create_task, (_receive_all(socket, session), _send_all(socket, results)))
            done, _ = await asyncio.wait([*tasks, end], return_when=asyncio.FIRST_COMPLETED)
            if end in done:
                raise UserError(end.result())
            for task in done:
                task.result()  # raises its error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(session.end)
            if session.geometry.learned is not None:
                self._face = token, session.geometry.learned


async def _first_of(socket: WebSocket) -> tuple[dict[str, Any], Frame]:
    """Receive the request and the first frame."""
    request = await receive_message(socket)
    while (frame := await _frame_of(await socket.receive())) is None:
        pass
    return request, frame


async def _receive_all(socket: WebSocket, session: LiveReenactor) -> None:
    seen_at = time.monotonic()
    while True:
        message = await _in_time(socket.receive(), seen_at + IDLE_S - time.monotonic())
        frame = await _frame_of(message)
        if frame is not None:
            session.camera.offer(*frame)
            seen_at = time.monotonic()
            continue
        request = read_message(message["text"])
        if request.get("calibrate"):
            session.geometry.calibrate()
        else:
            session.apply(read_controls("live", request))


async def _frame_of(message: dict[str, Any]) -> Frame | None:
    """Return the frame of a message; None if it is text."""
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    if message.get("text") is not None:
        return None
    data = message.get("bytes") or b""
    if not NUMBER.size < len(data) <= MAX_IMAGE_BYTES:
        raise UserError("the frame is empty or too large")
    (number,) = NUMBER.unpack_from(data)
    return number, await asyncio.to_thread(decode, data[NUMBER.size :])


async def _in_time(work: Awaitable[Any], seconds: float) -> Any:
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        raise UserError("Stopped: no frames arrived. Press Start to continue.") from None


async def _send_all(socket: WebSocket, results: asyncio.Queue) -> None:
    while True:
        item = await results.get()
        if isinstance(item, BaseException):
            if isinstance(item, UserError):
                raise item
            print(describe(item)[0], file=sys.stderr, flush=True)
            raise UserError("internal error; see the server's log")
        await (socket.send_text(item) if isinstance(item, str) else socket.send_bytes(item))


async def receive_message(socket: WebSocket) -> dict[str, Any]:
    """Receive a message of the page.

    Raises:
        UserError: it is invalid.
        WebSocketDisconnect: the connection is closed.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    return read_message(message.get("text") or "")


def read_message(text: str) -> dict[str, Any]:
    """Parse a message of the page. Raises UserError if it is invalid."""
    try:
        found = json.loads(text[:MAX_TEXT])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError("invalid message")
    return found


async def _end(socket: WebSocket, why: str) -> None:
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_text(json.dumps({"error": without_paths(why)}))
        await socket.close()
