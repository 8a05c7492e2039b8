"""A user's mistakes: the exit code, one line that says what to do, no traceback, nothing half written."""

from __future__ import annotations

import errno
import os
import shutil

import h5py
import numpy as np
import pytest
from helpers import must_fail, must_run, run_script

from utils.errors import ResourceError, describe
from utils.files import atomic_path, write_yaml

pytestmark = pytest.mark.slow


@pytest.fixture
def broken(data, tmp_path):
    """A copy of the tiny data sets, to damage."""
    shutil.copytree(data / "datasets", tmp_path / "datasets")
    return tmp_path


def conf(folder, **content) -> str:
    write_yaml(folder / "own.yaml", content)
    return "own.yaml"


def decoder_conf(folder, **more) -> str:
    train = {"epochs": 1, "batch_size": 1, "feature_loss": {"lambda": 0}, **more.pop("train", {})}
    return conf(folder, **{"trg_celeb_name": "Linnea", "model": {"planes": 2}, "train": train, **more})


def test_usage(tmp_path):
    must_fail(tmp_path, 2, "INFO", "test_decoder.py")
    must_fail(tmp_path, 2, "must be between 1 and", "test_decoder.py", "x.yaml", "-n", 0)
    must_fail(tmp_path, 2, "--decoder-config", "test_reenactment.py")
    must_fail(tmp_path, 2, "usage: sh split_celebv.sh", "split_celebv.sh")
    must_fail(tmp_path, 2, "NUM_TRAIN must be", "split_celebv.sh", ".", "many")
    must_fail(tmp_path, 2, "must be an integer", "tools/make_synthetic.py", "celebv", "--people", "Ada=x")


def test_configuration(tmp_path):
    for script in ("train_encoder.py", "train_transformer.py", "train_decoder.py", "train_shape_prior.py"):
        must_fail(tmp_path, 2, "nowhere.yaml: no such file", script, "--conf", "nowhere.yaml")
    must_fail(tmp_path, 2, "did you mean 'train'", "train_decoder.py", "--conf", conf(tmp_path, trian={}))
    wrong = conf(tmp_path, train={"lr": -1})
    must_fail(tmp_path, 2, "train.lr: must be above 0", "train_encoder.py", "--conf", wrong)
    same = conf(tmp_path, src_celeb_name="A", trg_celeb_name="A")
    must_fail(tmp_path, 2, "A is both source and target", "train_transformer.py", "--conf", same)


def test_missing_data(tmp_path):
    must_fail(tmp_path, 3, "preprocess.py", "train_encoder.py")
    must_fail(tmp_path, 3, "Donald_Trump: no such person", "train_decoder.py")
    must_fail(tmp_path, 3, "Kathleen: no such person", "train_transformer.py")
    must_fail(tmp_path, 3, "no person (a folder with", "train_shape_prior.py")
    must_fail(tmp_path, 3, "no such folder", "preprocess.py", "--dataset", "nowhere", "--out-dir", "out")
    must_fail(tmp_path, 3, "no such annotation list", "preprocess.py", "--dataset", ".", "--out-dir", "out")
    must_fail(tmp_path, 3, "no person (a folder with", "preprocess.py", "--dataset", "CelebV", "--out-dir", "out")
    must_fail(tmp_path, 3, "no such folder", "split_celebv.sh", "nowhere")
    must_fail(tmp_path, 3, "no person (a folder with", "split_celebv.sh", ".")
    assert not (tmp_path / "out").exists() and not (tmp_path / "tmp.monitor").exists()


def test_unknown_person(broken):
    args = ("--dataset", "CelebV", "--out-dir", "out", "--celeb-name-list", "Nobody")
    assert "contains Linnea, Rowan" in must_fail(broken, 3, "Nobody: no such person", "preprocess.py", *args)


def test_split(broken):
    before = sorted(path.name for path in (broken / "datasets/CelebV/Rowan").iterdir())
    must_fail(broken, 3, "14 images are too few", "split_celebv.sh", "datasets/CelebV")
    out = must_run(broken, "split_celebv.sh", "datasets/CelebV", 10)
    assert "Rowan: 10 for training, 4 for testing" in out
    must_run(broken, "split_celebv.sh", "./datasets/CelebV/", 10)  # again: the same
    folder = broken / "datasets/CelebV/Rowan"
    lists = [(folder / f"{mode}_98pt.txt").read_text() for mode in ("train", "test", "all")]
    assert lists[0] + lists[1] == lists[2] and lists[0].count("\n") == 10
    assert sorted(path.name for path in folder.iterdir()) == before
    spaced = broken / "a folder"
    (broken / "datasets/CelebV").rename(spaced)
    must_run(broken, "split_celebv.sh", spaced, 9)
    assert (spaced / "Linnea/train_98pt.txt").read_text().count("\n") == 9


