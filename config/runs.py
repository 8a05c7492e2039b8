"""Where the files of a training's run lie, as its configuration says; the only place that knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.build import ENCODER

INFO_FILE = "training_info.yaml"
GEOMETRY_FILE = "face_98pt.txt"  # what is known of the shape of a decoder's person
HELD_OUT_FILE = "held_out.json"  # what evaluate.py measured on frames that a decoder did not see


def source_names(transformer: dict[str, Any]) -> list[str]:
    """List the people that a transformer's configuration has for sources."""
    return transformer["src_celeb_names"] or [transformer["src_celeb_name"]]


def source_suffix(transformer: dict[str, Any], source: str) -> str:
    """Return the ending of the names of a source's own networks, files and losses: '' where it is the only source."""
    return f"_{source}" if len(transformer["src_celeb_names"]) > 1 else ""


def run_parent(module: str, config: dict[str, Any]) -> Path:
    """Return the folder that runs like this one have in common; several sources are joined by '+'."""
    parent = Path(config["logdir"]) / module
    if module == "transformer":
        return parent / f"{'+'.join(source_names(config))}2{config['trg_celeb_name']}"
    return parent / config["trg_celeb_name"] if module == "decoder" else parent


def weights_folder(module: str, config: dict[str, Any], run_folder: Path) -> Path:
    """Return the folder of the weights within a run's."""
    return run_folder / config["model_name"] if module == "encoder" else run_folder


def weights_prefix(scope: str) -> str:
    """Return the beginning of the names of a network's weights files, `<prefix><epoch>.h5`."""
    return "model_epoch-" if scope == ENCODER else f"{scope}_"


def weights_name(scope: str, epoch: int) -> str:
    """Return the name of a network's weights file."""
    return f"{weights_prefix(scope)}{epoch}.h5"
