"""Layers that several networks share. All tensors are (B, C, H, W) float32."""

from __future__ import annotations

from functools import partial

import nnabla as nn
import nnabla.functions as F
import nnabla.initializer as I
import nnabla.parametric_functions as PF
import numpy as np
from nnabla.parameter import get_parameter_or_create

from utils.context import current_context

GAN_SIGMA = 0.02
EPSILON = 1e-5  # added to the variance by normalisations
STATISTICS_DECAY = 0.9  # weight of the old running statistics in an update


class GammaInitializer(I.NormalInitializer):
    """Initializer of normalization scales in GANs, N(1, sigma)."""

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        return 1 + super().__call__(shape)


def gan_weights() -> I.NormalInitializer:
    """Return the initializer of convolutions in GANs, N(0, 0.02)."""
    return I.NormalInitializer(GAN_SIGMA)


def batch_norm(
    x: nn.Variable, batch_stat: bool, name: str | None = None, gan_init: bool = False, fixed: bool = False
) -> nn.Variable:
    """Apply batch normalization, with batch statistics (which updates the running ones) or running statistics."""
    start = {"gamma": GammaInitializer(GAN_SIGMA)} if gan_init else None
    return PF.batch_normalization(
        x,
        eps=EPSILON,
        decay_rate=STATISTICS_DECAY,
        batch_stat=batch_stat,
        fix_parameters=fixed,
        param_init=start,
        name=name,
    )


def instance_norm(x: nn.Variable, name: str | None = None) -> nn.Variable:
    """Apply instance normalization; on GPUs without nnabla's own function (docs/GPU.md)."""
    if current_context() == "cpu":
        return PF.instance_normalization(x, eps=EPSILON, param_init={"gamma": GammaInitializer(GAN_SIGMA)}, name=name)
    return instance_norm_by_batch_norm(x, name)


def instance_norm_by_batch_norm(x: nn.Variable, name: str | None = None) -> nn.Variable:
    """Apply instance normalization as batch normalization of one sample with a channel per instance.

    nnabla's own function fails on GPUs of compute capability 9.0, like its reductions (`losses.mean_by_product`).
    """
    with nn.parameter_scope(f"{name}/instance_normalization" if name else "instance_normalization"):
        shape = (1, x.shape[1], 1, 1)
        beta = get_parameter_or_create("beta", shape, I.ConstantInitializer(0), need_grad=True)
        gamma = get_parameter_or_create("gamma", shape, GammaInitializer(GAN_SIGMA), need_grad=True)
    instances = x.shape[0] * x.shape[1]
    zero, one, mean, variance = (
        nn.Variable.from_numpy_array(np.full((1, instances, 1, 1), value, np.float32)) for value in (0, 1, 0, 1)
    )
    rows = F.reshape(x, (1, instances, *x.shape[2:]))
    rows = F.batch_normalization(rows, zero, one, mean, variance, eps=EPSILON, batch_stat=True)
    return F.reshape(rows, x.shape) * gamma + beta


def reflect_pad(x: nn.Variable, width: int) -> nn.Variable:
    """Pad all four sides by reflection."""
    return F.pad(x, (width,) * 4, "reflect")


def assert_shape(x: nn.Variable, channels: int, size: int | None = None) -> None:
    """Check that a network's input is (B, channels, size, size). Raises ValueError if it is not."""
    fits = len(x.shape) == 4 and x.shape[1] == channels and (size is None or x.shape[2:] == (size, size))
    if not fits:
        wanted = f"(B, {channels}, {size or 'H'}, {size or 'W'})"
        raise ValueError(f"expected a tensor of shape {wanted}, got {x.shape}")


def patch_gan(x: nn.Variable, planes: int, fixed: bool = False) -> nn.Variable:
    """Score patches of an image (PatchGAN; paper section 3.2; Isola et al., CVPR 2017).

    Args:
        planes: channels of the first convolution.
        fixed: whether to keep the parameters fixed, as in the generator's pass.

    Returns:
        Scores (B, 1, H / 8 - 2, W / 8 - 2) without a sigmoid, for an input (B, C, H, W).
    """
    convolve = partial(PF.convolution, w_init=gan_weights(), fix_parameters=fixed)
    h = convolve(x, planes, (4, 4), (1, 1), (2, 2), name="conv0")
    h = F.leaky_relu(h, 0.2)
    for index, (multiple, stride) in enumerate(((2, 2), (4, 2), (8, 1)), start=1):
        name = f"conv{index}"
        h = convolve(h, planes * multiple, (4, 4), (1, 1), (stride, stride), with_bias=False, name=name)
        h = F.leaky_relu(batch_norm(h, True, name, gan_init=True, fixed=fixed), 0.2)
    return convolve(h, 1, (4, 4), (1, 1), name="conv4")
