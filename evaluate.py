"""Measure a reenactment: encoder, decoder and the chain of them, against whatever truth there is.

    python evaluate.py reenactment_result/<A>2<B>/<run>

Always: does the generated face have the boundaries that were asked for, and does it jitter. Of a data set: the
encoder's heatmaps against drawn ones, the decoder on the target's test frames. Where A is B: the generated face
against the real one. Of synthetic people made with --expressions: the generated face against B with A's expression,
along with baselines. Writes scores.json, a table, and a section of the result's page.
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
from datasets.boundary import HEATMAP_SIZE, NUM_BOUNDARIES, DrawingStyle, style_of
from datasets.celebv import HEATMAP, IMAGE, read_frame, read_person
from datasets.images import write_image
from datasets.landmarks import Face, FaceFinder
from datasets.panels import contact_sheet, evenly, face_picture, generated_mark
from datasets.samples import FrameDataset, open_dataset
from inference.backends import add_backend_argument, open_backend
from inference.geometry import MeanToMean, NeutralToNeutral, Shape, shape_of
from inference.metrics import (
    EXPRESSION_OF,
    OPPOSITE,
    compare_pictures,
    correlation,
    face_turn,
    flicker,
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

SHEET_FILE = "sheet.png"
CHAIN, PAINTED = "chain", "chain, painted with the film"
SHEET_FRAMES = 8
EMPTY = np.zeros((NUM_BOUNDARIES, HEATMAP_SIZE, HEATMAP_SIZE), np.float32)
MAX_FRAMES = 500  # the most that are measured; all of them are held in memory

PictureScores = dict[str, float]  # the keys are `compare_pictures`'s


class Frames(NamedTuple):
    """Hold the frames of a result, in the order of `indices`."""

    indices: list[int]
    total: int  # number in the result, of which these are the first
    drivers: list[np.ndarray]  # (256, 256, 3) uint8
    heatmaps: list[np.ndarray]  # (15, 64, 64), the driver's boundaries
    asked_for: list[np.ndarray]  # (15, 64, 64), moved to the target
    generated: list[np.ndarray]  # (256, 256, 3) uint8
    layouts: list[np.ndarray]  # (256, 256, 3) uint8, the decoder's own images: the same without a film

    @classmethod
    def read(cls, measured: MeasuredFrames) -> Frames:
        """Read all of them."""
        parts = [list(measured.read(part)) for part in ("face", "heatmap", "transformed", "generated")]
        layouts = list(measured.read("layout")) if measured.has_film else parts[-1]
        return cls(measured.indices, measured.total, *parts, layouts)

    @property
    def has_film(self) -> bool:
        """Whether a film painted what was generated."""
        return self.layouts is not self.generated


class Truth(NamedTuple):
    """Hold what the result of synthetic people should have been, and what baselines need."""

    expressions: list[Expression]
    source_landmarks: np.ndarray  # (N, 98, 2)
    target_frames: list[np.ndarray]  # B with A's expression, (256, 256, 3) uint8
    target_landmarks: list[np.ndarray]  # (98, 2)
    shapes: tuple[Shape, Shape]  # A's and B's, by their training frames
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
    """Find the face in each of pictures (256, 256, 3) uint8 that follow each other; None if none is found."""
    finder = FaceFinder(is_video=True)
    found = (finder.find(picture) for picture in tqdm(pictures, desc=f"landmarks of the {whose}", disable=None))
    return [faces[0] if faces else None for faces in found]


class Gestures(NamedTuple):
    """Hold how a result follows its driver."""

    found: float  # share of the generated pictures in which a face is found
    with_driver: dict[str, float | None]  # correlations over time, by gesture
    with_truth: dict[str, float | None]  # the same with what a synthetic driver really does


def measure_gestures(
    drivers: list[Face | None], generated: list[Face | None], expressions: list[Expression] | None = None
) -> Gestures:
    """Compare what driver and result do over time, by the landmarks that are found in both.

    Args:
        drivers, generated: what `find_faces` found in the same frames.
        expressions: what the driver really does, if it is synthetic.
    """
    both = [i for i, pair in enumerate(zip(drivers, generated)) if None not in pair]
    done = [(index, gestures(drivers[index]), gestures(generated[index])) for index in both]
    share = sum(face is not None for face in generated) / len(generated)
    with_driver, with_truth = {}, {}
    for name, part in EXPRESSION_OF.items():
        results = [result[name] for _, _, result in done]
        with_driver[name] = correlation([driver[name] for _, driver, _ in done], results)
        if expressions is not None:
            sign = -1 if part in OPPOSITE else 1
            truth = [sign * getattr(expressions[index], part) for index, _, _ in done]
            with_truth[name] = correlation(truth, results)
    return Gestures(share, with_driver, with_truth)


class Boundaries(NamedTuple):
    """Hold how well a result has the boundaries that were asked for; errors are shares of an all-zero answer's."""

    consistency: float
    jitter_of_source: float | None  # heatmap pixels
    jitter_of_result: float | None


