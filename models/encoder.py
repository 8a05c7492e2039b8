"""Boundary encoder: a face to 15 boundary heatmaps with a stacked hourglass (paper section 3.1)."""

from __future__ import annotations

import nnabla as nn
import nnabla.functions as F
import nnabla.initializer as I
import nnabla.parametric_functions as PF

from models.layers import assert_shape, batch_norm

HOURGLASS_DEPTH = 4


def residual(x: nn.Variable, planes: int, name: str, batch_stat: bool) -> nn.Variable:
    """Apply a pre-activation bottleneck of half width. The shortcut is a 1x1 convolution where the width changes.

    Returns:
        (B, planes, H, W) for an input (B, C, H, W).
    """
    with nn.parameter_scope(name):
        h = F.relu(batch_norm(x, batch_stat, "bn1"))
        h = PF.convolution(h, planes // 2, (1, 1), name="conv1")  # (B, planes / 2, H, W)
        h = F.relu(batch_norm(h, batch_stat, "bn2"))
        h = PF.convolution(h, planes // 2, (3, 3), (1, 1), name="conv2")
        h = F.relu(batch_norm(h, batch_stat, "bn3"))
        h = PF.convolution(h, planes, (1, 1), name="conv3")  # (B, planes, H, W)
        shortcut = x if x.shape[1] == planes else PF.convolution(x, planes, (1, 1), name="downsample")
    return h + shortcut


def hourglass(x: nn.Variable, batch_stat: bool, level: int = HOURGLASS_DEPTH - 1) -> nn.Variable:
    """Apply an hourglass to a tensor (B, C, H, W). Levels are counted from the innermost, 0."""
    planes = x.shape[1]
    skip = residual(x, planes, f"{level}.0.0", batch_stat)
    h = F.max_pooling(x, (2, 2))  # (B, C, H / 2, W / 2)
    h = residual(h, planes, f"{level}.1.0", batch_stat)
    h = hourglass(h, batch_stat, level - 1) if level > 0 else residual(h, planes, "0.3.0", batch_stat)
    h = residual(h, planes, f"{level}.2.0", batch_stat)
    return skip + F.interpolate(h, scale=(2, 2), mode="nearest")


def prediction_of(scores: list[nn.Variable], loss_name: str) -> nn.Variable:
    """Return the prediction (B, 15, h, w), about [0, 1]: the last score, a logit if trained with cross entropy."""
    return F.sigmoid(scores[-1]) if loss_name == "bce" else scores[-1]


def encoder(image: nn.Variable, num_stacks: int = 2, planes: int = 64, batch_stat: bool = True) -> list[nn.Variable]:
    """Predict boundary heatmaps.

    Args:
        image: (B, 3, H, W) in [-1, 1], sides a multiple of 64.
        planes: base channels; hourglasses have four times as many.
        batch_stat: True in training, False in evaluation.

    Returns:
        `num_stacks` scores (B, 15, H / 4, W / 4); the last one is the prediction.
    """
    assert_shape(image, 3)
    h = PF.convolution(image, planes, (7, 7), (3, 3), (2, 2), name="conv1")  # (B, 64, 128, 128)
    h = F.relu(batch_norm(h, batch_stat, "bn1"))
    h = residual(h, 2 * planes, "layer1", batch_stat)
    h = F.max_pooling(h, (2, 2))  # (B, 128, 64, 64)
    h = residual(h, 4 * planes, "layer2", batch_stat)
    x = residual(h, 4 * planes, "layer3", batch_stat)  # (B, 256, 64, 64)
    scores = []
    for stack in range(num_stacks):
        with nn.parameter_scope(f"hourglass{stack}"):
            h = hourglass(x, batch_stat)
        h = residual(h, 4 * planes, f"res{stack}", batch_stat)
        h = PF.convolution(h, 4 * planes, (1, 1), name=f"fc{stack}")
        h = F.relu(batch_norm(h, batch_stat, f"fc{stack}"))
        # zeros, because empty heatmaps are nearly right at the start
        empty = I.ConstantInitializer(0)
        scores.append(PF.convolution(h, 15, (1, 1), w_init=empty, name=f"score{stack}"))
        if stack + 1 < num_stacks:
            # published names are `fc_` and `score_`; further stacks get a number
            feed = "" if stack == 0 else str(stack)
            features = PF.convolution(h, 4 * planes, (1, 1), name=f"fc_{feed}")
            fed_back = PF.convolution(scores[-1], 4 * planes, (1, 1), name=f"score_{feed}")
            x = x + features + fed_back
    return scores
