"""WFLW: faces in the wild with 98 landmarks, cropped to 256x256 pixels."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.annotations import read_annotations
from datasets.augment import Transform
from datasets.boundary import (
    HEATMAP_SIZE,
    IMAGE_SIZE,
    NUM_LANDMARKS,
    DrawingStyle,
    draw_heatmap,
    resize_heatmap,
    style_in,
)
from datasets.images import read_image
from datasets.prepared import RECORD_ENDING, PreparedFile, read_record
from faces.crop import Square, cut_square
from utils.errors import DataError

MODES = ("train", "test")
NOSE_TIP = 54
MAX_MARGIN = 0.15
ANNOTATIONS = "WFLW_annotations"
ATTRIBUTES = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")  # 0 or 1, each a subset of the test
NUM_EXTRAS = 4 + len(ATTRIBUTES)  # with the box


def list_path(root: str | Path, mode: str) -> Path:
    """Return the annotation list of a mode."""
    return Path(root) / ANNOTATIONS / f"list_98pt_rect_attr_train_test/list_98pt_rect_attr_{mode}.txt"


def square_about(landmarks: np.ndarray, box: np.ndarray, margin: float, image_size: tuple[int, int]) -> Square:
    """Return the square centred on the nose that contains the face's box.

    Args:
        landmarks: (98, 2) in pixels of the image.
        box: xmin, ymin, xmax, ymax.
        margin: added on each side, relative to half the side.
        image_size: height and width.

    Raises ValueError if the square is mostly outside the image.
    """
    center_x, center_y = landmarks[NOSE_TIP]
    reach = max(center_x - box[0], center_y - box[1], box[2] - center_x, box[3] - center_y)
    half = max(reach, 1.0) * (1 + margin)
    square = Square(int(np.floor(center_x - half)), int(np.floor(center_y - half)), max(int(np.ceil(2 * half)), 2))
    outside = square.outside(image_size)
    if outside > max(image_size):
        height, width = image_size
        raise ValueError(f"the crop extends {outside} pixels beyond an image of {width}x{height}")
    return square


def crop_face(
    image: np.ndarray, landmarks: np.ndarray, box: np.ndarray, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Crop `square_about` a face from an image (H, W, 3) uint8.

    Returns the crop (256, 256, 3) uint8, reflected beyond the image, and its landmarks.
    """
    square = square_about(landmarks, box, margin, image.shape[:2])
    crop = cut_square(image, square, mirror=True)
    return crop, (landmarks - (square.left, square.top)) * (IMAGE_SIZE / square.side)


class PreparedFace(NamedTuple):
    """A cropped face with its heatmaps."""

    image: np.ndarray  # (3, 256, 256) uint8
    heatmap: np.ndarray  # (15, 64, 64) uint8
    large_heatmap: np.ndarray  # (15, 256, 256) uint8
    landmarks: np.ndarray  # (98, 2) in pixels of the crop


class WFLWFaces:
    """Crops and heatmaps of a list's faces. The margin of each is a function of seed and index.

    Raises DataError if list or images are missing or damaged, or a face is far outside its image.
    """

    def __init__(self, root: str | Path, mode: str, seed: int, style: DrawingStyle = DrawingStyle()):
        self.root, self.mode, self.seed, self.style = Path(root), mode, seed, style
        hint = "unpack WFLW_annotations.tar.gz and WFLW_images.tar.gz there"
        self.list = list_path(root, mode)
        self.names, self.landmarks, self._extras = read_annotations(self.list, NUM_EXTRAS, hint)

    def __len__(self) -> int:
        return len(self.names)

    def saved_name(self, index: int) -> str:
        """Return the name of a face in the npz files."""
        return f"{self.mode}_{index}.png"

    def image_path(self, index: int) -> Path:
        """Return the image of a face."""
        return self.root / "WFLW_images" / self.names[index]

    def __getitem__(self, index: int) -> PreparedFace:
        margin = np.random.default_rng([self.seed, index]).uniform(0, MAX_MARGIN)
        image = read_image(self.image_path(index))
        try:
            crop, points = crop_face(image, self.landmarks[index], self._extras[index, :4], margin)
        except ValueError as error:
            raise DataError(f"{self.list}: face {index} ({self.names[index]}): {error}; correct or remove it") from None
        large = draw_heatmap(points, style=self.style)
        heatmap = resize_heatmap(large, HEATMAP_SIZE)
        return PreparedFace(np.ascontiguousarray(crop.transpose(2, 0, 1)), heatmap, large, points)


