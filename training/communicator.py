"""Several processes that train one network, each on its share of every batch.

`mpirun -n N python train_<module>.py` starts them. On GPUs gradients are averaged by nnabla's communicator (NCCL), on
CPUs by mpi4py; everything above this file is the same. Rank 0 alone writes and speaks.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import nnabla as nn
import numpy as np
from nnabla.logger import logger

from utils import cuda
from utils.errors import ConfigError, one_line
from utils.libraries import LibraryError, load

# set by Open MPI, by MPICH and its relatives
SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE")
LOCAL_RANK_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMI_RANK")
MAX_TEXT = 4096
MAX_REASON = 300  # letters of what the extension says


class Communicator:
    """Stand for one process on its own; the others have the same methods."""

    rank, size = 0, 1

    def average(self, variables: list[nn.Variable]) -> None:
        """Replace each gradient by the mean over all processes."""

    def any(self, flag: bool) -> bool:
        """Tell whether it is true anywhere."""
        return flag

    def share(self, text: str) -> str:
        """Give rank 0's text to all."""
        return text

    def say(self, text: str) -> None:
        """Log a line once, by rank 0, through nnabla's logger."""
        if self.rank == 0:
            logger.info(text)


class CpuCommunicator(Communicator):
    """Connect processes by MPI.

    Raises:
        ConfigError: mpi4py or an MPI is missing.
    """

    def __init__(self) -> None:
        try:
            MPI = load("mpi4py.MPI", "pip install mpi4py mpich")
        except LibraryError as error:
            raise ConfigError(f"several processes need mpi4py and an MPI: {error}") from None
        self._mpi, self._world = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._world.rank, self._world.size

    def average(self, variables: list[nn.Variable]) -> None:
        """Replace each gradient by the mean over all processes."""
        total = np.concatenate([variable.g.ravel() for variable in variables])
        self._world.Allreduce(self._mpi.IN_PLACE, total)
        total /= self.size
        first = 0
        for variable in variables:
            variable.g = total[first : first + variable.size].reshape(variable.shape)
            first += variable.size

    def any(self, flag: bool) -> bool:
        """Tell whether it is true anywhere."""
        return bool(self._world.allreduce(int(flag)))

    def share(self, text: str) -> str:
        """Give rank 0's text to all."""
        return self._world.bcast(text)


class GpuCommunicator(Communicator):
    """Connect processes by NCCL. Not run yet: no machine with GPUs was at hand.

    Raises:
        ConfigError: NCCL or Open MPI is missing, or another launcher started the processes.
    """

    def __init__(self, context: nn.Context) -> None:
        import nnabla.communicators as C

        try:
            self._nccl = C.MultiProcessDataParalellCommunicator(context)  # their spelling
            self._nccl.init()
        except Exception as error:  # the extension raises many types where a library is missing
            why = one_line(cuda.reason_of(error), MAX_REASON)
            raise ConfigError(
                f"several GPUs need Open MPI's mpirun and NCCL ({why}); docs/TRAINING.md, 'Several GPUs', says how"
            ) from None
        self.rank, self.size = self._nccl.rank, self._nccl.size
        if self.size != num_started():  # or each process would train for itself, as rank 0
            raise ConfigError(
                f"{num_started()} processes were started, of which nnabla sees {self.size}: on GPUs it needs the "
                "mpirun of Open MPI, not MPICH's; docs/TRAINING.md, 'Several GPUs', says how"
            )

    def average(self, variables: list[nn.Variable]) -> None:
        """Replace each gradient by the mean over all processes."""
        self._nccl.all_reduce([variable.grad for variable in variables], division=True, inplace=False)

    def any(self, flag: bool) -> bool:
        """Tell whether it is true anywhere."""
        sum_of_flags = nn.NdArray((1,))
        sum_of_flags.data = float(flag)
        self._nccl.all_reduce([sum_of_flags], division=False, inplace=True)
        return bool(sum_of_flags.data[0] > 0)

    def share(self, text: str) -> str:
        """Give rank 0's text to all."""
        letters = nn.NdArray((MAX_TEXT,))
        letters.data = np.frombuffer(text.encode().ljust(MAX_TEXT, b"\0"), np.uint8)
        self._nccl.bcast([letters], 0)
        return letters.data.astype(np.uint8).tobytes().rstrip(b"\0").decode()


def num_started() -> int:
    """Return how many processes mpirun started, this one among them."""
    return max(int(os.environ.get(name, "1")) for name in SIZE_VARIABLES)


def is_one_of_several() -> bool:
    """Tell whether mpirun started this process along with others."""
    return num_started() > 1


def local_rank() -> int:
    """Return this process's number on its machine, which is its GPU's."""
    return next((int(os.environ[name]) for name in LOCAL_RANK_VARIABLES if name in os.environ), 0)


def connect(context_name: str) -> Communicator:
    """Connect to the other processes, if there are any.

    Raises:
        ConfigError: mpirun started several, but nothing can connect them.
    """
    if not is_one_of_several():
        return Communicator()
    return GpuCommunicator(nn.get_current_context()) if context_name == "cudnn" else CpuCommunicator()


def end_all(exit_code: int) -> NoReturn:
    """End this process and all that train with it."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None:
        mpi.COMM_WORLD.Abort(exit_code)
    os._exit(exit_code)  # mpirun ends the others of a GPU training when one ends with an error
