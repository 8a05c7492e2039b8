"""Access control: only a browser with the server's token, and no pages of other sites."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

COOKIE, MAX_QUERY = "reenactgan", 500
LOCAL = frozenset(("127.0.0.1", "localhost", "::1"))
CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(self)"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """ASGI middleware that restricts access to a web application.

    Only requests to a local host name are allowed, which prevents DNS rebinding. Cross-site requests are refused,
    except for links to the page itself. All requests need the token, which keeps other users of this machine out: the
    page's address has it at first, then a cookie, whose name has the port because cookies are shared by all ports. An
    address with the token `once` works a single time: other users can see the command line of a browser.
    """

    def __init__(self, application: Any, port: int, token: str, once: str = ""):
        self._application, self._cookie, self._token, self._once = application, f"{COOKIE}-{port}", token, once

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._application(scope, receive, send)
        kind, headers = scope["type"], _Headers(scope["headers"])
        if not self._is_allowed(scope, headers):
            return await _refuse(kind, send, 403, b"Forbidden: foreign origin or host.\n")
        given = _token_in(scope.get("query_string", b"")) if kind == "http" and scope["path"] == "/" else ""
        if self._once and secrets.compare_digest(given.encode(), self._once.encode()):
            given, self._once = self._token, ""
        if self._fits(given):
            return await self._let_in(send)
        if not self._fits(headers.cookies.get(self._cookie, "")):
            return await _refuse(kind, send, 403, b"Forbidden: open the address that app.py has printed.\n")

        async def send_with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        return await self._application(scope, receive, send_with_headers if kind == "http" else send)

    def _fits(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token.encode())

    async def _let_in(self, send: Any) -> None:
        """Replace the token in the address by a cookie."""
        cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), *HEADERS]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _is_allowed(self, scope: dict[str, Any], headers: _Headers) -> bool:
        if headers.has_duplicates:
            return False
        host, origin, site = (headers.get(name, "") for name in ("host", "origin", "sec-fetch-site"))
        if _parts(f"//{host}")[0] not in LOCAL:
            return False
        if "origin" in headers and (_parts(origin)[1] != host or not origin.startswith(("http://", "https://"))):
            return False
        is_changing = scope["type"] == "websocket" or scope["method"] in CHANGING
        if is_changing and "origin" not in headers:
            return False
        if site in ("", "same-origin", "none"):
            return True
        is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return is_link and not is_changing and scope["path"] == "/"


class _Headers(dict):
    """Headers of a request by name. `has_duplicates` tells whether one for access control was sent twice."""

    def __init__(self, pairs: list[tuple[bytes, bytes]]):
        super().__init__((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in pairs)
        names = [name.lower() for name, _ in pairs]
        self.has_duplicates = any(names.count(name) > 1 for name in (b"host", b"origin", b"sec-fetch-site"))
        pieces = (piece.strip().partition("=") for piece in self.get("cookie", "").split(";"))
        self.cookies = {name: value for name, _, value in pieces}


def _token_in(query: bytes) -> str:
    return parse_qs(query.decode("latin-1"), max_num_fields=8).get("token", [""])[0] if len(query) < MAX_QUERY else ""


def _parts(address: str) -> tuple[str | None, str]:
    """Return the host name, and host and port, of a URL; empty if it is invalid."""
    try:
        parts = urlsplit(address)
        return parts.hostname, parts.netloc
    except ValueError:
        return None, ""


async def _refuse(kind: str, send: Any, status: int, words: bytes) -> None:
    if kind == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    headers = [(b"content-type", b"text/plain"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words})
