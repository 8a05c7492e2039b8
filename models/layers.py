"""Layers that several networks share. All tensors are (B, C, H, W) float32."""

from __future__ import annotations

import nnabla as nn
import nnabla.functions as F
import nnabla.initializer as I
import nnabla.parametric_functions as PF
import numpy as np
from nnabla.parameter import get_parameter_or_create

from utils.context import current_context

GAN_SIGMA = 0.02
EPSILON = 1e-5  # added to the variance by normalisations
STATISTICS_DECAY = 0.9  # share of BatchNorm's running mean and variance that stays in an update


class GammaInitializer(I.NormalInitializer):
    """Draw N(1, sigma), where the scales of a GAN's normalisation start."""

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        return 1 + super().__call__(shape)


def gan_weights() -> I.NormalInitializer:
    """Draw N(0, 0.02), where the weights of a GAN's convolutions start."""
    return I.NormalInitializer(GAN_SIGMA)


def batch_norm(
    x: nn.Variable, batch_stat: bool, name: str | None = None, gan_init: bool = False, fixed: bool = False
) -> nn.Variable:
    """Apply BatchNorm; `batch_stat` normalises by the batch and moves the running statistics, else these are used."""
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
    """Apply instance normalisation; on a GPU without nnabla's function of that name (docs/GPU.md)."""
    if current_context() == "cpu":
        return PF.instance_normalization(x, eps=EPSILON, param_init={"gamma": GammaInitializer(GAN_SIGMA)}, name=name)
    return instance_norm_by_batch_norm(x, name)


def instance_norm_by_batch_norm(x: nn.Variable, name: str | None = None) -> nn.Variable:
    """Apply instance normalisation as a BatchNorm over one sample with a channel for each instance, the same numbers.

    nnabla's own stops on GPUs of compute capability 9.0, as its reductions do (`losses.mean_by_product`).
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
    """Mirror the rim outward on all four sides."""
    return F.pad(x, (width,) * 4, "reflect")


def assert_shape(x: nn.Variable, channels: int, size: int | None = None) -> None:
    """Check that a network's input is (B, channels, size, size). Raises ValueError if it is not."""
    fits = len(x.shape) == 4 and x.shape[1] == channels and (size is None or x.shape[2:] == (size, size))
    if not fits:
        wanted = f"(B, {channels}, {size or 'H'}, {size or 'W'})"
        raise ValueError(f"expected a tensor of shape {wanted}, got {x.shape}")


def patch_gan(x: nn.Variable, planes: int, fixed: bool = False) -> nn.Variable:
    """Score patches by the PatchGAN that transformer and decoder share (paper section 3.2; Isola et al., CVPR 2017).

    Args:
        x: (B, C, H, W); planes: channels of the first convolution.
        fixed: no gradient reaches the parameters, as in the generator's pass.

    Returns:
        (B, 1, H/8 - 2, W/8 - 2) scores without a sigmoid, one a patch.
    """
    h = PF.convolution(x, planes, (4, 4), (1, 1), (2, 2), w_init=gan_weights(), fix_parameters=fixed, name="conv0")
    h = F.leaky_relu(h, 0.2)
    for index, (multiple, stride) in enumerate(((2, 2), (4, 2), (8, 1)), start=1):
        name = f"conv{index}"
        h = PF.convolution(
            h,
            planes * multiple,
            (4, 4),
            (1, 1),
            (stride, stride),
            w_init=gan_weights(),
            fix_parameters=fixed,
            with_bias=False,
            name=name,
        )
        h = F.leaky_relu(batch_norm(h, True, name, gan_init=True, fixed=fixed), 0.2)
    return PF.convolution(h, 1, (4, 4), (1, 1), w_init=gan_weights(), fix_parameters=fixed, name="conv4")