def test_split_skips_other_folders(broken):
    (broken / "datasets/CelebV/Somebody/Image").mkdir(parents=True)
    assert "Somebody: skipped" in must_run(broken, "split_celebv.sh", "datasets/CelebV", 10)


@pytest.mark.parametrize("how", ["TERM", "KILL"])
def test_interrupted_split(broken, how):
    """Killed between the two lists, it leaves no pair that does not belong together."""
    folder = broken / "datasets/CelebV/Linnea"
    before = sorted(path.name for path in folder.glob("[!.]*"))
    (broken / "bin").mkdir()
    (broken / "bin/mv").write_text(f'#!/bin/sh\n/bin/mv "$@"\nkill -{how} "$PPID"\n')
    (broken / "bin/mv").chmod(0o755)
    here = sorted(path.name for path in broken.iterdir())
    path = f"{broken / 'bin'}:{os.environ['PATH']}"
    assert run_script(broken, "split_celebv.sh", "datasets/CelebV", 10, PATH=path).returncode != 0
    assert sorted(path.name for path in broken.iterdir()) == here
    assert not (folder / "test_98pt.txt").exists()
    line = must_fail(broken, 3, "split_celebv.sh", "train_decoder.py", "--conf", decoder_conf(broken, mode="test"))
    assert "test_98pt.txt: no such annotation list" in line
    must_run(broken, "split_celebv.sh", "datasets/CelebV", 10)
    assert sorted(path.name for path in folder.glob("[!.]*")) == before


