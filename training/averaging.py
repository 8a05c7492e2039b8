"""Weights as they are saved: averaged over time where that is asked for, with running statistics estimated anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext

import nnabla as nn
import numpy as np

from models.layers import STATISTICS_DECAY
from utils.parameters import parameters_of

SCOPE_ENDING = "_average"

# Scopes that a pass goes through in training mode, and the pass by the number of its batch
Pass = tuple[Iterable[str], Callable[[int], None]]


class WeightAverage:
    """Keep an exponential average of networks' weights over time, in scopes of their own that checkpoints hold.

    The average of a GAN's generator moves less from update to update than its weights do (Yazici et al., The unusual
    effectiveness of averaging in GAN training, ICLR 2019).

    Args:
        networks: scopes of networks that are built and filled.
        decay: share that stays in an update; 0 keeps no average.
    """

    def __init__(self, networks: Iterable[str], decay: float):
        self._decay = decay
        self._pairs: list[tuple[nn.Variable, nn.Variable]] = []  # average and weight
        self.scopes = tuple(network + SCOPE_ENDING for network in networks) if decay else ()
        for scope in self.scopes:
            for name, weight in parameters_of(scope.removesuffix(SCOPE_ENDING)).items():
                if weight.need_grad:
                    average = nn.Variable.from_numpy_array(weight.d.copy())
                    nn.parameter.set_parameter(f"{scope}/{name}", average)
                    self._pairs.append((average, weight))

    def update(self, iteration: int) -> None:
        """Let the average follow the weights, faster at first, so that it forgets where they began."""
        decay = min(self._decay, (1 + iteration) / (10 + iteration))
        for average, weight in self._pairs:
            average.data *= decay
            average.data += weight.data * (1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the networks while the block runs."""
        kept = [weight.d.copy() for _, weight in self._pairs]
        for average, weight in self._pairs:
            weight.d = average.d
        try:
            yield
        finally:
            for (_, weight), before in zip(self._pairs, kept):
                weight.d = before


@contextmanager
def fresh_statistics(passes: list[Pass], numbers: range) -> Iterator[None]:
    """Give networks running statistics that are means over some batches while the block runs.

    Those of the training are exponential averages of few small batches, and as noisy as these (Izmailov et al.,
    Averaging weights leads to wider optima, UAI 2018, section 3.2).

    Args:
        passes: through the networks, in training mode.
        numbers: of the batches; none leaves the statistics as they are.
    """
    statistics = {
        scope: [v for v in parameters_of(scope).values() if not v.need_grad] for scopes, _ in passes for scope in scopes
    }
    kept = {scope: [v.d.copy() for v in variables] for scope, variables in statistics.items()}
    sums = {scope: [np.zeros_like(array) for array in arrays] for scope, arrays in kept.items()}
    counts = dict.fromkeys(statistics, 0)
    for number in numbers:
        for scopes, run in passes:
            touched = [v for scope in scopes for v in statistics[scope]]
            for variable in touched:
                variable.d = 0
            run(number)  # leaves a known share of the batch's own statistics
            for scope in scopes:
                counts[scope] += 1
                for total, variable in zip(sums[scope], statistics[scope]):
                    total += variable.d / (1 - STATISTICS_DECAY)
    try:
        for scope, variables in statistics.items():
            for variable, total in zip(variables, sums[scope]) if counts[scope] else ():
                variable.d = total / counts[scope]
        yield
    finally:
        for scope, variables in statistics.items():
            for variable, before in zip(variables, kept[scope]):
                variable.d = before


@contextmanager
def weights_to_save(average: WeightAverage, passes: list[Pass], numbers: range) -> Iterator[None]:
    """Have networks as they are to be saved while the block runs; the training goes on as if nothing had been."""
    with average.applied() if average.scopes else nullcontext(), fresh_statistics(passes, numbers):
        yield
