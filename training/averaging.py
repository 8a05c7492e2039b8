"""Saved weights: averaged over time if requested, with newly estimated running statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import nnabla as nn
import numpy as np

from models.layers import STATISTICS_DECAY
from models.network import Network

NAME_ENDING = "_average"

# networks of a forward pass in training mode, and the pass as a function of the batch number
Pass = tuple[Iterable[Network], Callable[[int], None]]


class WeightAverage:
    """Exponential moving average of networks' weights, stored in additional networks that checkpoints contain.

    See Yazici et al., The unusual effectiveness of averaging in GAN training, ICLR 2019.

    Args:
        networks: networks that have been built and initialized.
        decay: weight of the old average in an update; 0 disables averaging.
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
        """Update the average. The decay is smaller at first, so that the initial weights are forgotten."""
        decay = min(self._decay, (1 + iteration) / (10 + iteration))
        for average, weight in self._pairs:
            average.data *= decay
            average.data += weight.data * (1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the networks' weights by the average while the block runs."""
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
    """Replace running statistics by means over batches `numbers`, if any, while the block runs.

    During training they are exponential averages over few small batches, and noisy (Izmailov et al., Averaging weights
    leads to wider optima, UAI 2018, section 3.2).
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
            run(number)  # leaves (1 - STATISTICS_DECAY) times the statistics of the batch
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
    """Put networks in the state in which they are saved while the block runs."""
    with average.applied() if average.networks else nullcontext(), fresh_statistics(passes, numbers):
        yield
