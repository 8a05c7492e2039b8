"""WFLW: faces in the wild with 98 landmarks; cropped here to one 256x256 picture a face."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from datasets.annotations import read_annotations
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, DrawingStyle, draw_boundaries, resize_boundaries
from datasets.images import read_image
from datasets.prepared import PreparedFile

MODES = ("train", "test")
NOSE_TIP = 54
MAX_MARGIN = 0.15
NUM_EXTRAS = 10  # four box values and six attributes


def list_path(root: str | Path, mode: str) -> Path:
    folder = "WFLW_annotations/list_98pt_rect_attr_train_test"
    return Path(root) / folder / f"list_98pt_rect_attr_{mode}.txt"


def crop_face(
    image: np.ndarray, landmarks: np.ndarray, box: np.ndarray, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """The square about the nose that holds the face's box.

    Args:
        image: (H, W, 3) uint8.
        landmarks: (98, 2) in pixels of the image.
        box: xmin, ymin, xmax, ymax.
        margin: share of the half side that is added around.

    Returns:
        (256, 256, 3) uint8, mirrored outward where the square leaves the image, and the landmarks in it.
    """
    center_x, center_y = landmarks[NOSE_TIP]
    reach = max(center_x - box[0], center_y - box[1], box[2] - center_x, box[3] - center_y)
    half = max(reach, 1.0) * (1 + margin)
    left, top = int(np.floor(center_x - half)), int(np.floor(center_y - half))
    side = max(int(np.ceil(2 * half)), 2)
    height, width = image.shape[:2]
    outside = max(-left, -top, left + side - width, top + side - height, 0)
    if outside:
        image = cv2.copyMakeBorder(image, outside, outside, outside, outside, cv2.BORDER_REFLECT_101)
    crop = image[top + outside : top + outside + side, left + outside : left + outside + side]
    scale = IMAGE_SIZE / side
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(crop, (IMAGE_SIZE, IMAGE_SIZE), interpolation=interpolation)
    return resized, (landmarks - (left, top)) * scale


class PreparedFace(NamedTuple):
    saved_name: str  # `train_0.png`
    real_name: str  # path in the data set
    image: np.ndarray  # (3, 256, 256) uint8
    heatmap: np.ndarray  # (15, 64, 64) uint8
    boundaries: np.ndarray  # (15, 256, 256) uint8, the same drawing at full size


def prepare_faces(root: str | Path, mode: str, seed: int, style: DrawingStyle) -> Iterator[PreparedFace]:
    """Crop and draw every face of a list, in its order.

    The list is read and checked at once, the pictures one by one as they are asked for.
    """
    hint = "unpack WFLW_annotations.tar.gz and WFLW_images.tar.gz there"
    faces = read_annotations(list_path(root, mode), NUM_EXTRAS, hint)

    def prepare(index: int) -> PreparedFace:
        name, landmarks, box = faces.names[index], faces.landmarks[index], faces.extras[index, :4]
        margin = np.random.default_rng([seed, index]).uniform(0, MAX_MARGIN)  # each face its own, in any order
        crop, points = crop_face(read_image(Path(root) / "WFLW_images" / name), landmarks, box, margin)
        boundaries = draw_boundaries(points, style=style)
        heatmap = resize_boundaries(boundaries, HEATMAP_SIZE)
        image = np.ascontiguousarray(crop.transpose(2, 0, 1))
        return PreparedFace(f"{mode}_{index}.png", name, image, heatmap, boundaries)

    return map(prepare, range(len(faces)))


class WFLWSource:
    """Prepared crops and heatmaps: samples (image (3, 256, 256), heatmap (15, 64, 64)), uint8."""

    def __init__(self, data_dir: str | Path, mode: str):
        command = f"python preprocess.py --dataset WFLW --mode {mode} --out-dir {data_dir}"
        images = Path(data_dir) / f"WFLW_cropped_image_{mode}.npz"
        heatmaps = Path(data_dir) / f"WFLW_heatmap_{mode}.npz"
        self._images = PreparedFile(images, (3, IMAGE_SIZE, IMAGE_SIZE), command)
        self._heatmaps = PreparedFile(heatmaps, (15, HEATMAP_SIZE, HEATMAP_SIZE), command)
        self._heatmaps.require(self._images.names)

    def __len__(self) -> int:
        return len(self._images.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        name = self._images.names[index]
        return self._images[name], self._heatmaps[name]
