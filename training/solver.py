"""Solvers: all that stands between a backward pass and an update."""

from __future__ import annotations

import math
from collections.abc import Iterable

import nnabla as nn
import nnabla.solvers as S

from models.network import Network
from training.communicator import Communicator
from utils.errors import NotFiniteError


class LossScale:
    """Scale losses dynamically for half precision, whose gradients would vanish or overflow otherwise.

    The loss is multiplied before the backward pass and the gradients divided after it. An overflow halves the factor
    and leaves the update out; `GROW_AFTER` updates without one double it. At full precision it stays 1.
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
        """Halve the factor after an overflow; return False if it cannot shrink any further."""
        self.good_updates = 0
        if not self.is_dynamic or self.value <= self.SMALLEST:
            return False
        self.value /= 2
        return True

    def state(self) -> list[float]:
        """Return what a checkpoint keeps."""
        return [self.value, self.good_updates]

    def restore(self, state: list[float]) -> None:
        """Go back to what a checkpoint kept."""
        self.value, self.good_updates = state


class Solver:
    """Adam for some networks, which a training runs over several processes and in either precision.

    Args:
        networks: that are built; of several, parameters are named `<network>/<parameter>`.
        rate: the learning rate.
        betas: Adam's beta1 and beta2.
    """

    def __init__(self, networks: Iterable[Network], rate: float, **betas: float):
        self.adam = S.Adam(rate, **betas)
        self.networks = networks = list(networks)
        for network in networks:
            prefix = f"{network.name}/" if len(networks) > 1 else ""
            parameters = {f"{prefix}{name}": variable for name, variable in network.trained().items()}
            self.adam.set_parameters(parameters, reset=False)
        self.join(Communicator(), LossScale())

    def join(self, communicator: Communicator, loss_scale: LossScale) -> None:
        """Take part in a training of several processes, or in half precision."""
        self._communicator, self._loss_scale = communicator, loss_scale

    @property
    def scale(self) -> float:
        """Return the factor that a loss's backward pass begins with."""
        return self._loss_scale.value

    def set_rate(self, rate: float) -> None:
        """Change the learning rate."""
        self.adam.set_learning_rate(rate)

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self.adam.zero_grad()

    def add_gradient(self, loss: nn.Variable, through: Iterable[tuple[nn.Variable, nn.Variable]] = ()) -> None:
        """Run a loss forward and backward, which adds to the gradients.

        Args:
            through: a leaf that the loss begins at and the generator's output that the leaf stands for, in pairs; the
                gradient of the leaf goes on backward through the generator, which has run already.
        """
        loss.forward(clear_no_need_grad=True)
        for leaf, _ in through:
            leaf.grad.zero()  # the discriminator's pass may have left something in it
        loss.backward(self.scale, clear_buffer=True)
        for _, output in through:
            output.backward(grad=None, clear_buffer=True)

    def update(self, losses: dict[str, nn.Variable], weight_decay: float = 0.0) -> None:
        """Update the networks by the gradients of a backward pass, unless a number is not finite.

        Args:
            losses: for the message if a number is not finite.

        Raises:
            NotFiniteError: a gradient is not finite; nothing has been updated.
        """
        parameters = self.adam.get_parameters()
        self._communicator.average(list(parameters.values()))
        # one look at the gradients, whose numbers stay on the device: a loss that is not finite shows in them
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
