"""Run a trained transformer on the test split: panels of real A, fake B and a real B.

python test_transformer.py tmp.monitor/transformer/<A>2<B>/<run>/training_info.yaml -n 100
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import nnabla as nn
from tqdm import tqdm

from config import pair_name, source_names, source_suffix
from datasets.batches import collate, to_float
from datasets.boundary import DrawingStyle
from datasets.celebv import HEATMAP, CelebVSource
from datasets.images import write_image
from models.transformer import transformer
from utils.checkpoints import load_parameters
from utils.errors import ConfigError, run
from utils.files import new_folder
from utils.panels import heatmap_picture, side_by_side
from utils.testing import count_of, find_weights, index_batches, parse_test_args, start_test

SCOPE = "netG_transformer_A2B"


def run_source(args: argparse.Namespace, config: dict[str, Any], source: str) -> None:
    """A source's test split through its own transformer."""
    test, target, scope = config["test"], config["trg_celeb_name"], SCOPE + source_suffix(config, source)
    style = DrawingStyle.from_config(config["preprocess"])
    source_a, source_b = (
        CelebVSource(config["train_dir"], name, "test", (HEATMAP,), config["ref_dir"], style, config["boundary"])
        for name in (source, target)
    )
    count = count_of(args.num, len(source_a), f"the test split of {source}")

    heatmap = nn.Variable((min(test["batch_size"], count), 15, 64, 64))
    with nn.parameter_scope(scope):
        fake = transformer(heatmap, config["norm_type"], config["model"]["planes"], test["batch_stat"])
    run_dir = Path(config["logdir"]) / "transformer" / pair_name(config) / config["experiment_name"]
    load_parameters(find_weights(args.param_file, args.training_info, run_dir, f"{scope}_"), scope)

    result_parent = Path(test["logdir"]) / "transformer" / f"{source}2{target}"
    result_dir = new_folder(result_parent, config["experiment_name"], args.info)
    with tqdm(total=count, unit="frame", disable=None) as bar:
        for indices, used in index_batches(count, heatmap.shape[0]):
            (real_a,) = collate(source_a[index] for index in indices)
            heatmap.d = real_a
            fake.forward(clear_buffer=True)
            for row, index in enumerate(indices[:used]):
                if index % test["vis_interval"] == 0:
                    (real_b,) = source_b[index % len(source_b)]
                    tiles = map(heatmap_picture, (real_a[row], fake.d[row], to_float(real_b)))
                    write_image(result_dir / f"{index:06d}.png", side_by_side(list(tiles)))
            bar.update(used)
    print(f"{count} images through the transformer; panels in {result_dir}")


def main() -> None:
    args = parse_test_args(__doc__)
    config = start_test("transformer", args)
    sources = source_names(config)
    if args.param_file is not None and len(sources) > 1:
        raise ConfigError(f"--param-file: the run has {len(sources)} sources with weights of their own; leave it out")
    for source in sources:
        run_source(args, config, source)


if __name__ == "__main__":
    run(main)
