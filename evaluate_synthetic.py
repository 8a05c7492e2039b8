"""Measure a reenactment of synthetic people against the truth, beside baselines.

    python evaluate_synthetic.py reenactment_result/<A>2<B>/<run>

The truth is B drawn with A's expression; it needs the expressions that `make_synthetic.py celebv --expressions`
keeps beside both people.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import nnabla as nn
import numpy as np
import yaml
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tqdm import tqdm

from config import load_config
from datasets.batches import to_float
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, draw_boundaries, resize_boundaries
from datasets.celebv import read_frame, read_person
from datasets.images import read_image, write_image
from datasets.synthetic import Expression, landmarks_of, random_identity
from datasets.synthetic_painter import render
from make_synthetic import EXPRESSION_FILE
from models.decoder import decoder
from models.encoder import boundaries_of, encoder
from utils import cli
from utils.checkpoints import load_parameters
from utils.context import set_context
from utils.errors import DataError, run
from utils.files import write_yaml
from utils.panels import face_picture, generated_mark

FACE_MARGIN = 0.1
GENERATED_TILE = 3  # of a panel, from 0
CHAIN = "chain"
SHEET_FRAMES = 8


class Truth(NamedTuple):
    expressions: list[Expression]
    source_landmarks: np.ndarray  # (N, 98, 2)
    target_frames: list[np.ndarray]  # B with A's expression, (256, 256, 3) uint8
    target_landmarks: list[np.ndarray]  # (98, 2)
    mean_shift: np.ndarray  # (98, 2) mean landmarks of B's training frames less those of A's
    mean_target: np.ndarray  # (256, 256, 3) uint8, the mean of B's training frames


def read_expressions(data_dir: Path, person: str) -> tuple[np.ndarray, int]:
    """(N, 12) expressions of all frames, in the order of all_98pt.txt, and the seed of the identity."""
    path = data_dir / person / EXPRESSION_FILE
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["expressions"], int(file["identity_seed"])
    except (OSError, ValueError, KeyError):
        raise DataError(
            f"{path}: no expressions; make the people with 'make_synthetic.py celebv --expressions'"
        ) from None


def make_truth(data_dir: Path, source: str, target: str, count: int) -> Truth:
    track, _ = read_expressions(data_dir, source)
    _, target_seed = read_expressions(data_dir, target)
    index_of = {name: index for index, name in enumerate(read_person(data_dir, source, "all").names)}
    test = read_person(data_dir, source, "test")
    expressions = [Expression(*map(float, track[index_of[name]])) for name in test.names[:count]]
    who = random_identity(target_seed)
    trained = {person: read_person(data_dir, person, "train") for person in (source, target)}
    mean_source, mean_of_target = (trained[person].landmarks.mean(axis=0) for person in (source, target))
    frames = [read_frame(data_dir, target, name) for name in trained[target].names[::5]]
    return Truth(
        expressions,
        test.landmarks[:count],
        [render(who, expression)[0] for expression in expressions],
        [landmarks_of(who, expression) for expression in expressions],
        mean_of_target - mean_source,
        np.mean(frames, axis=0).round().astype(np.uint8),
    )


def face_box(landmarks: np.ndarray) -> tuple[slice, slice]:
    """The true face with a margin, as slices of a picture."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    margin = FACE_MARGIN * (high - low)
    left, top = np.clip(low - margin, 0, IMAGE_SIZE - 1).astype(int)
    right, bottom = np.clip(high + margin, 1, IMAGE_SIZE).astype(int)
    return slice(top, bottom), slice(left, right)


def score(pictures: list[np.ndarray], truth: Truth) -> dict[str, float]:
    """Means over frames: PSNR in dB of the frame and of the face alone, SSIM."""
    rows = []
    for picture, true, landmarks in zip(pictures, truth.target_frames, truth.target_landmarks):
        box = face_box(landmarks)
        with np.errstate(divide="ignore"):
            psnr, face_psnr = (peak_signal_noise_ratio(true[part], picture[part]) for part in (np.s_[:], box))
        rows.append((psnr, face_psnr, structural_similarity(true, picture, channel_axis=2)))
    # an identical picture has an infinite PSNR, which would hide all others in the mean
    psnr, face_psnr, ssim = np.minimum(np.array(rows), 100).mean(axis=0)
    return {"psnr": float(psnr), "face_psnr": float(face_psnr), "ssim": float(ssim)}


class Painter:
    """The decoder of a reenactment: heatmaps to faces, in evaluation mode."""

    def __init__(self, config: dict[str, Any], weights: Path):
        self.heatmap = nn.Variable((1, 15, HEATMAP_SIZE, HEATMAP_SIZE))
        with nn.parameter_scope("netG_decoder"):
            self.face = decoder(self.heatmap, config["model"]["planes"], training=False)
        load_parameters(weights, "netG_decoder")

    def __call__(self, heatmap: np.ndarray) -> np.ndarray:
        """(15, 64, 64) in [0, 1] to (256, 256, 3) uint8."""
        self.heatmap.d = heatmap
        self.face.forward(clear_buffer=True)
        return face_picture(self.face.d[0])


