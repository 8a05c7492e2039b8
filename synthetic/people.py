"""Synthetic people: procedural faces whose 98 landmarks are known exactly.

A person is an `Identity` (who), a frame an `Expression` (what the face does). The two are apart, so the same
expression can be drawn on another identity: reenactment across people has a ground truth here, which no data
set of real people has. This file holds identities, expressions and the geometry; `painter.py` paints.

Head coordinates: x to the image's right, y down, z towards the camera, in units of half a face width; the
origin lies between the eyes and the mouth.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.boundary import NUM_LANDMARKS
from utils.cli import MAX_SEED
from utils.errors import DataError
from utils.files import atomic_path, is_folder_name, open_file

UNIT_PX = 70.0  # one head unit in pixels at scale 1
ORIGIN_PX = (128.0, 116.0)  # the head's origin in the 256-pixel frame
PIVOT_Z = -0.35  # depth of the axis that the head turns about
PERSPECTIVE = 0.12
EXPRESSION_FILE = "expressions.npz"  # in a person's folder

Color = tuple[int, int, int]  # RGB


class Expression(NamedTuple):
    """Say what a face does in one frame. Angles in radians, shifts in pixels, the rest in about [-1, 1]."""

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
    """Say what a person mostly does: the middle of what its expressions vary about; yaw in degrees."""

    yaw: float = 0.0
    mouth_open: float = 0.25
    smile: float = 0.25
    brow_raise: float = 0.1


HABIT_RANGES = {"yaw": (-20, 20), "mouth_open": (0, 1), "smile": (-0.5, 1), "brow_raise": (-0.7, 1)}


def read_habit(text: str) -> Habit:
    """Read 'mouth_open=0.7,yaw=8'; what is not named stays as everybody's.

    Raises:
        ValueError: a name is unknown, or a value is no number or out of its range.
    """
    values = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        low, high = HABIT_RANGES.get(name, (None, None))
        if low is None:
            raise ValueError(f"'{part}': a habit is one of {', '.join(HABIT_RANGES)}, as in mouth_open=0.7")
        try:
            values[name] = float(number)
        except ValueError:
            raise ValueError(f"'{part}': not a number behind '='") from None
        if not low <= values[name] <= high:
            raise ValueError(f"'{part}': must be from {low} to {high}")
    return Habit(**values)


def _smooth_noise(rng: np.random.Generator, length: int, sigma_frames: float) -> np.ndarray:
    """Draw Gaussian noise of unit variance, smooth over about `sigma_frames` frames."""
    offsets = np.arange(-int(4 * sigma_frames), int(4 * sigma_frames) + 1)
    window = np.exp(-(offsets**2) / (2 * sigma_frames**2))
    window /= np.sqrt((window**2).sum())
    return np.convolve(rng.standard_normal(length + len(window) - 1), window, "valid")


def _blinks(rng: np.random.Generator, length: int) -> np.ndarray:
    """Close the eyelids for a moment every one or two seconds."""
    lids = np.zeros(length)
    frame = int(rng.integers(4, 30))
    while frame < length:
        for offset, closed in zip(range(-2, 4), (0.3, 0.8, 1.0, 1.0, 0.6, 0.25)):
            if 0 <= frame + offset < length:
                lids[frame + offset] = max(lids[frame + offset], closed)
        frame += int(rng.integers(16, 45))
    return lids


def expression_track(length: int, seed: int, habit: Habit = Habit()) -> np.ndarray:
    """Draw the expressions of a smooth, talking, turning head.

    Args:
        habit: the middle of what they vary about.

    Returns:
        (length, 12) float32, a row an `Expression`, as if filmed at 25 frames a second.
    """
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
    """Keep the expressions (N, 12) of all frames of a person, in their order, and the seed of the identity."""
    with atomic_path(folder / EXPRESSION_FILE) as temporary:
        np.savez(temporary, expressions=track, columns=Expression._fields, identity_seed=identity_seed)


def read_expressions(folder: Path) -> tuple[list[Expression], int]:
    """Read what `save_expressions` kept.

    Raises:
        DataError: it is not there or damaged.
    """
    path = folder / EXPRESSION_FILE
    try:
        with open_file(path) as opened, np.load(opened, allow_pickle=False) as file:
            return [Expression(*map(float, row)) for row in file["expressions"]], int(file["identity_seed"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{path}: no expressions; make the people with 'make_synthetic.py celebv --expressions'"
        ) from None


def random_expression(rng: np.random.Generator) -> Expression:
    """Draw one expression, with a wider range of poses than a track has."""
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


# Light to dark; a person's skin lies anywhere between two neighbours.
SKIN_TONES: tuple[Color, ...] = ((244, 214, 194), (232, 190, 160), (210, 160, 124), (172, 120, 84), (120, 78, 54))
# base and strand colours
HAIR_COLORS: tuple[tuple[Color, Color], ...] = (
    ((36, 28, 26), (72, 58, 52)),
    ((66, 42, 26), (112, 76, 48)),
    ((118, 74, 38), (168, 116, 66)),
    ((196, 150, 82), (236, 200, 132)),
    ((190, 96, 40), (236, 150, 78)),
    ((134, 132, 134), (190, 190, 194)),
)
IRIS_COLORS: tuple[Color, ...] = ((70, 100, 150), (90, 120, 80), (100, 70, 40), (60, 40, 26), (110, 130, 140))


class Light(NamedTuple):
    """Say how a picture is lit: brightness that grows in a direction, and a tint."""

    across: float  # share by which the right rim is brighter than the middle
    down: float
    tint: tuple[float, float, float]  # factors of red, green and blue


@dataclass(frozen=True)
class Identity:
    """Say who a synthetic person is: proportions in head units, colours in RGB."""

    seed: int  # strength of skin and hair texture
    # face
    face_width: float
    chin_y: float
    jaw_power: float  # below 1 square, above 1 pointed
    crown_y: float
    temple_y: float
    # eyes and brows
    eye_y: float
    eye_x: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    iris_size: float
    brow_y: float
    brow_length: float
    brow_arch: float
    brow_thickness: float
    brow_gap: float
    brow_tilt: float
    # nose and mouth
    nose_top: float
    nose_length: float
    nose_width: float
    nose_depth: float
    mouth_y: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    # looks
    hair_style: str
    hair: Color
    hair_strand: Color
    skin: Color
    blush: Color
    brow: Color
    iris: Color
    lip: Color
    eyeliner: float  # 0 none, 1 strong
    beard: float  # 0 shaven, 1 full
    freckles: int
    cloth: Color
    background: tuple[Color, Color]
    # what only the many have that a base is learned from (`varied_identity`)
    glasses: Color | None = None  # of the frame
    lens: tuple[float, float] = (0.3, 0.24)  # half width and half height
    light: Light | None = None  # None is even light
    shelves: int = 0  # of the background, with things on them

    @property
    def has_long_hair(self) -> bool:
        """Tell whether the hair falls down next to the face."""
        return self.hair_style in ("bob", "long")


def _mix(first: Color, second: Color, amount: float) -> Color:
    return tuple(int(round(a + (b - a) * amount)) for a, b in zip(first, second))


def _hsv(hue: float, saturation: float, value: float) -> Color:
    channel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return tuple(int(v) for v in 255 * value * (1 - saturation * (1 - channel)))


def random_identity(seed: int) -> Identity:
    """Draw a plausible person, from the same seed the same person on every machine."""
    rng = np.random.default_rng([seed, 0])
    feminine = bool(rng.random() < 0.5)
    tone = rng.uniform(0, len(SKIN_TONES) - 1.001)
    skin = _mix(SKIN_TONES[int(tone)], SKIN_TONES[int(tone) + 1], tone % 1)
    # dark skin goes with dark hair here; light skin with any
    hair, strand = HAIR_COLORS[int(rng.integers(0, 2 if tone > 2.4 else len(HAIR_COLORS)))]
    hair_style = str(rng.choice(("swept", "bob", "long", "long") if feminine else ("short", "swept", "short", "bob")))
    hue = rng.random()
    eye_y = rng.uniform(-0.17, -0.08)
    red_lip, natural_lip = _mix((190, 50, 70), (210, 100, 100), rng.random()), _mix(skin, (170, 70, 75), 0.5)
    return Identity(
        seed=seed,
        face_width=rng.uniform(0.84, 0.94) if feminine else rng.uniform(0.9, 1.02),
        chin_y=rng.uniform(1.04, 1.14) if feminine else rng.uniform(1.1, 1.22),
        jaw_power=rng.uniform(0.8, 1.0) if feminine else rng.uniform(0.6, 0.82),
        crown_y=rng.uniform(-1.12, -1.0),
        temple_y=rng.uniform(-0.26, -0.2),
        eye_y=eye_y,
        eye_x=rng.uniform(0.37, 0.43),
        eye_width=rng.uniform(0.33, 0.42),
        eye_height=rng.uniform(0.18, 0.25) if feminine else rng.uniform(0.14, 0.2),
        eye_tilt=rng.uniform(-0.03, 0.05),
        iris_size=rng.uniform(0.095, 0.12),
        brow_y=eye_y - rng.uniform(0.27, 0.36),
        brow_length=rng.uniform(0.42, 0.54),
        brow_arch=rng.uniform(0.04, 0.12),
        brow_thickness=rng.uniform(0.05, 0.075) if feminine else rng.uniform(0.075, 0.11),
        brow_gap=rng.uniform(0.14, 0.2),
        brow_tilt=rng.uniform(-0.05, 0.06),
        nose_top=eye_y + rng.uniform(0.0, 0.03),
        nose_length=rng.uniform(0.42, 0.56),
        nose_width=rng.uniform(0.17, 0.26),
        nose_depth=rng.uniform(0.3, 0.44),
        mouth_y=rng.uniform(0.64, 0.74),
        mouth_width=rng.uniform(0.26, 0.35),
        upper_lip=rng.uniform(0.06, 0.105),
        lower_lip=rng.uniform(0.095, 0.14),
        hair_style=hair_style,
        hair=hair,
        hair_strand=strand,
        skin=skin,
        blush=_mix(skin, (222, 96, 92), 0.38),
        brow=_mix(hair, (30, 22, 20), 0.35),
        iris=IRIS_COLORS[int(rng.integers(0, 5 if tone < 2.4 else 4)) if tone < 2.4 else 3],
        lip=red_lip if feminine and rng.random() < 0.6 else natural_lip,
        eyeliner=rng.uniform(0.5, 1) if feminine else 0.0,
        beard=0.0 if feminine or rng.random() < 0.5 else float(rng.uniform(0.3, 0.75)),
        freckles=int(rng.integers(25, 60)) if tone < 1 and rng.random() < 0.5 else 0,
        cloth=_hsv(hue, rng.uniform(0.3, 0.7), rng.uniform(0.25, 0.7)),
        background=(_hsv((hue + 0.45) % 1, 0.25, rng.uniform(0.6, 0.9)), _hsv((hue + 0.5) % 1, 0.35, 0.45)),
    )


def varied_identity(seed: int) -> Identity:
    """Draw a person with looks that vary as widely as the painter can; from the same seed the same person."""
    who, rng = random_identity(seed), np.random.default_rng([seed, 3])
    # skins lie between the tones, paler and ruddier ones too; hair of any colour goes with any of them
    skin = tuple(int(np.clip(channel * rng.uniform(0.9, 1.06), 30, 252)) for channel in who.skin)
    hair, strand = HAIR_COLORS[int(rng.integers(0, len(HAIR_COLORS)))]
    is_bearded = who.eyeliner == 0 and rng.random() < 0.6
    glasses = [(24, 22, 24), (90, 60, 40), (150, 150, 155), _hsv(rng.random(), 0.6, 0.5)][int(rng.integers(0, 4))]
    hue, warmth = rng.random(), rng.uniform(-0.12, 0.12)
    brightness = rng.uniform(0.7, 1.12)
    return replace(
        who,
        skin=skin,
        blush=_mix(skin, (222, 96, 92), rng.uniform(0.1, 0.5)),
        hair=hair,
        hair_strand=strand,
        brow=_mix(hair, (30, 22, 20), rng.uniform(0.1, 0.6)),
        beard=float(rng.uniform(0.25, 0.95)) if is_bearded else 0.0,
        glasses=glasses if rng.random() < 0.35 else None,
        lens=(rng.uniform(0.25, 0.34), rng.uniform(0.18, 0.28)),
        light=Light(
            across=rng.uniform(-0.35, 0.35),
            down=rng.uniform(-0.25, 0.2),
            tint=(brightness * (1 + warmth), brightness, brightness * (1 - warmth)),
        ),
        cloth=_hsv(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.1, 0.95)),
        background=(
            _hsv(hue, rng.uniform(0, 0.6), rng.uniform(0.15, 1)),
            _hsv((hue + rng.uniform(0, 0.3)) % 1, rng.uniform(0, 0.6), rng.uniform(0.1, 0.9)),
        ),
        shelves=int(rng.integers(0, 5)),
    )


# what varies from face to face of the layout decoder's training data
LAYOUT_LOOKS = 29
PROPORTIONS = ("face_width", "chin_y", "jaw_power", "crown_y", "temple_y", "eye_x", "eye_width", "eye_height")
PROPORTIONS += ("iris_size", "brow_length", "brow_arch", "brow_thickness", "brow_gap", "nose_length", "nose_width")
PROPORTIONS += ("nose_depth", "mouth_width", "upper_lip", "lower_lip", "eye_y", "brow_y", "nose_top", "mouth_y")


def layout_identity(seed: int) -> Identity:
    """Draw a face of any proportions, always with the looks of the demo's target: long hair, no fringe, no glasses."""
    who, looks, rng = random_identity(seed), random_identity(LAYOUT_LOOKS), np.random.default_rng([seed, 4])
    return replace(looks, **{name: getattr(who, name) * rng.uniform(0.88, 1.12) for name in PROPORTIONS})


