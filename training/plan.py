"""The plan of a training: what it will do and need, checked before it begins."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nnabla as nn
import nnabla.solvers as S

from config.runs import run_parent
from training.updater import Updater
from utils.context import current_context
from utils.errors import ResourceError
from utils.files import check_room, check_writable, existing_part
from utils.parallel import available_memory
from utils.parameters import parameters_of

BYTES = 4  # of a float32
ROUGHLY = 3  # how far the memory that is needed can lie below the estimate, which counts what is freed meanwhile


class Options(NamedTuple):
    """Hold what the command line says of a run beside its configuration."""

    resumed: Path | None = None  # folder of the run to go on with
    keep: int = 3  # checkpoints
    info: str = ""  # appended to the run's name


@dataclass
class Plan:
    """Hold what a training is going to do."""

    module: str
    config: dict[str, Any]
    options: Options
    networks: tuple[str, ...]  # scopes that are trained and saved
    solvers: dict[str, S.Solver]
    updater: Updater
    batches_per_epoch: int
    data: dict[str, dict[str, Any]]  # identities of its parts
    graphs: tuple[nn.Variable, ...]  # whose outputs need memory
    series_interval: int  # iterations between values of the losses

    @property
    def epochs(self) -> int:
        """Return the number of epochs."""
        return self.config["train"]["epochs"]

    @property
    def iterations(self) -> int:
        """Return the number of iterations in all."""
        return self.epochs * self.batches_per_epoch

    def weights_bytes(self) -> int:
        """Estimate the size of the trained networks."""
        return sum(BYTES * v.size for scope in self.networks for v in parameters_of(scope).values())

    def disk_bytes(self) -> int:
        """Estimate the size of the weights of every saved epoch and of the checkpoints, one of them in the making."""
        weights = self.weights_bytes()
        num_saves = -(-self.epochs // self.config["monitor"].get("save_interval", self.epochs))
        return weights * num_saves + 3 * weights * (self.options.keep + 1)

    def memory_bytes(self) -> int:
        """Estimate the memory: weights, gradients, moments; outputs of every function and their gradients."""
        sizes: dict[int, int] = {}

        def visit(function: nn.function.Function) -> None:
            sizes.update({hash(output): output.size for output in function.outputs})

        for last in self.graphs:
            last.visit(visit)
        everything = sum(v.size for v in nn.get_parameters(grad_only=False).values())
        return BYTES * (2 * sum(sizes.values()) + everything) + 3 * self.weights_bytes()

    def text(self) -> str:
        """Write the plan down for people."""
        parameters = (f"{scope} {sum(v.size for v in parameters_of(scope).values()):,}" for scope in self.networks)
        parent = run_parent(self.module, self.config)
        free = shutil.disk_usage(existing_part(parent)).free
        name = self.config["experiment_name"] or "<date and time>"
        name += f"-{self.options.info}" if self.options.info else ""
        num_processes = self.updater.communicator.size
        lines = [
            f"plan for the {self.module}:",
            *(f"  data {name}: {about['count']} samples, {about['what']}" for name, about in self.data.items()),
            f"  iterations: {self.batches_per_epoch} an epoch, {self.epochs} epochs, {self.iterations} in all"
            + (f", on {num_processes} processes" if num_processes > 1 else ""),
            f"  parameters: {', '.join(parameters)}",
            f"  memory: about {self.memory_bytes() / 2**30:.2f} GiB at most, and batches made ahead",
            f"  disk: {self.disk_bytes() / 2**30:.2f} GiB at most, {free / 2**30:.1f} free",
            f"  goes on with: {self.options.resumed}" if self.options.resumed else f"  lands in: {parent}/{name}",
        ]
        return "\n".join(lines)

    def check(self) -> None:
        """Check what would end the training later.

        Raises:
            ResourceError: the folder cannot be written to, or the disk or the memory has too little room.
        """
        parent = self.options.resumed or run_parent(self.module, self.config)
        check_writable(parent, f"logdir {parent}")
        available = available_memory()
        if current_context() == "cpu" and available is not None and available < self.memory_bytes() / ROUGHLY:
            raise ResourceError(
                f"up to {self.memory_bytes() / 2**30:.0f} GiB of memory would be needed, {available / 2**30:.0f} are "
                "free; lower train.batch_size or model.planes"
            )
        way_on = "free some space, save less often (monitor.save_interval) or keep fewer (--keep)"
        check_room(parent, self.disk_bytes(), "weights and checkpoints", way_on)
