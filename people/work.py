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
from datasets.images import list_images
from datasets.prepared import images_digest
from people.targets import LAYOUT
from training.checkpoints import STATE_FILE, checkpoints_of
from utils.errors import ConfigError
from utils.files import file_digest, is_folder_name, read_text, read_yaml, write_yaml

INPUTS_FILE = "inputs.yaml"


class Quality(NamedTuple):
    """Size and training of the decoder."""

    name: str
    planes: int
    batch_size: int
    iterations: int  # 0 trains nothing and paints with a film
    lr: float


QUALITIES = {
    "instant": Quality("instant", planes=12, batch_size=4, iterations=0, lr=0.0),
    "draft": Quality("draft", planes=12, batch_size=4, iterations=340, lr=2e-3),
    "good": Quality("good", planes=24, batch_size=4, iterations=4000, lr=1e-3),
    "full": Quality("full", planes=40, batch_size=4, iterations=16_000, lr=1e-3),
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
        return self.folder / "prepared" / name

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
        keys = {
            "experiment_name": self.experiment(module),
            "logdir": str(self.folder / "runs"),
            "train_dir": str(self.people),
            "mode": "train",
        }
        if module == "encoder":
            return keys | {"celeb_names": [self.source]}
        if module == "shape_prior":
            return keys | {"celeb_names": [self.source, self.target]}
        keys["trg_celeb_name"] = self.target
        return keys if module == "decoder" else keys | {"src_celeb_name": self.source}

    def experiment(self, module: str) -> str:
        """Return the name of a module's run; each quality has its own."""
        return f"{module}-{self.quality.name}"

    def run(self, module: str) -> Path:
        """Return the folder of a module's run."""
        return with_values(CLASSES[module](), self.keys(module)).runs_folder / self.experiment(module)

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


class Inputs(NamedTuple):
    """What a work folder is made from, by role (source, target)."""

    names: dict[str, str]  # of the people
    digests: dict[str, str]  # of the videos
    quality: str  # one of QUALITIES, or ''


def read_inputs(folder: Path) -> Inputs:
    """Read what a work folder is made from, as far as it is known."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = read_yaml(folder / INPUTS_FILE)
        names, digests = ({str(k): str(v) for k, v in found[part].items()} for part in ("names", "digests"))
        if all(map(is_folder_name, names.values())) and found["quality"] in QUALITIES:
            return Inputs(names, digests, found["quality"])
    return Inputs({}, {}, "")


def record_inputs(folder: Path, videos: dict[str, Path], names: dict[str, str], quality: str) -> Inputs:
    """Record what a work folder is made from; what is known already may be left out.

    Args:
        videos: videos or folders of images by role.
        names: names of the people by role; the default is the recorded name, else that of the video.
        quality: one of `QUALITIES`.

    Raises ConfigError if the folder contains work on another video, or another name.
    """
    found = read_inputs(folder)
    digests = {role: input_digest(video) for role, video in videos.items()}
    for role, video in videos.items():
        if found.digests.get(role, digests[role]) != digests[role]:
            raise ConfigError(f"--{role} {video}: {folder} contains work on another {role}; choose another --work-dir")
    names = {role: person_name(name, role) for role, name in names.items()}
    for role, name in names.items():
        if found.names.get(role, name) != name:
            raise ConfigError(f"--name {name}: {folder} contains {found.names[role]}; choose another --work-dir")
    named = {role: person_name(video.stem, role) for role, video in videos.items()} | found.names | names
    if len(set(named.values())) < len(named):
        named = {role: f"{name}-{role}" for role, name in named.items()}
    inputs = Inputs(named, found.digests | digests, quality)
    write_yaml(folder / INPUTS_FILE, inputs._asdict())
    return inputs


def input_digest(path: Path) -> str:
    """Return the digest of a file, or of the images of a folder."""
    if not path.is_dir():
        return file_digest(path)
    return images_digest(path, sorted(image.name for image in list_images(path)))


def person_name(text: str, role: str) -> str:
    """Convert any text to a person's name, which is also a folder name; the role if nothing remains."""
    name = re.sub(r"[^\w-]+", "_", text).strip("_-")[:40]
    return name if is_folder_name(name) else role
