"""Painting synthetic people as 256x256 images with OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from datasets.boundary import IMAGE_SIZE, SUBPIXEL_BITS
from synthetic.expressions import Expression
from synthetic.geometry import ORIGIN_PX, UNIT_PX, landmarks_of, project
from synthetic.people import Color, Identity, Light

SUBPIXEL = 1 << SUBPIXEL_BITS
OPAQUE = 255
MARGIN_PX = 6


@dataclass(frozen=True)
class Textures:
    """Textures (256, 256, 4) uint8 RGBA of skin and hair in the frontal pose, and the background."""

    skin: np.ndarray
    hair: np.ndarray
    background: np.ndarray


def _rgba(color: Color, brightness: float = 1.0) -> tuple[float, float, float, float]:
    return (*(float(min(255, c * brightness)) for c in color), OPAQUE)


def _opaque(rgb: np.ndarray) -> np.ndarray:
    alpha = np.full((*rgb.shape[:2], 1), OPAQUE, np.float32)
    return np.concatenate([np.clip(rgb, 0, 255), alpha], axis=2).astype(np.uint8)


def _skin_texture(person: Identity, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    def spot(center_x: float, center_y: float, width: float, height: float) -> np.ndarray:
        return np.exp(-(((x - center_x) / width) ** 2) / 2 - ((y - center_y) / height) ** 2 / 2)

    skin = np.ones((*x.shape, 3), np.float32) * np.array(person.skin, np.float32)
    cheeks = 0.5 * (spot(-0.5, 0.33, 0.2, 0.16) + spot(0.5, 0.33, 0.2, 0.16))[..., None]
    skin += (np.array(person.blush, np.float32) - skin) * cheeks
    light = 1.06 - 0.26 * np.clip((x / person.face_width) ** 2, 0, 1.5) - 0.1 * x / person.face_width
    light += 0.07 * spot(0, -0.65, 0.5, 0.2) - 0.08 * np.clip(y, 0, 2) ** 2
    light -= 0.13 * (
        spot(-person.eye_x, person.eye_y - 0.02, 0.26, 0.13) + spot(person.eye_x, person.eye_y - 0.02, 0.26, 0.13)
    )
    light -= 0.12 * spot(0, person.mouth_y + 0.27, 0.2, 0.05)
    pores = cv2.GaussianBlur(rng.standard_normal(x.shape).astype(np.float32), (0, 0), 1.2)
    skin *= (light * (1 + 0.018 * pores / pores.std()))[..., None]
    for _ in range(person.freckles):
        at_x, at_y = rng.choice([-1, 1]) * abs(rng.normal(0.35, 0.22)), rng.normal(0.28, 0.12)
        center = (int(ORIGIN_PX[0] + at_x * UNIT_PX), int(ORIGIN_PX[1] + at_y * UNIT_PX))
        cv2.circle(skin, center, 1, [float(c) * 0.84 for c in person.skin], -1, cv2.LINE_AA)
    if person.beard:
        cheek_line = np.clip((y - 0.3) / 0.3, 0, 1)
        jaw = 1.6 * np.abs(x) / person.face_width + np.clip((y - 0.85) / 0.15, 0, 1)
        moustache = 0.9 * np.clip(1 - ((y - person.mouth_y + 0.14) / 0.08) ** 2, 0, 1) * (np.abs(x) < 0.4)
        grain = cv2.GaussianBlur(rng.random(x.shape).astype(np.float32), (0, 0), 0.7)
        amount = np.clip(cheek_line * np.clip(jaw + moustache, 0, 1) * person.beard * (0.5 + grain), 0, 1)[..., None]
        skin += (np.array(person.brow, np.float32) - skin) * cv2.GaussianBlur(amount, (0, 0), 1)[..., None]
    return skin


def _hair_texture(person: Identity, rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    size = (IMAGE_SIZE, IMAGE_SIZE)
    strands = sum(
        share * cv2.resize(rng.random(cells).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
        for share, cells in ((0.65, (4, 70)), (0.35, (8, 140)))
    )
    shine = 0.35 * np.exp(-(((y + 0.85) / 0.22) ** 2))
    mix = np.clip((strands - 0.5) * 1.5 + 0.42 + shine, 0, 1)[..., None]
    return np.array(person.hair, np.float32) * (1 - mix) + np.array(person.hair_strand, np.float32) * mix


def _background_texture(person: Identity, rng: np.random.Generator) -> np.ndarray:
    v, u = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE].astype(np.float32) / IMAGE_SIZE
    mix = np.clip(0.8 * v + 0.2 * u, 0, 1)[..., None]
    scene = np.array(person.background[0], np.float32) * (1 - mix) + np.array(person.background[1], np.float32) * mix
    for shelf in range(person.shelves):
        top = int((shelf + rng.uniform(0.2, 0.8)) * IMAGE_SIZE / person.shelves)
        cv2.rectangle(scene, (0, top), (IMAGE_SIZE, top + 3), [float(c) * 0.6 for c in person.background[1]], -1)
        left = 0
        while left < IMAGE_SIZE:
            width, height = (int(x) for x in rng.integers((5, 8), (40, 60)))
            color = [float(c) for c in rng.integers(20, 235, 3)]
            if rng.random() < 0.6:
                cv2.rectangle(scene, (left, top - height), (left + width, top), color, -1)
            left += width + int(rng.integers(0, 12))
    if person.shelves:
        scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.8, 4))
    for _ in range(8):
        center, radius = rng.integers(0, IMAGE_SIZE, 2).tolist(), int(rng.integers(14, 38))
        light = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
        cv2.circle(light, center, radius, 0.22, -1)
        light = cv2.GaussianBlur(light, (0, 0), 5)[..., None]
        scene += light * (rng.integers(120, 240, 3).astype(np.float32) - scene)
    return scene


@lru_cache(maxsize=256)
def textures_of(person: Identity) -> Textures:
    """Paint a person's textures (cached)."""
    rng = np.random.default_rng([person.seed, 2])
    v, u = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE].astype(np.float32)
    x, y = (u - ORIGIN_PX[0]) / UNIT_PX, (v - ORIGIN_PX[1]) / UNIT_PX
    return Textures(
        skin=_opaque(_skin_texture(person, rng, x, y)),
        hair=_opaque(_hair_texture(person, rng, y)),
        background=_opaque(_background_texture(person, rng)),
    )


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.round(np.asarray(points) * SUBPIXEL).astype(np.int32).reshape(-1, 1, 2)


