"""Painting with a film: which frames are chosen, where their pixels go, and files that are no films."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import DEMO, GAZE, must_fail, must_run
from scipy.interpolate import RBFInterpolator

from config import load_config
from datasets.batches import heatmap_of
from datasets.celebv import read_person
from datasets.film import MAX_FILM_BYTES, Film, load_film, read_film, spread, write_film
from datasets.images import write_image
from datasets.panels import face_image
from faces.geometry import Shape
from inference import film as films
from inference.backends import open_backend
from inference.film import FilmPainter, Spline, masks_of, similarity
from inference.measures import Sequence, flicker, sharpness
from inference.networks import Trained
from synthetic.expressions import Expression, expression_track
from synthetic.painter import render
from synthetic.people import random_identity
from utils.errors import DataError

rng = np.random.default_rng(0)
WHO = random_identity(29)
BOX = slice(0, 256), slice(0, 256)


@pytest.fixture(scope="module")
def film() -> Film:
    pairs = [render(WHO, Expression(*row)) for row in expression_track(400, 3)[::10]]
    landmarks = np.array([marks for _, marks in pairs])
    return Film("Linnea", [image for image, _ in pairs], landmarks, Shape(landmarks[0], landmarks[0]))


@pytest.fixture(scope="module")
def decoder() -> Trained:
    info = DEMO / "decoder/training_info.yaml"
    return Trained(load_config("decoder", info), DEMO / "decoder/weights.h5", info)


@pytest.fixture(scope="module")
def layouts(film, decoder) -> np.ndarray:
    return films._lay_out(film, GAZE, open_backend("onnxruntime", "cpu", {"decoder": decoder}, 4), 4)


def test_frames_are_spread(film):
    crowd = np.concatenate([film.landmarks, film.landmarks[:1].repeat(100, axis=0) + rng.normal(0, 0.1, (100, 98, 2))])
    chosen = spread(crowd, 40)
    assert chosen == sorted(set(chosen)) and sum(number < 40 for number in chosen) > 35  # not the many that are alike
    assert spread(crowd[:3], 40) == [0, 1, 2]


def test_a_spline_is_the_one_of_another_library():
    points, others = rng.uniform(20, 236, (30, 2)), rng.uniform(20, 236, (30, 2))
    places = Spline(points, 0.0, BOX, 1).places(others)
    expected = RBFInterpolator(points, others, kernel="thin_plate_spline")
    for x, y in ((3, 250), (100, 90), (200, 13)):
        np.testing.assert_allclose(places[y, x], expected([[x, y]])[0], atol=0.1)
    part = Spline(points, 0.0, (slice(40, 90), slice(100, 180)), 1).places(others)
    np.testing.assert_allclose(part, places[40:90, 100:180], atol=0.1)


def test_a_similarity_is_found_again():
    points, angle = rng.uniform(0, 200, (20, 2)), 0.4
    turn = 1.3 * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(similarity(points, points @ turn + 7)(points + 5), (points + 5) @ turn + 7)


def test_masks_add_up_and_lie_on_their_parts(film):
    mouth, eyes, rest = masks_of(heatmap_of(film.landmarks[0], GAZE))
    np.testing.assert_allclose(mouth + eyes + rest, 1, atol=1e-6)
    for mask, number in ((mouth, 90), (eyes, 96), (rest, 16)):
        x, y = (film.landmarks[0][number] / 4).astype(int)
        assert mask[y, x] > 0.6


def paint(painter: FilmPainter, landmarks: np.ndarray, backend, by_landmarks: bool) -> np.ndarray:
    heatmap = heatmap_of(landmarks, GAZE)
    image = face_image(backend.infer("decoder", heatmap[None])[0])
    painter.reset()
    return painter.paint(heatmap, image, landmarks if by_landmarks else None)


@pytest.mark.parametrize("by_landmarks", [True, False])
def test_a_face_of_the_film_is_painted_as_it_is_and_others_are_near_the_truth(film, layouts, decoder, by_landmarks):
    backend = open_backend("onnxruntime", "cpu", {"decoder": decoder}, 1)
    painter = FilmPainter(film, layouts, is_own=False)
    for number in (0, 7, 20):
        assert cv2.PSNR(paint(painter, film.landmarks[number], backend, by_landmarks), film.frames[number]) > 33
    between = FilmPainter(film._replace(frames=film.frames[::2], landmarks=film.landmarks[::2]), layouts[::2], False)
    near = [paint(between, film.landmarks[k], backend, by_landmarks) for k in range(1, 20, 2)]
    truth = film.frames[1:20:2]
    assert np.mean([cv2.PSNR(a, b) for a, b in zip(near, truth)]) > (25 if by_landmarks else 23)
    assert sum(map(sharpness, near)) > 0.8 * sum(map(sharpness, truth))


def test_the_decoders_own_image_counts_where_the_film_does_not_fit(film, layouts):
    """With a gray film, the decoder's image is shown only if the decoder was trained on the film's person."""
    image, heatmap = film.frames[3], heatmap_of(film.landmarks[3], GAZE)
    grey = film._replace(frames=[np.full_like(image, 120)] * len(film.frames))
    strange = 255 - layouts  # nothing of it matches
    own = FilmPainter(grey, strange, is_own=True)
    own._trust = 5.0
    assert np.abs(own.paint(heatmap, image, film.landmarks[3]).astype(int) - image).mean() < 12
    assert (
        np.abs(FilmPainter(grey, strange, False).paint(heatmap, image, film.landmarks[3]).astype(int) - 120).max() < 2
    )


def test_a_frame_is_kept_and_the_next_one_fades_in():
    choice = films.Choice()
    choice.take(np.array([1.0, 2.0]), 0.0)
    assert choice.layers() == [(0, 1.0)]
    choice.take(np.array([1.4, 1.0]), 0.0)  # hardly better
    assert choice.layers() == [(0, 1.0)]
    shares = []
    for _ in range(5):
        choice.take(np.array([9.0, 1.0]), 0.0)
        shares.append(choice.layers())
    assert [layers[0] for layers in shares] == [(1, pytest.approx(k / 5)) for k in (1, 2, 3, 4, 5)]
    assert len(shares[0]) == 2 and len(shares[4]) == 1


def test_a_film_comes_back_from_its_file(film, tmp_path, decoder):
    write_film(tmp_path / "film.npz", film)
    found = read_film(tmp_path / "film.npz", "Linnea")
    np.testing.assert_allclose(found.landmarks, film.landmarks, atol=1e-4)
    assert np.mean([cv2.PSNR(a, b) for a, b in zip(found.frames, film.frames)]) > 35
    assert Trained(decoder.config, tmp_path / "w.h5", tmp_path / "run.yaml").film().person == "Linnea"
    assert Trained(decoder.config, tmp_path / "nowhere/w.h5", tmp_path / "nowhere/run.yaml").film() is None
    # layouts are computed once
    backend = open_backend("onnxruntime", "cpu", {"decoder": decoder}, 1)
    first = films.open_painter(found, decoder, backend, 1)
    (kept,) = tmp_path.glob(".film.*.npy")
    again = films.open_painter(found, decoder, None, 1)
    assert np.array_equal(first._layouts, again._layouts)
    kept.write_bytes(kept.read_bytes()[:5000])  # a damaged one is made again
    (tmp_path / ".film.of_other_weights.npy").write_text("x")  # layouts of other weights are removed
    assert np.array_equal(films.open_painter(found, decoder, backend, 1)._layouts, first._layouts)
    assert [*tmp_path.glob(".film.*.npy")] == [kept]


@pytest.mark.parametrize("is_own", [True, False])
def test_a_film_of_512_pixels_is_painted_at_its_size(film, layouts, decoder, tmp_path, is_own):
    large = film._replace(frames=[cv2.resize(frame, (512, 512)) for frame in film.frames])
    write_film(tmp_path / "film.npz", large)
    assert read_film(tmp_path / "film.npz").size == 512 and large.reduced(256).size == 256
    assert film.reduced(512) is film and large.reduced(512) is large
    backend = open_backend("onnxruntime", "cpu", {"decoder": decoder}, 1)
    for by_landmarks in (True, False):
        found, expected = (
            paint(FilmPainter(some, layouts, is_own), film.landmarks[5] + 2, backend, by_landmarks)
            for some in (large, large.reduced(256))
        )
        assert found.shape == (512, 512, 3)
        assert cv2.PSNR(cv2.resize(found, (256, 256), interpolation=cv2.INTER_AREA), expected) > 33


def archive_of(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


JPEG = cv2.imencode(".jpg", np.zeros((256, 256, 3), np.uint8))[1].ravel()
GOOD = {"person": "Linnea", "landmarks": np.ones((1, 98, 2)), "shape": np.ones((2, 98, 2)), "frame_000": JPEG}
SMALL = cv2.imencode(".jpg", np.zeros((128, 256, 3), np.uint8))[1].ravel()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"no archive", "not a complete film"),
        (archive_of(**GOOD)[:-300], "not a complete film"),
        (archive_of(**{name: array for name, array in GOOD.items() if name != "shape"}), "not a complete film"),
        (archive_of(**GOOD | {"person": "Rowan"}), "a film of Rowan, not of Linnea"),
        (archive_of(**GOOD | {"frame_000": np.arange(9, dtype=np.uint8)}), "not a complete film"),
        (archive_of(**GOOD | {"frame_000": SMALL}), "not a film of images of one size"),
        (archive_of(**GOOD | {"landmarks": np.ones((2, 98, 2))}), "not a film of images of one size"),
        (archive_of(**GOOD | {"shape": np.ones((1, 98, 2))}), "not a film of 1 to 300 frames"),
        (archive_of(**GOOD | {"landmarks": np.full((1, 98, 2), np.nan)}), "not finite"),
        (archive_of(**GOOD | {"person": np.array([{}], object)}), "not a complete film"),
    ],
)
def test_what_is_no_film(tmp_path, content, words):
    (tmp_path / "film.npz").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_film(tmp_path / "film.npz", "Linnea")


def test_a_film_that_would_fill_the_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "film.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("landmarks.npy", bytes(MAX_FILM_BYTES + 1))
    with pytest.raises(DataError, match="larger than 64 MiB"):
        read_film(tmp_path / "film.npz")


def test_a_person_is_enough_for_a_film(data):
    found = load_film(data / "datasets/CelebV/Linnea")
    assert found.person == "Linnea" and len(found.frames) == 8  # its training frames
    with pytest.raises(DataError, match="no such film"):
        load_film(data / "datasets/CelebV/Nobody")


def test_large_frames_are_taken_where_they_are_there_and_good(data, tmp_path):
    person = tmp_path / "Linnea"
    shutil.copytree(data / "datasets/CelebV/Linnea", person)
    (person / "Large").mkdir()
    assert load_film(person).size == 256  # an empty folder
    name = read_person(tmp_path, "Linnea", "train").names[2]
    write_image(person / "Large" / name, np.full((512, 512, 3), 90, np.uint8))
    found = load_film(person)
    assert found.size == 512 and len(found.frames) == 1
    write_image(person / "Large" / name, np.full((512, 256, 3), 90, np.uint8))
    with pytest.raises(DataError, match=f"Large/{name}: 256x512 pixels instead of 512x512"):
        load_film(person)


def test_flicker_is_a_change_that_the_truth_has_not():
    truth = [np.full((8, 8, 3), level, np.uint8) for level in (10, 20, 30)]
    assert flicker(Sequence(truth, truth, [0, 1, 2])) == 0
    assert flicker(Sequence([truth[0], truth[0], truth[2]], truth, [0, 1, 2])) == pytest.approx(10)
    assert flicker(Sequence(truth, truth, [0, 2, 4])) is None


@pytest.mark.slow
def test_the_commands_flags(data, tmp_path):
    people, weights = data / "datasets/CelebV", DEMO / "decoder"
    decoder = ("--decoder-config", weights / "training_info.yaml", "--decoder-param-file", weights / "weights.h5")
    drive = (*decoder, "--landmarks", "--data-dir", people, "-n", 3)

    def painted(name: str, *flags: object) -> Path:
        must_run(tmp_path, "test_reenactment.py", *drive, *flags, "--info", f"_{name}")
        return next(tmp_path.glob(f"reenactment_result/*/*_{name}"))

    rowan = painted("rowan", "--film", people / "Rowan", "--src-celeb-name", "Linnea")
    assert rowan.parent.name == "Linnea2Rowan" and (rowan / "measured/layout.npz").exists()
    own, plain = painted("own", "--src-celeb-name", "Rowan"), painted("plain", "--no-film", "--src-celeb-name", "Rowan")
    assert (own / "measured/layout.npz").exists() and not (plain / "measured/layout.npz").exists()
    out = must_run(tmp_path, "evaluate.py", own, "--allow-trained")
    assert "chain, painted with the film" in out and "flicker" in out
    run = "test_reenactment.py"
    must_fail(tmp_path, 3, "no such film", run, *drive, "--src-celeb-name", "Rowan", "--film", "nowhere.npz")
    must_fail(tmp_path, 2, "not allowed with", run, *drive, "--film", people / "Rowan", "--no-film")
    other = ("--film", people / "Rowan", "--trg-celeb-name", "Linnea", "--src-celeb-name", "Linnea")
    must_fail(tmp_path, 2, "is a film of Rowan", run, *drive, *other)
