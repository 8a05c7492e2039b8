"""Measure a reenactment: encoder, decoder and the chain of them, against whatever truth there is.

    python evaluate.py reenactment_result/<A>2<B>/<run>

Always: does the generated face have the boundaries that were asked for, and does it jitter. Of a data set: the
encoder's heatmaps against drawn ones, the decoder on the target's test frames. Where A is B: the generated face
against the real one. Of synthetic people made with --expressions: the generated face against B with A's expression,
beside baselines. Writes scores.json, a table, and a section of the result's page.
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from config import Config, load_config, with_values
from config.config_decoder import DecoderConfig
from datasets.batches import heatmap_of, to_float
from datasets.boundary import HEATMAP_SIZE, NUM_BOUNDARIES
from datasets.celebv import HEATMAP, IMAGE, read_frame, read_person
from datasets.images import write_image
from datasets.landmarks import Face, FaceFinder
from datasets.panels import contact_sheet, evenly, face_picture, generated_mark
from datasets.samples import FrameDataset, open_dataset
from inference.backends import add_backend_argument, open_backend
from inference.geometry import MeanToMean, NeutralToNeutral, Shape, shape_of
from inference.metrics import (
    EXPRESSION_OF,
    compare_pictures,
    correlation,
    face_turn,
    gestures,
    mouth_opening,
    relative_error,
    temporal_jitter,
)
from inference.output import MeasuredFrames
from inference.reenactor import Backend
from inference.result_page import SCORES_FILE, add_scores, read_record
from inference.trained import Trained
from synthetic.painter import render
from synthetic.people import Expression, landmarks_of, random_identity, read_expressions
from synthetic.truth import expressions_of, has_expressions
from utils import cli
from utils.context import set_context
from utils.ending import call_main
from utils.errors import DataError
from utils.files import write_text
from utils.html import table

SHEET_FILE = "sheet.png"
CHAIN = "chain"
SHEET_FRAMES = 8
EMPTY = np.zeros((NUM_BOUNDARIES, HEATMAP_SIZE, HEATMAP_SIZE), np.float32)
MAX_FRAMES = 500  # that are measured; all of them are held in memory


class Truth(NamedTuple):
    """Hold what the result of synthetic people should have been, and what baselines need."""

    expressions: list[Expression]
    source_landmarks: np.ndarray  # (N, 98, 2)
    target_frames: list[np.ndarray]  # B with A's expression, (256, 256, 3) uint8
    target_landmarks: list[np.ndarray]  # (98, 2)
    shapes: tuple[Shape, Shape]  # of A and B, by their training frames
    mean_target: np.ndarray  # (256, 256, 3) uint8, the mean of B's training frames


def make_truth(data_dir: Path, source: str, target: str, count: int) -> Truth:
    """Draw the target with the expressions of the source's first test frames."""
    _, target_seed = read_expressions(data_dir / target)
    test = read_person(data_dir, source, "test")
    expressions = expressions_of(data_dir, source, "test")[:count]
    who = random_identity(target_seed)
    trained = {person: read_person(data_dir, person, "train") for person in (source, target)}
    frames = [read_frame(data_dir, target, name) for name in trained[target].names[::5]]
    return Truth(
        expressions=expressions,
        source_landmarks=test.landmarks[:count],
        target_frames=[render(who, expression)[0] for expression in expressions],
        target_landmarks=[landmarks_of(who, expression) for expression in expressions],
        shapes=tuple(shape_of(trained[person].landmarks) for person in (source, target)),
        mean_target=np.mean(frames, axis=0).round().astype(np.uint8),
    )


def infer_all(backend: Backend, module: str, inputs: Iterable[np.ndarray], words: str) -> list[np.ndarray]:
    """Run a network on single inputs (C, H, W)."""
    return [backend.infer(module, x[None])[0] for x in tqdm(inputs, desc=words, disable=None)]


