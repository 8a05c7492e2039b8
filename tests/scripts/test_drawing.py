"""How boundaries are drawn: who decides it, and that two styles never meet."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import DEMO_NETWORKS, GAZE, must_fail, must_run

from config import complete_config, load_config
from datasets.annotations import read_annotations
from datasets.celebv import drawing_of
from datasets.samples import DrawnDataset
from utils.errors import DataError
from utils.files import write_yaml

SMALL = {"model": {"planes": 2, "resize_levels": 3}, "train": {"epochs": 1, "batch_size": 2, "gan_start_at": 1}}
SMALL["train"] |= {"feature_loss": {"lambda": 0}, "num_workers": 0}


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Ann, whose folder asks for pupils, and a crowd of two."""
    folder = tmp_path_factory.mktemp("drawing")
    must_run(folder, "tools/make_synthetic.py", "celebv", "--people", "Ann=51", "Bob=52", "--frames", 6)
    must_run(folder, "tools/make_synthetic.py", "crowd", "--people", 2, "--frames", 3)
    (folder / "datasets/CelebV/Bob/person.yaml").unlink()  # like CelebV's people, without person.yaml
    for number, (name, extra) in enumerate((("Ann", {}), ("Bob", {}), ("Bob", {"drawing": "gaze"}))):
        write_yaml(folder / f"{number}.yaml", SMALL | {"trg_celeb_name": name, "experiment_name": f"r{number}"} | extra)
        must_run(folder, "train_decoder.py", "--conf", f"{number}.yaml")
    return folder


def info_of(work: Path, person: str, number: int) -> Path:
    return work / f"tmp.monitor/decoder/{person}/r{number}/training_info.yaml"


def test_the_persons_folder_decides_unless_the_configuration_does(work):
    drawn = [load_config("decoder", info_of(work, *run)).drawing for run in (("Ann", 0), ("Bob", 1), ("Bob", 2))]
    assert drawn == ["gaze", "published", "gaze"]
    root = work / "datasets/CelebV"
    assert drawing_of(root, ["Ann"]) == "gaze" and drawing_of(root, ["Bob"]) == "published"
    for module, names in (("encoder", "celeb_names: [Ann, Bob]"), ("shape_prior", "celeb_names: [Bob, Ann]")):
        (work / "mixed.yaml").write_text(f"dataset: CelebV\n{names}\n")
        must_fail(work, 3, "different drawing styles", f"train_{module}.py", "--conf", "mixed.yaml")
    (work / "mixed.yaml").write_text("src_celeb_name: Ann\ntrg_celeb_name: Bob\n")
    must_fail(work, 3, "Bob 'published'", "train_transformer.py", "--conf", "mixed.yaml")
    base = work / "tmp.monitor/decoder/Ann/r0/netG_decoder_1.h5"
    write_yaml(work / "mixed.yaml", SMALL | {"trg_celeb_name": "Bob", "finetune": {"param_path": str(base)}})
    said = must_run(work, "train_decoder.py", "--conf", "mixed.yaml", "--dry-run")
    assert "was trained with 'drawing: gaze'; this training uses 'published'" in said
    assert drawing_of(root, ["Crowd"]) == "gaze"


def test_files_of_older_runs_are_of_the_published_style():
    assert complete_config("decoder", {"dataset_mode": "decoder"}, "old").drawing == "published"
    assert complete_config("decoder", {}, "own").drawing == ""


def test_a_resumed_run_keeps_its_style(work):
    info = info_of(work, "Ann", 0)
    (work / "datasets/CelebV/Ann/person.yaml").rename(work / "person.yaml")
    try:
        conf = SMALL | {"trg_celeb_name": "Ann", "experiment_name": "r0"} | {"train": SMALL["train"] | {"epochs": 2}}
        write_yaml(work / "longer.yaml", conf | {"drawing": "published"})
        resume = ("train_decoder.py", "--conf", "longer.yaml", "--resume", info.parent)
        must_fail(work, 2, "cannot be resumed with other settings or data: drawing was 'gaze'", *resume)
        write_yaml(work / "longer.yaml", conf | {"drawing": "gaze"})
        must_run(work, *resume)
    finally:
        (work / "person.yaml").rename(work / "datasets/CelebV/Ann/person.yaml")


def test_networks_of_two_styles_do_not_go_together(work):
    """The demo's encoder and transformer know gaze."""
    people = ("--src-celeb-name", "Ann", "--trg-celeb-name", "Bob")
    other = ("--decoder-config", info_of(work, "Bob", 1), *people)
    said = must_fail(work, 2, "different drawing", "test_reenactment.py", *DEMO_NETWORKS[:4], *other)
    flags = ("--decoder-config", info_of(work, "Bob", 2), *people)
    assert "'published'" in said and "'gaze'" in said
    must_run(work, "split_celebv.sh", "datasets/CelebV", 3)
    must_run(work, "test_reenactment.py", "--landmarks", *flags, "-n", 2)
    copied = shutil.copytree(info_of(work, "Bob", 2).parent, work / "copied")
    (copied / "netG_decoder_1.h5").rename(copied / "mine.h5")
    said = must_run(work, "test_decoder.py", copied / "training_info.yaml", "-n", 2)
    assert "weights of the decoder: tmp.monitor/decoder/Bob/r2/netG_decoder_1.h5" in said  # not silently


def test_prepared_files_of_another_style_are_refused(work):
    must_run(work, "preprocess.py", "--dataset", "CelebV", "--out-dir", "maps")
    made = yaml.safe_load(next(work.glob("maps/Ann*.yaml")).read_text())
    assert made["made_from"]["drawing"]["name"] == "gaze"  # the style of its folder
    assert "name" not in yaml.safe_load(next(work.glob("maps/Bob*.yaml")).read_text())["made_from"]["drawing"]
    write_yaml(work / "p.yaml", SMALL | {"trg_celeb_name": "Bob", "drawing": "gaze", "ref_dir": "maps"})
    said = must_fail(work, 3, "'drawing: published', not 'gaze'", "train_decoder.py", "--conf", "p.yaml")
    assert "--drawing gaze" in said
    must_run(work, "preprocess.py", "--dataset", "CelebV", "--out-dir", "maps", "--drawing", "gaze")
    must_run(work, "train_decoder.py", "--conf", "p.yaml")
    drawn = DrawnDataset(work / "datasets/CelebV", "Ann", "all", ("heatmap",), work / "maps", style=GAZE)
    fresh = DrawnDataset(work / "datasets/CelebV", "Ann", "all", ("heatmap",), style=GAZE)
    assert np.array_equal(drawn[2][0], fresh[2][0])


def test_a_person_file_that_is_damaged(work):
    root = work / "datasets/CelebV"
    for content in ("drawing: own", "[]", "{", "drawing: [1]"):
        (root / "Bob/person.yaml").write_text(content)
        with pytest.raises(DataError, match="person.yaml"):
            drawing_of(root, ["Bob"])
    (root / "Bob/person.yaml").unlink()


def test_a_crowd_is_many_people_in_one_folder_whose_eyes_wander(work):
    folder = work / "datasets/CelebV/Crowd"
    found = read_annotations(folder / "all_98pt.txt", 0, "")
    assert len(found) == 6 == len(list((folder / "Image").iterdir()))
    first, second = found.landmarks[:3].mean(axis=0), found.landmarks[3:].mean(axis=0)
    assert np.abs((first - first.mean(0)) - (second - second.mean(0))).mean() > 1
    must_run(work, "preprocess.py", "--dataset", "CelebV", "--celeb-name-list", "Crowd", "--check")
