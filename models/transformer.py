"""Boundary transformer: A's boundaries to B's (paper section 3.2), a CycleGAN generator and its discriminator."""

from __future__ import annotations

from functools import partial

import nnabla as nn
import nnabla.functions as F
import nnabla.parametric_functions as PF
import numpy as np

from models.layers import assert_shape, batch_norm, gan_weights, instance_norm, patch_gan, reflect_pad

NUM_RESIDUAL_BLOCKS = 9
SOBEL_X = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)


def transformer(
    heatmap: nn.Variable, norm_type: str = "batch_norm", planes: int = 64, batch_stat: bool = True
) -> nn.Variable:
    """Transform boundary heatmaps of A to B.

    Args:
        heatmap: (B, 15, 64, 64) in [0, 1].
        norm_type: `batch_norm` or `instance_norm`.
        batch_stat: True in training, False in evaluation; ignored by instance normalization.

    Returns:
        (B, 15, 64, 64) in (0, 1).
    """
    assert_shape(heatmap, 15, 64)
    convolve, deconvolve = (
        partial(function, w_init=gan_weights(), with_bias=False) for function in (PF.convolution, PF.deconvolution)
    )

    def norm(x: nn.Variable, name: str | None = None) -> nn.Variable:
        if norm_type == "instance_norm":
            return instance_norm(x, name)
        return batch_norm(x, batch_stat, name, gan_init=True)

    def block_half(x: nn.Variable, name: str) -> nn.Variable:
        with nn.parameter_scope(name):
            return norm(convolve(reflect_pad(x, 1), 4 * planes, (3, 3)))

    h = convolve(reflect_pad(heatmap, 3), planes, (7, 7), name="conv1")
    h = F.relu(norm(h, "conv1"))  # (B, 64, 64, 64)
    for index, multiple in ((2, 2), (3, 4)):
        name = f"conv{index}"
        h = convolve(h, planes * multiple, (3, 3), (1, 1), (2, 2), name=name)
        h = F.relu(norm(h, name))  # (B, 256, 16, 16) at the end
    for index in range(1, NUM_RESIDUAL_BLOCKS + 1):
        with nn.parameter_scope(f"res{index}"):
            h = h + block_half(F.relu(block_half(h, "block1")), "block2")
    for index, multiple in ((1, 2), (2, 1)):
        name = f"deconv{index}"
        h = deconvolve(h, planes * multiple, (3, 3), (1, 1), (2, 2), output_padding=(1, 1), name=name)
        h = F.relu(norm(h, name))  # (B, 64, 64, 64) at the end
    return F.sigmoid(PF.convolution(reflect_pad(h, 3), 15, (7, 7), w_init=gan_weights(), name="deconv3"))


def enhance_edges(heatmap: nn.Variable) -> nn.Variable:
    """Apply the authors' fixed Sobel filters, x then y, to each channel of heatmaps (B, C, H, W)."""
    channels = heatmap.shape[1]
    h = heatmap
    for kernel in (SOBEL_X, SOBEL_X.T):
        weights = nn.Variable.from_numpy_array(np.broadcast_to(kernel, (channels, 1, 3, 3)))
        h = F.convolution(h, weights, pad=(1, 1), group=channels)
    return h


def transformer_discriminator(heatmap: nn.Variable, planes: int = 64, fixed: bool = False) -> nn.Variable:
    """Score heatmaps (B, 15, 64, 64) for LSGAN, (B, 1, 6, 6)."""
    assert_shape(heatmap, 15, 64)
    return patch_gan(heatmap, planes, fixed)
