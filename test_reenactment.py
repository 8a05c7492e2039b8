"""Reenact: frames of a source person drive the face of a target person.

    python test_reenactment.py --encoder-config INFO --transformer-config INFO --decoder-config INFO \\
        --src-celeb-name A --trg-celeb-name B [--video OUT.mp4]
    python test_reenactment.py --encoder-config ... --input me.mp4 --video out.mp4
    python test_reenactment.py --encoder-config ... --aligned images/
    python test_reenactment.py --decoder-config ... --landmarks --input me.mp4 --video out.mp4

The first command uses the test frames of a data set, the second a video, a folder of images, an image, or a camera
(webcam:0). The third uses images that are cropped already, as in the authors' test. The fourth needs only a decoder:
MediaPipe finds landmarks, and geometry moves them to the target. Writes panels of input, boundary, transformed
boundary, generated face and, for a data set, the input's true boundary.
"""

from __future__ import annotations
from utils.ending import call_main

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from datasets.boundary import style_of
from datasets.film import SIZES, Film, load_film
from datasets.panels import generated_metadata
from faces.motion import MAX_STRENGTH, MOTIONS, is_whole
from inference.backends import BACKENDS
from inference.inputs import Input, end_at_interrupt, open_aligned, open_input, open_test_split
from inference.networks import Networks, find_trained, require_one_drawing
from inference.outputs import FRAMES_DIR, LAYOUTS, Output, OutputOptions, open_output
from inference.reenactor import NO_FACE_CHOICES, MissingFaces, Reenactor, open_reenactor, results_of
from models.networks import MODULES
from utils import cli
from utils.context import set_configured_context
from utils.errors import ConfigError
from utils.files import check_outputs
from utils.video import MAX_FPS, MIN_FPS

