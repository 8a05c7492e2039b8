"""The download scripts against a local server that misbehaves in every way we could think of."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import ROOT, must_fail, must_run, serve

from utils import download
from utils.download import SETS, URL_VARIABLE, fetch
from utils.errors import ResourceError, WeightsError
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
        files = sorted(path.name for path in (tmp_path / "pretrained_weights" / folder).iterdir())
        assert files == [SUMS_FILE, "training_info.yaml", "weights.h5"]
    again = must_run(tmp_path, "download_converted_weights.sh", **source)
    assert again.count("already there") == 3
    (tmp_path / "Align_40000.h5").write_bytes(b"changed")
    must_fail(tmp_path, 4, "changed since it was downloaded", "download_converted_weights.sh", **source)


@pytest.mark.slow
def test_errors_of_the_scripts(published, tmp_path):
    folder, source = published
    (folder / "Align_40000.h5").write_text("<!DOCTYPE html><html>moved</html>")
    must_fail(tmp_path, 4, "it is a web page", "download_converted_weights.sh", **source)
    (folder / "Align_40000.h5").unlink()
    must_fail(tmp_path, 6, "404", "download_converted_weights.sh", **source)
    must_fail(tmp_path, 6, "are you online?", "download_pretrained_weight.sh", **{URL_VARIABLE: "http://127.0.0.1:9/"})
    for address in ("ftp://x/", "http://example.org/"):
        must_fail(tmp_path, 2, "begins with https", "download_pretrained_weight.sh", **{URL_VARIABLE: address})
    assert not list(tmp_path.glob(".*")) and not list(tmp_path.glob("pretrained_weights/*/*.h5"))


# headers of answers that no server should give, and what becomes of them
ANSWERS = {
    "length of letters": {"Content-Length": "abc"},
    "negative length": {"Content-Length": "-5"},
    "length of other digits": {"Content-Length": "\u0661\u0662".encode().decode("latin-1")},
    "endless length": {"Content-Length": "9" * 5000},
    "no length": {},
    "version of other letters": {"ETag": '"\u00e4\u00f6"'},
    "long version": {"ETag": '"' + "x" * 5000 + '"'},
    "version that is split": {"ETag": "a\r\n b"},
    "empty version": {"ETag": ""},
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        behaviour = self.server.behaviours.pop(0) if self.server.behaviours else "well"
        content, version = self.server.content, self.server.version
        start = 0
        if behaviour == "range is wrong":
            self.send_error(416)
            return
        if behaviour == "redirect":
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/weights.h5")
            self.end_headers()
            return
        wanted = self.headers.get("Range")
        if wanted and behaviour != "ignores ranges" and self.headers.get("If-Range") == version:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if behaviour in ANSWERS:
            self.send_response(200)
            for name, value in ANSWERS[behaviour].items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2 if behaviour == "too little" else None])
            return
        self.send_response(206 if start else 200)
        if behaviour != "no version":
            self.send_header("ETag", version)
        if start and behaviour == "another range":
            self.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
        elif start and behaviour != "no range":
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = (start + len(content)) // 2 if behaviour in ("breaks off", "no version") else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    write_arrays(tmp_path / "good.h5", {"affine/W": np.eye(212), "affine/b": np.ones(212)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.version = (tmp_path / "good.h5").read_bytes(), '"one"'
    server.behaviours, server.ranges = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/PCA_weights.h5"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "here" / "PCA_weights.h5"


def test_a_transfer_that_breaks_off_goes_on(server, target):
    server.behaviours = ["breaks off", "breaks off"]
    fetch(server.url, target, "pca")
    half = len(server.content) // 2
    assert server.ranges == [None, f"bytes={half}-", f"bytes={(half + len(server.content)) // 2}-"]
    assert target.read_bytes() == server.content
    digest = hashlib.sha256(server.content).hexdigest()
    assert (target.parent / SUMS_FILE).read_text() == f"{digest}  PCA_weights.h5\n"
    assert sorted(path.name for path in target.parent.iterdir()) == ["PCA_weights.h5", SUMS_FILE]


def test_it_goes_on_in_another_run_too(server, target):
    server.behaviours = ["breaks off"] * 3
    with pytest.raises(ResourceError, match="broke off .* run it again"):
        fetch(server.url, target, "pca")
    assert not target.exists()
    fetch(server.url, target, "pca")
    assert server.ranges[-1].startswith("bytes=") and target.read_bytes() == server.content


@pytest.mark.parametrize("behaviour", ANSWERS)
def test_answers_that_no_server_should_give(server, target, behaviour):
    server.behaviours = [behaviour]
    fetch(server.url, target, "pca")
    assert target.read_bytes() == server.content
    assert sorted(path.name for path in target.parent.iterdir()) == ["PCA_weights.h5", SUMS_FILE]


@pytest.mark.parametrize("length", ["900000000000000", "99999999999"])
def test_more_than_can_be_taken_is_refused_before_it_comes(server, target, monkeypatch, length):
    monkeypatch.setitem(ANSWERS, "much", {"Content-Length": length})
    server.behaviours = ["much"]
    with pytest.raises(ResourceError, match="are announced"):
        fetch(server.url, target, "pca")
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    server.behaviours = ["no length"]
    with pytest.raises(ResourceError, match="more than 1000 bytes come"):
        fetch(server.url, target, "pca")


@pytest.mark.parametrize(
    "address, is_good",
    [
        ("https://example.org/x", True), ("https://example.org:8443/x", True), ("http://127.0.0.1:80/x", True),
        ("https://", False), ("https:///x", False), ("https://example.org:abc/x", False), ("https://[::1/x", False),
        ("https://example.org:0/x", False), ("https://example.org:99999/x", False), ("https://a b/x", False),
        ("https://example.org/x\r\nHost: y", False), ("http://127.0.0.1:abc/x", False), ("http://127.0.0.1:/x", True),
        ("http://127.0.0.1.evil.example/x", False), ("ftp://example.org/x", False), ("", False), ("https://\0/", False),
    ],
)  # fmt: skip
def test_addresses(address, is_good):
    assert download.is_allowed(address) == is_good


WRONG = (
    "http://127.0.0.1:abc/",
    "https://[bad/",
    "https://",
    "http://127.0.0.1:99999/x",
    "\u00e4:",
    "https://\u20ac" * 9,
)


@pytest.mark.parametrize("place", WRONG)
def test_redirections_to_nowhere(server, target, monkeypatch, place):
    def redirect(self):
        self.send_response(302)
        self.send_header("Location", place.encode().decode("latin-1"))
        self.end_headers()

    monkeypatch.setattr(Handler, "do_GET", redirect)
    with pytest.raises(ResourceError, match="PCA_weights.h5: "):
        fetch(server.url, target, "pca")
    assert not list(target.parent.glob("*.h5"))


@pytest.mark.parametrize("address", ["https://", "https://x:abc/", "https://[/", "http://127.0.0.1:abc", "https://a b"])
def test_an_address_that_is_none(tmp_path, address):
    must_fail(tmp_path, 2, "must be an address", "download_converted_weights.sh", **{URL_VARIABLE: address})


@pytest.mark.parametrize("behaviour", ["ignores ranges", "range is wrong", "another range", "no range"])
def test_a_server_without_ranges(server, target, behaviour):
    server.behaviours = ["breaks off", behaviour]
    fetch(server.url, target, "pca")
    assert target.read_bytes() == server.content


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, target, tmp_path):
    server.behaviours = ["breaks off"] * 3
    with pytest.raises(ResourceError):
        fetch(server.url, target, "pca")
    write_arrays(tmp_path / "other.h5", {"affine/W": np.zeros((212, 212)), "affine/b": np.ones(212)})
    server.content, server.version = (tmp_path / "other.h5").read_bytes(), '"two"'
    fetch(server.url, target, "pca")
    assert target.read_bytes() == server.content


def test_without_a_version_nothing_is_pieced_together(server, target):
    server.behaviours = ["no version", "no version", "well"]
    fetch(server.url, target, "pca")
    assert server.ranges == [None, None, None] and target.read_bytes() == server.content


def nan_weights(path):
    write_arrays(path, {"affine/W": np.full((212, 212), np.nan), "affine/b": np.ones(212)})


def other_weights(path):
    write_arrays(path, {"affine/W": np.ones((3, 3)), "affine/b": np.ones(3)})


def cut_weights(path):
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    "damage, words",
    [(nan_weights, "not finite"), (other_weights, "not the weights of this network"), (cut_weights, "not a complete")],
)
def test_what_is_not_the_file_is_not_kept(server, target, tmp_path, damage, words):
    damage(tmp_path / "good.h5")
    server.content = (tmp_path / "good.h5").read_bytes()
    with pytest.raises(WeightsError, match=words):
        fetch(server.url, target, "pca")
    assert not list(target.parent.iterdir())


def test_text_that_is_no_training_info(server, tmp_path):
    for content in (b"just words", b"a: [1", b"\xff\xfe"):
        server.content = content
        with pytest.raises(WeightsError, match="what came is not the file"):
            fetch(server.url, tmp_path / "here" / "training_info.yaml", None)
    assert not list((tmp_path / "here").iterdir())


def test_only_the_bytes_of_the_first_download_are_taken(server, target, tmp_path):
    fetch(server.url, target, "pca")
    target.unlink()
    write_arrays(tmp_path / "other.h5", {"affine/W": np.zeros((212, 212)), "affine/b": np.ones(212)})
    server.content = (tmp_path / "other.h5").read_bytes()
    with pytest.raises(WeightsError, match="differs from the first download"):
        fetch(server.url, target, "pca")
    assert [path.name for path in target.parent.iterdir()] == [SUMS_FILE]


def test_a_file_from_elsewhere_is_checked_and_noted(server, target, tmp_path):
    target.parent.mkdir()
    target.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="not a complete HDF5 file"):
        fetch(server.url, target, "pca")
    shutil.copy(tmp_path / "good.h5", target)
    fetch(server.url, target, "pca")
    assert server.ranges == [] and target.name in (target.parent / SUMS_FILE).read_text()


def test_a_redirect_away_from_https_is_refused(server, target):
    server.behaviours = ["redirect"]
    with pytest.raises(ResourceError, match="example.invalid/weights.h5, which is not https"):
        fetch(server.url, target, "pca")


def test_a_server_that_stays_silent(server, target, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    silent = threading.Event()
    monkeypatch.setattr(Handler, "do_GET", lambda self: silent.wait(5))
    with pytest.raises(ResourceError, match="timed out"):
        fetch(server.url, target, "pca")
    silent.set()
