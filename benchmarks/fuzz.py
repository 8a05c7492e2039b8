"""Damage valid inputs at random, and check that scripts end without a traceback, within limits of time and memory.

    python benchmarks/fuzz.py --count 300 --seed 0

Videos, images, configurations, weights, annotation lists and npz files are damaged by flipped bytes, cuts, changed
headers and strange values. A run may end with any exit code that the README documents; what stands under a final name
afterwards must be whole. Prints each run that breaks a rule, and exits with 1 if it prints any.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import imageio_ffmpeg
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from utils.ending import call_main  # noqa: E402

from datasets.images import read_image  # noqa: E402
from utils import cli  # noqa: E402
from utils.errors import DataError  # noqa: E402
from utils.parallel import available_cores  # noqa: E402

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
DEMO = ROOT / "demo/weights"
NETWORKS = ("encoder", "transformer", "decoder")
MAX_SECONDS, MAX_BYTES = 60, int(1.5 * 2**30)
EXIT_CODES = (0, 2, 3, 4, 5, 6)
CODECS = {".mp4": "libx264", ".mkv": "libx264", ".avi": "mpeg4", ".ts": "libx264", ".webm": "libvpx", ".gif": "gif"}
STRANGE = (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\x80", b"\x00", b"\xff")
WORDS = (
    "nan",
    "1e999",
    "-1",
    "99999999999999999999",
    "0",
    "[",
    "{",
    "&a [*a, *a]",
    "\x00",
    "①",
    "../../x",
    "",
    "1",
    "2",
    "64",
    "0.5",
    "true",
    "x",
)


class Run(NamedTuple):
    """How a script ended."""

    kind: str
    number: int
    exit_code: int
    seconds: float
    peak_bytes: int
    errors: str
    faults: list[str]


def make_valid(folder: Path) -> None:
    """Make the valid inputs: videos, images, people with lists and npz files, a result, weights."""

    def run(script: str, *args: object) -> None:
        command = [sys.executable, str(ROOT / script), *map(str, args)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    run("tools/make_synthetic.py", "video", "--person", "Rowan=9", "--frames", 20, "--out-file", "video.mp4")
    for ending, codec in CODECS.items():
        sound = ["-f", "lavfi", "-i", "sine=d=0.8", "-shortest"] if ending in (".mp4", ".mkv") else []
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-y",
            "-v",
            "error",
            "-i",
            "video.mp4",
            *sound,
            "-c:v",
            codec,
            f"whole{ending}",
        ]
        subprocess.run(command, cwd=folder, check=True)
    run("tools/make_synthetic.py", "celebv", "--people", "Rowan=9", "Linnea=29", "--frames", 14, "--expressions")
    subprocess.run(
        ["sh", ROOT / "split_celebv.sh", "datasets/CelebV", "10"], cwd=folder, check=True, capture_output=True
    )
    run("preprocess.py", "--dataset", "CelebV", "--out-dir", "npz")
    picture = ["-i", "datasets/CelebV/Rowan/Image/000003.jpg"]
    for name in ("whole.png", "whole.jpg", "whole.tif", "whole.webp"):
        subprocess.run([FFMPEG, "-y", "-v", "error", *picture, name], cwd=folder, check=True)
    frames = [Image.open(folder / "datasets/CelebV/Rowan/Image" / f"{number:06d}.jpg") for number in range(1, 7)]
    for name in ("film.webp",):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:], duration=40)
    shutil.copytree(DEMO, folder / "weights")
    run(
        "test_reenactment.py",
        *networks(folder / "weights"),
        "--data-dir",
        "datasets/CelebV",
        "--out-dir",
        "results",
        "-n",
        3,
    )
    (folder / "decoder.yaml").write_text(
        "trg_celeb_name: Linnea\nref_dir: npz\nmodel: {planes: 4}\n"
        "train: {epochs: 1, batch_size: 4, num_workers: 0, feature_loss: {lambda: 0}}\n"
    )


def networks(weights: Path) -> list[str]:
    """Name the demo's networks in a folder, for a command line."""
    words = []
    for module in NETWORKS:
        words += [f"--{module}-config", str(weights / module / "training_info.yaml")]
        words += [f"--{module}-param-file", str(weights / module / "weights.h5")]
    return words


