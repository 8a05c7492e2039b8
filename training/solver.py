"""Solvers: gradients, their average over processes, loss scaling, and updates."""

from __future__ import annotations

import math
from collections.abc import Iterable

import nnabla as nn
import nnabla.solvers as S

from models.network import Network
from training.communicator import Communicator
from utils.errors import NotFiniteError


class LossScale:
    """Dynamic loss scaling for half precision, in which gradients could vanish or overflow.

    The loss is multiplied before the backward pass and gradients are divided after it. An overflow halves the factor
    and skips the update; `GROW_AFTER` updates without one double it. With full precision the factor is 1.
    """

    START, GROW_AFTER, SMALLEST = 8.0, 2000, 2.0**-14

    def __init__(self, is_dynamic: bool = False):
        self.is_dynamic = is_dynamic
        self.value = self.START if is_dynamic else 1.0
        self.good_updates = 0

    def grow(self) -> None:
        """Count an update without an overflow."""
        self.good_updates += 1
        if self.is_dynamic and self.good_updates >= self.GROW_AFTER:
            self.value *= 2
            self.good_updates = 0

    def shrink(self) -> bool:
        """Halve the factor after an overflow; return False if it is already at the minimum."""
        self.good_updates = 0
        if not self.is_dynamic or self.value <= self.SMALLEST:
            return False
        self.value /= 2
        return True

    def state(self) -> list[float]:
        """Return the state for a checkpoint."""
        return [self.value, self.good_updates]

    def restore(self, state: list[float]) -> None:
        """Restore the state of a checkpoint."""
        self.value, self.good_updates = state


class Solver:
    """Adam for one or several networks, with several processes and in either precision.

    The networks must have been built. If there are several, parameters are named `<network>/<parameter>`.
    """

    def __init__(self, networks: Iterable[Network], rate: float, **betas: float):
        self.adam = S.Adam(rate, **betas)
        networks = list(networks)
        for network in networks:
            prefix = f"{network.name}/" if len(networks) > 1 else ""
            parameters = {f"{prefix}{name}": variable for name, variable in network.trained().items()}
            self.adam.set_parameters(parameters, reset=False)
        self.join(Communicator(), LossScale())

    def join(self, communicator: Communicator, loss_scale: LossScale) -> None:
        """Set the communicator and the loss scale of the training."""
        self._communicator, self._loss_scale = communicator, loss_scale

    @property
    def scale(self) -> float:
        """Return the factor of losses in the backward pass."""
        return self._loss_scale.value

    def set_rate(self, rate: float) -> None:
        """Set the learning rate."""
        self.adam.set_learning_rate(rate)

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self.adam.zero_grad()

    def add_gradient(self, loss: nn.Variable, through: Iterable[tuple[nn.Variable, nn.Variable]] = ()) -> None:
        """Run a loss forward and backward, and accumulate gradients.

        Args:
            through: pairs of a leaf at which the loss begins, and the generator's output that it was unlinked from. The
                leaf's gradient is propagated through the generator, whose forward pass must have been run.
        """
        loss.forward(clear_no_need_grad=True)
        for leaf, _ in through:
            leaf.grad.zero()  # the discriminator's backward pass left a gradient in it
        loss.backward(self.scale, clear_buffer=True)
        for _, output in through:
            output.backward(grad=None, clear_buffer=True)

    def update(self, losses: dict[str, nn.Variable], weight_decay: float = 0.0) -> None:
        """Update the networks. Raises NotFiniteError, with the loss's name, instead if a gradient is not finite."""
        parameters = self.adam.get_parameters()
        self._communicator.average(list(parameters.values()))
        # gradients are checked on the device; a loss that is not finite shows in them
        if self.adam.check_inf_or_nan_grad():
            if self._loss_scale.shrink():
                return
            raise NotFiniteError(_name_what_is_not_finite(losses, parameters))
        if self.scale != 1.0:
            self.adam.scale_grad(1.0 / self.scale)
        if weight_decay:
            self.adam.weight_decay(weight_decay)
        self.adam.update()
        self._loss_scale.grow()


def _name_what_is_not_finite(losses: dict[str, nn.Variable], parameters: dict[str, nn.Variable]) -> str:
    for name, loss in losses.items():
        if not math.isfinite(float(loss.d)):
            return f"{name} is {float(loss.d)}"
    names = [name for name, variable in parameters.items() if not math.isfinite(float(abs(variable.g).sum()))]
    return f"the gradient of {names[0] if names else 'a parameter'} is not finite"
