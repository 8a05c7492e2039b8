"""Reenact: the source person's test frames drive the target person's face.

    python test_reenactment.py --encoder-config INFO --transformer-config INFO --decoder-config INFO \\
        --src-celeb-name A --trg-celeb-name B [--video OUT.mp4]

Writes panels of input, boundary, transformed boundary, generated face and the input's true boundary.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import nnabla as nn
import numpy as np
from tqdm import tqdm

from config import load_config, pair_name, source_names, source_suffix
from datasets.batches import collate
from datasets.celebv import HEATMAP, IMAGE, CelebVSource
from datasets.images import read_image, write_image
from models.decoder import decoder
from models.encoder import boundaries_of, encoder
from models.transformer import transformer
from utils import cli
from utils.checkpoints import load_parameters
from utils.errors import ConfigError, run
from utils.files import new_folder, timestamp, write_yaml
from utils.panels import face_picture, generated_mark, heatmap_picture, side_by_side
from utils.testing import count_of, find_weights, index_batches, set_test_context
from utils.video import write_preview, write_video

ENCODER, TRANSFORMER, DECODER = "encoder", "netG_transformer_A2B", "netG_decoder"
MODULES = ("encoder", "transformer", "decoder")
TILE_PX = 256
PANEL_SIZE = (5 * TILE_PX, TILE_PX)
PREVIEW_FPS, PREVIEW_HEIGHT, PREVIEW_MAX_FRAMES = 12.5, 128, 60


class Graph(NamedTuple):
    image: nn.Variable  # (B, 3, 256, 256) in [-1, 1]
    boundary: nn.Variable  # (B, 15, 64, 64), about [0, 1]
    transformed: nn.Variable  # (B, 15, 64, 64) in (0, 1)
    generated: nn.Variable  # (B, 3, 256, 256) in (-1, 1)


def build_graph(configs: dict[str, dict[str, Any]], batch_size: int) -> Graph:
    """Encoder, transformer and decoder in a row, in evaluation mode unless `test.batch_stat` says otherwise."""
    batch_stat = {module: config["test"]["batch_stat"] for module, config in configs.items()}
    image = nn.Variable((batch_size, 3, 256, 256))
    with nn.parameter_scope(ENCODER):
        scores = encoder(image, batch_stat=batch_stat["encoder"], **configs["encoder"]["model"])
    boundary = boundaries_of(scores, configs["encoder"]["loss_name"])
    norm_type, planes = configs["transformer"]["norm_type"], configs["transformer"]["model"]["planes"]
    with nn.parameter_scope(TRANSFORMER):
        transformed = transformer(boundary, norm_type, planes, batch_stat["transformer"])
    with nn.parameter_scope(DECODER):
        planes = configs["decoder"]["model"]["planes"]
        generated = decoder(transformed, planes, training=False, batch_stat=batch_stat["decoder"])
    for variable in (boundary, transformed, generated):
        variable.persistent = True
    return Graph(image, boundary, transformed, generated)


def find_all_weights(args: argparse.Namespace, configs: dict[str, dict[str, Any]], source: str) -> dict[str, Path]:
    """The three weights files by scope: those named, or each run's last epoch.

    Raises:
        ConfigError: the transformer has several sources, and this is none of them.
    """
    encoder_info, transformer_info, decoder_info = configs.values()
    sources = source_names(transformer_info)
    if source not in sources and len(sources) > 1 and args.transformer_param_file is None:
        raise ConfigError(
            f"--src-celeb-name {source}: the transformer was trained on {', '.join(sources)}; take one of them, "
            "or name weights with --transformer-param-file"
        )
    runs = {
        ENCODER: Path("encoder") / encoder_info["experiment_name"] / encoder_info["model_name"],
        TRANSFORMER: Path("transformer") / pair_name(transformer_info) / transformer_info["experiment_name"],
        DECODER: Path("decoder") / decoder_info["trg_celeb_name"] / decoder_info["experiment_name"],
    }
    prefixes = {
        ENCODER: "model_epoch-",
        TRANSFORMER: f"{TRANSFORMER}{source_suffix(transformer_info, source)}_",
        DECODER: f"{DECODER}_",
    }
    weights = {}
    for (module, config), (scope, run_dir) in zip(configs.items(), runs.items()):
        named, info = getattr(args, f"{module}_param_file"), getattr(args, f"{module}_config")
        weights[scope] = find_weights(named, info, Path(config["logdir"]) / run_dir, prefixes[scope])
    return weights


def check_people(args: argparse.Namespace, configs: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """Source and target: the command line's, which must be those that the networks were trained for.

    Raises:
        ConfigError: the target is somebody else to the transformer or the decoder.
    """
    trained_sources, trained_target = source_names(configs["transformer"]), configs["transformer"]["trg_celeb_name"]
    source, target = args.src_celeb_name or trained_sources[0], args.trg_celeb_name or trained_target
    for module in ("transformer", "decoder"):
        person = configs[module]["trg_celeb_name"]
        if person != target:
            info = getattr(args, f"{module}_config")
            raise ConfigError(f"--trg-celeb-name {target}: the {module} of {info} was trained for {person}")
    if source not in trained_sources:
        print(f"note: the transformer was trained on {', '.join(trained_sources)}; the shape of {source} may be off")
    return source, target


def reenact(graph: Graph, source: CelebVSource, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Frame by frame: its index and its panel (256, 1280, 3) uint8. The encoder sees each frame once."""
    for indices, used in index_batches(count, graph.image.shape[0]):
        image, truth = collate(source[index] for index in indices)
        graph.image.d = image
        graph.generated.forward(clear_buffer=True)
        for row, index in enumerate(indices[:used]):
            tiles = [
                face_picture(image[row]),
                heatmap_picture(graph.boundary.d[row]),
                heatmap_picture(graph.transformed.d[row]),
                face_picture(graph.generated.d[row]),
                heatmap_picture(truth[row]),
            ]
            yield index, side_by_side(tiles)


