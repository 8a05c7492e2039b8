"""The page: a live tab, one for videos, and one with the people that can be shown (Gradio)."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from inference.inputs import open_input
from inference.output import LAYOUTS, lay_out, layout_size, open_result_video
from inference.pipeline import open_reenactor, results_of
from inference.reenactor import MissingFaces
from inference.targets import Target, portrait
from utils.ending import remove
from utils.errors import UserError, one_line
from utils.html import picture
from utils.panels import generated_mark

HERE = Path(__file__).resolve().parent
SAY_EVERY_S = 0.5
SWEEP_S, KEEP_S = 600, 3600  # how often files of sessions that never ended are looked for, and how old they get
MAX_WAITING = 20  # jobs in the queue
PORTRAIT_PX = 192
WARNING = (
    "What this page makes is **synthetic**, and says so in each picture. Show nobody without their consent, and "
    "take the mark off no picture that leaves your hands."
)
LIVE = """<div id="live">
<video id="live-video" muted playsinline hidden></video><canvas id="live-in" hidden></canvas>
<div style="width:100%"><canvas id="live-out" width="1024" height="256" role="img"
 aria-label="Camera, its boundaries, the moved boundaries, and the generated face"
 style="width:100%;height:auto;background:#8883;border-radius:8px"></canvas></div>
<p id="live-status" role="status" aria-live="polite">Stopped.</p></div>"""


class Limits(NamedTuple):
    """Bound what is taken in."""

    megabytes: int  # of a file
    seconds: int  # of a video


class Videos:
    """Make videos of the tab, in folders of their sessions."""

    def __init__(self, targets: dict[str, Target], context: str, precision: str, limits: Limits, folder: Path):
        self._targets, self._limits, self._folder = targets, limits, folder
        self._context, self._precision = context, precision
        self._given: dict[str, Path] = {}  # the upload of each session

    def remember(self, video: str | None, request: gr.Request) -> None:
        """Remember a session's upload, which the next one replaces, to remove it with the session."""
        if video and (path := Path(video).resolve()).is_relative_to(self._folder.resolve()):
            before = self._given.pop(str(request.session_hash), path)
            self._given[str(request.session_hash)] = path
            if before not in self._given.values():  # the same file has one place for all sessions
                remove(before)

    def make(
        self, video: str | None, name: str, layout: str, has_label: bool, request: gr.Request
    ) -> Iterator[tuple[Any, str]]:
        """Reenact an uploaded video; gives the result's path, None until it is there, and how far it is.

        Raises:
            gr.Error: what is wrong with the video, for the page.
        """
        if not video:
            raise gr.Error("Upload or record a video first.", print_exception=False)
        path = Path(video).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            raise gr.Error("That is no uploaded file.", print_exception=False)
        self.remember(video, request)
        remove(self.folder_of(request))  # one result a session, too
        try:
            yield from self._make(path, self._targets[name], layout, has_label, self.folder_of(request))
        except UserError as error:
            words = one_line(error).replace(str(path), "the video")
            raise gr.Error(words, print_exception=False) from None

    def _make(
        self, path: Path, target: Target, layout: str, has_label: bool, folder: Path
    ) -> Iterator[tuple[Any, str]]:
        if path.stat().st_size > self._limits.megabytes << 20:
            raise UserError(f"{path}: larger than {self._limits.megabytes} MB; cut it, or reduce it")
        yield None, "looking at the video ..."
        frames_in = open_input(str(path))
        seconds = (frames_in.count or 0) / float(frames_in.fps)
        if seconds > self._limits.seconds:
            raise UserError(f"{path}: {seconds:.0f} s long; at most {self._limits.seconds} s are taken, so cut it")
        reenactor, frames_in = open_reenactor(
            frames_in, {"decoder": target.decoder}, self._context, precision=self._precision
        )
        missing, out = MissingFaces("hold"), folder / f"{target.person}-{time.time_ns():x}.mp4"
        comment = generated_mark(f"face of {target.person}, driven by an uploaded video")["Comment"]
        folder.mkdir(parents=True, exist_ok=True)
        said = time.monotonic()
        with (
            open_result_video(out, layout_size(layout, has_truth=False), frames_in, comment, with_sound=True) as made,
            results_of(reenactor, frames_in, missing) as results,
        ):
            for count, result in enumerate(results, 1):
                made.write(result.time_s, lay_out(result, layout, has_label))
                if time.monotonic() - said > SAY_EVERY_S:
                    said = time.monotonic()
                    yield None, f"{count} of {frames_in.count} frames"
            missing.require_some(str(path))
        words = f"{made.count} frames"
        yield str(out), words + (f"; without a face: {missing.words()}" if missing.reasons else "")

    def folder_of(self, request: gr.Request) -> Path:
        """Return the folder of a session's results; the session's name is the visitor's, and could be any text."""
        return self._folder / "results" / hashlib.sha256(str(request.session_hash).encode()).hexdigest()

    def forget(self, request: gr.Request) -> None:
        """Remove what a session brought and made."""
        path = self._given.pop(str(request.session_hash), None)
        if path is not None and path not in self._given.values():
            remove(path)
        remove(self.folder_of(request))


