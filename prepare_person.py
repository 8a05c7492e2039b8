"""Make a person of CelebV's form, landmarks and all, from videos or folders of pictures.

    python prepare_person.py me.mp4 [more.mp4 ...] --name Me [--every N]
    python prepare_person.py datasets/CelebV/Kathleen --name Kathleen --encoder-config INFO

The first finds the face and its landmarks in each picture, cuts it out steadily, and writes datasets/CelebV/Me. With
--encoder-config, both also write the npz files of an encoder's boundaries, for training with `boundary: encoder`. A
folder of CelebV's form is taken as it is.
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import cv2
import nnabla as nn
import numpy as np
from tqdm import tqdm

from config import load_config
from config.common import GAZE
from datasets import celebv
from datasets.annotations import format_line
from datasets.batches import Batches
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, DrawingStyle, draw_heatmap, overlay
from datasets.crop import cut_square
from datasets.images import write_image
from datasets.landmarks import Face
from datasets.panels import contact_sheet, evenly, face_picture
from datasets.prepared import Packed, pack, require_own_names
from datasets.samples import FrameDataset
from inference.faces import WAIT_S, Finder, Placed, follow_face, make_finder
from inference.film import MAX_FRAMES, SIZES, spread
from inference.pictures import UNREADABLE, Pictures
from inference.trained import Trained, choose_context, find_weights, load_network
from models.networks import IMAGE_SHAPE
from utils import cli
from utils.ending import call_main
from utils.errors import ConfigError, DataError
from utils.files import atomic_folder, check_outputs, claimed, file_digest, locked, write_text, write_yaml
from utils.parallel import WorkerPool, available_cores

PICTURES_AT_ONCE = 16  # pictures that a worker looks at in a row
MIN_LARGE_PX = 320  # side of the crops from which frames are kept at 512 pixels as well
MAX_FILM_CANDIDATES = 5000
LEAD = 3  # pictures of a video before them, in which a face may be seen that is lost for a moment
ANOTHER = "the face of somebody else, who is seen less often"
SHEET_TILES, SHEET_COLUMNS, SHEET_TILE_PX = 48, 8, 128


class Encoder(NamedTuple):
    """Hold the encoder with its weights in it."""

    trained: Trained
    image: nn.Variable  # (B, 3, 256, 256) in [-1, 1]
    heatmap: nn.Variable  # (B, 15, 64, 64), about [0, 1]


class Stretch(NamedTuple):
    """Hold pictures that follow each other; None is one that cannot be decoded."""

    lead: list[np.ndarray | None]  # the pictures that another stretch looks at
    pictures: list[np.ndarray | None]


def find_faces(pictures: Pictures, make: Callable[[bool], Finder], num_workers: int) -> list[Placed | str]:
    """Find a crop for each picture, or why it is left out.

    Args:
        make: makes a finder, for pictures that follow each other or not; each process has its own.
    """
    sizes: list[tuple[int, int] | None] = []
    is_video = pictures.is_film

    def runs() -> Iterator[Stretch]:
        """Give pictures that follow each other, some at a time."""
        remaining, lead = iter(pictures), []
        while run := list(islice(remaining, PICTURES_AT_ONCE)):
            sizes.extend(None if picture is None else picture.shape[:2] for picture in run)
            yield Stretch(lead, run)
            lead = run[-LEAD:] if is_video else []

    @lru_cache(maxsize=1)
    def finder() -> Finder:
        return make(is_video)

    def find(run: Stretch) -> list[list[Face]]:
        finder().reset()
        pictures = [*run.lead, *run.pictures]
        found = [[] if picture is None else [halved(face) for face in finder().find(picture)] for picture in pictures]
        return found[len(run.lead) :]

    with WorkerPool(find, num_workers) as pool, tqdm(desc="finding faces", total=pictures.count, disable=None) as bar:
        faces: list[list[Face]] = []
        for found in pool.map(runs(), at_once=1):
            faces += found
            bar.update(len(found))
    crops = follow_face(faces, sizes, pictures.fps, pictures.min_shot_s, WAIT_S if is_video else 0.0)
    seen = Counter(crop.person for crop in crops if isinstance(crop, Placed))
    most = max(seen, key=seen.get, default=0)
    crops = [ANOTHER if isinstance(crop, Placed) and crop.person != most else crop for crop in crops]
    return [UNREADABLE if size is None else crop for crop, size in zip(crops, sizes)]


def halved(face: Face) -> Face:
    """Leave out what is not needed of a face, of which there may be a hundred thousand."""
    return face._replace(mesh=None)


def make_person(
    inputs: list[Pictures], folder: Path, make: Callable[[bool], Finder], num_workers: int, every: int
) -> None:
    """Write Image/, the list of all frames and a contact sheet, all of them or nothing.

    With landmarks the list is all_98pt.txt, as CelebV has it, and they are drawn on the sheet; else all_frames.txt.

    Args:
        inputs: of one person.
        every: keep one usable picture out of so many.
    """
    crops = [crop for pictures in inputs for crop in find_faces(pictures, make, num_workers)]
    usable = [number for number, crop in enumerate(crops) if not isinstance(crop, str)]
    reasons = Counter(crop for crop in crops if isinstance(crop, str))
    kept = set(usable[::every])
    if len(kept) < len(usable):
        reasons[f"usable, but --every {every}"] = len(usable) - len(kept)
    words = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common()) or "none"
    if not kept:
        where = ", ".join(str(pictures.path) for pictures in inputs)
        raise DataError(f"{where}: no usable face in {len(crops)} pictures (left out: {words})")
    in_order = sorted(kept)
    on_sheet = {in_order[index] for index in evenly(len(kept), SHEET_TILES)}
    has_landmarks = all(crops[number].face.landmarks is not None for number in kept)
    large = large_ones(crops, in_order) if has_landmarks else set()
    lines, tiles, style = [], [], DrawingStyle(name=GAZE)
    with atomic_folder(folder) as temporary:
        bar = tqdm(chain(*inputs), desc="cutting out", total=len(crops), unit="picture", disable=None)
        for number, (picture, crop) in enumerate(zip(bar, crops)):
            if number not in kept:
                continue
            face, name = cut_square(picture, crop.square), f"{number + 1:06d}.jpg"
            lines.append(format_line(crop.landmarks(), name) if has_landmarks else name)
            write_image(temporary / "Image" / name, face)
            if number in large:
                write_image(temporary / celebv.LARGE_FOLDER / name, cut_square(picture, crop.square, size=max(SIZES)))
            if number in on_sheet:
                tiles.append(overlay(face, draw_heatmap(crop.landmarks(), style=style)) if has_landmarks else face)
        if len(lines) != len(kept):
            raise DataError(f"{inputs[-1].path}: ended early at the second reading; is something writing it?")
        write_image(temporary / "contact_sheet.png", contact_sheet(tiles, SHEET_COLUMNS, SHEET_TILE_PX))
        ending = celebv.WITH_LANDMARKS if has_landmarks else celebv.NAMES_ONLY
        write_text(temporary / f"all{ending}", "\n".join(lines) + "\n")
        if has_landmarks:
            write_yaml(temporary / celebv.PERSON_FILE, {"drawing": GAZE})
    print(f"{folder}: {len(lines)} of {len(crops)} pictures; left out: {words}")
    print(f"look at {folder / 'contact_sheet.png'}: is it one person, upright, with the whole face?")


def large_ones(crops: list[Placed | str], kept: list[int]) -> set[int]:
    """Choose the pictures that a film may show at 512 pixels; none where the faces have fewer."""
    if np.median([crops[number].square.side for number in kept]) < MIN_LARGE_PX:
        return set()
    some = [kept[index] for index in evenly(len(kept), MAX_FILM_CANDIDATES)]
    return {some[index] for index in spread(np.stack([crops[number].landmarks() for number in some]), MAX_FRAMES)}


def load_encoder(args: argparse.Namespace) -> Encoder:
    """Load the network with its weights, in evaluation mode."""
    config = load_config("encoder", args.encoder_config)
    choose_context(config, args)
    trained = Trained(config, find_weights("encoder", config, args.encoder_config, args.encoder_param_file))
    image = nn.Variable((args.batch_size, *IMAGE_SHAPE))
    return Encoder(trained, image, load_network("encoder", trained, image))


def to_uint8(heatmap: np.ndarray, size: int) -> np.ndarray:
    """Convert a heatmap (15, 64, 64) float32 to (15, size, size) uint8; larger ones are cubic, as the authors' are."""
    if size != heatmap.shape[1]:
        heatmap = np.stack([cv2.resize(x, (size, size), interpolation=cv2.INTER_CUBIC) for x in heatmap])
    return (heatmap.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def write_heatmaps(network: Encoder, root: Path, person: str, out_dir: Path) -> None:
    """Write the three npz files of a person, with the encoder's heatmaps; kept where they are of the same making."""
    frames = FrameDataset(root, person, "all")
    batch_size = network.image.shape[0]
    made_from = {"boundary": celebv.FROM_ENCODER, "weights": file_digest(network.trained.weights)}
    if network.trained.config.drawing == GAZE:
        made_from["drawing"] = {"name": GAZE}
    if network.trained.config.test.batch_stat:  # then a heatmap depends on the others of its batch
        made_from["batch_statistics_of"] = batch_size
    archives = celebv.describe_archives(root, person, frames.names, out_dir, made_from)
    require_own_names([archives])
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
                face, large = face_picture(image), to_uint8(heatmap, IMAGE_SIZE)
                if index in on_sheet:
                    tiles.append(overlay(face, large))
                arrays = (np.ascontiguousarray(face.transpose(2, 0, 1)), to_uint8(heatmap, HEATMAP_SIZE), large)
                yield frames.names[index], [pack(array) for array in arrays]

    archives.write(samples())
    sheet = out_dir / f"{person}_contact_sheet.png"
    write_image(sheet, contact_sheet(tiles, SHEET_COLUMNS, SHEET_TILE_PX))
    print(f"look at {sheet}: do the lines lie on the faces?")


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_input = "video files and folders of pictures of one person, or a person of CelebV's form"
    parser.add_argument("inputs", nargs="+", type=cli.path, metavar="VIDEO_OR_FOLDER", help=help_input)
    parser.add_argument("--name", required=True, type=cli.folder_name, help="of the person: its folder's")
    help_every = "keep one usable picture out of N: those that follow each other are nearly the same (default 1)"
    parser.add_argument("--every", type=cli.whole(1, 1000), default=1, metavar="N", help=help_every)
    help_data = "the folder that holds the people (default datasets/CelebV)"
    parser.add_argument("--data-dir", type=cli.path, default=Path("datasets/CelebV"), help=help_data)
    cli.add_network_arguments(parser, ("encoder",))
    help_out = "where npz files of the encoder's boundaries go (default datasets/celebv_heatmaps_encoder)"
    parser.add_argument("--out-dir", type=cli.path, default=Path("datasets/celebv_heatmaps_encoder"), help=help_out)
    help_detector = "what finds faces: a Python function, which gives no landmarks (default: MediaPipe's face mesh)"
    parser.add_argument("--detector", type=cli.text, metavar="MODULE:FUNCTION", help=help_detector)
    parser.add_argument("--batch-size", type=cli.batch_size, default=1, help="of the encoder (1)")
    help_workers = "processes that find faces (default: one for each core)"
    parser.add_argument(
        "--num-workers", type=cli.num_workers, default=available_cores(), metavar="N", help=help_workers
    )
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    if args.encoder_param_file and not args.encoder_config:
        parser.error("--encoder-param-file goes with --encoder-config")
    if len(set(map(os.path.realpath, args.inputs))) < len(args.inputs):
        parser.error("the same input is named twice")
    outputs = {"--data-dir": args.data_dir} | ({"--out-dir": args.out_dir} if args.encoder_config else {})
    check_outputs(outputs)
    return args


def main() -> None:
    args = parse_args()
    if args.detector is not None:
        make_finder(args.detector, is_video=False)  # a wrong name is said at once
    network = load_encoder(args) if args.encoder_config else None
    root = args.data_dir
    given = Path(os.path.abspath(args.inputs[0]))  # a person that is a link has the link's name
    if given.is_dir() and given.name in celebv.people_of(given.parent):
        if network is None:
            raise ConfigError(f"{given}: a person already; add --encoder-config to find its boundaries")
        if given.name != args.name:
            raise ConfigError(f"--name {args.name}: {given} is a person of another name; pass that one")
        if len(args.inputs) > 1:
            raise ConfigError(f"{given}: a person already; name it alone")
        root = given.parent
    elif os.path.lexists(root / args.name):  # a link that leads nowhere, too
        raise DataError(f"{root / args.name}: exists already; choose another --name, or remove that folder first")
    else:
        with claimed(root / args.name):  # from the beginning, so that nobody finds out at the end
            inputs = [Pictures(path) for path in args.inputs]
            make_person(inputs, root / args.name, partial(make_finder, args.detector), args.num_workers, args.every)
    if network is not None:
        with locked(args.out_dir):
            write_heatmaps(network, root, args.name, args.out_dir)
        print(f"train with 'boundary: encoder' and 'ref_dir: {args.out_dir}'")


if __name__ == "__main__":
    call_main(main)
