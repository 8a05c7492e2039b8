"""The three networks of a reenactment as their runs' configurations describe them, in evaluation mode."""

from __future__ import annotations

from typing import Any

import nnabla as nn

from models.decoder import decoder
from models.encoder import boundaries_of, encoder
from models.transformer import transformer

SCOPES = {"encoder": "encoder", "transformer": "netG_transformer_A2B", "decoder": "netG_decoder"}
MODULES = tuple(SCOPES)
INPUT_SHAPES = {"encoder": (3, 256, 256), "transformer": (15, 64, 64), "decoder": (15, 64, 64)}


def build(module: str, config: dict[str, Any], x: nn.Variable) -> nn.Variable:
    """One network under its scope; `test.batch_stat` of its configuration says which statistics it normalises by.

    Args:
        module: `encoder`, `transformer` or `decoder`.
        x: (B, 3, 256, 256) in [-1, 1] for the encoder, else heatmaps (B, 15, 64, 64).

    Returns:
        heatmaps (B, 15, 64, 64), or of the decoder faces (B, 3, 256, 256) in (-1, 1).
    """
    batch_stat = config["test"]["batch_stat"]
    with nn.parameter_scope(SCOPES[module]):
        if module == "encoder":
            return boundaries_of(encoder(x, batch_stat=batch_stat, **config["model"]), config["loss_name"])
        planes = config["model"]["planes"]
        if module == "transformer":
            return transformer(x, config["norm_type"], planes, batch_stat)
        return decoder(x, planes, training=False, batch_stat=batch_stat)
