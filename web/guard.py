"""Who may use the page: this machine's own browser, or those who know the password."""

from __future__ import annotations

import base64
import secrets
from typing import Any
from urllib.parse import urlsplit

COOKIE = "reenactgan"
LOCAL = frozenset(("127.0.0.1", "localhost", "::1"))


class Guard:
    """Stand before a web application (ASGI), and let in only what belongs.

    Without a password: requests to this machine by its own names, so that no page of another site reaches it by a name
    that leads here. With one: those who say it (HTTP Basic, any user name), and then a cookie. Web sockets come from
    pages of the same address alone, since browsers let any page open them.
    """

    def __init__(self, application: Any, password: str | None):
        self._application, self._password = application, password
        self._token = secrets.token_urlsafe(32)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._application(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._belongs(scope["type"], headers):
            return await _refuse(scope["type"], send, 403)
        if self._password is None or self._has_cookie(headers):
            return await self._application(scope, receive, send)
        if not self._knows_password(headers):
            return await _refuse(scope["type"], send, 401)

        async def send_with_cookie(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
                message["headers"] = [*message["headers"], (b"set-cookie", cookie.encode())]
            await send(message)

        return await self._application(scope, receive, send_with_cookie)

    def _belongs(self, kind: str, headers: dict[str, str]) -> bool:
        host = headers.get("host", "")
        if self._password is None and urlsplit(f"//{host}").hostname not in LOCAL:
            return False
        return kind == "http" or urlsplit(headers.get("origin", "")).netloc == host

    def _has_cookie(self, headers: dict[str, str]) -> bool:
        cookies = dict(part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";"))
        return secrets.compare_digest(cookies.get(COOKIE, "").encode(), self._token.encode())

    def _knows_password(self, headers: dict[str, str]) -> bool:
        scheme, _, words = headers.get("authorization", "").partition(" ")
        try:
            _, _, said = base64.b64decode(words, validate=True).partition(b":")
        except ValueError:
            return False
        return scheme.lower() == "basic" and secrets.compare_digest(said, self._password.encode())


async def _refuse(kind: str, send: Any, status: int) -> None:
    if kind == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b'Basic realm="ReenactGAN", charset="UTF-8"')]
    await send({"type": "http.response.start", "status": status, "headers": headers[: 1 + (status == 401)]})
    await send({"type": "http.response.body", "body": b"not for you\n" if status == 403 else b"password, please\n"})
