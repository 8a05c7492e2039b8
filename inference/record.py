"""The record of a result: how it was made, its metrics, and a page (index.html) that opens from disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from models.networks import MODULES
from utils.errors import DataError
from utils.files import read_text, read_yaml, write_text, write_yaml
from utils.html import address, curve, render

RECORD_FILE, FRAMES_FILE, SCORES_FILE = "reenactment.yaml", "frames.json", "scores.json"
# types of the keys of every record; relative paths in a file are relative to the result, so that both may move together
RECORD = dict.fromkeys(("input", "source", "target", "data_dir", "film", "video"), str) | {
    "configs": dict,
    "weights": dict,
}


def write_result(folder: Path, record: dict[str, Any], metrics: dict[str, dict[str, float]]) -> None:
    """Write the record, the metrics of each frame (by the name of its image in `result/`), and the page."""
    record = _with_paths(record, lambda path: _relative(path, folder))
    write_text(folder / FRAMES_FILE, json.dumps(metrics, indent=1) + "\n")
    write_yaml(folder / RECORD_FILE, record)
    _write_page(folder, record, metrics)


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a finished result, with absolute paths. Raises DataError if the folder has no valid record."""
    return _with_paths(_read(folder), lambda path: os.path.normpath(os.path.realpath(folder) / Path(path)))


def _read(folder: Path) -> dict[str, Any]:
    path = folder / RECORD_FILE
    try:
        record = read_yaml(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder}: no {RECORD_FILE}; name a folder that test_reenactment.py has finished") from None
    except ValueError:
        record = None
    if not isinstance(record, dict) or not all(isinstance(record.get(key), kind) for key, kind in RECORD.items()):
        raise DataError(f"{path}: damaged; run test_reenactment.py again")
    configs, weights = record["configs"], record["weights"]
    is_whole = configs.keys() == weights.keys() and {"decoder"} <= configs.keys() <= set(MODULES)
    if not is_whole or not all(isinstance(text, str) for text in (*configs.values(), *weights.values())):
        raise DataError(f"{path}: damaged; run test_reenactment.py again")
    return record


def _relative(path: str, folder: Path) -> str:
    return path if os.path.isabs(path) else os.path.relpath(os.path.abspath(path), os.path.realpath(folder))


def _with_paths(record: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Change all paths of a record that are not empty."""
    changed = {key: change(record[key]) if record[key] else "" for key in ("data_dir", "film", "video")}
    for key in ("configs", "weights"):
        changed[key] = {module: change(path) for module, path in record[key].items()}
    return record | changed


def add_scores(folder: Path, scores: list[tuple[str, str]], sheet: dict[str, str] | None = None) -> None:
    """Write the page of a finished result again, with scores.

    Args:
        scores: rows of a table.
        sheet: `file` and `words` (caption) of an image.

    Raises DataError if record or metrics are missing or damaged.
    """
    path = folder / FRAMES_FILE
    try:
        given = json.loads(read_text(path))
        metrics = {name: {key: float(value) for key, value in of_frame.items()} for name, of_frame in given.items()}
        if not metrics:
            raise ValueError
    except (OSError, ValueError, TypeError, OverflowError, AttributeError, RecursionError):
        raise DataError(f"{path}: missing or damaged; run test_reenactment.py again") from None
    _write_page(folder, _read(folder), metrics, scores, sheet)


def _write_page(
    folder: Path,
    record: dict[str, Any],
    metrics: dict[str, dict[str, float]],
    scores: list[tuple[str, str]] | None = None,
    sheet: dict[str, str] | None = None,
) -> None:
    of_frames = list(metrics.values())
    curves = []
    for name in sorted({name for of_frame in of_frames for name in of_frame}):
        points = [(index, of_frame[name]) for index, of_frame in enumerate(of_frames) if name in of_frame]
        curves.append(curve(name.replace("_", " "), points, "frames"))
    text = render(
        "result",
        f"{record['input'] or record['source']} to {record['target']}",
        video=address(folder / record["video"], folder) if record["video"] else "",
        names=list(metrics),
        metrics=of_frames,
        curves=curves,
        scores=scores,
        sheet=sheet,
        record=record,
        configurations=[(module, _config(folder / path)) for module, path in record["configs"].items()],
    )
    write_text(folder / "index.html", text)


def _config(path: Path) -> str:
    try:
        return yaml.safe_dump(read_yaml(path), sort_keys=True)
    except (OSError, ValueError, TypeError):
        return "missing"