DATA_SET_FPS = 30


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_network_arguments(parser, MODULES, required=("decoder",))
    help_landmarks = "draw boundaries from landmarks instead of an encoder: a data set's, or found in --input"
    parser.add_argument("--landmarks", action="store_true", help=help_landmarks)
    help_source = "name of the source (default: the transformer's source)"
    parser.add_argument("--src-celeb-name", type=cli.folder_name, metavar="A", help=help_source)
    help_target = "name of the target (default: the transformer's or the decoder's target)"
    parser.add_argument("--trg-celeb-name", type=cli.folder_name, metavar="B", help=help_target)
    help_input = "a video, a folder of images, an image, or webcam[:N] instead of a data set"
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--input", type=cli.text, metavar="PATH", help=help_input)
    help_aligned = "256x256 faces that are taken as they are and keep their names: a folder, or a list of paths"
    source.add_argument("--aligned", type=cli.path, metavar="PATH", help=help_aligned)
    help_face = "with --input: number of the face, counted from the left (default: the largest)"
    parser.add_argument("--face", type=cli.whole(1, cli.MAX_FACES), metavar="N", help=help_face)
    help_no_face = "with --input: frames without a face repeat the last result, are left out, or are an error"
    parser.add_argument("--no-face", choices=NO_FACE_CHOICES, default="hold", help=help_no_face)
    help_smooth = "temporal smoothing: weight of the previous frame, 0 to below 1 "
    help_smooth += "(default: 0.6 for landmarks found in --input, else 0)"
    parser.add_argument("--smooth", type=cli.share, metavar="S", help=help_smooth)
    cli.add_motion_arguments(parser, MOTIONS, MAX_STRENGTH)
    parser.add_argument("-n", "--num-test", type=cli.count, metavar="N", help="number of frames (default: all)")
    parser.add_argument("--batch-size", type=cli.batch_size, default=1, help="frames per batch (1)")
    cli.add_backend_argument(parser, BACKENDS)
    film = parser.add_mutually_exclusive_group()
    help_film = "paint with frames of this prepared person (a folder or a film.npz); the decoder may be anybody's"
    film.add_argument("--film", type=cli.path, metavar="PERSON", help=help_film)
    film.add_argument("--no-film", action="store_true", help="show the decoder's output even if the run has a film")
    help_size = "maximum size of a face painted with a film, in pixels"
    parser.add_argument("--size", type=int, choices=SIZES, default=max(SIZES), help=help_size)
    help_data = "folder of the people (default: the transformer's train_dir)"
    parser.add_argument("--data-dir", type=cli.path, help=help_data)
    parser.add_argument("--out-dir", type=cli.path, default=Path("reenactment_result"), help="folder of the results")
    parser.add_argument("--video", type=cli.path, metavar="OUT.mp4", help="also write a video")
    help_layout = "content of the video, and of frames made from --input (panel)"
    parser.add_argument("--layout", choices=LAYOUTS, default="panel", help=help_layout)
    help_fps = f"frame rate (default: that of --input, else {DATA_SET_FPS})"
    parser.add_argument("--fps", type=cli.number(MIN_FPS, MAX_FPS), help=help_fps)
    parser.add_argument("--no-audio", action="store_false", dest="audio", help="leave out the input's sound")
    help_label = "leave out the visible label 'synthetic' (metadata remain)"
    parser.add_argument("--no-label", action="store_false", dest="label", help=help_label)
    parser.add_argument("--info", default="", metavar="TEXT", help="appended to the name of the result folder")
    cli.add_device_arguments(parser)
    args = parser.parse_args()
    if args.aligned and not (args.encoder_config and args.transformer_config):
        parser.error("--aligned requires --encoder-config and --transformer-config: nothing finds landmarks there")
    if args.input is None and args.face is not None:
        parser.error("--face requires --input")
    if args.landmarks == (args.encoder_config is not None):
        parser.error("pass either --encoder-config or --landmarks, the source of boundaries")
    if args.input is None and args.transformer_config is None and args.src_celeb_name is None:
        parser.error("pass --src-celeb-name or --input; without a transformer the source is unknown")
    args.input = str(args.aligned) if args.aligned else args.input
    if args.encoder_config is not None and not is_whole(args.motion, args.strength):
        parser.error("--motion and --strength apply to landmarks; replace --encoder-config by --landmarks")
    inputs = [Path(args.input) if args.input else None]
    inputs += [getattr(args, f"{module}_{kind}") for module in MODULES for kind in ("config", "param_file")]
    check_outputs({"--video": args.video, "--out-dir": args.out_dir}, inputs, ".mp4")
    return args


class Chain(NamedTuple):
    """Networks, people and device of a command line."""

    networks: Networks
    film: Film | None
    source: str
    target: str
    data_dir: str
    context: str  # cpu | cudnn


def open_chain(args: argparse.Namespace) -> Chain:
    """Find networks and film, and check that they belong to source and target.

    Raises ConfigError if they do not, DataError if the film is damaged, WeightsError if a run has no weights.
    """
    film = load_film(args.film) if args.film else None
    paths = {module: getattr(args, f"{module}_config") for module in MODULES}
    files = {module: getattr(args, f"{module}_param_file") for module in MODULES}
    networks = {module: find_trained(module, path, files[module]) for module, path in paths.items() if path}
    require_one_drawing(networks)
    decoder = networks["decoder"]
    main_config = networks.get("transformer", decoder).config
    sources = main_config.sources if "transformer" in networks else ()
    source = args.src_celeb_name or (sources[0] if sources else "source")
    target = args.trg_celeb_name or (film.person if film else main_config.trg_celeb_name)
    if film is not None and film.person != target:
        raise ConfigError(f"--trg-celeb-name {target}: {args.film} is a film of {film.person}")
    for module in ("transformer",) if film else ("transformer", "decoder"):
        if module in networks and networks[module].config.trg_celeb_name != target:
            person = networks[module].config.trg_celeb_name
            raise ConfigError(f"--trg-celeb-name {target}: the {module} of {paths[module]} was trained for {person}")
    if sources and source not in sources:
        print(f"note: the transformer was not trained on {source} but on {', '.join(sources)}; the shape may be off")
    if film is None and not args.no_film:
        film = decoder.film()
    context = set_configured_context(main_config, args.context, args.device_id)
    data_dir = str(args.data_dir or main_config.train_dir)
    return Chain(networks, film.reduced(args.size) if film else None, source, target, data_dir, context)


