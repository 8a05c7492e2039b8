"""The authors' recipe: each option by itself, and the scripts run with all of them on."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import nnabla as nn
import numpy as np
import pytest
import yaml
from helpers import ROOT, must_fail, must_run
from scipy.ndimage import correlate

import train_transformer
from config import complete_config, with_values
from models.transformer import enhance_edges
from utils.files import write_yaml

rng = np.random.default_rng(0)
SOURCES, TARGET = ["Rowan", "Mira"], "Linnea"


def test_edge_enhancement_is_a_sobel_pair_on_each_map():
    x = rng.uniform(0, 1, (2, 15, 64, 64)).astype(np.float32)
    y = enhance_edges(nn.Variable.from_numpy_array(x))
    y.forward()
    sobel = np.outer([1, 2, 1], [-1, 0, 1])
    for truth, maps in zip(y.d, x):
        for found, one in zip(truth, maps):
            expected = correlate(correlate(one, sobel, mode="constant"), sobel.T, mode="constant")
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_only_discriminators_see_enhanced_edges():
    config = complete_config("transformer", {"model": {"planes": 2}, "train": {"batch_size": 2}}, None)
    x = nn.Variable.from_numpy_array(rng.uniform(0, 1, (2, 15, 64, 64)))
    plain = train_transformer.discriminate(config, "A", enhance_edges(x))
    config = with_values(config, {"train": {"edge_enhancement": True}})
    enhanced = train_transformer.discriminate(config, "A", x)
    nn.forward_all([plain, enhanced])
    np.testing.assert_allclose(plain.d, enhanced.d, rtol=1e-5, atol=1e-6)
    graph = train_transformer.build_graph(config, None)
    assert graph.fake["A"].shape == (2, 15, 64, 64)
    loss = graph.generator_losses["loss_gan_A"]
    graph.real["B"].d = x.d
    graph.fake["A"].forward()
    loss.forward()
    graph.fake_leaf["A"].grad.zero()
    loss.backward()
    assert np.abs(graph.fake_leaf["A"].g).max() > 0  # gradients pass through


@pytest.fixture(scope="module")
def work(data, tmp_path_factory):
    """A working folder with two sources and a target, split."""
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "datasets/CelebV").mkdir(parents=True)
    for name in ("Rowan", "Linnea"):
        (folder / "datasets/CelebV" / name).symlink_to(data / "datasets/CelebV" / name)
    (folder / "datasets/WFLW_heatmaps").symlink_to(data / "datasets/WFLW_heatmaps")
    must_run(folder, "tools/make_synthetic.py", "celebv", "--people", "Mira=41", "--frames", 14)
    must_run(folder, "split_celebv.sh", "./datasets/CelebV", 8)
    return folder


def tiny(module: str, **more) -> dict:
    """The authors' configuration at tiny width, for the synthetic people."""
    config = yaml.safe_load((ROOT / f"config/authors/{module}.yaml").read_text())
    config |= {"experiment_name": "authors", "model": {"planes": 2}, "monitor": {"interval": 1}, **more}
    config["train"] |= {"epochs": 1, "batch_size": 2}
    return config


@pytest.mark.slow
def test_the_scripts_run_with_all_of_it(work):
    write_yaml(work / "encoder.yaml", tiny("encoder"))
    must_run(work, "train_encoder.py", "--conf", "encoder.yaml")
    info = "tmp.monitor/encoder/authors/training_info.yaml"
    for name in (*SOURCES, TARGET):
        person = ("datasets/CelebV/" + name, "--name", name, "--batch-size", 4)
        must_run(work, "prepare_person.py", *person, "--encoder-config", info)

    people = {"src_celeb_names": SOURCES, "trg_celeb_name": TARGET, "mode": "train"}
    config = tiny("transformer", **people)
    config["train"]["shape_loss"] = {"lambda": 0}
    write_yaml(work / "transformer.yaml", config)
    must_run(work, "train_transformer.py", "--conf", "transformer.yaml")
    run = work / "tmp.monitor/transformer/Rowan+Mira2Linnea/authors"
    weights = {path.name for path in run.glob("*.h5")}
    # many to one: the way to the target is shared, the way back is each source's own
    own = {f"net{kind}_{name}_1.h5" for name in SOURCES for kind in ("G_transformer_B2A", "D_transformer_A")}
    assert weights == {"netG_transformer_A2B_1.h5", "netD_transformer_B_1.h5"} | own
    assert list((run / "result").glob("*-001.png")) and (run / "loss_gan_A_Mira.series.txt").exists()

    config = tiny("decoder", trg_celeb_name=TARGET, mode="train")
    config["train"]["feature_loss"] = {"lambda": 0}
    write_yaml(work / "decoder.yaml", config)
    must_run(work, "train_decoder.py", "--conf", "decoder.yaml")

    assert must_run(work, "test_transformer.py", run / "training_info.yaml", "-n", 2).count("2 images") == 2
    chain = (
        "--encoder-config", info, "--transformer-config", run / "training_info.yaml",
        "--decoder-config", "tmp.monitor/decoder/Linnea/authors/training_info.yaml", "-n", 2,
    )  # fmt: skip
    must_run(work, "test_reenactment.py", *chain, "--src-celeb-name", "Mira")
    (record,) = work.glob("reenactment_result/Mira2Linnea/*/reenactment.yaml")
    assert "netG_transformer_A2B_1.h5" in record.read_text()
    alone = ("--landmarks", *chain[4:6], "--src-celeb-name", "Mira")
    must_fail(work, 2, "'boundary: encoder'; replace --landmarks", "test_reenactment.py", *alone)
    # one that it was not trained on drives as well
    said = must_run(work, "test_reenactment.py", *chain, "--src-celeb-name", "Linnea")
    assert "note: the transformer was not trained on Linnea but on Rowan, Mira" in said


