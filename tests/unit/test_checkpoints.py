"""Checkpoints: everything comes back, and nothing that changed is taken."""

from __future__ import annotations

import os
import random
from pathlib import Path

import h5py
import nnabla as nn
import nnabla.functions as F
import nnabla.parametric_functions as PF
import numpy as np
import pytest

from models.network import Network
from training import checkpoints
from training.checkpoints import load_checkpoint, read_state, save_checkpoint
from training.solver import Solver
from utils.errors import WeightsError
from utils.files import file_digest
from utils.weights import format_sums

NETWORKS = [Network("net"), Network("other")]


class Small:
    """Two networks with a solver each. One parameter's name is the beginning of another's, which nnabla's own files
    of states cannot keep apart."""

    def __init__(self, width: int = 3):
        nn.clear_parameters()
        nn.seed(5)
        self.x = nn.Variable((4, 5))
        self.losses, self.solvers = [], {}
        for network in NETWORKS:
            with nn.parameter_scope(network.name):
                h = PF.batch_normalization(PF.affine(self.x, width, name="a"), name="a2")
                self.losses.append(F.sum(PF.affine(h, 2, name="a22") ** 2))
            self.solvers[network.name] = Solver([network], 1e-2)

    def step(self, number: int) -> None:
        self.x.d = np.random.default_rng(number).normal(size=self.x.shape)
        for loss, solver in zip(self.losses, self.solvers.values()):
            loss.forward()
            solver.zero_grad()
            loss.backward()
            solver.update({"loss": loss})

    def everything(self) -> dict[str, bytes]:
        parts = {name: v.d.tobytes() for name, v in nn.get_parameters(grad_only=False).items()}
        for solver_name, solver in self.solvers.items():
            for key, state in solver.adam.get_states().items():
                parts[f"{solver_name}:{key}:t"] = bytes([state.t])
                parts |= {f"{solver_name}:{key}:{part}": v.d.tobytes() for part, v in state.pstate.items()}
        return parts


@pytest.fixture
def saved(tmp_path) -> tuple[Path, dict[str, bytes], dict[str, bytes]]:
    """A checkpoint after three steps, what it holds, and where three more steps lead."""
    network = Small()
    for number in range(3):
        network.step(number)
    folder = tmp_path / "000000003"
    save_checkpoint(folder, NETWORKS, network.solvers, {"iteration": 3})
    before = network.everything()
    for number in range(3, 6):
        network.step(number)
    return folder, before, network.everything()


def test_everything_comes_back_and_goes_on_to_the_same_bits(saved):
    folder, before, after = saved
    network = Small()
    assert network.everything() != before
    state = load_checkpoint(folder, NETWORKS, network.solvers)
    assert state["iteration"] == 3
    assert network.everything() == before
    for number in range(3, 6):
        network.step(number)
    assert network.everything() == after


def test_the_networks_files_are_ones_that_nnabla_loads(saved):
    folder, before, _ = saved
    nn.clear_parameters()
    with nn.parameter_scope("net"):
        nn.load_parameters(str(folder / "net.h5"))
    for name, variable in nn.get_parameters(grad_only=False).items():
        assert variable.d.tobytes() == before[name]


def test_a_thousand_flipped_bits(saved):
    """None of them loads with other values."""
    folder, before, _ = saved
    network = Small()
    untouched = network.everything()
    chance = random.Random(0)
    files = sorted(folder.iterdir())
    weights = [path.stat().st_size for path in files]
    for flip in range(1000):
        # by size, as cosmic rays would; and each file now and then
        path = files[flip % len(files)] if flip % 5 == 0 else chance.choices(files, weights)[0]
        content = path.read_bytes()
        position = chance.randrange(len(content))
        damaged = bytearray(content)
        damaged[position] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(WeightsError):
            load_checkpoint(folder, NETWORKS, network.solvers)
        assert network.everything() == untouched
        path.write_bytes(content)
    load_checkpoint(folder, NETWORKS, network.solvers)
    assert network.everything() == before


@pytest.mark.parametrize("name", ["net.h5", "solver_other.h5", "state.json", "SHA256SUMS"])
def test_a_missing_file(saved, name):
    folder, _, _ = saved
    (folder / name).unlink()
    with pytest.raises(WeightsError, match="incomplete checkpoint"):
        read_state(folder)


def test_a_checkpoint_that_cannot_be_read(saved):
    folder, _, _ = saved
    (folder / "net.h5").unlink()
    os.mkfifo(folder / "net.h5")
    with pytest.raises(WeightsError, match="not a regular file"):
        read_state(folder)


def resign(folder: Path) -> None:
    """Update the digests to the changed files."""
    sums = {path.name: file_digest(path) for path in folder.iterdir() if path.name != "SHA256SUMS"}
    (folder / "SHA256SUMS").write_text(format_sums(sums))


def test_another_network_is_refused_before_anything_changes(saved):
    folder, _, _ = saved
    network = Small(width=4)
    untouched = network.everything()
    with pytest.raises(WeightsError, match=r"a/affine/W \(5, 3\) instead of \(5, 4\)"):
        load_checkpoint(folder, NETWORKS, network.solvers)
    assert network.everything() == untouched


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda file: file["a/affine/W:mean"].write_direct(np.full((5, 3), np.nan, np.float32)), "not finite"),
        (lambda file: file.__delitem__("a22/affine/b:var"), "1 missing: a22/affine/b:var"),
        (lambda file: file.move("a/affine/b:var", "a/affine/c:var"), "1 missing"),
        (lambda file: file.__setitem__("soft", h5py.SoftLink("/a")), "is a link"),
        (lambda file: file.__setitem__("far", h5py.ExternalLink("x.h5", "/a")), "is a link"),
    ],
)
def test_solver_states_that_do_not_fit_are_refused_before_anything_changes(saved, change, words):
    folder, _, _ = saved
    with h5py.File(folder / "solver_net.h5", "a") as file:
        change(file)
    resign(folder)
    network = Small()
    untouched = network.everything()
    with pytest.raises(WeightsError, match=words):
        load_checkpoint(folder, NETWORKS, network.solvers)
    assert network.everything() == untouched


def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
    network = Small()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_moments", fail)
    with pytest.raises(Exception, match="No space left on device"):
        save_checkpoint(tmp_path / "000000001", NETWORKS, network.solvers, {})
    assert list(tmp_path.iterdir()) == []
