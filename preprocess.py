"""Crop faces and draw boundary heatmaps of WFLW or CelebV before training, or check a data set.

python preprocess.py --dataset datasets --mode train --out-dir datasets/WFLW_heatmaps
python preprocess.py --dataset CelebV --out-dir datasets/celebv_heatmaps_GT
python preprocess.py --dataset CelebV --check
"""

from __future__ import annotations
from utils.ending import call_main

import argparse
import csv
import io
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from config import with_values
from config.common import DRAWINGS, Preprocess
from datasets import celebv, wflw
from datasets.boundary import HEATMAP_SIZE, DrawingStyle
from datasets.check import check_people, check_wflw
from datasets.images import write_image
from datasets.prepared import Archives, Packed, images_digest, pack
from datasets.samples import DrawnDataset
from utils import cli
from utils.errors import DataError
from utils.files import check_outputs, file_digest, locked
from utils.parallel import WorkerPool, available_cores

SAMPLES_AT_ONCE = 8  # samples per task of a worker
OUT_DIRS = {"CelebV": "datasets/celebv_heatmaps_GT", "WFLW": "datasets/WFLW_heatmaps"}


class Job(NamedTuple):
    """Archives, and the function that computes their samples."""

    archives: Archives
    prepare: Callable[[int], tuple[str, list[Packed]]]  # from an index to a name and an array for each npz file


def wflw_job(root: Path, mode: str, out_dir: Path, seed: int, style: DrawingStyle, image_dir: Path | None) -> Job:
    """Return the job for a list of WFLW."""
    faces = wflw.WFLWFaces(root, mode, seed, style)

    def prepare(index: int) -> tuple[str, list[Packed]]:
        name, face = faces.saved_name(index), faces[index]
        if image_dir is not None:
            save_boundary_image(image_dir / name, face.image, face.large_heatmap)
        return name, [pack(face.image), pack(face.heatmap), pack(face.landmarks.astype(np.float32))]

    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["saved_name", "real_name"])
    rows.writerows((faces.saved_name(index), name) for index, name in enumerate(faces.names))
    made_from = {
        "boundary": celebv.FROM_LANDMARKS,
        "drawing": faces.style.record(),
        "seed": seed,
        "list": file_digest(faces.list),
        "images": images_digest(root / "WFLW_images", faces.names),
    }
    archives = Archives(
        name=f"WFLW {mode}",
        count=len(faces),
        record=wflw.record_path(out_dir, mode),
        made_from=made_from,
        paths=list(wflw.prepared_paths(out_dir, mode)),
        texts={out_dir / f"{mode}_data.csv": table.getvalue()},
    )
    return Job(archives, prepare)


def celebv_job(root: Path, person: str, out_dir: Path, style: DrawingStyle, image_dir: Path | None) -> Job:
    """Return the job for a person."""
    frames = DrawnDataset(root, person, "all", tuple(celebv.SHAPES), style=style)
    stems = Counter(Path(name).stem for name in frames.names)

    def prepare(index: int) -> tuple[str, list[Packed]]:
        name, arrays = frames.names[index], frames[index]
        if image_dir is not None:
            image, _, large_heatmap = arrays
            # a.jpg and a.png are different images
            plain = Path(name).stem if stems[Path(name).stem] == 1 else name.replace("/", "_")
            save_boundary_image(image_dir / person / f"{plain}.png", image, large_heatmap)
        return name, [pack(array) for array in arrays]

    made_from = {"boundary": celebv.FROM_LANDMARKS, "drawing": frames.style.record()}
    return Job(celebv.describe_archives(root, person, frames.names, out_dir, made_from), prepare)


def save_boundary_image(path: Path, image: np.ndarray, large_heatmap: np.ndarray) -> None:
    """Write a face (3, 256, 256) uint8 beside its boundaries (15, 256, 256) uint8."""
    boundaries = np.repeat(large_heatmap.max(0)[..., None], 3, axis=2)
    write_image(path, np.hstack([image.transpose(1, 2, 0), boundaries]))


