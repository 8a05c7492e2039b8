"""Pages that open from disk: of a run, and of the check of a data set."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from helpers import BROWSER, PATIENCE_S, needs_browser

from config import load_config
from datasets.images import write_image
from training.run_page import write_run_page
from training.series import read_series
from utils.html import address, curve

PHONE, DESK = 400, 1200
DATA = {"B": {"count": 8, "what": "train_98pt.txt of Linnea", "digest": "0123456789abcdef" * 4}}
VERSIONS = {"code": "abc1234", "nnabla": "1.39.0"}
MEASURE = """<script>addEventListener('load', () => { document.body.dataset.measured = JSON.stringify({
  wide: document.documentElement.scrollWidth - innerWidth,
  broken: [...document.images].filter(i => i.loading != 'lazy' && !i.naturalWidth).length,
  images: document.images.length, curves: document.querySelectorAll('polyline').length,
  outside: performance.getEntriesByType('resource').filter(r => !/^(file|data):/.test(r.name)).length
}); });</script>"""


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """Leave the files of a decoder's run of ten epochs."""
    rng = np.random.default_rng(0)
    for name in ("L1_loss", "loss_gan", "validation/mse"):
        path = tmp_path / f"{name}.series.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{10 * k + 9} {1 / (k + 1) + 0.01 * rng.random():.9g}\n" for k in range(900)))
    (tmp_path / "time_training.timer.txt").write_text("9 5 10 5\n19 6 10 11\n")
    for epoch in range(1, 11):
        picture = rng.integers(0, 255, (64, 192, 3)).astype(np.uint8)
        write_image(tmp_path / f"result/{900 * epoch:06d}-000.png", picture)
    config = dataclasses.replace(load_config("decoder"), trg_celeb_name="<b>Linnea</b>")
    write_run_page(tmp_path, config, 9000, 10, DATA, VERSIONS)
    return tmp_path


def measured(page: Path, width: int) -> dict[str, int]:
    """Return what a browser finds in the page at a width."""
    copy = page.with_name(f"measured-{width}.html")
    copy.write_text(page.read_text().replace("</body>", f"{MEASURE}</body>"))
    command = [*BROWSER, f"--window-size={width},900", "--dump-dom"]
    result = subprocess.run([*command, copy.as_uri()], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    text = re.search(r'data-measured="([^"]*)"', result.stdout).group(1)
    return json.loads(text.replace("&quot;", '"'))


def test_the_page_of_a_run(run_folder):
    html = (run_folder / "index.html").read_text()
    for words in ("decoder", "10 of 150", "validation/mse", "0.55 s", "abc1234", "train_98pt.txt of Linnea"):
        assert words in html, words
    assert "&lt;b&gt;Linnea" in html and "<b>Linnea" not in html
    assert html.index("iteration 9000<") < html.index("iteration 8100<") < html.index("2 older")  # the newest first
    assert html.count("<img") == 10 and "http" not in html
    assert list(run_folder.glob(".index*")) == []


def test_images_of_an_encoders_run(tmp_path):
    name = "result_epoch-3/000000-000.png"
    write_image(tmp_path / name, np.zeros((8, 24, 3), np.uint8))
    write_run_page(tmp_path, load_config("encoder"), 30, 3, DATA, VERSIONS)
    assert f'src="{name}"' in (tmp_path / "index.html").read_text()


def test_a_run_without_anything_yet(tmp_path):
    write_run_page(tmp_path, load_config("encoder"), 0, 1, DATA, VERSIONS)
    assert "none" in (tmp_path / "index.html").read_text()


NAMES = (
    "clip #1 50%?.mp4", "a:b.mp4", "it's \"me\" <b>.mp4", "a&b;.mp4", "\u00e4 \u20ac.mp4", "%41.mp4", "x/y z/c.mp4",
    " .mp4", "\udcff.mp4", "a\nb.mp4", "javascript:alert(1).mp4",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_its_file(tmp_path, name):
    path = tmp_path / "here" / name
    written = address(path, tmp_path / "here")
    parts = urllib.parse.urlsplit(written)
    assert not (parts.scheme or parts.netloc or parts.query or parts.fragment)
    assert os.path.normpath(tmp_path / "here" / os.fsdecode(urllib.parse.unquote_to_bytes(parts.path))) == str(path)
    assert not set('"<>') & set(address(path, tmp_path / "here"))
    assert address(path, tmp_path / "here" / "deeper").startswith("../")


def test_curves_show_what_is_there():
    chart = curve("loss", [(k, float(k)) for k in range(5000)] + [(5000, float("nan"))])
    points = [tuple(map(float, pair.split(","))) for pair in chart.points.split()]
    assert len(points) <= 401
    assert points[0] == (0, 120) and points[-1] == (320, 0)
    assert "0 to 4999" in chart.range
    assert curve("loss", []) is None and curve("loss", [(3, 7.0)]).points == "0.0,120.0"


def test_series_are_read_as_they_are_written(run_folder):
    series = read_series(run_folder)
    assert set(series) == {"L1_loss", "loss_gan", "validation/mse", "time_training"}
    assert series["time_training"] == [(9, 0.5), (19, 0.6)]


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_pages_in_a_browser(run_folder, width):
    found = measured(run_folder / "index.html", width)
    assert found["wide"] <= 0 and found["broken"] == 0 and found["outside"] == 0
    assert found["images"] == 10 and found["curves"] == 4
