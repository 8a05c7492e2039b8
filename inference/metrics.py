"""Metrics of reenactments: of pictures against true ones, of heatmaps, and of what a face does in them."""

from __future__ import annotations

import cv2
import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from datasets.boundary import CHANNELS, IMAGE_SIZE
from datasets.landmarks import Face, angles_of, correction, fit_pose

MAX_PSNR = 100.0  # an identical picture has an infinite one, which would hide all others in the mean
FACE_MARGIN = 0.1
COMB_PX = 2.5
BLANK = 0.1  # a heatmap that stays below this has no line in it

EYES = {side: [CHANNELS[f"{side}_eye_upper"], CHANNELS[f"{side}_eye_lower"]] for side in ("left", "right")}
MOUTH = [channel for name, channel in CHANNELS.items() if "lip" in name]


def face_box(landmarks: np.ndarray) -> tuple[slice, slice]:
    """Return the face about its landmarks (98, 2), with a margin, as slices of a picture."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    margin = FACE_MARGIN * (high - low)
    left, top = np.clip(low - margin, 0, IMAGE_SIZE - 1).astype(int)
    right, bottom = np.clip(high + margin, 1, IMAGE_SIZE).astype(int)
    return slice(top, bottom), slice(left, right)


def psnr(true: np.ndarray, picture: np.ndarray) -> float:
    """Compute the PSNR of a picture uint8 in dB, 100 at most."""
    with np.errstate(divide="ignore"):
        return min(float(peak_signal_noise_ratio(true, picture)), MAX_PSNR)


def compare_pictures(
    pictures: list[np.ndarray],
    truth: list[np.ndarray],
    landmarks: list[np.ndarray] | None = None,
) -> dict[str, float]:
    """Average the differences of pictures (256, 256, 3) uint8 from true ones.

    Args:
        landmarks: of the true faces, (98, 2) each, to compare the face alone as well.

    Returns:
        psnr in dB, ssim, l1 in grey levels of 255, sharpness and comb_energy as shares of the true pictures' and, with
        landmarks, face_psnr in dB.
    """
    pairs = list(zip(pictures, truth))
    means = {
        "psnr": np.mean([psnr(true, picture) for picture, true in pairs]),
        "ssim": np.mean([structural_similarity(true, picture, channel_axis=2) for picture, true in pairs]),
        "l1": np.mean([np.abs(true.astype(float) - picture).mean() for picture, true in pairs]),
    }
    for name, measure in (("sharpness", sharpness), ("comb_energy", comb_energy)):
        means[name] = sum(map(measure, pictures)) / max(sum(map(measure, truth)), 1e-9)
    if landmarks is not None:
        boxes = map(face_box, landmarks)
        means["face_psnr"] = np.mean([psnr(true[box], picture[box]) for (picture, true), box in zip(pairs, boxes)])
    return {name: float(mean) for name, mean in means.items()}


def flicker(pictures: list[np.ndarray], truth: list[np.ndarray], indices: list[int]) -> float | None:
    """Measure by how much pictures change otherwise than true ones from frame to frame, in grey levels of 255.

    Args:
        indices: numbers of the frames; only two in a row count.

    Returns:
        the mean absolute difference of both changes; None where no two frames are in a row.
    """
    pairs = [k for k in range(len(indices) - 1) if indices[k + 1] - indices[k] == 1]
    changes = [[faces[k + 1].astype(np.int16) - faces[k] for k in pairs] for faces in (pictures, truth)]
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(*changes)])) if pairs else None


def centroid(line: np.ndarray) -> np.ndarray:
    """Return x, y of the centre of mass of a boundary (64, 64), in its pixels."""
    mass = np.clip(line, 0, None) ** 2 + 1e-9
    y, x = np.mgrid[0 : line.shape[0], 0 : line.shape[1]]
    return np.array([(x * mass).sum(), (y * mass).sum()]) / mass.sum()


def mouth_opening(heatmap: np.ndarray) -> float:
    """Measure how far the lower lip's upper edge lies below the upper lip's lower edge, in heatmap pixels."""
    lower, upper = (centroid(heatmap[CHANNELS[name]]) for name in ("lower_lip_upper", "upper_lip_lower"))
    return lower[1] - upper[1]


def face_turn(heatmap: np.ndarray) -> float:
    """Measure how far nose base and mouth lie from the middle of the face's contour, in heatmap pixels.

    Along the eyes' line, so that the roll does not count. It grows with the yaw.
    """
    left, right = (centroid(heatmap[EYES[side]].sum(axis=0)) for side in ("left", "right"))
    across = (right - left) / np.linalg.norm(right - left)
    nose, contour = (centroid(heatmap[CHANNELS[name]]) for name in ("nose_base", "face_contour"))
    mouth = centroid(heatmap[MOUTH].sum(axis=0))
    return float(((nose + mouth) / 2 - contour) @ across)


def gestures(face: Face) -> dict[str, float]:
    """Measure what a face does, by its landmarks, in shares of the eyes' distance, and its pose in radians."""
    marks = face.landmarks
    unit = np.linalg.norm(marks[60:68].mean(axis=0) - marks[68:76].mean(axis=0))
    down = marks[76:96].mean(axis=0) - marks[60:76].mean(axis=0)  # from the eyes to the mouth
    down /= np.linalg.norm(down)

    def apart(first: int, second: int) -> float:
        return float(np.linalg.norm(marks[first] - marks[second]) / unit)

    def gaze(first: int, last: int, pupil: int) -> tuple[float, float]:
        """Measure how far the pupil lies from the middle of the eye's corners, across and up, in widths of the eye."""
        along = marks[last] - marks[first]
        off = (marks[pupil] - (marks[first] + marks[last]) / 2) / (along @ along)
        return float(off @ along), float(off @ (along[1], -along[0]))

    left_across, left_up = gaze(60, 64, 96)
    right_across, right_up = gaze(68, 72, 97)
    yaw, pitch, roll = angles_of(fit_pose(face.mesh, correction()["canonical"]))
    return {
        "mouth opening": apart(90, 94),
        "left eye": apart(62, 66),
        "right eye": apart(70, 74),
        "left gaze across": left_across,
        "right gaze across": right_across,
        "left gaze up": left_up,
        "right gaze up": right_up,
        "brows": float((marks[60:76].mean(axis=0) - marks[33:51].mean(axis=0)) @ down / unit),
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
    }


