"""Names, paths and numbers that users type or that files claim: checked before any work."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import DEMO, DEMO_NETWORKS, ROOT, must_fail, must_run, write_frames
from PIL import Image

from config import Config, complete_config, load_config, with_values
from datasets import celebv
from datasets.annotations import format_line, read_annotations, read_names
from datasets.images import write_image
from datasets.prepared import Archives, pack, require_own_names
from make_synthetic import moving_head, read_people
from reenact_people import name_of
from training.resume import find_run
from utils import cli
from utils.errors import ConfigError, DataError, ResourceError, WeightsError, one_line
from utils.files import check_outputs, claimed, is_folder_name, new_result, remove_leftovers, write_yaml

MODULES = ("encoder", "transformer", "decoder", "shape_prior")


def load(tmp_path: Path, text: str, module: str = "decoder") -> Config:
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    return load_config(module, tmp_path / "own.yaml")


# Names that become folders


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
    must_fail(tmp_path, 2, "folder's name", "make_synthetic.py", "celebv", "--people", "../x")
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


# Outputs


def test_an_output_is_no_input_and_can_be_written(tmp_path):
    (tmp_path / "in.mp4").write_bytes(b"x")
    (tmp_path / "hard.mp4").hardlink_to(tmp_path / "in.mp4")
    (tmp_path / "soft.mp4").symlink_to("in.mp4")
    (tmp_path / "folder").mkdir()
    for name in ("in.mp4", "hard.mp4", "soft.mp4", "folder/../in.mp4"):
        with pytest.raises(ConfigError, match="--video .*: is the input"):
            check_outputs({"--video": tmp_path / name}, [tmp_path / "in.mp4"])
    with pytest.raises(ConfigError, match="--preview .*: is also what --video names"):
        check_outputs({"--video": tmp_path / "a", "--preview": tmp_path / "folder/../a"})
    with pytest.raises(ConfigError, match="is a folder"):
        check_outputs({"--video": tmp_path / "folder"})
    with pytest.raises(ConfigError, match="is no folder"):
        check_outputs({"--out-dir": tmp_path / "in.mp4"})
    for path in (tmp_path / "in.mp4/x/a.mp4", Path("/proc/nowhere/a.mp4")):
        with pytest.raises(ResourceError, match="--video"):
            check_outputs({"--video": path})
    check_outputs({"--video": tmp_path / "new/deep/a.mp4", "--out-dir": tmp_path / "new", "--preview": None})
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_outputs_are_checked_before_the_work(data, tmp_path):
    write_image(tmp_path / "in.png", np.zeros((300, 300, 3), np.uint8))
    (tmp_path / "v.mp4").symlink_to("in.png")
    (tmp_path / "g.gif").mkdir()
    reenact = ("test_reenactment.py", *DEMO_NETWORKS, "--input", "in.png")
    before = (tmp_path / "in.png").read_bytes()
    must_fail(tmp_path, 2, "is the input in.png", *reenact, "--video", "v.mp4")
    must_fail(tmp_path, 2, "is a folder", *reenact, "--preview", "g.gif")
    must_fail(tmp_path, 6, "--out-dir /proc/x", *reenact, "--out-dir", "/proc/x")
    must_fail(tmp_path, 6, "--video /proc/x/a.mp4", *reenact, "--video", "/proc/x/a.mp4")
    lists = data / "datasets/CelebV/Rowan/all_98pt.txt"
    check = ("preprocess.py", "--dataset", "CelebV", "--src-dir", data / "datasets", "--check")
    must_fail(tmp_path, 2, "must end in .html", *check, "--report", lists)
    must_fail(tmp_path, 2, "is no folder", *check[:-1], "--out-dir", "in.png")
    encoder = DEMO_NETWORKS[:1] + [tmp_path / "encoder.onnx"]
    (tmp_path / "encoder.onnx").write_bytes((DEMO / "encoder/training_info.yaml").read_bytes())
    must_fail(tmp_path, 2, "is the input", "export_onnx.py", *encoder, "--out-dir", ".")
    (tmp_path / "a.pth").write_bytes(b"x")
    (tmp_path / "a.h5").symlink_to("a.pth")
    must_fail(tmp_path, 2, "TO a.h5: is the input a.pth", "convert_authors_weights.py", "align", "a.pth", "a.h5")
    must_fail(tmp_path, 6, "--out-file", "make_synthetic.py", "sheet", "--out-file", "/proc/x/a.png")
    assert (tmp_path / "in.png").read_bytes() == before and not (tmp_path / "reenactment_result").exists()


def test_results_get_their_name_when_they_are_whole(tmp_path):
    for expected in ("run", "run-2"):
        with new_result(tmp_path, "run") as folder:
            (folder.path / "a.txt").write_text("x")
            assert folder.path.name.startswith(".run.unfinished-")
        assert folder.final_path == tmp_path / expected
    with pytest.raises(KeyError), new_result(tmp_path, "run"):
        raise KeyError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-2"]


@pytest.mark.slow
def test_pictures_of_boundaries_of_one_stem(data, tmp_path):
    person = tmp_path / "datasets/CelebV/Ann"
    source = data / "datasets/CelebV/Rowan"
    landmarks = read_annotations(source / "all_98pt.txt", 0, "").landmarks
    lines = []
    for index, name in enumerate(("a.jpg", "a.png", "b.jpg")):
        image = np.asarray(Image.open(source / f"Image/{index + 1:06d}.jpg"))
        write_image(person / "Image" / name, image)
        lines.append(format_line(landmarks[index], name))
    (person / "all_98pt.txt").write_text("\n".join(lines) + "\n")
    must_run(tmp_path, "preprocess.py", "--dataset", "CelebV", "--out-dir", "out", "--save-boundary-image")
    names = sorted(path.name for path in (tmp_path / "out/boundary_image/Ann").iterdir())
    assert names == ["a.jpg.png", "a.png.png", "b.png"]


@pytest.mark.slow
def test_a_linked_person_has_the_name_of_the_link(data, tmp_path):
    (tmp_path / "CelebV").mkdir()
    (tmp_path / "CelebV/Linked").symlink_to(data / "datasets/CelebV/Rowan")
    encoder = (*DEMO_NETWORKS[:2], *DEMO_NETWORKS[2:4])
    must_run(tmp_path, "prepare_person.py", "CelebV/Linked", "--name", "Linked", *encoder, "--out-dir", "out")
    assert (tmp_path / "out/Linked_heatmap.npz").exists()
    line = must_fail(tmp_path, 2, "of another name", "prepare_person.py", "CelebV/Linked", "--name", "Rowan", *encoder)
    assert "Linked" in line
    (tmp_path / "here").symlink_to("CelebV")
    must_run(tmp_path, "prepare_person.py", "here/Linked/", "--name", "Linked", *encoder, "--out-dir", "out")


# Numbers


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
    with pytest.raises(ConfigError, match="must be .*(from|at most|whole number)"):
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
    must_fail(tmp_path, 2, "--seed", "make_synthetic.py", "celebv", "--people", "A", "--seed", 2**32)
    must_fail(tmp_path, 2, "--frames", "make_synthetic.py", "video", "--person", "A", "--frames", 10**8)
    must_fail(tmp_path, 2, "--rows", "make_synthetic.py", "sheet", "--rows", 10**6)
    must_fail(
        tmp_path, 2, "--num-workers", "preprocess.py", "--dataset", "CelebV", "--out-dir", "o", "--num-workers", 999
    )
    must_fail(tmp_path, 2, "person's seed", "make_synthetic.py", "celebv", "--people", f"A={2**40}")


@pytest.mark.slow
def test_a_training_that_needs_more_memory_than_there_is(data, tmp_path):
    (tmp_path / "datasets").symlink_to(data / "datasets")
    conf = {"trg_celeb_name": "Linnea", "model": {"planes": 96}}
    conf["train"] = {"batch_size": 14, "num_workers": 0, "epochs": 1, "feature_loss": {"lambda": 0}}
    write_yaml(tmp_path / "own.yaml", conf)
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import training.plan, train_decoder; "
    code += "training.plan.available_memory = lambda: 2**30; "
    code += "from training.training import call_training; call_training(train_decoder.main)"
    (tmp_path / "run.py").write_text(code)
    import conftest

    line = must_fail(
        tmp_path, 6, "of memory would be needed", os.fspath(tmp_path / "run.py"), conftest.ROOT, "--conf", "own.yaml"
    )
    assert "train.batch_size" in line and not list(tmp_path.glob("tmp.monitor"))


# YAML


def test_merge_keys(tmp_path):
    text = "test: &all {batch_size: 2, vis_interval: 3}\nmonitor: {interval: 7}\n"
    assert load(tmp_path, text).test.vis_interval == 3
    text = "train: {batch_size: 2}\ntest:\n  <<: *base\n"
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(tmp_path, text)
    text = "monitor: &base {interval: 9, save_interval: 4}\ntest: {batch_size: 1}\n"
    text += "train:\n  <<: {epochs: 3, lr: 1.0e-3}\n  lr: 2.0e-3\n"
    config = load(tmp_path, text)
    assert config.train.epochs == 3 and config.train.lr == 2e-3
    base = "logdir: &dir {batch_size: 3}\n"
    with pytest.raises(ConfigError, match="logdir"):
        load(tmp_path, base + "test:\n  <<: *dir\n")
    with pytest.raises(ConfigError, match="'lr' is duplicated"):
        load(tmp_path, "train: {<<: {epochs: 3}, lr: 1, lr: 2}")


@pytest.mark.parametrize(
    "text, words",
    [
        ("Train: {lr: 1}", "did you mean 'train'"), ("TRAIN: {lr: 1}", "did you mean 'train'"),
        ("train: {Batch_Size: 1}", "did you mean 'train.batch_size'"), ("seed: 010", "leave out zeros"),
        ("seed: 1:30", "is not written as a number"), ("train: {lr: 1:30.5}", "is not written as a number"),
        ("seed: 2020-13-45", "not valid YAML"), ("seed: " + "9" * 5000, "seed|not valid"),
        ("a: " * 3000 + "1", "not valid YAML"), ("[" * 5000, "not valid YAML"), ("? [a]\n: 1", "not a plain word"),
        ("logdir: \"a\\0b\"", "logdir"), ("x: " + "y" * 2_000_000, "longer than"),
    ],
)  # fmt: skip
def test_what_yaml_takes_otherwise_than_it_is_meant(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words) as error:
        load(tmp_path, text)
    assert len(one_line(error.value)) <= 600


def test_a_value_of_any_size_is_named_in_a_line(tmp_path):
    text = "seed: &a [1, 1, 1, 1, 1, 1, 1, 1]\n"
    for before, after in zip("abcdefgh", "bcdefghi"):
        text += f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert len(str(error.value)) < 600


def test_zero_and_other_plain_numbers(tmp_path):
    config = load(tmp_path, "seed: 0\ntrain: {lr: 2e-4, weight_L1: 0, beta1: 0.5}\ndevice_id: 0x1\n")
    assert config.seed == 0 and config.train.lr == 2e-4 and config.device_id == 1


# Lists


def test_names_in_a_list_that_cannot_be_an_images(tmp_path):
    path = tmp_path / "all_98pt.txt"
    for name in ("a\0.jpg", "a\x1b[31m.jpg", "../a.jpg", "/etc/passwd"):
        path.write_text(format_line(np.zeros((98, 2)), "x").replace(" x", f" {name}") + "\n")
        for read in (lambda: read_annotations(path, 0, ""), lambda: read_names(path, 196, "")):
            with pytest.raises(DataError, match="line 1 names"):
                read()
    path.write_text("x" * 10**6)
    with pytest.raises(DataError, match="line 1 is longer than"):
        read_names(path, 0, "")
    path.write_bytes("café.jpg\n".encode("latin-1"))
    with pytest.raises(DataError, match="not a text file"):
        read_names(path, 0, "")


@pytest.mark.parametrize("ends", ["\r", "\r\n", "\n", "\n\n"])
def test_split_of_lists_with_any_line_ends(tmp_path, ends):
    person = tmp_path / "-people/Ann"
    person.mkdir(parents=True)
    names = [f"{k}.jpg" for k in range(12)]
    (person / "all_frames.txt").write_bytes(ends.join([*names, ""]).encode())
    out = must_run(tmp_path, "split_celebv.sh", "-people", "08")
    assert "8 for training in train_frames.txt, 4 for test" in out
    assert celebv.read_frame_names(tmp_path / "-people", "Ann", "test") == names[8:]
    assert not list(person.glob(".*"))


def test_split_keeps_lines_of_any_encoding(tmp_path):
    person = tmp_path / "people/Ann"
    person.mkdir(parents=True)
    lines = [f"é{k}.jpg".encode("latin-1") for k in range(5)]
    (person / "all_frames.txt").write_bytes(b"\n".join(lines) + b"\n")
    must_run(tmp_path, "split_celebv.sh", "people", "3", LC_ALL="C.UTF-8")
    assert (person / "train_frames.txt").read_bytes().split() == lines[:3]
    assert (person / "test_frames.txt").read_bytes().split() == lines[3:]
    for number in ("0", "00", "-1", "1e3", "", "999999999999999999999"):
        if number:
            must_fail(tmp_path, 2, "NUM_TRAIN must be", "split_celebv.sh", "people", number)


# Names that people give, and names that programs use


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


# Nothing where something is meant


@pytest.mark.slow
def test_empty_words_on_the_command_line(tmp_path):
    run = "test_reenactment.py"
    must_fail(tmp_path, 2, "--input: must not be empty", run, *DEMO_NETWORKS, "--input", "")
    must_fail(tmp_path, 2, "--conf/--config: must not be empty", "train_decoder.py", "--conf", "")
    must_fail(tmp_path, 2, "--resume: must not be empty", "train_decoder.py", "--resume", "")
    must_fail(tmp_path, 2, "--dataset: must not be empty", "preprocess.py", "--dataset", "", "--check")
    must_fail(tmp_path, 2, "--detector: must not be empty", run, *DEMO_NETWORKS, "--input", "x", "--detector", " ")
    must_fail(tmp_path, 2, "must name a file", "prepare_person.py", "", "--name", "Me")


@pytest.mark.parametrize(
    "module, text, key, value",
    [
        ("decoder", "ref_dir: null", "ref_dir", ""),
        ("decoder", "ref_dir:", "ref_dir", ""),
        ("decoder", "experiment_name: ~", "experiment_name", ""),
        ("transformer", "src_celeb_names: null", "src_celeb_names", ()),
    ],
)
def test_null_is_nothing_given(tmp_path, module, text, key, value):
    assert getattr(load(tmp_path, text, module), key) == value


def test_null_for_a_whole_section_and_for_a_number(tmp_path):
    assert load(tmp_path, "train:\n# lr: 1\nmodel: null") == load(tmp_path, "{}")
    for text in ("train: {lr: null}", "seed: ~", "mode: null"):
        with pytest.raises(ConfigError, match="must be"):
            load(tmp_path, text)
