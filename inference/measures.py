"""Measures of reenactments: of images against true ones, of boundaries, and of what a face does.

New measures of images belong in `IMAGE_MEASURES`; evaluate.py, the page and scores.json print whatever is listed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from datasets.boundary import CHANNELS, IMAGE_SIZE
from faces.finder import Face, angles_of, correction, fit_pose
from faces.landmarks import BROWS, EYE_RINGS, EYES, INNER_BROWS, LOWER_LIP, MOUTH, MOUTH_CORNERS, UPPER_LIP

MAX_PSNR = 100.0  # of identical images, whose PSNR is infinite
FACE_MARGIN = 0.1
COMB_PX = 2.5
AU_MEAN = "mean of the AUs"
FOLLOWS = "the result follows the source, correlations over time"
BLANK = 0.1  # a heatmap below this value has no boundary

EYE_CHANNELS = {side: [CHANNELS[f"{side}_eye_upper"], CHANNELS[f"{side}_eye_lower"]] for side in ("left", "right")}
MOUTH_CHANNELS = [channel for name, channel in CHANNELS.items() if "lip" in name]


class Measure(NamedTuple):
    """One measured value."""

    of: str  # what was measured
    name: str
    value: float | None  # None if it could not be measured
    format: str = "{:.3f}"

    def __str__(self) -> str:
        value = "not measured" if self.value is None else self.format.format(self.value)
        return f"{self.name} {value}"


def by_subject(measures: list[Measure]) -> list[tuple[str, str]]:
    """Format measures as rows of a table: what was measured, and all values."""
    subjects = dict.fromkeys(measure.of for measure in measures)
    return [(of, ", ".join(str(measure) for measure in measures if measure.of == of)) for of in subjects]


def face_box(landmarks: np.ndarray) -> tuple[slice, slice]:
    """Return the bounding box of landmarks (98, 2) with a margin, as slices of rows and columns."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    margin = FACE_MARGIN * (high - low)
    left, top = np.clip(low - margin, 0, IMAGE_SIZE - 1).astype(int)
    right, bottom = np.clip(high + margin, 1, IMAGE_SIZE).astype(int)
    return slice(top, bottom), slice(left, right)


def psnr(true: np.ndarray, image: np.ndarray) -> float:
    """Compute the PSNR of two images uint8 in dB, at most 100."""
    with np.errstate(divide="ignore"):
        return min(float(peak_signal_noise_ratio(true, image)), MAX_PSNR)


class Sequence(NamedTuple):
    """Images to compare with true ones."""

    images: list[np.ndarray]  # (256, 256, 3) uint8
    truth: list[np.ndarray]  # (256, 256, 3) uint8
    indices: list[int]  # frame numbers
    landmarks: list[np.ndarray] | None = None  # (98, 2) of the true faces

    def mean(self, measure: Callable[[np.ndarray, np.ndarray], float]) -> float:
        """Average a measure of a true image and an image."""
        return float(np.mean([measure(true, image) for image, true in zip(self.images, self.truth)]))

    def ratio(self, measure: Callable[[np.ndarray], float]) -> float:
        """Return a measure of the images relative to the true images."""
        return float(sum(map(measure, self.images)) / max(sum(map(measure, self.truth)), 1e-9))


def ssim(true: np.ndarray, image: np.ndarray) -> float:
    """Compute the structural similarity of two images uint8."""
    return float(structural_similarity(true, image, channel_axis=2))


def mean_difference(true: np.ndarray, image: np.ndarray) -> float:
    """Compute the mean absolute difference of two images uint8, in grey levels of 255."""
    return float(np.abs(true.astype(float) - image).mean())


def face_psnr(sequence: Sequence) -> float | None:
    """Compute the PSNR within the faces' bounding boxes in dB; None if landmarks are unknown."""
    if sequence.landmarks is None:
        return None
    boxes = map(face_box, sequence.landmarks)
    return float(np.mean([psnr(t[box], i[box]) for i, t, box in zip(sequence.images, sequence.truth, boxes)]))


