"""Create a person in CelebV's format, with landmarks, from videos or folders of images.

    python prepare_person.py me.mp4 [more.mp4 ...] --name Me [--every N] [--part 2.5 30] [--face 1]
    python prepare_person.py datasets/CelebV/Kathleen --name Kathleen --encoder-config INFO

The first command finds face and landmarks in each frame, crops it smoothly over time, and writes datasets/CelebV/Me.
With --encoder-config, both commands also write npz files of an encoder's boundaries, for training with `boundary:
encoder`. A folder in CelebV's format is used as it is.
"""

from __future__ import annotations
from utils.ending import call_main

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import cv2
import nnabla as nn
import numpy as np
from tqdm import tqdm

from config.common import GAZE
from datasets import celebv
from datasets.annotations import format_line
from datasets.batches import Batches
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, DrawingStyle, draw_heatmap, overlay, style_of
from datasets.film import MAX_FRAMES, SIZES, spread
from datasets.images import write_image
from datasets.panels import contact_sheet, face_image
from datasets.prepared import Packed, pack
from datasets.samples import FrameDataset
from faces.crop import cut_square
from faces.finder import Face, FaceFinder
from faces.follower import WAIT_S, Placed, follow_face
from inference.inputs import UNREADABLE, FrameSource
from inference.networks import Trained, find_trained, load_network
from models.networks import IMAGE_SHAPE
from utils import cli
from utils.context import set_configured_context
from utils.errors import ConfigError, DataError
from utils.files import atomic_folder, check_outputs, file_digest, locked, write_text, write_yaml
from utils.parallel import WorkerPool, available_cores
from utils.progress import Progress
from utils.sampling import evenly

FRAMES_AT_ONCE = 16  # frames per task of a worker
MIN_LARGE_PX = 320  # median side of crops from which frames are also stored at 512 pixels
MAX_FILM_CANDIDATES = 5000
LEAD = 3  # preceding frames that a task also searches, to track a face that is lost for a moment
ANOTHER = "face of another person"
SHEET_TILES, SHEET_COLUMNS, SHEET_TILE_PX = 48, 8, 128


class Encoder(NamedTuple):
    """A loaded encoder."""

    trained: Trained
    image: nn.Variable  # (B, 3, 256, 256) in [-1, 1]
    heatmap: nn.Variable  # (B, 15, 64, 64), about [0, 1]


class Stretch(NamedTuple):
    """Consecutive frames; None is one that cannot be decoded."""

    lead: list[np.ndarray | None]  # preceding frames
    frames: list[np.ndarray | None]


def find_faces(source: FrameSource, num_workers: int, number: int | None = None) -> list[Placed | str]:
    """Return a crop for each frame, or the reason why it is left out.

    `number` selects a face from 1, counted from the left; None is the person who is seen most.
    """
    sizes: list[tuple[int, int] | None] = []

    def stretches() -> Iterator[Stretch]:
        remaining, lead = iter(source), []
        while frames := list(islice(remaining, FRAMES_AT_ONCE)):
            sizes.extend(None if frame is None else frame.shape[:2] for frame in frames)
            yield Stretch(lead, frames)
            lead = frames[-LEAD:] if source.is_film else []

    @lru_cache(maxsize=1)
    def finder() -> FaceFinder:
        return FaceFinder(source.is_film)

    def find(stretch: Stretch) -> list[list[Face]]:
        finder().reset()
        frames = [*stretch.lead, *stretch.frames]
        # without the mesh, which takes most of the memory
        found = [[] if x is None else [face._replace(mesh=None) for face in finder().find(x)] for x in frames]
        return found[len(stretch.lead) :]

    with WorkerPool(find, num_workers) as pool, Progress("finding faces", source.count) as bar:
        faces: list[list[Face]] = []
        for found in pool.map(stretches(), at_once=1):
            faces += found
            bar.update(len(found))
    crops = follow_face(faces, sizes, source.fps, source.min_shot_s, WAIT_S if source.is_film else 0.0, number)
    counts = Counter(crop.person for crop in crops if isinstance(crop, Placed))
    person = max(counts, key=counts.get, default=0) if number is None else 0  # the first one followed
    crops = [ANOTHER if isinstance(crop, Placed) and crop.person != person else crop for crop in crops]
    return [UNREADABLE if size is None else crop for crop, size in zip(crops, sizes)]


