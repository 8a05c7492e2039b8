"""The web socket of the live tab: a camera's frames in, results out."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image
from starlette.websockets import WebSocket, WebSocketDisconnect

from faces.geometry import Shape
from inference.inputs import FaceFrame
from inference.outputs import lay_out
from inference.reenactor import Result
from people.targets import Target
from utils.errors import UserError, describe
from utils.html import for_page
from web.controls import read_controls
from web.live_reenactor import LiveReenactor
from web.session import read_message

MAX_PIXELS = 1920 * 1080
JPEG_QUALITY = 88
RESULTS_WAITING = 8


def decode(data: bytes) -> np.ndarray:
    """Decode a JPEG image to (H, W, 3) uint8 RGB. Raises UserError if it is anything else, or too large."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError("the camera's frames are too large")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError("the frame is not a JPEG image") from None


def encode(result: Result, is_learning: bool) -> bytes:
    """Encode the panel of a result, with the label 'synthetic', as JPEG.

    The first byte tells whether the source's shape is still being estimated.
    """
    panel = cv2.cvtColor(lay_out(result, "panel", has_label=True), cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", panel, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes([is_learning]) + jpeg.tobytes()


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

    async def serve(self, socket: WebSocket, require_session: Callable[[str], Any]) -> None:
        """Serve a session, whose first message has target and token, and which ends the one before.

        `require_session` raises UserError if a token is not that of the tab that uses the page.
        """
        await socket.accept()
        try:
            request = await _receive(socket)
            if isinstance(request, bytes):
                raise UserError("invalid message")
            name, token = str(request.get("target", "")), str(request.get("session", ""))
            async with self._beginning:
                require_session(token)
                await self.end("Stopped: started anew.")
                if name not in self._targets:
                    raise UserError("this person cannot be shown any more")
                driven = Driven(name, asyncio.get_running_loop().create_future(), asyncio.Event())
                self._driven = driven
            try:
                await self._serve(socket, self._targets[name], driven.end, token)
            finally:
                self._driven = None
                driven.ended.set()
        except WebSocketDisconnect:
            pass
        except UserError as error:
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.send_json({"error": for_page(error)})
                await socket.close()

    async def _serve(self, socket: WebSocket, target: Target, end: asyncio.Future[str], token: str) -> None:
        loop = asyncio.get_running_loop()
        results: asyncio.Queue[Any] = asyncio.Queue(RESULTS_WAITING)

        def put(item: Any) -> None:
            try:
                results.put_nowait(item)
            except asyncio.QueueFull:
                if not end.done():
                    end.set_result("Stopped: the browser does not take the results.")

        def tell(item: Any) -> None:
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(put, item)

        def take(item: Result | FaceFrame) -> None:
            is_face = isinstance(item, Result)
            tell(encode(item, session.geometry.is_learning) if is_face else {"reason": item.reason})

        def open_session() -> LiveReenactor:
            source = self._face[1] if self._face is not None and self._face[0] == token else None
            return LiveReenactor(target.decoder, self._context, take, tell, target.film(), source)

        session = await asyncio.to_thread(open_session)
        tasks: list[asyncio.Task] = []
        try:
            await socket.send_json({"ready": True})
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


async def _receive_all(socket: WebSocket, session: LiveReenactor) -> None:
    while True:
        message = await _receive(socket)
        if isinstance(message, bytes):
            session.camera.offer(await asyncio.to_thread(decode, message))
        elif message.get("calibrate"):
            session.geometry.calibrate()
        else:
            session.apply(read_controls("live", message))


async def _receive(socket: WebSocket) -> bytes | dict[str, Any]:
    """Receive a frame or a message. Raises UserError if it is invalid, WebSocketDisconnect at the end."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    text = message.get("text")
    return message["bytes"] if text is None else read_message(text)


async def _send_all(socket: WebSocket, results: asyncio.Queue) -> None:
    while True:
        item = await results.get()
        if isinstance(item, UserError):
            raise item
        if isinstance(item, BaseException):
            print(describe(item)[0], file=sys.stderr, flush=True)
            raise UserError("internal error; see the server's log")
        await (socket.send_bytes(item) if isinstance(item, bytes) else socket.send_json(item))