def measure_boundaries(frames: Frames, found: list[np.ndarray]) -> Boundaries:
    """Compare the boundaries found in the result (15, 64, 64) with the ones that were asked for, and over time."""
    return Boundaries(
        relative_error(found, frames.asked_for),
        temporal_jitter(frames.heatmaps, frames.indices),
        temporal_jitter(found, frames.indices),
    )


def paint_all(backend: Backend, heatmaps: Iterable[np.ndarray], words: str) -> list[np.ndarray]:
    """Run the decoder; return pictures (256, 256, 3) uint8."""
    return [face_picture(face) for face in infer_all(backend, "decoder", heatmaps, words)]


def measure_decoder(backend: Backend, config: DecoderConfig, data_dir: Path, target: str, count: int) -> PictureScores:
    """Measure the decoder on the target's own test frames, with boundaries of the kind that it was trained on."""
    dataset = open_dataset(
        with_values(config, {"train_dir": str(data_dir)}), target, "test", (IMAGE, HEATMAP), draw_anew=True
    )
    indices = evenly(len(dataset), count)
    samples = [dataset[index] for index in indices]
    painted = paint_all(backend, (to_float(heatmap) for _, heatmap in samples), "decoder on test frames")
    return compare_pictures(painted, [image.transpose(1, 2, 0) for image, _ in samples])


def baselines(
    truth: Truth, backend: Backend, inputs: list[np.ndarray], heatmaps: list[np.ndarray], style: DrawingStyle
) -> dict[str, list[np.ndarray]]:
    """Make the pictures of each baseline, by name."""
    by_means, by_neutrals = (
        [heatmap_of(geometry.move(marks), style) for marks in truth.source_landmarks]
        for geometry in (MeanToMean(*truth.shapes), NeutralToNeutral(*truth.shapes))
    )
    drawn = (heatmap_of(marks, style) for marks in truth.target_landmarks)
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
    for module, config in configs.items():
        if module == "decoder" and config.trg_celeb_name != record["target"]:
            continue  # it lays out a film of somebody whom it never saw
        is_of_celebv = module != "encoder" or config.dataset == "CelebV" and record["source"] in config.celeb_names
        mode = config.mode
        if mode != "train" and is_of_celebv:
            raise DataError(
                f"{record['configs'][module]}: the {module} trained with 'mode: {mode}', on the test frames, too; "
                "train with 'mode: train', or pass --allow-trained to score it all the same"
            )


def flicker_of(pictures: list[np.ndarray], truth: list[np.ndarray], indices: list[int]) -> PictureScores:
    """Return the flicker of pictures that follow each other, if some do."""
    found = flicker(pictures, truth, indices)
    return {} if found is None else {"flicker": found}


class Across(NamedTuple):
    """Hold a result against what the target with the driver's expression really looks like."""

    scores: dict[str, PictureScores]  # the result's and the baselines', by name
    mouth_opening: float | None  # correlations of the result with the driver over time
    yaw: float | None


