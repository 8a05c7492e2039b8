"""The work folder of two people: who they are, what is trained, and where everything is."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from config import CLASSES, with_values
from config.runs import INFO_FILE
from datasets.film import FILM_FILE
from people.targets import LAYOUT
from training.checkpoints import STATE_FILE, checkpoints_of
from utils.errors import ConfigError
from utils.files import file_digest, is_folder_name, read_text, read_yaml, write_yaml

RESERVED = ("people", "runs", "held-out", "result")  # folders in a work folder
INPUTS_FILE = "inputs.yaml"


class Quality(NamedTuple):
    """Size and training of the decoder."""

    planes: int
    batch_size: int
    iterations: int  # 0 trains nothing and paints with a film
    lr: float


QUALITIES = {
    "instant": Quality(planes=12, batch_size=4, iterations=0, lr=0.0),
    "draft": Quality(planes=12, batch_size=4, iterations=340, lr=2e-3),
    "good": Quality(planes=24, batch_size=4, iterations=4000, lr=1e-3),
    "full": Quality(planes=40, batch_size=4, iterations=16_000, lr=1e-3),
}


class Work(NamedTuple):
    """A work folder."""

    folder: Path
    source: str  # name of the person; '' without a source
    target: str
    quality: Quality
    modules: tuple[str, ...]  # modules to train, in order
    cores: int

    def root(self, name: str) -> Path:
        """Return the folder that contains only this person, so that people can be split separately."""
        return self.folder / name

    def person(self, name: str) -> Path:
        """Return the folder of a person."""
        return self.root(name) / name

    @property
    def people(self) -> Path:
        """Return the folder with links to all people."""
        return self.folder / "people"

    @property
    def learned(self) -> tuple[str, ...]:
        """Return the people whose frames are prepared and split; a source that only drives is not."""
        needs_source = "encoder" in self.modules or "transformer" in self.modules
        return (self.source, self.target) if needs_source else (self.target,)

    def keys(self, module: str) -> dict[str, Any]:
        """Return the configuration keys that name people and folders."""
        keys = {"experiment_name": module, "logdir": str(self.folder / "runs"), "train_dir": str(self.people)}
        keys["mode"] = "train"
        if module == "encoder":
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
        """Return whether nothing is trained."""
        return self.quality.iterations == 0

    @property
    def film(self) -> Path:
        """Return the target's film if nothing is trained; a decoder's run has its own."""
        return self.folder / FILM_FILE

    def decoder_flags(self) -> tuple[object, ...]:
        """Return the flags of test_reenactment.py for decoder and film."""
        if not self.is_instant:
            return ("--decoder-config", self.run("decoder") / INFO_FILE)
        weights = ("--decoder-param-file", LAYOUT / "weights.h5")
        return ("--decoder-config", LAYOUT / INFO_FILE, *weights, "--film", self.film)

    def conf(self, module: str) -> Path:
        """Return a training's configuration file."""
        return self.folder / f"{module}.yaml"

    def processes(self, module: str) -> int:
        """Return the number of processes of a training that has begun; 1 if unknown."""
        for checkpoint in reversed(checkpoints_of(self.run(module))):
            with suppress(OSError, ValueError, KeyError, TypeError):
                return int(json.loads(read_text(checkpoint / STATE_FILE))["processes"])
        return 1

    def done(self, module: str) -> int:
        """Return the number of iterations at a training's newest checkpoint; 0 without a checkpoint."""
        return max((int(checkpoint.name) for checkpoint in checkpoints_of(self.run(module))), default=0)


def read_inputs(folder: Path) -> dict[str, str] | None:
    """Read what a work folder was made from; None if unknown."""
    try:
        found = read_yaml(folder / INPUTS_FILE)
    except (OSError, ValueError):
        return None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else None


def claim(folder: Path, videos: dict[str, Path], **options: str) -> None:
    """Record what a work folder is made from. Raises ConfigError if it was made from something else."""
    inputs = {role: file_digest(video) for role, video in videos.items()} | options
    if read_inputs(folder) not in (None, inputs):
        raise ConfigError(f"{folder}: contains work on other videos or another --quality; choose another --work-dir")
    write_yaml(folder / INPUTS_FILE, inputs)


def person_name(text: str, role: str) -> str:
    """Convert any text to a person's name, which is also a folder name; the role if nothing remains."""
    name = re.sub(r"[^\w-]+", "_", text).strip("_-")[:40]
    if name.lower().startswith(RESERVED):
        name = f"{name}-{role}"
    return name if is_folder_name(name) else role
