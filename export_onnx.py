"""Write trained networks as ONNX files, which other programs run, and check them against nnabla.

    python export_onnx.py --encoder-config INFO --out-dir onnx
    python export_onnx.py --encoder-config INFO --transformer-config INFO --decoder-config INFO --chain --out-dir onnx

Writes encoder.onnx, transformer.onnx and decoder.onnx, or with --chain all that are named as one graph, chain.onnx,
with an output for each. Pictures are (B, 3, 256, 256) RGB in [-1, 1], boundaries (B, 15, 64, 64) about [0, 1].
test_reenactment.py needs none of this: it keeps files of its own with the weights.
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse

from inference.onnx_export import export
from inference.trained import find_networks, load_configs
from models.networks import MODULES
from utils import cli
from utils.ending import call_main
from utils.files import check_outputs


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_network_arguments(parser, MODULES)
    parser.add_argument("--out-dir", type=cli.path, required=True, help="where the files go")
    parser.add_argument("--chain", action="store_true", help="one graph of all the networks")
    parser.add_argument("--batch-size", type=cli.batch_size, default=1, help="of the graphs (1)")
    args = parser.parse_args()
    named = [module for module in MODULES if getattr(args, f"{module}_config")]
    if not named:
        parser.error("name at least one of --encoder-config, --transformer-config and --decoder-config")
    if args.chain and named == ["encoder", "decoder"]:
        parser.error("--chain: the transformer stands between encoder and decoder; name it, too")
    inputs = [getattr(args, f"{module}_{what}") for module in MODULES for what in ("config", "param_file")]
    names = ["chain"] if args.chain else named
    check_outputs({"--out-dir": args.out_dir} | {f"{name} to": args.out_dir / f"{name}.onnx" for name in names}, inputs)
    return args


def main() -> None:
    args = parse_args()
    configs = load_configs(args)
    networks = find_networks(args, configs)
    parts = {"chain": networks} if args.chain else {module: {module: networks[module]} for module in networks}
    for name, part in parts.items():
        path = args.out_dir / f"{name}.onnx"
        error = export(part, path, args.batch_size)
        print(f"{path}: at most {error:.1e} off nnabla's numbers, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    call_main(main)
