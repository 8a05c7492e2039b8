"""Expressions of synthetic people: what a face does in each frame."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.errors import DataError, is_of_system
from utils.files import atomic_path, open_file

EXPRESSION_FILE = "expressions.npz"  # in a person's folder


class Expression(NamedTuple):
    """Expression and pose in one frame. Angles in radians, shifts in pixels, the rest in about [-1, 1]."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    mouth_open: float = 0.0  # 0 closed, 1 wide open
    smile: float = 0.0  # -0.5 sad, 1 broad smile
    brow_raise: float = 0.0  # -0.7 frown, 1 raised
    blink: float = 0.0  # 0 open, 1 closed
    gaze_x: float = 0.0
    gaze_y: float = 0.0


class Habit(NamedTuple):
    """Mean of a person's expressions; yaw in degrees."""

    yaw: float = 0.0
    mouth_open: float = 0.25
    smile: float = 0.25
    brow_raise: float = 0.1


def _smooth_noise(rng: np.random.Generator, length: int, sigma_frames: float) -> np.ndarray:
    """Draw Gaussian noise of unit variance, smoothed over about `sigma_frames` frames."""
    offsets = np.arange(-int(4 * sigma_frames), int(4 * sigma_frames) + 1)
    window = np.exp(-(offsets**2) / (2 * sigma_frames**2))
    window /= np.sqrt((window**2).sum())
    return np.convolve(rng.standard_normal(length + len(window) - 1), window, "valid")


def _blinks(rng: np.random.Generator, length: int) -> np.ndarray:
    """Draw a blink every one or two seconds."""
    lids = np.zeros(length)
    frame = int(rng.integers(4, 30))
    while frame < length:
        for offset, closed in zip(range(-2, 4), (0.3, 0.8, 1.0, 1.0, 0.6, 0.25)):
            if 0 <= frame + offset < length:
                lids[frame + offset] = max(lids[frame + offset], closed)
        frame += int(rng.integers(16, 45))
    return lids


def expression_track(length: int, seed: int, habit: Habit = Habit()) -> np.ndarray:
    """Draw the expressions of a talking, turning head at 25 fps, (length, 12) float32 with an `Expression` per row."""
    rng = np.random.default_rng([seed, 1])

    def noise(sigma_frames: float, amplitude: float, low: float, high: float, mean: float = 0.0) -> np.ndarray:
        return np.clip(mean + amplitude * _smooth_noise(rng, length, sigma_frames), low, high)

    track = Expression(
        yaw=np.deg2rad(noise(12, 12, -28, 28, mean=habit.yaw)),
        pitch=np.deg2rad(noise(12, 5, -12, 12)),
        roll=np.deg2rad(noise(14, 5, -12, 12)),
        scale=noise(25, 0.03, 0.93, 1.07, mean=1.0),
        shift_x=noise(16, 3.5, -9, 9),
        shift_y=noise(16, 2.5, -7, 7),
        mouth_open=noise(5, 0.45, 0, 1, mean=habit.mouth_open),
        smile=noise(10, 0.5, -0.5, 1, mean=habit.smile),
        brow_raise=noise(9, 0.5, -0.7, 1, mean=habit.brow_raise),
        blink=np.maximum(_blinks(rng, length), noise(8, 0.2, 0, 0.35)),
        gaze_x=noise(14, 0.4, -0.85, 0.85),
        gaze_y=noise(14, 0.5, -1, 1),
    )
    return np.stack(track, axis=1).astype(np.float32)


def save_expressions(folder: Path, track: np.ndarray, identity_seed: int) -> None:
    """Write the expressions (N, 12) of all frames of a person, and the seed of its identity."""
    with atomic_path(folder / EXPRESSION_FILE) as temporary:
        np.savez(temporary, expressions=track, columns=Expression._fields, identity_seed=identity_seed)


def read_expressions(folder: Path) -> tuple[list[Expression], int]:
    """Read expressions and the seed of the identity. Raises DataError if they are missing or damaged."""
    path = folder / EXPRESSION_FILE
    try:
        with open_file(path) as opened, np.load(opened, allow_pickle=False) as file:
            return [Expression(*map(float, row)) for row in file["expressions"]], int(file["identity_seed"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        if is_of_system(error):
            raise
        raise DataError(
            f"{path}: no expressions; create them with 'tools/make_synthetic.py celebv --expressions'"
        ) from None


def random_expression(rng: np.random.Generator) -> Expression:
    """Draw an expression with a wider range of poses than in a track."""
    return Expression(
        yaw=np.deg2rad(rng.uniform(-32, 32)),
        pitch=np.deg2rad(rng.uniform(-13, 13)),
        roll=np.deg2rad(np.clip(rng.normal(0, 9), -25, 25)),
        scale=rng.uniform(0.9, 1.1),
        shift_x=rng.uniform(-8, 8),
        shift_y=rng.uniform(-6, 6),
        mouth_open=max(rng.uniform(-0.4, 1), 0),
        smile=rng.uniform(-0.5, 1),
        brow_raise=rng.uniform(-0.7, 1),
        blink=1.0 if rng.random() < 0.1 else max(rng.uniform(-0.3, 0.4), 0),
        gaze_x=rng.uniform(-0.85, 0.85),
        gaze_y=rng.uniform(-1, 1),
    )


def wide_expression(rng: np.random.Generator) -> Expression:
    """Draw an expression with the widest range of poses that the painter supports."""
    return random_expression(rng)._replace(
        yaw=np.deg2rad(rng.uniform(-40, 40)),
        pitch=np.deg2rad(rng.uniform(-17, 17)),
        roll=np.deg2rad(rng.uniform(-20, 20)),
        scale=rng.uniform(0.85, 1.15),
        shift_x=rng.uniform(-12, 12),
        shift_y=rng.uniform(-10, 10),
    )
