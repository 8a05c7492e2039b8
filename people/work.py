"""Who is who in a reenactment of two people, what is trained for it, and where everything lies."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from config import CLASSES, with_values
from config.runs import INFO_FILE
from inference.film import FILM_FILE
from inference.targets import LAYOUT
from training.checkpoints import STATE_FILE, checkpoints_of
from utils.errors import ConfigError
from utils.files import file_digest, is_folder_name, read_text, read_yaml, write_yaml

OWN_NAMES = ("people", "runs", "held-out", "result")  # our own folders' names
INPUTS_FILE = "inputs.yaml"


class Quality(NamedTuple):
    """Say how large the decoder is and how long it trains."""

    planes: int
    batch_size: int
    iterations: int  # 0: no training, the layout decoder that ships lays out the target's film
    lr: float


QUALITIES = {
    "instant": Quality(planes=12, batch_size=4, iterations=0, lr=0.0),
    "draft": Quality(planes=12, batch_size=4, iterations=340, lr=2e-3),
    "good": Quality(planes=24, batch_size=4, iterations=4000, lr=1e-3),
    "full": Quality(planes=40, batch_size=4, iterations=16_000, lr=1e-3),
}


TRAINED = tuple(name for name, quality in QUALITIES.items() if quality.iterations)


class Work(NamedTuple):
    """Hold who is who, what is trained, and the folder of it all."""

    folder: Path
    source: str  # names, also of folders
    target: str
    quality: Quality
    modules: tuple[str, ...]  # the trained ones, in their order
    cores: int  # to train on

    def root(self, name: str) -> Path:
        """Return the folder that holds a person alone: people are split each for itself."""
        return self.folder / name

    def person(self, name: str) -> Path:
        """Return the folder of a person."""
        return self.root(name) / name

    @property
    def people(self) -> Path:
        """Return the folder that holds both people, as links."""
        return self.folder / "people"

    def keys(self, module: str) -> dict[str, Any]:
        """Return the keys of a training that say who and where."""
        keys = {"experiment_name": module, "logdir": str(self.folder / "runs"), "train_dir": str(self.people)}
        keys["mode"] = "train"
        if module == "encoder":  # the one whose pictures it will see
            return keys | {"celeb_names": [self.source]}
        if module == "shape_prior":
            return keys | {"celeb_names": [self.source, self.target]}
        keys["trg_celeb_name"] = self.target
        return keys if module == "decoder" else keys | {"src_celeb_name": self.source}

    def run(self, module: str) -> Path:
        """Return the folder of a module's run."""
        return with_values(CLASSES[module](), self.keys(module)).runs_folder / module

    @property
    def is_instant(self) -> bool:
        """Whether nothing is trained."""
        return self.quality.iterations == 0

    @property
    def prepares_source(self) -> bool:
        """Whether a network learns from the source; one that only drives is looked at when it is needed."""
        return "encoder" in self.modules or "transformer" in self.modules

    @property
    def film(self) -> Path:
        """Return the target's film where nothing is trained; a decoder's run keeps its own."""
        return self.folder / FILM_FILE

    def decoder_flags(self) -> tuple[object, ...]:
        """Return the flags of test_reenactment.py that say what paints the target."""
        if not self.is_instant:
            return ("--decoder-config", self.run("decoder") / INFO_FILE)
        weights = ("--decoder-param-file", LAYOUT / "weights.h5")
        return ("--decoder-config", LAYOUT / INFO_FILE, *weights, "--film", self.film)

    def conf(self, module: str) -> Path:
        """Return a training's configuration file."""
        return self.folder / f"{module}.yaml"

    def processes(self, module: str) -> int:
        """Return how many processes share the batches of a training that has begun; 1 if no checkpoint says it."""
        for checkpoint in reversed(checkpoints_of(self.run(module))):
            with suppress(OSError, ValueError, KeyError, TypeError):
                return int(json.loads(read_text(checkpoint / STATE_FILE))["processes"])
        return 1

    def done(self, module: str) -> int:
        """Return the iterations of a training's newest checkpoint; 0 if it has none."""
        return max((int(checkpoint.name) for checkpoint in checkpoints_of(self.run(module))), default=0)

    def lanes(self) -> list[list[str]]:
        """Return what is trained, in rows that do not wait for each other if there is a core for each."""
        rows = [["decoder"], ["encoder"], ["shape_prior", "transformer"]]
        rows = [[module for module in row if module in self.modules] for row in rows]
        if not self.modules:
            return []
        decoder, *others = [row for row in rows if row]
        if self.cores > len(others):
            return [decoder, *others]
        others = list(chain(*others))
        return [decoder, others] if self.cores > 1 else [others + decoder]


def made_of(folder: Path) -> dict[str, str] | None:
    """Return what a folder is made of; None if nothing notes it."""
    try:
        found = read_yaml(folder / INPUTS_FILE)
    except (OSError, ValueError):
        return None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else None


def claim(folder: Path, videos: dict[str, Path], **choices: str) -> None:
    """Note in the folder what it is made of: videos, by what they are, and what was chosen.

    Raises:
        ConfigError: it is made of something else already.
    """
    wanted = {what: file_digest(video) for what, video in videos.items()} | choices
    if made_of(folder) not in (None, wanted):
        raise ConfigError(f"{folder}: holds work on other videos, or of another --quality; name another --work-dir")
    write_yaml(folder / INPUTS_FILE, wanted)


def name_of(path: Path, role: str) -> str:
    """Make a person's name of a file's."""
    return as_name(path.stem, role)


def as_name(words: str, role: str) -> str:
    """Make a person's name, which is also a folder's, of any words; the role's, if nothing is left of them."""
    name = re.sub(r"[^\w-]+", "_", words).strip("_-")[:40]
    if name.lower().startswith(OWN_NAMES):
        name = f"{name}-{role}"
    return name if is_folder_name(name) else role