def damage_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one of several ways."""
    data = bytearray(content)
    way = rng.integers(6)
    if way == 0:  # flipped bytes
        for place in rng.integers(0, len(data), rng.integers(1, 40)):
            data[place] ^= int(rng.integers(1, 256))
    elif way == 1:  # cut
        del data[int(rng.integers(0, len(data))) :]
    elif way == 2:  # unusual numbers in the header
        for place in rng.integers(0, min(len(data), 400), rng.integers(1, 6)):
            strange = STRANGE[rng.integers(len(STRANGE))]
            data[place : place + len(strange)] = strange
    elif way == 3:  # a hole
        first = int(rng.integers(0, len(data)))
        data[first : first + int(rng.integers(1, 4000))] = bytes(1)
    elif way == 4:  # unusual numbers anywhere, as in a container's index
        for place in rng.integers(0, len(data), rng.integers(1, 60)):
            strange = STRANGE[rng.integers(len(STRANGE))]
            data[place : place + len(strange)] = strange
    else:  # a piece moved
        first, length, to = (int(x) for x in rng.integers(0, len(data), 3))
        piece = bytes(data[first : first + length // 8])
        data[to:to] = piece
    return bytes(data)


def damage_text(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a text by flipped bytes or unusual values."""
    if rng.integers(3) == 0:
        return damage_bytes(content, rng)
    text = content.decode()
    for _ in range(int(rng.integers(1, 4))):
        anything, values = r"[^\s:{},]+", r"(?<=: )[^\s:{},]+"
        tokens = [match.span() for match in re.finditer(values if rng.integers(2) else anything, text)]
        first, last = tokens[rng.integers(len(tokens))] if tokens else (0, 0)
        text = text[:first] + WORDS[rng.integers(len(WORDS))] + text[last:]
    return text.encode()


Kind = Callable[[Path, Path, np.random.Generator], list[str]]  # valid and working folder to a command line


def _damaged(source: Path, target: Path, rng: np.random.Generator, damage: Callable = damage_bytes) -> Path:
    content = damage(source.read_bytes(), rng)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def video(valid: Path, work: Path, rng: np.random.Generator) -> list[str]:
    ending = list(CODECS)[rng.integers(len(CODECS))]
    path = _damaged(valid / f"whole{ending}", work / f"input{ending}", rng)
    return ["test_reenactment.py", *networks(valid / "weights"), "--input", str(path), "--video", "out.mp4"]


def picture(valid: Path, work: Path, rng: np.random.Generator) -> list[str]:
    name = ("whole.png", "whole.jpg", "whole.tif", "whole.webp", "film.webp")[rng.integers(5)]
    path = _damaged(valid / name, work / f"pictures/1{Path(name).suffix}", rng)
    if rng.integers(2):  # with a valid one beside it
        shutil.copy(valid / "whole.jpg", work / "pictures/2.jpg")
        path = path.parent
    return ["test_reenactment.py", *networks(valid / "weights"), "--input", str(path), "--video", "out.mp4"]


def configuration(valid: Path, work: Path, rng: np.random.Generator) -> list[str]:
    shutil.copytree(valid / "weights", work / "weights")
    path = work / "weights" / NETWORKS[rng.integers(3)] / "training_info.yaml"
    _damaged(path, path, rng, damage_text)
    return ["test_reenactment.py", *networks(work / "weights"), "--data-dir", str(valid / "datasets/CelebV"), "-n", "2"]


def weights(valid: Path, work: Path, rng: np.random.Generator) -> list[str]:
    shutil.copytree(valid / "weights", work / "weights")
    path = work / "weights" / NETWORKS[rng.integers(3)] / "weights.h5"
    _damaged(path, path, rng)
    return ["test_reenactment.py", *networks(work / "weights"), "--data-dir", str(valid / "datasets/CelebV"), "-n", "2"]


def annotations(valid: Path, work: Path, rng: np.random.Generator) -> list[str]:
    shutil.copytree(valid / "datasets/CelebV", work / "CelebV")
    mode = ("all", "train", "test", "test")[rng.integers(4)]
    path = work / "CelebV/Rowan" / f"{mode}_98pt.txt"
    _damaged(path, path, rng, damage_text)
    return ["test_reenactment.py", *networks(valid / "weights"), "--data-dir", str(work / "CelebV"), "-n", "2"]


def measured(valid: Path, work: Path, rng: np.random.Generator) -> list[str]:
    shutil.copytree(valid / "results/Rowan2Linnea", work / "results")
    (result,) = (work / "results").iterdir()
    shutil.copytree(valid / "datasets", work / "datasets")
    names = ["measured/heatmap.npz", "measured/transformed.npz", "measured/generated.npz"]
    names += ["reenactment.yaml", "reenactment.yaml", "frames.json"]
    path = result / names[rng.integers(len(names))]
    _damaged(path, path, rng, damage_bytes if path.suffix == ".npz" else damage_text)
    return ["evaluate.py", str(result), "--allow-trained"]


def prepared(valid: Path, work: Path, rng: np.random.Generator) -> list[str]:
    shutil.copytree(valid / "npz", work / "npz")
    shutil.copytree(valid / "datasets", work / "datasets")
    path = work / "npz" / ("Linnea_image.npz", "Linnea_heatmap.npz")[rng.integers(2)]
    _damaged(path, path, rng)
    return ["train_decoder.py", "--conf", str(valid / "decoder.yaml")]


