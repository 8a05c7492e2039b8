"""Routes of the page, and access control."""

from __future__ import annotations

import asyncio
import base64
import json
import re

import pytest
from helpers import ROOT, Visitor, ask_page, demo_target, files_of, must_fail, wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from web import guard as guard_module
from web.guard import COOKIE, HEADERS, Guard
from web.server import build_application
from web.videos import Limits

OF_GRADIO = (
    "/gradio_api/file=https://example.org/x", "/gradio_api/file=/etc/passwd", "/file=/etc/passwd", "/gradio_api/upload",
    "/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/proxy=https://example.org", "/config",
    "/gradio_api/custom_component/x/client/component/y", "/monitoring", "/gradio_api/heartbeat/x", "/gradio_api/info",
    "/static/../../app.py", "/assets/%2e%2e/%2e%2e/app.py", "/login", "/robots.txt", "/docs", "/openapi.json",
    "/page.py", "/server.py", "/..%2fapp.py", "//etc/passwd", "/result/", "/result/..%2f..%2fapp.py", "/result/x/y",
    "/people/", "/page.html", "/live.py", "/.git/config",
)  # fmt: skip


def test_nothing_but_the_pages_own_routes_answers(page):
    for path in OF_GRADIO:
        for data in (None, b"x"):
            assert ask_page(page, path, data)[0] in (403, 404, 405), path
    for path in ("/", "/page.css", "/page.js", "/live.js", "/learn.js", "/people"):
        status, content, headers = ask_page(page, path)
        assert status == 200 and content
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert ask_page(page, path, b"x", method=method)[0] in (403, 405), path
    assert ask_page(page, "/upload")[0] == 405
    for path in ("/", "/gradio_api/queue", "/upload"):
        with pytest.raises(InvalidStatus), connect(f"ws://{page[0]}{path}", origin=f"http://{page[0]}"):
            pass


def test_every_route_is_in_the_documentation(tmp_path):
    routes = build_application({"somebody": demo_target()}, "cpu", tmp_path, tmp_path, Limits(1, 1), None)
    text = (ROOT / "docs/REENACTMENT.md").read_text()
    paths = [route.path.replace(":str", "") for route in routes._application.routes]
    assert len(paths) == 16
    assert sorted(paths) == sorted(re.findall(r"^\| (?:GET|POST|web socket) `([^`]+)`", text, re.MULTILINE))


def test_nobody_names_files_of_others(page, films):
    with Visitor(page) as visitor, Visitor(page) as other:
        visitor.upload((films / "silent.mp4").read_bytes())
        (kept,) = files_of(page)
        for token in ("", kept.parent.name, str(kept.parent), "../" + kept.parent.name, visitor.token[:-1]):
            assert ask_page(page, "/upload", b"x", **{"X-Session": token})[0] == 403
        for name in (kept.name, kept.parent.name, f"..%2f{kept.name}", str(kept)):
            assert ask_page(page, f"/result/{name}")[0] == 404
        for words in (
            '{"make": "/x"}',
            '{"make": ["a"]}',
            "[]",
            "null",
            "{" * 900,
            '{"make": {"target": {"a": 1}}}',
            '{"make": {"target": "Linnea, demo", "layout": "face", "motion": "arms"}}',
        ):
            for sent in (words, words.encode()):  # bytes are no message either
                other.socket.send(sent)
                assert "failed" in other.next("failed")
        other.socket.send(json.dumps({"remember": str(kept.parent), "file": str(kept), "forget": True}))
        other.make(upload=str(kept))
        assert "choose or record" in other.next("failed")["failed"]
        assert kept.is_file()
    wait_until(lambda: not files_of(page))


def test_only_this_machine_by_its_own_names(page):
    address, _ = page
    port = address.partition(":")[2]
    assert ask_page(page, "/", Host=f"localhost:{port}")[0] == 200
    for host in ("rebound.example", "[", "", "127.0.0.1.evil.example", "localhost@evil.example", "[::1"):
        assert ask_page(page, "/", Host=host)[0] in (400, 403), host
    log = (page[1] / "log").read_text()
    assert "Traceback" not in log, log
    for origin in ("http://[", "null", "http://evil.example", f"http://{address}.evil.example", f"ftp://{address}"):
        assert ask_page(page, "/upload", b"x", Origin=origin)[0] == 403
        for path in ("live", "session"):
            with pytest.raises(InvalidStatus), connect(f"ws://{address}/{path}", origin=origin):
                pass
    assert "Traceback" not in (page[1] / "log").read_text()


def ask(guard: Guard, kind: str = "http", method: str = "GET", path: str = "/", client: str = "10.0.0.9", **headers):
    """Make a request; return the status, 0 for a web socket's close, 200 where it is let in; and its headers."""
    messages = []

    async def send(message):
        messages.append(message)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "path": path, "client": (client, 5), "scheme": "http", "headers": pairs}
    asyncio.run(guard(scope, None, send))
    found = dict(messages[0].get("headers", []))
    return messages[0].get("status", 0), found


