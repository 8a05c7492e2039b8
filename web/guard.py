"""Who may use the page: this machine's own browser, or those who know the password; and no page of another site."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import secrets
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import urlsplit

COOKIE = "reenactgan"
LOCAL = frozenset(("127.0.0.1", "localhost", "::1"))
CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))

MAX_WRONG = 5  # passwords in a row from one address, after which it has to wait
WAIT_S = 30.0  # how long
MAX_WRONG_OF_ALL = 60  # in `WAIT_S`, from all addresses together
WRONG_S = 1.0  # before a wrong password is answered
MAX_ADDRESSES = 10_000  # remembered at a time

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
    """Stand before a web application (ASGI), and let in only what belongs.

    Without a password: requests to this machine by its own names, so that no page of another site reaches it by a name
    that leads here. With one: those who say it (HTTP Basic, any user name), and then a cookie. Whatever a browser asks
    on behalf of another site's page is refused, except following a link to the page itself.
    """

    def __init__(self, application: Any, password: str | None):
        self._application, self._password = application, password
        self._token = secrets.token_urlsafe(32)
        self._guesses = Guesses()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._application(scope, receive, send)
        kind, headers = scope["type"], _Headers(scope["headers"])
        if not self._belongs(scope, headers):
            return await _refuse(kind, send, 403, b"not for you\n")
        extra = list(HEADERS)
        if self._password is not None and not self._has_cookie(headers):
            address = _address_of(scope)
            if (wait_s := self._guesses.wait_s(address)) > 0:
                retry = (b"retry-after", str(int(wait_s) + 1).encode())
                return await _refuse(kind, send, 429, b"too many wrong passwords; wait a little\n", retry)
            if not self._knows_password(headers):
                if "authorization" in headers:
                    self._guesses.note_wrong(address)
                    await asyncio.sleep(WRONG_S)
                asks = (b"www-authenticate", b'Basic realm="ReenactGAN", charset="UTF-8"')
                return await _refuse(kind, send, 401, b"password, please\n", asks)
            self._guesses.note_right(address)
            cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
            extra.append((b"set-cookie", (cookie + ("; Secure" if _is_https(scope, headers) else "")).encode()))

        async def send_with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        return await self._application(scope, receive, send_with_headers if kind == "http" else send)

    def _belongs(self, scope: dict[str, Any], headers: _Headers) -> bool:
        if headers.has_twice:
            return False
        host, origin, site = (headers.get(name, "") for name in ("host", "origin", "sec-fetch-site"))
        if self._password is None and _parts(f"//{host}")[0] not in LOCAL:
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

    def _has_cookie(self, headers: _Headers) -> bool:
        cookies = dict(part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";"))
        return secrets.compare_digest(cookies.get(COOKIE, "").encode(), self._token.encode())

    def _knows_password(self, headers: _Headers) -> bool:
        scheme, _, words = headers.get("authorization", "").partition(" ")
        try:
            _, _, said = base64.b64decode(words, validate=True).partition(b":")
        except ValueError:
            return False
        return scheme.lower() == "basic" and secrets.compare_digest(said, self._password.encode())


class Guesses:
    """Count wrong passwords, and say how long an address has to wait before it may say another."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many in a row, and when the last was
        self._of_all, self._since = 0, 0.0

    def wait_s(self, address: str) -> float:
        """Return the seconds for which nothing more of an address is looked at."""
        now = time.monotonic()
        if now - self._since > WAIT_S:
            self._of_all, self._since = 0, now
        if self._of_all >= MAX_WRONG_OF_ALL:
            return self._since + WAIT_S - now
        count, last = self._wrong.get(address, (0, 0.0))
        return last + WAIT_S - now if count >= MAX_WRONG else 0.0

    def note_wrong(self, address: str) -> None:
        """Count a wrong one."""
        count, last = self._wrong.pop(address, (0, 0.0))
        now = time.monotonic()
        self._wrong[address] = (count if now - last < WAIT_S else 0) + 1, now
        self._of_all += 1
        while len(self._wrong) > MAX_ADDRESSES:
            self._wrong.popitem(last=False)

    def note_right(self, address: str) -> None:
        """Forget an address's wrong ones."""
        self._wrong.pop(address, None)


class _Headers(dict):
    """Hold a request's headers by name.

    Attributes:
        has_twice: whether a header that decides who asks was sent more than once.
    """

    def __init__(self, pairs: list[tuple[bytes, bytes]]):
        super().__init__((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in pairs)
        names = [name.lower() for name, _ in pairs]
        self.has_twice = any(names.count(name) > 1 for name in (b"host", b"origin", b"sec-fetch-site"))


def _parts(address: str) -> tuple[str | None, str]:
    """Return the name and the whole place (name and port) of an address; nothing of one that is none."""
    try:
        parts = urlsplit(address)
        return parts.hostname, parts.netloc
    except ValueError:
        return None, ""


def _address_of(scope: dict[str, Any]) -> str:
    """Return where a request comes from; of IPv6 the network, since who has one has all of its addresses."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network(f"{host}/64", strict=False)) if address.version == 6 else host


def _is_https(scope: dict[str, Any], headers: _Headers) -> bool:
    """Tell whether the browser speaks HTTPS, to this server or to a proxy in front of it."""
    forwarded = headers.get("x-forwarded-proto", "").split(",")[0].strip()
    return "https" in (scope.get("scheme"), forwarded) or headers.get("origin", "").startswith("https://")


async def _refuse(kind: str, send: Any, status: int, words: bytes, *headers: tuple[bytes, bytes]) -> None:
    if kind == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    headers = [(b"content-type", b"text/plain"), *headers, *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words})