def flicker(sequence: Sequence) -> float | None:
    """Return the mean absolute difference between the changes of consecutive frames and those of the true images.

    In grey levels of 255; None if no two frames are consecutive.
    """
    indices = sequence.indices
    pairs = [k for k in range(len(indices) - 1) if indices[k + 1] - indices[k] == 1]
    changes = [[faces[k + 1].astype(np.int16) - faces[k] for k in pairs] for faces in sequence[:2]]
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(*changes)])) if pairs else None


def centroid(boundary: np.ndarray) -> np.ndarray:
    """Return x, y of a boundary's centre of mass in a heatmap (64, 64), in pixels."""
    mass = np.clip(boundary, 0, None) ** 2 + 1e-9
    y, x = np.mgrid[0 : boundary.shape[0], 0 : boundary.shape[1]]
    return np.array([(x * mass).sum(), (y * mass).sum()]) / mass.sum()


def mouth_opening(heatmap: np.ndarray) -> float:
    """Return the distance between the inner edges of the lips, in heatmap pixels."""
    lower, upper = (centroid(heatmap[CHANNELS[name]]) for name in ("lower_lip_upper", "upper_lip_lower"))
    return lower[1] - upper[1]


def face_turn(heatmap: np.ndarray) -> float:
    """Return the offset of nose and mouth from the contour's centre in heatmap pixels, which increases with the yaw."""
    left, right = (centroid(heatmap[EYE_CHANNELS[side]].sum(axis=0)) for side in ("left", "right"))
    across = (right - left) / np.linalg.norm(right - left)
    nose, contour = (centroid(heatmap[CHANNELS[name]]) for name in ("nose_base", "face_contour"))
    mouth = centroid(heatmap[MOUTH_CHANNELS].sum(axis=0))
    return float(((nose + mouth) / 2 - contour) @ across)


def gestures(face: Face) -> dict[str, float]:
    """Measure what a face does: distances relative to the distance of the eyes, and the pose in radians.

    Names begin with the action units (AU) of the Facial Action Coding System that they approximate.
    """
    landmarks = face.landmarks
    unit = np.linalg.norm(landmarks[EYES[0].ring].mean(axis=0) - landmarks[EYES[1].ring].mean(axis=0))
    down = landmarks[MOUTH].mean(axis=0) - landmarks[EYE_RINGS].mean(axis=0)
    down /= np.linalg.norm(down)
    brows = landmarks[EYE_RINGS].mean(axis=0) - landmarks[BROWS].mean(axis=0)
    yaw, pitch, roll = angles_of(fit_pose(face.mesh, correction()["canonical"]))

    def distance(first: int, second: int) -> float:
        return float(np.linalg.norm(landmarks[first] - landmarks[second]) / unit)

    gaze = []
    for eye in EYES:
        # offset of the pupil from the middle of the corners, relative to the eye's width
        along = landmarks[eye.corners[1]] - landmarks[eye.corners[0]]
        offset = (landmarks[eye.pupil] - landmarks[list(eye.corners)].sum(axis=0) / 2) / (along @ along)
        gaze.append((offset @ along, offset @ (along[1], -along[0])))
    across, up = np.mean(gaze, axis=0)
    return {
        "AU1/2 brow height": float(brows @ down / unit),
        "AU4 brows together": -distance(*INNER_BROWS),
        "AU12 mouth width": distance(*MOUTH_CORNERS),
        "AU25/26 mouth opening": distance(UPPER_LIP, LOWER_LIP),
        "AU43/45 eyes closed": -float(np.mean([distance(eye.top, eye.bottom) for eye in EYES])),
        "gaze across": float(across),
        "gaze up": float(up),
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
    }


