"""Measure a reenactment: encoder, decoder and the whole chain, against all known truth.

    python evaluate.py reenactment_result/<A>2<B>/<run>

Every result: whether the generated face has the requested boundaries, follows the source, and is stable over time. Of a
data set: the encoder's heatmaps against drawn ones, and the decoder on the target's test frames. If A is B: the
generated face against the real one. Of synthetic people made with --expressions: the generated face against B with A's
expression, with baselines. Writes scores.json, a table, and a section of the result's page.
"""

from __future__ import annotations
from utils.ending import call_main

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from config import Config, load_config, with_values
from datasets.batches import heatmap_of, to_float
from datasets.boundary import HEATMAP_SIZE, NUM_BOUNDARIES, DrawingStyle, style_of
from datasets.celebv import HEATMAP, IMAGE, read_frame, read_person
from datasets.images import write_image
from datasets.panels import contact_sheet, face_image, generated_metadata
from datasets.samples import open_dataset
from faces.finder import Face, FaceFinder
from faces.geometry import MeanToMean, NeutralToNeutral, shape_of
from inference.backends import BACKENDS, Backend, open_backend
from inference.measures import (
    EXPRESSION_OF,
    FOLLOWS,
    Measure,
    Sequence,
    by_subject,
    correlation,
    correlations,
    face_turn,
    gestures,
    measure_images,
    mouth_opening,
    relative_error,
    temporal_jitter,
)
from inference.networks import Trained
from inference.outputs import MeasuredFrames
from inference.record import SCORES_FILE, add_scores, read_record
from synthetic.expressions import Expression, read_expressions
from synthetic.geometry import landmarks_of
from synthetic.painter import render
from synthetic.people import random_identity
from synthetic.truth import expressions_of, has_expressions
from utils import cli
from utils.context import set_context
from utils.errors import DataError
from utils.files import write_text
from utils.sampling import evenly

SHEET_FILE, SHEET_FRAMES = "sheet.png", 8
SHEET_ROWS = "source, truth, result, decoder without transformer, decoder on true boundaries"
MAX_FRAMES = 500  # all frames are kept in memory
RESULT = "result"


class Evaluation(NamedTuple):
    """A result with everything that is needed to measure it."""

    record: dict[str, Any]
    indices: list[int]  # frame numbers
    total: int  # number of frames in the result
    frames: dict[str, list[np.ndarray]]  # by field of `inference.reenactor.Result`
    faces: dict[str, list[Face | None]]  # of `face` and `generated`
    configs: dict[str, Config]
    backend: Backend
    style: DrawingStyle

    @property
    def layouts(self) -> list[np.ndarray]:
        """Return the decoder's own output, (256, 256, 3) uint8 each."""
        return self.frames.get("layout", self.frames["generated"])

    def person(self, role: str) -> str:
        """Return the name of the `source` or the `target`."""
        return self.record[role]

    @property
    def data_dir(self) -> Path:
        """Return the folder of the people."""
        return Path(self.record["data_dir"])

    def infer(self, module: str, inputs: Iterable[np.ndarray], description: str) -> list[np.ndarray]:
        """Run a network on single inputs (C, H, W)."""
        return [self.backend.infer(module, x[None])[0] for x in tqdm(inputs, desc=description, disable=None)]

    def paint(self, heatmaps: Iterable[np.ndarray], description: str) -> list[np.ndarray]:
        """Run the decoder on heatmaps (15, 64, 64); return images (256, 256, 3) uint8."""
        return [face_image(face) for face in self.infer("decoder", heatmaps, description)]


def open_evaluation(folder: Path, record: dict[str, Any], configs: dict[str, Config], backend: Backend) -> Evaluation:
    """Read the frames of a result, and find the faces in them."""
    measured = MeasuredFrames(folder, MAX_FRAMES)
    parts = ["face", "heatmap", "transformed", "generated", *(["layout"] if measured.has_film else [])]
    frames = {part: list(measured.read(part)) for part in parts}
    faces = {part: find_faces(frames[part], part) for part in ("face", "generated")}
    style = style_of(configs["decoder"])
    return Evaluation(record, measured.indices, measured.total, frames, faces, configs, backend, style)


def find_faces(images: list[np.ndarray], description: str) -> list[Face | None]:
    """Find the largest face in consecutive images (256, 256, 3) uint8."""
    finder = FaceFinder(is_video=True)
    found = (finder.find(image) for image in tqdm(images, desc=f"landmarks ({description})", disable=None))
    return [faces[0] if faces else None for faces in found]


def heatmaps_of_result(run: Evaluation) -> list[np.ndarray]:
    """Return the boundaries of the generated faces, by the encoder if available, else drawn from found landmarks."""
    if "encoder" in run.configs:
        images = (to_float(image.transpose(2, 0, 1)) for image in run.frames["generated"])
        return run.infer("encoder", images, "encoder on the result")
    empty = np.zeros((NUM_BOUNDARIES, HEATMAP_SIZE, HEATMAP_SIZE), np.float32)
    return [empty if face is None else heatmap_of(face.landmarks, run.style) for face in run.faces["generated"]]


