"""Data-parallel training: several processes, each with its share of every batch.

They are started by `mpirun -n N python train_<module>.py`. Gradients are averaged by nnabla's communicator (NCCL) on
GPUs and by mpi4py on CPUs. Only rank 0 writes and logs.
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

# set by Open MPI, by MPICH and its relatives
SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE")
LOCAL_RANK_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMI_RANK")
MAX_TEXT = 4096
MAX_REASON = 300


class Communicator:
    """A single process, and the interface of the other communicators."""

    rank, size = 0, 1

    def average(self, variables: list[nn.Variable]) -> None:
        """Average gradients over all processes."""

    def any(self, flag: bool) -> bool:
        """Return whether a flag is true in any process."""
        return flag

    def share(self, text: str) -> str:
        """Return the text of rank 0."""
        return text

    def say(self, text: str) -> None:
        """Log a message once."""
        if self.rank == 0:
            logger.info(text)


class CpuCommunicator(Communicator):
    """Processes connected by MPI. Raises ConfigError if mpi4py or an MPI is missing."""

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            message = f"several processes require mpi4py and MPI ({one_line(error)}); 'pip install mpi4py mpich'"
            raise ConfigError(message) from None
        self._mpi, self._world = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._world.rank, self._world.size

    def average(self, variables: list[nn.Variable]) -> None:
        """Average gradients over all processes."""
        total = np.concatenate([variable.g.ravel() for variable in variables])
        self._world.Allreduce(self._mpi.IN_PLACE, total)
        total /= self.size
        first = 0
        for variable in variables:
            variable.g = total[first : first + variable.size].reshape(variable.shape)
            first += variable.size

    def any(self, flag: bool) -> bool:
        """Return whether a flag is true in any process."""
        return bool(self._world.allreduce(int(flag)))

    def share(self, text: str) -> str:
        """Return the text of rank 0."""
        return self._world.bcast(text)


class GpuCommunicator(Communicator):
    """Processes connected by NCCL. This has not been run on several GPUs.

    Raises ConfigError if NCCL or Open MPI is missing, or another launcher started the processes.
    """

    def __init__(self, context: nn.Context) -> None:
        import nnabla.communicators as C

        try:
            self._nccl = C.MultiProcessDataParalellCommunicator(context)  # sic
            self._nccl.init()
        except Exception as error:  # the extension raises various types
            why = one_line(cuda.reason_of(error), MAX_REASON)
            raise ConfigError(
                f"several GPUs require Open MPI's mpirun and NCCL ({why}); see 'Several GPUs' in docs/GPU.md"
            ) from None
        self.rank, self.size = self._nccl.rank, self._nccl.size
        if self.size != num_started():  # each process would train on its own
            raise ConfigError(
                f"{num_started()} processes were started, of which nnabla sees {self.size}: on GPUs it "
                "requires the mpirun of Open MPI, not MPICH's; see 'Several GPUs' in docs/GPU.md"
            )

    def average(self, variables: list[nn.Variable]) -> None:
        """Average gradients over all processes."""
        self._nccl.all_reduce([variable.grad for variable in variables], division=True, inplace=False)

    def any(self, flag: bool) -> bool:
        """Return whether a flag is true in any process."""
        sum_of_flags = nn.NdArray((1,))
        sum_of_flags.data = float(flag)
        self._nccl.all_reduce([sum_of_flags], division=False, inplace=True)
        return bool(sum_of_flags.data[0] > 0)

    def share(self, text: str) -> str:
        """Return the text of rank 0."""
        letters = nn.NdArray((MAX_TEXT,))
        letters.data = np.frombuffer(text.encode().ljust(MAX_TEXT, b"\0"), np.uint8)
        self._nccl.bcast([letters], 0)
        return letters.data.astype(np.uint8).tobytes().rstrip(b"\0").decode()


def num_started() -> int:
    """Return the number of processes that mpirun started."""
    return max(int(os.environ.get(name, "1")) for name in SIZE_VARIABLES)


def is_one_of_several() -> bool:
    """Return whether mpirun started several processes."""
    return num_started() > 1


def local_rank() -> int:
    """Return this process's number on its machine, which is also its GPU's."""
    return next((int(os.environ[name]) for name in LOCAL_RANK_VARIABLES if name in os.environ), 0)


def connect(context_name: str) -> Communicator:
    """Connect to the other processes, if any. Raises ConfigError if they cannot be connected."""
    if not is_one_of_several():
        return Communicator()
    return GpuCommunicator(nn.get_current_context()) if context_name == "cudnn" else CpuCommunicator()


def end_all(exit_code: int) -> NoReturn:
    """End all processes of the training."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None:
        mpi.COMM_WORLD.Abort(exit_code)
    os._exit(exit_code)  # mpirun then ends the other processes
