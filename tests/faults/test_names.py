"""Names that become folders, and locks of folders."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest
from helpers import DEMO_NETWORKS, MODULES, ROOT, load, must_fail

from config import complete_config, load_config, with_values
from people.work import person_name
from tools.make_synthetic import read_people
from training.resume import find_run
from utils import cli
from utils.errors import ConfigError, ResourceError, WeightsError
from utils.files import is_folder_name, locked, write_yaml


@pytest.mark.parametrize("name", ["lr/one", "../../x", "..", ".hidden", "-x", " x", "a\nb", "a\0b", "x" * 300, "/x"])
def test_names_of_folders_are_one_component(tmp_path, name):
    assert not is_folder_name(name)
    for module in MODULES:
        config = load_config(module)
        keys = [
            key for key in ("experiment_name", "trg_celeb_name", "src_celeb_name", "model_name") if hasattr(config, key)
        ]
        keys += [key for key in ("src_celeb_names", "celeb_names") if hasattr(config, key)]
        for key in keys:
            write_yaml(tmp_path / "own.yaml", {key: [name] if key.endswith("s") else name})
            with pytest.raises(ConfigError, match=key):
                load_config(module, tmp_path / "own.yaml")
    with pytest.raises(argparse.ArgumentTypeError):
        cli.folder_name(name)


@pytest.mark.parametrize("name", ["Me", "Donald_Trump", "lr 1e-4", "Zoë", "a.b", "x" * 200])
def test_names_that_can_be_folders(name):
    assert is_folder_name(name) and cli.folder_name(name) == name


@pytest.mark.slow
def test_names_on_the_command_line_stay_where_they_are_put(data, tmp_path):
    args = ("test_reenactment.py", *DEMO_NETWORKS, "--data-dir", data / "datasets/CelebV")
    must_fail(tmp_path, 2, "--src-celeb-name", *args, "--src-celeb-name", "../../x")
    must_fail(tmp_path, 2, "--info", *args, "-n", 1, "--info", "../x")
    must_fail(tmp_path, 2, "--name", "prepare_person.py", data / "datasets/CelebV", "--name", "../x")
    must_fail(tmp_path, 2, "valid folder name", "tools/make_synthetic.py", "celebv", "--people", "../x")
    (tmp_path / "own.yaml").write_text("experiment_name: lr/one\n")
    must_fail(tmp_path, 2, "experiment_name", "train_decoder.py", "--conf", "own.yaml", "--resume", "auto")
    assert not list(tmp_path.glob("tmp.monitor")) and not list(tmp_path.parent.glob("x"))


def test_home_is_home_in_configurations(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load(tmp_path, "logdir: ~/runs\ntrain_dir: ~/faces\ntest: {logdir: ~/out}\nref_dir: ''\n")
    assert config.logdir == f"{tmp_path}/runs" and config.train_dir == f"{tmp_path}/faces"
    assert config.test.logdir == f"{tmp_path}/out" and config.ref_dir == ""
    assert load(tmp_path, "finetune: {param_path: ~/a.h5}\n", "encoder").finetune.param_path == f"{tmp_path}/a.h5"
    assert cli.path("~/x") == tmp_path / "x"


@pytest.mark.parametrize("stem, name", [("runs", "runs"), ("a b", "a_b"), ("..", "source"), ("--x/y", "x_y")])
def test_any_text_becomes_a_name(stem, name):
    assert person_name(stem, "source") == name == person_name(name, "source") and is_folder_name(name)


def test_runs_of_others_whose_folder_has_one_name(tmp_path):
    """A2 drives B, and A drives 2B: both in A22B."""
    folder = tmp_path / "transformer" / "A22B"
    for run, source, target in (("one", "A2", "B"), ("two", "A", "2B")):
        (folder / run / "checkpoints/000000005").mkdir(parents=True)
        people = {"src_celeb_name": source, "trg_celeb_name": target, "src_celeb_names": []}
        write_yaml(folder / run / "training_info.yaml", people)
    config = complete_config(
        "transformer", {"logdir": str(tmp_path), "src_celeb_name": "A", "trg_celeb_name": "2B"}, None
    )
    with pytest.raises(WeightsError, match="A22B/two"):  # not the other, which would be refused
        find_run("auto", config)
    assert find_run("auto", with_values(config, {"src_celeb_name": "A22", "trg_celeb_name": "B"})) is None


def test_one_name_for_two():
    for people in (["A=1", "A=2"], ["A", "B", "A"]):
        with pytest.raises(ConfigError, match="a name is duplicated"):
            read_people(people)


HOLDS_A_LOCK = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from utils.files import locked
with locked(Path(sys.argv[2])):
    print("locked", flush=True)
    time.sleep(99)
"""


@pytest.mark.slow
def test_a_folder_is_locked_until_its_process_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.files.LOCK_TIMEOUT_S", 0.1)
    command = [sys.executable, "-c", HOLDS_A_LOCK, str(ROOT), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ResourceError, match="another process is writing there"), locked(tmp_path / "run"):
            pass
        with locked(tmp_path / "another"):
            pass
        other.kill()
    with locked(tmp_path / "run"):
        pass
