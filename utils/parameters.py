"""Parameters of nnabla's networks, from and to weights files; checked before anything in memory changes.

Apart from `weights.py`, which does without nnabla: the converter of the authors' files runs where there is none.
"""

from __future__ import annotations

from pathlib import Path

import nnabla as nn

from utils.files import atomic_path, file_digest
from utils.weights import read_parameters, set_sum, write_arrays


def parameters_of(scope: str) -> dict[str, nn.Variable]:
    """Return all parameters below a scope by their name in a file, running statistics included."""
    with nn.parameter_scope(scope):
        return nn.get_parameters(grad_only=False)


def write_parameters(path: Path, scope: str) -> None:
    """Write a network's parameters to a temporary file; `save_parameters` is for final ones."""
    parameters = parameters_of(scope)
    need_grad = {name: variable.need_grad for name, variable in parameters.items()}
    write_arrays(path, {name: variable.d for name, variable in parameters.items()}, need_grad)


def save_parameters(path: str | Path, scope: str) -> None:
    """Write a network's parameters, running statistics included; the file is complete or not there."""
    path = Path(path)
    with atomic_path(path) as temporary:
        write_parameters(temporary, scope)
        digest = file_digest(temporary)
        set_sum(path, None)  # a file never stands beside the sum of another
    set_sum(path, digest)


def load_parameters(path: str | Path, scope: str) -> None:
    """Fill every parameter of a network that was built under `scope`.

    Raises:
        WeightsError: the file is missing, foreign or damaged, or lacks a parameter, has one too many, or one of
            another shape or type or with values that are not finite. The network is then as it was.
    """
    expected = parameters_of(scope)
    arrays = read_parameters(path, {name: variable.shape for name, variable in expected.items()})
    for name, array in arrays.items():
        expected[name].d = array
