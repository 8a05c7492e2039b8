"""The shape prior of the transformer: an align network and a PCA, which are not trained with it (paper section 3.2)."""

from __future__ import annotations

from functools import partial

import nnabla as nn
import nnabla.functions as F
import nnabla.parametric_functions as PF

from models.layers import assert_shape, batch_norm

PUBLISHED_OUTPUTS = 212  # 106 landmarks; priors trained here have 98
SHAPE_CODE_SIZE = 3
WIDTHS = (16, 32, 64, 128)


def _basic_block(x: nn.Variable, channels: int, stride: int, name: str, batch_stat: bool, fixed: bool) -> nn.Variable:
    """Apply a basic block of ResNet-18: (B, C, H, W) to (B, channels, H / stride, W / stride)."""
    convolve = partial(PF.convolution, with_bias=False, fix_parameters=fixed)
    with nn.parameter_scope(name):
        h = convolve(x, channels, (3, 3), (1, 1), (stride, stride), name="conv1")
        h = F.relu(batch_norm(h, batch_stat, "bn1", fixed=fixed))
        h = batch_norm(convolve(h, channels, (3, 3), (1, 1), name="conv2"), batch_stat, "bn2", fixed=fixed)
        if x.shape[1] != channels:
            x = convolve(x, channels, (1, 1), stride=(stride, stride), name="downsample")
            x = batch_norm(x, batch_stat, "downsample", fixed=fixed)
    return F.relu(h + x)


def align(
    heatmap: nn.Variable, num_outputs: int = PUBLISHED_OUTPUTS, batch_stat: bool = True, fixed: bool = False
) -> nn.Variable:
    """Predict landmarks from boundary heatmaps.

    Args:
        heatmap: (B, 15, 64, 64) in [0, 1].
        batch_stat: whether to normalize by the batch, as the authors do during the transformer's training.
        fixed: whether to keep the parameters fixed.

    Returns:
        Landmarks (B, num_outputs), x and y of each point.
    """
    assert_shape(heatmap, 15, 64)
    h = PF.convolution(heatmap, 3, (3, 3), (1, 1), fix_parameters=fixed, name="layer0")  # (B, 3, 64, 64)
    h = PF.convolution(h, WIDTHS[0], (7, 7), (3, 3), (2, 2), with_bias=False, fix_parameters=fixed, name="layer1")
    h = F.relu(batch_norm(h, batch_stat, "layer2", fixed=fixed))  # (B, 16, 32, 32)
    h = F.max_pooling(h, (3, 3), (2, 2), pad=(1, 1))  # (B, 16, 16, 16)
    for index, width in enumerate(WIDTHS):
        for repeat in range(2):
            stride = 2 if index > 0 and repeat == 0 else 1
            h = _basic_block(h, width, stride, f"layer{5 + index}_{repeat}", batch_stat, fixed)
    # (B, 128, 2, 2)
    h = F.relu(PF.affine(h, 128, fix_parameters=fixed, name="mlp1"))
    h = F.relu(PF.affine(h, 128, fix_parameters=fixed, name="mlp3"))
    return PF.affine(h, num_outputs, fix_parameters=fixed, name="mlp5")


def shape_code(landmarks: nn.Variable) -> nn.Variable:
    """Compute the first principal components (B, 3) of landmarks (B, N), which represent pose and face shape."""
    components = PF.affine(landmarks, landmarks.shape[1], fix_parameters=True)  # the PCA as an affine map, (B, N)
    return components[:, :SHAPE_CODE_SIZE]
