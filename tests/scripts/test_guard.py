"""Routes of the page, and access control."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request

import pytest
from helpers import COOKIES, ROOT, Visitor, ask_page, demo_target, files_of, must_fail, open_socket, wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import app
from web.guard import Guard
from web.server import build_application
from web.videos import Limits

OF_GRADIO = (
    "/gradio_api/file=https://example.org/x", "/gradio_api/file=/etc/passwd", "/file=/etc/passwd", "/gradio_api/upload",
    "/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/proxy=https://example.org", "/config",
    "/gradio_api/custom_component/x/client/component/y", "/monitoring", "/gradio_api/heartbeat/x", "/gradio_api/info",
    "/static/../../app.py", "/assets/%2e%2e/%2e%2e/app.py", "/login", "/robots.txt", "/docs", "/openapi.json",
    "/page.py", "/server.py", "/..%2fapp.py", "//etc/passwd", "/result/", "/result/..%2f..%2fapp.py", "/result/x/y",
    "/people/", "/page.html", "/live.py", "/.git/config", "/static/", "/static/../page.html", "/static/..%2fserver.py",
    "/portrait", "/portrait?name=Linnea,+demo&version=1", "/portrait?name=Nobody",
)  # fmt: skip


def test_nothing_but_the_pages_own_routes_answers(page):
    for path in OF_GRADIO:
        for data in (None, b"x"):
            assert ask_page(page, path, data)[0] in (403, 404, 405), path
    for path in ("/", *(f"/static/{path.name}" for path in (ROOT / "web/static").iterdir() if path.is_file())):
        status, content, headers = ask_page(page, path)
        assert status == 200 and content
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert ask_page(page, path, b"x", method=method)[0] in (403, 405), path
    assert ask_page(page, "/upload/video")[0] == ask_page(page, "/do")[0] == 405
    for path in ("/", "/gradio_api/queue", "/do"):
        with pytest.raises(InvalidStatus), open_socket(page, path.lstrip("/")):
            pass


def test_every_route_is_in_the_documentation(tmp_path):
    routes = build_application({"somebody": demo_target()}, "cpu", tmp_path, tmp_path, Limits(1, 1), port=1, token="x")
    text = (ROOT / "docs/REENACTMENT.md").read_text()
    paths = [route.path.replace(":str", "") for route in routes._application.routes]
    assert len(paths) == 10
    assert sorted(paths) == sorted(re.findall(r"^\| (?:GET|POST|web socket) `([^`]+)`", text, re.MULTILINE))


def test_nobody_names_files_of_others(page, films):
    with Visitor(page) as visitor:
        visitor.upload((films / "silent.mp4").read_bytes())
        (kept,) = files_of(page)
        for token in ("", kept.parent.name, str(kept.parent), "../" + kept.parent.name, visitor.token[:-1]):
            assert ask_page(page, "/upload/video", b"x", **{"X-Session": token})[0] == 403
            assert ask_page(page, "/do", b'{"do": "stop"}', **{"X-Session": token})[0] == 403
        assert ask_page(page, "/upload/..%2fx", b"x", **{"X-Session": visitor.token})[0] == 404
        for name in (kept.name, kept.parent.name, f"..%2f{kept.name}", str(kept)):
            assert ask_page(page, f"/result/{name}")[0] == 404
        for words in (b"[]", b"null", b"{" * 900, b'{"do": "stop", "x": "' + b"x" * 5000 + b'"}', b"\xff\xfe", b"{}"):
            status, content, _ = ask_page(page, "/do", words, **{"X-Session": visitor.token})
            assert status in (400, 409, 413) and "error" in json.loads(content)
        for wish in ({"target": {"a": 1}}, {"layout": "x"}, {"motion": "arms"}, {"part": [2, 1]}, {"face": 1.5}):
            assert visitor.make(**wish)[0] == 409, wish
        for action in ("__init__", "_begin", ["make"], None, "delete"):
            assert visitor.do(action, name=f"../{kept.name}")[0] in (400, 404)
        assert kept.is_file()
        with Visitor(page) as other:  # has taken over: the first one's file is gone
            assert not files_of(page)
            while "taken" not in (news := visitor.next()):
                pass
            assert news["taken"] is True
            assert "choose or record" in other.make(upload=str(kept))[1]["error"]
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
        assert ask_page(page, "/upload/video", b"x", Origin=origin)[0] == 403
        for path in ("live", "session"):
            with pytest.raises(InvalidStatus), open_socket(page, path, origin=origin):
                pass
    assert "Traceback" not in (page[1] / "log").read_text()


def ask(guard: Guard, kind: str = "http", method: str = "GET", path: str = "/", query: bytes = b"", **headers):
    """Make a request; return the status, 0 for a web socket's close, 200 where it is let in; and its headers."""
    messages = []

    async def send(message):
        messages.append(message)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "path": path, "scheme": "http", "headers": pairs}
    scope["query_string"] = query
    asyncio.run(guard(scope, None, send))
    found = dict(messages[0].get("headers", []))
    return messages[0].get("status", 0), found