class Finder:
    """The encoder of a reenactment: faces to heatmaps, in evaluation mode."""

    def __init__(self, config: dict[str, Any], weights: Path):
        self.image = nn.Variable((1, 3, IMAGE_SIZE, IMAGE_SIZE))
        with nn.parameter_scope("encoder"):
            scores = encoder(self.image, batch_stat=False, **config["model"])
        self.heatmap = boundaries_of(scores, config["loss_name"])
        load_parameters(weights, "encoder")

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(256, 256, 3) uint8 to (15, 64, 64)."""
        self.image.d = to_float(picture.transpose(2, 0, 1))
        self.heatmap.forward(clear_buffer=True)
        return self.heatmap.d[0].copy()


def heatmap_of(landmarks: np.ndarray) -> np.ndarray:
    """(15, 64, 64) in [0, 1], drawn."""
    return to_float(resize_boundaries(draw_boundaries(landmarks), HEATMAP_SIZE))


def centroid(heatmap: np.ndarray) -> np.ndarray:
    """x, y of a line's centre of mass in heatmap pixels."""
    mass = np.clip(heatmap, 0, None) ** 2 + 1e-9
    y, x = np.mgrid[0 : heatmap.shape[0], 0 : heatmap.shape[1]]
    return np.array([(x * mass).sum(), (y * mass).sum()]) / mass.sum()


def mouth_opening(heatmap: np.ndarray) -> float:
    """How far the lower lip's upper edge lies below the upper lip's lower edge, in heatmap pixels."""
    return centroid(heatmap[13])[1] - centroid(heatmap[12])[1]


def face_turn(heatmap: np.ndarray) -> float:
    """How far nose base and mouth lie beside the middle of the face's contour, in heatmap pixels, along the eyes'
    line, so that the roll does not count. It grows with the yaw."""
    left, right = (centroid(heatmap[channels].sum(axis=0)) for channels in (slice(7, 9), slice(9, 11)))
    across = (right - left) / np.linalg.norm(right - left)
    nose, mouth, contour = centroid(heatmap[6]), centroid(heatmap[11:15].sum(axis=0)), centroid(heatmap[0])
    return float(((nose + mouth) / 2 - contour) @ across)


def correlation(first: list[float], second: list[float]) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def baselines(truth: Truth, painter: Painter, data_dir: Path, source: str, boundaries: list[np.ndarray]) -> dict:
    """Pictures of each baseline by name."""
    names = read_person(data_dir, source, "test").names[: len(truth.expressions)]
    return {
        "mean target": [truth.mean_target] * len(names),
        "source copied": [read_frame(data_dir, source, name) for name in names],
        "decoder without transformer": [painter(heatmap) for heatmap in boundaries],
        "mean-shifted landmarks, decoder": [
            painter(heatmap_of(marks + truth.mean_shift)) for marks in tqdm(truth.source_landmarks, disable=None)
        ],
        "true boundary, decoder": [painter(heatmap_of(marks)) for marks in tqdm(truth.target_landmarks, disable=None)],
    }


def write_sheet(path: Path, rows: list[list[np.ndarray]], comment: dict[str, str]) -> None:
    picks = np.linspace(0, len(rows[0]) - 1, min(SHEET_FRAMES, len(rows[0]))).astype(int)
    write_image(path, np.vstack([np.hstack([row[index] for index in picks]) for row in rows]), comment)


def read_run(run_dir: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load((run_dir / "reenactment.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{run_dir}: no reenactment.yaml there; name a folder that test_reenactment.py wrote") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="a run's folder in reenactment_result/<A>2<B>/")
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    what = read_run(args.run_dir)
    set_context(args.context or "auto", args.device_id or 0, must_have=args.context is not None)
    data_dir, source, target = Path(what["data_dir"]), what["source"], what["target"]
    truth = make_truth(data_dir, source, target, what["frames"])
    panels = [read_image(args.run_dir / "result" / f"{index:06d}-000.png") for index in range(what["frames"])]
    left = GENERATED_TILE * IMAGE_SIZE
    generated = [panel[:, left : left + IMAGE_SIZE] for panel in panels]

    find = Finder(load_config("encoder", what["configs"]["encoder"]), Path(what["weights"]["encoder"]))
    paint = Painter(load_config("decoder", what["configs"]["decoder"]), Path(what["weights"]["decoder"]))
    boundaries = [find(panel[:, :IMAGE_SIZE]) for panel in tqdm(panels, desc="encoder on the source", disable=None)]
    pictures = {CHAIN: generated} | baselines(truth, paint, data_dir, source, boundaries)
    scores = {name: score(faces, truth) for name, faces in pictures.items()}

    found = [find(face) for face in tqdm(generated, desc="encoder on the result", disable=None)]
    drawn = [heatmap_of(marks) for marks in truth.source_landmarks]
    follows = {
        "mouth_opening": correlation([mouth_opening(h) for h in found], [e.mouth_open for e in truth.expressions]),
        "yaw": correlation([face_turn(h) for h in found], [e.yaw for e in truth.expressions]),
    }
    error = sum(((a - b) ** 2).sum() for a, b in zip(boundaries, drawn)) / sum((b**2).sum() for b in drawn)

    print(f"{source} to {target}, {what['frames']} test frames, against the true target")
    print(f"{'':34}{'PSNR dB':>9}{'face dB':>9}{'SSIM':>8}")
    for name, values in scores.items():
        print(f"{name:34}{values['psnr']:9.2f}{values['face_psnr']:9.2f}{values['ssim']:8.3f}")
    mouth, yaw = follows["mouth_opening"], follows["yaw"]
    print(f"the result follows the source at correlations of {mouth:.2f} (mouth opening) and {yaw:.2f} (yaw)")
    print(f"encoder on the source: {error:.3f} of an all-zero answer's squared error")
    write_yaml(args.run_dir / "scores.yaml", {"scores": scores, "follows": follows, "encoder_error": float(error)})
    rows = [pictures["source copied"], truth.target_frames, generated, pictures["decoder without transformer"]]
    sheet = args.run_dir / "sheet.png"
    write_sheet(sheet, [*rows, pictures["true boundary, decoder"]], generated_mark(f"faces of {target} from row 3 on"))
    print(f"sheet (source, truth, chain, without transformer, true boundary): {sheet}")


if __name__ == "__main__":
    run(main)
