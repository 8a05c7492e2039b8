"""A training as its script sees it: configuration, batches, and the run."""

from __future__ import annotations
from utils.ending import call_main

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import nnabla as nn
from nnabla.logger import logger

from config import MODULE_KEY, Config, load_config, to_dict, with_values
from config.common import FacesConfig, GanConfig
from config.runs import INFO_FILE
from datasets import wflw
from datasets.batches import Batches, Dataset, make_batches
from datasets.celebv import FROM_ENCODER, drawing_of, find_people, prepared_drawing
from models.network import Network
from training.averaging import WeightAverage
from training.checkpoints import checkpoints_of, newest_checkpoint
from training.communicator import connect, end_all, is_one_of_several, local_rank
from training.resume import enter_origin, find_run, require_same
from training.run import Run, stop_requests
from training.solver import LossScale, Solver
from utils import cli
from utils.context import current_context, set_context
from utils.errors import ConfigError, NotFiniteError, Stopped, describe
from utils.files import file_digest, locked, new_folder, timestamp, write_yaml

FORWARD_S = 0.5  # seconds mpirun gets to forward a message before every process is ended


class Training:
    """A training that a command line asks for.

    Attributes:
        config: configuration from file, command line and the people's folders.
        resumed: folder of the run to resume, or None.

    Raises:
        ConfigError: the configuration is wrong, or the run or the device does not exist.
        DataError: there are no people to train on.
    """

    def __init__(self, module: str, description: str):
        self._args = args = _parse_args(description)
        config = load_config(module, *args.conf)
        self.resumed = None if args.resume is None else find_run(args.resume, config)
        if self.resumed is not None and not args.conf:
            config = load_config(module, self.resumed / INFO_FILE)
            self.resumed = enter_origin(self.resumed, config)
        given = {"context": args.context, "device_id": args.device_id}
        config = with_values(config, {name: value for name, value in given.items() if value is not None})
        self.config: Config = _with_data(config)
        self._set_up()

    def _set_up(self) -> None:
        """Set nnabla's context and seed, and connect the processes that train together."""
        args = self._args
        device_id = local_rank() if is_one_of_several() else self.config.device_id
        context = set_context(self.config.context, device_id, type_config=args.type_config)
        if args.type_config == "half" and context.name != "cudnn":
            raise ConfigError("-t half: half precision requires a GPU (context cudnn)")
        nn.seed(self.config.seed)
        self._communicator = connect(context.name)
        self._communicator.say(context.message)
        if args.resume is not None and self.resumed is None:
            self._communicator.say("no run with a checkpoint exists; starting a new one")

    def batches(self, dataset: Dataset, seed_offset: int = 0) -> Batches:
        """Return this process's share of the batches; `seed_offset` gives datasets of equal length different orders."""
        seed = self.config.seed + seed_offset
        return make_batches(dataset, self.config.train, seed, self._communicator.rank, self._communicator.size)

    def test_batches(self, dataset: Dataset, batch_size: int) -> Batches:
        """Return all samples in their order, in batches of at most the whole dataset."""
        workers = self.config.train.num_workers
        return Batches(dataset, min(batch_size, len(dataset)), self.config.seed, shuffle=False, num_workers=workers)

    @contextmanager
    def run(
        self,
        networks: list[Network],
        solvers: dict[str, Solver],
        batches: dict[str, Batches],
        *,
        discriminators: Sequence[Network] = (),
        data: dict[str, Dataset] | None = None,
        files: dict[str, str] | None = None,
        series_interval: int = 0,
    ) -> Iterator[Run]:
        """Open a new run, or resume one. No other process can enter its folder meanwhile.

        Args:
            networks: networks that inference uses. They start from the weights of `finetune`, and are saved with
                averaged weights (`train.average`).
            solvers: solvers by name.
            batches: batches by name. An epoch is one pass over the longest; shorter ones start over in a new order.
            discriminators: networks that only the training uses. They are saved, too.
            data: all data sets that the numbers depend on, by name; None is those of the batches.
            files: other files that the numbers depend on, by name.
            series_interval: iterations between values of the losses; 0 is `monitor.interval`.

        Raises:
            ConfigError: the run cannot be resumed with these settings.
            ResourceError: another process is in the folder, or it cannot be written.
            NotFiniteError: with the last good checkpoint.
            Stopped: on request, after a checkpoint; after a dry run.
        """
        args, config, communicator = self._args, self.config, self._communicator
        finetune = getattr(config, "finetune", None)
        if finetune is not None and finetune.param_path and self.resumed is None:
            _compare_drawing(config, Path(finetune.param_path))
            for network in networks:
                network.load(finetune.param_path)
        loss_scale = LossScale(args.type_config == "half")
        for solver in solvers.values():
            solver.join(communicator, loss_scale)
        run = Run(
            config=config,
            folder=self.resumed or config.runs_folder,
            networks=[*networks, *discriminators],
            solvers=solvers,
            average=WeightAverage(networks, getattr(config.train, "average", 0.0)),
            loss_scale=loss_scale,
            communicator=communicator,
            batches_per_epoch=max(part.batches_per_epoch for part in batches.values()),
            data={name: part.identity() for name, part in (data or batches).items()}
            | {name: _identity_of(Path(path)) for name, path in (files or {}).items()},
            series_interval=series_interval or config.monitor.interval,
            keep=args.keep,
        )
        run.check()
        checkpoint = None
        if self.resumed:
            checkpoint, state = newest_checkpoint(self.resumed, communicator.say)
            require_same(run, state)
        if args.dry_run:
            if run.is_writer:
                print(run.plan(), flush=True)
            raise Stopped("", exit_code=0)
        run.folder = Path(communicator.share(str(self._folder())))
        run.config = with_values(config, {"context": current_context(), "experiment_name": run.folder.name})
        with locked(run.folder) if run.is_writer else nullcontext(), stop_requests() as stop:
            run.start(stop)
            if run.is_writer:
                info = to_dict(run.config, all_sections=False)
                write_yaml(run.folder / INFO_FILE, {MODULE_KEY: config.MODULE, **info})
            if checkpoint is not None:
                run.restore(checkpoint)
            communicator.say(f"run: {run.folder}" + (f", from iteration {run.iteration}" if checkpoint else ""))
            if run.iteration == run.iterations_in_all:
                message = f"{run.folder} is complete; increase train.epochs to continue it"
                raise Stopped(message if run.is_writer else "", exit_code=0)
            try:
                yield run
            except NotFiniteError as error:
                last = checkpoints_of(run.folder)
                good = f"the last good checkpoint is {last[-1]}" if last else "there is no checkpoint"
                raise NotFiniteError(f"{error}, at iteration {run.iteration}; lower train.lr; {good}") from None
        communicator.say(f"weights in {config.weights_folder(run.folder)}")

    def _folder(self) -> Path:
        """Return the folder of the run; the first process creates it."""
        if self.resumed or self._communicator.rank:
            return self.resumed or Path()
        return new_folder(self.config.runs_folder, self.config.experiment_name or timestamp(), self._args.info)