def execute(job: Job, num_workers: int, why_anyway: str) -> None:
    """Write the files of a job, unless they are up to date."""
    archives = job.archives
    if archives.must_be_written(why_anyway):
        with WorkerPool(job.prepare, min(num_workers, archives.count)) as pool:
            samples = pool.map(range(archives.count), SAMPLES_AT_ONCE)
            archives.write(tqdm(samples, desc=archives.name, total=archives.count, unit="image", disable=None))


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_dataset = "WFLW, CelebV, or the folder of an unpacked WFLW (default CelebV)"
    parser.add_argument("--dataset", type=cli.text, default="CelebV", metavar="WFLW|CelebV|DIR", help=help_dataset)
    parser.add_argument("--src-dir", type=cli.path, default=Path("datasets"), help="folder of the unpacked data sets")
    help_out = f"folder of the npz files (default {OUT_DIRS['CelebV']}, for WFLW {OUT_DIRS['WFLW']})"
    parser.add_argument("--out-dir", type=cli.path, help=help_out)
    parser.add_argument("--mode", choices=wflw.MODES, help="WFLW: list (default train; with --check both)")
    help_people = "CelebV: people (default: all)"
    parser.add_argument("--celeb-name-list", nargs="+", type=cli.folder_name, metavar="NAME", help=help_people)
    help_drawing = "drawing style; gaze shows pupils (default: the style of the data's folders)"
    parser.add_argument("--drawing", choices=DRAWINGS, help=help_drawing)
    help_size = "the networks' size; only 64 is possible"
    parser.add_argument("--resize-size", type=int, choices=[HEATMAP_SIZE], default=HEATMAP_SIZE, help=help_size)
    help_style = "if not the default, train with this value of preprocess"
    for key, default in Preprocess().options().items():
        words = f"{key.replace('_', ' ')} ({default:g}); {help_style}"
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(default), default=default, help=words)
    parser.add_argument("--seed", type=cli.seed, default=42, help="WFLW: seed of the crop margins")
    parser.add_argument("--save-boundary-image", action="store_true", help="also write images to look at")
    help_workers = "number of processes (default: number of cores)"
    parser.add_argument(
        "--num-workers", type=cli.num_workers, default=available_cores(), metavar="N", help=help_workers
    )
    help_check = "only examine every line and every image, and print problems"
    parser.add_argument("--check", action="store_true", help=help_check)
    args = parser.parse_args()
    if args.celeb_name_list and args.dataset != "CelebV":
        parser.error("--celeb-name-list requires --dataset CelebV")
    if args.out_dir is None:
        args.out_dir = Path(OUT_DIRS["CelebV" if args.dataset == "CelebV" else "WFLW"])
    check_outputs({"--out-dir": None if args.check else args.out_dir})
    return args


def make_jobs(root: Path, args: argparse.Namespace) -> list[Job]:
    """Return the requested jobs."""
    image_dir = args.out_dir / "boundary_image" if args.save_boundary_image else None
    drawing = with_values(Preprocess(), {key: getattr(args, key) for key in Preprocess().options()}, "command line")
    style = partial(DrawingStyle, **drawing.options())
    if args.dataset == "CelebV":
        people = args.celeb_name_list or celebv.find_people(root)
        names = {person: args.drawing or celebv.drawing_of(root, [person]) for person in people}
        return [celebv_job(root, person, args.out_dir, style(name=name), image_dir) for person, name in names.items()]
    name = args.drawing or celebv.drawing_of(root, [wflw.ANNOTATIONS])
    return [wflw_job(root, args.mode or "train", args.out_dir, args.seed, style(name=name), image_dir)]


def check(root: Path, args: argparse.Namespace) -> None:
    """Print the problems of a data set. Raises DataError if training would fail on some."""
    if args.dataset == "CelebV":
        reports = check_people(root, args.celeb_name_list, args.num_workers)
    else:
        reports = check_wflw(root, [args.mode] if args.mode else wflw.MODES, args.num_workers)
    for report in reports:
        print("\n".join(report.lines()))
    num_fatal = sum(report.num_fatal for report in reports)
    if num_fatal:
        raise DataError(f"{root}: training would fail on {num_fatal} problems, listed above")
    print(f"{root}: no problems on which training would fail")


def main() -> None:
    args = parse_args()
    if args.dataset == "CelebV":
        root = args.src_dir / "CelebV"
    else:
        root = args.src_dir if args.dataset == "WFLW" else Path(args.dataset)
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; --dataset takes WFLW, CelebV, or the folder of an unpacked WFLW")
    if args.check:
        check(root, args)
        return
    jobs = make_jobs(root, args)
    with locked(args.out_dir):
        for job in jobs:
            why_anyway = "boundary images are requested" if args.save_boundary_image else ""
            execute(job, args.num_workers, why_anyway)


if __name__ == "__main__":
    call_main(main)