async def welcome(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_what_other_sites_may_ask():
    guard, here = Guard(welcome, None), {"host": "127.0.0.1:7860"}
    own = "http://127.0.0.1:7860"
    post = {"method": "POST", "path": "/upload"}
    assert ask(guard, **here)[0] == 200
    assert ask(guard, **here, origin=own, sec_fetch_site="same-origin", **post)[0] == 200
    assert ask(guard, **here, **post)[0] == 403  # without an origin
    assert ask(guard, **here, origin="null", **post)[0] == 403
    for site in ("cross-site", "same-site"):  # another port of this machine is the same site
        assert ask(guard, **here, origin=own, sec_fetch_site=site, **post)[0] == 403
        for mode, dest in (("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe"), ("no-cors", "image")):
            assert ask(guard, **here, sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=dest)[0] == 403
        link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
        assert ask(guard, **here, **link)[0] == 200
        assert ask(guard, **here, **link, path="/people")[0] == 403
        assert ask(guard, **here, **link, method="POST", origin=own)[0] == 403  # a form
        assert ask(guard, "websocket", **here, origin=own, sec_fetch_site=site)[0] == 0
    assert ask(guard, "websocket", **here)[0] == 0
    twice = [(b"host", b"127.0.0.1"), (b"host", b"evil.example")]
    scope = {"type": "websocket", "path": "/", "headers": twice}
    closed = []

    async def send(message):
        closed.append(message["type"])

    asyncio.run(guard(scope, None, send))
    assert closed == ["websocket.close"]


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


def test_the_password(monkeypatch):
    monkeypatch.setattr(guard_module, "WRONG_S", 0.0)
    guard = Guard(welcome, "a good word")
    said, wrong = basic("a good word"), basic("a bad word")
    for headers in ({}, {"authorization": wrong}, {"authorization": "Basic ?"}, {"cookie": f"{COOKIE}=x; a"}):
        status, found = ask(guard, host="h", **headers)
        assert status == 401 and b"www-authenticate" in found and dict(HEADERS).items() <= found.items()
    status, found = ask(guard, host="h", authorization=said)
    assert status == 200
    cookie = found[b"set-cookie"].decode()
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Secure" not in cookie
    behind_proxy = ask(guard, host="h", authorization=said, x_forwarded_proto="https")[1]
    assert b"; Secure" in behind_proxy[b"set-cookie"]
    assert b"; Secure" in ask(guard, host="h", authorization=said, origin="https://h")[1][b"set-cookie"]
    cookie = cookie.partition(";")[0]
    assert ask(guard, host="h", cookie=f"other=1; {cookie}")[0] == 200
    assert ask(guard, "websocket", host="h", origin="https://h", cookie=cookie)[0] == 200
    assert ask(guard, "websocket", host="h", origin="https://h")[0] == 0
    assert ask(guard, "websocket", host="h", origin="https://other", cookie=cookie)[0] == 0
    assert ask(guard, host="h", cookie=cookie, method="POST", path="/upload", origin="http://other")[0] == 403
    assert ask(Guard(welcome, None), host="10.0.0.1")[0] == 403


def test_passwords_are_checked_one_at_a_time(monkeypatch):
    monkeypatch.setattr(guard_module, "WRONG_S", 0.3)
    guard, statuses = Guard(welcome, "a good word"), []

    async def send(message):
        statuses.append(message.get("status"))

    headers = [(b"host", b"h"), (b"authorization", basic("a bad word").encode())]
    scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "headers": headers}

    async def guess() -> None:
        await asyncio.gather(*(guard(scope, None, send) for _ in range(20)))

    asyncio.run(guess())
    assert sorted(status for status in statuses if status) == [401] + [429] * 19


@pytest.mark.slow
def test_the_command_line(tmp_path, page):
    must_fail(tmp_path, 2, "requires --password", "app.py", "--host", "0.0.0.0")
    words = must_fail(tmp_path, 2, "no such file", "app.py", "--host", "0.0.0.0", "--password", "a good word")
    assert "a good word" not in words  # it may be the password
    (tmp_path / "short").write_text("short\n")
    must_fail(tmp_path, 2, "at least 8", "app.py", "--host", "0.0.0.0", "--password", "short")
    must_fail(tmp_path, 2, "at least 8", "app.py", "--host", "0.0.0.0", REENACTGAN_PASSWORD="")
    (tmp_path / "binary").write_bytes(b"\xff" * 20)
    must_fail(tmp_path, 2, "cannot be read", "app.py", "--password", "binary")
    must_fail(tmp_path, 2, "no such file", "app.py", "--password", tmp_path)
    must_fail(tmp_path, 2, "no such folder", "app.py", "--logdir", "nowhere")
    port = page[0].partition(":")[2]
    must_fail(tmp_path, 6, "cannot listen there", "app.py", "--port", port, REENACTGAN_PASSWORD="a good word")
