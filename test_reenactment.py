"""Reenact: a source person's frames drive the target person's face.

    python test_reenactment.py --encoder-config INFO --transformer-config INFO --decoder-config INFO \\
        --src-celeb-name A --trg-celeb-name B [--video OUT.mp4]
    python test_reenactment.py --encoder-config ... --input me.mp4 --video out.mp4

The first takes the test frames of a data set, the second any video, folder of pictures, picture, or camera (webcam:0).
Writes panels of input, boundary, transformed boundary, generated face and, of a data set, the input's true boundary.
"""

from __future__ import annotations

import argparse
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from config import load_config, source_names
from datasets.batches import to_float
from datasets.celebv import HEATMAP, IMAGE, CelebVSource
from datasets.faces import HAAR, load_detector
from datasets.images import write_image
from datasets.pictures import Camera, FaceFrame, Pictures, faces_of, faces_of_camera
from models.chain import MODULES
from utils import cli
from utils.engine import BACKENDS, PRECISIONS, Engine, open_engine
from utils.errors import ConfigError, DataError, run
from utils.files import new_folder, timestamp
from utils.panels import evenly, face_picture, generated_mark, heatmap_picture, labelled, side_by_side
from utils.parallel import ahead
from utils.result_page import write_result
from utils.testing import count_of, find_all_weights, set_test_context
from utils.video import sound_of, write_preview, write_video

TILE_PX = 256
LAYOUTS = ("panel", "face", "side-by-side")
NO_FACE_CHOICES = ("hold", "skip", "fail")
DATA_SET_FPS = 30
RESULTS_AHEAD = 4
CALIBRATION_FACES = 16
PREVIEW_FPS, PREVIEW_HEIGHT, PREVIEW_MAX_FRAMES = 12.5, 128, 60


class Result(NamedTuple):
    """A frame's pictures, (256, 256, 3) uint8, in the order of a panel."""

    index: int
    time_s: float
    input: np.ndarray
    boundary: np.ndarray
    transformed: np.ndarray
    generated: np.ndarray
    truth: np.ndarray | None  # the input's true boundary, of a data set
    figures: dict[str, float]  # what can be measured on the frame

    def tiles(self, generated: np.ndarray) -> list[np.ndarray]:
        truth = [] if self.truth is None else [self.truth]
        return [self.input, self.boundary, self.transformed, generated, *truth]


class Source(NamedTuple):
    """Where frames come from."""

    frames: Iterator[FaceFrame]
    truth: CelebVSource | None  # true boundaries by the frames' numbers, (15, 64, 64) uint8
    fps: float | Fraction
    count: int | None  # where it is known
    sound: Path | None  # a video that may have some
    is_live: bool
    calibration: Callable[[], Iterable[np.ndarray]]  # some of its faces (3, 256, 256) in [-1, 1]


