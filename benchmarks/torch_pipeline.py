"""Run test_reenactment.py's pipeline around plain PyTorch networks, for benchmarks/reenactment.py --torch.

    python torch_pipeline.py WEIGHTS VIDEO OUT -n FRAMES

WEIGHTS contains <module>/weights.h5 and decoder/training_info.yaml.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from inference.inputs import open_input  # noqa: E402
from inference.networks import find_trained
from inference.outputs import lay_out, layout_size, open_frames, open_result_video
from inference.reenactor import MissingFaces, Reenactor  # noqa: E402
from tests.reference.torch_networks import build  # noqa: E402
from tools.convert_authors_weights import NETWORKS, Parameter, parameters_of
from utils import cli  # noqa: E402
from utils.parallel import prefetched  # noqa: E402
from utils.weights import read_manifest, read_parameters  # noqa: E402

MODULES = ("encoder", "transformer", "decoder")
RESULTS_AHEAD = 4


def load(network: str, path: Path) -> torch.nn.Module:
    """Load a network with the weights of an h5 file."""
    module = build(network)
    arrays = read_parameters(path, read_manifest(NETWORKS[network].manifest))
    tensors = [torch.from_numpy(to_theirs(p, arrays[p.ours])) for p in parameters_of(network)]
    names = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    by_name = {p.theirs.removeprefix("module."): tensor for p, tensor in zip(parameters_of(network), tensors)}
    # names differ where layers are numbered
    state = by_name if set(by_name) == set(names) else dict(zip(names, tensors))
    module.load_state_dict(state, strict=False)
    return module


def to_theirs(parameter: Parameter, array: np.ndarray) -> np.ndarray:
    """Convert an array to the layout of a state dict."""
    return array.T.copy() if "/affine/" in parameter.ours else array.reshape(parameter.their_shape())


class TorchBackend:
    """Compute with PyTorch on the CPU."""

    name = "torch"

    def __init__(self, weights: Path):
        self._networks = {module: load(module, weights / module / "weights.h5") for module in MODULES}

    def infer(self, module: str, x: np.ndarray) -> np.ndarray:
        """Run a network on a batch (B, C, H, W) float32."""
        with torch.inference_mode():
            output = self._networks[module](torch.from_numpy(np.ascontiguousarray(x)))
        return (output[-1] if isinstance(output, list) else output).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=cli.path)
    parser.add_argument("video", type=cli.path)
    parser.add_argument("out", type=cli.path)
    parser.add_argument("-n", type=cli.count, required=True)
    args = parser.parse_args()
    frames_in = open_input(str(args.video), wanted=args.n)
    decoder = find_trained("decoder", args.weights / "decoder/training_info.yaml", args.weights / "decoder/weights.h5")
    reenactor, missing = Reenactor(TorchBackend(args.weights), decoder, has_encoder=True), MissingFaces("hold")
    size = layout_size("panel", has_truth=False)
    args.out.mkdir(parents=True, exist_ok=True)
    with (
        open_frames(args.out, {}) as frames,
        open_result_video(args.out / "torch.mp4", size, frames_in, "benchmark", with_sound=True) as video,
        prefetched(reenactor.reenact(frames_in.frames), RESULTS_AHEAD) as items,
    ):
        for item in items:
            result = missing.resolve(item)
            image = lay_out(result, "panel", has_label=True)
            frames.write(result, image)
            video.write(result.time_s, image)


if __name__ == "__main__":
    main()
