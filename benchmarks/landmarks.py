"""Measure the landmarks of the face mesh on synthetic people, whose landmarks are known; --fit makes the correction.

    python benchmarks/landmarks.py
    python benchmarks/landmarks.py --fit

The measured people are not those of the fit. Errors are means over the 98 landmarks, relative to the distance of
the outer corners of the eyes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.ending import call_main  # noqa: E402

from datasets.boundary import IMAGE_SIZE  # noqa: E402
from faces import finder as landmarks
from faces.follower import CROP_DROP, CROP_SHARE
from synthetic.expressions import Expression, expression_track, random_expression
from synthetic.painter import render  # noqa: E402
from synthetic.people import random_identity
from utils import cli  # noqa: E402
from utils.files import atomic_path  # noqa: E402

FITTED_ON, MEASURED_ON = 1000, 500_000  # first seeds of the people
NUM_MODES = 24
RIDGE = 3.0
MAX_YAW = np.deg2rad(40)
PARTS = {
    "contour": range(33), "brows": range(33, 51), "nose": range(51, 60), "eyes": range(60, 76), "lips": range(76, 96),
}  # fmt: skip
OUTER_CORNERS = (60, 72)


def faces(first_seed: int, count: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray], list[Expression]]:
    """Paint people in all poses; a third are turned by up to 40 degrees."""
    rng = np.random.default_rng(seed)
    images, truths, expressions = [], [], []
    for number in range(count):
        expression = random_expression(rng)
        if number % 3 == 0:
            expression = expression._replace(yaw=float(rng.uniform(-MAX_YAW, MAX_YAW)))
        image, truth = render(random_identity(first_seed + number), expression)
        images.append(image)
        truths.append(truth)
        expressions.append(expression)
    return images, truths, expressions


def meshes_of(images: list[np.ndarray]) -> list[np.ndarray | None]:
    """Fit the mesh to images of one face each."""
    finder = landmarks.FaceFinder()
    half = IMAGE_SIZE / 2
    return [finder._lay_mesh(image, half, half, IMAGE_SIZE) for image in tqdm(images, desc="mesh", disable=None)]


def canonical_head(meshes: np.ndarray, frontal: int) -> np.ndarray:
    """Average the rigid points (N, 478, 3) of a face that looks straight ahead."""
    head = meshes[frontal, list(landmarks.RIGID_MESH)]
    for _ in range(10):
        head = head - head.mean(axis=0)
        head /= np.linalg.norm(head)
        poses = [landmarks.fit_pose(mesh, head) for mesh in meshes]
        head = np.mean(
            [landmarks.straightened(m, p)[list(landmarks.RIGID_MESH)] for m, p in zip(meshes, poses)], axis=0
        )
    head -= head.mean(axis=0)
    return head / np.linalg.norm(head)


def fit(count: int) -> dict[str, np.ndarray]:
    """Fit the correction: the remaining error as a linear function of angles and shape."""
    images, truths, expressions = faces(FITTED_ON, count, seed=0)
    found = [(m, t, e) for m, t, e in zip(meshes_of(images), truths, expressions) if m is not None]
    meshes = np.array([mesh for mesh, _, _ in found])
    fitted = {"canonical": canonical_head(meshes, int(np.argmin([abs(e.yaw) + abs(e.pitch) for _, _, e in found])))}
    poses = [landmarks.fit_pose(mesh, fitted["canonical"]) for mesh in meshes]
    straight = np.array([landmarks.straightened(m, p).reshape(-1) for m, p in zip(meshes, poses)])
    fitted["mean"] = straight.mean(axis=0)
    _, _, modes = np.linalg.svd(straight - fitted["mean"], full_matrices=False)
    fitted["modes"] = modes[:NUM_MODES]
    fitted["deviation"] = ((straight - fitted["mean"]) @ fitted["modes"].T).std(axis=0)
    inputs = np.array([landmarks.features(m, p, fitted) for m, p in zip(meshes, poses)])
    missing = np.array(
        [
            landmarks.to_face_frame(t, p) - landmarks.to_face_frame(landmarks.nearest_points(m), p)
            for (m, t, _), p in zip(found, poses)
        ]
    ).reshape(len(found), -1)
    square = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1])
    fitted["weights"] = np.linalg.solve(square, inputs.T @ missing)
    # centre and size of the image relative to the head, in CelebV's format
    sides = [IMAGE_SIZE / pose.scale for pose in poses]
    centers = [landmarks.to_face_frame(np.array([[IMAGE_SIZE / 2] * 2]), pose)[0] for pose in poses]
    fitted["box_side"] = np.array(np.median(sides) / CROP_SHARE)
    fitted["box_center"] = np.median(centers, axis=0) - (0, CROP_DROP * fitted["box_side"])
    return fitted


def measure(count: int) -> None:
    """Print errors on other people than the fit's, and the share of faces found."""
    images, truths, expressions = faces(MEASURED_ON, count, seed=1)
    finder = landmarks.FaceFinder()
    errors, plain, num_found = [], [], 0
    for image, truth in zip(tqdm(images, desc="finding", disable=None), truths):
        found = finder.find(image)
        num_found += len(found) == 1
        if found:
            unit = np.linalg.norm(truth[OUTER_CORNERS[0]] - truth[OUTER_CORNERS[1]])
            errors.append(np.linalg.norm(found[0].landmarks - truth, axis=1) / unit)
            plain.append(np.linalg.norm(landmarks.nearest_points(found[0].mesh) - truth, axis=1) / unit)
    errors = np.array(errors)
    by_part = ", ".join(f"{name} {errors[:, list(part)].mean():.4f}" for name, part in PARTS.items())
    print(f"{count} people, yaw up to 40 degrees: one face found in {100 * num_found / count:.1f} %")
    print(f"normalised mean error {errors.mean():.4f} (uncorrected {np.mean(plain):.4f}): {by_part}")
    who, track = random_identity(MEASURED_ON - 1), expression_track(100, 5)
    video = [render(who, Expression(*row))[0] for row in track]
    for size in ((512, 512), (1920, 1080)):
        frames = [place(frame, size) for frame in video]
        finder = landmarks.FaceFinder(is_video=True)
        begin = time.perf_counter()
        count_found = sum(len(finder.find(frame)) == 1 for frame in frames)
        rate = len(frames) / (time.perf_counter() - begin)
        print(f"{size[0]}x{size[1]}: {rate:.0f} frames/s on one core, found in {count_found} of {len(frames)}")


def place(face: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Place a face in the middle of a larger image of (width, height), half as high."""
    width, height = size
    picture = np.full((height, width, 3), 110, np.uint8)
    side = height // 2
    top, left = (height - side) // 2, (width - side) // 2
    picture[top : top + side, left : left + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_LINEAR)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="first fit the correction, and write it")
    parser.add_argument("--people", type=cli.whole(10, 10_000), default=300, help="that are measured (300)")
    parser.add_argument("--fit-people", type=cli.whole(100, 10_000), default=1500, help="that are fitted on (1500)")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core
    if args.fit:
        fitted = fit(args.fit_people)
        with atomic_path(landmarks.CORRECTION) as temporary:
            np.savez_compressed(temporary, **{name: array.astype(np.float32) for name, array in fitted.items()})
        landmarks.correction.cache_clear()
        print(f"{landmarks.CORRECTION.name}: {landmarks.CORRECTION.stat().st_size / 1000:.0f} KB")
    measure(args.people)


if __name__ == "__main__":
    call_main(main)
