"""Create data sets of synthetic people in the formats of CelebV and WFLW, and videos of them.

python tools/make_synthetic.py celebv --people Rowan=9 Linnea=29 --frames 600
python tools/make_synthetic.py crowd --people 100 --frames 120
python tools/make_synthetic.py layout --frames 2400
python tools/make_synthetic.py wflw --train-faces 1000 --test-faces 100
python tools/make_synthetic.py video --person Mira=41 --frames 200 --out-file mira.mp4
"""

from __future__ import annotations

import argparse
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.ending import call_main

from config.common import GAZE
from datasets.annotations import format_line
from datasets.celebv import PERSON_FILE
from datasets.images import write_image
from datasets.panels import generated_metadata
from datasets.wflw import ANNOTATIONS, list_path
from synthetic.expressions import (
    EXPRESSION_FILE,
    Expression,
    Habit,
    expression_track,
    random_expression,
    save_expressions,
    wide_expression,
)
from synthetic.moving import VIDEO_FPS, VIDEO_SIZE, moving_head
from synthetic.painter import render, render_cutout, textures_of
from synthetic.people import Identity, identity_seed, layout_identity, random_identity, varied_identity
from utils import cli
from utils.errors import ConfigError, DataError
from utils.files import check_outputs, write_text, write_yaml
from utils.video import open_video

MAX_FRAMES = 100_000
MAX_CROWD, MAX_CROWD_FRAMES = 1000, 1000
CROWD, CROWD_SEED = "Crowd", 700_000  # first seed; no other people have them
CROWD_HABITS = {"yaw": (-12, 12), "mouth_open": (0, 0.6), "smile": (-0.3, 0.8), "brow_raise": (-0.5, 0.7)}
LAYOUT = "Layout"
POOL_SIZE = 256  # people of a split of WFLW; textures take longer than painting
MARKER_FILE = "synthetic.txt"  # marks folders that may be overwritten


def claim(folder: Path) -> None:
    """Create a folder of synthetic data, or reuse one. Raises DataError if it contains other data."""
    # hidden files such as .DS_Store do not count
    is_used = folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir())
    if is_used and not (folder / MARKER_FILE).exists():
        raise DataError(f"{folder}: contains data that are not synthetic; choose another name or --out-dir")
    write_text(folder / MARKER_FILE, "Synthetic people, made by tools/make_synthetic.py.\n")


def write_frames(folder: Path, frames: Iterable[tuple[Identity, np.ndarray]], count: int) -> None:
    """Write Image/%06d.jpg and all_98pt.txt of a person from identities and expressions (12,)."""
    claim(folder)
    # remove frames and lists of an earlier run
    shutil.rmtree(folder / "Image", ignore_errors=True)
    for stale in ("train_98pt.txt", "test_98pt.txt", EXPRESSION_FILE):
        (folder / stale).unlink(missing_ok=True)
    lines = []
    for index, (identity, row) in enumerate(tqdm(frames, desc=folder.name, total=count, unit="frame", disable=None)):
        image, landmarks = render(identity, Expression(*row))
        file_name = f"{index + 1:06d}.jpg"
        write_image(folder / "Image" / file_name, image)
        lines.append(format_line(landmarks, file_name))
    write_text(folder / "all_98pt.txt", "\n".join(lines) + "\n")


def make_celebv(
    people: list[tuple[str, int]], num_frames: int, stride: int, seed: int, out_dir: Path, keep_expressions: bool
) -> None:
    """Create people, names with seeds of their identities, each with its own motion."""
    for name, who_seed in people:
        identity, track_seed = random_identity(who_seed), zlib.crc32(f"{seed} {name}".encode())
        track = expression_track(num_frames * stride, track_seed, Habit())[::stride]
        folder = out_dir / name
        write_frames(folder, ((identity, row) for row in track), len(track))
        write_yaml(folder / PERSON_FILE, {"drawing": GAZE})
        if keep_expressions:
            save_expressions(folder, track, who_seed)
        print(f"{folder}: {num_frames} frames")


def make_crowd(num_people: int, num_frames: int, stride: int, seed: int, out_dir: Path) -> None:
    """Create one folder with frames of many, widely varying people, for weights to fine-tune from."""

    def frames() -> Iterator[tuple[Identity, np.ndarray]]:
        for number in range(num_people):
            identity, rng = varied_identity(CROWD_SEED + number), np.random.default_rng([seed, number])
            habit = Habit(*(float(rng.uniform(low, high)) for low, high in CROWD_HABITS.values()))
            track = expression_track(num_frames * stride, CROWD_SEED + number, habit)[::stride]
            yield from ((identity, row) for row in track)

    folder, count = out_dir / CROWD, num_people * num_frames
    write_frames(folder, frames(), count)
    write_yaml(folder / PERSON_FILE, {"drawing": GAZE})
    print(f"{folder}: {count} frames of {num_people} people")


