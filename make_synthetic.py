"""Make data sets of synthetic people, in the form of CelebV and of WFLW, and a video of one.

python make_synthetic.py celebv --people Rowan=9 Linnea=29 --frames 600
python make_synthetic.py crowd --people 100 --frames 120
python make_synthetic.py layout --frames 2400
python make_synthetic.py wflw --train-faces 1000 --test-faces 100
python make_synthetic.py sheet --out-file people.png
python make_synthetic.py video --person Mira=41 --frames 200 --out-file mira.mp4
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from config.common import GAZE
from datasets.annotations import format_line
from datasets.celebv import PERSON_FILE
from datasets.crop import Square
from datasets.images import write_image
from datasets.panels import generated_mark
from datasets.wflw import ANNOTATIONS, list_path
from synthetic.painter import render, render_cutout, textures_of
from synthetic.people import (
    EXPRESSION_FILE,
    Expression,
    Habit,
    Identity,
    expression_track,
    identity_seed,
    layout_identity,
    random_expression,
    random_identity,
    read_habit,
    save_expressions,
    varied_identity,
    wide_expression,
)
from utils import cli
from utils.ending import call_main
from utils.errors import ConfigError, DataError
from utils.files import check_outputs, write_text, write_yaml
from utils.video import open_video

MAX_FRAMES = 100_000  # a person, or faces of a list
MAX_CROWD, MAX_CROWD_FRAMES = 1000, 1000
CROWD, CROWD_SEED = "Crowd", 700_000  # the seeds of nobody else
CROWD_HABITS = {"yaw": (-12, 12), "mouth_open": (0, 0.6), "smile": (-0.3, 0.8), "brow_raise": (-0.5, 0.7)}
LAYOUT = "Layout"
MARKER_FILE = "synthetic.txt"  # tells our own folders from real people's, which are never written into


def claim(folder: Path) -> None:
    """Make a folder of synthetic data, or take one that this script made before.

    Raises:
        DataError: the folder holds something else.
    """
    # what a system leaves in folders, such as .DS_Store, is nobody's data
    holds_some = folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir())
    if holds_some and not (folder / MARKER_FILE).exists():
        raise DataError(f"{folder}: holds data that is not synthetic; choose another name or --out-dir")
    write_text(folder / MARKER_FILE, "Synthetic people, made by make_synthetic.py.\n")


def write_frames(folder: Path, frames: Iterable[tuple[Identity, np.ndarray]], count: int) -> None:
    """Write Image/%06d.jpg and all_98pt.txt of a folder of CelebV's form.

    Args:
        frames: who is painted in each, with which expression (12,).
    """
    claim(folder)
    # an earlier, longer run would leave frames without a line, and lists of frames that changed
    shutil.rmtree(folder / "Image", ignore_errors=True)
    for stale in ("train_98pt.txt", "test_98pt.txt", EXPRESSION_FILE):
        (folder / stale).unlink(missing_ok=True)
    lines = []
    for index, (who, row) in enumerate(tqdm(frames, desc=folder.name, total=count, unit="frame", disable=None)):
        image, landmarks = render(who, Expression(*row))
        file_name = f"{index + 1:06d}.jpg"
        write_image(folder / "Image" / file_name, image)
        lines.append(format_line(landmarks, file_name))
    write_text(folder / "all_98pt.txt", "\n".join(lines) + "\n")


def make_celebv(
    people: list[tuple[str, int]],
    habits: dict[str, Habit],
    num_frames: int,
    stride: int,
    seed: int,
    out_dir: Path,
    keep_expressions: bool,
) -> None:
    """Make a folder for each person: Image/%06d.jpg and all_98pt.txt. Everybody moves in their own way.

    Args:
        people: names and seeds of their looks.
        habits: by name, of those who have their own.
    """
    for name, who_seed in people:
        who, track_seed = random_identity(who_seed), zlib.crc32(f"{seed} {name}".encode())
        track = expression_track(num_frames * stride, track_seed, habits.get(name, Habit()))[::stride]
        folder = out_dir / name
        write_frames(folder, ((who, row) for row in track), len(track))
        write_yaml(folder / PERSON_FILE, {"drawing": GAZE})
        if keep_expressions:
            save_expressions(folder, track, who_seed)
        print(f"{folder}: {num_frames} frames")


def make_crowd(num_people: int, num_frames: int, stride: int, seed: int, out_dir: Path) -> None:
    """Make one folder with the frames of many people, in turn, for a base that knows faces but nobody's.

    Their looks and habits vary as widely as the painter can, and their eyes wander.
    """

    def frames() -> Iterator[tuple[Identity, np.ndarray]]:
        for number in range(num_people):
            who, rng = varied_identity(CROWD_SEED + number), np.random.default_rng([seed, number])
            habit = Habit(*(float(rng.uniform(low, high)) for low, high in CROWD_HABITS.values()))
            track = expression_track(num_frames * stride, CROWD_SEED + number, habit)[::stride]
            yield from ((who, row) for row in track)

    folder, count = out_dir / CROWD, num_people * num_frames
    write_frames(folder, frames(), count)
    write_yaml(folder / PERSON_FILE, {"drawing": GAZE})
    print(f"{folder}: {count} frames of {num_people} people")


def make_layout(num_frames: int, seed: int, out_dir: Path) -> None:
    """Make one folder with faces of all proportions, poses and expressions, and always the same looks."""
    rng = np.random.default_rng(seed)
    frames = ((layout_identity(seed + number), np.array(wide_expression(rng))) for number in range(num_frames))
    write_frames(out_dir / LAYOUT, frames, num_frames)
    write_yaml(out_dir / LAYOUT / PERSON_FILE, {"drawing": GAZE})
    print(f"{out_dir / LAYOUT}: {num_frames} frames")


def read_people(people: list[str], habits: list[tuple[str, str]]) -> tuple[list[tuple[str, int]], dict[str, Habit]]:
    """Read who is to be painted, and their habits.

    Raises:
        ConfigError: a name, a seed or a habit is wrong.
    """
    try:
        found = [identity_seed(person) for person in people]
        habit_of = {name: read_habit(text) for name, text in habits}
    except ValueError as error:
        raise ConfigError(f"--people, --habit: {error}") from None
    for flag, names in (("--people", [name for name, _ in found]), ("--habit", [name for name, _ in habits])):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ConfigError(f"{flag}: {twice[0]} is named twice; give each its own name")
    strangers = habit_of.keys() - {name for name, _ in found}
    if strangers:
        raise ConfigError(f"--habit {min(strangers)}: not one of --people")
    return found, habit_of


POOL_SIZE = 256  # people of a split; making a person's textures costs more than painting them


def paint_group(
    rng: np.random.Generator, people: list[Identity], host: Identity, forehead: tuple[float, float]
) -> tuple[np.ndarray, list]:
    """Paint people side by side before the host's background, each with landmarks, box and attributes."""
    sizes_px = [int(rng.uniform(200, 360)) for _ in people]
    step_px = int(np.mean(sizes_px) * 0.72)
    height = max(sizes_px) + int(rng.uniform(10, 60))
    group_width = step_px * (len(people) - 1) + sizes_px[-1]
    width = max(group_width, *sizes_px)
    scenery = textures_of(host).background[..., :3]
    picture = cv2.resize(scenery, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    dim, blurred = rng.random() < 0.15, rng.random() < 0.1
    faces = []
    for index, (who, size_px) in enumerate(zip(people, sizes_px)):
        expression = random_expression(rng)
        cutout, landmarks = render_cutout(who, expression)
        scale = size_px / cutout.shape[0]
        cutout = cv2.resize(cutout, (size_px, size_px), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        left, top = min(index * step_px, width - size_px), height - size_px
        target = picture[top:, left : left + size_px]
        target += (cutout[..., :3] - target) * (cutout[..., 3:] / 255)
        landmarks = landmarks * scale + (left, top)
        attributes = (
            int(abs(expression.yaw) > np.deg2rad(20)),  # large pose
            int(expression.mouth_open > 0.6 or expression.smile > 0.7),  # expression
            int(dim),  # illumination
            int(who.eyeliner > 0.5),  # make-up
            0,  # occlusion
            int(blurred),
        )
        faces.append((landmarks, face_box(rng, landmarks, forehead), attributes))
    if dim:
        picture *= rng.uniform(0.55, 0.8)
    if blurred:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 1.6))
    return np.clip(picture, 0, 255).astype(np.uint8), faces


