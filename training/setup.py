"""Set-up of a training: command line, configuration, and the processes that take part."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import nnabla as nn

from config import load_config
from config.runs import INFO_FILE
from training.communicator import connect, end_all, is_one_of_several, local_rank
from training.plan import Options
from training.resume import find_run
from training.updater import Updater
from utils import cli
from utils.context import set_context
from utils.ending import call_main
from utils.errors import ConfigError, Stopped, describe

FORWARD_S = 0.5  # that mpirun has to pass a message on, before the end of all ends it, too


def parse_training_args(description: str) -> argparse.Namespace:
    """Read the command line."""
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


def read_training_config(module: str, args: argparse.Namespace) -> tuple[dict[str, Any], Options]:
    """Read the configuration of file and command line, and find the run to resume.

    Returns:
        the configuration, and what else the command line says of the run.

    Raises:
        ConfigError: the configuration is wrong, or there is no such run.
    """
    config = load_config(module, args.conf)
    resumed = None if args.resume is None else find_run(args.resume, module, config)
    if resumed is not None and args.conf is None:
        config = load_config(module, resumed / INFO_FILE)
    if args.context is not None:
        config["context"] = args.context
    if args.device_id is not None:
        config["device_id"] = args.device_id
    return config, Options(resumed, args.keep, args.info)


def set_up(config: dict[str, Any], args: argparse.Namespace, options: Options) -> Updater:
    """Set where to compute, seed nnabla, and connect the processes that train together; rank 0 says what was found.

    Raises:
        ConfigError: cudnn is asked for and unavailable, or half precision on a CPU.
    """
    device_id = local_rank() if is_one_of_several() else config["device_id"]
    context = set_context(config["context"], device_id, type_config=args.type_config)
    if args.type_config == "half" and context.name != "cudnn":
        raise ConfigError("-t half: half precision needs a GPU (context cudnn); leave it out on a CPU")
    nn.seed(config["seed"])
    communicator = connect(context.name)
    communicator.say(context.message)
    if args.resume is not None and options.resumed is None:
        communicator.say("no run with a checkpoint yet; a new one begins")
    return Updater(communicator, is_half=args.type_config == "half")


def call_training(main: Callable[[], None]) -> None:
    """Call a training's main and exit, as `call_main` does; an error of one process ends all of them.

    The others would wait for this one for ever.
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
