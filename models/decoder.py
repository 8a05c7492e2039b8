"""Target-specific decoder: boundaries to a face (paper section 3.3), a pix2pix U-Net and its discriminator."""

from __future__ import annotations

from functools import partial

import nnabla as nn
import nnabla.functions as F
import nnabla.parametric_functions as PF
from nnabla.initializer import ConstantInitializer
from nnabla.parameter import get_parameter_or_create

from models.layers import assert_shape, batch_norm, gan_weights, patch_gan

# channels of the U-Net's levels in multiples of the base; the innermost comes last
LEVELS = (1, 2, 4, 8, 8, 8, 8, 8)
DROPOUT_LEVELS = (1, 2, 3)


def _deconv4(x: nn.Variable, channels: int, name: str, with_bias: bool = False) -> nn.Variable:
    """Apply ReLU, then a 4x4 deconvolution that doubles the size."""
    return PF.deconvolution(
        F.relu(x), channels, (4, 4), (1, 1), (2, 2), w_init=gan_weights(), with_bias=with_bias, name=name
    )


def _resize_conv4(x: nn.Variable, channels: int, name: str, with_bias: bool = False) -> nn.Variable:
    """Apply ReLU, double the size by nearest neighbor, and convolve with 3x3 weights, in one deconvolution.

    This avoids checkerboard artifacts (Odena et al., Deconvolution and checkerboard artifacts, Distill 2016). The 4x4
    kernel is the sum of the 3x3 kernel at the four positions of a doubled pixel, so the cost equals `_deconv4`'s.
    """
    with nn.parameter_scope(f"{name}/resize_conv"):
        weights = get_parameter_or_create("W", (x.shape[1], channels, 3, 3), gan_weights(), need_grad=True)
        bias = get_parameter_or_create("b", (channels,), ConstantInitializer(0), need_grad=True) if with_bias else None
    kernel = sum(F.pad(weights, (row, 1 - row, column, 1 - column)) for row in (0, 1) for column in (0, 1))
    return F.deconvolution(F.relu(x), kernel, bias, pad=(1, 1), stride=(2, 2))


def decoder(
    heatmap: nn.Variable,
    planes: int = 64,
    resize_levels: int = 0,
    dropout: float = 0.5,
    training: bool = True,
    batch_stat: bool | None = None,
) -> nn.Variable:
    """Paint a face from boundary heatmaps.

    Args:
        heatmap: (B, 15, 64, 64) in [0, 1].
        planes: channels of the U-Net's outermost level.
        resize_levels: number of outermost levels that use `_resize_conv4`; the paper has none.
        dropout: probability of dropout in training; the paper's is 0.5.
        training: whether to use batch statistics and dropout.
        batch_stat: whether to use batch statistics; None is `training`.

    Returns:
        (B, 3, 256, 256) RGB in (-1, 1).
    """
    assert_shape(heatmap, 15, 64)
    batch_stat = training if batch_stat is None else batch_stat
    h = batch_norm(_deconv4(heatmap, 15, "ReluDeconvBN1"), batch_stat, "ReluDeconvBN1", gan_init=True)
    h = F.tanh(_deconv4(h, 15, "ReluDeconvBN2", with_bias=True))  # (B, 15, 256, 256)
    innermost, downs = len(LEVELS) - 1, []
    convolve = partial(PF.convolution, w_init=gan_weights(), with_bias=False)
    for level, multiple in enumerate(LEVELS):
        name = f"down{level}"
        h = h if level == 0 else F.leaky_relu(h, 0.2)
        h = convolve(h, planes * multiple, (4, 4), (1, 1), (2, 2), name=name)
        if 0 < level < innermost:
            h = batch_norm(h, batch_stat, name, gan_init=True)
        downs.append(h)  # (B, 512, 1, 1) at the end
    ups = [_deconv4] * (len(LEVELS) - resize_levels) + [_resize_conv4] * resize_levels
    for level, multiple in enumerate(LEVELS[-2::-1]):
        name = f"up{level}"
        h = batch_norm(ups[level](h, planes * multiple, name), batch_stat, name, gan_init=True)
        if training and dropout and level in DROPOUT_LEVELS:
            h = F.dropout(h, dropout)
        h = F.concatenate(downs[innermost - 1 - level], h, axis=1)  # (B, 128, 128, 128) at the end
    return F.tanh(ups[innermost](h, 3, f"up{innermost}", with_bias=True))


def decoder_discriminator(
    heatmap: nn.Variable, image: nn.Variable, planes: int = 64, fixed: bool = False
) -> nn.Variable:
    """Score a face given its boundaries.

    Args:
        heatmap: (B, 15, 256, 256) in [0, 1]; image: (B, 3, 256, 256) in [-1, 1].

    Returns:
        Logits (B, 1, 30, 30). The sigmoid is part of the loss (`losses.gan_bce`), where it is stable.
    """
    assert_shape(heatmap, 15, 256)
    assert_shape(image, 3, 256)
    return patch_gan(F.concatenate(heatmap, image, axis=1), planes, fixed)