def prepared_paths(folder: Path, mode: str) -> tuple[Path, Path, Path]:
    """Return the npz files of the crops, of their heatmaps and of their landmarks."""
    names = ("cropped_image", "heatmap", "landmarks")
    return tuple(folder / f"WFLW_{name}_{mode}.npz" for name in names)


def record_path(folder: Path, mode: str) -> Path:
    """Return the record of a list's npz files."""
    return folder / f"WFLW_{mode}{RECORD_ENDING}"


def prepared_drawing(data_dir: str | Path) -> str:
    """Return the drawing style of the prepared files."""
    return style_in(read_record(record_path(Path(data_dir), "train"))).name


def open_landmarks(data_dir: str | Path, mode: str) -> PreparedFile:
    """Open the landmarks of prepared crops, (98, 2) float32 in pixels. Raises DataError if they are missing."""
    path = prepared_paths(Path(data_dir), mode)[2]
    return PreparedFile(path, (NUM_LANDMARKS, 2), _command(data_dir, mode), np.float32)


def _command(data_dir: str | Path, mode: str) -> str:
    return f"python preprocess.py --dataset WFLW --mode {mode} --out-dir {data_dir}"


class WFLWDataset:
    """Prepared crops and heatmaps: samples (image (3, 256, 256), heatmap (15, 64, 64)), uint8.

    Raises DataError if files are missing, damaged, or of another drawing style.
    """

    def __init__(
        self, data_dir: str | Path, mode: str, style: DrawingStyle = DrawingStyle(), with_landmarks: bool = False
    ):
        self.mode, self.style = mode, style
        command = _command(data_dir, mode)
        drawn = style_in(read_record(record_path(Path(data_dir), mode)))
        if drawn != style:
            raise DataError(
                f"{data_dir}: WFLW is prepared with 'drawing: {drawn}', not '{style}'; "
                f"run '{command} --drawing {style.name}', or change drawing or preprocess"
            )
        images, heatmaps, _ = prepared_paths(Path(data_dir), mode)
        self._images = PreparedFile(images, (3, IMAGE_SIZE, IMAGE_SIZE), command)
        self._heatmaps = PreparedFile(heatmaps, (15, HEATMAP_SIZE, HEATMAP_SIZE), command)
        self._heatmaps.require(self._images.names)
        self._landmarks = open_landmarks(data_dir, mode) if with_landmarks else None
        if self._landmarks:
            self._landmarks.require(self._images.names)

    def identity(self) -> dict[str, str | int]:
        """Return number, description and digest of the samples, by which a resumed run recognizes them."""
        digest = hashlib.sha256(f"{self._images.digest()} {self._heatmaps.digest()}".encode())
        return {"count": len(self), "what": f"WFLW {self.mode}, prepared", "digest": digest.hexdigest()}

    def __len__(self) -> int:
        return len(self._images.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        name = self._images.names[index]
        return self._images[name], self._heatmaps[name]

    def landmarks(self, index: int) -> np.ndarray:
        """Return the landmarks (98, 2) of a sample in pixels of the crop."""
        return self._landmarks[self._images.names[index]]

    def augmented(self, index: int, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
        """Return a transformed sample."""
        name = self._images.names[index]
        large = draw_heatmap(transform.landmarks(self.landmarks(index)), style=self.style)
        return transform.image(self._images[name]), resize_heatmap(large, HEATMAP_SIZE)
