"""Measure a reenactment: encoder, decoder and the chain of them, against whatever truth there is.

    python evaluate.py reenactment_result/<A>2<B>/<run>

Always: does the generated face have the boundaries that were asked for, and does it jitter. Of a data set: the
encoder's boundaries against drawn ones, the decoder on the target's test frames. Where A is B: the generated face
against the real one. Of synthetic people made with --expressions: the generated face against B with A's expression,
beside baselines. Writes scores.json, a table, and a section of the run's page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tqdm import tqdm

from config import load_config
from datasets.batches import to_float
from datasets.boundary import HEATMAP_SIZE, IMAGE_SIZE, draw_boundaries, resize_boundaries
from datasets.celebv import ENCODER, HEATMAP, IMAGE, CelebVSource, read_frame, read_person
from datasets.images import read_image, write_image
from datasets.synthetic import Expression, landmarks_of, random_identity
from datasets.synthetic_painter import render
from make_synthetic import EXPRESSION_FILE
from utils import cli
from utils.context import set_context
from utils.engine import BACKENDS, Engine, open_engine
from utils.errors import DataError, run
from utils.files import write_text
from utils.page import table
from utils.panels import evenly, face_picture, generated_mark
from utils.result_page import RECORD_FILE, SCORES_FILE, add_scores

SHEET_FILE = "sheet.png"
MAX_PSNR = 100.0  # an identical picture has an infinite one, which would hide all others in the mean
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


def has_expressions(data_dir: Path, person: str) -> bool:
    return (data_dir / person / EXPRESSION_FILE).exists()


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
    psnr, face_psnr, ssim = np.minimum(np.array(rows), MAX_PSNR).mean(axis=0)
    return {"psnr": float(psnr), "face_psnr": float(face_psnr), "ssim": float(ssim)}


def run_all(engine: Engine, module: str, inputs: Iterable[np.ndarray], words: str) -> list[np.ndarray]:
    """A network on single inputs (C, H, W)."""
    return [engine.run(module, x[None])[0] for x in tqdm(inputs, desc=words, disable=None)]


def to_input(image: np.ndarray) -> np.ndarray:
    """(256, 256, 3) uint8 to (3, 256, 256) in [-1, 1]."""
    return to_float(image.transpose(2, 0, 1))


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


def relative_error(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Squared error of heatmaps as a share of what empty ones have."""
    return float(sum(((a - b) ** 2).sum() for a, b in zip(found, truth)) / sum((b**2).sum() for b in truth))


def temporal_jitter(heatmaps: list[np.ndarray]) -> float:
    """How far lines jump from frame to frame beyond an even motion, in heatmap pixels: the mean length of the second
    difference of each line's centre."""
    centres = np.array([[centroid(line) for line in heatmap] for heatmap in heatmaps])  # (N, 15, 2)
    return float(np.linalg.norm(np.diff(centres, 2, axis=0), axis=2).mean()) if len(centres) > 2 else 0.0


def score_pictures(pictures: list[np.ndarray], truth: list[np.ndarray]) -> dict[str, float]:
    """Means over frames: PSNR in dB, SSIM, L1 in grey levels of 255."""
    rows = []
    for picture, true in zip(pictures, truth):
        with np.errstate(divide="ignore"):
            psnr = min(peak_signal_noise_ratio(true, picture), MAX_PSNR)
        ssim = structural_similarity(true, picture, channel_axis=2)
        rows.append((psnr, ssim, np.abs(true.astype(float) - picture).mean()))
    return dict(zip(("psnr", "ssim", "l1"), map(float, np.mean(rows, axis=0))))


def score_decoder(engine: Engine, config: dict[str, Any], data_dir: Path, target: str, count: int) -> dict[str, float]:
    """The decoder on the target's own test frames, with boundaries of the kind that it was trained on."""
    parts, ref_dir = (IMAGE, HEATMAP), config["ref_dir"] if config["boundary"] == ENCODER else ""
    source = CelebVSource(data_dir, target, "test", parts, ref_dir, boundary=config["boundary"])
    indices = evenly(len(source), count)
    samples = [source[index] for index in indices]
    painted = run_all(engine, "decoder", (to_float(heatmap) for _, heatmap in samples), "decoder on test frames")
    truth = [image.transpose(1, 2, 0) for image, _ in samples]
    return score_pictures([face_picture(face) for face in painted], truth)


