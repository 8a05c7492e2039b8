"""Every script run for real: from generation to video, on small synthetic data and at tiny width."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import imageio_ffmpeg
import numpy as np
import pytest
import yaml
from helpers import ROOT, must_fail, must_run, run_script
from PIL import Image

from utils.files import write_yaml

pytestmark = pytest.mark.slow

TINY = {
    "shape_prior": {"mode": "train", "train": {"epochs": 1, "batch_size": 4}, "experiment_name": "tiny"},
    "encoder": {
        "experiment_name": "tiny",
        "model": {"planes": 2},
        "train": {"epochs": 2, "batch_size": 3},
        "test": {"batch_size": 2},
        "monitor": {"interval": 1, "save_interval": 1},
    },
    "transformer": {
        "experiment_name": "tiny",
        "src_celeb_name": "Rowan",
        "trg_celeb_name": "Linnea",
        "mode": "train",
        "model": {"planes": 2},
        "train": {
            "epochs": 2,
            "batch_size": 4,
            "shape_loss": {
                "align_param_path": "tmp.monitor/shape_prior/tiny/Align.h5",
                "PCA_param_path": "tmp.monitor/shape_prior/tiny/PCA.h5",
            },
            "warm_start": {"epochs": 1},
        },
        "monitor": {"interval": 1, "save_interval": 1},
    },
    "decoder": {
        "experiment_name": "tiny",
        "trg_celeb_name": "Linnea",
        "mode": "train",
        "ref_dir": "datasets/celebv_heatmaps_GT",
        "model": {"planes": 2},
        "train": {"epochs": 2, "batch_size": 4, "lr_decay_start_at": 1, "feature_loss": {"lambda": 0}},
        "monitor": {"interval": 1, "save_interval": 1},
    },
}
RUNS = {
    "encoder": "tmp.monitor/encoder/tiny",
    "transformer": "tmp.monitor/transformer/Rowan2Linnea/tiny",
    "decoder": "tmp.monitor/decoder/Linnea/tiny",
}


@pytest.fixture(scope="module")
def trained(data):
    """The working folder after all four trainings."""
    train_all(data, {"shape_prior": TINY["shape_prior"]})
    train_all(data, {module: config for module, config in TINY.items() if module != "shape_prior"})
    return data


def train_all(folder, configs: dict[str, dict]) -> None:
    """Trainings side by side; each computes on one core."""
    for module, config in configs.items():
        write_yaml(folder / f"{module}.yaml", config)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda module: must_run(folder, f"train_{module}.py", "--conf", f"{module}.yaml"), configs))


def names_in(path) -> list[str]:
    names = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(names)


def table_names(network: str) -> list[str]:
    with open(ROOT / "models/parameters" / f"{network}.csv") as file:
        return sorted(row["name"] for row in csv.DictReader(file))


def series(path) -> np.ndarray:
    return np.loadtxt(path, ndmin=2)


def newest_panel(run_dir) -> Path:
    """The last sample image of a run, named as nnabla's MonitorImage names them."""
    panels = sorted((run_dir / "result").iterdir())
    assert all(re.fullmatch(r"\d{6}-000\.png", panel.name) for panel in panels)
    return panels[-1]


def test_encoder_run(trained):
    run_dir = trained / RUNS["encoder"]
    assert {path.name for path in (run_dir / "model").iterdir()} == {
        "model_epoch-1.h5",
        "model_epoch-2.h5",
        "model_best.h5",
        "best.yaml",
        "SHA256SUMS",
    }
    assert names_in(run_dir / "model/model_epoch-2.h5") == table_names("encoder")
    values = series(run_dir / "validation/mse.series.txt")
    best = yaml.safe_load((run_dir / "model/best.yaml").read_text())
    assert best["epoch"] == values[:, 1].argmin() + 1
    assert best["mse"] == pytest.approx(values[:, 1].min(), rel=1e-4)
    same = (run_dir / f"model/model_epoch-{best['epoch']}.h5", run_dir / "model/model_best.h5")
    with h5py.File(same[0]) as first, h5py.File(same[1]) as second:
        assert all(np.array_equal(first[name][()], second[name][()]) for name in table_names("encoder"))
    assert Image.open(run_dir / "result_epoch-2/000000-000.png").size == (768, 256)
    assert len(series(run_dir / "loss.series.txt")) == 2


