"""The web socket of the live tab: a camera's pictures in, what becomes of them out."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import sys
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from PIL import Image

from inference.live import LiveReenactor
from inference.output import lay_out
from inference.pictures import FaceFrame
from inference.reenactor import Result
from inference.targets import Target
from utils.errors import UserError, describe, one_line

MAX_PICTURE_BYTES = 1 << 20
MAX_PIXELS = 1920 * 1080  # of a picture
MAX_TEXT = 1000
MAX_SESSIONS = 2  # at a time; each takes about two cores
IDLE_S = 60.0  # without a picture, after which a session gives its place up
NUMBER = struct.Struct(">I")  # of a picture, before it
HEAD = struct.Struct(">IB")  # its number, and whether the driver's face is still being learned
JPEG_QUALITY = 88
RESULTS_WAITING = 8


def decode(data: bytes) -> np.ndarray:
    """Decode a JPEG from a browser, (H, W, 3) uint8.

    Raises:
        UserError: it is none, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError("the camera's pictures are too large")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError):
        raise UserError("a picture that is no JPEG") from None


def encode(number: int, result: Result, is_learning: bool) -> bytes:
    """Lay out a result, always with the mark 'synthetic', behind its number."""
    panel = cv2.cvtColor(lay_out(result, "panel", has_label=True), cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", panel, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return HEAD.pack(number, is_learning) + jpeg.tobytes()


class LiveSockets:
    """Serve live sessions, a few at a time.

    Args:
        targets: who can be shown, by name.
        context, precision: as of `open_decoder`.
    """

    def __init__(self, targets: Mapping[str, Target], context: str, precision: str):
        self._targets, self._context, self._precision = targets, context, precision
        self._num_open = 0

    async def serve(self, socket: WebSocket) -> None:
        """Serve one session to its end."""
        await socket.accept()
        if self._num_open >= MAX_SESSIONS:
            return await _end(socket, "Others are using the live page; try again later.")
        self._num_open += 1
        try:
            await self._serve(socket)
        except WebSocketDisconnect:
            pass
        except UserError as error:
            await _end(socket, one_line(error))
        finally:
            self._num_open -= 1

    async def _serve(self, socket: WebSocket) -> None:
        target = self._targets.get(str(_read(await _in_time(socket.receive_text())).get("target", "")))
        if target is None:
            raise UserError("nobody of that name can be shown; load the page again")
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

        session = await asyncio.to_thread(LiveReenactor, target.decoder, self._context, self._precision, take, tell)
        tasks: list[asyncio.Task] = []
        try:
            await socket.send_text(json.dumps({"ready": True}))
            tasks += [asyncio.create_task(work) for work in (_receive_all(socket, session), _send_all(socket, results))]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises what ended it
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(session.end)


async def _receive_all(socket: WebSocket, session: LiveReenactor) -> None:
    while True:
        message = await _in_time(socket.receive())
        if message["type"] == "websocket.disconnect":
            return
        if (text := message.get("text")) is not None:
            if _read(text).get("calibrate"):
                session.geometry.calibrate()
            continue
        data = message.get("bytes") or b""
        if not NUMBER.size < len(data) <= MAX_PICTURE_BYTES:
            raise UserError("a picture that is too large, or none")
        session.camera.offer(*NUMBER.unpack_from(data), await asyncio.to_thread(decode, data[NUMBER.size :]))


async def _in_time(message: Awaitable[Any]) -> Any:
    try:
        return await asyncio.wait_for(message, IDLE_S)
    except asyncio.TimeoutError:
        raise UserError(f"Stopped: no picture for {IDLE_S:.0f} s. Press Start to go on.") from None


async def _send_all(socket: WebSocket, results: asyncio.Queue) -> None:
    while True:
        item = await results.get()
        if isinstance(item, BaseException):
            if isinstance(item, UserError):
                raise item
            print(describe(item)[0], file=sys.stderr, flush=True)
            raise UserError("the network failed; see the server's messages")
        await (socket.send_text(item) if isinstance(item, str) else socket.send_bytes(item))


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text[:MAX_TEXT])
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError("a message that is none of the page's")
    return found


async def _end(socket: WebSocket, why: str) -> None:
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_text(json.dumps({"error": why}))
        await socket.close()
