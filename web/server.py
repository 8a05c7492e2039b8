"""The web application: all routes, behind the access control."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from people.targets import Target, portrait
from utils.errors import UserError, one_line
from utils.files import remove
from utils.html import image_url, render_file, without_paths
from web.controls import CONTROLS
from web.guard import Guard
from web.learning import Learning
from web.live import MAX_TEXT, LiveSockets, read_message
from web.videos import Limits, Refused, Videos

HERE = Path(__file__).resolve().parent
SCRIPTS = ("/page.js", "/live.js", "/learn.js")
EXAMPLES = ("nils", "vera")  # videos of synthetic people from tools/make_synthetic.py
FILES = {"/page.css": "text/css", "/icon.svg": "image/svg+xml", "/example.png": "image/png"} | dict.fromkeys(
    SCRIPTS, "text/javascript"
)
FILES |= {f"/examples/{name}.mp4": "video/mp4" for name in EXAMPLES}
LEARNING_ACTIONS = ("learn", "stop", "remove")
PORTRAIT_PX = 192


class People:
    """Cards of all targets. Portraits are painted once for each weights file."""

    def __init__(self, targets: dict[str, Target], context: str):
        self._targets, self._context = targets, context
        self._lock = threading.Lock()
        self._cards: dict[tuple[Any, ...], dict[str, Any]] = {}  # by name, weights, and whether there are measures

    def html(self) -> str:
        """Return the cards as HTML."""
        with self._lock:
            shown = dict(self._targets)
            old, self._cards = self._cards, {}
            for name, target in shown.items():
                known = (name, str(target.decoder.weights), bool(target.held_out))
                self._cards[known] = old.get(known) or self._card(name, target)
            return render_file(HERE / "people.html", cards=[*self._cards.values()], width=PORTRAIT_PX)

    def _card(self, name: str, target: Target) -> dict[str, Any]:
        facts = [f"learned on {target.date}"]
        if target.film_path is not None:
            facts = ["shown with images of the video; nothing has been learned yet"]
        if target.held_out:
            facts.append("{SSIM:.0%} like the real video (structural similarity)".format(**target.held_out))
            facts.append("{sharpness:.0%} as sharp".format(**target.held_out))
        try:
            return {"name": name, "facts": facts, "face": image_url(portrait(target, self._context))}
        except UserError as error:
            return {"name": name, "facts": facts, "why": without_paths(one_line(error))}


def page_html(targets: dict[str, Target], limits: Limits) -> str:
    """Return the page."""
    return render_file(HERE / "page.html", people=list(targets), limits=limits, controls=CONTROLS, examples=EXAMPLES)


async def read_request(request: Request) -> dict[str, Any]:
    """Read the JSON body of a request, up to a maximum length. Raises UserError if it is invalid or too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_TEXT:
            raise Refused(413, "too long")
    return read_message(body.decode(errors="replace"))


def build_application(
    targets: dict[str, Target], context: str, folder: Path, learned: Path, limits: Limits, **guard: Any
) -> Any:
    """Build the web application (ASGI).

    Args:
        folder: folder of uploads and results.
        learned: folder of people that are learned from the page.
        guard: options of `Guard`.
    """
    live, people = LiveSockets(targets, context), People(targets, context)
    videos = Videos(targets, context, limits, folder, partial(live.end, "Another tab uses the page."))

    async def forget(name: str) -> None:
        """End whatever shows a person that is removed."""
        await live.end("Stopped: the person was removed.", name)
        await videos.forget(name)

    learning = Learning(learned, targets, context, forget)

    async def show_page(_: Request) -> Response:
        return HTMLResponse(page_html(targets, limits))

    def show_file(path: str) -> Callable[[Request], Awaitable[Response]]:
        content = (HERE / path.lstrip("/")).read_bytes()

        async def show(_: Request) -> Response:
            return Response(content, media_type=FILES[path])

        return show

    async def show_people(_: Request) -> Response:
        return HTMLResponse(await run_in_threadpool(people.html))

    async def take_upload(request: Request) -> Response:
        await videos.take(request)
        return JSONResponse({"taken": True})

    async def show_result(request: Request) -> Response:
        return FileResponse(videos.result(request.path_params["name"]), media_type="video/mp4")

    async def show_learned(_: Request) -> Response:
        return JSONResponse(learning.as_json())

    async def show_sheet(request: Request) -> Response:
        sheet = learning.person(request.path_params["id"]).sheet
        if not sheet.exists():
            raise Refused(404, "not found")
        return FileResponse(sheet, media_type="image/png")

    async def show_face(request: Request) -> Response:
        return Response(learning.person(request.path_params["id"]).face, media_type="image/jpeg")

    async def change_learned(request: Request) -> Response:
        action = await read_request(request)
        if action.get("do") == "look":
            video = videos.give_away(request.headers.get("x-session", ""))
            try:
                await learning.look(video, str(action.get("name", "")), action.get("agreed") is True)
            finally:
                remove(video)  # unless it was moved
        elif action.get("do") in LEARNING_ACTIONS:
            await getattr(learning, action["do"])(learning.person(action.get("id")))
        else:
            raise Refused(400, "unknown action")
        return JSONResponse(learning.as_json())

    async def refuse(_: Request, error: Exception) -> Response:
        headers = {"connection": "close"}  # the rest of the body is not read
        status = error.status if isinstance(error, Refused) else 409
        return JSONResponse({"error": without_paths(one_line(error))}, status_code=status, headers=headers)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await learning.start()
        yield

    # docs/REENACTMENT.md explains each route
    routes = [
        Route("/", show_page),
        *(Route(path, show_file(path)) for path in FILES),
        Route("/people", show_people),
        Route("/upload", take_upload, methods=["POST"]),
        Route("/result/{name:str}", show_result),
        Route("/learned", show_learned),
        Route("/learned", change_learned, methods=["POST"]),
        Route("/learned/{id:str}/sheet", show_sheet),
        Route("/learned/{id:str}/face", show_face),
        WebSocketRoute("/session", videos.serve),
        WebSocketRoute("/live", partial(live.serve, is_current=videos.is_current)),
    ]
    application = Starlette(routes=routes, exception_handlers={UserError: refuse}, lifespan=lifespan)
    application.router.redirect_slashes = False
    return Guard(application, **guard)
