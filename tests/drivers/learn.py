"""Replace reenact_people.py: copies the files that the page reads instead of training.

    python tests/drivers/learn.py PREPARED [reenact_people.py's own options]

PREPARED is the folder of a prepared and split person; if it is not there, no face is found. Learning
comes to its end when it is begun for the second time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from config.runs import GEOMETRY_FILE, HELD_OUT_FILE, INFO_FILE
from people.work import QUALITIES, Work, read_inputs, record_inputs
from utils.progress import VARIABLE

ROOT = Path(__file__).resolve().parents[2]

parser = argparse.ArgumentParser()
parser.add_argument("prepared", type=Path)
parser.add_argument("--target", type=Path)
parser.add_argument("--work-dir", type=Path)
parser.add_argument("--name")
parser.add_argument("--part", nargs=2)
parser.add_argument("--face")
parser.add_argument("--quality")
parser.add_argument("--look", action="store_true")
args = parser.parse_args()

if args.target is not None:
    if not args.prepared.exists():
        print(f"error: {args.target}: no usable face in 41 pictures", file=sys.stderr)
        sys.exit(3)
    record_inputs(args.work_dir, {"target": args.target}, {"target": args.name}, "draft")
name = read_inputs(args.work_dir).names["target"]
work = Work(args.work_dir, "", name, QUALITIES["draft"], ("decoder",), 1)
if not work.person(name).exists():
    print("== prepare", flush=True)
    shutil.copytree(args.prepared, work.person(name))
    shutil.copy(ROOT / "imgs/overview.png", work.person(name) / "contact_sheet.png")
if args.look:
    sys.exit()
run, demo = work.run("decoder"), ROOT / "demo/weights/decoder"
begun = run.exists()
print("from iteration 1" if begun else "from the beginning", flush=True)
run.mkdir(parents=True, exist_ok=True)
Path(os.environ[VARIABLE]).write_text('{"what": "learning", "done": 0.25, "left_s": 100}')
for own, given in (("netG_decoder_1.h5", "weights.h5"), (GEOMETRY_FILE, GEOMETRY_FILE), (INFO_FILE, INFO_FILE)):
    shutil.copy(demo / given, run / own)
if not begun:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.pause()
(run / HELD_OUT_FILE).write_text(json.dumps({"PSNR": 25.0, "SSIM": 0.8, "sharpness": 0.5}))
print("1 done; press Ctrl-C stops", flush=True)
