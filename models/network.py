"""A network as an object: what builds it, its parameters, and its weights files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nnabla as nn

from utils.files import atomic_path, file_digest
from utils.weights import read_parameters, set_sum, write_arrays


@dataclass(frozen=True)
class Network:
    """A network whose parameters lie in a scope of its own.

    Attributes:
        name: the scope, also its name in checkpoints.
        function: builds it, as a function of tensors.
        input_shape: (C, H, W) of its input at inference.
        for_inference: builds it in evaluation mode as the configuration of its training says.
        file_prefix: what the names of its weights files begin with; '' is the name and an underscore.
    """

    name: str
    function: Callable[..., Any] | None = None
    input_shape: tuple[int, ...] = ()
    for_inference: Callable[[nn.Variable, Any], nn.Variable] | None = None
    file_prefix: str = ""

    def __call__(self, *inputs: nn.Variable, **options: Any) -> Any:
        """Build the network, or build it once more with the same parameters."""
        with nn.parameter_scope(self.name):
            return self.function(*inputs, **options)

    def with_suffix(self, suffix: str) -> Network:
        """Return a network of the same kind under another name."""
        return replace(self, name=self.name + suffix)

    def evaluate(self, x: nn.Variable, config: Any) -> nn.Variable:
        """Build the network in evaluation mode.

        Args:
            x: (B, 3, 256, 256) in [-1, 1] for the encoder, else heatmaps (B, 15, 64, 64) in [0, 1].

        Returns:
            heatmaps (B, 15, 64, 64), or of the decoder faces (B, 3, 256, 256) in (-1, 1).
        """
        with nn.parameter_scope(self.name):
            return self.for_inference(x, config)

    def parameters(self) -> dict[str, nn.Variable]:
        """Return all parameters by their names in a file, running statistics included."""
        with nn.parameter_scope(self.name):
            return nn.get_parameters(grad_only=False)

    def trained(self) -> dict[str, nn.Variable]:
        """Return the parameters that a solver updates."""
        return {name: variable for name, variable in self.parameters().items() if variable.need_grad}

    def statistics(self) -> list[nn.Variable]:
        """Return the running statistics."""
        return [variable for variable in self.parameters().values() if not variable.need_grad]

    def weights_file(self, epoch: int) -> str:
        """Return the name of the weights file of an epoch."""
        return f"{self.weights_prefix}{epoch}.h5"

    @property
    def weights_prefix(self) -> str:
        """Return what the names of its weights files begin with."""
        return self.file_prefix or f"{self.name}_"

    def write(self, path: Path) -> None:
        """Write the parameters to a temporary file; `save` is for final ones."""
        parameters = self.parameters()
        need_grad = {name: variable.need_grad for name, variable in parameters.items()}
        write_arrays(path, {name: variable.d for name, variable in parameters.items()}, need_grad)

    def save(self, path: str | Path) -> None:
        """Write the parameters, running statistics included; the file is complete or does not exist."""
        path = Path(path)
        with atomic_path(path) as temporary:
            self.write(temporary)
            digest = file_digest(temporary)
            set_sum(path, None)  # a file never stands next to the sum of another
        set_sum(path, digest)

    def load(self, path: str | Path) -> None:
        """Fill every parameter of the network, which has been built.

        Raises:
            WeightsError: the file is missing, foreign or damaged, or lacks a parameter, has one too many, or one of
                another shape or type or with values that are not finite. The network is then as it was.
        """
        expected = self.parameters()
        arrays = read_parameters(path, {name: variable.shape for name, variable in expected.items()})
        for name, array in arrays.items():
            expected[name].d = array