def measure_boundaries(run: Evaluation, found: list[np.ndarray]) -> list[Measure]:
    """Compare the boundaries of the result with the requested ones, and measure their jitter."""
    jitters = [temporal_jitter(heatmaps, run.indices) for heatmaps in (run.frames["heatmap"], found)]
    subject = "boundaries, error relative to an all-zero prediction, jitter in pixels of 64"
    return [
        Measure(subject, "of the result against the requested ones", relative_error(found, run.frames["transformed"])),
        Measure(subject, "jitter of the source", jitters[0]),
        Measure(subject, "jitter of the result", jitters[1]),
    ]


def measure_gestures(run: Evaluation, expressions: list[Expression] | None = None) -> list[Measure]:
    """Correlate source and result over time, and the result with the true expressions if they are known."""
    sources, results = run.faces["face"], run.faces["generated"]
    share = 100 * sum(face is not None for face in results) / len(results)
    measures = [Measure("a face is found in the result", "in", share, "{:.0f} % of the frames")]
    both = [i for i, pair in enumerate(zip(sources, results)) if None not in pair]

    def of(faces: list[Face | None]) -> dict[str, list[float]]:
        found = [gestures(faces[i]) for i in both]
        return {name: [face[name] for face in found] for name in EXPRESSION_OF}

    result = of(results)
    measures += correlations(FOLLOWS, of(sources), result)
    if expressions is not None:
        truth = {
            name: [sign * getattr(expressions[i], part) for i in both] for name, (part, sign) in EXPRESSION_OF.items()
        }
        measures += correlations("the result follows the true expression, correlations", truth, result)
    return measures


def measure_encoder(run: Evaluation) -> list[Measure]:
    """Compare the encoder's heatmaps with heatmaps drawn from the source's landmarks."""
    landmarks = read_person(run.data_dir, run.person("source"), "test").landmarks
    drawn = [heatmap_of(landmarks[index], run.style) for index in run.indices]
    error = relative_error(run.frames["heatmap"], drawn)
    return [Measure("encoder", "error relative to an all-zero prediction", error)]


def measure_decoder(run: Evaluation) -> list[Measure]:
    """Compare the decoder's output with the target's test frames, with boundaries as in its training."""
    config, target = with_values(run.configs["decoder"], {"train_dir": str(run.data_dir)}), run.person("target")
    dataset = open_dataset(config, target, "test", (IMAGE, HEATMAP), draw_anew=True)
    indices = evenly(len(dataset), len(run.indices))
    samples = [dataset[index] for index in indices]
    painted = run.paint((to_float(heatmap) for _, heatmap in samples), "decoder on test frames")
    truth = [image.transpose(1, 2, 0) for image, _ in samples]
    return measure_images(f"decoder on test frames of {target}", Sequence(painted, truth, []))


def measure_self(run: Evaluation) -> list[Measure]:
    """Compare the result with the real frames of a person that drives itself."""
    frames = run.frames["face"]
    measures = measure_images(RESULT, Sequence(run.frames["generated"], frames, run.indices))
    if "layout" in run.frames:
        measures += measure_images("result without the film", Sequence(run.layouts, frames, run.indices))
    return measures


def measure_across(
    run: Evaluation, found: list[np.ndarray], expressions: list[Expression], sheet: Path
) -> list[Measure]:
    """Compare the result of synthetic people, and baselines, with the target painted with the source's expressions.

    `found` are the boundaries of the result; some frames are written to `sheet`.
    """
    target = run.person("target")
    identity = random_identity(read_expressions(run.data_dir / target)[1])
    truth = [render(identity, expression)[0] for expression in expressions]
    landmarks = [landmarks_of(identity, expression) for expression in expressions]
    images = {"chain": run.layouts} | (
        {"chain, painted with the film": run.frames["generated"]} if "layout" in run.frames else {}
    )
    baselines = paint_baselines(run, landmarks)
    measures = []
    for name, generated in (images | baselines).items():
        indices = run.indices if name in images else []
        measures += measure_images(f"{name}, against the true target", Sequence(generated, truth, indices, landmarks))
    opening = correlation([mouth_opening(h) for h in found], [e.mouth_open for e in expressions])
    turn = correlation([face_turn(h) for h in found], [e.yaw for e in expressions])
    subject = "boundaries of the result follow the true expression, correlations"
    measures += [Measure(subject, "mouth opening", opening, "{:.2f}"), Measure(subject, "yaw", turn, "{:.2f}")]
    rows = [run.frames["face"], truth, run.frames["generated"]]
    rows += [baselines["decoder without transformer"], baselines["true boundary, decoder"]]
    picks = np.linspace(0, len(truth) - 1, min(SHEET_FRAMES, len(truth))).astype(int)
    tiles = [row[index] for row in rows for index in picks]
    write_image(sheet, contact_sheet(tiles, len(picks), tiles[0].shape[0]), generated_metadata(f"faces of {target}"))
    return measures


