"""Speed and memory of preparing and feeding data, against a plain implementation of the same work.

    python benchmarks/data.py                    # everything, on synthetic frames
    python benchmarks/data.py --memory 200 2000  # peak memory of preprocessing at these numbers of images

The plain implementation is one process that draws both sizes of a heatmap separately, computes in float64, keeps all
arrays and writes them with np.savez_compressed at the end. Before it is timed, its results are compared with ours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from datasets.batches import Batches  # noqa: E402
from datasets.boundary import BOUNDARY_PARTS  # noqa: E402
from datasets.celebv import HEATMAP, IMAGE, RESIZED_HEATMAP, prepared_path, read_person  # noqa: E402
from datasets.samples import DrawnDataset  # noqa: E402
from utils import cli  # noqa: E402
from utils.parallel import available_cores  # noqa: E402

PERSON = "Ada"
LOADERS = {"decoder": (IMAGE, HEATMAP, RESIZED_HEATMAP), "transformer": (HEATMAP,)}
BATCH_SIZE = 32


# The plain implementation


def plain_boundaries(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Draw landmarks as (15, size, size) uint8."""
    maps = []
    for part in BOUNDARY_PARTS.values():
        canvas = np.zeros((256, 256), np.uint8)
        for start, end in zip(part[:-1], part[1:]):
            first, second = (tuple(int(value) for value in landmarks[k]) for k in (start, end))
            cv2.line(canvas, first, second, 255, 3)
        canvas = cv2.GaussianBlur(canvas, (5, 5), 3)
        maps.append(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_LINEAR))
    return np.stack(maps)


def plain_arrays(root: Path, name: str, landmarks: np.ndarray, parts: tuple[str, ...]) -> Iterator[np.ndarray]:
    """Return the uint8 arrays of a sample."""
    for part in parts:
        if part == IMAGE:
            with Image.open(root / PERSON / "Image" / name) as image:
                yield np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        else:
            yield plain_boundaries(landmarks, 64 if part == HEATMAP else 256)


def plain_floats(array: np.ndarray) -> np.ndarray:
    """Convert to float64 in the networks' range."""
    return array / 127.5 - 1 if array.shape[0] == 3 else array / 255.0


def plain_preprocess(root: Path, out_dir: Path) -> None:
    """Prepare a person in one process, with everything in memory."""
    names, landmarks, _ = read_person(root, PERSON, "all")
    parts = LOADERS["decoder"]
    kept: dict[str, dict[str, np.ndarray]] = {part: {} for part in parts}
    for name, points in zip(names, landmarks):
        for part, array in zip(parts, plain_arrays(root, name, points, parts)):
            kept[part][name] = array
    out_dir.mkdir(parents=True)
    for part in parts:
        np.savez_compressed(prepared_path(out_dir, PERSON, part), **kept[part])


def plain_batches(root: Path, parts: tuple[str, ...], ref_dir: Path | None) -> Callable[[int], tuple[np.ndarray, ...]]:
    """Return a function from a batch's number to its float32 arrays; samples are in the list's order."""
    names, landmarks, _ = read_person(root, PERSON, "all")
    files = {part: np.load(prepared_path(ref_dir, PERSON, part)) for part in parts} if ref_dir else {}

    def sample(index: int) -> list[np.ndarray]:
        name = names[index]
        prepared = (file[name] for file in files.values())
        arrays = prepared if files else plain_arrays(root, name, landmarks[index], parts)
        return [plain_floats(array) for array in arrays]

    def batch(number: int) -> tuple[np.ndarray, ...]:
        indices = [(number * BATCH_SIZE + row) % len(names) for row in range(BATCH_SIZE)]
        return tuple(np.stack(part).astype(np.float32) for part in zip(*map(sample, indices)))

    return batch


# Measuring


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - start


def preprocess_command(data_dir: Path, out_dir: Path) -> list[str]:
    script = str(ROOT / "preprocess.py")
    return [sys.executable, script, "--dataset", "CelebV", "--src-dir", str(data_dir), "--out-dir", str(out_dir)]


def measure_preprocessing(data_dir: Path, work: Path, count: int) -> dict[str, float]:
    """Time whole commands, from start to the last file's final name."""
    plain_dir, our_dir = work / "plain", work / "ours"
    plain = seconds_of([sys.executable, __file__, "--plain-preprocess", str(data_dir / "CelebV"), str(plain_dir)])
    ours = seconds_of(preprocess_command(data_dir, our_dir))
    for part in LOADERS["decoder"]:
        first, second = (np.load(prepared_path(folder, PERSON, part)) for folder in (plain_dir, our_dir))
        assert first.files == second.files, part
        assert all(np.array_equal(first[name], second[name]) for name in first.files[:50]), part
    return {"plain": count / plain, "ours": count / ours, "ratio": plain / ours}


