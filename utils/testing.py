"""What the test scripts share: arguments, a run's training_info.yaml, its weights, the folder of results."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config import load_config, pair_name, source_names, source_suffix
from datasets.celebv import ENCODER
from models.chain import SCOPES
from utils import cli
from utils.context import set_context
from utils.errors import ConfigError, DataError
from utils.weights import last_epoch_file


def parse_test_args(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training_info", type=Path, metavar="INFO", help="the training_info.yaml of a run")
    parser.add_argument("-n", "--num", type=cli.positive_int, help="number of images (default: the whole test split)")
    parser.add_argument("--param-file", type=Path, metavar="FILE.h5", help="weights (default: the run's last epoch)")
    parser.add_argument(
        "--data-dir", type=Path, help="the folder that holds the people (default: the file's train_dir)"
    )
    cli.add_device_arguments(parser)
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the name of the result folder")
    return parser.parse_args()


def set_test_context(config: dict[str, Any], args: argparse.Namespace) -> str:
    """`cpu` or `cudnn`. The command line's word is final; a file tells where its network was trained, which may be
    another machine."""
    device_id = config["device_id"] if args.device_id is None else args.device_id
    wanted = "cudnn" if config["context"] == "cudnn" else "auto"
    return set_context(args.context or wanted, device_id, must_have=args.context is not None)


def start_test(module: str, args: argparse.Namespace) -> dict[str, Any]:
    """Configuration of a run with the command line's data folder; sets the context."""
    config = load_config(module, args.training_info)
    if args.data_dir is not None:
        config["train_dir"] = str(args.data_dir)
    if config["boundary"] != ENCODER:
        config["ref_dir"] = ""  # boundaries of the test split are drawn, wherever those of the training came from
    set_test_context(config, args)
    return config


def find_weights(param_file: Path | None, info: Path, run_dir: Path, prefix: str) -> Path:
    """The weights named, or those of the run's last epoch: beside its training_info.yaml, or in its log folder.

    Raises:
        WeightsError: there are none.
    """
    if param_file is not None:
        return param_file
    beside = [info.parent, info.parent / run_dir.name]
    return last_epoch_file([*beside, run_dir], prefix)


def find_all_weights(args: argparse.Namespace, configs: dict[str, dict[str, Any]], source: str) -> dict[str, Path]:
    """The weights files of some of the three modules: those named, or each run's last epoch.

    Args:
        args: with `<module>_param_file` and `<module>_config` of each.
        source: the person whose transformer it is, of those that the run has.

    Raises:
        ConfigError: the transformer has several sources, and this is none of them.
        WeightsError: a run has no weights.
    """
    weights = {}
    for module, config in configs.items():
        prefix = f"{SCOPES[module]}_"
        if module == "encoder":
            prefix = "model_epoch-"
            folder = Path("encoder") / config["experiment_name"] / config["model_name"]
        elif module == "transformer":
            sources = source_names(config)
            if source not in sources and len(sources) > 1 and args.transformer_param_file is None:
                raise ConfigError(
                    f"--src-celeb-name {source}: the transformer was trained on {', '.join(sources)}; take one of "
                    "them, or name weights with --transformer-param-file"
                )
            prefix = f"{SCOPES[module]}{source_suffix(config, source)}_"
            folder = Path("transformer") / pair_name(config) / config["experiment_name"]
        else:
            folder = Path("decoder") / config["trg_celeb_name"] / config["experiment_name"]
        named, info = getattr(args, f"{module}_param_file"), getattr(args, f"{module}_config")
        weights[module] = find_weights(named, info, Path(config["logdir"]) / folder, prefix)
    return weights


def count_of(wanted: int | None, available: int, what: str) -> int:
    """How many images to make.

    Raises:
        DataError: more are wanted than there are.
    """
    if wanted is not None and wanted > available:
        raise DataError(f"-n {wanted}: {what} has only {available} images; ask for fewer")
    return wanted or available


def index_batches(count: int, batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Indices 0..count-1 in batches of one size; the last is filled up by repeating its last index.

    Yields:
        the indices, and how many of them count.
    """
    for first in range(0, count, batch_size):
        indices = list(range(first, min(first + batch_size, count)))
        yield indices + [indices[-1]] * (batch_size - len(indices)), len(indices)
