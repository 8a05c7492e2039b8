"""Routes of the page, and access control."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from helpers import ROOT, Visitor, ask_page, demo_target, files_of, must_fail, wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from web.guard import Guard
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
    routes = build_application({"somebody": demo_target()}, "cpu", tmp_path, tmp_path, Limits(1, 1))
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


def ask(guard: Guard, kind: str = "http", method: str = "GET", path: str = "/", **headers):
    """Make a request; return the status, 0 for a web socket's close, 200 where it is let in; and its headers."""
    messages = []

    async def send(message):
        messages.append(message)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "path": path, "scheme": "http", "headers": pairs}
    asyncio.run(guard(scope, None, send))
    found = dict(messages[0].get("headers", []))
    return messages[0].get("status", 0), found


async def welcome(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_what_other_sites_may_ask():
    guard, here = Guard(welcome), {"host": "127.0.0.1:7860"}
    own = "http://127.0.0.1:7860"
    post = {"method": "POST", "path": "/upload"}
    assert ask(guard, **here)[0] == 200 and ask(guard, host="10.0.0.1")[0] == 403
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


@pytest.mark.slow
def test_the_command_line(tmp_path, page):
    must_fail(tmp_path, 2, "no such folder", "app.py", "--logdir", "nowhere")
    must_fail(tmp_path, 6, "cannot listen there", "app.py", "--port", page[0].partition(":")[2])
