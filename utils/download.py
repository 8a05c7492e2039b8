"""Fetch published files for download_converted_weights.sh and download_pretrained_weight.sh.

A file goes to a temporary name, where a transfer that broke off goes on, is checked, and then renamed. Its SHA-256 is
noted in the list SHA256SUMS next to it; what is fetched later under that name, and every load, must equal it.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.ending import call_main
from utils.errors import ConfigError, ResourceError, WeightsError, one_line
from utils.files import NotRegular, file_digest, install, locked, open_file, read_yaml, write_text
from utils.weights import SUMS_FILE, read_manifest, read_parameters, read_sums, set_sum

DEFAULT_URL = "https://nnabla.org/pretrained-models/nnabla-examples/GANs/reenactgan/"
URL_VARIABLE = "REENACTGAN_WEIGHTS_URL"
THIS_MACHINE = "http://127.0.0.1:"  # besides https, for tests and tunnels
TIMEOUT_S = 60
ATTEMPTS = 3
BLOCK = 1 << 20
MAX_BYTES = 4 << 30  # per file
MAX_NAME = 500  # letters of what a server calls a file's version


class File(NamedTuple):
    """Name a published file and where it goes."""

    remote: str
    path: str
    manifest: str | None = None  # the weights' table; None is a training_info.yaml


def _trained_files(module: str, folder: str, manifest: str) -> tuple[File, File]:
    return (
        File(f"{module}/weights.h5", f"pretrained_weights/{folder}/weights.h5", manifest),
        File(f"{module}/training_info.yaml", f"pretrained_weights/{folder}/training_info.yaml"),
    )


SETS = {
    "converted": (
        File("ReenactGAN_encoder_pretrained_weights.h5", "ReenactGAN_encoder_pretrained_weights.h5", "encoder"),
        File("Align_40000.h5", "Align_40000.h5", "align"),
        File("PCA_weights.h5", "PCA_weights.h5", "pca"),
    ),
    "pretrained": (
        *_trained_files("encoder", "encoder", "encoder"),
        *_trained_files("transformer", "transformer/Kathleen2Donald_Trump", "transformer_generator_batch_norm"),
        *_trained_files("decoder", "decoder/Donald_Trump", "decoder_generator"),
    ),
}


class _BrokenOff(Exception):
    """Say that a transfer ended before its end; where what came is of no use, it begins anew."""

    def __init__(self, message: str, start_anew: bool = False):
        super().__init__(message)
        self.start_anew = start_anew


def is_allowed(url: str) -> bool:
    """Tell whether anything may be fetched from an address."""
    try:
        parts = urllib.parse.urlsplit(url)
        has_place = bool(parts.hostname) and parts.port != 0  # a port that is none raises
    except ValueError:
        return False
    return has_place and url.startswith(("https://", THIS_MACHINE)) and url.isprintable() and " " not in url


class _OnlyAllowed(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):  # noqa: ANN001, ANN201, the library's signature
        if not is_allowed(newurl):
            raise urllib.error.URLError(f"leads on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_opener = urllib.request.build_opener(_OnlyAllowed)


def fetch(url: str, path: Path, manifest: str | None) -> None:
    """Fetch a file to `path` and check it; one that is there already is kept.

    Raises:
        ResourceError: the source or the network fails, or another process is fetching.
        WeightsError: what came, or what is there, is not the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        known = read_sums(path.parent).get(path.name)
        if path.exists():
            digest = file_digest(path)
            if known not in (None, digest):
                raise WeightsError(f"{path}: changed since it was downloaded (SHA-256); remove it to fetch it again")
            check(str(path), path, manifest)
            set_sum(path, digest)
            print(f"{path}: already there")
            return
        part = path.with_name(f".part.{path.name}")  # keeps its ending
        transfer(url, part)
        try:
            check(url, part, manifest)
            digest = file_digest(part)
            if known not in (None, digest):
                raise WeightsError(
                    f"{url}: differs from the first download (SHA-256); if its publisher has replaced it, "
                    f"remove its line from {path.parent / SUMS_FILE}"
                )
        except WeightsError:
            part.unlink()
            raise
        size = part.stat().st_size
        install(part, path)
        set_sum(path, digest)
        print(f"{path}: {size / 1e6:.1f} MB")