def measure_across(
    frames: Frames,
    truth: Truth,
    found: list[np.ndarray],
    inputs: list[np.ndarray],
    backend: Backend,
    style: DrawingStyle,
    sheet: Path,
    target: str,
) -> Across:
    """Measure the result of synthetic people against the truth, along with baselines; write a sheet of pictures."""
    pictures = {CHAIN: frames.layouts} | ({PAINTED: frames.generated} if frames.has_film else {})
    pictures |= baselines(truth, backend, inputs, frames.heatmaps, style)
    rows = [inputs, truth.target_frames, frames.generated]
    rows += [pictures["decoder without transformer"], pictures["true boundary, decoder"]]
    write_sheet(sheet, rows, generated_mark(f"faces of {target} from row 3 on"))
    scores = {
        name: compare_pictures(faces, truth.target_frames, truth.target_landmarks) for name, faces in pictures.items()
    }
    for name in (CHAIN, PAINTED)[: 1 + frames.has_film]:
        scores[name] |= flicker_of(pictures[name], truth.target_frames, frames.indices)
    return Across(
        scores,
        correlation([mouth_opening(h) for h in found], [e.mouth_open for e in truth.expressions]),
        correlation([face_turn(h) for h in found], [e.yaw for e in truth.expressions]),
    )


class Scores(NamedTuple):
    """Hold everything that was measured; what a result has no truth for is None."""

    frames: int  # measured ones
    reenacted: int
    boundaries: Boundaries
    gestures: Gestures
    encoder_error: float | None = None  # share of an all-zero prediction's
    decoder: PictureScores | None = None  # on the target's own test frames
    self_reenactment: PictureScores | None = None
    self_without_film: PictureScores | None = None
    across: Across | None = None


def evaluate(result_dir: Path, record: dict[str, Any], configs: dict[str, Config], backend: Backend) -> Scores:
    """Measure a result by all that is known of it."""
    frames = Frames.read(MeasuredFrames(result_dir, MAX_FRAMES))
    faces, style = find_faces(frames.generated, "result"), style_of(configs["decoder"])
    if "encoder" in configs:
        pictures = (to_float(picture.transpose(2, 0, 1)) for picture in frames.generated)
        found = infer_all(backend, "encoder", pictures, "encoder on the result")
    else:
        found = [EMPTY if face is None else heatmap_of(face.landmarks, style) for face in faces]
    boundaries = measure_boundaries(frames, found)
    drivers = find_faces(frames.drivers, "driver")
    if record["input"]:  # nothing is known of it but itself
        return Scores(len(found), frames.total, boundaries, measure_gestures(drivers, faces))

    data_dir, source, target = Path(record["data_dir"]), record["source"], record["target"]
    images = FrameDataset(data_dir, source, "test")
    inputs = [images[index][0].transpose(1, 2, 0) for index in frames.indices]
    encoder_error = across = track = None
    if "encoder" in configs:
        landmarks = read_person(data_dir, source, "test").landmarks
        drawn = [heatmap_of(landmarks[index], style) for index in frames.indices]
        encoder_error = relative_error(frames.heatmaps, drawn)
    if has_expressions(data_dir, source):
        every = expressions_of(data_dir, source, "test")
        track = [every[index] for index in frames.indices]

    def compare(pictures: list[np.ndarray]) -> PictureScores:
        return compare_pictures(pictures, inputs) | flicker_of(pictures, inputs, frames.indices)

    is_own = configs["decoder"].trg_celeb_name == target  # else it only lays out
    if source != target and track is not None and has_expressions(data_dir, target):
        truth = make_truth(data_dir, source, target, len(found))
        across = measure_across(frames, truth, found, inputs, backend, style, result_dir / SHEET_FILE, target)
    return Scores(
        len(found),
        frames.total,
        boundaries,
        measure_gestures(drivers, faces, track),
        encoder_error,
        measure_decoder(backend, configs["decoder"], data_dir, target, len(found)) if is_own else None,
        compare(frames.generated) if source == target else None,
        compare(frames.layouts) if source == target and frames.has_film else None,
        across,
    )


