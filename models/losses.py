"""Loss terms as functions of tensors; weights and sums are the training scripts' affair. Each returns a scalar."""

from __future__ import annotations

import math

import nnabla as nn
import nnabla.functions as F

from utils.context import current_context

MAX_COLUMNS = 1024


def mean(x: nn.Variable) -> nn.Variable:
    """Average all of a tensor; on a GPU without nnabla's reduction (docs/GPU.md)."""
    return F.mean(x) if current_context() == "cpu" else mean_by_product(x)


def mean_by_product(x: nn.Variable) -> nn.Variable:
    """Average a tensor by a sum down its columns and a product with ones, in single precision.

    The mask of nnabla's other reductions leaves out threads that take part in them, which GPUs of compute capability
    9.0 answer with "an illegal instruction was encountered". Sums of this length do not fit into half precision.
    """
    context = nn.get_current_context()
    backends = [backend for backend in context.backend if not backend.endswith(":half")]
    with nn.context_scope(nn.Context(backends, context.array_class, device_id=context.device_id)):
        columns = math.gcd(x.size, MAX_COLUMNS)
        if columns > 1:
            x, size = F.sum(F.reshape(x, (x.size // columns, columns)), axis=0), x.size
        else:  # sums of a single column are among those reductions
            size = x.size
        share = F.constant(1 / size, (x.size, 1))
        return F.reshape(F.affine(F.reshape(x, (1, x.size)), share), ())


def mean_squared_error(x: nn.Variable, target: nn.Variable) -> nn.Variable:
    """Average the squared differences."""
    return mean(F.squared_error(x, target))


def mean_absolute_error(x: nn.Variable, target: nn.Variable) -> nn.Variable:
    """Average the absolute differences (L1)."""
    return mean(F.absolute_error(x, target))


def heatmap_bce(logits: nn.Variable, target: nn.Variable) -> nn.Variable:
    """Compute the binary cross entropy of sigmoid(logits) against heatmaps in [0, 1]."""
    # nnabla's sigmoid_cross_entropy rounds its targets to 0 or 1, and heatmaps lie between
    return mean(F.softplus(logits) - target * logits)


def probability_bce(probability: nn.Variable, target: nn.Variable) -> nn.Variable:
    """Compute the binary cross entropy of values in (0, 1) against heatmaps in [0, 1]."""
    return mean(F.binary_cross_entropy(probability, target))


def encoder_loss(scores: list[nn.Variable], target: nn.Variable, loss_name: str) -> nn.Variable:
    """Sum a loss, `mse` or `bce`, over the stacks' scores."""
    term = {"mse": mean_squared_error, "bce": heatmap_bce}[loss_name]
    return sum((term(score, target) for score in scores[1:]), term(scores[0], target))


def lsgan(scores: nn.Variable, is_real: bool) -> nn.Variable:
    """Pull scores towards 1 for real, 0 for fake, by least squares (LSGAN, Mao et al., ICCV 2017)."""
    return mean((scores - (1.0 if is_real else 0.0)) ** 2)


def gan_bce(logits: nn.Variable, is_real: bool) -> nn.Variable:
    """Compute the GAN's cross entropy on logits, equal to that on their sigmoid."""
    target = F.constant(1.0 if is_real else 0.0, logits.shape)
    return mean(F.sigmoid_cross_entropy(logits, target))


def feature_mse(features: list[nn.Variable], targets: list[nn.Variable]) -> nn.Variable:
    """Sum the mean squared error between feature maps over layers (perceptual loss, Johnson et al., ECCV 2016)."""
    terms = [mean_squared_error(feature, target) for feature, target in zip(features, targets)]
    return sum(terms[1:], terms[0])


def weighted_sum(losses: dict[str, nn.Variable], weights: dict[str, float] | None = None) -> nn.Variable:
    """Add losses up, by their weights if there are some."""
    first, *others = (loss if weights is None else weights[name] * loss for name, loss in losses.items())
    return sum(others, first)
