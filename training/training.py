"""A training as its script sees it: configuration, batches, and the run with its epochs and iterations."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import nnabla as nn

from config import Config, load_config, with_values
from config.common import FacesConfig, GanConfig
from config.runs import INFO_FILE
from datasets import wflw
from datasets.batches import Batches, Dataset, make_batches
from datasets.celebv import FROM_ENCODER, drawing_of, find_people, prepared_drawing
from models.network import Network
from training.averaging import WeightAverage
from training.communicator import connect, end_all, is_one_of_several, local_rank
from training.plan import Plan
from training.resume import find_run, require_same
from training.run import Run, newest_checkpoint, open_run
from training.solver import LossScale, Solver
from utils import cli
from utils.context import set_context
from utils.ending import call_main
from utils.errors import ConfigError, Stopped, describe

FORWARD_S = 0.5  # mpirun gets this long to forward the message before every process is ended


class Training:
    """A training that a command line asks for.

    Args:
        module: `encoder`, `transformer`, `decoder` or `shape_prior`.
        description: of the script, for `--help`.

    Attributes:
        config: what file, command line and the people's folders say.
        resumed: the folder of the run to go on with, or None.

    Raises:
        ConfigError: the configuration is wrong, there is no such run or no such device.
        DataError: everybody is to be learned from, and nobody is there.
    """

    def __init__(self, module: str, description: str):
        self._args = args = _parse_args(description)
        config = load_config(module, args.conf, to_train=True)
        self.resumed = None if args.resume is None else find_run(args.resume, config)
        if self.resumed is not None and args.conf is None:
            config = load_config(module, self.resumed / INFO_FILE, to_train=True)
        given = {"context": args.context, "device_id": args.device_id}
        config = with_values(config, {name: value for name, value in given.items() if value is not None})
        self.config: Config = _with_people(config)
        self._set_up()

    def _set_up(self) -> None:
        """Set where to compute, seed nnabla, and connect the processes that train together."""
        args = self._args
        device_id = local_rank() if is_one_of_several() else self.config.device_id
        context = set_context(self.config.context, device_id, type_config=args.type_config)
        if args.type_config == "half" and context.name != "cudnn":
            raise ConfigError("-t half: half precision needs a GPU (context cudnn); leave it out on a CPU")
        nn.seed(self.config.seed)
        self._communicator = connect(context.name)
        self._communicator.say(context.message)
        if args.resume is not None and self.resumed is None:
            self._communicator.say("no run with a checkpoint yet; a new one begins")

    def batches(self, dataset: Dataset, seed_offset: int = 0) -> Batches:
        """Make this process's share of the batches of a dataset.

        Args:
            seed_offset: keeps datasets of one length from being walked in step.
        """
        seed = self.config.seed + seed_offset
        return make_batches(dataset, self.config.train, seed, self._communicator.rank, self._communicator.size)

    def start_from(self, network: Network) -> None:
        """Fill a network with the weights that `finetune` names, unless a run goes on."""
        if self.config.finetune.param_path and self.resumed is None:
            network.load(self.config.finetune.param_path)

    @contextmanager
    def run(
        self,
        networks: list[Network],
        solvers: dict[str, Solver],
        batches: dict[str, Batches],
        *,
        data: dict[str, Dataset] | None = None,
        series_interval: int = 0,
    ) -> Iterator[Run]:
        """Open a new run, or an old one where it stopped; no other process can enter its folder meanwhile.

        Args:
            networks: that are trained and saved.
            solvers: by name; of one named `generator`, the saved weights are averaged.
            batches: by name. An epoch sees all of the longest list; shorter ones start over in a new order.
            data: what else the numbers depend on, by name.
            series_interval: iterations between values of the losses; 0 for `monitor.interval`.

        Raises:
            ConfigError: a run cannot be resumed with these settings.
            ResourceError: another process is in it, or it cannot be written.
            NotFiniteError: with the last good checkpoint.
            Stopped: on request, after a checkpoint; after a dry run.
        """
        config = self.config
        loss_scale = LossScale(self._args.type_config == "half")
        for solver in solvers.values():
            solver.join(self._communicator, loss_scale)
        averaged = solvers["generator"].networks if "generator" in solvers else []
        average = WeightAverage(averaged, config.train.average if averaged else 0.0)
        plan = Plan(
            config=config,
            resumed=self.resumed,
            keep=self._args.keep,
            info=self._args.info,
            networks=networks,
            average=average,
            solvers=solvers,
            loss_scale=loss_scale,
            communicator=self._communicator,
            batches_per_epoch=max(part.batches_per_epoch for part in batches.values()),
            data={name: part.identity() for name, part in (data or batches).items()},
            series_interval=series_interval or config.monitor.interval,
        )
        if self._args.dry_run:
            plan.check()
            if self.resumed:
                require_same(plan, self.resumed, newest_checkpoint(self.resumed, self._communicator.say)[1])
            if self._communicator.rank == 0:
                print(plan.text(), flush=True)
            raise Stopped("", exit_code=0)
        with open_run(plan) as run:
            yield run


def _with_people(config: Config) -> Config:
    """Say whose frames are learned from and how boundaries are drawn, where that is left to the people's folders."""
    if isinstance(config, FacesConfig) and config.dataset == "CelebV" and not config.celeb_names:
        config = with_values(config, {"celeb_names": find_people(config.train_dir)})
    if config.drawing:
        return config
    if isinstance(config, GanConfig) and config.boundary == FROM_ENCODER:
        return with_values(config, {"drawing": prepared_drawing(config.ref_dir, config.people)})
    if isinstance(config, FacesConfig) and config.dataset == "WFLW":
        return with_values(config, {"drawing": wflw.prepared_drawing(config.wflw_dir)})
    return with_values(config, {"drawing": drawing_of(config.train_dir, config.people)})


def _parse_args(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_conf = "overrides the defaults of config/"
    parser.add_argument("--conf", "--config", type=cli.text, metavar="FILE.yaml", help=help_conf)
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the run's name")
    help_resume = "go on with a run where its newest checkpoint stands (auto: the run that was saved last)"
    parser.add_argument("--resume", nargs="?", const="auto", type=cli.text, metavar="RUN|auto", help=help_resume)
    parser.add_argument("--keep", type=cli.count, default=3, metavar="N", help="checkpoints to keep (3)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the plan, and end")
    help_type = "precision on a GPU; half comes with dynamic loss scaling (default float)"
    parser.add_argument("-t", "--type-config", choices=("float", "half"), default="float", help=help_type)
    cli.add_device_arguments(parser)
    return parser.parse_args()


def call_training(main: Callable[[], None]) -> None:
    """Call a training's main and exit, as `call_main` does; an error of one process ends all of them.

    The others would wait for this one without end.
    """

    def end_together() -> None:
        try:
            main()
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, Stopped) or not is_one_of_several():  # all of them stop together
                raise
            message, exit_code = describe(error)
            print(message, file=sys.stderr, flush=True)
            time.sleep(FORWARD_S)
            end_all(exit_code)

    call_main(end_together)
