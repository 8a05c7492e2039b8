"""The web application: all routes, behind the access control."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from people.targets import Target, portrait
from utils.errors import UserError
from utils.html import for_page, jpeg, render_file
from web.controls import CONTROLS
from web.guard import Guard
from web.learning import FOLDER, Learning
from web.live import LiveSockets
from web.session import MAX_TEXT, Refused, Tabs, read_message
from web.videos import Limits, Videos

HERE = Path(__file__).resolve().parent
EXAMPLES = ("nils", "vera")  # videos of synthetic people from tools/make_synthetic.py
RESULTS = "page_results"


def version_of(target: Target) -> str:
    """Return a text that changes with the images that show a target."""
    return str(zlib.crc32(f"{target.decoder.weights} {target.film_path}".encode()))


def facts_of(target: Target) -> list[str]:
    """Return what the page says about a target."""
    if target.film_path is not None:
        return ["shown with images of the video"]
    facts = [f"learned on {target.date}"]
    if target.held_out:  # images of the video that were not learned from
        facts.append("{SSIM:.0%} like images of the video".format(**target.held_out))
        facts.append("{sharpness:.0%} as sharp".format(**target.held_out))
    return facts


def build_application(
    targets: dict[str, Target], context: str, folder: Path, logdir: Path, limits: Limits, **guard: Any
) -> Any:
    """Build the web application (ASGI).

    Args:
        folder: folder of uploads.
        logdir: folder of results and of people that are learned from the page.
        guard: options of `Guard`.
    """
    live, videos = LiveSockets(targets, context), Videos(targets, context, limits, logdir / RESULTS)

    painting = asyncio.Lock()  # the page asks for a portrait in several places at once

    @lru_cache(maxsize=100)
    def painted(name: str, version: str) -> bytes:
        if name not in targets or version_of(targets[name]) != version:
            raise Refused(404, "not found")
        return jpeg(portrait(targets[name], context))

    async def forget(name: str) -> None:
        """End whatever shows a person that is removed."""
        await live.end("Stopped: the person was removed.", name)
        await videos.end(name)
        painted.cache_clear()

    async def end_session() -> None:
        await live.end("Another tab uses the page.")
        await videos.end()
        videos.state = {}

    def news() -> dict[str, Any]:
        learned = {person.shown_as or person.id: person.card() for person in learning.people.values()}
        people = [
            {"name": name, "facts": facts_of(target), "portrait": version_of(target)} | learned.pop(name, {})
            for name, target in list(targets.items())
        ]
        return {"people": people + list(learned.values()), "job": videos.state, "results": videos.results()}

    learning, tabs = Learning(logdir / FOLDER, targets, context, forget), Tabs(folder, news, end_session)

    async def show_page(_: Request) -> Response:
        return HTMLResponse(render_file(HERE / "page.html", limits=limits, controls=CONTROLS, examples=EXAMPLES))

    async def show_portrait(request: Request) -> Response:
        name, version = (request.query_params.get(key, "") for key in ("name", "version"))
        async with painting:
            return Response(await run_in_threadpool(painted, name, version), media_type="image/jpeg")

    async def upload(request: Request) -> Response:
        session = tabs.session_of(request.headers.get("x-session", ""))
        return JSONResponse(await videos.take(request, session, request.path_params["kind"]))

    async def show_result(request: Request) -> Response:
        return FileResponse(videos.result(request.path_params["name"]), media_type="video/mp4")

    async def show_sheet(request: Request) -> Response:
        sheet = learning.person(request.path_params["id"]).sheet
        if not sheet.exists():
            raise Refused(404, "not found")
        return FileResponse(sheet, media_type="image/png")

    async def show_face(request: Request) -> Response:
        return Response(learning.person(request.path_params["id"]).face, media_type="image/jpeg")

    async def do(request: Request) -> Response:
        session = tabs.session_of(request.headers.get("x-session", ""))
        if not 0 < int(request.headers.get("content-length", 0)) <= MAX_TEXT:
            raise Refused(413, "too long, or of unknown length")
        wish = read_message((await request.body()).decode(errors="replace"))
        match wish.get("do"):
            case "make":
                await videos.make(wish, session)
            case "stop":
                videos.stop.set()
            case "delete":
                videos.result(wish.get("name")).unlink(missing_ok=True)
            case "look":
                await learning.look(wish, session.folder / "person")
            case "learn" | "pause" | "remove" as action:
                await getattr(learning, action)(wish)
            case _:
                raise Refused(400, "unknown action")
        return JSONResponse({})

    async def refuse(_: Request, error: Exception) -> Response:
        headers = {"connection": "close"}  # the rest of the body is not read
        status = error.status if isinstance(error, Refused) else 409
        return JSONResponse({"error": for_page(error)}, status_code=status, headers=headers)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await learning.start()
        yield

    # docs/REENACTMENT.md explains each route
    routes = [
        Route("/", show_page),
        Route("/portrait", show_portrait),
        Route("/upload/{kind:str}", upload, methods=["POST"]),
        Route("/do", do, methods=["POST"]),
        Route("/result/{name:str}", show_result),
        Route("/learned/{id:str}/sheet", show_sheet),
        Route("/learned/{id:str}/face", show_face),
        WebSocketRoute("/session", tabs.serve),
        WebSocketRoute("/live", partial(live.serve, require_session=tabs.session_of)),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    application = Starlette(routes=routes, exception_handlers={UserError: refuse}, lifespan=lifespan)
    application.router.redirect_slashes = False
    return Guard(application, **guard)
