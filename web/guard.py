"""Access control: only a browser with the server's token, and no pages of other sites."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse

COOKIE = "reenactgan"
LOCAL = frozenset(("127.0.0.1", "localhost", "::1"))
CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
CHECKED = ("host", "origin", "sec-fetch-site")

POLICY = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; manifest-src 'self'; "
POLICY += "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
POLICY += "form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self)",
    "cache-control": "no-store",
}


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
        request, is_page = HTTPConnection(scope), scope["type"] == "http" and scope["path"] == "/"
        given = request.query_params.get("token", "") if is_page else ""
        if not _is_allowed(request):
            answer = PlainTextResponse("Forbidden: foreign origin or host.\n", 403, HEADERS)
        elif _are_equal(given, self._token) or (self._once and _are_equal(given, self._once)):
            self._once = "" if _are_equal(given, self._once) else self._once
            answer = RedirectResponse("/", 303, HEADERS)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        elif not _are_equal(request.cookies.get(self._cookie, ""), self._token):
            answer = PlainTextResponse("Forbidden: open the address that app.py has printed.\n", 403, HEADERS)
        else:
            return await self._application(scope, receive, _with_headers(send))
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        await answer(scope, receive, send)


def _are_equal(first: str, second: str) -> bool:
    return secrets.compare_digest(first.encode(), second.encode())


def _with_headers(send: Any) -> Any:
    async def send_with_headers(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_with_headers


def _is_allowed(request: HTTPConnection) -> bool:
    """Return whether a request comes from the page itself, or is a link to it."""
    scope, headers = request.scope, request.headers
    if any(len(headers.getlist(name)) > 1 for name in CHECKED):
        return False
    host, origin, site = (headers.get(name, "") for name in CHECKED)
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


def _parts(address: str) -> tuple[str | None, str]:
    """Return the host name, and host and port, of a URL; empty if it is invalid."""
    try:
        parts = urlsplit(address)
        return parts.hostname, parts.netloc
    except ValueError:
        return None, ""