def make_layout(num_frames: int, seed: int, out_dir: Path) -> None:
    """Create one folder with faces of all proportions, poses and expressions, with one appearance."""
    rng = np.random.default_rng(seed)
    frames = ((layout_identity(seed + number), np.array(wide_expression(rng))) for number in range(num_frames))
    write_frames(out_dir / LAYOUT, frames, num_frames)
    write_yaml(out_dir / LAYOUT / PERSON_FILE, {"drawing": GAZE})
    print(f"{out_dir / LAYOUT}: {num_frames} frames")


def read_people(people: list[str]) -> list[tuple[str, int]]:
    """Parse names and seeds. Raises ConfigError if one is invalid or duplicated."""
    try:
        found = [identity_seed(person) for person in people]
    except ValueError as error:
        raise ConfigError(f"--people: {error}") from None
    if len(dict(found)) < len(found):
        raise ConfigError("--people: a name is duplicated")
    return found


def paint_group(
    rng: np.random.Generator, people: list[Identity], host: Identity, forehead: tuple[float, float]
) -> tuple[np.ndarray, list]:
    """Paint people side by side before a background; return the image, and landmarks, box and attributes of each."""
    sizes_px = [int(rng.uniform(200, 360)) for _ in people]
    step_px = int(np.mean(sizes_px) * 0.72)
    height = max(sizes_px) + int(rng.uniform(10, 60))
    group_width = step_px * (len(people) - 1) + sizes_px[-1]
    width = max(group_width, *sizes_px)
    scenery = textures_of(host).background[..., :3]
    image = cv2.resize(scenery, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    dim, blurred = rng.random() < 0.15, rng.random() < 0.1
    faces = []
    for index, (identity, size_px) in enumerate(zip(people, sizes_px)):
        expression = random_expression(rng)
        cutout, landmarks = render_cutout(identity, expression)
        scale = size_px / cutout.shape[0]
        cutout = cv2.resize(cutout, (size_px, size_px), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        left, top = min(index * step_px, width - size_px), height - size_px
        target = image[top:, left : left + size_px]
        target += (cutout[..., :3] - target) * (cutout[..., 3:] / 255)
        landmarks = landmarks * scale + (left, top)
        attributes = (
            int(abs(expression.yaw) > np.deg2rad(20)),  # large pose
            int(expression.mouth_open > 0.6 or expression.smile > 0.7),  # expression
            int(dim),  # illumination
            int(identity.eyeliner > 0.5),  # make-up
            0,  # occlusion
            int(blurred),
        )
        faces.append((landmarks, face_box(rng, landmarks, forehead), attributes))
    if dim:
        image *= rng.uniform(0.55, 0.8)
    if blurred:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 1.6))
    return np.clip(image, 0, 255).astype(np.uint8), faces


def face_box(rng: np.random.Generator, landmarks: np.ndarray, forehead: tuple[float, float]) -> tuple[int, ...]:
    """Return a box like a detector's, from above the eyebrows to the chin, with random errors."""
    (left, top), (right, bottom) = landmarks.min(0), landmarks.max(0)
    width, height = right - left, bottom - top
    low = (left - width * rng.uniform(0, 0.08), top - height * rng.uniform(*forehead))
    high = (right + width * rng.uniform(0, 0.08), bottom + height * rng.uniform(0, 0.08))
    return tuple(int(round(value)) for value in (*low, *high))


def make_wflw(num_faces: dict[str, int], forehead: tuple[float, float], seed: int, out_dir: Path) -> None:
    """Create images of one to three people, and the two lists, which have no person in common."""
    claim(out_dir / "WFLW_images")
    claim(out_dir / ANNOTATIONS)
    for split, (mode, wanted) in enumerate(num_faces.items()):
        rng = np.random.default_rng([seed, split])
        pool = [random_identity(2 * int(number) + split) for number in rng.integers(0, 1 << 30, POOL_SIZE)]
        shutil.rmtree(out_dir / "WFLW_images" / f"synthetic_{mode}", ignore_errors=True)
        lines = []
        with tqdm(total=wanted, desc=f"WFLW {mode}", unit="face", disable=None) as bar:
            while len(lines) < wanted:
                count = min(int(rng.integers(1, 4)), wanted - len(lines))
                *people, host = (pool[index] for index in rng.integers(0, POOL_SIZE, count + 1))
                image, faces = paint_group(rng, people, host, forehead)
                name = f"synthetic_{mode}/{len(lines) + 1:06d}.jpg"
                write_image(out_dir / "WFLW_images" / name, image)
                lines += [format_line(landmarks, name, (*box, *attributes)) for landmarks, box, attributes in faces]
                bar.update(count)
        write_text(list_path(out_dir, mode), "\n".join(lines) + "\n")
        print(f"{list_path(out_dir, mode)}: {wanted} faces")
    write_yaml(out_dir / ANNOTATIONS / PERSON_FILE, {"drawing": GAZE})