def find_faces(pictures: list[np.ndarray], whose: str) -> list[Face | None]:
    """Find the face in each of pictures (256, 256, 3) uint8 that follow each other; None where there is none."""
    finder = FaceFinder(is_video=True)
    found = (finder.find(picture) for picture in tqdm(pictures, desc=f"landmarks of the {whose}", disable=None))
    return [faces[0] if faces else None for faces in found]


def measure_gestures(
    drivers: list[Face | None], generated: list[Face | None], expressions: list[Expression] | None = None
) -> dict[str, Any]:
    """Compare what driver and result do over time, by the landmarks that are found in both.

    Args:
        drivers, generated: what `find_faces` found in the same frames.
        expressions: what the driver really does, where it is synthetic; then the result is compared with that, too.

    Returns:
        the share of the generated pictures in which a face is found, and correlations by gesture.
    """
    both = [i for i, pair in enumerate(zip(drivers, generated)) if None not in pair]
    done = [(index, gestures(drivers[index]), gestures(generated[index])) for index in both]
    share = sum(face is not None for face in generated) / len(generated)
    scores: dict[str, Any] = {"found": share, "with_driver": {}, "with_truth": {}}
    for name, part in EXPRESSION_OF.items():
        results = [result[name] for _, _, result in done]
        scores["with_driver"][name] = correlation([driver[name] for _, driver, _ in done], results)
        if expressions is not None:
            sign = -1 if part == "blink" else 1  # a lid that is closed is an eye that is not open
            truth = [sign * getattr(expressions[index], part) for index, _, _ in done]
            scores["with_truth"][name] = correlation(truth, results)
    return scores


def paint_all(backend: Backend, heatmaps: Iterable[np.ndarray], words: str) -> list[np.ndarray]:
    """Run the decoder; gives pictures (256, 256, 3) uint8."""
    return [face_picture(face) for face in infer_all(backend, "decoder", heatmaps, words)]


def measure_decoder(
    backend: Backend, config: DecoderConfig, data_dir: Path, target: str, count: int
) -> dict[str, float]:
    """Measure the decoder on the target's own test frames, with boundaries of the kind that it was trained on."""
    dataset = open_dataset(
        with_values(config, {"train_dir": str(data_dir)}), target, "test", (IMAGE, HEATMAP), draw_anew=True
    )
    samples = [dataset[index] for index in evenly(len(dataset), count)]
    painted = paint_all(backend, (to_float(heatmap) for _, heatmap in samples), "decoder on test frames")
    return compare_pictures(painted, [image.transpose(1, 2, 0) for image, _ in samples])


