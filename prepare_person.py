"""Make a person of CelebV's form from a video or a folder of pictures; its boundaries come from a trained encoder.

    python prepare_person.py me.mp4 --name Me --encoder-config INFO [--encoder-param-file FILE.h5]
    python prepare_person.py datasets/CelebV/Kathleen --name Kathleen --encoder-config INFO

The first finds the face in each picture, cuts it out steadily, and writes datasets/CelebV/Me. With an encoder, both
write the npz files that training reads with `boundary: encoder`. A folder of CelebV's form is taken as it is.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import nnabla as nn
import numpy as np
from tqdm import tqdm

from config import load_config
from datasets import celebv
from datasets.batches import Batches
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE
from datasets.crop import Square, cut_square
from datasets.faces import HAAR, MIN_SHOT_S, Detector, follow_face, load_detector, reduced
from datasets.images import write_image
from datasets.pictures import UNREADABLE, Pictures
from datasets.prepared import PreparedWriter, images_digest, pack, rebuilt, why_stale
from models.encoder import boundaries_of, encoder
from utils import cli
from utils.checkpoints import load_parameters
from utils.errors import ConfigError, DataError, run
from utils.files import atomic_folder, file_digest, locked, remove_leftovers, write_text
from utils.panels import contact_sheet, evenly, face_picture, overlay
from utils.parallel import WorkerPool, available_cores
from utils.testing import find_weights, set_test_context

ENCODER_SCOPE = "encoder"
SHEET_TILES, SHEET_COLUMNS, SHEET_TILE_PX = 48, 8, 128


class Encoder(NamedTuple):
    weights: Path
    image: nn.Variable  # (B, 3, 256, 256) in [-1, 1]
    boundary: nn.Variable  # (B, 15, 64, 64), about [0, 1]


def find_faces(pictures: Pictures, detector: Detector, num_workers: int) -> list[Square | str]:
    """A crop for each picture, or why it is left out."""
    sizes: list[tuple[int, int] | None] = []
    factors: list[float] = []

    def small_pictures() -> Iterator[np.ndarray]:
        for picture in pictures:
            sizes.append(None if picture is None else picture.shape[:2])
            small, factor = reduced(np.zeros((1, 1, 3), np.uint8) if picture is None else picture)
            factors.append(factor)
            yield small

    def detect(small: np.ndarray) -> np.ndarray:
        return np.empty((0, 4)) if small.size <= 3 else detector(small)

    with WorkerPool(detect, num_workers) as pool:
        found = pool.map(small_pictures(), at_once=2)
        boxes = list(tqdm(found, desc="finding faces", unit="picture", disable=None))
    boxes = [box * factor for box, factor in zip(boxes, factors)]
    crops = follow_face(boxes, sizes, pictures.fps, MIN_SHOT_S if pictures.is_video else 0.0)
    return [UNREADABLE if size is None else crop for crop, size in zip(crops, sizes)]


def make_person(pictures: Pictures, folder: Path, detector: Detector, num_workers: int) -> None:
    """Write Image/, all_frames.txt and a contact sheet, all of them or nothing."""
    crops = find_faces(pictures, detector, num_workers)
    reasons = Counter(crop for crop in crops if isinstance(crop, str))
    words = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common()) or "none"
    kept = [number for number, crop in enumerate(crops) if not isinstance(crop, str)]
    if not kept:
        raise DataError(f"{pictures.path}: no usable face in {len(crops)} pictures (left out: {words})")
    on_sheet = {kept[index] for index in evenly(len(kept), SHEET_TILES)}
    names, tiles = [], []
    with atomic_folder(folder) as temporary:
        bar = tqdm(pictures, desc="cutting out", total=len(crops), unit="picture", disable=None)
        for number, (picture, crop) in enumerate(zip(bar, crops)):
            if isinstance(crop, str):
                continue
            face = cut_square(picture, crop)
            names.append(f"{number + 1:06d}.jpg")
            write_image(temporary / "Image" / names[-1], face)
            if number in on_sheet:
                tiles.append(face)
        if len(names) != len(kept):
            raise DataError(f"{pictures.path}: ended early at the second reading; is something writing it?")
        write_image(temporary / "contact_sheet.png", contact_sheet(tiles, SHEET_COLUMNS, SHEET_TILE_PX))
        write_text(temporary / f"all{celebv.NAMES_ONLY}", "\n".join(names) + "\n")
    print(f"{folder}: {len(names)} of {len(crops)} pictures; left out: {words}")
    print(f"look at {folder / 'contact_sheet.png'}: is it one person, upright, with the whole face?")


def load_encoder(args: argparse.Namespace) -> Encoder:
    """The network in evaluation mode, with its weights."""
    config = load_config("encoder", args.encoder_config)
    set_test_context(config, args)
    image = nn.Variable((args.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE))
    with nn.parameter_scope(ENCODER_SCOPE):
        boundary = boundaries_of(encoder(image, batch_stat=False, **config["model"]), config["loss_name"])
    run_dir = Path(config["logdir"]) / "encoder" / config["experiment_name"] / config["model_name"]
    weights = find_weights(args.encoder_param_file, args.encoder_config, run_dir, "model_epoch-")
    load_parameters(weights, ENCODER_SCOPE)
    return Encoder(weights, image, boundary)


def to_maps(boundary: np.ndarray, size: int) -> np.ndarray:
    """(15, 64, 64) float32 to (15, size, size) uint8; larger ones by cubic interpolation, as the authors do."""
    if size != boundary.shape[1]:
        boundary = np.stack([cv2.resize(x, (size, size), interpolation=cv2.INTER_CUBIC) for x in boundary])
    return (boundary.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def write_boundaries(network: Encoder, root: Path, person: str, out_dir: Path) -> None:
    """The three npz files of a person, with the encoder's boundaries; kept where they are of the same making."""
    frames = celebv.CelebVSource(root, person, "all", (celebv.IMAGE,), boundary=celebv.ENCODER)
    record = celebv.record_path(out_dir, person)
    paths = [celebv.prepared_path(out_dir, person, part) for part in celebv.SHAPES]
    made_from = {
        "boundary": celebv.ENCODER,
        "weights": file_digest(network.weights),
        "list": file_digest(celebv.list_path(root, person, "all")),
        "images": images_digest(root / person / "Image", frames.names),
    }
    for path in (record, *paths):
        remove_leftovers(path)
    reason = why_stale(record, made_from, paths)
    if not reason:
        print(f"{out_dir}: {person} is complete and made from the same; kept")
        return
    print(f"{out_dir}: {person}, {len(frames)} images; {reason}")
    batch_size = network.image.shape[0]
    first_indices = range(0, len(frames), batch_size)
    on_sheet, tiles = set(evenly(len(frames), SHEET_TILES)), []
    batches = Batches(frames, batch_size, seed=0, shuffle=False, num_workers=1)
    with rebuilt(record, made_from, paths) as temporaries:
        writers = [PreparedWriter(path) for path in temporaries]
        for number, first in enumerate(tqdm(first_indices, desc=f"boundaries of {person}", unit="batch", disable=None)):
            (images,) = batches[number]
            network.image.d = images
            network.boundary.forward(clear_buffer=True)
            for index, image, boundary in zip(range(first, len(frames)), images, network.boundary.d):
                face, large = face_picture(image), to_maps(boundary, IMAGE_SIZE)
                arrays = (np.ascontiguousarray(face.transpose(2, 0, 1)), to_maps(boundary, HEATMAP_SIZE), large)
                for writer, array in zip(writers, arrays):
                    writer.add(frames.names[index], pack(array))
                if index in on_sheet:
                    tiles.append(overlay(face, large))
        for writer in writers:
            writer.finish()
    sheet = out_dir / f"{person}_contact_sheet.png"
    write_image(sheet, contact_sheet(tiles, SHEET_COLUMNS, SHEET_TILE_PX))
    print(f"look at {sheet}: do the lines lie on the faces?")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_input = "a video file, a folder of pictures, or a person of CelebV's form"
    parser.add_argument("input", type=Path, metavar="VIDEO_OR_FOLDER", help=help_input)
    parser.add_argument("--name", required=True, help="of the person: its folder's")
    help_data = "the folder that holds the people (default datasets/CelebV)"
    parser.add_argument("--data-dir", type=Path, default=Path("datasets/CelebV"), help=help_data)
    parser.add_argument("--encoder-config", type=Path, metavar="INFO", help="the encoder's training_info.yaml")
    help_file = "the encoder's weights (default: its run's last epoch)"
    parser.add_argument("--encoder-param-file", type=Path, metavar="FILE.h5", help=help_file)
    help_out = "where npz files of the encoder's boundaries go (default datasets/celebv_heatmaps_encoder)"
    parser.add_argument("--out-dir", type=Path, default=Path("datasets/celebv_heatmaps_encoder"), help=help_out)
    help_detector = f"what finds faces: a Python function (default {HAAR})"
    parser.add_argument("--detector", default=HAAR, metavar="MODULE:FUNCTION", help=help_detector)
    parser.add_argument("--batch-size", type=cli.positive_int, default=1, help="of the encoder; the same boundaries")
    help_workers = "processes that find faces (default: one for each core)"
    parser.add_argument(
        "--num-workers", type=cli.positive_int, default=available_cores(), metavar="N", help=help_workers
    )
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    if args.encoder_param_file and not args.encoder_config:
        parser.error("--encoder-param-file goes with --encoder-config")
    if not re.fullmatch(r"[\w-][\w .-]*", args.name):
        parser.error(f"--name {args.name}: letters, digits, '_', '-', '.' and spaces make a folder's name")
    return args


def main() -> None:
    args = parse_args()
    detector = load_detector(args.detector)
    network = load_encoder(args) if args.encoder_config else None
    root = args.data_dir
    if args.input.is_dir() and args.input.resolve().name in celebv.people_of(args.input.resolve().parent):
        if network is None:
            raise ConfigError(f"{args.input}: a person already; add --encoder-config to find its boundaries")
        if args.input.resolve().name != args.name:
            raise ConfigError(f"--name {args.name}: {args.input} is a person of another name; pass that one")
        root = args.input.resolve().parent
    elif (root / args.name).exists():
        raise DataError(f"{root / args.name}: there already; choose another --name, or remove that folder first")
    else:
        make_person(Pictures(args.input), root / args.name, detector, args.num_workers)
    if network is not None:
        with locked(args.out_dir):
            write_boundaries(network, root, args.name, args.out_dir)
        print(f"train with 'boundary: encoder' and 'ref_dir: {args.out_dir}'")


if __name__ == "__main__":
    run(main)