def test_damaged_data(broken):
    args = ("--dataset", "CelebV", "--out-dir", "out")
    image = broken / "datasets/CelebV/Linnea/Image/000003.jpg"
    good = image.read_bytes()
    image.write_bytes(good[: len(good) // 2])
    must_fail(broken, 3, "000003.jpg: cannot be decoded", "preprocess.py", *args)
    assert not list((broken / "out").glob("*.npz"))
    assert "000003.jpg" in must_fail(broken, 3, "decoded", "train_decoder.py", "--conf", decoder_conf(broken))
    image.unlink()
    must_fail(broken, 3, "1 of 14 images of all_98pt.txt are missing, for example 000003.jpg", "preprocess.py", *args)
    image.write_bytes(good)
    annotations = broken / "datasets/CelebV/Linnea/all_98pt.txt"
    lines = annotations.read_text().splitlines()
    annotations.write_text("\n".join([lines[0], lines[1].split(" ", 1)[1]]) + "\n")
    must_fail(broken, 3, "line 2 has 196 columns instead of 197", "preprocess.py", *args)


def test_weights_of_other_networks(broken):
    must_run(broken, "train_decoder.py", "--conf", decoder_conf(broken, experiment_name="one"))
    run_dir = broken / "tmp.monitor/decoder/Linnea/one"
    info = run_dir / "training_info.yaml"
    other = run_dir / "netD_decoder_1.h5"
    must_fail(broken, 4, "not the weights of this network", "test_decoder.py", info, "--param-file", other)
    must_fail(broken, 4, "no such weights file", "test_decoder.py", info, "--param-file", "nowhere.h5")
    must_fail(broken, 2, "is a configuration of the decoder", "test_transformer.py", info)
    said = must_run(broken, "test_decoder.py", info, "-n", 7)
    assert "has only 6 images" in said and "6 images through the decoder" in said
    shutil.rmtree(broken / "tmp.result")
    with h5py.File(run_dir / "netG_decoder_1.h5", "a") as file:
        file["up7/deconv/b"][0] = np.nan
    must_fail(broken, 4, "netG_decoder_1.h5: changed since it was saved", "test_decoder.py", info)
    (run_dir / "SHA256SUMS").unlink()
    must_fail(broken, 4, "not finite in up7/deconv/b", "test_decoder.py", info)
    (run_dir / "netG_decoder_1.h5").unlink()
    must_fail(broken, 4, "no netG_decoder_<epoch>.h5; train", "test_decoder.py", info)
    assert not (broken / "tmp.result").exists()
    must_fail(
        broken,
        4,
        "Align_40000.h5: no such weights",
        "train_transformer.py",
        "--conf",
        conf(broken, src_celeb_name="Rowan", trg_celeb_name="Linnea", train={"batch_size": 2}),
    )
    missing = conf(broken, finetune={"param_path": "x.h5"}, train={"batch_size": 2}, model={"planes": 2})
    must_fail(broken, 4, "x.h5: no such weights file", "train_encoder.py", "--conf", missing)
    missing = decoder_conf(broken, finetune={"param_path": "x.h5"})
    must_fail(broken, 4, "x.h5: no such weights file", "train_decoder.py", "--conf", missing)


def test_reenactment_refuses_other_people(broken):
    must_run(broken, "train_decoder.py", "--conf", decoder_conf(broken, experiment_name="one"))
    decoder = "tmp.monitor/decoder/Linnea/one/training_info.yaml"
    write_yaml(broken / "encoder.yaml", {"drawing": "gaze"})
    transformer = {"src_celeb_name": "Linnea", "trg_celeb_name": "Rowan", "drawing": "gaze"}
    write_yaml(broken / "transformer.yaml", transformer)
    infos = ("--encoder-config", "encoder.yaml", "--transformer-config", "transformer.yaml")
    infos += ("--encoder-param-file", "x.h5", "--transformer-param-file", "x.h5")  # not read yet
    words = "was trained for Linnea"
    must_fail(broken, 2, words, "test_reenactment.py", *infos, "--decoder-config", decoder)
    must_fail(
        broken, 2, "must end in .mp4", "test_reenactment.py", *infos, "--decoder-config", decoder, "--video", "x.avi"
    )


def test_no_source_for_vgg(broken, tmp_path):
    args = ("--conf", decoder_conf(broken, train={"feature_loss": {"lambda": 10}}))
    unreachable = {"HOME": str(tmp_path), "NNABLA_MODELS_URL_BASE": "http://127.0.0.1:9/"}
    line = must_fail(broken, 6, "VGG-16", "train_decoder.py", *args, **unreachable)
    assert "train.feature_loss.lambda to 0" in line


def test_a_loss_that_explodes(broken):
    wild = decoder_conf(broken, train={"lr": 1e30, "epochs": 3})
    line = must_fail(broken, 5, "lower train.lr", "train_decoder.py", "--conf", wild)
    assert "loss" in line


def test_a_folder_that_cannot_be_written(broken):
    (broken / "tmp.monitor").write_text("a file in the way")
    must_fail(broken, 6, "tmp.monitor", "train_decoder.py", "--conf", decoder_conf(broken))


def test_synthetic_people_never_replace_real_data(tmp_path):
    for folder in ("datasets/CelebV/Kathleen/Image", "datasets/WFLW_images/0--Parade"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.jpg").write_text("real")
    people = ("--people", "Kathleen", "--frames", 2)
    must_fail(tmp_path, 3, "not synthetic", "tools/make_synthetic.py", "celebv", *people)
    must_fail(tmp_path, 3, "not synthetic", "tools/make_synthetic.py", "wflw", "--train-faces", 1)
    assert (tmp_path / "datasets/CelebV/Kathleen/Image/1.jpg").read_text() == "real"
    assert not (tmp_path / "datasets/WFLW_annotations").exists()
    other = ("tools/make_synthetic.py", "celebv", "--people", "Ada", "--frames", 3)
    must_run(tmp_path, *other)
    must_run(tmp_path, *other[:-1], 2)
    assert len(list((tmp_path / "datasets/CelebV/Ada/Image").iterdir())) == 2


def test_measure_without_expressions(broken):
    (broken / "x").mkdir()
    must_fail(broken, 3, "no reenactment.yaml; name", "evaluate.py", "x")


def test_help_of_every_script(tmp_path):
    for script in ("preprocess.py", "tools/make_synthetic.py", "train_encoder.py", "train_transformer.py",
                   "train_decoder.py",
                   "train_shape_prior.py", "test_transformer.py", "test_decoder.py", "test_reenactment.py",
                   "evaluate.py", "prepare_person.py", "benchmarks/data.py"):  # fmt: skip
        result = run_script(tmp_path, script, "--help")
        assert result.returncode == 0 and "usage" in result.stdout


# Errors of the system


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
    ],
)
def test_why_a_file_cannot_be_written(tmp_path, number, words):
    with pytest.raises(ResourceError, match=words) as caught, atomic_path(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
    assert ("disk is full" in str(caught.value)) == (number == errno.ENOSPC)
    assert words in describe(OSError(number, os.strerror(number)))[0]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),  # the parent's, after a fork
        RuntimeError("pthread_create: Resource temporarily unavailable"),
    ],
)
def test_a_limit_of_threads_or_processes(error):
    words, exit_code = describe(error)
    assert exit_code == 6 and "limit of threads and processes" in words and "Traceback" not in words
