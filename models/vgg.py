"""VGG-16 features of ImageNet for the decoder's perceptual loss, through nnabla.models.imagenet."""

from __future__ import annotations

import nnabla as nn
from nnabla.models.imagenet import VGG16

# relu2_2 and relu3_3, the authors' layers, under the names that the published network file has
FEATURE_LAYERS = ("VGG16/ReLU_4", "VGG16/ReLU_7")


def vgg_features(vgg: VGG16, image: nn.Variable) -> list[nn.Variable]:
    """Feature maps of an image, with fixed weights.

    Args:
        image: (B, 3, H, W) RGB in [-1, 1]; the network itself takes [0, 255] and normalises inside.

    Raises:
        KeyError: the file has no such layers.
    """
    network = vgg((image + 1) * 127.5, use_up_to="lastconv", returns_net=True)
    return [network.variables[name] for name in FEATURE_LAYERS]
