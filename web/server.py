"""The application behind the page: Gradio's, the live tab's web socket, and the guard before both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, WebSocket

from inference.targets import Target
from web.guard import Guard
from web.page import Limits, Videos, build_page, head
from web.socket import LiveSockets


def build_application(
    targets: dict[str, Target], context: str, precision: str, folder: Path, limits: Limits, password: str | None
) -> Any:
    """Build the web application (ASGI).

    Args:
        targets: who can be shown, by name; one at least.
        context, precision: what computes, as of test_reenactment.py's command line.
        folder: where uploads and results lie until their sessions end.
        limits: of an uploaded video.
        password: None where only this machine's own browser may come.
    """
    page = build_page(targets, context, Videos(targets, context, precision, limits, folder), limits)
    sockets = LiveSockets(targets, context, precision)
    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @application.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await sockets.serve(socket)

    gr.mount_gradio_app(
        application, page, path="/", head=head(), max_file_size=limits.megabytes << 20, footer_links=[], ssr_mode=False,
        show_error=True, theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        run_history=False,
    )  # fmt: skip
    # Gradio checks that a request's files are uploaded ones only of pages that it launched itself; of mounted ones it
    # takes any path of this machine, and copies it to where it can be read
    page.has_launched = True
    return Guard(application, password)
