"""Reenact: a source person's frames drive the target person's face.

    python test_reenactment.py --encoder-config INFO --transformer-config INFO --decoder-config INFO \\
        --src-celeb-name A --trg-celeb-name B [--video OUT.mp4]
    python test_reenactment.py --encoder-config ... --input me.mp4 --video out.mp4

    python test_reenactment.py --decoder-config ... --landmarks --input me.mp4 --video out.mp4

The first takes the test frames of a data set, the second any video, folder of pictures, picture, or camera (webcam:0).
The third needs a decoder alone: landmarks that MediaPipe's face mesh finds are moved to the target's face by geometry.
Writes panels of input, boundary, transformed boundary, generated face and, of a data set, the input's true boundary.
"""

from __future__ import annotations

import utils.startup  # first: it reports what cannot be imported

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets.boundary import style_of
from datasets.panels import generated_mark
from inference.backends import add_backend_argument
from inference.film import SIZES, Film, FilmPainter, find_film, load_film
from inference.inputs import Input, end_at_interrupt, open_input, open_test_split
from inference.motion import MAX_STRENGTH, MOTIONS, is_whole
from inference.output import FRAMES_DIR, LAYOUTS, Output, frame_layout, open_output
from inference.pipeline import open_reenactor, results_of
from inference.reenactor import NO_FACE_CHOICES, MissingFaces, Reenactor
from inference.trained import Chain, open_chain
from models.networks import MODULES
from utils import cli
from utils.ending import call_main
from utils.files import check_outputs
from utils.video import MAX_FPS, MIN_FPS

DATA_SET_FPS = 30
MAX_FACES = 100


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_network_arguments(parser, MODULES, required=("decoder",))
    help_landmarks = "take boundaries from landmarks, not from an encoder: a data set's, or those found in --input"
    parser.add_argument("--landmarks", action="store_true", help=help_landmarks)
    for flag, letter, who in (("src", "A", "who drives"), ("trg", "B", "who is shown")):
        help_name = f"{who} (default: the transformer's {'source' if flag == 'src' else 'target'})"
        parser.add_argument(f"--{flag}-celeb-name", type=cli.folder_name, metavar=letter, help=help_name)
    help_input = "a video, a folder of pictures, a picture, or webcam[:N], instead of a data set"
    parser.add_argument("--input", type=cli.text, metavar="PATH", help=help_input)
    help_face = "with --input: which face, counted from the left (default: the largest)"
    parser.add_argument("--face", type=cli.whole(1, MAX_FACES), metavar="N", help=help_face)
    help_no_face = "with --input: frames without a face hold the last result, are left out, or are an error"
    parser.add_argument("--no-face", choices=NO_FACE_CHOICES, default="hold", help=help_no_face)
    help_detector = "with --input: what finds faces, a Python function (default: MediaPipe's face mesh)"
    parser.add_argument("--detector", type=cli.text, metavar="MODULE:FUNCTION", help=help_detector)
    help_smooth = "steady boundaries: the share that comes from the frame before, 0 to below 1; of landmarks while a "
    help_smooth += "face rests, less the faster it moves (default: 0.6 of landmarks found in --input, else 0)"
    parser.add_argument("--smooth", type=cli.share, metavar="S", help=help_smooth)
    cli.add_motion_arguments(parser, MOTIONS, MAX_STRENGTH)
    parser.add_argument("-n", "--num", type=cli.count, help="number of frames (default: all)")
    parser.add_argument("--batch-size", type=cli.batch_size, default=1, help="frames at a time; the same pictures")
    add_backend_argument(parser)
    film = parser.add_mutually_exclusive_group()
    help_film = "paint with frames of this prepared person, a folder or a film.npz; the decoder may be anybody's"
    film.add_argument("--film", type=cli.path, metavar="PERSON", help=help_film)
    help_no_film = "show the decoder's own image, though a film lies in its run"
    film.add_argument("--no-film", action="store_true", help=help_no_film)
    help_size = "pixels of a face that a film paints, if its video has them"
    parser.add_argument("--size", type=int, choices=SIZES, default=max(SIZES), help=help_size)
    help_data = "the folder that holds the people (default: the transformer's train_dir)"
    parser.add_argument("--data-dir", type=cli.path, help=help_data)
    parser.add_argument("--out-dir", type=cli.path, default=Path("reenactment_result"), help="where results go")
    parser.add_argument("--video", type=cli.path, metavar="OUT.mp4", help="also write a video")
    help_layout = "what the video, and frames made from --input, show (panel)"
    parser.add_argument("--layout", choices=LAYOUTS, default="panel", help=help_layout)
    help_fps = "frames a second of the video (default: the input's; of a data set 30)"
    parser.add_argument("--fps", type=cli.number(MIN_FPS, MAX_FPS), help=help_fps)
    help_audio = "leave the input's sound out of the video"
    parser.add_argument("--no-audio", action="store_false", dest="audio", help=help_audio)
    help_label = "leave out the visible mark 'synthetic' (metadata stay)"
    parser.add_argument("--no-label", action="store_false", dest="label", help=help_label)
    parser.add_argument(
        "--preview", type=cli.path, metavar="OUT.gif", help="also write the first frames as a small GIF"
    )
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the name of the result folder")
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    for flag, ending in (("video", ".mp4"), ("preview", ".gif")):
        path = getattr(args, flag)
        if path is not None and path.suffix != ending:
            parser.error(f"--{flag} {path}: must end in {ending}")
    if args.input is None and args.face is not None:
        parser.error("--face goes with --input")
    if args.landmarks == (args.encoder_config is not None):
        parser.error("name one of --encoder-config and --landmarks: boundaries come from an encoder or from landmarks")
    if args.detector and (args.landmarks or args.transformer_config is None):
        parser.error("--detector finds no landmarks, which --landmarks, or doing without --transformer-config, needs")
    if args.input is None and args.transformer_config is None and args.src_celeb_name is None:
        parser.error("--src-celeb-name or --input: without a transformer nobody says who drives")
    if args.encoder_config is not None and not is_whole(args.motion, args.strength):
        parser.error("--motion and --strength choose among landmarks; pass --landmarks instead of --encoder-config")
    inputs = [Path(args.input) if args.input else None]
    inputs += [getattr(args, f"{module}_{what}") for module in MODULES for what in ("config", "param_file")]
    check_outputs({"--video": args.video, "--preview": args.preview, "--out-dir": args.out_dir}, inputs)
    return args


