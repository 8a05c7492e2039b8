"""What the training scripts share around their loops: arguments, set-up, and the last step before a solver."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nnabla as nn
import nnabla.solvers as S

from config import load_config
from utils import cli
from utils.communicator import Communicator, connect, is_one_of_several, local_rank
from utils.context import set_context
from utils.errors import ConfigError, NotFiniteError
from utils.run import Plan, find_run, load_run_config, run_parent


def parse_training_args(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", "--config", metavar="FILE.yaml", help="overrides the defaults of config/")
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the run's name")
    help_resume = "go on with a run where its newest checkpoint stands (auto: the run that was saved last)"
    parser.add_argument("--resume", nargs="?", const="auto", metavar="RUN|auto", help=help_resume)
    parser.add_argument("--keep", type=cli.positive_int, default=3, metavar="N", help="checkpoints to keep (3)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the plan, and end")
    help_type = "precision on a GPU; half comes with dynamic loss scaling (default float)"
    parser.add_argument("-t", "--type-config", choices=("float", "half"), default="float", help=help_type)
    cli.add_device_arguments(parser)
    return parser.parse_args()


class LossScale:
    """Dynamic loss scaling for half precision, whose gradients would vanish or overflow otherwise.

    The loss is multiplied before the backward pass and the gradients divided after it. An overflow halves the factor
    and leaves the update out; `GROW_AFTER` updates without one double it. At full precision it is 1 for good.
    """

    START, GROW_AFTER, SMALLEST = 8.0, 2000, 2.0**-14

    def __init__(self, is_dynamic: bool = False):
        self.is_dynamic = is_dynamic
        self.value = self.START if is_dynamic else 1.0
        self.good_updates = 0

    def grow(self) -> None:
        self.good_updates += 1
        if self.is_dynamic and self.good_updates >= self.GROW_AFTER:
            self.value *= 2
            self.good_updates = 0

    def shrink(self) -> bool:
        """After an overflow; False where there is nothing left to shrink."""
        self.good_updates = 0
        if not self.is_dynamic or self.value <= self.SMALLEST:
            return False
        self.value /= 2
        return True


class Updater:
    """What stands between a backward pass and a solver's step: processes, precision, numbers that are not finite."""

    def __init__(self, communicator: Communicator | None = None, loss_scale: LossScale | None = None):
        self.communicator, self.loss_scale = communicator or Communicator(), loss_scale or LossScale()

    @property
    def scale(self) -> float:
        """What a loss's backward pass begins with."""
        return self.loss_scale.value

    def update(self, solver: S.Solver, losses: dict[str, nn.Variable], weight_decay: float = 0.0) -> None:
        """One step of a solver whose gradients are there.

        Raises:
            NotFiniteError: a gradient is not finite; nothing has been updated.
        """
        parameters = solver.get_parameters()
        self.communicator.average(list(parameters.values()))
        # one look at the gradients, whose numbers stay on the device: a loss that is not finite shows in them
        if solver.check_inf_or_nan_grad():
            if self.loss_scale.shrink():
                return
            raise NotFiniteError(_what_is_not_finite(losses, parameters))
        if self.scale != 1.0:
            solver.scale_grad(1.0 / self.scale)
        if weight_decay:
            solver.weight_decay(weight_decay)
        solver.update()
        self.loss_scale.grow()


def _what_is_not_finite(losses: dict[str, nn.Variable], parameters: dict[str, nn.Variable]) -> str:
    for name, loss in losses.items():
        if not math.isfinite(float(loss.d)):
            return f"{name} is {float(loss.d)}"
    names = [name for name, variable in parameters.items() if not math.isfinite(float(abs(variable.g).sum()))]
    return f"the gradient of {names[0] if names else 'a parameter'} is not finite"


def require_finite(values: dict[str, float]) -> None:
    """Of what is no loss of the graph, such as the validation's.

    Raises:
        NotFiniteError: with its name.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} is {value}")


class Start(NamedTuple):
    """What a training's command line asked for."""

    module: str
    config: dict[str, Any]
    updater: Updater
    resumes: Path | None
    keep: int
    info: str

    def plan(self, **more: Any) -> Plan:
        return Plan(
            module=self.module,
            config=self.config,
            resumes=self.resumes,
            communicator=self.updater.communicator,
            loss_scale=self.updater.loss_scale,
            keep=self.keep,
            info=self.info,
            **more,
        )


def start_training(module: str, args: argparse.Namespace) -> Start:
    """Configuration of file and command line; sets context and seed, connects processes, finds the run to resume.

    Raises:
        ConfigError: the configuration is wrong, or cudnn was asked for and cannot be had.
    """
    config = load_config(module, args.conf)
    resumes = None
    if args.resume is not None:
        resumes = find_run(args.resume, run_parent(module, config))
        if resumes is None:
            print("no run with a checkpoint yet; a new one begins")
        elif args.conf is None:
            config = load_run_config(module, resumes)
    if args.context is not None:
        config["context"] = args.context
    if args.device_id is not None:
        config["device_id"] = args.device_id
    device_id = local_rank() if is_one_of_several() else config["device_id"]
    config["context"] = set_context(config["context"], device_id, type_config=args.type_config)
    if args.type_config == "half" and config["context"] != "cudnn":
        raise ConfigError("-t half: half precision needs a GPU (context cudnn); leave it out on a CPU")
    communicator = connect(config["context"])
    if communicator.rank > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, rank 0 speaks for all
    nn.seed(config["seed"])
    updater = Updater(communicator, LossScale(args.type_config == "half"))
    return Start(module, config, updater, resumes, args.keep, args.info)