def face_box(rng: np.random.Generator, landmarks: np.ndarray, forehead: tuple[float, float]) -> tuple[int, ...]:
    """Draw a detector's box: from above the brows, by a share of the face's height, to the chin, a little off."""
    (left, top), (right, bottom) = landmarks.min(0), landmarks.max(0)
    width, height = right - left, bottom - top
    low = (left - width * rng.uniform(0, 0.08), top - height * rng.uniform(*forehead))
    high = (right + width * rng.uniform(0, 0.08), bottom + height * rng.uniform(0, 0.08))
    return tuple(int(round(value)) for value in (*low, *high))


def make_wflw(num_faces: dict[str, int], forehead: tuple[float, float], seed: int, out_dir: Path) -> None:
    """Make pictures of one to three people each, and the two lists; nobody is in both."""
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
                picture, faces = paint_group(rng, people, host, forehead)
                name = f"synthetic_{mode}/{len(lines) + 1:06d}.jpg"
                write_image(out_dir / "WFLW_images" / name, picture)
                lines += [format_line(marks, name, (*box, *attributes)) for marks, box, attributes in faces]
                bar.update(count)
        write_text(list_path(out_dir, mode), "\n".join(lines) + "\n")
        print(f"{list_path(out_dir, mode)}: {wanted} faces")
    write_yaml(out_dir / ANNOTATIONS / PERSON_FILE, {"drawing": GAZE})