def open_frames(args: argparse.Namespace, chain: Chain) -> Input:
    """Open `--input`, or the test split of the source."""
    if args.input is None:
        style = style_of(chain.networks["decoder"].config)
        return open_test_split(chain.data_dir, chain.source, args.num_test, args.fps or DATA_SET_FPS, style)
    if args.aligned:
        return open_aligned(args.aligned, args.num_test, args.fps or DATA_SET_FPS)
    return open_input(args.input, args.face, args.fps, args.num_test, args.audio)


def output_options(args: argparse.Namespace, chain: Chain) -> OutputOptions:
    """Return what the command line wants to be written."""
    options = OutputOptions(
        parent=args.out_dir / f"{chain.source}2{chain.target}",
        info=args.info,
        layout=args.layout,
        has_label=args.label,
        video=args.video,
        with_sound=args.no_face != "skip",
    )
    return options._replace(size=chain.film.size) if chain.film else options


def main() -> None:
    args = parse_args()
    chain = open_chain(args)
    frames_in = open_frames(args, chain)
    options = (args.backend, args.batch_size, args.smooth, args.motion, args.strength)
    reenactor = open_reenactor(frames_in, chain.networks, chain.context, *options, chain.film)
    missing = MissingFaces(args.no_face)
    metadata = generated_metadata(f"face of {chain.target}, driven by {args.input or chain.source}")
    with (
        end_at_interrupt(frames_in),
        open_output(output_options(args, chain), frames_in, metadata, chain.film is not None) as output,
    ):
        with results_of(reenactor, frames_in, missing) as results:
            for result in tqdm(results, total=frames_in.count, unit="frame", disable=None):
                output.write(result)
        missing.require_some(args.input)
        output.note(record_of(args, chain, frames_in, reenactor, missing, output.num_frames))
    report(args, chain, output, missing, reenactor)


def record_of(
    args: argparse.Namespace,
    chain: Chain,
    frames_in: Input,
    reenactor: Reenactor,
    missing: MissingFaces,
    num_frames: int,
) -> dict[str, Any]:
    """Return the record of how a result was made."""
    return {
        "source": chain.source,
        "target": chain.target,
        "input": args.input or "",
        "frames": num_frames,
        "faces": missing.num_faces,
        "data_dir": chain.data_dir,
        "layout": args.layout if args.input else "panel",
        "backend": reenactor.backend.name,
        "smooth": reenactor.smooth,
        "motion": args.motion,
        "strength": args.strength,
        "boundaries": "landmarks" if args.landmarks else "encoder",
        "transfer": "transformer" if "transformer" in chain.networks else "geometry",
        "film": str(chain.film.path or args.film) if chain.film else "",
        "turned_beyond_film": reenactor.film.space.num_turned if reenactor.film else 0,
        "fps": float(frames_in.fps),
        "video": str(args.video or ""),
        "configs": {module: str(trained.config_path) for module, trained in chain.networks.items()},
        "weights": {module: str(trained.weights) for module, trained in chain.networks.items()},
    }


def report(args: argparse.Namespace, chain: Chain, output: Output, missing: MissingFaces, reenactor: Reenactor) -> None:
    """Print what was written."""
    print(f"{output.num_frames} frames of {args.input or chain.source} to {chain.target}: {output.folder / FRAMES_DIR}")
    if missing.reasons:
        print(f"frames without a face ({args.no_face}): {missing.counts()}")
    if reenactor.film is not None and reenactor.film.space.num_turned:
        print(f"{reenactor.film.space.num_turned} faces turned beyond the film's range; they are turned less")
    if args.video is not None:
        print(f"video: {args.video}, {output.num_shown} frames")
    print(f"page: {output.folder / 'index.html'}")


if __name__ == "__main__":
    call_main(main)
