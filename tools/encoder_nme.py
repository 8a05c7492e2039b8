"""Measure the landmarks of an encoder on WFLW's test set and its subsets: the normalized mean error (NME).

    python tools/encoder_nme.py --encoder-config INFO --align Align.h5

The encoder predicts heatmaps, so an align network (train_shape_prior.py with dataset: WFLW) turns them into landmarks.
Its own error, on heatmaps drawn from the true landmarks, is printed beside: the encoder's cannot be much smaller. The
error is relative to the distance of the outer eye corners, as in WFLW's paper (Wu et al., CVPR 2018).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.ending import call_main

import nnabla as nn
import numpy as np
from tqdm import tqdm

from datasets.annotations import read_annotations
from datasets.batches import to_float
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, style_of
from datasets.samples import LandmarkDataset
from datasets.wflw import ATTRIBUTES, NUM_EXTRAS, WFLWDataset, list_path
from faces.landmarks import normalized_error
from inference.networks import find_trained, load_network
from models.networks import ALIGN, HEATMAP_SHAPE, IMAGE_SHAPE
from utils import cli
from utils.context import set_configured_context
from utils.errors import DataError

SCALE = IMAGE_SIZE / HEATMAP_SIZE


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_network_arguments(parser, ("encoder",), required=("encoder",))
    help_align = "an align network with 98 landmarks"
    parser.add_argument("--align", type=cli.path, required=True, metavar="Align.h5", help=help_align)
    help_data = "folder of the npz files (default: the encoder's path.data_dir)"
    parser.add_argument("--data-dir", type=cli.path, help=help_data)
    help_source = "folder of the unpacked WFLW, for its subsets (default datasets)"
    parser.add_argument("--src-dir", type=cli.path, default=Path("datasets"), help=help_source)
    cli.add_device_arguments(parser)
    return parser.parse_args()


def read_subsets(src_dir: Path, count: int) -> dict[str, np.ndarray]:
    """Return the faces of each subset, (N,) bool, by name. Raises DataError if the list does not fit."""
    path = list_path(src_dir, "test")
    extras = read_annotations(path, NUM_EXTRAS, "pass the folder of the unpacked WFLW as --src-dir").extras
    if len(extras) != count:
        raise DataError(f"{path}: {len(extras)} faces, but {count} are prepared; run preprocess.py again")
    subsets = {name: extras[:, -len(ATTRIBUTES) + column] == 1 for column, name in enumerate(ATTRIBUTES)}
    return {"all": np.ones(count, bool)} | subsets


def main() -> None:
    args = parse_args()
    encoder = find_trained("encoder", args.encoder_config, args.encoder_param_file)
    set_configured_context(encoder.config, args.context, args.device_id)
    style = style_of(encoder.config)
    faces = WFLWDataset(args.data_dir or encoder.config.wflw_dir, "test", style, with_landmarks=True)
    subsets = read_subsets(args.src_dir, len(faces))
    truth = np.stack([faces.landmarks(index) for index in range(len(faces))])
    drawn = LandmarkDataset(truth, "WFLW", style=style)

    image, heatmap = nn.Variable((1, *IMAGE_SHAPE)), nn.Variable((1, *HEATMAP_SHAPE))
    predicted = load_network("encoder", encoder, image)
    landmarks = ALIGN(heatmap, truth[0].size, batch_stat=False)
    ALIGN.load(args.align)

    def align(x: np.ndarray) -> np.ndarray:
        heatmap.d = x
        landmarks.forward(clear_buffer=True)
        return landmarks.d.reshape(-1, 2) * SCALE

    found: dict[str, list[np.ndarray]] = {"encoder": [], "align network alone": []}
    for index in tqdm(range(len(faces)), desc="faces", disable=None):
        image.d = to_float(faces[index][0])
        predicted.forward(clear_buffer=True)
        found["encoder"].append(align(predicted.d))
        found["align network alone"].append(align(to_float(drawn[index][0])))
    errors = {name: normalized_error(np.stack(points), truth) for name, points in found.items()}
    print(f"{'NME in %':<14}{'faces':>7}" + "".join(f"{name:>22}" for name in errors))
    for name, is_in in subsets.items():
        cells = (f"{100 * error[is_in].mean():.2f}" if is_in.any() else "" for error in errors.values())
        print(f"{name:<14}{is_in.sum():>7}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    call_main(main)
