"""Measure how wide a decoder can be to run live, by base channels, without and with a film.

    python benchmarks/live.py                          # docs/BENCHMARKS.md's table, about twenty minutes
    python benchmarks/live.py --planes 12 --seconds 5

`live` goes from a camera's JPEG of 640x360 to the JPEG that the page shows, with as many images under way as there;
the browser is not in it. `file` is a whole command from video file to video file at two lengths, whose difference
counts. Weights are random; landmarks are found, and moved by geometry.
"""

from __future__ import annotations

import argparse
import queue
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from utils.ending import call_main  # noqa: E402

from benchmarks.reenactment import networks_in, write_random_networks  # noqa: E402
from datasets.batches import heatmap_of  # noqa: E402
from datasets.boundary import style_of  # noqa: E402
from datasets.film import Film, read_film, write_film
from datasets.panels import face_image
from datasets.shape_file import write_shape
from faces.geometry import Shape
from inference.film import open_painter
from inference.networks import Trained
from inference.reenactor import (
    Result,  # noqa: E402
    open_decoder,
)
from synthetic.expressions import Expression, expression_track
from synthetic.geometry import landmarks_of
from synthetic.moving import moving_head
from synthetic.painter import render  # noqa: E402
from synthetic.people import random_identity
from utils import cli  # noqa: E402
from web.live import decode, encode  # noqa: E402
from web.live_reenactor import LiveReenactor

PLANES = (8, 12, 16, 24, 32, 48, 64)
IN_FLIGHT, IN_FLIGHT_SLOW, SLOW_S, FAST_S = 3, 2, 0.25, 0.1  # the same as in web/static/live.js
LAST, WARM_UP = 10, 20
CAMERA = (640, 360)
LENGTHS = (40, 200)  # frames of the whole commands


def camera_pictures() -> list[bytes]:
    """Return a camera's frames as JPEG, forwards and backwards, so that they can be repeated without a jump."""
    frames = (cv2.resize(frame, CAMERA)[..., ::-1] for frame, _ in moving_head("Rowan=9", 60, seed=0))
    pictures = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames]
    return pictures + pictures[::-1]


def make_film(path: Path, landmarks: np.ndarray) -> Film:
    """Write a film of a synthetic person."""
    who, track = random_identity(29), expression_track(800, 0)[::4]
    frames = [render(who, Expression(*map(float, row)))[0] for row in track]
    write_film(path, Film("Linnea", frames, landmarks, Shape(landmarks[0], landmarks[0])))
    return read_film(path)


def live(decoder: Trained, pictures: list[bytes], seconds: float, film: Film | None = None) -> tuple[float, float]:
    """Drive a target live; return frames a second and the mean delay in milliseconds."""
    results: queue.Queue = queue.Queue()

    def take(item: object) -> None:
        if not isinstance(item, Result):
            raise RuntimeError(f"a picture has no result: {item.reason}")
        encode(item, False)
        results.put(None)

    session = LiveReenactor(decoder, "cpu", take, results.put, film)
    sent, delays, number, room, start = deque(), [], 0, IN_FLIGHT, time.perf_counter()
    while len(delays) < WARM_UP or time.perf_counter() - start < seconds:
        while len(sent) < room:
            sent.append(time.perf_counter())
            session.camera.offer(decode(pictures[number % len(pictures)]))
            number += 1
        came = results.get()
        if isinstance(came, BaseException):
            raise came
        delays.append(time.perf_counter() - sent.popleft())
        delay = np.mean(delays[-LAST:])
        room = IN_FLIGHT_SLOW if delay > SLOW_S else IN_FLIGHT if delay < FAST_S else room
        if len(delays) == WARM_UP:
            start = time.perf_counter()
    elapsed = time.perf_counter() - start
    session.end()
    counted = delays[WARM_UP:]
    return len(counted) / elapsed, 1e3 * float(np.mean(counted))


def film_ms(decoder: Trained, film: Film) -> float:
    """Measure the milliseconds of painting one frame with a film."""
    backend = open_decoder(decoder, "cpu")
    painter, seconds = open_painter(film, decoder, backend, 1), []
    for landmarks in film.landmarks:
        heatmap = heatmap_of(landmarks, style_of(decoder.config))
        image = face_image(backend.infer("decoder", heatmap[None])[0])
        start = time.perf_counter()
        painter.paint(heatmap, image, landmarks)
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.mean(seconds))


def from_file_to_file(folder: Path, video: Path, *more: object) -> float:
    """Measure frames per second of whole commands, without the start."""
    seconds = []
    for length in (*LENGTHS, *LENGTHS):  # the first two export
        command = [sys.executable, str(ROOT / "test_reenactment.py"), "--landmarks", "--input", str(video), "-c", "cpu"]
        command += ["--decoder-config", str(folder / "training_info.yaml"), "-n", str(length), "--layout", "face"]
        command += ["--decoder-param-file", str(folder / "weights.h5")]
        command += map(str, more)
        start = time.perf_counter()
        subprocess.run([*command, "--out-dir", str(folder / "out"), "--video", str(folder / "out.mp4")], check=True,
                       capture_output=True)  # fmt: skip
        seconds.append(time.perf_counter() - start)
    return (LENGTHS[1] - LENGTHS[0]) / (seconds[3] - seconds[2])


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planes", type=cli.whole(2, 128), nargs="+", default=PLANES, metavar="N")
    parser.add_argument("--seconds", type=cli.number(1, 600), default=8, help="of each live session (default 8)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    pictures = camera_pictures()
    track = expression_track(800, 0)[::4]
    landmarks = np.array([landmarks_of(random_identity(29), Expression(*map(float, row))) for row in track])
    heads = [
        "live (frames/s)",
        "delay (ms)",
        "file",
        "live with film (frames/s)",
        "delay (ms)",
        "file with film",
        "film (ms a frame)",
    ]
    print("| base channels | " + " | ".join(heads) + " |\n|" + "---|" * (1 + len(heads)), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        video = Path(scratch) / "driver.mp4"
        person = ["video", "--person", "Rowan=9", "--frames", str(LENGTHS[1]), "--out-file", str(video)]
        subprocess.run([sys.executable, ROOT / "tools/make_synthetic.py", *person], check=True, capture_output=True)
        film = make_film(Path(scratch) / "film.npz", landmarks)
        for planes in args.planes:
            folder = Path(scratch) / str(planes)
            write_random_networks(folder, planes)
            write_shape(folder / "decoder", landmarks)
            cells = []
            for some_film, flags in ((None, ()), (film, ("--film", film.path))):
                rate, delay = live(networks_in(folder)["decoder"], pictures, args.seconds, some_film)
                file_rate = from_file_to_file(folder / "decoder", video, *flags)
                cells += [f"{rate:.1f}", f"{delay:.0f}", f"{file_rate:.1f}"]
            share = film_ms(networks_in(folder)["decoder"], film)
            cells.append(f"{share:.1f}")
            print(f"| {planes} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    call_main(main)