def make_video(person: str, num_frames: int, seed: int, out_file: Path) -> None:
    """Create a video to try prepare_person.py with."""
    frames = (frame for frame, _ in moving_head(person, num_frames, seed))
    bar = tqdm(frames, total=num_frames, unit="frame", disable=None)
    with open_video(out_file, VIDEO_SIZE, VIDEO_FPS, generated_metadata("a synthetic person")["Comment"]) as video:
        for frame in bar:
            video.write(frame)
    print(f"{out_file}: {num_frames} frames")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    forms = parser.add_subparsers(dest="form", required=True)
    celebv = forms.add_parser("celebv", help="people in CelebV's format")
    celebv.add_argument(
        "--people", nargs="+", required=True, metavar="NAME[=SEED]", help="names; the seed is the identity"
    )
    celebv.add_argument("--frames", type=cli.whole(1, MAX_FRAMES), default=600, help="frames per person (default 600)")
    help_stride = "keep every Nth frame, for more different poses (default 1)"
    celebv.add_argument("--stride", type=cli.whole(1, 20), default=1, metavar="N", help=help_stride)
    celebv.add_argument(
        "--expressions", action="store_true", help=f"also write the expression vectors ({EXPRESSION_FILE})"
    )
    crowd = forms.add_parser("crowd", help=f"one folder, {CROWD}, of many different people")
    crowd.add_argument("--people", type=cli.whole(1, MAX_CROWD), default=100, help="number of people (default 100)")
    crowd.add_argument(
        "--frames", type=cli.whole(1, MAX_CROWD_FRAMES), default=120, help="frames of each (default 120)"
    )
    crowd.add_argument("--stride", type=cli.whole(1, 20), default=8, metavar="N", help=help_stride)
    layout = forms.add_parser("layout", help=f"one folder, {LAYOUT}, to train the decoder of films")
    layout.add_argument("--frames", type=cli.whole(1, MAX_FRAMES), default=2400)
    wflw = forms.add_parser("wflw", help="images of several people in WFLW's format")
    wflw.add_argument("--train-faces", type=cli.whole(1, MAX_FRAMES), default=1000)
    wflw.add_argument("--test-faces", type=cli.whole(1, MAX_FRAMES), default=100)
    help_forehead = "extent of boxes above the eyebrows relative to the face's height (default 0.3 0.75)"
    wflw.add_argument(
        "--forehead", nargs=2, type=cli.number(0, 3), default=(0.3, 0.75), metavar=("LOW", "HIGH"), help=help_forehead
    )
    wflw.add_argument("--out-dir", type=cli.path, default=Path("datasets"))
    video = forms.add_parser("video", help="one person with a moving head")
    video.add_argument("--person", required=True, metavar="NAME[=SEED]", help="names; the seed is the identity")
    video.add_argument("--frames", type=cli.whole(1, MAX_FRAMES), default=200, help="frames, at 25 fps (default 200)")
    video.add_argument("--out-file", type=cli.path, default=Path("person.mp4"))
    for form in (celebv, crowd, layout):
        form.add_argument("--out-dir", type=cli.path, default=Path("datasets/CelebV"))
    for form in (celebv, crowd, layout, wflw, video):
        form.add_argument("--seed", type=cli.seed, default=0, help="random seed")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    check_outputs({"--out-file": args.out_file} if args.form == "video" else {"--out-dir": args.out_dir}, ending=".mp4")
    if args.form == "celebv":
        people = read_people(args.people)
        make_celebv(people, args.frames, args.stride, args.seed, args.out_dir, args.expressions)
    elif args.form == "crowd":
        make_crowd(args.people, args.frames, args.stride, args.seed, args.out_dir)
    elif args.form == "layout":
        make_layout(args.frames, args.seed, args.out_dir)
    elif args.form == "wflw":
        make_wflw({"train": args.train_faces, "test": args.test_faces}, sorted(args.forehead), args.seed, args.out_dir)
    else:
        make_video(args.person, args.frames, args.seed, args.out_file)


if __name__ == "__main__":
    call_main(main)
