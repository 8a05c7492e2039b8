"""Crop faces and draw boundary heatmaps ahead of training, from WFLW or CelebV.

python preprocess.py --dataset datasets --mode train --out-dir datasets/WFLW_heatmaps
python preprocess.py --dataset CelebV --out-dir datasets/celebv_heatmaps_GT
"""

from __future__ import annotations

import argparse
import csv
import io
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets import celebv, wflw
from datasets.boundary import DrawingStyle
from datasets.images import write_image
from datasets.prepared import PreparedWriter
from utils import cli
from utils.errors import DataError, run
from utils.files import atomic_path, write_text


def open_writers(stack: ExitStack, paths: list[Path]) -> list[PreparedWriter]:
    """Writers whose files get their final names when the stack closes without an error."""
    writers = []
    for path in paths:
        writer = PreparedWriter(stack.enter_context(atomic_path(path)))
        stack.callback(writer.close)
        writers.append(writer)
    return writers


def preprocess_wflw(root: Path, mode: str, out_dir: Path, seed: int, style: DrawingStyle, save_pictures: bool) -> None:
    faces = wflw.prepare_faces(root, mode, seed, style)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["saved_name", "real_name"])
    with ExitStack() as stack:
        paths = [out_dir / f"WFLW_cropped_image_{mode}.npz", out_dir / f"WFLW_heatmap_{mode}.npz"]
        images, heatmaps = open_writers(stack, paths)
        for face in tqdm(faces, desc=f"WFLW {mode}", unit="face", disable=None):
            images.add(face.saved_name, face.image)
            heatmaps.add(face.saved_name, face.heatmap)
            rows.writerow([face.saved_name, face.real_name])
            if save_pictures:
                save_boundary_picture(out_dir / "boundary_image" / face.saved_name, face.image, face.boundaries)
    write_text(out_dir / f"{mode}_data.csv", table.getvalue())
    print(f"{out_dir}: WFLW {mode}")


def preprocess_celebv(root: Path, person: str, out_dir: Path, style: DrawingStyle, save_pictures: bool) -> None:
    frames = celebv.prepare_person(root, person, style)
    with ExitStack() as stack:
        writers = open_writers(stack, [out_dir / f"{person}_{part}.npz" for part in celebv.SHAPES])
        for name, arrays in tqdm(frames, desc=person, unit="frame", disable=None):
            for writer, array in zip(writers, arrays):
                writer.add(name, array)
            if save_pictures:
                image, _, boundaries = arrays
                save_boundary_picture(out_dir / "boundary_image" / person / f"{Path(name).stem}.png", image, boundaries)
    print(f"{out_dir}: {person}")


def save_boundary_picture(path: Path, image: np.ndarray, boundaries: np.ndarray) -> None:
    """The face beside its boundaries."""
    lines = np.repeat(boundaries.max(0)[..., None], 3, axis=2)
    write_image(path, np.hstack([image.transpose(1, 2, 0), lines]))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_dataset = "WFLW, CelebV, or the folder that WFLW is unpacked in"
    parser.add_argument("--dataset", required=True, metavar="WFLW|CelebV|DIR", help=help_dataset)
    parser.add_argument("--src-dir", type=Path, default=Path("datasets"), help="where the data sets are unpacked")
    parser.add_argument("--out-dir", type=Path, required=True, help="where the npz files go")
    parser.add_argument("--mode", choices=wflw.MODES, default="train", help="WFLW: which list (default train)")
    parser.add_argument("--celeb-name-list", nargs="+", metavar="NAME", help="CelebV: people (default everyone found)")
    parser.add_argument("--seed", type=cli.non_negative_int, default=42, help="WFLW: of the crop margins")
    parser.add_argument("--save-boundary-image", action="store_true", help="also write pictures to look at")
    args = parser.parse_args()
    if args.celeb_name_list and args.dataset != "CelebV":
        parser.error("--celeb-name-list goes with --dataset CelebV")
    return args


def main() -> None:
    args = parse_args()
    style = DrawingStyle()
    if args.dataset == "CelebV":
        root = args.src_dir / "CelebV"
        for person in args.celeb_name_list or celebv.find_people(root):
            preprocess_celebv(root, person, args.out_dir, style, args.save_boundary_image)
        return
    root = args.src_dir if args.dataset == "WFLW" else Path(args.dataset)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; --dataset takes WFLW, CelebV, or the folder that WFLW is unpacked in")
    preprocess_wflw(root, args.mode, args.out_dir, args.seed, style, args.save_boundary_image)


if __name__ == "__main__":
    run(main)
