"""Run by a Python that has PyTorch: a network with random weights, its state dict, an input and what comes of it.

python torch_output.py NETWORK FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from reference.torch_networks import build, randomize


def main(network: str, folder: Path) -> None:
    module = build(network)
    randomize(module, 1)
    shape = (2, 3, 256, 256) if network == "encoder" else (2, 15, 64, 64)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = module(x)
    state = module.state_dict()
    if network != "align":  # with the names of training on several devices, and with the counters of newer versions
        state = torch.nn.DataParallel(module).state_dict()
    else:
        state = {f"module.{key}": value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(state, folder / "weights.pth")
    outputs = y if isinstance(y, list) else [y]
    np.savez(folder / "output.npz", x=x.numpy(), **{f"y{i}": output.numpy() for i, output in enumerate(outputs)})


main(sys.argv[1], Path(sys.argv[2]))