def wide_expression(rng: np.random.Generator) -> Expression:
    """Draw one expression from as wide a range of poses as the painter can."""
    return random_expression(rng)._replace(
        yaw=np.deg2rad(rng.uniform(-40, 40)),
        pitch=np.deg2rad(rng.uniform(-17, 17)),
        roll=np.deg2rad(rng.uniform(-20, 20)),
        scale=rng.uniform(0.85, 1.15),
        shift_x=rng.uniform(-12, 12),
        shift_y=rng.uniform(-10, 10),
    )


def identity_seed(person: str) -> tuple[str, int]:
    """Read 'Name=12' as the person of seed 12 called Name; 'Name' alone takes its seed from its letters.

    Raises:
        ValueError: the part behind '=' is not a whole number, or the name could not be a folder's.
    """
    name, _, seed = person.partition("=")
    if not is_folder_name(name) or "\\" in name:
        raise ValueError(f"'{person}': a person's name must be usable as a folder's name")
    if not _:
        return name, zlib.crc32(name.encode())
    if not re.fullmatch("[0-9]{1,10}", seed) or int(seed) > MAX_SEED:
        raise ValueError(
            f"'{person}': the part behind '=', the person's seed, must be a whole number from 0 to {MAX_SEED}"
        )
    return name, int(seed)


