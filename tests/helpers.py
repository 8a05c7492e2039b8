"""Helpers that several test files share besides conftest.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from config import Config, load_config
from datasets.boundary import DrawingStyle
from make_synthetic import VIDEO_SIZE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BROWSER = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
COMMON = {"logdir": "runs", "experiment_name": "run", "monitor": {"interval": 2, "save_interval": 1}}
GAZE = DrawingStyle(name="gaze")  # as make_synthetic.py's people ask for
MODULES = ("encoder", "transformer", "decoder", "shape_prior")


class Numbers:
    """Sample i is the number i."""

    def __init__(self, count: int):
        self.count, self.reads = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        return (np.array([index], np.float32),)


def numbers_of(batch) -> list[int]:
    return batch[0].ravel().astype(int).tolist()


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def noise() -> list[np.ndarray]:
    """Frames that do not become small."""
    return list(np.random.default_rng(0).integers(0, 255, (12, *VIDEO_SIZE[::-1], 3)).astype(np.uint8))


def load(tmp_path: Path, text: str, module: str = "decoder") -> Config:
    """Load a configuration of some text."""
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    return load_config(module, tmp_path / "own.yaml")
