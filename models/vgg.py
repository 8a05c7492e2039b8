"""VGG-16 features for the decoder's perceptual loss, from nnabla.models.imagenet."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

from utils.errors import ResourceError

if TYPE_CHECKING:  # the configuration, which names layers, does not need nnabla
    import nnabla as nn

LAYERS = tuple(f"relu{block}_{i}" for block in range(1, 6) for i in range(1, 3 if block < 3 else 4))
# names in the published network file
NAMES = {layer: f"VGG16/ReLU_{number}" if number > 1 else "VGG16/ReLU" for number, layer in enumerate(LAYERS, 1)}


def vgg_features(images: Iterable[nn.Variable], layers: tuple[str, ...]) -> list[list[nn.Variable]]:
    """Compute feature maps with fixed weights, which nnabla downloads once.

    Args:
        images: (B, 3, H, W) RGB in [-1, 1] each. The network takes [0, 255] and normalizes inside.
        layers: names out of relu1_1, relu1_2, relu2_1, ..., relu5_3. The authors' are relu2_2 and relu3_3.

    Returns:
        Feature maps of each image.

    Raises ResourceError if VGG-16 cannot be downloaded or read.
    """
    from nnabla.models.imagenet import VGG16  # slow to import
    from nnabla.models.utils import get_model_home, get_model_url_base

    try:
        vgg = VGG16()
    except (OSError, zipfile.BadZipFile) as error:
        raise ResourceError(
            f"VGG-16: cannot be downloaded from {get_model_url_base()} to {get_model_home()} or read ({error}); put "
            "VGG-16.nnp there, set NNABLA_MODELS_URL_BASE to a mirror, or set train.feature_loss.lambda to 0"
        ) from None
    networks = (vgg((image + 1) * 127.5, use_up_to="lastconv+relu", returns_net=True) for image in images)
    return [[network.variables[NAMES[layer]] for layer in layers] for network in networks]