# -- geometry ---------------------------------------------------------------------------------------------


def _rotation(expression: Expression) -> np.ndarray:
    (cos_y, cos_p, cos_r), (sin_y, sin_p, sin_r) = np.cos(expression[:3]), np.sin(expression[:3])
    yaw = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    pitch = np.array([[1, 0, 0], [0, cos_p, -sin_p], [0, sin_p, cos_p]])
    roll = np.array([[cos_r, -sin_r, 0], [sin_r, cos_r, 0], [0, 0, 1]])
    return roll @ pitch @ yaw


def project(points: np.ndarray, expression: Expression) -> np.ndarray:
    """Project head coordinates (N, 3) to pixels (N, 2): rotate about the neck's axis, then a weak perspective."""
    pivot = np.array([0, 0, PIVOT_Z])
    turned = (np.asarray(points, np.float64) - pivot) @ _rotation(expression).T + pivot
    pixels = UNIT_PX * expression.scale / (1 - PERSPECTIVE * turned[:, 2])
    center = np.array(ORIGIN_PX) + (expression.shift_x, expression.shift_y)
    return center + pixels[:, None] * turned[:, :2]


def _bow(start: np.ndarray, end: np.ndarray, count: int, bulge: tuple[float, float, float]) -> np.ndarray:
    """Place `count` points from start to end along a parabola whose middle is moved by `bulge`."""
    t = np.linspace(0, 1, count)[:, None]
    return start * (1 - t) + end * t + 4 * t * (1 - t) * np.asarray(bulge)


