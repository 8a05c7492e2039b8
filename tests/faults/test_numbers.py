"""Numbers out of range."""

from __future__ import annotations

import argparse

import pytest
from helpers import DEMO_NETWORKS, load, must_fail

from utils import cli
from utils.errors import ConfigError


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "", "nan", "①", "1_0", "99999999999999999999", "9" * 5000])
def test_whole_numbers_have_a_range(text):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        cli.count(text)
    assert len(str(error.value)) < 120
    assert cli.count("7") == 7 and cli.seed("4294967295") == 2**32 - 1


@pytest.mark.parametrize(
    "module, text",
    [
        ("decoder", "seed: 4294967296"), ("decoder", "model: {planes: 100000}"), ("encoder", "model: {planes: 258}"),
        ("encoder", "model: {num_stacks: 1000}"), ("decoder", "train: {batch_size: 1000000}"),
        ("decoder", "train: {num_workers: 100000}"), ("decoder", "train: {epochs: 10000000000}"),
        ("transformer", "preprocess: {gaussian_kernel: 100001}"), ("transformer", "preprocess: {line_thickness: 1000}"),
        ("decoder", "test: {batch_size: 100000}"), ("decoder", "train: {lr: 1.0e+300}"), ("decoder", "device_id: 1000"),
        ("decoder", "train: {weight_L1: 1.0e+30}"), ("shape_prior", "seed: -1"),
    ],
)  # fmt: skip
def test_numbers_of_a_configuration_have_a_range(tmp_path, module, text):
    with pytest.raises(ConfigError, match="must be .*(between|from|at most)"):
        load(tmp_path, text, module)


@pytest.mark.slow
def test_numbers_on_the_command_line_have_a_range(tmp_path):
    reenact = ("test_reenactment.py", *DEMO_NETWORKS)
    for flag, value in (
        ("--batch-size", 100000),
        ("--face", 1000),
        ("-n", 10**9),
        ("--device-id", 5000),
        ("--smooth", 1),
    ):
        must_fail(tmp_path, 2, flag, *reenact, flag, value)
    must_fail(tmp_path, 2, "--seed", "tools/make_synthetic.py", "celebv", "--people", "A", "--seed", 2**32)
    must_fail(tmp_path, 2, "--frames", "tools/make_synthetic.py", "video", "--person", "A", "--frames", 10**8)
    must_fail(
        tmp_path, 2, "--num-workers", "preprocess.py", "--dataset", "CelebV", "--out-dir", "o", "--num-workers", 999
    )
    must_fail(tmp_path, 2, "the seed after", "tools/make_synthetic.py", "celebv", "--people", f"A={2**40}")
