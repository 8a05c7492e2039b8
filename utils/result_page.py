"""A result folder's index.html: the video, every frame, what was measured, how it was made. It opens from disk."""

from __future__ import annotations

import json
import os
from html import escape
from pathlib import Path
from typing import Any

import yaml

from utils.files import write_text, write_yaml
from utils.page import line_chart, page, table

RECORD_FILE, FRAMES_FILE, SCORES_FILE = "reenactment.yaml", "frames.json", "scores.json"

# Only the frame that is looked at is loaded.
FRAME_SCRIPT = """
<script>
const names = NAMES, figures = FIGURES;
const slider = document.getElementById("slider"), frame = document.getElementById("frame");
const text = document.getElementById("which");
let playing = null;
function show(i) {
  slider.value = i;
  frame.src = "result/" + names[i];
  const numbers = Object.entries(figures[i]).map(([name, value]) => name + " " + value.toPrecision(4)).join(", ");
  text.textContent = names[i] + (numbers ? ": " + numbers : "");
}
slider.addEventListener("input", () => show(+slider.value));
document.getElementById("play").addEventListener("click", () => {
  if (playing) { clearInterval(playing); playing = null; return; }
  playing = setInterval(() => show((+slider.value + 1) % names.length), 80);
});
show(0);
</script>
"""


def write_result(run_dir: Path, what: dict[str, Any], names: list[str], figures: list[dict[str, float]]) -> None:
    """What a reenactment was made of and what was measured on it, as files and as a page.

    Args:
        what: how it was made.
        names: of the frames in `result/`.
        figures: what was measured on each frame, by name.
    """
    frames = dict(zip(names, figures))
    write_text(run_dir / FRAMES_FILE, json.dumps(frames, indent=1) + "\n")
    write_yaml(run_dir / RECORD_FILE, what)
    _write_page(run_dir, what, frames, "")


def add_scores(run_dir: Path, what: dict[str, Any], section: str) -> None:
    """Write the page of a finished reenactment again, with a section (HTML) of scores."""
    frames = json.loads((run_dir / FRAMES_FILE).read_text(encoding="utf-8"))
    _write_page(run_dir, what, frames, section)


def _write_page(run_dir: Path, what: dict[str, Any], frames: dict[str, dict[str, float]], scores: str) -> None:
    names, figures = list(frames), list(frames.values())
    title = f"{what['input'] or what['source']} to {what['target']}"
    body = ["<p>All faces of the target in this folder are <b>synthetic</b>: they were made by a neural network.</p>"]
    if what["video"]:
        address = escape(os.path.relpath(what["video"], run_dir))
        poster = f"result/{names[0]}"
        body.append(f'<video controls preload="metadata" poster="{poster}" src="{address}"></video>')
    body += ["<h2>Frames</h2>", '<p><img id="frame" alt="a frame of the result"></p>']
    body.append(
        f'<p><input id="slider" type="range" min="0" max="{len(names) - 1}" value="0" style="width: 70%" '
        'aria-label="frame"> <button id="play">play</button></p><p id="which"></p>'
    )
    data = FRAME_SCRIPT.replace("NAMES", _json(names)).replace("FIGURES", _json(figures))
    body.append(data)
    measured = sorted({name for of_frame in figures for name in of_frame})
    if measured:
        body += ["<h2>By frame</h2>", '<div class="charts">']
        for name in measured:
            points = [(index, of_frame[name]) for index, of_frame in enumerate(figures) if name in of_frame]
            body.append(line_chart(name.replace("_", " "), points, "frames"))
        body.append("</div>")
    body.append(scores)
    body += ["<h2>How it was made</h2>", table((key, str(value)) for key, value in what.items())]
    for module, path in what["configs"].items():
        body += [f"<details><summary>configuration of the {module}</summary><pre>{_config(path)}</pre></details>"]
    write_text(run_dir / "index.html", page(title, body))


def _json(value: Any) -> str:
    """JSON that can stand in a page."""
    return json.dumps(value).replace("<", "\\u003c")


def _config(path: str) -> str:
    try:
        return escape(yaml.safe_dump(yaml.safe_load(Path(path).read_text(encoding="utf-8")), sort_keys=True))
    except (OSError, yaml.YAMLError):
        return "not there any more"
