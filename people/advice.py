"""Find out what a video of a person lacks: nobody can be made to do what was never filmed."""

from __future__ import annotations

import numpy as np

from inference.geometry import poses_of

FEW_FRAMES = 400
SEEN_PERCENTILES = (3, 97)  # what happens in fewer frames than these is hardly learned
LEAST_YAW, LEAST_PITCH = np.deg2rad(10), np.deg2rad(5)  # to either side of the middle
LEAST_OPENING = 0.25  # of the mouth, as a share of its width
MOST_SHUT = 0.5  # of the eyes' usual opening, where they are shut
MOUTH = (76, 82)  # corners


def what_is_missing(landmarks: np.ndarray) -> list[str]:
    """Say what a person should also be filmed doing, by the landmarks (N, 98, 2) of its frames, in short sentences."""
    pose = poses_of(landmarks)
    yaw = np.arcsin(pose.rotation[:, 0, 2].clip(-1, 1))
    pitch = np.arcsin(-pose.rotation[:, 1, 2].clip(-1, 1))
    pitch -= np.median(pitch)  # noses differ in length, so that only other frames tell whether a head is raised
    (left, right), (up, down) = (np.percentile(angle, SEEN_PERCENTILES) for angle in (yaw, pitch))
    width = np.linalg.norm(landmarks[:, MOUTH[0]] - landmarks[:, MOUTH[1]], axis=1)
    opening = np.linalg.norm(landmarks[:, 90] - landmarks[:, 94], axis=1) / np.maximum(np.median(width), 1e-6)
    eyes = np.linalg.norm(landmarks[:, [62, 70]] - landmarks[:, [66, 74]], axis=2).mean(axis=1)
    missing = {
        "turn the head to both sides": min(-left, right) < LEAST_YAW,
        "raise and lower the head": min(-up, down) < LEAST_PITCH,
        "open the mouth wide": np.percentile(opening, SEEN_PERCENTILES[1]) < LEAST_OPENING,
        "shut the mouth": np.percentile(opening, SEEN_PERCENTILES[0]) > LEAST_OPENING,
        "shut the eyes for a moment": np.percentile(eyes, SEEN_PERCENTILES[0]) > MOST_SHUT * np.median(eyes),
    }
    words = [words for words, is_missing in missing.items() if is_missing]
    if len(landmarks) < FEW_FRAMES:
        words.append(f"film for longer ({len(landmarks)} usable frames; {FEW_FRAMES} or more are better)")
    return words
