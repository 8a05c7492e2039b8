"""Run a trained transformer on the test split: panels of real A, fake B and a real B.

python test_transformer.py tmp.monitor/transformer/<A>2<B>/<run>/training_info.yaml -n 100
"""

from __future__ import annotations
from utils.ending import call_main

import numpy as np

from datasets.batches import to_float
from datasets.celebv import HEATMAP
from datasets.panels import heatmap_image
from datasets.samples import open_dataset
from inference.panels import open_trained, write_panels
from utils.cli import parse_test_args


def main() -> None:
    args = parse_test_args(__doc__)
    transformer = open_trained(
        "transformer", args.training_info, args.param_file, args.data_dir, args.context, args.device_id
    )
    config, target = transformer.config, transformer.config.trg_celeb_name
    dataset_b = open_dataset(config, target, "test", (HEATMAP,), draw_anew=True)

    def tiles(index: int, sample: tuple[np.ndarray, ...], output: np.ndarray) -> list[np.ndarray]:
        (real_a,), (real_b,) = sample, dataset_b[index % len(dataset_b)]
        return [heatmap_image(heatmap) for heatmap in (real_a, output, to_float(real_b))]

    for source in config.sources:
        dataset_a = open_dataset(config, source, "test", (HEATMAP,), draw_anew=True)
        write_panels("transformer", transformer, dataset_a, f"{source}2{target}", tiles, args.num_test, args.info)


if __name__ == "__main__":
    call_main(main)
