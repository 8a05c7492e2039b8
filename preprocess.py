"""Crop faces and draw boundary heatmaps ahead of training, from WFLW or CelebV; or check a data set.

python preprocess.py --dataset datasets --mode train --out-dir datasets/WFLW_heatmaps
python preprocess.py --dataset CelebV --out-dir datasets/celebv_heatmaps_GT
python preprocess.py --dataset CelebV --check --report check.html
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse
import csv
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from config.common import DRAWINGS
from datasets import celebv, wflw
from datasets.boundary import DrawingStyle
from datasets.check import check_people, check_wflw
from datasets.check_page import check_page, summary
from datasets.images import write_image
from datasets.prepared import Archives, Packed, images_digest, pack, require_own_names
from datasets.samples import DrawnDataset
from utils import cli
from utils.ending import call_main
from utils.errors import DataError
from utils.files import check_outputs, file_digest, locked, write_text
from utils.parallel import WorkerPool, available_cores

SAMPLES_AT_ONCE = 8  # handed to a worker together


class Job(NamedTuple):
    """Describe archives and how a sample of them is made."""

    archives: Archives
    prepare: Callable[[int], tuple[str, list[Packed]]]  # from an index to a name and an array for each npz file


def wflw_job(root: Path, mode: str, out_dir: Path, seed: int, style: DrawingStyle, picture_dir: Path | None) -> Job:
    """Read a list of WFLW, and say what is made of it."""
    faces = wflw.WFLWFaces(root, mode, seed, style)

    def prepare(index: int) -> tuple[str, list[Packed]]:
        name, face = faces.saved_name(index), faces[index]
        if picture_dir is not None:
            save_boundary_picture(picture_dir / name, face.image, face.large_heatmap)
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
        "pictures": images_digest(root / "WFLW_images", faces.names),
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


def celebv_job(root: Path, person: str, out_dir: Path, style: DrawingStyle, picture_dir: Path | None) -> Job:
    """Read the list of a person, and say what is made of it."""
    frames = DrawnDataset(root, person, "all", tuple(celebv.SHAPES), style=style)
    stems = Counter(Path(name).stem for name in frames.names)

    def prepare(index: int) -> tuple[str, list[Packed]]:
        name, arrays = frames.names[index], frames[index]
        if picture_dir is not None:
            image, _, large_heatmap = arrays
            # a.jpg and a.png are two pictures
            plain = Path(name).stem if stems[Path(name).stem] == 1 else name.replace("/", "_")
            save_boundary_picture(picture_dir / person / f"{plain}.png", image, large_heatmap)
        return name, [pack(array) for array in arrays]

    made_from = {"boundary": celebv.FROM_LANDMARKS, "drawing": frames.style.record()}
    return Job(celebv.describe_archives(root, person, frames.names, out_dir, made_from), prepare)


def save_boundary_picture(path: Path, image: np.ndarray, large_heatmap: np.ndarray) -> None:
    """Write a face (3, 256, 256) uint8 next to its boundaries (15, 256, 256) uint8."""
    lines = np.repeat(large_heatmap.max(0)[..., None], 3, axis=2)
    write_image(path, np.hstack([image.transpose(1, 2, 0), lines]))


def execute(job: Job, num_workers: int, why_anyway: str) -> None:
    """Write the files of a job, unless they are there, complete and made from the same."""
    archives = job.archives
    if archives.must_be_written(why_anyway):
        with WorkerPool(job.prepare, min(num_workers, archives.count)) as pool:
            samples = pool.map(range(archives.count), SAMPLES_AT_ONCE)
            archives.write(tqdm(samples, desc=archives.name, total=archives.count, unit="image", disable=None))


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_dataset = "WFLW, CelebV, or the folder that WFLW is unpacked in"
    parser.add_argument("--dataset", type=cli.text, required=True, metavar="WFLW|CelebV|DIR", help=help_dataset)
    parser.add_argument("--src-dir", type=cli.path, default=Path("datasets"), help="where the data sets are unpacked")
    parser.add_argument("--out-dir", type=cli.path, help="where the npz files go")
    parser.add_argument("--mode", choices=wflw.MODES, help="WFLW: which list (default train; --check: both)")
    help_people = "CelebV: people (default everyone found)"
    parser.add_argument("--celeb-name-list", nargs="+", type=cli.folder_name, metavar="NAME", help=help_people)
    help_drawing = "how boundaries are drawn; gaze shows pupils (default: as the data's folders say)"
    parser.add_argument("--drawing", choices=DRAWINGS, help=help_drawing)
    parser.add_argument("--seed", type=cli.seed, default=42, help="WFLW: of the crop margins")
    parser.add_argument("--save-boundary-image", action="store_true", help="also write pictures to look at")
    help_workers = "processes that work side by side (default: one for each core)"
    parser.add_argument(
        "--num-workers", type=cli.num_workers, default=available_cores(), metavar="N", help=help_workers
    )
    help_check = "write nothing: look at every line and every image and say what is wrong"
    parser.add_argument("--check", action="store_true", help=help_check)
    help_report = "with --check: also a page with positions of landmarks, sample faces and all problems"
    parser.add_argument("--report", type=cli.path, metavar="FILE.html", help=help_report)
    args = parser.parse_args()
    if args.celeb_name_list and args.dataset != "CelebV":
        parser.error("--celeb-name-list goes with --dataset CelebV")
    if args.out_dir is None and not args.check:
        parser.error("--out-dir is needed: the folder that the npz files go to")
    if args.report and not args.check:
        parser.error("--report goes with --check")
    if args.report and args.report.suffix not in (".html", ".htm"):
        parser.error(f"--report {args.report}: must end in .html")
    check_outputs({"--out-dir": None if args.check else args.out_dir, "--report": args.report})
    return args


def make_jobs(root: Path, args: argparse.Namespace) -> list[Job]:
    """Make the jobs that were asked for, with lists read and checked."""
    picture_dir = args.out_dir / "boundary_image" if args.save_boundary_image else None
    if args.dataset == "CelebV":
        people = args.celeb_name_list or celebv.find_people(root)
        styles = {person: DrawingStyle(name=args.drawing or celebv.drawing_of(root, [person])) for person in people}
        return [celebv_job(root, person, args.out_dir, style, picture_dir) for person, style in styles.items()]
    style = DrawingStyle(name=args.drawing or celebv.drawing_of(root, [wflw.ANNOTATIONS]))
    return [wflw_job(root, args.mode or "train", args.out_dir, args.seed, style, picture_dir)]


def check(root: Path, args: argparse.Namespace) -> None:
    """Print what is wrong with a data set.

    Raises:
        DataError: training would fail on it.
    """
    if args.dataset == "CelebV":
        reports = check_people(root, args.celeb_name_list, args.num_workers)
    else:
        reports = check_wflw(root, [args.mode] if args.mode else wflw.MODES, args.num_workers)
    for report in reports:
        print("\n".join(summary(report)))
    if args.report:
        write_text(args.report, check_page(f"Check of {root}", reports))
        print(f"report: {args.report}")
    num_fatal = sum(report.num_fatal for report in reports)
    if num_fatal:
        raise DataError(f"{root}: training would fail on {num_fatal} problems; they are listed above")
    print(f"{root}: nothing that training would fail on")


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
        require_own_names([job.archives for job in jobs])
        for job in jobs:
            why_anyway = "pictures of the boundaries are wanted" if args.save_boundary_image else ""
            execute(job, args.num_workers, why_anyway)


if __name__ == "__main__":
    call_main(main)
