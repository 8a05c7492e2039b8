"""Drawing 98 facial landmarks (in WFLW's order) as 15 boundary heatmaps (paper section 3.1)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from config.common import GAZE, PUBLISHED, Config
from faces.landmarks import IMAGE_SIZE, NUM_LANDMARKS

NUM_BOUNDARIES = 15
HEATMAP_SIZE = 64

# landmarks of each channel's polyline
BOUNDARY_PARTS: dict[str, tuple[int, ...]] = {
    "face_contour": tuple(range(0, 33)),
    "left_brow_upper": tuple(range(33, 38)),
    "left_brow_lower": tuple(range(38, 42)),
    "right_brow_upper": tuple(range(42, 47)),
    "right_brow_lower": tuple(range(47, 51)),
    "nose_bridge": tuple(range(51, 55)),
    "nose_base": tuple(range(55, 60)),
    "left_eye_upper": tuple(range(60, 65)),
    "left_eye_lower": (64, 65, 66, 67, 60),
    "right_eye_upper": tuple(range(68, 73)),
    "right_eye_lower": (72, 73, 74, 75, 68),
    "upper_lip_upper": tuple(range(76, 83)),
    "upper_lip_lower": tuple(range(88, 93)),
    "lower_lip_upper": (92, 93, 94, 95, 88),
    "lower_lip_lower": (82, 83, 84, 85, 86, 87, 76),
}
PUPILS = {"left_eye_upper": 96, "right_eye_upper": 97}  # landmarks that GAZE draws in these channels
PUPIL_RADIUS = 3  # in pixels of a 256-pixel image
FAR_PX = 1 << 14  # coordinates are clipped to it
SUBPIXEL_BITS = 4  # fractional bits of OpenCV's coordinates

CHANNELS = {name: channel for channel, name in enumerate(BOUNDARY_PARTS)}  # channel of each boundary

# all polylines in one array of landmark numbers, and the start of each
_JOINED = np.concatenate([np.array(part) for part in BOUNDARY_PARTS.values()])
_STARTS = np.cumsum([0, *(len(part) for part in BOUNDARY_PARTS.values())])

# Images are small and work is distributed over processes; OpenCV's threads do not survive a fork.
cv2.setNumThreads(1)
threadpool_limits(1, user_api="blas")


@dataclass(frozen=True)
class DrawingStyle:
    """Drawing style of boundaries. Sizes are in pixels of a 256-pixel image.

    The style `PUBLISHED` truncates landmarks to integers and does not show the gaze. The style `GAZE` has subpixel
    accuracy, and draws the pupils in the channels of the upper eyelids.
    """

    line_thickness: int = 3
    gaussian_kernel: int = 5
    gaussian_sigma: float = 3.0
    name: str = PUBLISHED

    def record(self) -> dict[str, Any]:
        """Return the options as a dict, for the records of prepared files."""
        values = asdict(self)
        return {key: value for key, value in values.items() if key != "name" or value != PUBLISHED}

    def __str__(self) -> str:
        usual = asdict(DrawingStyle(name=self.name))
        others = [f"{key} {value}" for key, value in asdict(self).items() if value != usual[key]]
        return f"{self.name}, {', '.join(others)}" if others else self.name


def style_of(config: Config) -> DrawingStyle:
    """Return the drawing style of a configuration."""
    return DrawingStyle(**config.preprocess.options(), name=config.drawing or PUBLISHED)


def style_in(record: dict[str, Any] | None) -> DrawingStyle:
    """Return the drawing style of prepared files by their record. The port's files have none."""
    drawing = record["made_from"].get("drawing") if record else None
    if not isinstance(drawing, dict):
        return DrawingStyle()
    known = {field.name for field in fields(DrawingStyle)}
    return DrawingStyle(**{key: value for key, value in drawing.items() if key in known})


