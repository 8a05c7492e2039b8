"""Advice on what a video of a person lacks."""

from __future__ import annotations

import math

import numpy as np

from faces.geometry import poses_of
from faces.landmarks import EYES, LOWER_LIP, MOUTH_CORNERS, UPPER_LIP

FEW_FRAMES, USUAL_FPS = 400, 25
SEEN_PERCENTILES = (3, 97)  # rarer events are hardly learned
LEAST_YAW, LEAST_PITCH = np.deg2rad(10), np.deg2rad(5)  # to either side
LEAST_OPENING = 0.25  # of the mouth relative to its width
MOST_SHUT = 0.5  # of closed eyes relative to the median


def what_is_missing(landmarks: np.ndarray) -> list[str]:
    """Return what a person should also do in the video, given the landmarks (N, 98, 2) of its frames."""
    pose = poses_of(landmarks)
    yaw = np.arcsin(pose.rotation[:, 0, 2].clip(-1, 1))
    pitch = np.arcsin(-pose.rotation[:, 1, 2].clip(-1, 1))
    pitch -= np.median(pitch)  # noses differ in length, so the pitch is relative
    (left, right), (up, down) = (np.percentile(angle, SEEN_PERCENTILES) for angle in (yaw, pitch))
    corners = landmarks[:, MOUTH_CORNERS]
    width = np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)
    opening = np.linalg.norm(landmarks[:, UPPER_LIP] - landmarks[:, LOWER_LIP], axis=1) / np.maximum(
        np.median(width), 1e-6
    )
    tops, bottoms = [eye.top for eye in EYES], [eye.bottom for eye in EYES]
    eyes = np.linalg.norm(landmarks[:, tops] - landmarks[:, bottoms], axis=2).mean(axis=1)
    missing = {
        "turn the head to both sides": min(-left, right) < LEAST_YAW,
        "raise and lower the head": min(-up, down) < LEAST_PITCH,
        "open the mouth wide": np.percentile(opening, SEEN_PERCENTILES[1]) < LEAST_OPENING,
        "shut the mouth": np.percentile(opening, SEEN_PERCENTILES[0]) > LEAST_OPENING,
        "shut the eyes for a moment": np.percentile(eyes, SEEN_PERCENTILES[0]) > MOST_SHUT * np.median(eyes),
    }
    words = [words for words, is_missing in missing.items() if is_missing]
    if len(landmarks) < FEW_FRAMES:
        seconds = math.ceil((FEW_FRAMES - len(landmarks)) / USUAL_FPS)
        words.append(
            f"film for longer, about {seconds} s ({len(landmarks)} usable frames; {FEW_FRAMES} or more are better)"
        )
    return words