def transfer(url: str, part: Path) -> None:
    """Fetch all of a file; goes on where an earlier attempt broke off, if the server still has the same file.

    Raises:
        ResourceError: the server does not have it, cannot be reached, or breaks off again and again.
    """
    version = part.with_suffix(".version")  # the server's name for what is being fetched, an ETag or a date
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer_once(url, part, version)
            break
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # there is no more to come, of what may be another file
                part.unlink(missing_ok=True)
            if error.code != 416 or attempt == ATTEMPTS:
                raise ResourceError(
                    f"{url}: the server answers {error.code} ({one_line(error.reason, 80)}); is the address right? "
                    f"{URL_VARIABLE} names a mirror"
                ) from None
        except _BrokenOff as error:
            if error.start_anew:
                part.unlink(missing_ok=True)
            if attempt == ATTEMPTS:
                raise ResourceError(f"{url}: {error}; run it again to go on") from None
        # ValueError: an address, of ours or of a redirection, whose parts are wrong
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ResourceError(
                f"{url}: cannot be fetched ({one_line(reason, 120)}); are you online? {URL_VARIABLE} names a mirror"
            ) from None
    version.unlink(missing_ok=True)


def _transfer_once(url: str, part: Path, version: Path) -> None:
    start = part.stat().st_size if part.exists() and version.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version.read_text(encoding="utf-8")}
    with _opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as response:
        if response.status != 206:
            start = 0
        if response.status == 206 and _range_start(response.headers.get("Content-Range")) != start:
            raise _BrokenOff("the server goes on at another place than it was asked to", start_anew=True)
        length = _whole_number(response.headers.get("Content-Length"))
        total = None if length is None else start + length
        free = shutil.disk_usage(part.parent).free
        if (total or 0) > min(MAX_BYTES, start + free):
            raise ResourceError(f"{url}: {total} bytes are announced, where {min(MAX_BYTES, free)} can be taken")
        name = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if not name.isprintable() or not name.isascii() or len(name) > MAX_NAME or name.startswith(("W/", " ")):
            name = ""
        if name:
            write_text(version, name)
        else:  # nothing that says for sure whether it is the same file later
            version.unlink(missing_ok=True)
        with open(part, "ab" if start else "wb") as file:
            try:
                while block := response.read(BLOCK):
                    file.write(block)
                    if file.tell() > MAX_BYTES:
                        raise ResourceError(f"{url}: more than {MAX_BYTES} bytes come; is the address right?")
            except (http.client.HTTPException, ConnectionError, TimeoutError):
                pass  # the size tells
            else:
                total = file.tell() if total is None else total
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())
    if size != total:
        raise _BrokenOff(f"the transfer broke off ({size} of {total or 'an unknown number of'} bytes came)")


def _whole_number(text: str | None) -> int | None:
    """Read a number of an answer; None of what is none."""
    return int(text) if text is not None and re.fullmatch("[0-9]{1,15}", text.strip()) else None


def _range_start(text: str | None) -> int | None:
    match = re.match("bytes ([0-9]{1,15})-", text or "")
    return int(match.group(1)) if match else None


def check(where: str, path: Path, manifest: str | None) -> None:
    """Raise unless a file is the weights of a network, or the YAML of a training.

    Raises:
        WeightsError: it is neither.
    """
    try:
        with open_file(path) as file:
            if file.read(256).lstrip().lower().startswith((b"<!doctype", b"<html")):
                raise ValueError("it is a web page")
        if manifest is not None:
            read_parameters(path, read_manifest(manifest))
        elif not isinstance(read_yaml(path), dict):
            raise ValueError("no 'key: value' lines")
    except (WeightsError, ValueError, NotRegular) as error:
        reason = " ".join(str(error).split()).replace(f"{path}: ", "")
        raise WeightsError(f"{where}: what came is not the file ({reason})") from None


def main() -> None:
    base = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    if not is_allowed(base):
        raise ConfigError(f"{URL_VARIABLE}={base}: must be an address that begins with https://")
    if sys.argv[1:] not in [[name] for name in SETS]:
        raise ConfigError(f"usage: python utils/download.py {'|'.join(SETS)}")
    for file in SETS[sys.argv[1]]:
        fetch(f"{base.rstrip('/')}/{file.remote}", Path(file.path), file.manifest)


if __name__ == "__main__":
    call_main(main)