def check_people(args: argparse.Namespace, configs: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """Source and target: the command line's, which must be those that the networks were trained for.

    Raises:
        ConfigError: the target is somebody else to the transformer or the decoder.
    """
    trained_sources, trained_target = source_names(configs["transformer"]), configs["transformer"]["trg_celeb_name"]
    source, target = args.src_celeb_name or trained_sources[0], args.trg_celeb_name or trained_target
    for module in ("transformer", "decoder"):
        person = configs[module]["trg_celeb_name"]
        if person != target:
            info = getattr(args, f"{module}_config")
            raise ConfigError(f"--trg-celeb-name {target}: the {module} of {info} was trained for {person}")
    if source not in trained_sources:
        print(f"note: the transformer was trained on {', '.join(trained_sources)}; the shape of {source} may be off")
    return source, target


def open_data_set(data_dir: Path, person: str, wanted: int | None, fps: float) -> Source:
    """The test split of a person of CelebV's form."""
    images, truth = (CelebVSource(data_dir, person, "test", (part,)) for part in (IMAGE, HEATMAP))
    count = count_of(wanted, len(images), f"the test split of {person}")
    frames = (FaceFrame(i, images[i][0].transpose(1, 2, 0), "", i / fps) for i in range(count))

    def some_faces() -> Iterator[np.ndarray]:
        return (to_float(images[index][0]) for index in evenly(len(images), CALIBRATION_FACES))

    return Source(frames, truth, fps, count, None, False, some_faces)


def open_input(args: argparse.Namespace) -> Source:
    """Whatever --input names.

    Raises:
        DataError: it cannot be read.
        ResourceError: a camera cannot be opened.
    """
    detector = load_detector(args.detector)
    kind, _, device = args.input.partition(":")
    if kind == "webcam" and (not device or device.isdigit()):
        camera = Camera(int(device or 0))
        end_at_interrupt(camera)
        faces = faces_of_camera(camera, detector, args.face)
        return Source(faces, None, args.fps or camera.fps, args.num, None, True, no_faces)
    pictures = Pictures(Path(args.input), args.fps)
    sound = pictures.path if pictures.is_video and args.audio else None

    def first_faces() -> Iterator[np.ndarray]:
        found = (frame.face for frame in faces_of(pictures, detector, args.face) if frame.face is not None)
        return (to_float(face.transpose(2, 0, 1)) for face in islice(found, 0, 2 * CALIBRATION_FACES, 2))

    frames = faces_of(pictures, detector, args.face)
    return Source(frames, None, pictures.fps, args.num, sound, False, first_faces)


def no_faces() -> Iterator[np.ndarray]:
    raise ConfigError("--precision int8 is calibrated on frames before it starts, which a camera does not have")


def end_at_interrupt(camera: Camera) -> None:
    """Of a camera the first Ctrl-C is the end and no fault; what was seen is written."""

    def end(*_: object) -> None:
        camera.end()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, end)


def first_frames(frames: Iterator[FaceFrame], count: int | None) -> Iterator[FaceFrame]:
    """The first `count` frames."""
    for frame in frames:
        yield frame
        if count is not None and frame.index + 1 == count:
            frames.close()
            return


def in_batches(frames: Iterable[FaceFrame], batch_size: int) -> Iterator[list[FaceFrame]]:
    """Frames in order, with at most so many faces together."""
    batch: list[FaceFrame] = []
    for frame in frames:
        batch.append(frame)
        if sum(item.face is not None for item in batch) == batch_size or frame.face is None:
            yield batch
            batch = []
    if batch:
        yield batch


class Reenactor:
    """Frames to results, in order; boundaries can be steadied over time.

    Args:
        smooth: the share of a boundary that comes from the frame before, from 0 to below 1.
        truth: true boundaries of the frames, where they are a data set's.
        target: who is shown; where it is the source, too, the real frame says how good the result is.
    """

    def __init__(self, engine: Engine, batch_size: int, smooth: float, truth: CelebVSource | None, target: str = ""):
        self.engine, self.batch_size, self.smooth = engine, batch_size, smooth
        self.truth, self.target = truth, target
        self._last_boundary: np.ndarray | None = None

    def run(self, frames: Iterable[FaceFrame]) -> Iterator[Result | FaceFrame]:
        """A result for each frame with a face; a frame without one comes back as it is."""
        for batch in in_batches(frames, self.batch_size):
            seen = [frame for frame in batch if frame.face is not None]
            results = iter(self._run_batch(seen) if seen else ())
            for frame in batch:
                if frame.face is None:
                    self._last_boundary = None
                    yield frame
                else:
                    yield next(results)

    def _run_batch(self, frames: list[FaceFrame]) -> Iterator[Result]:
        # a batch that is not full is filled up with its last frame
        rows = [*frames, *[frames[-1]] * (self.batch_size - len(frames))]
        images = to_float(np.stack([frame.face.transpose(2, 0, 1) for frame in rows]))
        boundary = self.engine.run("encoder", images)
        if self.smooth:
            for row in range(len(frames)):
                if self._last_boundary is not None:
                    boundary[row] += self.smooth * (self._last_boundary - boundary[row])
                self._last_boundary = boundary[row].copy()
        transformed = self.engine.run("transformer", boundary)
        generated = self.engine.run("decoder", transformed)
        for row, frame in enumerate(frames):
            yield self._result(frame, boundary[row], transformed[row], generated[row])

    def _result(self, frame: FaceFrame, boundary: np.ndarray, transformed: np.ndarray, generated: np.ndarray) -> Result:
        truth, figures = None, {}
        if self.truth is not None:
            true_boundary = to_float(self.truth[frame.index][0])
            truth = heatmap_picture(true_boundary)
            squares = float((true_boundary**2).sum())
            # as a share of what an empty answer has
            figures["encoder_error"] = float(((boundary - true_boundary) ** 2).sum()) / squares
            if self.truth.person == self.target:
                figures["psnr"] = cv2.PSNR(face_picture(generated), frame.face)
        pictures = (heatmap_picture(boundary), heatmap_picture(transformed), face_picture(generated))
        return Result(frame.index, frame.time_s, frame.face, *pictures, truth, figures)