def measure_loader(root: Path, parts: tuple[str, ...], ref_dir: Path | None, num_workers: int) -> dict[str, float]:
    """Measure samples per second after a warm-up."""
    dataset = DrawnDataset(root, PERSON, "all", parts, ref_dir or "")
    batches = Batches(dataset, BATCH_SIZE, seed=0, shuffle=False, num_workers=num_workers)
    plain = plain_batches(root, parts, ref_dir)
    for ours, theirs in zip(batches[0], plain(0)):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    per_batch = 1.0 if len(parts) > 1 else 0.1  # approximate seconds of the plain loader
    num_plain = max(int(5 / per_batch), 4)
    for number in range(1, 8):  # the first use of memory is slow
        batches[number]
    speeds = {}
    for name, get, first, count in (("plain", plain, 1, num_plain), ("ours", batches.__getitem__, 8, 8 * num_plain)):
        start = time.perf_counter()
        for number in range(first, first + count):
            get(number)
        speeds[name] = count * BATCH_SIZE / (time.perf_counter() - start)
    return {**speeds, "ratio": speeds["ours"] / speeds["plain"]}


def peak_memory(command: list[str]) -> float:
    """Measure the peak memory in MiB of a command with all its processes; shared memory counts once."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    peak, ended = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.is_set():
            peak = max(peak, sum(map(proportional_size, family_of(process.pid))))
            ended.wait(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.wait() == 0
    ended.set()
    watcher.join()
    return peak


def family_of(process_id: int) -> list[int]:
    try:
        children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    except OSError:
        return []
    return [process_id, *(member for child in children for member in family_of(int(child)))]


def proportional_size(process_id: int) -> float:
    """Measure MiB, with shared pages divided by the number of processes that share them."""
    try:
        lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def measure_memory(data_dir: Path, work: Path, counts: list[int]) -> dict[int, float]:
    """Measure the peak of preprocessing the first `count` lines of the list."""
    full = data_dir / "CelebV" / PERSON
    lines = (full / "all_98pt.txt").read_text().splitlines(keepends=True)
    peaks = {}
    for count in counts:
        if count > len(lines):
            sys.exit(f"error: {full}: {len(lines)} frames, not {count}; make more with --frames")
        part = work / f"first_{count}"
        folder = part / "CelebV" / PERSON
        folder.mkdir(parents=True)
        (folder / "Image").symlink_to((full / "Image").resolve())
        (folder / "all_98pt.txt").write_text("".join(lines[:count]))
        peaks[count] = peak_memory(preprocess_command(part, part / "out"))
    return peaks


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=cli.count, default=600, help="synthetic frames to make (default 600)")
    help_data = f"use CelebV/{PERSON} in this folder instead of making frames"
    parser.add_argument("--data-dir", type=cli.path, help=help_data)
    parser.add_argument(
        "--num-workers", type=cli.num_workers, default=available_cores(), help="of the loaders (default: cores)"
    )
    parser.add_argument(
        "--memory", type=cli.count, nargs="+", metavar="COUNT", help="only peak memory at these numbers"
    )
    parser.add_argument("--json", type=cli.path, help="also write the results to this file")
    parser.add_argument("--plain-preprocess", nargs=2, type=cli.path, metavar=("ROOT", "OUT"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.plain_preprocess:
        plain_preprocess(*args.plain_preprocess)
        return
    results: dict[str, object] = {"cores": available_cores(), "num_workers": args.num_workers}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        data_dir = args.data_dir or work
        if args.data_dir is None:
            make = [sys.executable, str(ROOT / "tools/make_synthetic.py"), "celebv", "--people", f"{PERSON}=3"]
            frames = max(args.frames, *(args.memory or [0]))
            subprocess.run([*make, "--frames", str(frames), "--out-dir", str(work / "CelebV")], check=True)
        root = data_dir / "CelebV"
        if args.memory:
            results["peak_memory_mib"] = measure_memory(data_dir, work, args.memory)
            for count, peak in results["peak_memory_mib"].items():
                print(f"preprocessing {count:6d} images: {peak:7.1f} MiB at most, all processes together")
        else:
            count = len(read_person(root, PERSON, "all"))
            print(f"{available_cores()} cores, {count} images; {'plain':>31} {'ours':>9} {'ratio':>7}")
            rows = {"preprocessing (images/s)": measure_preprocessing(data_dir, work, count)}
            for module, parts in LOADERS.items():
                for kind, ref_dir in (("drawn", None), ("prepared", work / "ours")):
                    name = f"{module}'s batches, {kind} (samples/s)"
                    rows[name] = measure_loader(root, parts, ref_dir, args.num_workers)
            for name, row in rows.items():
                print(f"{name:45} {row['plain']:9.1f} {row['ours']:9.1f} {row['ratio']:6.1f}x")
            results.update(rows)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