def test_transformer_run(trained):
    run_dir = trained / RUNS["transformer"]
    for epoch in (1, 2):
        for name, table in (
            ("netG_transformer_A2B", "transformer_generator_batch_norm"),
            ("netG_transformer_B2A", "transformer_generator_batch_norm"),
            ("netD_transformer_A", "transformer_discriminator"),
            ("netD_transformer_B", "transformer_discriminator"),
        ):
            assert names_in(run_dir / f"{name}_{epoch}.h5") == table_names(table)
    assert len(series(run_dir / "loss_warm_A.series.txt")) == 4  # 8 frames, batches of 4, 2 epochs
    assert len(series(run_dir / "loss_cycle_A.series.txt")) == 2
    assert Image.open(newest_panel(run_dir)).size == (6 * 256, 256)


def test_decoder_run(trained):
    run_dir = trained / RUNS["decoder"]
    assert names_in(run_dir / "netG_decoder_2.h5") == table_names("decoder_generator")
    with Image.open(newest_panel(run_dir)) as panel:  # a generated face says what it is
        assert "AI-generated" in panel.text["Comment"]
    assert names_in(run_dir / "netD_decoder_2.h5") == table_names("decoder_discriminator")
    assert len(series(run_dir / "L1_loss.series.txt")) == 4
    info = yaml.safe_load((run_dir / "training_info.yaml").read_text())
    assert info["dataset_mode"] == "decoder" and info["context"] == "cpu" and info["experiment_name"] == "tiny"


def test_shape_prior_run(trained):
    run_dir = trained / "tmp.monitor/shape_prior/tiny"
    assert names_in(run_dir / "Align.h5") == table_names("align")
    assert names_in(run_dir / "PCA.h5") == table_names("pca")


def test_a_second_run_of_the_same_name_gets_its_own_folder_and_the_same_bits(trained):
    must_run(trained, "train_decoder.py", "--config", "decoder.yaml")
    first, second = trained / RUNS["decoder"], trained / (RUNS["decoder"] + "-2")
    with h5py.File(first / "netG_decoder_2.h5") as a, h5py.File(second / "netG_decoder_2.h5") as b:
        assert all(np.array_equal(a[name][()], b[name][()]) for name in table_names("decoder_generator"))
    shutil.rmtree(second)


@pytest.mark.parametrize(
    "module, first, saved",
    [
        ("decoder", "netG_decoder_2.h5", ("netG_decoder_1.h5",)),
        # both directions begin from the one file
        ("transformer", "netG_transformer_A2B_2.h5", ("netG_transformer_A2B_1.h5", "netG_transformer_B2A_1.h5")),
    ],
)
def test_a_training_starts_from_other_weights(trained, module, first, saved):
    first = trained / RUNS[module] / first
    config = TINY[module] | {"experiment_name": "from", "finetune": {"param_path": str(first)}}
    config["train"] = config["train"] | {"epochs": 1, "lr": 1e-9, "warm_start": {"epochs": 1, "lr": 1e-9}}
    if module == "decoder":
        del config["train"]["warm_start"]
    write_yaml(trained / "from.yaml", config)
    must_run(trained, f"train_{module}.py", "--conf", "from.yaml")
    folder = (trained / RUNS[module]).with_name("from")
    weights = [name for name in names_in(first) if name.endswith("/W")]
    assert len(weights) > 10
    for file in saved:
        with h5py.File(first) as a, h5py.File(folder / file) as b:
            for name in weights:
                np.testing.assert_allclose(b[name][()], a[name][()], atol=1e-6)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "module, file", [("encoder", "model/model_epoch-{}.h5"), ("transformer", "netG_transformer_A2B_{}.h5")]
)
def test_a_rate_falls_from_its_epoch_on(trained, module, file):
    """In the second epoch of two it is half of what it was: the first one's weights are the same bits."""
    train, constant = TINY[module]["train"], trained / RUNS[module]
    if module == "transformer":
        train, constant = train | {"warm_start": {"epochs": 2}}, constant.with_name("constant")
        write_yaml(trained / "rate.yaml", TINY[module] | {"experiment_name": "constant", "train": train})
        must_run(trained, f"train_{module}.py", "--conf", "rate.yaml")
    own = {"lr_decay_start_at": 0}
    falls = {"warm_start": train["warm_start"] | own} if module == "transformer" else own
    write_yaml(trained / "rate.yaml", TINY[module] | {"experiment_name": "falls", "train": train | falls})
    must_run(trained, f"train_{module}.py", "--conf", "rate.yaml")
    falling = constant.with_name("falls")
    for epoch, same in ((1, True), (2, False)):
        with h5py.File(constant / file.format(epoch)) as a, h5py.File(falling / file.format(epoch)) as b:
            weights = [name for name in names_in(constant / file.format(epoch)) if name.endswith("/W")]
            assert all(np.array_equal(a[name][()], b[name][()]) for name in weights) == same, epoch
    shutil.rmtree(falling)


