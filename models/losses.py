"""Loss terms: functions of tensors that return a scalar."""

from __future__ import annotations

import math

import nnabla as nn
import nnabla.functions as F

from utils.context import current_context

MAX_COLUMNS = 1024


def mean(x: nn.Variable) -> nn.Variable:
    """Return the mean of a tensor; on GPUs without nnabla's reduction (docs/GPU.md)."""
    return F.mean(x) if current_context() == "cpu" else mean_by_product(x)


def mean_by_product(x: nn.Variable) -> nn.Variable:
    """Compute the mean by a sum over columns and a matrix product, in single precision.

    nnabla's other reductions fail with "an illegal instruction was encountered" on GPUs of compute capability 9.0.
    Sums of this length overflow in half precision.
    """
    context = nn.get_current_context()
    backends = [backend for backend in context.backend if not backend.endswith(":half")]
    with nn.context_scope(nn.Context(backends, context.array_class, device_id=context.device_id)):
        columns = math.gcd(x.size, MAX_COLUMNS)
        if columns > 1:
            x, size = F.sum(F.reshape(x, (x.size // columns, columns)), axis=0), x.size
        else:  # a sum over one column uses such a reduction
            size = x.size
        share = F.constant(1 / size, (x.size, 1))
        return F.reshape(F.affine(F.reshape(x, (1, x.size)), share), ())


def mean_squared_error(x: nn.Variable, target: nn.Variable) -> nn.Variable:
    """Return the mean squared error."""
    return mean(F.squared_error(x, target))


def mean_absolute_error(x: nn.Variable, target: nn.Variable) -> nn.Variable:
    """Return the mean absolute error (L1)."""
    return mean(F.absolute_error(x, target))


def heatmap_bce(logits: nn.Variable, target: nn.Variable) -> nn.Variable:
    """Return the binary cross entropy between sigmoid(logits) and heatmaps in [0, 1]."""
    # nnabla's sigmoid_cross_entropy rounds its targets to 0 or 1
    return mean(F.softplus(logits) - target * logits)


def probability_bce(probability: nn.Variable, target: nn.Variable) -> nn.Variable:
    """Return the binary cross entropy between probabilities in (0, 1) and heatmaps in [0, 1]."""
    return mean(F.binary_cross_entropy(probability, target))


def encoder_loss(scores: list[nn.Variable], target: nn.Variable, loss_name: str) -> nn.Variable:
    """Return the sum of a loss, `mse` or `bce`, over all stacks."""
    term = {"mse": mean_squared_error, "bce": heatmap_bce}[loss_name]
    return sum((term(score, target) for score in scores[1:]), term(scores[0], target))


def lsgan(scores: nn.Variable, is_real: bool) -> nn.Variable:
    """Return the squared error of scores to 1 (real) or 0 (fake) (LSGAN, Mao et al., ICCV 2017)."""
    return mean((scores - (1.0 if is_real else 0.0)) ** 2)


def gan_bce(logits: nn.Variable, is_real: bool) -> nn.Variable:
    """Return the cross entropy of logits to 1 (real) or 0 (fake)."""
    target = F.constant(1.0 if is_real else 0.0, logits.shape)
    return mean(F.sigmoid_cross_entropy(logits, target))


def feature_mse(features: list[nn.Variable], targets: list[nn.Variable]) -> nn.Variable:
    """Return the mean squared error between feature maps, summed over layers (Johnson et al., ECCV 2016)."""
    terms = [mean_squared_error(feature, target) for feature, target in zip(features, targets)]
    return sum(terms[1:], terms[0])


def weighted_sum(losses: dict[str, nn.Variable], weights: dict[str, float] | None = None) -> nn.Variable:
    """Return the sum of losses, weighted if weights are given."""
    first, *others = (loss if weights is None else weights[name] * loss for name, loss in losses.items())
    return sum(others, first)
