"""VGG-16 features of ImageNet for the decoder's perceptual loss, through nnabla.models.imagenet."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import ResourceError, WeightsError
from utils.files import check_writable
from utils.libraries import load

if TYPE_CHECKING:  # the configuration names layers, and is read where nothing is computed
    import nnabla as nn

NNABLA_URL_VARIABLE = "NNABLA_MODELS_URL_BASE"
LAYERS = tuple(f"relu{block}_{i}" for block in range(1, 6) for i in range(1, 3 if block < 3 else 4))
# in the published network file
NAMES = {layer: f"VGG16/ReLU_{number}" if number > 1 else "VGG16/ReLU" for number, layer in enumerate(LAYERS, 1)}


def vgg_features(images: Iterable[nn.Variable], layers: tuple[str, ...]) -> list[list[nn.Variable]]:
    """Compute feature maps of images, with fixed weights; the network is fetched once.

    Args:
        images: (B, 3, H, W) RGB in [-1, 1] each; the network itself takes [0, 255] and normalises inside.
        layers: some of relu1_1, relu1_2, relu2_1, ..., relu5_3; the authors' are relu2_2 and relu3_3.

    Returns:
        the feature maps of each image.

    Raises:
        ResourceError, WeightsError: as of `load_vgg16`.
    """
    vgg = load_vgg16()
    networks = (vgg((image + 1) * 127.5, use_up_to="lastconv+relu", returns_net=True) for image in images)
    return [[network.variables[NAMES[layer]] for layer in layers] for network in networks]


def load_vgg16() -> Any:
    """Load nnabla's published VGG-16 for the feature loss; it is fetched once, by nnabla (`NNABLA_MODELS_URL_BASE`).

    Raises:
        ResourceError: it cannot be fetched.
        WeightsError: the file there is not complete.
    """
    VGG16 = load("nnabla.models.imagenet").VGG16
    utils = load("nnabla.models.utils")
    get_model_home, get_model_url_base = utils.get_model_home, utils.get_model_url_base

    try:
        home = get_model_home()
        check_writable(Path(home), "VGG-16")
    except (OSError, ResourceError):
        # without a home that can be written to; nnabla looks there
        os.environ["HOME"] = home = tempfile.gettempdir()
        print(f"note: no home folder to keep VGG-16 in; it goes to {home}/nnabla_data")
        home = get_model_home()
    path = Path(home) / "imagenet" / "VGG-16.nnp"
    way_on = f"put VGG-16.nnp at {path}, set {NNABLA_URL_VARIABLE} to a mirror, or set train.feature_loss.lambda to 0"
    if path.exists() and not (path.is_file() and zipfile.is_zipfile(path)):
        raise WeightsError(f"{path}: not a complete network file; remove it to fetch it again")
    try:
        return VGG16()
    except zipfile.BadZipFile:
        # nnabla would take what came for complete ever after
        path.unlink(missing_ok=True)
        raise ResourceError(f"VGG-16 from {get_model_url_base()}: what came is not a network file; {way_on}") from None
    except OSError as error:
        raise ResourceError(f"VGG-16 from {get_model_url_base()}: cannot be fetched ({error}); {way_on}") from None
