"""Download of published weights for download_converted_weights.sh and download_pretrained_weight.sh, with pooch.

The SHA-256 digest of each file is recorded in SHA256SUMS beside it. Later downloads of that file, and every load, must
match it.
"""

from __future__ import annotations

import os
import sys
import urllib.parse
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.ending import call_main

import pooch
import requests

from utils.errors import ConfigError, ResourceError, WeightsError, one_line
from utils.files import file_digest, locked, open_file, read_yaml
from utils.weights import SUMS_FILE, read_manifest, read_parameters, read_sums, set_sum

DEFAULT_URL = "https://nnabla.org/pretrained-models/nnabla-examples/GANs/reenactgan/"
URL_VARIABLE = "REENACTGAN_WEIGHTS_URL"
LOCAL = "http://127.0.0.1:"  # allowed besides https, for tests and tunnels
TIMEOUT_S = 60
RETRIES = 2


class File(NamedTuple):
    """A published file."""

    remote: str
    path: Path
    manifest: str | None = None  # table of the network's parameters; None for a training_info.yaml


def _run_files(module: str, folder: str, manifest: str) -> list[File]:
    parent = Path("pretrained_weights") / folder
    info = File(f"{module}/training_info.yaml", parent / "training_info.yaml")
    return [File(f"{module}/weights.h5", parent / "weights.h5", manifest), info]


SETS = {
    "converted": [
        File(name, Path(name), manifest)
        for name, manifest in (
            ("ReenactGAN_encoder_pretrained_weights.h5", "encoder"),
            ("Align_40000.h5", "align"),
            ("PCA_weights.h5", "pca"),
        )
    ],
    "pretrained": [
        *_run_files("encoder", "encoder", "encoder"),
        *_run_files("transformer", "transformer/Kathleen2Donald_Trump", "transformer_generator_batch_norm"),
        *_run_files("decoder", "decoder/Donald_Trump", "decoder_generator"),
    ],
}


def is_allowed(url: str) -> bool:
    """Return whether a URL is https, or http to this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return has_host and url.startswith(("https://", LOCAL)) and url.isprintable() and " " not in url


def fetch(url: str, path: Path, manifest: str | None) -> None:
    """Download a file to `path`, or keep an existing one, and check it.

    Raises ResourceError if server, network or lock fail, WeightsError if the content is wrong or has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        known = read_sums(path.parent).get(path.name)
        is_new = not path.exists()
        if is_new:
            _download(url, path)
        digest = file_digest(path)
        try:
            if known not in (None, digest):
                advice = f"if the publisher has replaced it, remove its line from {path.parent / SUMS_FILE}"
                raise WeightsError(f"{path}: differs from the first download of {url} (SHA-256); {advice}")
            _check(path, manifest, url)
        except WeightsError:
            if is_new:
                path.unlink()
            raise
        set_sum(path, digest)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB" if is_new else f"{path}: already there")


def _download(url: str, path: Path) -> None:
    downloads = pooch.create(
        path.parent, "", registry={path.name: None}, urls={path.name: url}, retry_if_failed=RETRIES
    )
    pooch.get_logger().setLevel("ERROR")
    try:
        downloads.fetch(path.name, downloader=pooch.HTTPDownloader(timeout=TIMEOUT_S))
    except (requests.RequestException, ValueError) as error:
        reason = one_line(error, 200)
        raise ResourceError(f"{url}: download failed ({reason}); {URL_VARIABLE} can name a mirror") from None


def _check(path: Path, manifest: str | None, url: str) -> None:
    """Check that a file contains a network's weights, or the YAML of a training. Raises WeightsError if not."""
    try:
        with open_file(path) as file:
            if file.read(256).lstrip().lower().startswith((b"<!doctype", b"<html")):
                raise ValueError("it is a web page")
        if manifest is not None:
            read_parameters(path, read_manifest(manifest))
        elif not isinstance(read_yaml(path), dict):
            raise ValueError("no 'key: value' lines")
    except (WeightsError, ValueError, OSError) as error:
        reason = " ".join(str(error).split()).replace(f"{path}: ", "")
        raise WeightsError(f"{path}: not the expected file ({reason}); it came from {url}") from None


def main() -> None:
    base = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    if not is_allowed(base):
        raise ConfigError(f"{URL_VARIABLE}={base}: must begin with https://")
    if sys.argv[1:] not in [[name] for name in SETS]:
        raise ConfigError(f"usage: python utils/download.py {'|'.join(SETS)}")
    for file in SETS[sys.argv[1]]:
        fetch(f"{base.rstrip('/')}/{file.remote}", file.path, file.manifest)


if __name__ == "__main__":
    call_main(main)
