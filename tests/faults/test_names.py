"""Names that become folders, and people whose names meet."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import DEMO_NETWORKS, MODULES, ROOT, load, must_fail, must_run, write_frames

from config import complete_config, load_config, with_values
from datasets import celebv
from datasets.prepared import Archives, pack, require_own_names
from reenact_people import name_of
from synthetic.moving import moving_head
from tools.make_synthetic import read_people
from training.resume import find_run
from utils import cli
from utils.errors import ConfigError, DataError, ResourceError, WeightsError
from utils.files import claimed, is_folder_name, remove_leftovers, write_yaml


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
    must_fail(tmp_path, 2, "folder's name", "tools/make_synthetic.py", "celebv", "--people", "../x")
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


def prepared_by(name: str, out_dir: Path) -> Archives:
    paths = [celebv.prepared_path(out_dir, name, part) for part in celebv.SHAPES]
    return Archives(name, 1, celebv.record_path(out_dir, name), {"list": name}, paths, {})


def write_archives(archives: Archives) -> None:
    archives.write([("1.jpg", [pack(np.zeros(shape, np.uint8)) for shape in celebv.SHAPES.values()])])


@pytest.mark.parametrize("pair", [("A", "A_resized"), ("A_resized", "A"), ("b_resized_resized", "b_resized")])
def test_people_whose_files_have_one_name(tmp_path, pair):
    first, second = (prepared_by(name, tmp_path) for name in pair)
    with pytest.raises(DataError, match=f"is a file of {pair[1]} and of {pair[0]}"):
        require_own_names([first, second])
    require_own_names([first])
    write_archives(first)
    require_own_names([first])  # again, over its own
    with pytest.raises(DataError, match=f"{pair[0]}; rename"):
        require_own_names([second])
    require_own_names([prepared_by("C", tmp_path), prepared_by("A2", tmp_path), prepared_by("resized", tmp_path)])


def test_a_person_called_as_wflw_is(tmp_path):
    write_yaml(tmp_path / "WFLW_train_prepared.yaml", {"made_from": {"seed": 42}, "bytes": {"WFLW_image_train.npz": 5}})
    with pytest.raises(DataError, match="is a file of WFLW_train"):
        require_own_names([prepared_by("WFLW_train", tmp_path)])


@pytest.mark.slow
def test_the_commands_refuse_people_whose_files_have_one_name(data, tmp_path):
    people = tmp_path / "datasets/CelebV"
    for name in ("A", "A_resized"):
        shutil.copytree(data / "datasets/CelebV/Rowan", people / name)
    run = ("preprocess.py", "--dataset", "CelebV", "--out-dir", "npz")
    must_fail(tmp_path, 3, "npz/A_resized_heatmap.npz", *run)
    must_run(tmp_path, *run, "--celeb-name-list", "A")
    must_fail(tmp_path, 3, "npz/A_resized_heatmap.npz", *run, "--celeb-name-list", "A_resized")
    assert "kept" in must_run(tmp_path, *run, "--celeb-name-list", "A")


@pytest.mark.parametrize("stem", ["people", "Runs", "held-out", "result", "results of today", "result-encoder"])
def test_videos_called_as_folders_of_a_work_are(stem):
    name = name_of(Path(f"{stem}.mp4"), "target")
    assert name.endswith("-target") and is_folder_name(name)
    assert name.lower() not in ("people", "runs", "held-out", "result", "result-encoder", "result-encoder-transformer")
    assert name_of(Path("me.mp4"), "source") == "me" and name_of(Path("...mp4"), "source") == "source"


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


def test_one_name_for_two(tmp_path):
    for people in (["A=1", "A=2"], ["A", "B", "A"]):
        with pytest.raises(ConfigError, match="A is named twice"):
            read_people(people, [])
    with pytest.raises(ConfigError, match="--habit: A is named twice"):
        read_people(["A"], [("A", "smile=0.1"), ("A", "smile=0.2")])


CLAIM = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from utils.files import claimed
with claimed(Path(sys.argv[2])):
    print("claimed", flush=True)
    time.sleep(99)
"""


@pytest.mark.slow
def test_two_that_make_one_name(tmp_path):
    path = tmp_path / "people" / "Me"
    command = [sys.executable, "-c", CLAIM, str(ROOT), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ResourceError, match="another process is writing there"), claimed(path):
            pass
        with claimed(path.with_name("You")):
            pass
        other.kill()
    with claimed(path):  # what was killed holds nobody up
        remove_leftovers(path.parent)
        assert [entry.name.startswith(".Me.unfinished-") for entry in path.parent.iterdir()] == [True]
    assert not list(path.parent.iterdir())


@pytest.mark.slow
def test_a_person_that_another_process_prepares(tmp_path):
    write_frames(tmp_path / "me.mp4", [frame for frame, _ in moving_head("Rowan=9", 6, seed=0)])
    command = [sys.executable, "-c", CLAIM, str(ROOT), str(tmp_path / "people/Me")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        args = ("prepare_person.py", "me.mp4", "--name", "Me", "--data-dir", "people")
        words = must_fail(tmp_path, 6, "another process is writing there", *args)
        assert "finding faces" not in words
        other.kill()
    must_run(tmp_path, *args)
