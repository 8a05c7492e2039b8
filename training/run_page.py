"""The page of a run (index.html): curves, sample panels, configuration, versions. It opens from disk."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from config import Config, to_dict
from training.series import TIMER, read_series
from utils.files import write_text
from utils.html import address, curve, render

NUM_PANELS_SHOWN = 8
PANEL_PATTERNS = ("result/*.png", "result_epoch-*/000000-000.png")
SMOOTH = 20  # points that the time per iteration is averaged over


def write_run_page(
    folder: Path, config: Config, iteration: int, epoch: int, data: dict[str, dict[str, Any]], versions: dict[str, str]
) -> None:
    """Write the page of a run after an epoch."""
    series = read_series(folder)
    seconds = series.pop(TIMER, [])
    now = datetime.now().strftime("%Y-%m-%d %H:%M")
    facts = [("epoch", f"{epoch} of {config.train.epochs}"), ("iterations", iteration), ("written", now)]
    if seconds:
        recent = [value for _, value in seconds[-SMOOTH:]]
        per_iteration = sum(recent) / len(recent)
        left_s = per_iteration * iteration / epoch * (config.train.epochs - epoch)
        facts.append(("time per iteration", f"{per_iteration:.3g} s"))
        facts.append(("time left, about", tqdm.format_interval(left_s)))
    panels = sorted((path for pattern in PANEL_PATTERNS for path in folder.glob(pattern)), key=_when, reverse=True)
    samples = [{"when": "{} {}".format(*_when(path)), "address": address(path, folder)} for path in panels]
    text = render(
        "run",
        f"{config.MODULE}: {folder.name}",
        facts=facts,
        curves=[*(curve(name, points) for name, points in series.items()), curve("seconds per iteration", seconds)],
        newest=samples[:NUM_PANELS_SHOWN],
        older=samples[NUM_PANELS_SHOWN:],
        data=[(name, about["count"], about["what"], about["digest"][:16]) for name, about in data.items()],
        versions=versions,
        configuration=yaml.safe_dump(to_dict(config), default_flow_style=False, sort_keys=True, allow_unicode=True),
    )
    write_text(folder / "index.html", text)


def _when(path: Path) -> tuple[str, int]:
    """Return the epoch (from the folder's name) or the iteration (from the file's name) of a panel."""
    epoch = re.fullmatch(r"result_epoch-(\d+)", path.parent.name)
    return ("epoch", int(epoch[1])) if epoch else ("iteration", int(path.name.partition("-")[0]))