def baselines(
    truth: Truth, backend: Backend, inputs: list[np.ndarray], heatmaps: list[np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """Make the pictures of each baseline, by name."""
    by_means, by_neutrals = (
        [heatmap_of(geometry.move(marks)) for marks in truth.source_landmarks]
        for geometry in (MeanToMean(*truth.shapes), NeutralToNeutral(*truth.shapes))
    )
    drawn = (heatmap_of(marks) for marks in truth.target_landmarks)
    return {
        "mean target": [truth.mean_target] * len(inputs),
        "source copied": inputs,
        "decoder without transformer": paint_all(backend, heatmaps, "without transformer"),
        "landmarks moved from mean to mean, decoder": paint_all(backend, by_means, "mean to mean"),
        "landmarks moved from neutral to neutral, decoder": paint_all(backend, by_neutrals, "neutral to neutral"),
        "true boundary, decoder": paint_all(backend, drawn, "true boundaries"),
    }


def write_sheet(path: Path, rows: list[list[np.ndarray]], comment: dict[str, str]) -> None:
    """Write some frames of each row of pictures, evenly spread."""
    picks = np.linspace(0, len(rows[0]) - 1, min(SHEET_FRAMES, len(rows[0]))).astype(int)
    pictures = [row[index] for row in rows for index in picks]
    write_image(path, contact_sheet(pictures, len(picks), pictures[0].shape[0]), comment)


def require_unseen(configs: dict[str, Config], record: dict[str, Any]) -> None:
    """Raise if a network trained on the frames, which then say little about it.

    Raises:
        DataError: test frames were among them.
    """
    for module in configs.keys() & {"transformer", "decoder"}:
        mode = configs[module].mode
        if mode != "train":
            raise DataError(
                f"{record['configs'][module]}: the {module} trained with 'mode: {mode}', on the test frames, too; "
                "train with 'mode: train', or pass --allow-trained to score it all the same"
            )


def evaluate(result_dir: Path, record: dict[str, Any], configs: dict[str, Config], backend: Backend) -> dict[str, Any]:
    """Compute all scores by name; also writes a sheet of pictures where there is a truth across people."""
    data_dir, source, target = Path(record["data_dir"]), record["source"], record["target"]
    measured = MeasuredFrames(result_dir, MAX_FRAMES)
    indices, generated = measured.indices, list(measured.read("generated"))
    heatmaps, asked_for = list(measured.read("heatmap")), list(measured.read("transformed"))
    faces = find_faces(generated, "result")
    if "encoder" in configs:
        pictures = (to_float(picture.transpose(2, 0, 1)) for picture in generated)
        found = infer_all(backend, "encoder", pictures, "encoder on the result")
    else:
        found = [EMPTY if face is None else heatmap_of(face.landmarks) for face in faces]
    scores: dict[str, Any] = {
        "frames": len(found),
        "reenacted": measured.total,
        "boundary_consistency": relative_error(found, asked_for),
        "temporal_jitter": {
            "source": temporal_jitter(heatmaps, indices),
            "result": temporal_jitter(found, indices),
        },
    }
    drivers = find_faces(list(measured.read("face")), "driver")
    if record["input"]:
        scores["gestures"] = measure_gestures(drivers, faces)
        return scores

    images = FrameDataset(data_dir, source, "test")
    inputs = [images[index][0].transpose(1, 2, 0) for index in indices]
    landmarks = read_person(data_dir, source, "test").landmarks
    if "encoder" in configs:
        scores["encoder_error"] = relative_error(heatmaps, [heatmap_of(landmarks[index]) for index in indices])
    track = None
    if has_expressions(data_dir, source):
        track = expressions_of(data_dir, source, "test")
        track = [track[index] for index in indices]
    scores["gestures"] = measure_gestures(drivers, faces, track)
    scores["decoder"] = measure_decoder(backend, configs["decoder"], data_dir, target, len(found))
    if source == target:
        scores["self_reenactment"] = compare_pictures(generated, inputs)
    elif has_expressions(data_dir, source) and has_expressions(data_dir, target):
        truth = make_truth(data_dir, source, target, len(found))
        pictures = {CHAIN: generated} | baselines(truth, backend, inputs, heatmaps)
        scores["scores"] = {
            name: compare_pictures(faces, truth.target_frames, truth.target_landmarks)
            for name, faces in pictures.items()
        }
        scores["follows"] = {
            "mouth_opening": correlation([mouth_opening(h) for h in found], [e.mouth_open for e in truth.expressions]),
            "yaw": correlation([face_turn(h) for h in found], [e.yaw for e in truth.expressions]),
        }
        rows = [inputs, truth.target_frames, generated]
        rows += [pictures["decoder without transformer"], pictures["true boundary, decoder"]]
        write_sheet(result_dir / SHEET_FILE, rows, generated_mark(f"faces of {target} from row 3 on"))
    return scores


def number(value: float | None, digits: int) -> str:
    """Write a score; None is one that could not be measured."""
    return "not measured" if value is None else f"{value:.{digits}f}"


def lines_of(record: dict[str, Any], scores: dict[str, Any]) -> list[tuple[str, str]]:
    """Write the scores as a name and a value a row."""
    jitter = scores["temporal_jitter"]
    held = record["frames"] - scores["reenacted"]
    first = "" if scores["frames"] == scores["reenacted"] else f", the first of {scores['reenacted']}"
    words = "temporal jitter of the source / of the result, px of 64"
    rows = [
        ("frames", f"{scores['frames']}{first}" + (f", without {held} in which a result is held" if held else "")),
        ("boundaries of the result against those asked for, share of an all-zero prediction's error",
         number(scores["boundary_consistency"], 3)),
        (words, f"{number(jitter['source'], 3)} / {number(jitter['result'], 3)}"),
    ]  # fmt: skip
    if "encoder_error" in scores:
        rows.append(("encoder, share of an all-zero prediction's error", number(scores["encoder_error"], 3)))
    for key, words in (
        ("decoder", f"decoder on test frames of {record['target']}"),
        ("self_reenactment", "generated against the real frame"),
    ):
        if key in scores:
            values = (
                "PSNR {psnr:.2f} dB, SSIM {ssim:.3f}, L1 {l1:.2f} of 255, sharpness {sharpness:.2f} and energy at 2 to "
                "2.5 px {comb_energy:.2f} of the real one's"
            )
            rows.append((words, values.format(**scores[key])))
    for name, values in scores.get("scores", {}).items():
        words = "PSNR {psnr:.2f} dB, face {face_psnr:.2f} dB, SSIM {ssim:.3f}".format(**values)
        rows.append((f"{name}, against the true target", words))
    found = scores["gestures"]
    rows.append(("a face is found in the result", f"{100 * found['found']:.0f} % of the frames"))
    for key, words in (("with_driver", "driver"), ("with_truth", "driver's true expression")):
        values = ", ".join(f"{name} {number(value, 2)}" for name, value in found[key].items())
        if values:
            rows.append((f"the result follows the {words}, correlations over time", values))
    if "follows" in scores:
        mouth, yaw = (number(scores["follows"][name], 2) for name in ("mouth_opening", "yaw"))
        rows.append(("the result follows the source: mouth opening, yaw", f"correlations of {mouth} and {yaw}"))
    return rows


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_result = "the folder of a result in reenactment_result/<A>2<B>/"
    parser.add_argument("result_dir", type=cli.path, metavar="RESULT", help=help_result)
    add_backend_argument(parser)
    help_trained = "score frames, too, that the networks trained on"
    parser.add_argument("--allow-trained", action="store_true", help=help_trained)
    cli.add_device_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    record = read_record(args.result_dir)
    context = set_context(args.context or "auto", args.device_id or 0, must_have=args.context is not None)
    print(context.message)
    configs = {module: load_config(module, info) for module, info in record["configs"].items()}
    if not args.allow_trained and not record["input"]:
        require_unseen(configs, record)
    networks = {module: Trained(config, Path(record["weights"][module])) for module, config in configs.items()}
    backend = open_backend(args.backend, context.name, networks, batch_size=1)
    scores = evaluate(args.result_dir, record, configs, backend)
    rows = lines_of(record, scores)
    for name, value in rows:
        print(f"{name}: {value}")
    write_text(args.result_dir / SCORES_FILE, json.dumps(scores, indent=1, allow_nan=False) + "\n")
    section = ["<h2>Scores</h2>", table(rows)]
    if "scores" in scores:
        sheet = args.result_dir / SHEET_FILE
        print(f"sheet (source, truth, chain, without transformer, true boundary): {sheet}")
        words = "Source, truth, result, decoder without transformer, decoder on true boundaries"
        section.append(f'<figure><img src="{SHEET_FILE}" alt="{words}"><figcaption>{words}</figcaption></figure>')
    add_scores(args.result_dir, record, "".join(section))
    print(f"scores: {args.result_dir / SCORES_FILE}, page: {args.result_dir / 'index.html'}")


if __name__ == "__main__":
    call_main(main)
