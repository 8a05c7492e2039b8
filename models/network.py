"""A network as an object: its function, parameters and weights files."""

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
    """A network with its own parameter scope."""

    name: str  # parameter scope, and name in checkpoints
    function: Callable[..., Any] | None = None  # builds the network from variables
    input_shape: tuple[int, ...] = ()  # (C, H, W) at inference
    for_inference: Callable[[nn.Variable, Any], nn.Variable] | None = None  # from an input and the run's configuration
    file_prefix: str = ""  # of weights files; '' is the name and an underscore

    def __call__(self, *inputs: nn.Variable, **options: Any) -> Any:
        """Build the network; building it again shares the parameters."""
        with nn.parameter_scope(self.name):
            return self.function(*inputs, **options)

    def with_suffix(self, suffix: str) -> Network:
        """Return a network with the same function and another name."""
        return replace(self, name=self.name + suffix)

    def evaluate(self, x: nn.Variable, config: Any) -> nn.Variable:
        """Build the network in evaluation mode.

        Takes faces (B, 3, 256, 256) in [-1, 1] (encoder) or heatmaps (B, 15, 64, 64) in [0, 1]; returns heatmaps, or
        faces in (-1, 1) (decoder).
        """
        with nn.parameter_scope(self.name):
            return self.for_inference(x, config)

    def parameters(self) -> dict[str, nn.Variable]:
        """Return all parameters, running statistics included, by their names in weights files."""
        with nn.parameter_scope(self.name):
            return nn.get_parameters(grad_only=False)

    def trained(self) -> dict[str, nn.Variable]:
        """Return the trainable parameters."""
        return {name: variable for name, variable in self.parameters().items() if variable.need_grad}

    def statistics(self) -> list[nn.Variable]:
        """Return the running statistics."""
        return [variable for variable in self.parameters().values() if not variable.need_grad]

    def weights_file(self, epoch: int) -> str:
        """Return the name of the weights file of an epoch."""
        return f"{self.weights_prefix}{epoch}.h5"

    @property
    def weights_prefix(self) -> str:
        """Return the prefix of weights files."""
        return self.file_prefix or f"{self.name}_"

    def write(self, path: Path) -> None:
        """Write the parameters to a file without atomicity or a digest."""
        parameters = self.parameters()
        need_grad = {name: variable.need_grad for name, variable in parameters.items()}
        write_arrays(path, {name: variable.d for name, variable in parameters.items()}, need_grad)

    def save(self, path: str | Path) -> None:
        """Write the parameters, running statistics included, atomically, and record the file's digest."""
        path = Path(path)
        with atomic_path(path) as temporary:
            self.write(temporary)
            digest = file_digest(temporary)
            set_sum(path, None)  # a file must never have another file's digest
        set_sum(path, digest)

    def load(self, path: str | Path) -> None:
        """Set all parameters of the network, which must have been built.

        Raises WeightsError, with nothing changed, if the file is missing or damaged or does not fit the network.
        """
        expected = self.parameters()
        arrays = read_parameters(path, {name: variable.shape for name, variable in expected.items()})
        for name, array in arrays.items():
            expected[name].d = array
