"""VGG-16 features of ImageNet for the decoder's perceptual loss, through nnabla.models.imagenet."""

from __future__ import annotations

from typing import Any

import nnabla as nn

LAYERS = tuple(f"relu{block}_{i}" for block in range(1, 6) for i in range(1, 3 if block < 3 else 4))
# in the published network file
NAMES = {layer: f"VGG16/ReLU_{number}" if number > 1 else "VGG16/ReLU" for number, layer in enumerate(LAYERS, 1)}


def vgg_features(vgg: Any, image: nn.Variable, layers: list[str]) -> list[nn.Variable]:
    """Compute feature maps of an image, with fixed weights.

    Args:
        vgg: nnabla's VGG16.
        image: (B, 3, H, W) RGB in [-1, 1]; the network itself takes [0, 255] and normalises inside.
        layers: some of relu1_1, relu1_2, relu2_1, ..., relu5_3; the authors' are relu2_2 and relu3_3.

    Raises:
        KeyError: the file has no such layers.
    """
    network = vgg((image + 1) * 127.5, use_up_to="lastconv+relu", returns_net=True)
    return [network.variables[NAMES[layer]] for layer in layers]