class NoFace:
    """What becomes of frames without a face, and how many there were."""

    def __init__(self, choice: str):
        self.choice = choice
        self.reasons: Counter[str] = Counter()
        self.num_faces = 0
        self._last: Result | None = None

    def resolve(self, items: Iterable[Result | FaceFrame]) -> Iterator[Result]:
        """Results alone: the last one held, none, or an error, for each frame that has no face.

        Raises:
            DataError: a frame has no face, and `fail` was chosen.
        """
        for item in items:
            if isinstance(item, Result):
                self.num_faces += 1
                self._last = item
                yield item
                continue
            if self.choice == "fail":
                raise DataError(f"frame {item.index} at {item.time_s:.2f} s: {item.reason}; see --no-face")
            self.reasons[item.reason] += 1
            if self.choice == "hold":
                yield self._held(item)

    def _held(self, frame: FaceFrame) -> Result:
        if self._last is None:  # nothing to hold yet
            empty = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
            return Result(frame.index, frame.time_s, empty, empty, empty, empty, None, {})
        return self._last._replace(index=frame.index, time_s=frame.time_s, figures={})

    def require_some(self, results: Iterable[Result], where: str) -> Iterator[Result]:
        """The results, at whose end there must have been a face.

        Raises:
            DataError: there was none.
        """
        yield from results
        if self.num_faces == 0:
            raise DataError(f"{where}: no usable face in {self.reasons.total()} frames ({self.words()})")

    def words(self) -> str:
        return ", ".join(f"{count} x {reason}" for reason, count in self.reasons.most_common())


def frame_name(index: int) -> str:
    return f"{index:06d}-000.png"


def lay_out(result: Result, layout: str, generated: np.ndarray) -> np.ndarray:
    """(256, W, 3) uint8: the whole panel, the generated face, or it beside the input."""
    if layout == "face":
        return generated
    return side_by_side([result.input, generated] if layout == "side-by-side" else result.tiles(generated))


class Writer:
    """Writes the frames that pass through it, and notes what was measured on them."""

    def __init__(self, folder: Path, mark: dict[str, str], layouts: tuple[str, str], labels: tuple[bool, bool]):
        self.folder, self.mark = folder, mark
        self.layouts, self.labels = layouts, labels  # of the frames, of the video
        self.names: list[str] = []
        self.figures: list[dict[str, float]] = []
        self.previews: list[np.ndarray] = []  # every other of the video's first pictures, reduced

    def write(self, results: Iterable[Result]) -> Iterator[tuple[float, np.ndarray]]:
        """Each frame's time, and its picture for the video."""
        for result in results:
            pictures = [
                lay_out(result, layout, labelled(result.generated) if has_label else result.generated)
                for layout, has_label in zip(self.layouts, self.labels)
            ]
            self.names.append(frame_name(result.index))
            write_image(self.folder / self.names[-1], pictures[0], self.mark)
            self.figures.append(result.figures)
            if len(self.names) % 2 and len(self.previews) < PREVIEW_MAX_FRAMES:
                width = pictures[1].shape[1] * PREVIEW_HEIGHT // TILE_PX
                self.previews.append(cv2.resize(pictures[1], (width, PREVIEW_HEIGHT), interpolation=cv2.INTER_AREA))
            yield result.time_s, pictures[1]