def read_panels(result_dir: Path, count: int) -> Iterator[np.ndarray]:
    for index in range(count):
        yield read_image(result_dir / f"{index:06d}-000.png")


def small_panels(result_dir: Path, count: int) -> list[np.ndarray]:
    """Every other frame, reduced, for the preview."""
    size = (PANEL_SIZE[0] * PREVIEW_HEIGHT // TILE_PX, PREVIEW_HEIGHT)
    panels = list(read_panels(result_dir, min(count, 2 * PREVIEW_MAX_FRAMES)))[::2]
    return [cv2.resize(panel, size, interpolation=cv2.INTER_AREA) for panel in panels]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for module in MODULES:
        help_config = f"the {module}'s training_info.yaml"
        parser.add_argument(f"--{module}-config", type=Path, required=True, metavar="INFO", help=help_config)
    for module in MODULES:
        help_file = f"the {module}'s weights (default: its run's last epoch)"
        parser.add_argument(f"--{module}-param-file", type=Path, metavar="FILE.h5", help=help_file)
    parser.add_argument("--src-celeb-name", metavar="A", help="who drives (default: the transformer's source)")
    parser.add_argument("--trg-celeb-name", metavar="B", help="who is shown (default: the transformer's target)")
    parser.add_argument("-n", "--num", type=cli.positive_int, help="number of frames (default: the whole test split)")
    parser.add_argument("--batch-size", type=cli.positive_int, default=1, help="frames at a time; the same pictures")
    help_data = "the folder that holds the people (default: the transformer's train_dir)"
    parser.add_argument("--data-dir", type=Path, help=help_data)
    parser.add_argument("--out-dir", type=Path, default=Path("reenactment_result"), help="where results go")
    parser.add_argument("--video", type=Path, metavar="OUT.mp4", help="also write the panels as a video")
    parser.add_argument("--fps", type=cli.positive_number, default=30.0, help="frames a second of the video (30)")
    parser.add_argument("--preview", type=Path, metavar="OUT.gif", help="also write the first frames as a small GIF")
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the name of the result folder")
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    for flag, ending in (("video", ".mp4"), ("preview", ".gif")):
        path = getattr(args, flag)
        if path is not None and path.suffix != ending:
            parser.error(f"--{flag} {path}: must end in {ending}")
    return args


def main() -> None:
    args = parse_args()
    configs = {module: load_config(module, getattr(args, f"{module}_config")) for module in MODULES}
    source_name, target_name = check_people(args, configs)
    set_test_context(configs["transformer"], args)
    data_dir = args.data_dir or configs["transformer"]["train_dir"]
    source = CelebVSource(data_dir, source_name, "test", (IMAGE, HEATMAP))
    count = count_of(args.num, len(source), f"the test split of {source_name}")
    graph = build_graph(configs, min(args.batch_size, count))
    weights = find_all_weights(args, configs, source_name)
    for scope, path in weights.items():
        load_parameters(path, scope)

    run_dir = new_folder(args.out_dir / f"{source_name}2{target_name}", timestamp(), args.info)
    result_dir = run_dir / "result"
    what = {
        "source": source_name,
        "target": target_name,
        "frames": count,
        "data_dir": str(data_dir),
        "configs": {module: str(getattr(args, f"{module}_config")) for module in configs},
        "weights": {module: str(path) for module, path in zip(configs, weights.values())},
    }
    write_yaml(run_dir / "reenactment.yaml", what)
    mark = generated_mark(f"face of {target_name} in the fourth tile, driven by {source_name}")
    for index, panel in tqdm(reenact(graph, source, count), total=count, unit="frame", disable=None):
        write_image(result_dir / f"{index:06d}-000.png", panel, mark)
    print(f"{count} frames of {source_name} to {target_name}: {result_dir}")
    if args.video is not None:
        write_video(args.video, read_panels(result_dir, count), PANEL_SIZE, args.fps, mark["Comment"])
        print(f"video: {args.video}")
    if args.preview is not None:
        write_preview(args.preview, small_panels(result_dir, count), PREVIEW_FPS, mark["Comment"])
        print(f"preview: {args.preview}")


if __name__ == "__main__":
    run(main)