def test_test_scripts_make_exactly_n_panels(trained):
    must_run(trained, "test_transformer.py", f"{RUNS['transformer']}/training_info.yaml", "-n", 3)
    panels = sorted((trained / "tmp.result/transformer/Rowan2Linnea/tiny/result").iterdir())
    assert [path.name for path in panels] == [f"{index:06d}-000.png" for index in range(3)]
    assert Image.open(panels[0]).size == (768, 256)
    weights = f"{RUNS['decoder']}/netG_decoder_1.h5"
    must_run(trained, "test_decoder.py", f"{RUNS['decoder']}/training_info.yaml", "-n", 2, "--param-file", weights)
    panels = sorted((trained / "tmp.result/decoder/Linnea/tiny/result").iterdir())
    assert len(panels) == 2 and Image.open(panels[0]).size == (768, 256)
    assert "AI-generated" in Image.open(panels[0]).text["Comment"]


def reenact(folder, *args):
    infos = [x for module, run in RUNS.items() for x in (f"--{module}-config", f"{run}/training_info.yaml")]
    return must_run(folder, "test_reenactment.py", *infos, *args)


def test_reenactment_frames_video_and_measure(trained):
    names = ("--src-celeb-name", "Rowan", "--trg-celeb-name", "Linnea")
    reenact(trained, *names, "--video", "out.mp4")
    (run_dir,) = (trained / "reenactment_result/Rowan2Linnea").iterdir()
    frames = sorted((run_dir / "result").iterdir())
    assert [path.name for path in frames] == [f"{k:06d}-000.png" for k in range(6)]
    panel = Image.open(frames[0])
    assert panel.size == (1280, 256) and "driven by Rowan" in panel.text["Comment"]
    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(trained / "out.mp4"))
    assert count == 6 and seconds == pytest.approx(0.2, abs=0.05)
    # the description's ffmpeg command on the frames
    pattern = str(run_dir / "result/00%04d-000.png")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-framerate", "30", "-i", pattern, "-vcodec", "libx264"]
    command += ["-pix_fmt", "yuv420p", "-r", "30", str(trained / "by_hand.mp4"), "-y", "-crf", "18"]
    subprocess.run(command, check=True, capture_output=True)
    assert imageio_ffmpeg.count_frames_and_secs(str(trained / "by_hand.mp4"))[0] == 6

    table = must_run(trained, "evaluate.py", run_dir)
    scores = yaml.safe_load((run_dir / "scores.json").read_text())
    against = ", against the true target"
    assert {score["of"].removesuffix(against) for score in scores if score["of"].endswith(against)} == {
        "chain",
        "chain, painted with the film",
        "mean target",
        "source copied",
        "decoder without transformer",
        "landmarks moved from mean to mean, decoder",
        "landmarks moved from neutral to neutral, decoder",
        "true boundary, decoder",
    }
    assert "mean target" in table
    assert (run_dir / "sheet.png").exists()
    record = yaml.safe_load((run_dir / "reenactment.yaml").read_text())
    seen = yaml.safe_load((run_dir / record["configs"]["decoder"]).read_text()) | {"mode": "all"}
    write_yaml(run_dir / "seen.yaml", seen)
    record["configs"]["decoder"] = "seen.yaml"
    write_yaml(run_dir / "reenactment.yaml", record)
    must_fail(trained, 3, "seen.yaml: the decoder was trained with 'mode: all'", "evaluate.py", run_dir)
    (run_dir / "reenactment.yaml").unlink()
    must_fail(trained, 3, "no reenactment.yaml; name", "evaluate.py", run_dir)


