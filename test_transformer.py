"""Run a trained transformer on the test split: panels of real A, fake B and a real B.

python test_transformer.py tmp.monitor/transformer/<A>2<B>/<run>/training_info.yaml -n 100
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse
from pathlib import Path

import nnabla as nn
from tqdm import tqdm

from config.config_transformer import TransformerConfig
from datasets.batches import collate, to_float
from datasets.celebv import HEATMAP
from datasets.images import write_image
from datasets.panels import heatmap_picture, monitor_path, side_by_side
from datasets.samples import open_dataset
from inference.trained import Trained, find_weights, index_batches, load_network, parse_test_args, read_test_config
from models.networks import HEATMAP_SHAPE
from utils.cli import limit_count
from utils.ending import call_main
from utils.files import new_result, timestamp


def transform_split(args: argparse.Namespace, config: TransformerConfig, source: str) -> None:
    """Run a source's test split through the transformer."""
    test, target = config.test, config.trg_celeb_name
    dataset_a, dataset_b = (open_dataset(config, name, "test", (HEATMAP,), draw_anew=True) for name in (source, target))
    count = limit_count(args.num, len(dataset_a), f"the test split of {source}")

    heatmap = nn.Variable((min(test.batch_size, count), *HEATMAP_SHAPE))
    weights = find_weights("transformer", config, args.training_info, args.param_file)
    fake = load_network("transformer", Trained(config, weights), heatmap)

    result_parent = Path(test.logdir) / "transformer" / f"{source}2{target}"
    name = config.experiment_name or timestamp()
    with new_result(result_parent, name, args.info) as folder, tqdm(total=count, unit="frame", disable=None) as bar:
        for indices, num_used in index_batches(count, heatmap.shape[0]):
            (real_a,) = collate(dataset_a[index] for index in indices)
            heatmap.d = real_a
            fake.forward(clear_buffer=True)
            for row, index in enumerate(indices[:num_used]):
                if index % test.vis_interval == 0:
                    (real_b,) = dataset_b[index % len(dataset_b)]
                    tiles = map(heatmap_picture, (real_a[row], fake.d[row], to_float(real_b)))
                    write_image(monitor_path(folder.path / "result", index), side_by_side(list(tiles)))
            bar.update(num_used)
    print(f"{count} images through the transformer; panels in {folder.final_path / 'result'}")


def main() -> None:
    args = parse_test_args(__doc__)
    config = read_test_config("transformer", args)
    for source in config.sources:
        transform_split(args, config, source)


if __name__ == "__main__":
    call_main(main)
