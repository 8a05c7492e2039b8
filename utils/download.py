"""Fetch published files, for download_converted_weights.sh and download_pretrained_weight.sh."""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

import yaml

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.errors import ConfigError, ResourceError, WeightsError, run
from utils.files import atomic_path
from utils.weights import read_parameters

DEFAULT_URL = "https://nnabla.org/pretrained-models/nnabla-examples/GANs/reenactgan/"
URL_VARIABLE = "REENACTGAN_WEIGHTS_URL"
TIMEOUT_S = 60


def fetch(url: str, path: Path) -> None:
    """Download to a temporary name, check, then rename; a file that is there is kept.

    Raises:
        ResourceError: the source or the network fails, or the transfer is cut short.
        WeightsError: what came is not weights, or not YAML.
    """
    if path.exists():
        print(f"{path}: already there")
        return
    with atomic_path(path) as temporary:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, open(temporary, "wb") as file:
                shutil.copyfileobj(answer, file)
                expected = answer.headers.get("Content-Length")
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise ResourceError(f"{url}: cannot be fetched ({error}); try again, or set {URL_VARIABLE}") from None
        size = temporary.stat().st_size
        if expected is not None and size != int(expected):
            raise ResourceError(f"{url}: {size} of {expected} bytes came; try again")
        check(url, temporary)
    print(f"{path}: {size / 1e6:.1f} MB")


def check(url: str, path: Path) -> None:
    """What came must be weights, or the YAML of a run."""
    try:
        if path.suffix == ".h5":
            read_parameters(path)
        elif not isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict):
            raise ValueError("no 'key: value' lines")
    except (WeightsError, yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split()).replace(f"{path}: ", "")
        raise WeightsError(f"{url}: what came is not the file ({reason})") from None


def main() -> None:
    base = os.environ.get(URL_VARIABLE, DEFAULT_URL)
    if not base.startswith(("https://", "http://127.0.0.1:")):
        raise ConfigError(f"{URL_VARIABLE}={base}: must begin with https://")
    for pair in sys.argv[1:]:
        name, _, path = pair.partition("=")
        fetch(f"{base.rstrip('/')}/{name}", Path(path))


if __name__ == "__main__":
    run(main)