def _with_data(config: Config) -> Config:
    """Complete people and drawing style from the data's folders where the configuration leaves them open."""
    if isinstance(config, FacesConfig) and config.dataset == "CelebV" and not config.celeb_names:
        config = with_values(config, {"celeb_names": find_people(config.train_dir)})
    if config.drawing:
        return config
    if isinstance(config, GanConfig) and config.boundary == FROM_ENCODER:
        return with_values(config, {"drawing": prepared_drawing(config.ref_dir, config.people)})
    if isinstance(config, FacesConfig) and config.dataset == "WFLW":
        return with_values(config, {"drawing": wflw.prepared_drawing(config.wflw_dir)})
    return with_values(config, {"drawing": drawing_of(config.train_dir, config.people)})


def _compare_drawing(config: Config, weights: Path) -> None:
    """Print a warning if the run of weights has another drawing style, as far as it is known."""
    info = next((folder / INFO_FILE for folder in weights.parents[:2] if (folder / INFO_FILE).is_file()), None)
    drawing = None if info is None else load_config(config.MODULE, info).drawing
    if drawing not in (None, config.drawing):
        logger.warning(f"{weights} was trained with 'drawing: {drawing}'; this training uses '{config.drawing}'")


def _identity_of(path: Path) -> dict[str, str | int]:
    return {"count": 1, "what": "a weights file", "digest": file_digest(path)}


def _parse_args(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_conf = "configuration files; each overrides the one before, and the first the defaults of config/"
    parser.add_argument("--conf", "--config", nargs="+", default=[], type=cli.text, metavar="FILE.yaml", help=help_conf)
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the name of the run")
    help_resume = "resume a run from its newest checkpoint (auto: the run that was saved last)"
    parser.add_argument("--resume", nargs="?", const="auto", type=cli.text, metavar="RUN|auto", help=help_resume)
    parser.add_argument("--keep", type=cli.count, default=3, metavar="N", help="number of checkpoints to keep (3)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the plan, and exit")
    help_type = "precision on a GPU; half uses dynamic loss scaling (default float)"
    parser.add_argument("-t", "--type-config", choices=("float", "half"), default="float", help=help_type)
    cli.add_device_arguments(parser)
    return parser.parse_args()


def call_training(main: Callable[[], None]) -> None:
    """Call a training's main function and exit, as `call_main` does. An error in one process ends all of them."""

    def end_together() -> None:
        try:
            main()
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, Stopped) or not is_one_of_several():  # all processes stop together
                raise
            message, exit_code = describe(error)
            print(message, file=sys.stderr, flush=True)
            time.sleep(FORWARD_S)
            end_all(exit_code)

    call_main(end_together)
