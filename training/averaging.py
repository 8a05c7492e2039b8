"""Weights as they are saved: averaged over time where that is asked for, with running statistics estimated anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import nnabla as nn
import numpy as np

from models.layers import STATISTICS_DECAY
from models.network import Network

NAME_ENDING = "_average"

# Networks that a pass goes through in training mode, and the pass by the number of its batch
Pass = tuple[Iterable[Network], Callable[[int], None]]


class WeightAverage:
    """Keep an exponential average of networks' weights over time, in networks of their own that checkpoints hold.

    The average of a GAN's generator moves less from update to update than its weights do (Yazici et al., The unusual
    effectiveness of averaging in GAN training, ICLR 2019).

    Args:
        networks: that are built and filled.
        decay: share that stays in an update; 0 keeps no average.
    """

    def __init__(self, networks: Iterable[Network], decay: float):
        self._decay = decay
        self._pairs: list[tuple[nn.Variable, nn.Variable]] = []  # average and weight
        self.networks = []
        for network in networks if decay else ():
            self.networks.append(Network(network.name + NAME_ENDING))
            for name, weight in network.trained().items():
                average = nn.Variable.from_numpy_array(weight.d.copy())
                nn.parameter.set_parameter(f"{network.name}{NAME_ENDING}/{name}", average)
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
def fresh_statistics(passes: Sequence[Pass], numbers: range) -> Iterator[None]:
    """Give networks running statistics that are means over some batches while the block runs.

    Those of the training are exponential averages of few small batches, and as noisy as these (Izmailov et al.,
    Averaging weights leads to wider optima, UAI 2018, section 3.2).

    Args:
        passes: through the networks, in training mode.
        numbers: of the batches; none leaves the statistics as they are.
    """
    statistics = {network: network.statistics() for networks, _ in passes for network in networks}
    kept = {network: [v.d.copy() for v in variables] for network, variables in statistics.items()}
    sums = {network: [np.zeros_like(array) for array in arrays] for network, arrays in kept.items()}
    counts = dict.fromkeys(statistics, 0)
    for number in numbers:
        for networks, run in passes:
            touched = [v for network in networks for v in statistics[network]]
            for variable in touched:
                variable.d = 0
            run(number)  # leaves a known share of the batch's own statistics
            for network in networks:
                counts[network] += 1
                for total, variable in zip(sums[network], statistics[network]):
                    total += variable.d / (1 - STATISTICS_DECAY)
    try:
        for network, variables in statistics.items():
            for variable, total in zip(variables, sums[network]) if counts[network] else ():
                variable.d = total / counts[network]
        yield
    finally:
        for network, variables in statistics.items():
            for variable, before in zip(variables, kept[network]):
                variable.d = before


@contextmanager
def weights_to_save(average: WeightAverage, passes: Sequence[Pass], numbers: range) -> Iterator[None]:
    """Hold networks as they are saved while the block runs; the training itself is not changed."""
    with average.applied() if average.networks else nullcontext(), fresh_statistics(passes, numbers):
        yield