def make_person(
    sources: list[FrameSource], folder: Path, num_workers: int, every: int, face_number: int | None = None
) -> None:
    """Write Image/, all_98pt.txt and a contact sheet of a person, atomically, from one usable frame out of `every`.

    Raises DataError if there is none.
    """
    crops = [crop for source in sources for crop in find_faces(source, num_workers, face_number)]
    usable = [number for number, crop in enumerate(crops) if not isinstance(crop, str)]
    reasons = Counter(crop for crop in crops if isinstance(crop, str))
    kept = usable[::every]
    if len(kept) < len(usable):
        reasons[f"usable, but --every {every}"] = len(usable) - len(kept)
    counts = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common()) or "none"
    if not kept:
        where = ", ".join(str(source.path) for source in sources)
        raise DataError(f"{where}: no usable face in {len(crops)} frames (left out: {counts})")
    on_sheet = {kept[index] for index in evenly(len(kept), SHEET_TILES)}
    remaining, large = set(kept), large_ones(crops, kept)
    lines, tiles, style = [], [], DrawingStyle(name=GAZE)
    with atomic_folder(folder) as temporary, Progress("cropping", len(crops)) as bar:
        for number, (frame, crop) in enumerate(zip(chain(*sources), crops)):
            bar.update()
            if number not in remaining:
                continue
            face, name = cut_square(frame, crop.square), f"{number + 1:06d}.jpg"
            lines.append(format_line(crop.landmarks(), name))
            write_image(temporary / "Image" / name, face)
            if number in large:
                write_image(temporary / celebv.LARGE_FOLDER / name, cut_square(frame, crop.square, size=max(SIZES)))
            if number in on_sheet:
                tiles.append(overlay(face, draw_heatmap(crop.landmarks(), style=style)))
        if len(lines) != len(kept):
            raise DataError(f"{sources[-1].path}: ended early when read again; is it being written?")
        write_image(temporary / "contact_sheet.png", contact_sheet(tiles, SHEET_COLUMNS, SHEET_TILE_PX))
        write_text(temporary / "all_98pt.txt", "\n".join(lines) + "\n")
        write_yaml(temporary / celebv.PERSON_FILE, {"drawing": GAZE})
    print(f"{folder}: {len(lines)} of {len(crops)} frames; left out: {counts}")
    print(f"check {folder / 'contact_sheet.png'}: one person, upright, with the whole face")


def large_ones(crops: list[Placed | str], kept: list[int]) -> set[int]:
    """Choose the frames that a film may show at 512 pixels; none if the faces are smaller."""
    if np.median([crops[number].square.side for number in kept]) < MIN_LARGE_PX:
        return set()
    some = [kept[index] for index in evenly(len(kept), MAX_FILM_CANDIDATES)]
    return {some[index] for index in spread(np.stack([crops[number].landmarks() for number in some]), MAX_FRAMES)}


def load_encoder(args: argparse.Namespace) -> Encoder:
    """Load the encoder in evaluation mode."""
    trained = find_trained("encoder", args.encoder_config, args.encoder_param_file)
    set_configured_context(trained.config, args.context, args.device_id)
    image = nn.Variable((args.batch_size, *IMAGE_SHAPE))
    return Encoder(trained, image, load_network("encoder", trained, image))