def baselines(truth: Truth, engine: Engine, inputs: list[np.ndarray], boundaries: list[np.ndarray]) -> dict:
    """Pictures of each baseline by name."""

    def paint(heatmaps: Iterable[np.ndarray], words: str) -> list[np.ndarray]:
        return [face_picture(face) for face in run_all(engine, "decoder", heatmaps, words)]

    moved = (heatmap_of(marks + truth.mean_shift) for marks in truth.source_landmarks)
    drawn = (heatmap_of(marks) for marks in truth.target_landmarks)
    return {
        "mean target": [truth.mean_target] * len(inputs),
        "source copied": inputs,
        "decoder without transformer": paint(boundaries, "without transformer"),
        "mean-shifted landmarks, decoder": paint(moved, "mean-shifted landmarks"),
        "true boundary, decoder": paint(drawn, "true boundaries"),
    }


def write_sheet(path: Path, rows: list[list[np.ndarray]], comment: dict[str, str]) -> None:
    picks = np.linspace(0, len(rows[0]) - 1, min(SHEET_FRAMES, len(rows[0]))).astype(int)
    write_image(path, np.vstack([np.hstack([row[index] for index in picks]) for row in rows]), comment)


def read_run(run_dir: Path) -> dict[str, Any]:
    try:
        what = yaml.safe_load((run_dir / RECORD_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{run_dir}: no {RECORD_FILE} there; name a folder that test_reenactment.py finished") from None
    if what["layout"] != "panel":
        raise DataError(f"{run_dir}: made with --layout {what['layout']}; only panels show what there is to measure")
    return what


def require_unseen(configs: dict[str, dict[str, Any]], what: dict[str, Any]) -> None:
    """Frames that a network trained on say little about it.

    Raises:
        DataError: test frames were among them.
    """
    for module in ("transformer", "decoder"):
        mode = configs[module]["mode"]
        if mode != "train":
            raise DataError(
                f"{what['configs'][module]}: the {module} trained with 'mode: {mode}', on the test frames, too; train "
                "with 'mode: train', or pass --allow-trained to score it all the same"
            )


def evaluate(run_dir: Path, what: dict[str, Any], configs: dict[str, dict[str, Any]], engine: Engine) -> dict[str, Any]:
    """All scores by name; also writes a sheet of pictures where there is a truth across people."""
    data_dir, source, target = Path(what["data_dir"]), what["source"], what["target"]
    panels = [read_image(path) for path in sorted((run_dir / "result").glob("*.png"))]
    left = GENERATED_TILE * IMAGE_SIZE
    inputs = [panel[:, :IMAGE_SIZE] for panel in panels]
    generated = [panel[:, left : left + IMAGE_SIZE] for panel in panels]
    boundaries = run_all(engine, "encoder", map(to_input, inputs), "encoder on the source")
    asked_for = run_all(engine, "transformer", boundaries, "transformer")
    found = run_all(engine, "encoder", map(to_input, generated), "encoder on the result")
    scores: dict[str, Any] = {
        "frames": len(panels),
        "boundary_consistency": relative_error(found, asked_for),
        "temporal_jitter": {"source": temporal_jitter(boundaries), "result": temporal_jitter(found)},
    }
    if what["input"]:
        return scores

    drawn = [heatmap_of(marks) for marks in read_person(data_dir, source, "test").landmarks[: len(panels)]]
    scores["encoder_error"] = relative_error(boundaries, drawn)
    scores["decoder"] = score_decoder(engine, configs["decoder"], data_dir, target, len(panels))
    if source == target:
        scores["self_reenactment"] = score_pictures(generated, inputs)
    elif has_expressions(data_dir, source) and has_expressions(data_dir, target):
        truth = make_truth(data_dir, source, target, len(panels))
        pictures = {CHAIN: generated} | baselines(truth, engine, inputs, boundaries)
        scores["scores"] = {name: score(faces, truth) for name, faces in pictures.items()}
        expressions = truth.expressions
        scores["follows"] = {
            "mouth_opening": correlation([mouth_opening(h) for h in found], [e.mouth_open for e in expressions]),
            "yaw": correlation([face_turn(h) for h in found], [e.yaw for e in expressions]),
        }
        rows = [inputs, truth.target_frames, generated, pictures["decoder without transformer"]]
        rows.append(pictures["true boundary, decoder"])
        write_sheet(run_dir / SHEET_FILE, rows, generated_mark(f"faces of {target} from row 3 on"))
    return scores


def lines_of(what: dict[str, Any], scores: dict[str, Any]) -> list[tuple[str, str]]:
    """What the table says, a name and a value a row."""
    jitter = scores["temporal_jitter"]
    rows = [
        ("frames", str(scores["frames"])),
        ("boundaries of the result against those asked for, share of an empty answer's error",
         f"{scores['boundary_consistency']:.3f}"),
        ("temporal jitter of the source / of the result, px of 64", f"{jitter['source']:.3f} / {jitter['result']:.3f}"),
    ]  # fmt: skip
    if "encoder_error" in scores:
        rows.append(("encoder, share of an empty answer's error", f"{scores['encoder_error']:.3f}"))
    for key, words in (
        ("decoder", f"decoder on test frames of {what['target']}"),
        ("self_reenactment", "generated against the real frame"),
    ):
        if key in scores:
            rows.append((words, "PSNR {psnr:.2f} dB, SSIM {ssim:.3f}, L1 {l1:.2f} of 255".format(**scores[key])))
    for name, values in scores.get("scores", {}).items():
        words = "PSNR {psnr:.2f} dB, face {face_psnr:.2f} dB, SSIM {ssim:.3f}".format(**values)
        rows.append((f"{name}, against the true target", words))
    if "follows" in scores:
        mouth, yaw = scores["follows"]["mouth_opening"], scores["follows"]["yaw"]
        rows.append(("the result follows the source: mouth opening, yaw", f"correlations of {mouth:.2f} and {yaw:.2f}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="a run's folder in reenactment_result/<A>2<B>/")
    help_backend = "what computes (default auto: nnabla on a GPU, on a CPU onnxruntime where it is installed)"
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help=help_backend)
    help_trained = "score frames, too, that the networks trained on"
    parser.add_argument("--allow-trained", action="store_true", help=help_trained)
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    what = read_run(args.run_dir)
    context = set_context(args.context or "auto", args.device_id or 0, must_have=args.context is not None)
    configs = {module: load_config(module, info) for module, info in what["configs"].items()}
    if not args.allow_trained and not what["input"]:
        require_unseen(configs, what)
    networks = {module: (config, Path(what["weights"][module])) for module, config in configs.items()}
    engine = open_engine(args.backend, context, networks, 1)
    scores = evaluate(args.run_dir, what, configs, engine)
    rows = lines_of(what, scores)
    for name, value in rows:
        print(f"{name}: {value}")
    write_text(args.run_dir / SCORES_FILE, json.dumps(scores, indent=1) + "\n")
    sheet = args.run_dir / SHEET_FILE
    section = ["<h2>Scores</h2>", table(rows)]
    if "scores" in scores:
        print(f"sheet (source, truth, chain, without transformer, true boundary): {sheet}")
        words = "Source, truth, result, decoder without transformer, decoder on true boundaries"
        section.append(f'<figure><img src="{SHEET_FILE}" alt="{words}"><figcaption>{words}</figcaption></figure>')
    add_scores(args.run_dir, what, "".join(section))
    print(f"scores: {args.run_dir / SCORES_FILE}, page: {args.run_dir / 'index.html'}")


if __name__ == "__main__":
    run(main)