def in_real_time(pictures: Iterable[tuple[float, np.ndarray]], fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """Pictures of a camera, each repeated until the time of the next, so that a video of them runs as they came."""
    written, last = 0, None
    for time_s, picture in pictures:
        for _ in range(max(int(time_s * fps) - written, 1) if last else 0):
            written += 1
            yield last
        last = (time_s, picture)
    if last:
        yield last


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_network_arguments(parser, MODULES)
    parser.add_argument("--src-celeb-name", metavar="A", help="who drives (default: the transformer's source)")
    parser.add_argument("--trg-celeb-name", metavar="B", help="who is shown (default: the transformer's target)")
    help_input = "a video, a folder of pictures, a picture, or webcam[:N], instead of a data set"
    parser.add_argument("--input", metavar="PATH", help=help_input)
    help_face = "with --input: which face, counted from the left (default: the largest)"
    parser.add_argument("--face", type=cli.positive_int, metavar="N", help=help_face)
    help_no_face = "with --input: frames without a face hold the last result, are left out, or are an error"
    parser.add_argument("--no-face", choices=NO_FACE_CHOICES, default="hold", help=help_no_face)
    help_detector = f"with --input: what finds faces, a Python function (default {HAAR})"
    parser.add_argument("--detector", default=HAAR, metavar="MODULE:FUNCTION", help=help_detector)
    help_smooth = "steady boundaries: the share that comes from the frame before, 0 to below 1 (0)"
    parser.add_argument("--smooth", type=cli.share, default=0.0, metavar="S", help=help_smooth)
    parser.add_argument("-n", "--num", type=cli.positive_int, help="number of frames (default: all)")
    parser.add_argument("--batch-size", type=cli.positive_int, default=1, help="frames at a time; the same pictures")
    help_backend = "what computes (default auto: nnabla on a GPU, on a CPU onnxruntime where it is installed)"
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help=help_backend)
    help_precision = "of onnxruntime; int8 is faster and a little worse (docs/BENCHMARKS.md)"
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help=help_precision)
    help_data = "the folder that holds the people (default: the transformer's train_dir)"
    parser.add_argument("--data-dir", type=Path, help=help_data)
    parser.add_argument("--out-dir", type=Path, default=Path("reenactment_result"), help="where results go")
    parser.add_argument("--video", type=Path, metavar="OUT.mp4", help="also write a video")
    help_layout = "what the video, and frames made from --input, show (panel)"
    parser.add_argument("--layout", choices=LAYOUTS, default="panel", help=help_layout)
    help_fps = "frames a second of the video (default: the input's; of a data set 30)"
    parser.add_argument("--fps", type=cli.positive_number, help=help_fps)
    help_audio = "leave the input's sound out of the video"
    parser.add_argument("--no-audio", action="store_false", dest="audio", help=help_audio)
    help_label = "leave out the visible mark 'synthetic' (metadata stay)"
    parser.add_argument("--no-label", action="store_false", dest="label", help=help_label)
    parser.add_argument("--preview", type=Path, metavar="OUT.gif", help="also write the first frames as a small GIF")
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the name of the result folder")
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    for flag, ending in (("video", ".mp4"), ("preview", ".gif")):
        path = getattr(args, flag)
        if path is not None and path.suffix != ending:
            parser.error(f"--{flag} {path}: must end in {ending}")
    if args.input is None and args.face is not None:
        parser.error("--face goes with --input")
    return args