def open_frames(args: argparse.Namespace, chain: Chain) -> Input:
    """Open what `--input` names, or the test split of the source."""
    if args.input is None:
        style = style_of(chain.networks["decoder"].config)
        return open_test_split(chain.data_dir, chain.source, args.num, args.fps or DATA_SET_FPS, style)
    return open_input(args.input, args.detector, args.face, args.fps, args.num, args.audio)


def main() -> None:
    args = parse_args()
    film = None if args.film is None else load_film(args.film)
    chain = open_chain(args, None if film is None else film.person)
    if film is None and not args.no_film:
        film = find_film(chain.networks["decoder"])
    film = None if film is None else film.reduced(args.size)
    frames_in = open_frames(args, chain)
    reenactor = open_reenactor(
        frames_in,
        chain.networks,
        chain.context,
        args.backend,
        args.batch_size,
        args.smooth,
        args.motion,
        args.strength,
        film,
    )
    missing = MissingFaces(args.no_face)
    mark = generated_mark(f"face of {chain.target}, driven by {args.input or chain.source}")
    with end_at_interrupt(frames_in), open_output(args, chain, frames_in, mark, film) as output:
        with results_of(reenactor, frames_in, missing) as results:
            for result in tqdm(results, total=frames_in.count, unit="frame", disable=None):
                output.write(result)
        missing.require_some(args.input)
        output.note(record_of(args, chain, frames_in, reenactor, missing, output.num_frames, film))
    report(args, chain, output, missing, reenactor.film)


def record_of(
    args: argparse.Namespace,
    chain: Chain,
    frames_in: Input,
    reenactor: Reenactor,
    missing: MissingFaces,
    num_frames: int,
    film: Film | None,
) -> dict[str, Any]:
    """Note how a result was made, for evaluate.py and for people."""
    return {
        "source": chain.source,
        "target": chain.target,
        "input": args.input or "",
        "frames": num_frames,
        "faces": missing.num_faces,
        "data_dir": chain.data_dir,
        "layout": frame_layout(args),
        "backend": reenactor.backend.name,
        "smooth": reenactor.smooth,
        "motion": args.motion,
        "strength": args.strength,
        "boundaries": "landmarks" if args.landmarks else "encoder",
        "transfer": "transformer" if "transformer" in chain.networks else "geometry",
        "film": "" if film is None else str(film.path or args.film),
        "turned_beyond_film": 0 if reenactor.film is None else reenactor.film.space.num_turned,
        "fps": float(frames_in.fps),
        "video": str(args.video or ""),
        "configs": {module: str(trained.info) for module, trained in chain.networks.items()},
        "weights": {module: str(trained.weights) for module, trained in chain.networks.items()},
    }


def report(
    args: argparse.Namespace, chain: Chain, output: Output, missing: MissingFaces, film: FilmPainter | None
) -> None:
    """Say what was made, and where it lies."""
    what = f"{args.input or chain.source} to {chain.target}"
    print(f"{output.num_frames} frames of {what}: {output.folder / FRAMES_DIR}")
    if missing.reasons:
        print(f"frames without a face ({args.no_face}): {missing.words()}")
    if film is not None and film.space.num_turned:
        words = "faces turned further than any in the target's film, and shown turned less"
        print(f"{film.space.num_turned} {words}")
    if args.video is not None:
        print(f"video: {args.video}, {output.num_shown} frames")
    if args.preview is not None:
        print(f"preview: {args.preview}")
    print(f"look through it: {output.folder / 'index.html'}")


if __name__ == "__main__":
    call_main(main)
