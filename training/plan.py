"""The plan of a training: what it will do and need, checked before it begins."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import Config
from models.network import Network
from training.averaging import WeightAverage
from training.communicator import Communicator
from training.solver import LossScale, Solver
from utils.files import check_room, check_writable, existing_part

BYTES = 4  # a float32's


@dataclass
class Plan:
    """Hold what a training is going to do."""

    config: Config
    resumed: Path | None  # folder of the run to go on with
    keep: int  # checkpoints
    info: str  # appended to the run's name
    networks: list[Network]  # trained and saved
    average: WeightAverage  # of the generators
    solvers: dict[str, Solver]
    loss_scale: LossScale
    communicator: Communicator
    batches_per_epoch: int
    data: dict[str, dict[str, Any]]  # identities of its parts
    series_interval: int  # iterations between values of the losses

    @property
    def kept(self) -> list[Network]:
        """Return all networks that a checkpoint holds."""
        return [*self.networks, *self.average.networks]

    @property
    def epochs(self) -> int:
        """Return the number of epochs."""
        return self.config.train.epochs

    @property
    def iterations(self) -> int:
        """Return the number of iterations in all."""
        return self.epochs * self.batches_per_epoch

    @property
    def save_interval(self) -> int:
        """Return the epochs between saved weights; of the shape prior they are saved once, at the end."""
        return getattr(self.config.monitor, "save_interval", self.epochs)

    def weights_bytes(self) -> int:
        """Estimate the size of the trained networks."""
        return sum(BYTES * v.size for network in self.kept for v in network.parameters().values())

    def disk_bytes(self) -> int:
        """Estimate the size of the weights of every saved epoch and of the checkpoints, one of them in the making."""
        weights = self.weights_bytes()
        num_saves = -(-self.epochs // self.save_interval)
        return weights * num_saves + 3 * weights * (self.keep + 1)

    def text(self) -> str:
        """Write the plan down for people."""
        parameters = (f"{n.name} {sum(v.size for v in n.parameters().values()):,}" for n in self.kept)
        parent = self.config.runs_folder
        free = shutil.disk_usage(existing_part(parent)).free
        name = self.config.experiment_name or "<date and time>"
        name += f"-{self.info}" if self.info else ""
        num_processes = self.communicator.size
        lines = [
            f"plan for the {self.config.MODULE}:",
            *(f"  data {name}: {about['count']} samples, {about['what']}" for name, about in self.data.items()),
            f"  iterations: {self.batches_per_epoch} an epoch, {self.epochs} epochs, {self.iterations} in all"
            + (f", on {num_processes} processes" if num_processes > 1 else ""),
            f"  parameters: {', '.join(parameters)}",
            f"  disk: {self.disk_bytes() / 2**30:.2f} GiB at most, {free / 2**30:.1f} free",
            f"  goes on with: {self.resumed}" if self.resumed else f"  lands in: {parent}/{name}",
        ]
        return "\n".join(lines)

    def check(self) -> None:
        """Check what would end the training later.

        Raises:
            ResourceError: the folder cannot be written to, or the disk has too little room.
        """
        parent = self.resumed or self.config.runs_folder
        check_writable(parent, f"logdir {parent}")
        way_on = "free some space, save less often (monitor.save_interval) or keep fewer (--keep)"
        check_room(parent, self.disk_bytes(), "weights and checkpoints", way_on)
