"""All networks by name, and which of them an inference runs."""

from __future__ import annotations

from typing import Any

import nnabla as nn

from models.align import align, shape_code
from models.decoder import decoder, decoder_discriminator
from models.encoder import encoder, prediction_of
from models.network import Network
from models.transformer import transformer, transformer_discriminator

HEATMAP_SHAPE = (15, 64, 64)
LARGE_HEATMAP_SHAPE = (15, 256, 256)
IMAGE_SHAPE = (3, 256, 256)


def _evaluate_encoder(x: nn.Variable, config: Any) -> nn.Variable:
    scores = encoder(x, **config.model.options(), batch_stat=config.test.batch_stat)
    return prediction_of(scores, config.loss_name)


def _evaluate_transformer(x: nn.Variable, config: Any) -> nn.Variable:
    return transformer(x, config.norm_type, **config.model.options(), batch_stat=config.test.batch_stat)


def _evaluate_decoder(x: nn.Variable, config: Any) -> nn.Variable:
    return decoder(x, **config.model.options(), training=False, batch_stat=config.test.batch_stat)


ENCODER = Network("encoder", encoder, IMAGE_SHAPE, _evaluate_encoder, "model_epoch-")
TRANSFORMERS = {
    direction: Network(f"netG_transformer_{direction}", transformer, HEATMAP_SHAPE, _evaluate_transformer)
    for direction in ("A2B", "B2A")
}
TRANSFORMER_DISCRIMINATORS = {
    person: Network(f"netD_transformer_{person}", transformer_discriminator) for person in ("A", "B")
}
DECODER = Network("netG_decoder", decoder, HEATMAP_SHAPE, _evaluate_decoder)
DECODER_DISCRIMINATOR = Network("netD_decoder", decoder_discriminator)
ALIGN = Network("align", align)
PCA = Network("pca", shape_code)

INFERENCE = {"encoder": ENCODER, "transformer": TRANSFORMERS["A2B"], "decoder": DECODER}  # in their order
MODULES = tuple(INFERENCE)