# Field of a synthetic face's expression that corresponds to a gesture, and its sign
EXPRESSION_OF = {
    "AU1/2 brow height": ("brow_raise", 1),
    "AU4 brows together": ("brow_raise", -1),
    "AU12 mouth width": ("smile", 1),
    "AU25/26 mouth opening": ("mouth_open", 1),
    "AU43/45 eyes closed": ("blink", 1),
    "gaze across": ("gaze_x", 1),
    "gaze up": ("gaze_y", -1),
    "yaw": ("yaw", 1),
    "pitch": ("pitch", 1),
    "roll": ("roll", 1),
}


def correlations(of: str, truth: dict[str, list[float]], found: dict[str, list[float]]) -> list[Measure]:
    """Correlate gestures over time, as the paper does intensities of action units: each, and the mean of the AUs."""
    values = {name: correlation(truth[name], found[name]) for name in EXPRESSION_OF}
    measured = [value for name, value in values.items() if name.startswith("AU") and value is not None]
    values[AU_MEAN] = float(np.mean(measured)) if measured else None
    return [Measure(of, name, value, "{:.2f}") for name, value in values.items()]


def sharpness(image: np.ndarray) -> float:
    """Return the mean absolute Laplacian of an image (H, W, 3) uint8, in grey levels."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Laplacian(gray, cv2.CV_32F)).mean())


def comb_energy(image: np.ndarray) -> float:
    """Return an image's energy at horizontal wavelengths of 2 to 2.5 pixels, typical of deconvolutions, in levels^2."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(gray, axis=1)) ** 2 / gray.shape[1]
    return float(spectrum[:, np.fft.rfftfreq(gray.shape[1]) >= 1 / COMB_PX].sum(axis=1).mean())


def correlation(first: list[float], second: list[float]) -> float | None:
    """Compute Pearson's correlation; None if a sequence is constant or too short."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def relative_error(found: list[np.ndarray], truth: list[np.ndarray]) -> float | None:
    """Compute the squared error of heatmaps relative to an all-zero prediction; None if the truth is empty."""
    squares = sum(float((b**2).sum()) for b in truth)
    return sum(float(((a - b) ** 2).sum()) for a, b in zip(found, truth)) / squares if squares else None


def temporal_jitter(heatmaps: list[np.ndarray], indices: list[int] | None = None) -> float | None:
    """Return the mean length of the second difference of each boundary's centre over time, in heatmap pixels.

    Only three consecutive frames count, by the frame numbers `indices` (None: no gaps); None if there are none.
    """
    if len(heatmaps) < 3:
        return None
    centres = np.array([[centroid(boundary) for boundary in heatmap] for heatmap in heatmaps])  # (N, 15, 2)
    is_there = np.array([heatmap.max(axis=(1, 2)) > BLANK for heatmap in heatmaps])  # (N, 15)
    numbers = np.arange(len(heatmaps)) if indices is None else np.array(indices)
    counts = is_there[2:] & is_there[1:-1] & is_there[:-2] & (numbers[2:] - numbers[:-2] == 2)[:, None]
    jumps = np.linalg.norm(np.diff(centres, 2, axis=0), axis=2)[counts]
    return float(jumps.mean()) if len(jumps) else None


IMAGE_MEASURES: tuple[tuple[str, str, Callable[[Sequence], float | None]], ...] = (
    ("PSNR", "{:.2f} dB", lambda s: s.mean(psnr)),
    ("face PSNR", "{:.2f} dB", face_psnr),
    ("SSIM", "{:.3f}", lambda s: s.mean(ssim)),
    ("L1", "{:.2f} of 255", lambda s: s.mean(mean_difference)),
    ("sharpness", "{:.2f}", lambda s: s.ratio(sharpness)),  # relative to the true images
    ("combs", "{:.2f}", lambda s: s.ratio(comb_energy)),  # relative to the true images
    ("flicker", "{:.2f} of 255", flicker),
)


def measure_images(of: str, sequence: Sequence) -> list[Measure]:
    """Compute all image measures; those that need what is unknown are left out."""
    found = [Measure(of, name, measure(sequence), text) for name, text, measure in IMAGE_MEASURES]
    return [measure for measure in found if measure.value is not None]