def to_json(scores: Scores) -> dict[str, Any]:
    """Return what scores.json holds; measures that there were not are left out."""
    found: dict[str, Any] = {
        "frames": scores.frames,
        "reenacted": scores.reenacted,
        "boundary_consistency": scores.boundaries.consistency,
        "temporal_jitter": {
            "source": scores.boundaries.jitter_of_source,
            "result": scores.boundaries.jitter_of_result,
        },
        "gestures": scores.gestures._asdict(),
        "encoder_error": scores.encoder_error,
        "decoder": scores.decoder,
        "self_reenactment": scores.self_reenactment,
        "self_without_film": scores.self_without_film,
    }
    if scores.across is not None:
        found["scores"] = scores.across.scores
        found["follows"] = {"mouth_opening": scores.across.mouth_opening, "yaw": scores.across.yaw}
    return {name: value for name, value in found.items() if value is not None}


def number(value: float | None, digits: int) -> str:
    """Write a score; None is one that could not be measured."""
    return "not measured" if value is None else f"{value:.{digits}f}"


def lines_of(record: dict[str, Any], scores: Scores) -> list[tuple[str, str]]:
    """Write the scores as a name and a value a row."""
    boundaries, found = scores.boundaries, scores.gestures
    held = record["frames"] - scores.reenacted
    first = "" if scores.frames == scores.reenacted else f", the first of {scores.reenacted}"
    jitters = (boundaries.jitter_of_source, boundaries.jitter_of_result)
    rows = [
        ("frames", f"{scores.frames}{first}" + (f", without {held} in which a result is held" if held else "")),
        ("boundaries of the result against those asked for, share of an all-zero prediction's error",
         number(boundaries.consistency, 3)),
        ("temporal jitter of the source / of the result, px of 64", " / ".join(number(j, 3) for j in jitters)),
    ]  # fmt: skip
    if scores.encoder_error is not None:
        rows.append(("encoder, share of an all-zero prediction's error", number(scores.encoder_error, 3)))
    values = "PSNR {psnr:.2f} dB, SSIM {ssim:.3f}, L1 {l1:.2f} of 255, sharpness {sharpness:.2f} and energy at 2 to "
    values += "2.5 px {comb_energy:.2f} of the real one's"
    if scores.decoder is not None:
        rows.append((f"decoder on test frames of {record['target']}", values.format(**scores.decoder)))
    for found_scores, where in ((scores.self_reenactment, ""), (scores.self_without_film, ", without the film")):
        if found_scores is not None:
            flickers = f", flicker {number(found_scores.get('flicker'), 2)} of 255"
            rows.append((f"generated against the real frame{where}", values.format(**found_scores) + flickers))
    if scores.across is not None:
        for name, values in scores.across.scores.items():
            words = "PSNR {psnr:.2f} dB, face {face_psnr:.2f} dB, SSIM {ssim:.3f}, sharpness {sharpness:.2f}"
            words = words.format(**values)
            words += f", flicker {values['flicker']:.2f} of 255" if "flicker" in values else ""
            rows.append((f"{name}, against the true target", words))
    rows.append(("a face is found in the result", f"{100 * found.found:.0f} % of the frames"))
    for correlations, words in ((found.with_driver, "driver"), (found.with_truth, "driver's true expression")):
        values = ", ".join(f"{name} {number(value, 2)}" for name, value in correlations.items())
        if values:
            rows.append((f"the result follows the {words}, correlations over time", values))
    if scores.across is not None:
        mouth, yaw = number(scores.across.mouth_opening, 2), number(scores.across.yaw, 2)
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
    write_text(args.result_dir / SCORES_FILE, json.dumps(to_json(scores), indent=1, allow_nan=False) + "\n")
    sheet = None
    if scores.across is not None:
        print(f"sheet (source, truth, chain, without transformer, true boundary): {args.result_dir / SHEET_FILE}")
        words = "Source, truth, result, decoder without transformer, decoder on true boundaries"
        sheet = {"file": SHEET_FILE, "words": words}
    add_scores(args.result_dir, record, rows, sheet)
    print(f"scores: {args.result_dir / SCORES_FILE}, page: {args.result_dir / 'index.html'}")


if __name__ == "__main__":
    call_main(main)
