"""A short version of benchmarks/fuzz.py: damaged inputs of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import fuzz

ROUNDS = 1

pytestmark = pytest.mark.slow


def test_damaged_inputs_end_well(tmp_path):
    fuzz.make_valid(tmp_path)
    numbers = list(range(ROUNDS * len(fuzz.KINDS)))
    runs = fuzz.fuzz(numbers, seed=1, valid=tmp_path, num_workers=2)
    # time is the machine's; everything else is ours
    faults = {run.number: [fault for fault in run.faults if not fault.endswith(" s")] for run in runs}
    assert {run.kind for run in runs} == set(fuzz.KINDS)
    assert not any(faults.values()), [(run.kind, run.faults, run.errors) for run in runs if faults[run.number]]
    assert any(run.exit_code for run in runs)


def test_the_fuzzer_sees_what_is_wrong(tmp_path):
    (tmp_path / "reenactment_result/A2B/1/result").mkdir(parents=True)
    (tmp_path / ".x12345678").mkdir()
    (tmp_path / "out.mp4").write_bytes(b"half")
    faults = fuzz.faults_of(tmp_path, exit_code=1, seconds=61, peak=2 << 30, errors="Traceback (most recent call last)")
    assert len(faults) == 9, faults


def test_damage_is_the_same_for_a_seed():
    content = bytes(range(256)) * 20
    for damage in (fuzz.damage_bytes, lambda data, rng: fuzz.damage_text(b"a: 1\nb: [2, 3]\n" * 9, rng)):
        first, second = ([damage(content, np.random.default_rng([s, 0])) for s in range(9)] for _ in range(2))
        assert first == second and len(set(first)) > 5
