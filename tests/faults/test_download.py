"""The download scripts against a local server."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import ROOT, must_fail, must_run, serve

from utils.download import SETS, URL_VARIABLE, fetch, is_allowed
from utils.errors import ResourceError, WeightsError
from utils.files import LOCK_FILE
from utils.weights import SUMS_FILE, read_manifest, write_arrays


def write_sparse_weights(path: Path, network: str) -> None:
    """Zeros of a network's shapes, which need no room in a file."""
    with h5py.File(path, "w") as file:
        for name, shape in read_manifest(network).items():
            file.create_dataset(name, shape, np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with the published names."""
    folder = tmp_path_factory.mktemp("published")
    for file in (*SETS["converted"], *SETS["pretrained"]):
        path = folder / file.remote
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.manifest:
            write_sparse_weights(path, file.manifest)
        else:
            shutil.copy(ROOT / f"tests/data/training_info/{path.parent.name}.yaml", path)
    return folder


@pytest.fixture
def published(made, tmp_path):
    """A folder with the published names, and the address that serves it."""
    shutil.copytree(made, tmp_path / "served")
    with serve(tmp_path / "served") as address:
        yield tmp_path / "served", {URL_VARIABLE: address}


@pytest.mark.slow
def test_files_land_where_the_descriptions_commands_look(published, tmp_path):
    _, source = published
    must_run(tmp_path, "download_converted_weights.sh", **source)
    must_run(tmp_path, "download_pretrained_weight.sh", **source)
    for name in ("ReenactGAN_encoder_pretrained_weights.h5", "Align_40000.h5", "PCA_weights.h5"):
        assert (tmp_path / name).exists()
    for folder in ("encoder", "transformer/Kathleen2Donald_Trump", "decoder/Donald_Trump"):
        files = sorted(path.name for path in (tmp_path / "pretrained_weights" / folder).glob("[!.]*"))
        assert files == [SUMS_FILE, "training_info.yaml", "weights.h5"]
    output = must_run(tmp_path, "download_converted_weights.sh", **source)
    assert output.count("already there") == 3


@pytest.mark.slow
def test_errors_of_the_scripts(published, tmp_path):
    folder, source = published
    must_fail(tmp_path, 2, "usage: python utils/download.py", "utils/download.py", "everything", **source)
    must_fail(tmp_path, 2, "must begin with https", "download_converted_weights.sh", **{URL_VARIABLE: "http://a.b/"})
    (folder / "Align_40000.h5").unlink()
    must_fail(tmp_path, 6, "Align_40000.h5: download failed (404", "download_converted_weights.sh", **source)


@pytest.fixture
def remote(published):
    folder, source = published
    return folder / "Align_40000.h5", source[URL_VARIABLE] + "Align_40000.h5"


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda data: b"<!DOCTYPE html><html>sign in</html>", "it is a web page"),
        (lambda data: data[: len(data) // 2], "not a complete HDF5 file"),
        (lambda data: b"", "not a complete HDF5 file"),
    ],
)
def test_what_is_not_the_file_is_not_kept(remote, tmp_path, damage, words):
    path, url = remote
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match=words):
        fetch(url, tmp_path / "a/Align.h5", "align")
    assert not [file for file in (tmp_path / "a").iterdir() if file.name != LOCK_FILE]


def test_text_that_is_no_training_info(published, tmp_path):
    folder, source = published
    (folder / "encoder/training_info.yaml").write_text("just words")
    with pytest.raises(WeightsError, match="no 'key: value' lines"):
        fetch(source[URL_VARIABLE] + "encoder/training_info.yaml", tmp_path / "a/training_info.yaml", None)


def test_only_the_content_of_the_first_download_is_accepted(remote, tmp_path):
    path, url = remote
    target = tmp_path / "a/Align.h5"
    fetch(url, target, "align")
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    assert (target.parent / SUMS_FILE).read_text() == f"{digest}  Align.h5\n"
    target.unlink()
    write_arrays(path, {name: np.ones(shape, np.float32) for name, shape in read_manifest("align").items()})
    with pytest.raises(WeightsError, match="differs from the first download"):
        fetch(url, target, "align")
    assert not target.exists()


def test_an_existing_file_is_checked_and_recorded(remote, tmp_path):
    path, url = remote
    target = tmp_path / "a/Align.h5"
    target.parent.mkdir()
    shutil.copy(path, target)
    path.unlink()  # nothing is downloaded
    fetch(url, target, "align")
    assert target.name in (target.parent / SUMS_FILE).read_text()
    target.write_bytes(target.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="differs from the first download"):
        fetch(url, target, "align")
    assert target.exists()


def test_a_server_that_cannot_be_reached(tmp_path):
    with pytest.raises(ResourceError, match="download failed"):
        fetch("http://127.0.0.1:9/Align.h5", tmp_path / "a/Align.h5", "align")


@pytest.mark.parametrize(
    "address, is_good",
    [
        ("https://a.b/c/", True),
        ("http://127.0.0.1:8000/", True),
        ("http://a.b/", False),
        ("http://127.0.0.1.evil.org/", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("https://a b/", False),
        ("https://a:0/", False),
    ],
)
def test_addresses(address, is_good):
    assert is_allowed(address) == is_good