def test_a_person_that_drives_itself_is_measured_against_its_own_frames(trained):
    assert "note: the transformer was not trained on Linnea but on Rowan" in reenact(
        trained, "--src-celeb-name", "Linnea", "-n", 4
    )
    (run_dir,) = (trained / "reenactment_result/Linnea2Linnea").iterdir()
    out = must_run(trained, "evaluate.py", run_dir)
    assert "result: PSNR" in out
    scores = {(s["of"], s["name"]): s["value"] for s in json.loads((run_dir / "scores.json").read_text())}
    frames = json.loads((run_dir / "frames.json").read_text())
    panels = [np.asarray(Image.open(run_dir / "result" / name), float) for name in frames]
    truth = [10 * np.log10(255**2 / np.mean((p[:, 768:1024] - p[:, :256]) ** 2)) for p in panels]
    assert [figures["PSNR"] for figures in frames.values()] == pytest.approx(truth, abs=0.01)
    assert scores["result", "PSNR"] == pytest.approx(np.mean(truth), abs=0.01)
    decoder = {name for of, name in scores if of == "decoder on test frames of Linnea"}
    assert decoder == {"PSNR", "SSIM", "L1", "sharpness", "combs"}
    assert "PSNR" in (run_dir / "index.html").read_text()


@pytest.mark.long
def test_full_width_iteration_and_published_files_end_to_end(tmp_path):
    """One iteration of each script at full width; its files serve the description's reenactment command."""
    people = ("--people", "Kathleen=4", "Donald_Trump=6")
    must_run(tmp_path, "tools/make_synthetic.py", "celebv", *people, "--frames", 2)
    must_run(tmp_path, "tools/make_synthetic.py", "wflw", "--train-faces", 1, "--test-faces", 1)
    must_run(tmp_path, "split_celebv.sh", "datasets/CelebV", 1)
    for mode in ("train", "test"):
        must_run(tmp_path, "preprocess.py", "--dataset", "WFLW", "--mode", mode, "--out-dir", "datasets/WFLW_heatmaps")
    prior = {"train": {"epochs": 1, "batch_size": 2}, "experiment_name": "one"}
    write_yaml(tmp_path / "shape_prior.yaml", prior)
    must_run(tmp_path, "train_shape_prior.py", "--conf", "shape_prior.yaml")
    one = {"experiment_name": "one", "train": {"epochs": 1, "batch_size": 1}}
    shape_loss = {
        f"{key}_param_path": f"tmp.monitor/shape_prior/one/{name}.h5"
        for key, name in (("align", "Align"), ("PCA", "PCA"))
    }
    configs = {
        "encoder": one,
        "transformer": {**one, "mode": "train", "train": {**one["train"], "shape_loss": shape_loss}},
        "decoder": {**one, "mode": "train", "train": {**one["train"], "feature_loss": {"lambda": 0}}},
    }
    train_all(tmp_path, configs)
    folders = {
        "encoder": ("encoder", "tmp.monitor/encoder/one/model/model_epoch-1.h5", "encoder"),
        "transformer": (
            "transformer/Kathleen2Donald_Trump",
            "tmp.monitor/transformer/Kathleen2Donald_Trump/one/netG_transformer_A2B_1.h5",
            "transformer_generator_batch_norm",
        ),
        "decoder": (
            "decoder/Donald_Trump",
            "tmp.monitor/decoder/Donald_Trump/one/netG_decoder_1.h5",
            "decoder_generator",
        ),
    }
    command = []
    for module, (folder, weights, table) in folders.items():
        with h5py.File(tmp_path / weights) as file, open(ROOT / f"models/parameters/{table}.csv") as rows:
            for row in csv.DictReader(rows):
                assert "x".join(map(str, file[row["name"]].shape)) == row["shape"]
        assert names_in(tmp_path / weights) == table_names(table)
        target = tmp_path / "pretrained_weights" / folder
        target.mkdir(parents=True)
        shutil.copy(ROOT / f"tests/data/training_info/{module}.yaml", target / "training_info.yaml")
        shutil.copy(tmp_path / weights, target / "weights.h5")
        command += [f"--{module}-config", f"pretrained_weights/{folder}/training_info.yaml"]
        command += [f"--{module}-param-file", f"pretrained_weights/{folder}/weights.h5"]
    names = ("--src-celeb-name", "Kathleen", "--trg-celeb-name", "Donald_Trump")
    # nnabla, because exporting networks of full width takes as long as all the rest of this test
    result = run_script(tmp_path, "test_reenactment.py", *command, *names, "--backend", "nnabla")
    assert result.returncode == 0, result.stderr
    assert "context: c" in result.stdout  # the files name cudnn; without a GPU it says that it goes on with the CPU
    (run_dir,) = (tmp_path / "reenactment_result/Kathleen2Donald_Trump").iterdir()
    assert len(list((run_dir / "result").iterdir())) == 1
