"""Several processes: each on its share, together as one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nnabla as nn
import numpy as np
import pytest
import yaml
from helpers import COMMON, PATIENCE_S, ROOT, Numbers, arrays_of, numbers_of

from datasets.batches import Batches
from training.communicator import Communicator
from utils.files import write_yaml

MPIRUN = Path(sys.executable).parent / "mpirun"
needs_mpi = pytest.mark.skipif(not MPIRUN.exists(), reason="no mpirun beside this Python; pip install mpi4py mpich")


# one process on each of two hosts: the same machine under two names, with an MPI proxy for each
HOSTS = ("-launcher", "fork", "-hosts", "localhost,127.0.0.1", "-ppn", "1", "-n", "2")


def begin(folder: Path, *command: object) -> subprocess.Popen:
    return subprocess.Popen(
        [str(MPIRUN), *HOSTS, sys.executable, *map(str, command)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def mpirun(folder: Path, *command: object, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess:
    process = begin(folder, *command)
    out, err = process.communicate(timeout=timeout_s)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_ranks_share_each_epochs_permutation(num_ranks):
    shares = [Batches(Numbers(13), 2, seed=3, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    whole = Batches(Numbers(13), 2 * num_ranks, seed=3)
    assert {share.batches_per_epoch for share in shares} == {whole.batches_per_epoch}
    for iteration in range(2 * whole.batches_per_epoch):
        together = [number for share in shares for number in numbers_of(share[iteration])]
        assert together == numbers_of(whole[iteration])


def test_one_process_alone_changes_nothing():
    variable = nn.Variable.from_numpy_array(np.ones((2, 3), np.float32))
    variable.g = 5.0
    alone = Communicator()
    alone.average([variable])
    assert (variable.g == 5.0).all() and alone.any(True) and not alone.any(False) and alone.share("x") == "x"


GRADIENTS = """
import json, sys
sys.path[:0] = [{root!r}, {tests!r}]
import nnabla as nn, numpy as np
import train_encoder
from config import complete_config
from models.networks import ENCODER
from training.communicator import Communicator, connect, is_one_of_several

def gradients(half, communicator):
    nn.clear_parameters()
    nn.seed(1)
    config = complete_config("encoder", {{"model": {{"planes": 2}}}}, None)
    graph = train_encoder.build_graph(config, 2, training=True)
    rng = np.random.default_rng(half)
    graph.image.d = rng.uniform(-1, 1, graph.image.shape)
    graph.heatmap.d = rng.uniform(0, 1, graph.heatmap.shape)
    trained = ENCODER.trained()
    for variable in trained.values():
        variable.grad.zero()
    graph.loss.forward()
    graph.loss.backward()
    communicator.average(list(trained.values()))
    return {{name: v.g.copy() for name, v in trained.items()}}

if is_one_of_several():
    communicator = connect("cpu")
    averaged = gradients(communicator.rank, communicator)
    np.savez(f"rank{{communicator.rank}}.npz", **{{name.replace("/", ":"): g for name, g in averaged.items()}})
    flags = [communicator.any(communicator.rank == 1), communicator.any(False)]
    said = [communicator.size, *flags, communicator.share(f"from {{communicator.rank}}")]
    with open(f"rank{{communicator.rank}}.json", "w") as file:
        json.dump(said, file)
else:
    halves = [gradients(half, Communicator()) for half in (0, 1)]
    means = {{name.replace("/", ":"): (halves[0][name] + halves[1][name]) / 2 for name in halves[0]}}
    np.savez("alone.npz", **means)
