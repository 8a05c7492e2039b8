"""Trained networks as their runs left them: configuration, weights, and the network itself for inference."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nnabla as nn

from config import Config, load_config, with_values
from config.common import PUBLISHED
from config.runs import BEST_FILE
from models.networks import INFERENCE, MODULES
from utils import cli
from utils.context import set_context
from utils.errors import ConfigError
from utils.files import check_writable
from utils.weights import last_epoch_file


class Trained(NamedTuple):
    """Point to a trained network."""

    config: Config
    weights: Path
    info: Path | None = None  # the training_info.yaml that the configuration is of


Networks = dict[str, Trained]  # by module
DRIVER = "driver"  # the source where nobody has a name for it


def load_network(module: str, trained: Trained, x: nn.Variable) -> nn.Variable:
    """Build a network in evaluation mode as its run's configuration describes it, and fill it with its weights.

    Raises:
        WeightsError: they are missing, damaged or of another network.
    """
    network = INFERENCE[module]
    output = network.evaluate(x, trained.config)
    network.load(trained.weights)
    return output


def find_weights(module: str, config: Config, info: Path, param_file: Path | None = None) -> Path:
    """Find the named weights, else the run's best epoch by validation, else its last epoch.

    Args:
        info: the run's training_info.yaml. Weights lie in its folder, or in the log folder that it names.
        param_file: a weights file that is named by hand.

    Raises:
        WeightsError: there are none.
    """
    if param_file is not None:
        return param_file
    run_folder = config.runs_folder / config.experiment_name
    # in many cases the same folder
    folders = list(dict.fromkeys((info.parent, config.weights_folder(info.parent), config.weights_folder(run_folder))))
    best = next((folder / BEST_FILE for folder in folders if (folder / BEST_FILE).is_file()), None)
    if best is not None:
        return best
    return last_epoch_file(folders, INFERENCE[module].weights_prefix)


def load_configs(args: argparse.Namespace) -> dict[str, Config]:
    """Read the configurations that a command line names (`cli.add_network_arguments`), by module."""
    infos = {module: getattr(args, f"{module}_config", None) for module in MODULES}
    return {module: load_config(module, info) for module, info in infos.items() if info}


def choose_people(
    args: argparse.Namespace, configs: dict[str, Config], film_person: str | None = None
) -> tuple[str, str]:
    """Return source and target: the command line's, which must be the people that the networks were trained for.

    Args:
        film_person: who is shown by a film that the command line names; then the decoder may be anybody's.

    Raises:
        ConfigError: the target is somebody else to the transformer or the decoder.
    """
    trained_sources = configs["transformer"].sources if "transformer" in configs else ()
    source = args.src_celeb_name or (trained_sources[0] if trained_sources else DRIVER)
    target = args.trg_celeb_name or film_person or configs.get("transformer", configs["decoder"]).trg_celeb_name
    if film_person not in (None, target):
        raise ConfigError(f"--trg-celeb-name {target}: {args.film} is a film of {film_person}")
    for module in configs.keys() & ({"transformer"} if film_person else {"transformer", "decoder"}):
        person = configs[module].trg_celeb_name
        if person != target:
            info = getattr(args, f"{module}_config")
            raise ConfigError(f"--trg-celeb-name {target}: the {module} of {info} was trained for {person}")
    if trained_sources and source not in trained_sources:
        print(f"note: the transformer was trained on {', '.join(trained_sources)}; the shape of {source} may be off")
    return source, target


def require_one_drawing(args: argparse.Namespace, configs: dict[str, Config]) -> None:
    """Raise unless all networks know boundaries that are drawn in the same way.

    Raises:
        ConfigError: one was trained with `drawing: published`, another with `gaze`.
    """
    found = {module: config.drawing or PUBLISHED for module, config in configs.items()}
    if len(set(found.values())) > 1:
        words = ", ".join(f"{getattr(args, f'{module}_config')} with '{drawing}'" for module, drawing in found.items())
        raise ConfigError(
            f"the networks were trained on boundaries of different drawing: {words}; name networks of one kind, or "
            "leave out --encoder-config and pass --landmarks"
        )


def find_networks(args: argparse.Namespace, configs: dict[str, Config]) -> Networks:
    """Find the weights of the networks that a command line names.

    Args:
        args: with `<module>_config` and `<module>_param_file` of each module in `configs`.

    Raises:
        WeightsError: a run has no weights.
    """
    networks = {}
    for module, config in configs.items():
        info, param_file = (getattr(args, f"{module}_{what}") for what in ("config", "param_file"))
        networks[module] = Trained(config, find_weights(module, config, info, param_file), info)
    return networks


class Chain(NamedTuple):
    """Hold the networks of a reenactment, who drives, who is shown, and where to compute."""

    networks: Networks
    source: str
    target: str
    context: str  # cpu | cudnn
    data_dir: str  # the folder that holds the people


def open_chain(args: argparse.Namespace, film_person: str | None = None) -> Chain:
    """Find the networks that a command line names, and choose people and context by their configurations.

    Args:
        film_person: as of `choose_people`.

    Raises:
        ConfigError: they do not go together, or the context is unavailable.
        WeightsError: a run has no weights.
    """
    configs = load_configs(args)
    require_one_drawing(args, configs)
    source, target = choose_people(args, configs, film_person)
    config = configs.get("transformer", configs["decoder"])
    context = choose_context(config, args)
    return Chain(find_networks(args, configs), source, target, context, str(args.data_dir or config.train_dir))


def choose_context(config: Config, args: argparse.Namespace) -> str:
    """Set and print where to compute; return `cpu` or `cudnn`.

    The command line's word is final; a file tells where its network was trained, which may be another machine.

    Raises:
        ConfigError: the command line's `cudnn` is unavailable.
    """
    device_id = config.device_id if args.device_id is None else args.device_id
    wanted = "cudnn" if config.context == "cudnn" else "auto"
    context = set_context(args.context or wanted, device_id, must_have=args.context is not None)
    print(context.message)
    return context.name


def parse_test_args(description: str) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training_info", type=cli.path, metavar="INFO", help="the training_info.yaml of a run")
    parser.add_argument("-n", "--num", type=cli.count, help="number of images (default: the whole test split)")
    help_weights = "weights (default: the run's best epoch by validation, else its last)"
    parser.add_argument("--param-file", type=cli.path, metavar="FILE.h5", help=help_weights)
    help_data = "the folder that holds the people (default: the file's train_dir)"
    parser.add_argument("--data-dir", type=cli.path, help=help_data)
    cli.add_device_arguments(parser)
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the name of the result folder")
    return parser.parse_args()


def read_test_config(module: str, args: argparse.Namespace) -> Config:
    """Read the configuration of a run, with the command line's data folder, and set where to compute."""
    config = load_config(module, args.training_info)
    if args.data_dir is not None:
        config = with_values(config, {"train_dir": str(args.data_dir)})
    check_writable(Path(config.test.logdir), "test.logdir")
    choose_context(config, args)
    return config


def index_batches(count: int, batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Group the indices 0..count-1 in batches of one size; the last is filled up by repeating its last index.

    Yields:
        the indices, and how many of them count.
    """
    for first in range(0, count, batch_size):
        indices = list(range(first, min(first + batch_size, count)))
        yield indices + [indices[-1]] * (batch_size - len(indices)), len(indices)
