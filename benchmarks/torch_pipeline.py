"""The pipeline of test_reenactment.py around plain PyTorch networks, for benchmarks/reenactment.py --torch.

    python torch_pipeline.py WEIGHTS VIDEO OUT -n FRAMES

WEIGHTS holds <module>/weights.h5. Needs no nnabla.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.torch_networks import build  # noqa: E402
from convert_authors_weights import NETWORKS, parameters_of  # noqa: E402
from datasets.faces import haar_faces  # noqa: E402
from datasets.images import write_image  # noqa: E402
from datasets.pictures import Pictures, faces_of  # noqa: E402
from utils.panels import face_picture, heatmap_picture, labelled, side_by_side  # noqa: E402
from utils.parallel import ahead  # noqa: E402
from utils.video import write_video  # noqa: E402
from utils.weights import read_manifest, read_parameters  # noqa: E402

AHEAD = 4


def load(network: str, path: Path) -> torch.nn.Module:
    """A network with the weights of an h5 file."""
    module = build(network)
    arrays = read_parameters(path, read_manifest(NETWORKS[network].manifest))
    tensors = [torch.from_numpy(p.to_theirs(arrays[p.ours])) for p in parameters_of(network)]
    names = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    by_name = {p.theirs.removeprefix("module."): tensor for p, tensor in zip(parameters_of(network), tensors)}
    # names differ where layers are told by their place
    state = by_name if set(by_name) == set(names) else dict(zip(names, tensors))
    module.load_state_dict(state, strict=False)
    return module


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("-n", type=int, required=True)
    args = parser.parse_args()
    encoder, transformer, decoder = (
        load(network, args.weights / network / "weights.h5") for network in ("encoder", "transformer", "decoder")
    )
    pictures = Pictures(args.video)

    def panels():
        for frame in faces_of(pictures, haar_faces):
            if frame.index == args.n:
                return
            x = torch.from_numpy(np.ascontiguousarray(frame.face.transpose(2, 0, 1)[None])).float() / 127.5 - 1
            with torch.inference_mode():
                boundary = encoder(x)[-1]
                transformed = transformer(boundary)
                generated = decoder(transformed)
            tiles = [frame.face, heatmap_picture(boundary[0].numpy()), heatmap_picture(transformed[0].numpy())]
            yield frame.index, side_by_side([*tiles, labelled(face_picture(generated[0].numpy()))])

    def written(items):
        for index, panel in items:
            write_image(args.out / "torch" / f"{index:06d}.png", panel)
            yield panel

    with ahead(panels(), AHEAD) as items:
        write_video(args.out / "torch.mp4", written(items), (1024, 256), pictures.fps, "benchmark")


if __name__ == "__main__":
    main()