"""


@needs_mpi
@pytest.mark.slow
def test_averaged_gradients_are_those_of_the_two_half_batches(tmp_path):
    (tmp_path / "gradients.py").write_text(GRADIENTS.format(root=str(ROOT), tests=str(ROOT / "tests")))
    result = mpirun(tmp_path, "gradients.py")
    assert result.returncode == 0, result.stderr
    for rank in range(2):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text()) == [2, True, False, "from 0"]
    subprocess.run([sys.executable, "gradients.py"], cwd=tmp_path, check=True, capture_output=True)
    first, second, alone = (np.load(tmp_path / f"{name}.npz") for name in ("rank0", "rank1", "alone"))
    assert len(alone.files) > 50
    for name in alone.files:
        assert np.array_equal(first[name], second[name]), name
        np.testing.assert_allclose(first[name], alone[name], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.fixture
def work(data, tmp_path) -> Path:
    (tmp_path / "datasets").symlink_to(data / "datasets")
    config = {
        **COMMON,
        "trg_celeb_name": "Linnea",
        "mode": "train",
        "model": {"planes": 2},
        "train": {"epochs": 2, "batch_size": 2, "feature_loss": {"lambda": 0}},
    }
    write_yaml(tmp_path / "decoder.yaml", config)
    return tmp_path


def training(folder: Path, number: int, rank: int, what: str, *args: str) -> subprocess.CompletedProcess:
    driver = str(ROOT / "tests/drivers/train.py")
    return mpirun(folder, driver, "decoder", what, "step", str(number), str(rank), "--conf", "decoder.yaml", *args)


@needs_mpi
@pytest.mark.slow
def test_two_ranks_stop_and_resume_as_if_nothing_had_happened(work):
    folder = work / "runs/decoder/Linnea/run"
    result = training(work, 0, 0, "nothing")
    assert result.returncode == 0
    # together they speak as one
    for words in ("context: cpu", "run: runs/decoder/Linnea/run", "weights in runs/decoder/Linnea/run"):
        assert result.stderr.count(words) == 1, result.stderr
    assert len(list((folder / "checkpoints").iterdir())) == 2  # an epoch has 2 iterations: 8 frames by 2 x 2
    shutil.move(work / "runs", work / "whole")
    # asked on one rank, all of them stop at the same step; only rank 0 writes
    result = training(work, 3, 1, "SIGTERM")
    assert result.returncode != 0 and result.stderr.count("stopped at iteration 3") == 1, result.stderr
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["000000002", "000000003"]
    result = training(work, 0, 0, "nothing", "--resume")
    assert result.returncode == 0 and result.stderr.count("from iteration 3") == 1, result.stderr
    shutil.rmtree(folder / "checkpoints")
    whole = work / "whole/decoder/Linnea/run"
    last = arrays_of(whole / "netG_decoder_2.h5")
    again = arrays_of(folder / "netG_decoder_2.h5")
    assert all(np.array_equal(last[name], again[name]) for name in last)


def begin_until(folder: Path, iteration: int, *command: object) -> subprocess.Popen:
    """Begin a training, and wait for its checkpoint of an iteration."""
    process, end = begin(folder, *command), time.monotonic() + PATIENCE_S
    while not any(int(path.name) >= iteration for path in folder.glob("runs/decoder/Linnea/run/checkpoints/0*")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    return process


def set_epochs(folder: Path, epochs: int) -> None:
    config = yaml.safe_load((folder / "decoder.yaml").read_text())
    config["train"]["epochs"] = epochs
    write_yaml(folder / "decoder.yaml", config)


@needs_mpi
@pytest.mark.slow
def test_a_queues_signal_on_two_hosts(work):
    """As in docs/TRAINING.md: a signal to mpirun stops all of them with a checkpoint."""
    set_epochs(work, 500)
    process = begin_until(work, 2, ROOT / "train_decoder.py", "--conf", "decoder.yaml")
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143 and said.count("stopped at iteration") == 1, said


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    "rank, what",
    [
        (0, "mistake"),
        (1, "failure"),
        pytest.param(0, "failure", marks=pytest.mark.long),
        pytest.param(1, "mistake", marks=pytest.mark.long),
    ],
)
def test_a_rank_that_fails_ends_all(work, rank, what):
    result = training(work, 2, rank, what)
    words = {"failure": "image is damaged", "mistake": "ZeroDivisionError"}[what]
    assert result.returncode != 0 and words in result.stderr
