"""Updates: all that stands between a backward pass and a solver's step."""

from __future__ import annotations

import math

import nnabla as nn
import nnabla.solvers as S

from training.communicator import Communicator
from utils.errors import NotFiniteError


def adam_of(scope: str, rate: float, **betas: float) -> S.Solver:
    """Make an Adam for the parameters of one network."""
    solver = S.Adam(rate, **betas)
    with nn.parameter_scope(scope):
        solver.set_parameters(nn.get_parameters())
    return solver


class LossScale:
    """Scale losses dynamically for half precision, whose gradients would vanish or overflow otherwise.

    The loss is multiplied before the backward pass and the gradients divided after it. An overflow halves the factor
    and leaves the update out; `GROW_AFTER` updates without one double it. At full precision it is 1 for good.
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
        """Halve the factor after an overflow; gives False where there is nothing left to shrink."""
        self.good_updates = 0
        if not self.is_dynamic or self.value <= self.SMALLEST:
            return False
        self.value /= 2
        return True


class Updater:
    """Update parameters, over several processes and in either precision, unless a number is not finite.

    Args:
        is_half: half precision, with loss scaling.
    """

    def __init__(self, communicator: Communicator | None = None, is_half: bool = False):
        self.communicator, self.loss_scale = communicator or Communicator(), LossScale(is_half)

    @property
    def scale(self) -> float:
        """Return the factor that a loss's backward pass begins with."""
        return self.loss_scale.value

    def state(self) -> list[float]:
        """Return what a checkpoint keeps."""
        return [self.loss_scale.value, self.loss_scale.good_updates]

    def restore(self, state: list[float]) -> None:
        """Go back to what a checkpoint kept."""
        self.loss_scale.value, self.loss_scale.good_updates = state

    def update(self, solver: S.Solver, losses: dict[str, nn.Variable], weight_decay: float = 0.0) -> None:
        """Take one step of a solver whose gradients are there.

        Args:
            losses: for the message where a number is not finite.

        Raises:
            NotFiniteError: a gradient is not finite; nothing has been updated.
        """
        parameters = solver.get_parameters()
        self.communicator.average(list(parameters.values()))
        # one look at the gradients, whose numbers stay on the device: a loss that is not finite shows in them
        if solver.check_inf_or_nan_grad():
            if self.loss_scale.shrink():
                return
            raise NotFiniteError(_name_what_is_not_finite(losses, parameters))
        if self.scale != 1.0:
            solver.scale_grad(1.0 / self.scale)
        if weight_decay:
            solver.weight_decay(weight_decay)
        solver.update()
        self.loss_scale.grow()


def _name_what_is_not_finite(losses: dict[str, nn.Variable], parameters: dict[str, nn.Variable]) -> str:
    for name, loss in losses.items():
        if not math.isfinite(float(loss.d)):
            return f"{name} is {float(loss.d)}"
    names = [name for name, variable in parameters.items() if not math.isfinite(float(abs(variable.g).sum()))]
    return f"the gradient of {names[0] if names else 'a parameter'} is not finite"
