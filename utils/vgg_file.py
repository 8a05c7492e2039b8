"""The published VGG-16 of nnabla.models.imagenet, loaded before training starts or refused with a way on."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from utils.errors import ResourceError, WeightsError

URL_VARIABLE = "NNABLA_MODELS_URL_BASE"


def load_vgg16() -> Any:
    """nnabla's VGG16; fetches its file once (`NNABLA_MODELS_URL_BASE` moves the source).

    Raises:
        ResourceError: it cannot be fetched.
        WeightsError: the file there is not complete.
    """
    from nnabla.models.imagenet import VGG16
    from nnabla.models.utils import get_model_home, get_model_url_base

    path = Path(get_model_home()) / "imagenet" / "VGG-16.nnp"
    way_on = f"put VGG-16.nnp at {path}, set {URL_VARIABLE} to a mirror, or set train.feature_loss.lambda to 0"
    if path.exists() and not zipfile.is_zipfile(path):
        raise WeightsError(f"{path}: not a complete network file; remove it to fetch it again")
    try:
        vgg = VGG16()
    except zipfile.BadZipFile:
        # nnabla would take what came for complete ever after
        path.unlink(missing_ok=True)
        raise ResourceError(f"VGG-16 from {get_model_url_base()}: what came is no network file; {way_on}") from None
    except OSError as error:
        raise ResourceError(f"VGG-16 from {get_model_url_base()}: cannot be fetched ({error}); {way_on}") from None
    return vgg
