"""Run a trained decoder on the test split: panels of boundary, generated face and real face.

python test_decoder.py tmp.monitor/decoder/<B>/<run>/training_info.yaml -n 100
"""

from __future__ import annotations
from utils.ending import call_main

import numpy as np

from datasets.celebv import HEATMAP, IMAGE
from datasets.panels import face_image, generated_metadata, heatmap_image
from datasets.samples import open_dataset
from inference.panels import open_trained, write_panels
from utils.cli import parse_test_args


def main() -> None:
    args = parse_test_args(__doc__)
    decoder = open_trained("decoder", args.training_info, args.param_file, args.data_dir, args.context, args.device_id)
    person = decoder.config.trg_celeb_name
    dataset = open_dataset(decoder.config, person, "test", (IMAGE, HEATMAP), draw_anew=True)

    def tiles(_: int, sample: tuple[np.ndarray, ...], output: np.ndarray) -> list[np.ndarray]:
        image, heatmap = sample
        return [heatmap_image(heatmap), face_image(output), face_image(image)]

    metadata = generated_metadata(f"face of {person} in the middle")
    write_panels("decoder", decoder, dataset, person, tiles, args.num_test, args.info, metadata)


if __name__ == "__main__":
    call_main(main)