async def welcome(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_what_other_sites_may_ask():
    guard, here = Guard(welcome, 7860, "secret"), {"host": "127.0.0.1:7860", "cookie": "a=b; reenactgan-7860=secret"}
    own = "http://127.0.0.1:7860"
    post = {"method": "POST", "path": "/upload/video"}
    assert ask(guard, **here)[0] == 200 and ask(guard, **here | {"host": "10.0.0.1"})[0] == 403
    assert ask(guard, **here, origin=own, sec_fetch_site="same-origin", **post)[0] == 200
    assert ask(guard, **here, **post)[0] == 403  # without an origin
    assert ask(guard, **here, origin="null", **post)[0] == 403
    for site in ("cross-site", "same-site"):  # another port of this machine is the same site
        assert ask(guard, **here, origin=own, sec_fetch_site=site, **post)[0] == 403
        for mode, dest in (("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe"), ("no-cors", "image")):
            assert ask(guard, **here, sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=dest)[0] == 403
        link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
        assert ask(guard, **here, **link)[0] == 200
        assert ask(guard, **here, **link, path="/portrait")[0] == 403
        assert ask(guard, **here, **link, method="POST", origin=own)[0] == 403  # a form
        assert ask(guard, "websocket", **here, origin=own, sec_fetch_site=site)[0] == 0
    assert ask(guard, "websocket", **here)[0] == 0
    twice = [(b"cookie", b"reenactgan-7860=secret"), (b"host", b"127.0.0.1"), (b"host", b"evil.example")]
    scope = {"type": "websocket", "path": "/", "headers": twice}
    closed = []

    async def send(message):
        closed.append(message["type"])

    asyncio.run(guard(scope, None, send))
    assert closed == ["websocket.close"]


def test_another_user_of_this_machine_has_no_token(page, tmp_path):
    address, port = page[0], page[0].partition(":")[2]
    (cookie,) = COOKIES[address].values()
    name, _, token = cookie.partition("=")
    assert name == f"reenactgan-{port}" and len(token) > 30
    for wrong in ("", f"{name}=", f"{name}={token[:-1]}", f"{name}={token}x", f"reenactgan-1={token}", "\u00fc", name):
        for path in ("/", "/?token=", "/?token=x", f"/static/page.js?token={token}", "/portrait", "/result/x"):
            status, content, _ = ask_page(page, path, Cookie=wrong)
            assert status == 403 and b"open the address that app.py has printed" in content, (wrong, path)
        assert ask_page(page, "/upload/video", b"x", Cookie=wrong)[0] == 403
        for path in ("live", "session"):
            with (
                pytest.raises(InvalidStatus),
                connect(f"ws://{address}/{path}", origin=f"http://{address}", additional_headers={"Cookie": wrong}),
            ):
                pass
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(f"http://{address}/?token={token}") as answer:  # once, and the cookie is enough
        assert answer.url == f"http://{address}/" and b"ReenactGAN" in answer.read()
    assert ask_page(page, "/", Cookie=f"a=b; {cookie}; c")[0] == 200
    guard = Guard(welcome, 7860, "secret")
    status, headers = ask(guard, host="127.0.0.1:7860", query=b"token=secret")
    assert status == 303 and headers[b"location"] == b"/"
    assert headers[b"set-cookie"] == b"reenactgan-7860=secret; HttpOnly; Path=/; SameSite=strict"
    guard = Guard(welcome, 7860, "secret", "once")  # of the browser that app.py opens
    assert [ask(guard, host="127.0.0.1:7860", query=b"token=once")[0] for _ in range(2)] == [303, 403]
    assert ask(Guard(welcome, 7860, "secret"), host="127.0.0.1:7860", query=b"token=")[0] == 403
    foreign = {"host": "127.0.0.1:7860", "sec_fetch_site": "cross-site", "sec_fetch_mode": "cors"}
    assert ask(guard, **foreign, query=b"token=secret")[0] == 403


def test_the_token_is_the_users_own_and_stays(tmp_path):
    path = tmp_path / "runs/.page-token"
    token = app.read_token(path)
    assert app.read_token(path) == token and path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)  # others may have read it
    second = app.read_token(path)
    assert second != token and path.stat().st_mode & 0o777 == 0o600
    path.write_text("short")
    assert len(app.read_token(path)) == len(token)
    path.unlink()
    (tmp_path / "elsewhere").write_text(second)
    path.symlink_to(tmp_path / "elsewhere")
    assert app.read_token(path) not in (token, second) and (tmp_path / "elsewhere").read_text() == second


@pytest.mark.slow
def test_the_command_line(tmp_path, page):
    must_fail(tmp_path, 2, "no such folder", "app.py", "--logdir", "nowhere")
    must_fail(tmp_path, 6, "cannot listen there", "app.py", "--port", page[0].partition(":")[2])