def main() -> None:
    args = parse_args()
    configs = {module: load_config(module, getattr(args, f"{module}_config")) for module in MODULES}
    source_name, target_name = check_people(args, configs)
    context = set_test_context(configs["transformer"], args)
    data_dir = args.data_dir or configs["transformer"]["train_dir"]
    if args.input is None:
        source = open_data_set(data_dir, source_name, args.num, args.fps or DATA_SET_FPS)
    else:
        source = open_input(args)
    weights = find_all_weights(args, configs, source_name)
    batch_size = min(args.batch_size, source.count or args.batch_size)
    networks = {module: (configs[module], weights[module]) for module in MODULES}
    calibration = None if args.precision == "float32" else source.calibration
    engine = open_engine(args.backend, context, networks, batch_size, calibration)

    run_dir = new_folder(args.out_dir / f"{source_name}2{target_name}", timestamp(), args.info)
    mark = generated_mark(f"face of {target_name}, driven by {args.input or source_name}")
    is_input = args.input is not None
    layouts = (args.layout if is_input else "panel", args.layout)
    writer = Writer(run_dir / "result", mark, layouts, (is_input and args.label, args.label))
    no_face = NoFace(args.no_face)
    reenactor = Reenactor(engine, batch_size, args.smooth, source.truth, target_name)
    frames = first_frames(source.frames, source.count)
    try:
        # the next results are computed while one is written
        with ahead(reenactor.run(frames), RESULTS_AHEAD) as items:
            results = tqdm(no_face.resolve(items), total=source.count, unit="frame", disable=None)
            pictures = writer.write(no_face.require_some(results, args.input))
            if source.is_live:
                pictures = in_real_time(pictures, float(source.fps))
            made = write_pictures(args, source, (picture for _, picture in pictures), mark["Comment"])
    finally:
        if no_face.num_faces == 0:
            shutil.rmtree(run_dir)
    what = {
        "source": source_name,
        "target": target_name,
        "input": args.input or "",
        "frames": len(writer.names),
        "faces": no_face.num_faces,
        "data_dir": str(data_dir),
        "layout": layouts[0],
        "backend": engine.name,
        "precision": args.precision,
        "smooth": args.smooth,
        "fps": float(source.fps),
        "video": "" if args.video is None else str(args.video),
        "configs": {module: str(getattr(args, f"{module}_config")) for module in configs},
        "weights": {module: str(path) for module, path in weights.items()},
    }
    write_result(run_dir, what, writer.names, writer.figures)
    print(f"{len(writer.names)} frames of {args.input or source_name} to {target_name}: {writer.folder}")
    if no_face.reasons:
        print(f"frames without a face ({args.no_face}): {no_face.words()}")
    if args.video is not None:
        print(f"video: {args.video}, {made} frames")
    if args.preview is not None:
        write_preview(args.preview, writer.previews, PREVIEW_FPS, mark["Comment"])
        print(f"preview: {args.preview}")
    print(f"look through it: {run_dir / 'index.html'}")


def write_pictures(args: argparse.Namespace, source: Source, pictures: Iterator[np.ndarray], comment: str) -> int:
    """Draw all pictures, into the video where one is wanted; gives their number."""
    if args.video is None:
        return sum(1 for _ in pictures)
    first = next(pictures)
    # frames that are left out would put the sound out of step
    seconds = None if args.num is None else args.num / float(source.fps)
    sound = sound_of(source.sound, seconds) if source.sound and args.no_face != "skip" else nullcontext()
    with sound as track:
        size = (first.shape[1], first.shape[0])
        return write_video(args.video, chain([first], pictures), size, source.fps, comment, track)


if __name__ == "__main__":
    run(main)