def to_uint8(heatmap: np.ndarray, size: int) -> np.ndarray:
    """Convert a heatmap (15, 64, 64) float32 to (15, size, size) uint8, with cubic interpolation.

    As in the authors' code, negative values are 0 before: their decoder's first ReLU works in place.
    """
    heatmap = heatmap.clip(min=0)
    if size != heatmap.shape[1]:
        heatmap = np.stack([cv2.resize(x, (size, size), interpolation=cv2.INTER_CUBIC) for x in heatmap])
    return (heatmap.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def write_heatmaps(network: Encoder, root: Path, person: str, out_dir: Path) -> None:
    """Write the npz files of a person with the encoder's heatmaps, unless they are up to date."""
    frames = FrameDataset(root, person, "all")
    batch_size = network.image.shape[0]
    made_from = {"boundary": celebv.FROM_ENCODER, "weights": file_digest(network.trained.weights)}
    style = style_of(network.trained.config)
    if style != DrawingStyle():
        made_from["drawing"] = style.record()
    if network.trained.config.test.batch_stat:  # a heatmap then depends on its batch
        made_from["batch_statistics_of"] = batch_size
    archives = celebv.describe_archives(root, person, frames.names, out_dir, made_from)
    if not archives.must_be_written():
        return
    on_sheet, tiles = set(evenly(len(frames), SHEET_TILES)), []
    batches = Batches(frames, batch_size, seed=0, shuffle=False, num_workers=1)

    def samples() -> Iterator[tuple[str, list[Packed]]]:
        first_indices = range(0, len(frames), batch_size)
        for number, first in enumerate(tqdm(first_indices, desc=f"boundaries of {person}", unit="batch", disable=None)):
            (images,) = batches[number]
            network.image.d = images
            network.heatmap.forward(clear_buffer=True)
            for index, image, heatmap in zip(range(first, len(frames)), images, network.heatmap.d):
                face, large = face_image(image), to_uint8(heatmap, IMAGE_SIZE)
                if index in on_sheet:
                    tiles.append(overlay(face, large))
                arrays = (np.ascontiguousarray(face.transpose(2, 0, 1)), to_uint8(heatmap, HEATMAP_SIZE), large)
                yield frames.names[index], [pack(array) for array in arrays]

    archives.write(samples())
    sheet = out_dir / f"{person}_contact_sheet.png"
    write_image(sheet, contact_sheet(tiles, SHEET_COLUMNS, SHEET_TILE_PX))
    print(f"check {sheet}: boundaries must match the faces")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_input = "videos and folders of images of one person, or a person in CelebV's format"
    parser.add_argument("inputs", nargs="+", type=cli.path, metavar="VIDEO_OR_FOLDER", help=help_input)
    parser.add_argument("--name", required=True, type=cli.folder_name, help="name of the person and its folder")
    help_every = "keep one usable frame out of N; consecutive ones are similar (default 1)"
    parser.add_argument("--every", type=cli.whole(1, 1000), default=1, metavar="N", help=help_every)
    cli.add_part_arguments(parser)
    help_data = "folder of the people (default datasets/CelebV)"
    parser.add_argument("--data-dir", type=cli.path, default=Path("datasets/CelebV"), help=help_data)
    cli.add_network_arguments(parser, ("encoder",))
    help_out = "folder of the npz files (default datasets/celebv_heatmaps_encoder)"
    parser.add_argument("--out-dir", type=cli.path, default=Path("datasets/celebv_heatmaps_encoder"), help=help_out)
    parser.add_argument("--batch-size", type=cli.batch_size, default=1, help="batch size of the encoder (1)")
    help_workers = "number of processes that find faces (default: number of cores)"
    parser.add_argument(
        "--num-workers", type=cli.num_workers, default=available_cores(), metavar="N", help=help_workers
    )
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    if args.encoder_param_file and not args.encoder_config:
        parser.error("--encoder-param-file requires --encoder-config")
    if len(set(map(os.path.realpath, args.inputs))) < len(args.inputs):
        parser.error("an input is duplicated")
    outputs = {"--data-dir": args.data_dir} | ({"--out-dir": args.out_dir} if args.encoder_config else {})
    check_outputs(outputs)
    return args


def main() -> None:
    args = parse_args()
    network = load_encoder(args) if args.encoder_config else None
    root = args.data_dir
    given = Path(os.path.abspath(args.inputs[0]))
    if given.is_dir() and given.name in celebv.people_of(given.parent):
        if network is None:
            raise ConfigError(f"{given}: already a person; add --encoder-config to compute its boundaries")
        if given.name != args.name:
            raise ConfigError(f"--name {args.name}: {given} has another name; pass that one")
        if len(args.inputs) > 1:
            raise ConfigError(f"{given}: already a person; pass no other inputs")
        root = given.parent
    elif os.path.lexists(root / args.name):
        raise DataError(f"{root / args.name}: already exists; choose another --name, or remove the folder")
    else:
        sources = [FrameSource(path, part=args.part) for path in args.inputs]
        make_person(sources, root / args.name, args.num_workers, args.every, args.face)
    if network is not None:
        with locked(args.out_dir):
            write_heatmaps(network, root, args.name, args.out_dir)
        print(f"train with 'boundary: encoder' and 'ref_dir: {args.out_dir}'")


if __name__ == "__main__":
    call_main(main)
