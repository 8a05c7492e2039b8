"""The paper's experiments: aligned images, ablations, tables of several results, and the encoder's landmarks."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from helpers import DEMO, DEMO_NETWORKS, ROOT, must_fail, must_run
from PIL import Image

from config import load_config
from datasets.annotations import read_annotations
from datasets.wflw import NUM_EXTRAS, list_path
from faces.landmarks import normalized_error
from utils.files import write_yaml

pytestmark = pytest.mark.slow
REENACT = ("test_reenactment.py", *DEMO_NETWORKS, "--src-celeb-name", "Rowan")


def test_aligned_images_are_taken_as_they_are_and_keep_their_names(data, tmp_path):
    people = data / "datasets/CelebV"
    must_run(tmp_path, *REENACT, "--data-dir", people, "-n", 2, "--out-dir", "split", "--no-film")
    split = sorted(tmp_path.glob("split/*/*/result/*.png"))
    names = [line.split()[-1] for line in (people / "Rowan/test_98pt.txt").read_text().splitlines()[:2]]
    images = tmp_path / "in/face s"
    images.mkdir(parents=True)
    for name, new in zip(names, ("P_Rowan_10.jpg_0001", "P_Rowan_9.jpg_0002")):
        shutil.copy(people / "Rowan/Image" / name, images / f"{new}.jpg")
    (tmp_path / "in/list.txt").write_text("face s/P_Rowan_9.jpg_0002.jpg\n\nface s/P_Rowan_10.jpg_0001.jpg\n")
    for source in ("in/face s", "in/list.txt"):
        must_run(tmp_path, *REENACT, "--aligned", source, "--no-label", "--out-dir", "own", "--no-film")
        (result,) = tmp_path.glob("own/*/*/result")
        frames = [
            np.asarray(Image.open(result / f"{new}.png")) for new in ("P_Rowan_10.jpg_0001", "P_Rowan_9.jpg_0002")
        ]
        for frame, same in zip(frames, split):  # without the true boundary, which is unknown
            assert np.array_equal(frame, np.asarray(Image.open(same))[:, : frame.shape[1]])
        assert "AI-generated" in Image.open(result / "P_Rowan_9.jpg_0002.png").text["Comment"]
        must_run(tmp_path, "evaluate.py", result.parent)
        shutil.rmtree(tmp_path / "own")
    for source in ("in/face s", "in/list.txt"):  # with a film, an image does not depend on the one before
        must_run(tmp_path, *REENACT, "--aligned", source, "--out-dir", f"film/{source}")
    first, second = (next((tmp_path / "film/in" / name).glob("*/*/result")) for name in ("face s", "list.txt"))
    for path in first.iterdir():
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(second / path.name)))
    shutil.copytree(images, tmp_path / "in/more")
    (tmp_path / "in/list.txt").write_text("face s/P_Rowan_9.jpg_0002.jpg\nmore/P_Rowan_9.jpg_0002.jpg\n")
    must_fail(tmp_path, 3, "results of the same name", *REENACT, "--aligned", "in/list.txt")
    must_fail(tmp_path, 3, "no such annotation list", *REENACT, "--aligned", "nowhere")
    must_fail(tmp_path, 3, "pixels instead of 256x256", *REENACT, "--aligned", ROOT / "imgs")
    must_fail(tmp_path, 2, "not allowed with", *REENACT, "--aligned", "in/list.txt", "--input", "in/list.txt")
    decoder = DEMO_NETWORKS[-4:]
    must_fail(tmp_path, 2, "--aligned requires", "test_reenactment.py", *decoder, "--landmarks", "--aligned", "in")


def test_one_table_of_several_results(data, tmp_path):
    people = data / "datasets/CelebV"
    for source in ("Rowan", "Linnea"):
        flags = ("--src-celeb-name", source, "--data-dir", people, "-n", 4)
        must_run(tmp_path, "test_reenactment.py", *DEMO_NETWORKS, *flags)
    across, alone = (tmp_path / "reenactment_result" / name for name in ("Rowan2Linnea", "Linnea2Linnea"))
    results = [next(folder.iterdir()) for folder in (across, alone)]
    must_fail(tmp_path, 3, "no scores; run 'python evaluate.py", "tools/compare_runs.py", *results)
    for result in results:
        must_run(tmp_path, "evaluate.py", result)
    out = must_run(tmp_path, "tools/compare_runs.py", *results, "--csv", "table.csv")
    with open(tmp_path / "table.csv") as file:
        table = list(csv.reader(file))
    assert [line.split() for line in out.splitlines()[1:]] == [list(filter(None, row)) for row in table[1:]]
    assert table[0][4:] == ["AU1/2", "AU4", "AU12", "AU25/26", "AU43/45", "mean AU"]
    for result, row, of in zip(results, table[1:], ("chain, against the true target", "result")):
        scores = {
            (score["of"], score["name"]): score["value"] for score in json.loads((result / "scores.json").read_text())
        }
        assert row[0] == f"{result.parent.name}/{result.name}"
        assert float(row[1]) == pytest.approx(scores[of, "PSNR"], abs=0.005)
        assert row[2] == "" or float(row[2]) == pytest.approx(scores[of, "face PSNR"], abs=0.005)
        follows = "the result follows the source, correlations over time"
        assert float(row[-1]) == pytest.approx(scores[follows, "mean of the AUs"], abs=0.005)
    (results[0] / "scores.json").write_text("{")
    must_fail(tmp_path, 3, "damaged", "tools/compare_runs.py", *results)
    must_fail(tmp_path, 2, "must end in .csv", "tools/compare_runs.py", results[1], "--csv", "table.txt")


LOSSES = {
    "gan_loss": "no_adversarial",
    "cycle_loss": "no_cycle",
    "shape_loss": "no_shape",
    "feature_loss": "no_features",
}


def weights_of(module: str, *paths: object) -> dict[str, float]:
    """The weights of all losses, by the name of the ablation that switches one off."""
    train = load_config(module, *paths).train
    found = {name: getattr(train, key).lambda_ for key, name in LOSSES.items() if hasattr(train, key)}
    return found | ({"no_pixels": train.weight_L1} if module == "decoder" else {})


@pytest.mark.parametrize("module", ["transformer", "decoder"])
def test_an_ablation_switches_one_loss_off(module):
    paths = {path.stem: path for path in (ROOT / "config/ablations").glob("no_*.yaml")}
    assert set(paths) == {*LOSSES.values(), "no_pixels"}
    for base in ([], [ROOT / f"config/demo/{module}.yaml"]):
        before = weights_of(module, *base)
        for name in before:
            assert weights_of(module, *base, paths[name]) == before | {name: 0}


def test_ablations_of_the_demo_use_the_papers_weights():
    files = [ROOT / f"config/{name}.yaml" for name in ("demo/transformer", "ablations/demo")]
    assert weights_of("transformer", *files) == weights_of("transformer")
    assert load_config("transformer", *files).train.warm_start.lambda_ == 0


def test_the_encoders_landmarks(data, tmp_path):
    wflw = data / "datasets/WFLW_heatmaps"
    prior = {"dataset": "WFLW", "data_dir": str(wflw), "mode": "train", "experiment_name": "run"}
    write_yaml(tmp_path / "prior.yaml", {**prior, "train": {"epochs": 2, "batch_size": 3}})
    must_run(tmp_path, "train_shape_prior.py", "--conf", "prior.yaml")
    align = tmp_path / "tmp.monitor/shape_prior/run/Align.h5"
    measure, source = ("tools/encoder_nme.py", *DEMO_NETWORKS[:4], "--data-dir", wflw), ("--src-dir", data / "datasets")
    out = must_run(tmp_path, *measure, "--align", align, *source)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[-8:] if "[nnabla]" not in line}
    extras = read_annotations(list_path(data / "datasets", "test"), NUM_EXTRAS, "").extras
    assert int(rows["all"][0]) == 5 and all(0 < float(error) < 200 for error in rows["all"][1:])
    for column, name in enumerate(("pose", "expression", "illumination", "make-up", "occlusion", "blur")):
        assert int(rows[name][0]) == extras[:, 4 + column].sum()
    must_fail(tmp_path, 3, "no such annotation list; pass the folder", *measure, "--align", align)
    wrong = DEMO / "encoder/weights.h5"
    must_fail(
        tmp_path, 4, "not the weights of this network", *measure, "--align", wrong, "--src-dir", data / "datasets"
    )


def test_the_normalized_error_is_relative_to_the_outer_eye_corners():
    truth = np.random.default_rng(0).uniform(0, 256, (3, 98, 2))
    truth[:, 60], truth[:, 72] = (0, 0), (50, 0)
    assert normalized_error(truth + (3, 4), truth) == pytest.approx([0.1] * 3)
