"""Outputs: checked before the work, and there only when they are whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import DEMO, DEMO_NETWORKS, must_fail, must_run
from PIL import Image

from datasets.annotations import format_line, read_annotations
from datasets.images import write_image
from utils.errors import ConfigError, ResourceError
from utils.files import check_outputs, new_result


def test_an_output_is_no_input_and_can_be_written(tmp_path):
    (tmp_path / "in.mp4").write_bytes(b"x")
    (tmp_path / "soft.mp4").symlink_to("in.mp4")
    (tmp_path / "folder").mkdir()
    for name in ("in.mp4", "soft.mp4", "folder/../in.mp4"):
        with pytest.raises(ConfigError, match="--video .*: is the input"):
            check_outputs({"--video": tmp_path / name}, [tmp_path / "in.mp4"])
    with pytest.raises(ConfigError, match="--out .*: is also the output of --video"):
        check_outputs({"--video": tmp_path / "a", "--out": tmp_path / "folder/../a"})
    with pytest.raises(ConfigError, match="is a folder"):
        check_outputs({"--video": tmp_path / "folder"})
    with pytest.raises(ConfigError, match="is not a folder"):
        check_outputs({"--out-dir": tmp_path / "in.mp4"})
    with pytest.raises(ConfigError, match="--video .*a.avi: must end in .mp4"):
        check_outputs({"--out-dir": tmp_path / "x", "--video": tmp_path / "a.avi"}, ending=".mp4")
    for path in (tmp_path / "in.mp4/x/a.mp4", Path("/proc/nowhere/a.mp4")):
        with pytest.raises(ResourceError, match="--video"):
            check_outputs({"--video": path})
    check_outputs({"--video": tmp_path / "new/deep/a.mp4", "--out-dir": tmp_path / "new", "--out": None})
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_outputs_are_checked_before_the_work(data, tmp_path):
    write_image(tmp_path / "in.png", np.zeros((300, 300, 3), np.uint8))
    (tmp_path / "v.mp4").symlink_to("in.png")
    (tmp_path / "g.mp4").mkdir()
    reenact = ("test_reenactment.py", *DEMO_NETWORKS, "--input", "in.png")
    before = (tmp_path / "in.png").read_bytes()
    must_fail(tmp_path, 2, "is the input in.png", *reenact, "--video", "v.mp4")
    must_fail(tmp_path, 2, "is a folder", *reenact, "--video", "g.mp4")
    must_fail(tmp_path, 6, "--out-dir /proc/x", *reenact, "--out-dir", "/proc/x")
    must_fail(tmp_path, 6, "--video /proc/x/a.mp4", *reenact, "--video", "/proc/x/a.mp4")
    prepare = ("preprocess.py", "--dataset", "CelebV", "--src-dir", data / "datasets")
    must_fail(tmp_path, 2, "is not a folder", *prepare, "--out-dir", "in.png")
    encoder = DEMO_NETWORKS[:1] + [tmp_path / "encoder.onnx"]
    (tmp_path / "encoder.onnx").write_bytes((DEMO / "encoder/training_info.yaml").read_bytes())
    must_fail(tmp_path, 2, "is the input", "tools/export.py", *encoder, "--out-dir", ".")
    (tmp_path / "a.pth").write_bytes(b"x")
    (tmp_path / "a.h5").symlink_to("a.pth")
    must_fail(tmp_path, 2, "TO a.h5: is the input a.pth", "tools/convert_authors_weights.py", "align", "a.pth", "a.h5")
    must_fail(
        tmp_path, 6, "--out-file", "tools/make_synthetic.py", "video", "--person", "A", "--out-file", "/proc/x/a.mp4"
    )
    assert (tmp_path / "in.png").read_bytes() == before and not (tmp_path / "reenactment_result").exists()


def test_results_get_their_name_when_they_are_whole(tmp_path):
    for expected in ("run", "run-2"):
        with new_result(tmp_path, "run") as folder:
            (folder.path / "a.txt").write_text("x")
            assert folder.path.name.startswith(".")
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
    line = must_fail(tmp_path, 2, "has another name", "prepare_person.py", "CelebV/Linked", "--name", "Rowan", *encoder)
    assert "Linked" in line
    (tmp_path / "here").symlink_to("CelebV")
    must_run(tmp_path, "prepare_person.py", "here/Linked/", "--name", "Linked", *encoder, "--out-dir", "out")
