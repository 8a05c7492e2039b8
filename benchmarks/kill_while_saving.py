"""Kill a training repeatedly while it saves, and check the files each time.

    python benchmarks/kill_while_saving.py --kills 100

A tiny transformer (four networks) saves weights and a checkpoint after every iteration. It is killed (SIGKILL) at a
random moment after its first step; then the newest complete checkpoint must load, every file with a final name must be
whole, and the next training must go on from just there. The script ends with an error where that fails.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from training.checkpoints import checkpoints_of, newest_checkpoint  # noqa: E402
from utils import cli  # noqa: E402
from utils.files import file_digest  # noqa: E402
from utils.weights import SUMS_FILE, read_parameters, read_sums  # noqa: E402

CONFIG = {
    "logdir": "runs",
    "experiment_name": "run",
    "src_celeb_name": "Bo",
    "trg_celeb_name": "Ada",
    "model": {"planes": 4},
    "train": {"epochs": 10**4, "batch_size": 1, "shape_loss": {"lambda": 0}, "with_memory_cache": True},
    "monitor": {"interval": 1, "save_interval": 1},
}
MAX_WAIT_S = 2.0


def call(folder: Path, script: str, *args: object) -> None:
    subprocess.run([sys.executable, str(ROOT / script), *map(str, args)], cwd=folder, check=True, capture_output=True)


def start(folder: Path, run: Path | None) -> tuple[subprocess.Popen, int]:
    """Start a training; return it with its first iteration."""
    resume = [] if run is None else ["--resume", str(run)]
    command = [sys.executable, "-u", str(ROOT / "train_transformer.py"), "--conf", "transformer.yaml", *resume]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("run: "):
            return process, int(line.split()[-1]) if "from iteration" in line else 0
    sys.exit(f"error: the training did not begin: {process.communicate()[1]}")


def is_inside_a_save(run: Path) -> bool:
    """Return whether a killed process has left temporary files."""
    return any(path.name.startswith(".") for path in run.rglob("*"))


def check(run: Path) -> int:
    """Check all files; return the iteration of the newest checkpoint."""
    for checkpoint in checkpoints_of(run):
        assert read_sums(checkpoint), checkpoint
        for name, digest in read_sums(checkpoint).items():
            assert file_digest(checkpoint / name) == digest, checkpoint / name
    for path in run.glob("net*.h5"):  # without temporary files
        read_parameters(path)
    for path in (*run.glob("*.yaml"), *run.glob("checkpoints/*/state.json")):
        assert yaml.safe_load(path.read_text()), path
    assert all(line.count(" ") for line in (run / SUMS_FILE).read_text().splitlines())
    return newest_checkpoint(run)[1]["iteration"]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=cli.count, default=100)
    parser.add_argument("--seed", type=cli.seed, default=0, help="of the moments")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    moments = random.Random(args.seed)
    inside, expected = 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        call(folder, "tools/make_synthetic.py", "celebv", "--people", "Ada=3", "Bo=5", "--frames", 1)
        (folder / "transformer.yaml").write_text(json.dumps(CONFIG))  # JSON is YAML
        run = folder / "runs/transformer/Bo2Ada/run"
        for kill in range(args.kills):
            process, begun = start(folder, run if kill else None)
            assert begun == expected, f"went on from {begun}, the newest checkpoint is {expected}"
            deadline = time.monotonic() + 60
            while not checkpoints_of(run) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, MAX_WAIT_S))
            assert process.poll() is None, process.communicate()[1]
            process.kill()
            process.communicate()
            inside += is_inside_a_save(run)
            expected = check(run)
            print(f"kill {kill + 1}: checkpoint {expected} is whole; inside a save so far: {inside}", flush=True)
    print(f"{args.kills} kills, {inside} inside a save: every time the newest complete checkpoint loads and resumes")


if __name__ == "__main__":
    main()