def _fill(image: np.ndarray, points: np.ndarray, color) -> None:
    cv2.fillPoly(image, [_fixed_point(points)], color, cv2.LINE_AA, SUBPIXEL_BITS)


def _stroke(image: np.ndarray, points: np.ndarray, color, thickness: int = 1, closed: bool = False) -> None:
    cv2.polylines(image, [_fixed_point(points)], closed, color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def _dot(image: np.ndarray, center: np.ndarray, radius_px: float, color) -> None:
    x, y = np.round(np.asarray(center) * SUBPIXEL).astype(int).tolist()
    cv2.circle(image, (x, y), max(int(radius_px * SUBPIXEL), 1), color, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _window(points: np.ndarray) -> tuple[slice, slice] | None:
    """Return the bounding box of points within the image; None if it is empty."""
    low = np.maximum(np.floor(points.min(0)).astype(int) - MARGIN_PX, 0)
    high = np.minimum(np.ceil(points.max(0)).astype(int) + MARGIN_PX + 1, IMAGE_SIZE)
    return (slice(low[1], high[1]), slice(low[0], high[0])) if (high > low).all() else None


def _mask(points: np.ndarray, window: tuple[slice, slice], blur_px: int = 0) -> np.ndarray:
    """Compute the coverage of a window's pixels by a polygon, (h, w, 1) float32 in [0, 1]."""
    mask = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start), np.uint8)
    _fill(mask, points - (window[1].start, window[0].start), 255)
    if blur_px:
        mask = cv2.GaussianBlur(mask, (blur_px, blur_px), 0)
    return mask[..., None].astype(np.float32) / 255