def draw_heatmap(
    landmarks: np.ndarray, image_size: tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE), style: DrawingStyle = DrawingStyle()
) -> np.ndarray:
    """Draw the 15 boundaries of a face at the image's size.

    Args:
        landmarks: (98, 2) x, y in pixels.
        image_size: (height, width) in pixels.

    Returns:
        (15, height, width) uint8 in [0, 255].
    """
    if landmarks.shape != (NUM_LANDMARKS, 2):
        raise ValueError(f"landmarks must be of shape (98, 2), not {landmarks.shape}")
    height, width = image_size
    thickness = max(int(style.line_thickness / IMAGE_SIZE * max(height, width)), 1)
    kernel = (style.gaussian_kernel, style.gaussian_kernel)
    is_exact = style.name == GAZE
    if is_exact:
        landmarks = landmarks.clip(-FAR_PX, FAR_PX)
        points, shift, kind = np.round(landmarks * (1 << SUBPIXEL_BITS)).astype(np.int32), SUBPIXEL_BITS, cv2.LINE_AA
    else:  # truncated, as for the published weights
        points, shift, kind = landmarks.astype(np.int32), 0, cv2.LINE_8
    # Only the bounding box of a boundary is blurred. Its margin covers the kernel, so the result is the same as for the
    # whole image.
    rim = thickness + style.gaussian_kernel + (1 if is_exact else 0)  # antialiasing adds a pixel
    lines = points[_JOINED]
    low = (np.minimum.reduceat(lines >> shift, _STARTS[:-1]) - rim).clip(0, (width, height))
    high = (np.maximum.reduceat(lines >> shift, _STARTS[:-1]) + rim + 1).clip(0, (width, height))
    pupils = {CHANNELS[part]: points[index] for part, index in PUPILS.items()} if is_exact else {}
    radius = PUPIL_RADIUS * max(height, width) / IMAGE_SIZE
    for channel, pupil in pupils.items():
        reach = rim + math.ceil(radius)
        low[channel] = np.minimum(low[channel], (pupil >> shift) - reach).clip(0, (width, height))
        high[channel] = np.maximum(high[channel], (pupil >> shift) + reach + 1).clip(0, (width, height))
    heatmap = np.zeros((NUM_BOUNDARIES, height, width), np.uint8)
    for channel, ((left, top), (right, bottom)) in enumerate(zip(low.tolist(), high.tolist())):
        if left < right and top < bottom:
            line = lines[_STARTS[channel] : _STARTS[channel + 1]]
            cv2.polylines(heatmap[channel], [line], False, 255, thickness, kind, shift)
            if channel in pupils:
                cv2.circle(heatmap[channel], pupils[channel].tolist(), int(radius * (1 << shift)), 255, -1, kind, shift)
            box = heatmap[channel, top:bottom, left:right]
            box[...] = cv2.GaussianBlur(box, kernel, style.gaussian_sigma)
    return heatmap


def resize_heatmap(heatmap: np.ndarray, size: int) -> np.ndarray:
    """Resize a heatmap (15, H, W) uint8 bilinearly to (15, size, size)."""
    channels, height, width = heatmap.shape
    if (height, width) == (size, size):
        return heatmap
    if height % size == 0:  # rows of different channels are not mixed, so all are resized as one tall image
        tall = cv2.resize(heatmap.reshape(-1, width), (size, channels * size), interpolation=cv2.INTER_LINEAR)
        return tall.reshape(channels, size, size)
    return np.stack([cv2.resize(x, (size, size), interpolation=cv2.INTER_LINEAR) for x in heatmap])


# RGB of boundaries in overlays; left and right differ, so that a swap is visible
_COLOURS = {
    "face_contour": (255, 255, 255),
    "left": (255, 120, 60),
    "right": (80, 160, 255),
    "nose": (255, 230, 60),
    "upper_lip": (255, 90, 200),
    "lower_lip": (120, 255, 120),
}
_CHANNEL_COLOURS = np.array(
    [next(colour for part, colour in _COLOURS.items() if name.startswith(part)) for name in BOUNDARY_PARTS], np.float32
)  # (15, 3)


def overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Draw boundaries (15, H, W) uint8 in colour over an image (H, W, 3) uint8."""
    strength = heatmap.astype(np.float32) / 255  # (15, H, W)
    total = strength.sum(axis=0)[..., None]  # (H, W, 1)
    colour = np.einsum("chw,ck->hwk", strength, _CHANNEL_COLOURS) / np.maximum(total, 1e-6)
    cover = 0.8 * strength.max(axis=0)[..., None]
    return (image * (1 - cover) + colour * cover).astype(np.uint8)
