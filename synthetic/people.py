"""Identities of synthetic people: proportions, colours and appearance.

A person is an `Identity`, a frame an `Expression`. The same expression can be painted on any identity, so reenactment
across people has a ground truth. `geometry.py` computes landmarks, `painter.py` paints.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from utils.cli import MAX_SEED
from utils.files import is_folder_name

Color = tuple[int, int, int]  # RGB

# light to dark; a person's skin is interpolated between neighbours
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
    """Lighting: a brightness gradient and a tint."""

    across: float  # relative increase of the brightness from the centre to the right border
    down: float
    tint: tuple[float, float, float]  # factors of red, green and blue


@dataclass(frozen=True)
class Identity:
    """A synthetic person: proportions in head units, colours in RGB."""

    seed: int  # of skin and hair texture
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
    # appearance
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
    # only in `varied_identity`
    glasses: Color | None = None  # of the frame
    lens: tuple[float, float] = (0.3, 0.24)  # half width and half height
    light: Light | None = None  # None is uniform light
    shelves: int = 0  # in the background

    @property
    def has_long_hair(self) -> bool:
        """Return whether the hair reaches down beside the face."""
        return self.hair_style in ("bob", "long")


def _mix(first: Color, second: Color, amount: float) -> Color:
    return tuple(int(round(a + (b - a) * amount)) for a, b in zip(first, second))


def _hsv(hue: float, saturation: float, value: float) -> Color:
    channel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return tuple(int(v) for v in 255 * value * (1 - saturation * (1 - channel)))


def random_identity(seed: int) -> Identity:
    """Draw a plausible person; equal seeds yield equal people on all machines."""
    rng = np.random.default_rng([seed, 0])
    feminine = bool(rng.random() < 0.5)
    tone = rng.uniform(0, len(SKIN_TONES) - 1.001)
    skin = _mix(SKIN_TONES[int(tone)], SKIN_TONES[int(tone) + 1], tone % 1)
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
    """Draw a person from the widest range of appearances that the painter supports."""
    person, rng = random_identity(seed), np.random.default_rng([seed, 3])
    skin = tuple(int(np.clip(channel * rng.uniform(0.9, 1.06), 30, 252)) for channel in person.skin)
    hair, strand = HAIR_COLORS[int(rng.integers(0, len(HAIR_COLORS)))]
    is_bearded = person.eyeliner == 0 and rng.random() < 0.6
    glasses = [(24, 22, 24), (90, 60, 40), (150, 150, 155), _hsv(rng.random(), 0.6, 0.5)][int(rng.integers(0, 4))]
    hue, warmth = rng.random(), rng.uniform(-0.12, 0.12)
    brightness = rng.uniform(0.7, 1.12)
    return replace(
        person,
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


LAYOUT_APPEARANCE = 29  # seed of the appearance in the layout decoder's training data
# proportions that vary in these data
PROPORTIONS = ("face_width", "chin_y", "jaw_power", "crown_y", "temple_y", "eye_x", "eye_width", "eye_height")
PROPORTIONS += ("iris_size", "brow_length", "brow_arch", "brow_thickness", "brow_gap", "nose_length", "nose_width")
PROPORTIONS += ("nose_depth", "mouth_width", "upper_lip", "lower_lip", "eye_y", "brow_y", "nose_top", "mouth_y")


def layout_identity(seed: int) -> Identity:
    """Draw a face of random proportions with the appearance of the demo's target."""
    shape, appearance, rng = random_identity(seed), random_identity(LAYOUT_APPEARANCE), np.random.default_rng([seed, 4])
    return replace(appearance, **{name: getattr(shape, name) * rng.uniform(0.88, 1.12) for name in PROPORTIONS})


def identity_seed(person: str) -> tuple[str, int]:
    """Parse 'Name=12' to a name and a seed; the seed of 'Name' is a hash. Raises ValueError if either is invalid."""
    name, _, seed = person.partition("=")
    if not is_folder_name(name) or "\\" in name:
        raise ValueError(f"'{person}': a name must be a valid folder name")
    if not _:
        return name, zlib.crc32(name.encode())
    if not re.fullmatch("[0-9]{1,10}", seed) or int(seed) > MAX_SEED:
        raise ValueError(f"'{person}': the seed after '=' must be an integer between 0 and {MAX_SEED}")
    return name, int(seed)
