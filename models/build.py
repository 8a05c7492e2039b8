"""The networks for inference, and the scope names of all networks."""

from __future__ import annotations

from typing import Any

import nnabla as nn

from models.decoder import decoder
from models.encoder import encoder, heatmap_of
from models.transformer import transformer

# Scopes, which are also the names of networks in checkpoints and weights files
ENCODER = "encoder"
TRANSFORMERS = {"A2B": "netG_transformer_A2B", "B2A": "netG_transformer_B2A"}
TRANSFORMER_DISCRIMINATORS = {"A": "netD_transformer_A", "B": "netD_transformer_B"}
DECODER, DECODER_DISCRIMINATOR = "netG_decoder", "netD_decoder"
ALIGN, PCA = "align", "pca"

SCOPES = {"encoder": ENCODER, "transformer": TRANSFORMERS["A2B"], "decoder": DECODER}  # for inference
MODULES = tuple(SCOPES)
INPUT_SHAPES = {"encoder": (3, 256, 256), "transformer": (15, 64, 64), "decoder": (15, 64, 64)}


def build(
    module: str,
    x: nn.Variable,
    model: dict[str, Any],
    batch_stat: bool,
    loss_name: str = "mse",
    norm_type: str = "batch_norm",
) -> nn.Variable:
    """Build a network in evaluation mode under its scope.

    Args:
        module: `encoder`, `transformer` or `decoder`.
        x: (B, 3, 256, 256) in [-1, 1] for the encoder, else heatmaps (B, 15, 64, 64).
        model: size of the network, as the `model` section of a configuration has it.
        batch_stat: normalise by the batch, not by running statistics.
        loss_name: of the encoder's training, which decides what its scores mean.
        norm_type: of the transformer.

    Returns:
        heatmaps (B, 15, 64, 64), or of the decoder faces (B, 3, 256, 256) in (-1, 1).
    """
    with nn.parameter_scope(SCOPES[module]):
        if module == "encoder":
            return heatmap_of(encoder(x, batch_stat=batch_stat, **model), loss_name)
        if module == "transformer":
            return transformer(x, norm_type, batch_stat=batch_stat, **model)
        return decoder(x, training=False, batch_stat=batch_stat, **model)