MAX_TILES = 40  # in a row or a column, of 256 pixels each


def make_sheet(rows: int, columns: int, seed: int, out_file: Path) -> None:
    """Make a picture of many people, each with another expression."""
    rng = np.random.default_rng(seed)
    faces = [render(random_identity(seed + index), random_expression(rng))[0] for index in range(rows * columns)]
    sheet = np.vstack([np.hstack(faces[row * columns : (row + 1) * columns]) for row in range(rows)])
    write_image(out_file, sheet)
    print(out_file)


VIDEO_SIZE = (640, 360)  # width, height in pixels
VIDEO_FPS = 25.0


def moving_head(person: str, num_frames: int, seed: int) -> Iterator[tuple[np.ndarray, Square]]:
    """Paint frames (360, 640, 3) uint8 of a moving head, each with the square of its CelebV-form picture."""
    try:
        name, who_seed = identity_seed(person)
    except ValueError as error:
        raise ConfigError(f"--person {error}") from None
    who = random_identity(who_seed)
    rng = np.random.default_rng([seed, who_seed])
    width, height = VIDEO_SIZE
    room = cv2.resize(rng.integers(70, 170, (4, 6, 3)).astype(np.uint8), VIDEO_SIZE, interpolation=cv2.INTER_CUBIC)
    track = expression_track(num_frames, zlib.crc32(f"{seed} {name}".encode()))
    for time, row in enumerate(track):
        cutout, _ = render_cutout(who, Expression(*row))
        side = int(height * (0.67 + 0.06 * np.sin(time / 40)))
        left, top = int((width - side) * (0.5 + 0.3 * np.sin(time / 25))), height - side
        cutout = cv2.resize(cutout, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        frame = room.copy()
        part = frame[top:, left : left + side].astype(np.float32)
        part += (cutout[..., :3] - part) * (cutout[..., 3:] / 255)
        frame[top:, left : left + side] = part.astype(np.uint8)
        yield frame, Square(left, top, side)


def make_video(person: str, num_frames: int, seed: int, out_file: Path) -> None:
    """Make a video to try prepare_person.py with."""
    if out_file.suffix != ".mp4":
        raise ConfigError(f"--out-file {out_file}: must end in .mp4")
    frames = (frame for frame, _ in moving_head(person, num_frames, seed))
    bar = tqdm(frames, total=num_frames, unit="frame", disable=None)
    with open_video(out_file, VIDEO_SIZE, VIDEO_FPS, generated_mark("a synthetic person")["Comment"]) as video:
        for frame in bar:
            video.write(frame)
    print(f"{out_file}: {num_frames} frames")


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    forms = parser.add_subparsers(dest="form", required=True)
    celebv = forms.add_parser("celebv", help="people with a track of frames each")
    celebv.add_argument("--people", nargs="+", required=True, metavar="NAME[=SEED]", help="who; the seed is the looks")
    celebv.add_argument("--frames", type=cli.whole(1, MAX_FRAMES), default=600, help="frames a person (default 600)")
    help_stride = "film only every Nth frame: more poses in as many frames (default 1, a smooth video)"
    celebv.add_argument("--stride", type=cli.whole(1, 20), default=1, metavar="N", help=help_stride)
    help_habit = "what a person mostly does, as in: --habit Linnea mouth_open=0.7,smile=0.6,brow_raise=0.4,yaw=8"
    celebv.add_argument("--habit", nargs=2, action="append", default=[], metavar=("NAME", "HABIT"), help=help_habit)
    celebv.add_argument("--out-dir", type=cli.path, default=Path("datasets/CelebV"))
    celebv.add_argument(
        "--expressions", action="store_true", help=f"keep the expression vectors beside, as {EXPRESSION_FILE}"
    )
    crowd = forms.add_parser("crowd", help=f"one folder, {CROWD}, of many people whose looks vary widely")
    crowd.add_argument("--people", type=cli.whole(1, MAX_CROWD), default=100, help="how many (default 100)")
    crowd.add_argument("--frames", type=cli.whole(1, MAX_CROWD_FRAMES), default=120, help="of each (default 120)")
    crowd.add_argument("--stride", type=cli.whole(1, 20), default=8, metavar="N", help=help_stride)
    crowd.add_argument("--out-dir", type=cli.path, default=Path("datasets/CelebV"))
    layout = forms.add_parser("layout", help=f"one folder, {LAYOUT}, for a decoder that lays out faces of anybody")
    layout.add_argument("--frames", type=cli.whole(1, MAX_FRAMES), default=2400)
    layout.add_argument("--out-dir", type=cli.path, default=Path("datasets/CelebV"))
    wflw = forms.add_parser("wflw", help="random people and poses, several in a picture")
    wflw.add_argument("--train-faces", type=cli.whole(1, MAX_FRAMES), default=1000)
    wflw.add_argument("--test-faces", type=cli.whole(1, MAX_FRAMES), default=100)
    help_forehead = "how far boxes reach above the brows, as shares of the face's height (default 0.3 0.75)"
    wflw.add_argument(
        "--forehead",
        nargs=2,
        type=cli.number(0, 3),
        default=(0.3, 0.75),
        metavar=("LOW", "HIGH"),
        help=help_forehead,
    )
    wflw.add_argument("--out-dir", type=cli.path, default=Path("datasets"))
    sheet = forms.add_parser("sheet", help="one picture of many people")
    sheet.add_argument("--rows", type=cli.whole(1, MAX_TILES), default=4)
    sheet.add_argument("--columns", type=cli.whole(1, MAX_TILES), default=8)
    sheet.add_argument("--out-file", type=cli.path, default=Path("people.png"))
    video = forms.add_parser("video", help="one person whose head moves about in a larger picture")
    video.add_argument("--person", required=True, metavar="NAME[=SEED]", help="who; the seed is the looks")
    video.add_argument("--frames", type=cli.whole(1, MAX_FRAMES), default=200, help="25 a second (default 200)")
    video.add_argument("--out-file", type=cli.path, default=Path("person.mp4"))
    for form in (celebv, crowd, layout, wflw, sheet, video):
        form.add_argument("--seed", type=cli.seed, default=0, help="of the motion and of random people")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.form == "celebv":
        check_outputs({"--out-dir": args.out_dir})
        people, habits = read_people(args.people, args.habit)
        make_celebv(people, habits, args.frames, args.stride, args.seed, args.out_dir, args.expressions)
    elif args.form == "crowd":
        check_outputs({"--out-dir": args.out_dir})
        make_crowd(args.people, args.frames, args.stride, args.seed, args.out_dir)
    elif args.form == "layout":
        check_outputs({"--out-dir": args.out_dir})
        make_layout(args.frames, args.seed, args.out_dir)
    elif args.form == "wflw":
        check_outputs({"--out-dir": args.out_dir})
        make_wflw({"train": args.train_faces, "test": args.test_faces}, sorted(args.forehead), args.seed, args.out_dir)
    elif args.form == "video":
        check_outputs({"--out-file": args.out_file})
        make_video(args.person, args.frames, args.seed, args.out_file)
    else:
        check_outputs({"--out-file": args.out_file})
        make_sheet(args.rows, args.columns, args.seed, args.out_file)


if __name__ == "__main__":
    call_main(main)
