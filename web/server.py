"""The application behind the page: every route that there is, and the guard before all of them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from inference.motion import MAX_STRENGTH, MOTIONS
from inference.output import LAYOUTS
from inference.steady import MAX_SMOOTH, SMOOTH
from inference.targets import Target, portrait
from utils.ending import remove
from utils.errors import UserError, one_line
from utils.html import picture, render_file
from web.guard import Guard
from web.learning import Learning
from web.live import MAX_TEXT, LiveSockets, read_message
from web.videos import Limits, Refused, Videos

HERE = Path(__file__).resolve().parent
SCRIPTS = ("/page.js", "/live.js", "/learn.js")
EXAMPLES = ("nils", "vera")  # synthetic people's videos, as make_synthetic.py draws them
FILES = {"/page.css": "text/css"} | dict.fromkeys(SCRIPTS, "text/javascript")
FILES |= {f"/examples/{name}.mp4": "video/mp4" for name in EXAMPLES}
LEARNING_DOES = ("learn", "stop", "remove")
PORTRAIT_PX = 192
PLANES = 64

MOTION_WORDS = {
    "all": "everything", "expression": "the expression", "pose": "the head", "eyes": "the eyes", "lips": "the mouth"
}  # fmt: skip
LAYOUT_WORDS = {"panel": "driver, lines and face", "face": "the face alone", "side-by-side": "driver and face"}


class People:
    """Show who can be shown, each with what is known of it; portraits are painted once for each weights file."""

    def __init__(self, targets: dict[str, Target], context: str):
        self._targets, self._context = targets, context
        self._lock = threading.Lock()
        self._cards: dict[tuple[Any, ...], dict[str, Any]] = {}  # by name, weights, and whether they are measured

    def html(self) -> str:
        """Return it as HTML."""
        with self._lock:
            shown = dict(self._targets)
            old, self._cards = self._cards, {}
            for name, target in shown.items():
                known = (name, str(target.decoder.weights), bool(target.held_out))
                self._cards[known] = old.get(known) or self._card(name, target)
            return render_file(HERE / "people.html", cards=[*self._cards.values()], width=PORTRAIT_PX)

    def _card(self, name: str, target: Target) -> dict[str, Any]:
        planes = target.decoder.config.model.planes
        facts = [f"trained on {target.date}", f"network: {planes} base channels wide (the paper's: {PLANES})"]
        if target.film_path is not None:
            facts = ["painted with frames of the video; no network has learned this person yet"]
        if target.held_out:
            facts.append("on pictures that it did not learn from:")
            facts.append("likeness {psnr:.1f} dB (PSNR; above 30 it is hard to tell apart)".format(**target.held_out))
            facts.append("structure {ssim:.2f} of 1 (SSIM), {sharpness:.2f} as sharp".format(**target.held_out))
        try:
            return {"name": name, "facts": facts, "face": picture(portrait(target, self._context))}
        except UserError as error:
            return {"name": name, "facts": facts, "why": one_line(error)}


def page_html(targets: dict[str, Target], limits: Limits) -> str:
    """Fill in the page: who can be shown, what a video can show, and how large an upload may be."""
    motions = [(kind, MOTION_WORDS[kind]) for kind in MOTIONS]
    return render_file(
        HERE / "page.html",
        people=list(targets),
        layouts=[(layout, LAYOUT_WORDS[layout]) for layout in LAYOUTS],
        limits=limits,
        motions=motions,
        smooth=SMOOTH,
        steadiest=MAX_SMOOTH,
        examples=EXAMPLES,
        strongest=MAX_STRENGTH,
    )


async def read_wish(request: Request) -> dict[str, Any]:
    """Read what a page asks for, no further than it can be long.

    Raises:
        UserError: it is none of the page's.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_TEXT:
            raise Refused(413, "too long")
    return read_message(body.decode(errors="replace"))


def build_application(
    targets: dict[str, Target],
    context: str,
    folder: Path,
    learned: Path,
    limits: Limits,
    password: str | None,
) -> Any:
    """Build the web application (ASGI).

    Args:
        targets: who can be shown, by name; one at least.
        context: what computes, as of test_reenactment.py's command line.
        folder: where uploads and results lie until their sessions end.
        learned: where people that the page learns lie.
        limits: of an uploaded video.
        password: None where only this machine's own browser may come.
    """
    learning, people = Learning(learned, targets, context), People(targets, context)
    videos, live = Videos(targets, context, limits, folder), LiveSockets(targets, context)

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
            raise Refused(404, "not there")
        return FileResponse(sheet, media_type="image/png")

    async def show_face(request: Request) -> Response:
        return Response(learning.person(request.path_params["id"]).face, media_type="image/jpeg")

    async def change_learned(request: Request) -> Response:
        wish = await read_wish(request)
        if wish.get("do") == "look":
            video = videos.give_away(request.headers.get("x-session", ""))
            try:
                await learning.look(video, str(wish.get("name", "")), wish.get("agreed") is True)
            finally:
                remove(video)  # unless it was taken
        elif wish.get("do") in LEARNING_DOES:
            await getattr(learning, wish["do"])(learning.person(wish.get("id")))
        else:
            raise Refused(400, "nothing that the page asks for")
        return JSONResponse(learning.as_json())

    async def refuse(_: Request, error: Exception) -> Response:
        headers = {"connection": "close"}  # the rest of what was being sent is not read
        status = error.status if isinstance(error, Refused) else 409
        return JSONResponse({"error": one_line(error)}, status_code=status, headers=headers)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await learning.start()
        yield

    # Nothing else is served. docs/REENACTMENT.md says why each of them must be there.
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
        WebSocketRoute("/live", live.serve),
    ]
    application = Starlette(routes=routes, exception_handlers={UserError: refuse}, lifespan=lifespan)
    application.router.redirect_slashes = False
    return Guard(application, password)