# The same of a synthetic face, as its expression says it; the lids, which a frown moves too, are the nearest there is.
EXPRESSION_OF = {
    "mouth opening": "mouth_open", "left eye": "blink", "right eye": "blink", "brows": "brow_raise",
    "left gaze across": "gaze_x", "right gaze across": "gaze_x", "left gaze up": "gaze_y", "right gaze up": "gaze_y",
    "yaw": "yaw", "pitch": "pitch", "roll": "roll",
}  # fmt: skip
OPPOSITE = ("blink", "gaze_y")  # a lid that is closed is an eye that is not open; a gaze's y points down


def sharpness(picture: np.ndarray) -> float:
    """Measure the mean absolute Laplacian of a picture (H, W, 3) uint8, in grey levels."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Laplacian(gray, cv2.CV_32F)).mean())


def comb_energy(picture: np.ndarray) -> float:
    """Measure the energy of a picture (H, W, 3) uint8 in horizontal waves of 2 to 2.5 pixels, a comb's, in levels^2.

    Deconvolutions of stride 2 make such combs where a discriminator asks for detail.
    """
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(gray, axis=1)) ** 2 / gray.shape[1]
    return float(spectrum[:, np.fft.rfftfreq(gray.shape[1]) >= 1 / COMB_PX].sum(axis=1).mean())


def correlation(first: list[float], second: list[float]) -> float | None:
    """Compute Pearson's correlation; None where one of the two does not change, or there are too few."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def relative_error(found: list[np.ndarray], truth: list[np.ndarray]) -> float | None:
    """Compute the squared error of heatmaps as a share of an all-zero prediction's; None if no line is drawn."""
    squares = sum(float((b**2).sum()) for b in truth)
    return sum(float(((a - b) ** 2).sum()) for a, b in zip(found, truth)) / squares if squares else None


def temporal_jitter(heatmaps: list[np.ndarray], indices: list[int] | None = None) -> float | None:
    """Measure how far boundaries jump from frame to frame beyond an even motion, in heatmap pixels.

    It is the mean length of the second difference of each boundary's centre, as long as the boundary is there.

    Args:
        indices: numbers of the frames; only three in a row count. None has no gaps.

    Returns:
        None where no boundary is there in three frames in a row.
    """
    if len(heatmaps) < 3:
        return None
    centres = np.array([[centroid(line) for line in heatmap] for heatmap in heatmaps])  # (N, 15, 2)
    is_there = np.array([heatmap.max(axis=(1, 2)) > BLANK for heatmap in heatmaps])  # (N, 15)
    numbers = np.arange(len(heatmaps)) if indices is None else np.array(indices)
    counts = is_there[2:] & is_there[1:-1] & is_there[:-2] & (numbers[2:] - numbers[:-2] == 2)[:, None]
    jumps = np.linalg.norm(np.diff(centres, 2, axis=0), axis=2)[counts]
    return float(jumps.mean()) if len(jumps) else None