def paint_baselines(run: Evaluation, true_landmarks: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Return the images of each baseline by name, given the landmarks (98, 2) of the true target."""
    source, target = run.person("source"), run.person("target")
    training = {person: read_person(run.data_dir, person, "train") for person in (source, target)}
    shapes = [shape_of(training[person].landmarks) for person in (source, target)]
    frames = [read_frame(run.data_dir, target, name) for name in training[target].names[::5]]
    mean = np.mean(frames, axis=0).round().astype(np.uint8)
    landmarks = read_person(run.data_dir, source, "test").landmarks[: len(run.indices)]
    moved = {
        f"landmarks moved from {name}, decoder": run.paint(
            (heatmap_of(geometry(*shapes).move(face), run.style) for face in landmarks), name
        )
        for name, geometry in (("mean to mean", MeanToMean), ("neutral to neutral", NeutralToNeutral))
    }
    drawn = (heatmap_of(face, run.style) for face in true_landmarks)
    return {
        "mean target": [mean] * len(run.indices),
        "source copied": run.frames["face"],
        "decoder without transformer": run.paint(run.frames["heatmap"], "without transformer"),
        **moved,
        "true boundary, decoder": run.paint(drawn, "true boundaries"),
    }


def measure(run: Evaluation, sheet: Path) -> list[Measure]:
    """Compute all measures that a result allows."""
    found = heatmaps_of_result(run)
    boundaries = measure_boundaries(run, found)
    if run.record["input"]:
        return boundaries + measure_gestures(run)
    source, target, data_dir = run.person("source"), run.person("target"), run.data_dir
    expressions = None
    if has_expressions(data_dir, source):
        every = expressions_of(data_dir, source, "test")
        expressions = [every[index] for index in run.indices]
    measures = boundaries
    if "encoder" in run.configs:
        measures += measure_encoder(run)
    if run.configs["decoder"].trg_celeb_name == target:  # with a film, the decoder may be anybody's
        measures += measure_decoder(run)
    if source == target:
        measures += measure_self(run)
    elif expressions is not None and has_expressions(data_dir, target):
        measures += measure_across(run, found, expressions, sheet)
    return measures + measure_gestures(run, expressions)


def require_test_frames(configs: dict[str, Config], record: dict[str, Any]) -> None:
    """Check that no network was trained on the test frames. Raises DataError if one was."""
    for module, config in configs.items():
        if module == "decoder" and config.trg_celeb_name != record["target"]:
            continue
        is_of_celebv = module != "encoder" or config.dataset == "CelebV" and record["source"] in config.celeb_names
        if config.mode != "train" and is_of_celebv:
            raise DataError(
                f"{record['configs'][module]}: the {module} was trained with 'mode: {config.mode}', which includes the "
                "test frames; train with 'mode: train', or pass --allow-trained"
            )


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_result = "a result folder in reenactment_result/<A>2<B>/"
    parser.add_argument("result_dir", type=cli.path, metavar="RESULT", help=help_result)
    cli.add_backend_argument(parser, BACKENDS)
    help_trained = "also measure frames that the networks were trained on"
    parser.add_argument("--allow-trained", action="store_true", help=help_trained)
    cli.add_device_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    record = read_record(args.result_dir)
    context = set_context(args.context or "auto", args.device_id or 0, must_have=args.context is not None)
    print(context.message)
    configs = {module: load_config(module, path) for module, path in record["configs"].items()}
    if not args.allow_trained and not record["input"]:
        require_test_frames(configs, record)
    networks = {module: Trained(config, Path(record["weights"][module])) for module, config in configs.items()}
    backend = open_backend(args.backend, context.name, networks, batch_size=1)
    run = open_evaluation(args.result_dir, record, configs, backend)
    sheet = args.result_dir / SHEET_FILE
    measures = measure(run, sheet)
    held = record["frames"] - run.total
    rows = [("frames", f"{len(run.indices)} of {run.total} measured, {held} held")] + by_subject(measures)
    for subject, values in rows:
        print(f"{subject}: {values}")
    scores = [measure._asdict() for measure in measures]
    write_text(args.result_dir / SCORES_FILE, json.dumps(scores, indent=1, allow_nan=False) + "\n")
    add_scores(args.result_dir, rows, {"file": SHEET_FILE, "words": SHEET_ROWS} if sheet.exists() else None)
    if sheet.exists():
        print(f"sheet ({SHEET_ROWS}): {sheet}")
    print(f"scores: {args.result_dir / SCORES_FILE}, page: {args.result_dir / 'index.html'}")


if __name__ == "__main__":
    call_main(main)
