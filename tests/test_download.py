"""The download scripts against a local server."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest
from conftest import ROOT, must_fail, must_run, serve

from utils.download import URL_VARIABLE

pytestmark = pytest.mark.slow


@pytest.fixture
def served(tmp_path):
    """A folder with the published names, and the address that serves it."""
    folder = tmp_path / "served"
    for module in ("encoder", "transformer", "decoder"):
        (folder / module).mkdir(parents=True)
        shutil.copy(ROOT / f"tests/data/training_info/{module}.yaml", folder / module / "training_info.yaml")
        with h5py.File(folder / module / "weights.h5", "w") as file:
            file["conv/W"] = np.ones(3, np.float32)
    for name in ("ReenactGAN_encoder_pretrained_weights", "Align_40000", "PCA_weights"):
        shutil.copy(folder / "encoder/weights.h5", folder / f"{name}.h5")
    with serve(folder) as address:
        yield folder, {URL_VARIABLE: address}


def test_files_land_where_the_descriptions_commands_look(served, tmp_path):
    _, source = served
    must_run(tmp_path, "download_converted_weights.sh", **source)
    must_run(tmp_path, "download_pretrained_weight.sh", **source)
    for name in ("ReenactGAN_encoder_pretrained_weights.h5", "Align_40000.h5", "PCA_weights.h5"):
        assert (tmp_path / name).exists()
    for folder in ("encoder", "transformer/Kathleen2Donald_Trump", "decoder/Donald_Trump"):
        files = sorted(path.name for path in (tmp_path / "pretrained_weights" / folder).iterdir())
        assert files == ["training_info.yaml", "weights.h5"]
    again = must_run(tmp_path, "download_converted_weights.sh", **source)
    assert again.count("already there") == 3


def test_what_is_not_the_file_is_not_kept(served, tmp_path):
    folder, source = served
    (folder / "Align_40000.h5").write_text("<html>moved</html>")
    must_fail(tmp_path, 4, "what came is not the file", "download_converted_weights.sh", **source)
    assert not (tmp_path / "Align_40000.h5").exists()
    (folder / "Align_40000.h5").unlink()
    must_fail(tmp_path, 6, "404", "download_converted_weights.sh", **source)
    unreachable = {URL_VARIABLE: "http://127.0.0.1:9/"}
    must_fail(tmp_path, 6, "cannot be fetched", "download_pretrained_weight.sh", **unreachable)
    must_fail(tmp_path, 2, "must begin with https", "download_pretrained_weight.sh", **{URL_VARIABLE: "ftp://x/"})
    assert not list(tmp_path.glob(".*")) and not list(tmp_path.glob("pretrained_weights/*/*.h5"))
