"""A result folder's index.html: the video, every frame, what was measured, how it was made. It opens from disk."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import yaml

from utils.errors import DataError
from utils.files import read_text, read_yaml, write_text, write_yaml
from utils.html import address, line_chart, page, table

RECORD_FILE, FRAMES_FILE, SCORES_FILE = "reenactment.yaml", "frames.json", "scores.json"

# What every record has
RECORD = dict.fromkeys(("input", "source", "target", "data_dir", "video"), str)
RECORD |= {"frames": int, "configs": dict, "weights": dict}

# Only the frame that is looked at is loaded.
FRAME_SCRIPT = """
<script>
const names = NAMES, metrics = METRICS;
const slider = document.getElementById("slider"), frame = document.getElementById("frame");
const text = document.getElementById("which");
let playing = null;
function show(i) {
  slider.value = i;
  frame.src = "result/" + names[i];
  const numbers = Object.entries(metrics[i]).map(([name, value]) => name + " " + value.toPrecision(4)).join(", ");
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


def write_result(folder: Path, record: dict[str, Any], metrics: dict[str, dict[str, float]]) -> None:
    """Write how a reenactment was made and what was measured on it, as files and as a page.

    Args:
        record: how it was made.
        metrics: what was measured on each frame, by name, under the frame's name in `result/`.
    """
    write_text(folder / FRAMES_FILE, json.dumps(metrics, indent=1) + "\n")
    write_yaml(folder / RECORD_FILE, record)
    _write_page(folder, record, metrics, "")


def read_record(folder: Path) -> dict[str, Any]:
    """Read how a finished reenactment was made.

    Raises:
        DataError: the folder is no finished one's.
    """
    path = folder / RECORD_FILE
    try:
        record = read_yaml(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder}: no {RECORD_FILE} there; name a folder that test_reenactment.py finished") from None
    except ValueError:
        record = None
    if not isinstance(record, dict) or not all(isinstance(record.get(key), kind) for key, kind in RECORD.items()):
        raise DataError(f"{path}: damaged; run test_reenactment.py again")
    paths = [*record["configs"].items(), *record["weights"].items()]
    if set(record["configs"]) != set(record["weights"]) or not all(
        isinstance(text, str) for pair in paths for text in pair
    ):
        raise DataError(f"{path}: damaged; run test_reenactment.py again")
    return record


def add_scores(folder: Path, record: dict[str, Any], section: str) -> None:
    """Write the page of a finished reenactment again, with a section (HTML) of scores."""
    path = folder / FRAMES_FILE
    try:
        given = json.loads(read_text(path))
        metrics = {name: {key: float(value) for key, value in of_frame.items()} for name, of_frame in given.items()}
        if not metrics:
            raise ValueError
    except (OSError, ValueError, TypeError, OverflowError, AttributeError, RecursionError):
        raise DataError(f"{path}: damaged or not there; run test_reenactment.py again") from None
    _write_page(folder, record, metrics, section)


def _write_page(folder: Path, record: dict[str, Any], metrics: dict[str, dict[str, float]], scores: str) -> None:
    names, of_frames = list(metrics), list(metrics.values())
    title = f"{record['input'] or record['source']} to {record['target']}"
    body = ["<p>All faces of the target in this folder are <b>synthetic</b>: they were made by a neural network.</p>"]
    if record["video"]:
        poster = f"result/{names[0]}"
        source = address(record["video"], folder)
        body.append(f'<video controls preload="metadata" poster="{poster}" src="{source}"></video>')
    body += ["<h2>Frames</h2>", '<p><img id="frame" alt="a frame of the result"></p>']
    body.append(
        f'<p><input id="slider" type="range" min="0" max="{len(names) - 1}" value="0" style="width: 70%" '
        'aria-label="frame"> <button id="play">play</button></p><p id="which"></p>'
    )
    data = FRAME_SCRIPT.replace("NAMES", _json(names)).replace("METRICS", _json(of_frames))
    body.append(data)
    measured = sorted({name for of_frame in of_frames for name in of_frame})
    if measured:
        body += ["<h2>By frame</h2>", '<div class="charts">']
        for name in measured:
            points = [(index, of_frame[name]) for index, of_frame in enumerate(of_frames) if name in of_frame]
            body.append(line_chart(name.replace("_", " "), points, "frames"))
        body.append("</div>")
    body.append(scores)
    body += ["<h2>How it was made</h2>", table((key, str(value)) for key, value in record.items())]
    for module, path in record["configs"].items():
        body += [f"<details><summary>configuration of the {module}</summary><pre>{_config(path)}</pre></details>"]
    write_text(folder / "index.html", page(title, body))


def _json(value: Any) -> str:
    """Write JSON that can stand in a page."""
    return json.dumps(value).replace("<", "\\u003c")


def _config(path: str) -> str:
    try:
        return escape(yaml.safe_dump(read_yaml(Path(path)), sort_keys=True))
    except (OSError, ValueError, TypeError):
        return "not there any more"
