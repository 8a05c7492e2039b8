"""The browser tab that uses the page, one at a time; another can take over."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from utils.errors import UserError
from utils.files import remove

NEWS_S = 0.4
RELOAD_S = 1.0
MAX_TEXT = 1000


class Refused(UserError):
    """A refused request, with its HTTP status."""

    def __init__(self, status: int, words: str):
        super().__init__(words)
        self.status = status


class Session:
    """State of the tab that uses the page. Its folder is removed when the web socket closes."""

    def __init__(self, folder: Path):
        self.token = secrets.token_urlsafe(24)
        self.folder = folder / f"session-{secrets.token_hex(8)}"
        self.folder.mkdir()
        self.taken, self.ending, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()


class Tabs:
    """The session of the tab that uses the page.

    Args:
        folder: folder of the sessions' folders.
        news: returns the state that the page shows. It is sent when it changes.
        on_end: called when a session ends.
    """

    def __init__(self, folder: Path, news: Callable[[], dict[str, Any]], on_end: Callable[[], Awaitable[None]]):
        self._folder, self._news, self._on_end = folder, news, on_end
        self._session: Session | None = None
        self._entering = asyncio.Lock()

    def session_of(self, token: str) -> Session:
        """Return the session of a token. Raises Refused if it is not the current one."""
        session = self._session
        if session is None or not secrets.compare_digest(session.token.encode(), token.encode()):
            raise Refused(403, "Another tab uses the page; reload this one.")
        return session

    async def serve(self, socket: WebSocket) -> None:
        """Serve a tab until it is closed or another takes over (`?take`)."""
        await socket.accept()
        async with self._entering:
            before = self._session
            if before is not None and "take" not in socket.query_params:
                with suppress(asyncio.TimeoutError):  # it may be just ending, as when a page is reloaded
                    await asyncio.wait_for(before.ending.wait(), RELOAD_S)
                if not before.ending.is_set():
                    await socket.send_json({"busy": True})
                    return await socket.close()
            if before is not None:
                before.taken.set()
                await before.closed.wait()
            session = self._session = Session(self._folder)
        # the page sends nothing: what is received is the end
        work = (socket.receive(), self._send_news(socket, session), session.taken.wait())
        tasks = [asyncio.create_task(each) for each in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            session.ending.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.send_json({"taken": session.taken.is_set()})
                await socket.close()
            await asyncio.shield(self._close(session))

    async def _close(self, session: Session) -> None:
        await self._on_end()
        await asyncio.to_thread(remove, session.folder)
        self._session = None
        session.closed.set()

    async def _send_news(self, socket: WebSocket, session: Session) -> None:
        await socket.send_json({"session": session.token})
        last = ""
        while True:
            news = json.dumps(self._news())
            if news != last:
                await socket.send_text(news)
            last = news
            await asyncio.sleep(NEWS_S)


def read_message(text: str) -> dict[str, Any]:
    """Parse a message of the page. Raises UserError if it is invalid."""
    try:
        found = json.loads(text[:MAX_TEXT])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError("invalid message")
    return found