def people_of(targets: dict[str, Target], context: str) -> str:
    """Show who can be shown, each with what is known of it, as HTML."""
    cards = []
    for name, target in targets.items():
        facts = [f"{target.decoder.config['model']['planes']} base channels", f"trained {target.date}"]
        if target.held_out:
            words = "held out: PSNR {psnr:.1f} dB, SSIM {ssim:.2f}, sharpness {sharpness:.2f}"
            facts.append(words.format(**target.held_out))
        words = "<br>".join((f"<b>{escape(name)}</b>", *facts))
        try:
            face = picture(portrait(target, context), f"face of {name}, generated", PORTRAIT_PX)
        except UserError as error:
            face = escape(f"cannot be shown: {one_line(error)}")
        cards.append(f"<figure style='margin:0'>{face}<figcaption>{words}</figcaption></figure>")
    return f"<div style='display:flex;flex-wrap:wrap;gap:1.5rem'>{''.join(cards)}</div>"


def build_page(targets: dict[str, Target], context: str, videos: Videos, limits: Limits) -> gr.Blocks:
    """Build the page."""
    names = list(targets)
    with gr.Blocks(title="ReenactGAN", analytics_enabled=False, delete_cache=(SWEEP_S, KEEP_S)) as page:
        gr.Markdown(f"# ReenactGAN\n{WARNING}")
        with gr.Tab("Live"):
            who = gr.Dropdown(names, value=names[0], label="Who is shown", elem_id="live-who")
            with gr.Row():
                gr.Button("Start", variant="primary", elem_id="live-start").click(
                    None, who, None, js="(who) => { live.start(who); }"
                )
                gr.Button("This is my neutral face", elem_id="live-neutral").click(
                    None, None, None, js="() => { live.calibrate(); }"
                )
                gr.Button("Stop", elem_id="live-stop").click(None, None, None, js="() => { live.stop(); }")
            gr.HTML(LIVE)
            gr.Markdown(
                "Camera, its boundaries, those moved to the target, the target's face. Where expressions seem off, "
                "look straight ahead with your mouth closed, and press *This is my neutral face*."
            )
        with gr.Tab("Video"):
            chosen = gr.Dropdown(names, value=names[0], label="Who is shown", elem_id="video-who")
            words = f"A video, at most {limits.megabytes} MB and {limits.seconds} s"
            given = gr.Video(label=words, sources=["upload", "webcam"], include_audio=True, elem_id="video-in")
            with gr.Row():
                layout = gr.Radio(LAYOUTS, value="side-by-side", label="What it shows")
                label = gr.Checkbox(value=True, label="the word 'synthetic' on it")
            with gr.Row():
                go = gr.Button("Make the video", variant="primary", elem_id="video-go")
                stop = gr.Button("Stop", elem_id="video-stop")
            progress = gr.Markdown(elem_id="video-progress")
            result = gr.Video(label="Result", interactive=False, elem_id="video-out", buttons=["download"])
            job = go.click(
                videos.make,
                [given, chosen, layout, label],
                [result, progress],
                concurrency_limit=1,
                trigger_mode="once",
            )
            given.change(videos.remember, given, None, queue=False)
            stop.click(lambda: "stopped", None, progress, cancels=job, queue=False)
        with gr.Tab("People") as people_tab:
            people = gr.HTML("painting them ...", elem_id="people")
            # loads each decoder, so once
            people_tab.select(functools.cache(lambda: people_of(targets, context)), None, people)
        page.unload(videos.forget)
    page.queue(max_size=MAX_WAITING)
    return page


def head() -> str:
    """Return what the page's head has beside Gradio's."""
    return f"<script>{(HERE / 'live.js').read_text(encoding='utf-8')}</script>"