@pytest.mark.slow
def test_the_shape_prior_of_wflw(work):
    config = {"dataset": "WFLW", "mode": "train", "experiment_name": "wflw", "train": {"epochs": 1, "batch_size": 3}}
    write_yaml(work / "prior.yaml", config)
    said = must_run(work, "train_shape_prior.py", "--conf", "prior.yaml")
    assert "landmarks of WFLW (test)" in said
    report = yaml.safe_load((work / "tmp.monitor/shape_prior/wflw/shape_prior.yaml").read_text())
    assert 0 < report["normalised_mean_error"] < 2 and len(report["explained_variance"]) == 3
    assert 0.5 < sum(report["explained_variance"]) <= 1

    # a run that uses it takes the same files elsewhere, but no others
    people = {"src_celeb_names": ["Rowan"], "trg_celeb_name": TARGET, "mode": "train", "experiment_name": "prior"}
    config, prior = tiny("transformer", **people), work / "prior"
    config["train"] |= {"augmentation": False, "num_workers": 0}
    shutil.copytree(work / "tmp.monitor/shape_prior/wflw", prior)
    for folder in ("tmp.monitor/shape_prior/wflw", "prior"):
        paths = {"align_param_path": f"{folder}/Align.h5", "PCA_param_path": f"{folder}/PCA.h5"}
        config["train"]["shape_loss"] = paths
        config |= {"boundary": "landmarks", "ref_dir": ""}
        write_yaml(work / f"{Path(folder).name}.yaml", config)
    must_run(work, "train_transformer.py", "--conf", "wflw.yaml")
    resume = ("train_transformer.py", "--conf", "prior.yaml", "--resume")
    assert "is complete" in must_run(work, *resume)
    with h5py.File(prior / "PCA.h5", "a") as file:
        file["affine/b"][0] += 1
    assert "data.PCA.digest was" in must_fail(work, 2, "cannot be resumed with other settings or data", *resume)


@pytest.mark.slow
def test_an_encoder_from_people(data, tmp_path):
    (tmp_path / "datasets").symlink_to(data / "datasets")
    content = {"dataset": "CelebV", "experiment_name": "one", "model": {"planes": 2}}
    content["train"] = {"epochs": 1, "batch_size": 4, "num_workers": 0, "augmentation": True}
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(content))
    out = must_run(tmp_path, "train_encoder.py", "--conf", "encoder.yaml")
    assert "validation mse" in out
    info = yaml.safe_load((tmp_path / "tmp.monitor/encoder/one/training_info.yaml").read_text())
    assert info["celeb_names"] == ["Linnea", "Rowan"]
    plan = must_run(tmp_path, "train_encoder.py", "--conf", "encoder.yaml", "--dry-run")
    assert "data train: 16 samples" in plan and "data test: 12 samples" in plan
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(content | {"mode": "all", "celeb_names": ["Rowan"]}))
    assert "data train: 14 samples" in must_run(tmp_path, "train_encoder.py", "--conf", "all.yaml", "--dry-run")
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({"mode": "all"}))
    must_fail(tmp_path, 2, "mode", "train_encoder.py", "--conf", "wrong.yaml")
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(content | {"celeb_names": ["Nobody"]}))
    must_fail(tmp_path, 3, "Nobody: no such person", "train_encoder.py", "--conf", "wrong.yaml")
