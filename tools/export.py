"""Export trained networks as ONNX and NNP files, and compare them with nnabla.

    python tools/export.py --encoder-config INFO --out-dir exported
    python tools/export.py --encoder-config INFO --transformer-config INFO --decoder-config INFO --chain \\
        --out-dir exported

Writes encoder.onnx and encoder.nnp, and so on, or with --chain one graph, chain.onnx and chain.nnp, with an output for
each network. Images are (B, 3, 256, 256) RGB in [-1, 1], boundaries (B, 15, 64, 64) about [0, 1]. NNP files are for
NNabla's runtimes; their network is called "reenactgan", its input "input". test_reenactment.py exports its own ONNX
files automatically.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.ending import call_main

from inference.backends import export
from inference.networks import find_trained
from models.networks import MODULES
from utils import cli
from utils.files import check_outputs

KINDS = (".onnx", ".nnp")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_network_arguments(parser, MODULES)
    parser.add_argument("--out-dir", type=cli.path, required=True, help="folder of the files")
    parser.add_argument("--chain", action="store_true", help="export one graph of all networks")
    parser.add_argument("--batch-size", type=cli.batch_size, default=1, help="batch size of the graphs (1)")
    args = parser.parse_args()
    named = [module for module in MODULES if getattr(args, f"{module}_config")]
    if not named:
        parser.error("pass at least one of --encoder-config, --transformer-config and --decoder-config")
    if args.chain and named == ["encoder", "decoder"]:
        parser.error("--chain: requires the transformer between encoder and decoder")
    inputs = [getattr(args, f"{module}_{what}") for module in MODULES for what in ("config", "param_file")]
    names = ["chain"] if args.chain else named
    for kind in KINDS:
        outputs = {f"{name} to": args.out_dir / f"{name}{kind}" for name in names}
        check_outputs({"--out-dir": args.out_dir} | outputs, inputs, kind)
    return args


def main() -> None:
    args = parse_args()
    paths = {module: getattr(args, f"{module}_config") for module in MODULES}
    networks = {
        module: find_trained(module, path, getattr(args, f"{module}_param_file"))
        for module, path in paths.items()
        if path
    }
    parts = {"chain": networks} if args.chain else {module: {module: networks[module]} for module in networks}
    for name, part in parts.items():
        paths = [args.out_dir / f"{name}{kind}" for kind in KINDS]
        for path, error in zip(paths, export(part, *paths, batch_size=args.batch_size)):
            print(f"{path}: maximum relative error {error:.1e}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    call_main(main)