def _contour(who: Identity, face: Expression) -> np.ndarray:
    angle = np.pi * np.arange(33) / 32
    cos, sin = np.cos(angle), np.sin(angle)
    x = -np.sign(cos) * np.abs(cos) ** who.jaw_power * who.face_width * (1 + 0.02 * face.smile * sin)
    y = who.temple_y + (who.chin_y - who.temple_y) * sin**0.95 + 0.17 * face.mouth_open * sin**3
    return np.stack([x, y, -0.55 * (x / who.face_width) ** 2 + 0.05], axis=1)


def _eye(who: Identity, face: Expression, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Place eight lid points and the pupil; side -1 is the eye on the image's left."""
    center, half = side * who.eye_x, who.eye_width / 2
    tilt = side * who.eye_tilt
    left = np.array([center - half, who.eye_y + tilt, -0.08 - (0.12 if side < 0 else 0)])
    right = np.array([center + half, who.eye_y - tilt, -0.08 - (0.12 if side > 0 else 0)])
    above = who.eye_height * (0.62 * (1 + 0.12 * face.brow_raise) * (1 - face.blink) - 0.16 * face.blink)
    below = who.eye_height * 0.42 * (1 - 0.25 * face.blink - 0.25 * max(face.smile, 0))
    upper = _bow(left, right, 5, (0, -above, 0.03))
    lower = _bow(right, left, 5, (0, below, 0.03))
    gaze = np.array([face.gaze_x * half * 0.84, (below - above) * 0.3 + face.gaze_y * who.eye_height * 0.2, 0.05])
    return np.vstack([upper, lower[1:4]]), (left + right) / 2 + gaze


def _brow(who: Identity, face: Expression, side: int) -> np.ndarray:
    lift = -0.1 * face.brow_raise
    frown = -min(face.brow_raise, 0)
    inner = np.array(
        [side * (who.brow_gap - 0.03 * frown), who.brow_y + who.brow_tilt + 1.1 * lift + 0.02 * frown, 0.06]
    )
    outer_y = who.brow_y - 0.5 * who.brow_tilt + 0.7 * lift + 0.05
    outer = np.array([side * (who.brow_gap + who.brow_length), outer_y, -0.22])
    start, end = (outer, inner) if side < 0 else (inner, outer)
    upper = _bow(start, end, 5, (0, -who.brow_arch, 0.04))
    thickness = who.brow_thickness * np.array([0.9, 1, 1, 0.8, 0.35])
    lower = upper.copy()
    lower[:, 1] += thickness[::-1] if side < 0 else thickness
    lower = lower[::-1]
    return np.vstack([upper, lower[:4] if side < 0 else lower[1:]])


def _nose(who: Identity, face: Expression) -> np.ndarray:
    base = who.nose_top + who.nose_length
    width = who.nose_width * (1 + 0.08 * max(face.smile, 0))
    bridge_y = np.linspace(who.nose_top, base - 0.03, 4)
    bridge = np.stack([np.zeros(4), bridge_y, np.linspace(0.05, who.nose_depth, 4)], axis=1)
    x, dy, z = width * np.array([-1, -0.5, 0, 0.5, 1]), (0.01, 0.07, 0.09, 0.07, 0.01), (0.08, 0.16, 0.24, 0.16, 0.08)
    return np.vstack([bridge, np.stack([x, base + np.array(dy), z], axis=1)])


def _mouth(who: Identity, face: Expression) -> np.ndarray:
    """Place the twenty points 76..95: outer ring, then inner ring."""
    width = who.mouth_width * (1 + 0.25 * face.smile - 0.12 * face.mouth_open)
    middle = who.mouth_y + 0.06 * face.mouth_open
    corner = -0.11 * face.smile  # smiling lifts the corners
    gap = 0.3 * face.mouth_open

    def depth(t: np.ndarray) -> np.ndarray:
        return 0.17 * (1 - t**2)

    t = np.linspace(-1, 1, 7)
    cupid = np.array([0, 0.62, 1.0, 0.82, 1.0, 0.62, 0])
    arch = middle + corner * t**2 + 0.015 * (1 - t**2) * face.smile
    outer_top = np.stack([t * width, arch - cupid * who.upper_lip - 0.22 * gap * (1 - t**2), depth(t)], axis=1)
    t = t[::-1][1:-1]
    drop = (1 - t**2) ** 0.8 * (who.lower_lip + gap)
    outer_low = np.stack([t * width * 0.94, middle + corner * t**2 + drop, depth(t)], axis=1)
    t = np.linspace(-0.84, 0.84, 5)
    open_ = 1 - (t / 0.84) ** 2
    inner_y = middle + corner * t**2
    inner_top = np.stack([t * width, inner_y - 0.22 * gap * open_ + 0.003, depth(t) - 0.02], axis=1)
    t, open_, inner_y = t[::-1][1:-1], open_[::-1][1:-1], inner_y[::-1][1:-1]
    inner_low = np.stack([t * width, inner_y + (0.95 * gap + 0.012) * open_, depth(t) - 0.02], axis=1)
    return np.vstack([outer_top, outer_low, inner_top, inner_low])


def landmarks_3d(who: Identity, face: Expression) -> np.ndarray:
    """Place the landmarks (98, 3) in head coordinates, in WFLW's order."""
    points = np.empty((NUM_LANDMARKS, 3))
    points[0:33] = _contour(who, face)
    points[33:42], points[42:51] = _brow(who, face, -1), _brow(who, face, 1)
    points[51:60] = _nose(who, face)
    points[60:68], points[96] = _eye(who, face, -1)
    points[68:76], points[97] = _eye(who, face, 1)
    points[76:96] = _mouth(who, face)
    return points


def landmarks_of(who: Identity, face: Expression) -> np.ndarray:
    """Place the landmarks (98, 2) float64 in pixels of the 256-pixel frame."""
    return project(landmarks_3d(who, face), face)