def _paste(image: np.ndarray, paint: np.ndarray, window: tuple[slice, slice], mask: np.ndarray) -> None:
    """Blend a full-size RGBA image, or a colour, into a window with a mask."""
    target = image[window]
    paint = paint[window] if paint.ndim == 3 else paint
    target[:] = (target + (paint.astype(np.float32) - target) * mask + 0.5).astype(np.uint8)


def _fill_texture(image: np.ndarray, paint: np.ndarray, points: np.ndarray, blur_px: int = 0) -> None:
    window = _window(points)
    if window:
        _paste(image, paint, window, _mask(points, window, blur_px))


def _spline(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """Sample a Catmull-Rom curve through points, with `steps` samples per segment."""
    ends = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (ends[k : len(ends) - 3 + k, None] for k in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.vstack([curve.reshape(-1, 2), points[-1:]])


def _warp(texture: np.ndarray, face: Expression, depth: float, border: int) -> np.ndarray:
    """Warp a frontal texture to the pose of an expression."""
    x, y = ORIGIN_PX
    frontal = np.float32([[x - UNIT_PX, y], [x + UNIT_PX, y], [x, y + UNIT_PX]])
    turned = project(np.array([[-1, 0, depth], [1, 0, depth], [0, 1, depth + 0.1]]), face).astype(np.float32)
    return cv2.warpAffine(texture, cv2.getAffineTransform(frontal, turned), (IMAGE_SIZE, IMAGE_SIZE), borderMode=border)


def _mirrored(half: list[tuple[float, float]]) -> np.ndarray:
    """Complete the left half of an outline by its mirror image."""
    left = np.array(half, np.float64)
    right = left[::-1] * (-1, 1)
    return np.vstack([left, right[1:] if left[-1, 0] == 0 else right])


SHORT_BACK = _mirrored([(-0.9, 0.3), (-1.0, 0.05), (-1.04, -0.5), (-0.94, -0.95), (-0.6, -1.3), (0, -1.42)])
BACK_HAIR = {
    "short": SHORT_BACK,
    "swept": SHORT_BACK,
    "bob": _mirrored([(-0.72, 1.22), (-1.08, 1.1), (-1.2, 0.6), (-1.18, -0.2), (-1.05, -0.8), (-0.6, -1.3), (0, -1.4)]),
    "long": _mirrored([(-0.9, 2.0), (-1.2, 1.3), (-1.2, 0.4), (-1.16, -0.3), (-1.0, -0.9), (-0.6, -1.3), (0, -1.4)]),
}
# outlines of the hair in front of the head, (x in face widths, y)
FRONT_HAIR = {
    "short": [(-1.02, 0.0), (-1.1, -0.45), (-1.04, -0.95), (-0.66, -1.36), (0.0, -1.49), (0.6, -1.38), (1.04, -0.95)]
    + [(1.1, -0.45), (1.02, 0.0), (0.94, -0.25), (0.88, -0.6), (0.5, -0.76), (0.0, -0.82), (-0.5, -0.76), (-0.88, -0.6)]
    + [(-0.94, -0.25)],
    "swept": [(-1.02, 0.02), (-1.1, -0.45), (-1.06, -0.95), (-0.7, -1.38), (-0.1, -1.52), (0.5, -1.44), (0.98, -1.05)]
    + [(1.1, -0.45), (1.02, 0.02), (0.94, -0.25), (0.86, -0.66), (0.45, -0.86), (0.05, -0.84), (-0.4, -0.7)]
    + [(-0.74, -0.6), (-0.94, -0.2)],
    "bob": [(-1.08, 0.75), (-1.2, 0.1), (-1.14, -0.6), (-0.8, -1.18), (-0.3, -1.44), (0.3, -1.44), (0.8, -1.18)]
    + [(1.14, -0.6), (1.2, 0.1), (1.08, 0.75), (0.97, 0.15), (0.9, -0.4), (0.55, -0.6), (0.0, -0.64), (-0.55, -0.6)]
    + [(-0.9, -0.4), (-0.97, 0.15)],
    "long": [(-1.1, 0.6), (-1.18, 0.0), (-1.12, -0.6), (-0.8, -1.16), (-0.3, -1.42), (0.25, -1.42), (0.8, -1.16)]
    + [(1.12, -0.6), (1.18, 0.0), (1.1, 0.6), (0.97, 0.1), (0.88, -0.36), (0.56, -0.76), (0.15, -0.94)]
    + [(-0.35, -0.78), (-0.74, -0.44), (-0.96, 0.05)],
}


def _paint_body(image: np.ndarray, person: Identity, face: Expression, contour: np.ndarray) -> None:
    """Paint neck, shoulders and collar; the body moves half as much as the head."""
    origin = np.array(ORIGIN_PX) + 0.5 * np.array([face.shift_x, face.shift_y])
    width = person.face_width

    def body(points: list[tuple[float, float]]) -> np.ndarray:
        return origin + face.scale * UNIT_PX * np.array(points)

    shoulders = body(_mirrored([(-2.6, 2.3), (-2.1, 1.86), (-1.5, 1.56), (-0.85, 1.36), (-0.5, 1.26)]))
    throat = body([(0.5 * width, 1.3), (0.2, 1.62), (-0.2, 1.62), (-0.5 * width, 1.3)])
    jaw = project(np.array([[-0.5 * width, 0.5, -0.45], [0.5 * width, 0.5, -0.45]]), face)
    neck = np.vstack([jaw, throat])
    _fill(image, np.vstack([_spline(shoulders), [[300, 300], [-44, 300]]]), _rgba(person.cloth))
    _fill(image, neck, _rgba(person.skin, 0.84))
    window = _window(neck)
    if window:
        shadow = _mask(neck, window) * _mask(contour + (0, 0.13 * UNIT_PX), window, 9)
        _paste(image, np.array(_rgba(person.skin, 0.6)), window, shadow)
    collar = _spline(np.vstack([throat[:1] + (3, -2), throat, throat[-1:] + (-3, -2)]))
    _stroke(image, collar, _rgba(person.cloth, 0.7), 4)


def _paint_head(
    image: np.ndarray, person: Identity, face: Expression, landmarks: np.ndarray, textures: Textures
) -> None:
    """Paint ears, skin, jaw line, and hair over the forehead."""
    width = person.face_width
    if not person.has_long_hair:
        for side in (-1, 1):
            ear = [(0.96, -0.25, -0.5), (1.1, -0.24, -0.6), (1.13, 0.0, -0.62), (1.05, 0.22, -0.6), (0.95, 0.28, -0.5)]
            outline = _spline(project(np.array(ear) * (side * width, 1, 1), face))
            _fill(image, outline, _rgba(person.skin, 0.88))
            _stroke(image, outline, _rgba(person.skin, 0.66), 1)
    angle = np.linspace(0, np.pi, 13)[1:-1]
    x = np.cos(angle) * width * 0.98
    y = person.temple_y + (person.crown_y - person.temple_y) * np.sin(angle) ** 0.8
    crown = project(np.stack([x, y, -0.55 * np.cos(angle) ** 2], axis=1), face)
    skin = _warp(textures.skin, face, -0.1, cv2.BORDER_REPLICATE)
    _fill_texture(image, skin, np.vstack([landmarks[:33], crown]))
    _stroke(image, landmarks[3:30], _rgba(person.skin, 0.66), 1)
    outline = np.array(FRONT_HAIR[person.hair_style]) * (width, 1)
    depth = np.where(np.arange(len(outline)) < (len(outline) + 2) // 2, -0.48, -0.14)
    front = _spline(project(np.column_stack([outline, depth]), face), 4)
    _fill_texture(image, _warp(textures.hair, face, -0.5, cv2.BORDER_REFLECT), front, 3)


def _paint_eye(image: np.ndarray, person: Identity, face: Expression, lids: np.ndarray, pupil: np.ndarray) -> None:
    upper, lower = _spline(lids[:5]), _spline(np.vstack([lids[4:8], lids[:1]]))
    ring = np.vstack([upper, lower])
    window = _window(ring)
    if window is None:
        return
    ball = np.empty_like(image[window])
    ball[:] = (240, 237, 233, OPAQUE)
    center, radius = pupil - (window[1].start, window[0].start), person.iris_size * UNIT_PX * face.scale
    _dot(ball, center, radius, _rgba(person.iris, 0.55))
    _dot(ball, center, 0.82 * radius, _rgba(person.iris))
    _dot(ball, center, 0.42 * radius, (12, 12, 12, OPAQUE))
    _dot(ball, center - 0.3 * radius, 0.2 * radius, (255, 255, 255, OPAQUE))
    target, mask = image[window], _mask(ring, window)
    target[:] = (target + (ball.astype(np.float32) - target) * mask + 0.5).astype(np.uint8)
    lash = tuple(0.35 * c * (1 - person.eyeliner) + 22 * person.eyeliner for c in person.skin)
    _stroke(image, upper, _rgba(lash), 2)
    _stroke(image, lower, _rgba(person.skin, 0.64), 1)
    _stroke(image, upper - (0, 0.075 * UNIT_PX), _rgba(person.skin, 0.76), 1)


def _paint_glasses(image: np.ndarray, person: Identity, face: Expression) -> None:
    """Paint glasses."""
    (half_width, half_height), color = person.lens, _rgba(person.glasses)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    round_ = np.stack([half_width * np.cos(angle), half_height * np.sin(angle), np.zeros(24)], axis=1)
    for side in (-1, 1):
        center = np.array([side * person.eye_x, person.eye_y + 0.03, 0.02])
        _stroke(image, project(center + round_, face), color, 2, closed=True)
        rim = [side * (person.eye_x + half_width), person.eye_y - 0.02, 0.0]
        ear = [side * person.face_width, person.eye_y - 0.04, -0.5]
        _stroke(image, project(np.array([rim, ear]), face), color, 2)
    inner = max(person.eye_x - half_width, 0.02)
    bridge = np.array([[-inner, person.eye_y, 0.06], [0, person.eye_y - 0.03, 0.12], [inner, person.eye_y, 0.06]])
    _stroke(image, _spline(project(bridge, face)), color, 2)


def _light(image: np.ndarray, light: Light) -> None:
    """Apply lighting to an image (256, 256, 4) in place."""
    along = np.linspace(-1, 1, IMAGE_SIZE, dtype=np.float32)
    gain = (1 + light.across * along[None] + light.down * along[:, None])[..., None] * np.float32(light.tint)
    image[..., :3] = np.clip(image[..., :3] * gain + 0.5, 0, 255).astype(np.uint8)


def _paint_nose(image: np.ndarray, person: Identity, face: Expression, nose: np.ndarray) -> None:
    bridge, base = nose[:4], nose[4:]
    away = 1 if face.yaw < 0 else -1  # the far side is darker
    wing = base[0] if away < 0 else base[4]
    side = np.vstack([bridge[0] + (away * 4, 2), bridge[2] + (away * 5, 0), wing - (0, 3)])
    _stroke(image, _spline(side), _rgba(person.skin, 0.84), 2)
    _stroke(image, bridge[1:], _rgba(person.skin, 1.08), 2)
    _stroke(image, _spline(base), _rgba(person.skin, 0.6), 2)
    for nostril in (base[1], base[3]):
        center = np.round(nostril - (0, 2)).astype(int).tolist()
        cv2.ellipse(image, center, (3, 2), 0, 0, 360, _rgba(person.skin, 0.4), -1, cv2.LINE_AA)


def _paint_mouth(image: np.ndarray, person: Identity, landmarks: np.ndarray) -> None:
    top, low = _spline(landmarks[76:83], 4), _spline(np.vstack([landmarks[82:88], landmarks[76:77]]), 4)
    inner_top, inner_low = _spline(landmarks[88:93]), _spline(np.vstack([landmarks[92:96], landmarks[88:89]]))
    cavity = np.vstack([inner_top, inner_low])
    _fill(image, np.vstack([top, low]), _rgba(person.lip, 0.92))
    _fill(image, np.vstack([low, inner_low[::-1]]), _rgba(person.lip, 1.06))
    dark = (48, 16, 24, OPAQUE)
    gap = landmarks[94, 1] - landmarks[90, 1]
    window = _window(cavity)
    if window is not None:
        inside = np.empty_like(image[window])
        inside[:] = dark
        corner = np.array([window[1].start, window[0].start])
        if gap > 2:
            teeth = np.vstack([inner_top - (0, 2), (inner_top + (0, min(0.42 * gap, 7)))[::-1]])
            _fill(inside, teeth - corner, (235, 232, 225, OPAQUE))
            axes = (max(int(0.28 * (landmarks[92, 0] - landmarks[88, 0])), 1), max(int(0.3 * gap), 1))
            center = np.round(landmarks[94] - corner + (0, 1)).astype(int).tolist()
            cv2.ellipse(inside, center, axes, 0, 0, 360, (188, 84, 92, OPAQUE), -1, cv2.LINE_AA)
        target, mask = image[window], _mask(cavity, window)
        target[:] = (target + (inside.astype(np.float32) - target) * mask + 0.5).astype(np.uint8)
    _stroke(image, cavity, _rgba(person.lip, 0.55), 1, closed=True)


def paint_layers(person: Identity, face: Expression, canvas: np.ndarray) -> np.ndarray:
    """Paint a person over an RGBA canvas (256, 256, 4) in place; return the landmarks (98, 2) in pixels."""
    textures, landmarks = textures_of(person), landmarks_of(person, face)
    back = BACK_HAIR[person.hair_style] * (person.face_width / 0.95, 1)
    # two layers of long hair, so that a turned head shows no gap
    for depth in (-0.75, -0.48) if person.has_long_hair else (-0.45,):
        outline = _spline(project(np.column_stack([back, np.full(len(back), depth)]), face))
        _fill_texture(canvas, _warp(textures.hair, face, depth, cv2.BORDER_REFLECT), outline, 3)
    _paint_body(canvas, person, face, landmarks[:33])
    _paint_head(canvas, person, face, landmarks, textures)
    for first in (33, 42):
        _fill(canvas, landmarks[first : first + 9], _rgba(person.brow))
    _paint_eye(canvas, person, face, landmarks[60:68], landmarks[96])
    _paint_eye(canvas, person, face, landmarks[68:76], landmarks[97])
    _paint_nose(canvas, person, face, landmarks[51:60])
    _paint_mouth(canvas, person, landmarks)
    if person.glasses is not None:
        _paint_glasses(canvas, person, face)
    if person.light is not None:
        _light(canvas, person.light)
    return landmarks


def render(person: Identity, face: Expression) -> tuple[np.ndarray, np.ndarray]:
    """Paint a person before a background, (256, 256, 3) uint8 RGB; also return landmarks (98, 2) in pixels."""
    canvas = textures_of(person).background.copy()
    landmarks = paint_layers(person, face, canvas)
    return np.ascontiguousarray(canvas[..., :3]), landmarks


def render_cutout(person: Identity, face: Expression) -> tuple[np.ndarray, np.ndarray]:
    """Paint the person alone: (256, 256, 4) uint8 RGBA, transparent around, and (98, 2) landmarks."""
    canvas = textures_of(person).background.copy()
    canvas[..., 3] = 0
    landmarks = paint_layers(person, face, canvas)
    return canvas, landmarks