KINDS: dict[str, Kind] = {
    kind.__name__: kind for kind in (video, picture, configuration, weights, annotations, measured, prepared)
}


def memory_of_tree(pid: int) -> int:
    """Sum the memory of a process and of all below it, in bytes."""
    total, pids = 0, [pid]
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in Path(f"/proc/{pid}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return total


def run_one(kind: str, number: int, seed: int, valid: Path) -> Run:
    """Damage an input of a kind and run a script on it."""
    rng = np.random.default_rng([seed, number])
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        script, *args = KINDS[kind](valid, work, rng)
        command = [sys.executable, str(ROOT / script), *args]
        begin, peak = time.monotonic(), 0
        with open(work / "stderr", "w+b") as errors:
            process = subprocess.Popen(
                command, cwd=work, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
            while process.poll() is None and time.monotonic() - begin < 2 * MAX_SECONDS:
                peak = max(peak, memory_of_tree(process.pid))
                if peak > 2 * MAX_BYTES:  # stop it before the machine runs out of memory
                    break
                time.sleep(0.05)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            exit_code, seconds = process.wait(), time.monotonic() - begin
            errors.seek(0)
            text = errors.read().decode(errors="replace")
        return Run(kind, number, exit_code, seconds, peak, text, faults_of(work, exit_code, seconds, peak, text))


def faults_of(work: Path, exit_code: int, seconds: float, peak: int, errors: str) -> list[str]:
    """List the rules that a run broke."""
    faults = []
    if exit_code not in EXIT_CODES:
        faults.append(f"exit code {exit_code}")
    if "Traceback" in errors:
        faults.append("a traceback")
    if exit_code and sum("error:" in line for line in errors.splitlines()) != 1:
        faults.append("not one line of error")
    if seconds > MAX_SECONDS:
        faults.append(f"{seconds:.0f} s")
    if peak > MAX_BYTES:
        faults.append(f"{peak / 2**30:.2f} GiB")
    faults += [f"left over: {path.name}" for path in work.rglob(".*") if path.is_dir()]
    results = [path for path in work.glob("reenactment_result/*/*") if path.is_dir()]
    outputs = [path for path in (work / "out.mp4",) if path.exists()]
    if exit_code and (results or outputs):
        faults.append("something under a final name, though it failed")
    faults += [f"{path.name} is not whole" for path in results if not (path / "index.html").exists()]
    for path in outputs:
        frames = sum(1 for _ in results[0].glob("result/*.png")) if results else 0
        try:
            found = imageio_ffmpeg.count_frames_and_secs(str(path))[0]
        except RuntimeError:
            found = -1
        if found != frames:
            faults.append("out.mp4 has other frames than the result")
    for path in work.glob("reenactment_result/*/*/result/*.png"):
        try:
            read_image(path)
        except DataError as error:
            faults.append(str(error))
    return faults


def fuzz(numbers: list[int], seed: int, valid: Path, num_workers: int) -> list[Run]:
    """Run all cases, cycling through the kinds."""
    kinds = list(KINDS)
    with ThreadPoolExecutor(num_workers) as pool:
        runs = pool.map(lambda number: run_one(kinds[number % len(kinds)], number, seed, valid), numbers)
        done = []
        for run in runs:
            done.append(run)
            if run.faults:
                last = (run.errors.strip().splitlines() or [""])[-1]
                print(f"{run.kind} {run.number}: {'; '.join(run.faults)}: {last}", flush=True)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=cli.count, default=300, help="runs (300)")
    parser.add_argument("--first", type=cli.whole(0, cli.MAX_COUNT), default=0, help="number of the first (0)")
    parser.add_argument("--seed", type=cli.seed, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        valid = Path(name)
        make_valid(valid)
        runs = fuzz(list(range(args.first, args.first + args.count)), args.seed, valid, available_cores())
    for kind in KINDS:
        of_kind = [run for run in runs if run.kind == kind]
        if of_kind:
            codes = Counter(run.exit_code for run in of_kind)
            print(
                f"{kind}: {len(of_kind)} runs, exit codes {dict(sorted(codes.items()))}, at most "
                f"{max(run.seconds for run in of_kind):.1f} s, {max(run.peak_bytes for run in of_kind) / 2**30:.2f} GiB"
            )
    num_faulty = sum(bool(run.faults) for run in runs)
    print(f"seed {args.seed}: {len(runs)} runs, {num_faulty} break a rule")
    sys.exit(1 if num_faulty else 0)


if __name__ == "__main__":
    call_main(main)
