"""Driving without an encoder and without a transformer: landmarks, moved by geometry."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from helpers import DEMO, DEMO_NETWORKS, must_fail, must_run, write_frames
from PIL import Image

from config import complete_config, load_config, with_values
from config.config_decoder import DecoderConfig
from datasets.annotations import format_line
from datasets.batches import heatmap_of
from datasets.boundary import DrawingStyle
from datasets.celebv import read_person
from datasets.film import read_film
from datasets.images import write_image
from datasets.shape_file import write_shape
from faces.finder import FaceFinder
from faces.geometry import MeanToMean, NeutralToNeutral, Shape, looking_ahead, shape_of, uncrossed
from faces.steady import OneEuro
from inference.inputs import FaceFrame, Input, Replayed, open_input, shape_of_source
from inference.networks import Trained
from inference.reenactor import Reenactor, Result
from synthetic.expressions import Expression, Habit, expression_track
from synthetic.geometry import landmarks_of
from synthetic.moving import moving_head
from synthetic.people import Identity, random_identity
from utils.errors import DataError, WeightsError

ENCODER, TRANSFORMER, DECODER = (DEMO_NETWORKS[first : first + 4] for first in (0, 4, 8))


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drive")
    write_frames(folder / "m.mp4", [frame for frame, _ in moving_head("Rowan=9", 12, seed=0)])
    return folder


def marks(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(60, 200, (98, 2))


def flat(points: np.ndarray) -> Shape:
    return Shape(points, points)


DECODER_OF_B = Trained(DecoderConfig(), Path("weights.h5"))


class Recorder:
    """A backend that keeps what its networks got."""

    name = "recorder"

    def __init__(self):
        self.seen: dict[str, list[np.ndarray]] = {}

    def infer(self, module, x):
        self.seen.setdefault(module, []).extend(x)
        shape = (3, 256, 256) if module == "decoder" else (15, 64, 64)
        return np.zeros((len(x), *shape), np.float32)


# Geometry


def test_the_mean_goes_to_the_mean_and_motion_stays():
    geometry = MeanToMean(flat(marks(0)), flat(marks(1)))
    np.testing.assert_allclose(geometry.move(marks(0)), marks(1))
    np.testing.assert_allclose(geometry.move(marks(0) + 5) - marks(1), 5)
    with pytest.raises(DataError, match="no face with landmarks"):
        shape_of([])


# equal habits, and opposite ones
HABITS = (None, Habit(-8, 0, 0, -0.2)), (None, Habit(8, 0.7, 0.6, 0.4))


def track_of(who: Identity, num_frames: int, seed: int, habit: Habit | None = None) -> np.ndarray:
    track = expression_track(num_frames, seed, habit or Habit())
    return np.array([landmarks_of(who, Expression(*row)) for row in track])


@pytest.mark.parametrize("habits", list(zip(*HABITS)), ids=("alike", "apart"))
def test_a_neutral_face_is_found_whatever_the_habit(habits):
    """On synthetic people the truth is known: it is within 1.1 px of the true neutral face, where a mean is not."""
    for who, habit, seed in zip(map(random_identity, (9, 29)), habits, (1, 2)):
        shape, truth = shape_of(track_of(who, 600, seed, habit)), landmarks_of(who, Expression())
        apart = [np.linalg.norm(x - x.mean(axis=0) - truth + truth.mean(axis=0), axis=1).mean() for x in shape]
        assert apart[1] < 1.1, apart
        if habit:
            assert apart[1] < apart[0], apart


def errors_of(seeds: tuple[int, int], habits: tuple[Habit | None, ...]) -> list[float]:
    """Mean distances of moved landmarks from the true ones, by mean to mean and by neutral to neutral."""
    a, b = map(random_identity, seeds)
    shapes = shape_of(track_of(a, 600, 1, habits[0])), shape_of(track_of(b, 600, 2, habits[1]))
    driver, truth = (track_of(who, 100, 3, habits[0]) for who in (a, b))
    moves = [kind(*shapes).move for kind in (MeanToMean, NeutralToNeutral)]
    return [np.linalg.norm([move(marks) for marks in driver] - truth, axis=2).mean() for move in moves]


def test_expressions_move_and_habits_do_not():
    by_means, by_neutrals = errors_of((9, 29), tuple(zip(*HABITS))[1])
    assert by_neutrals < 2.6 and by_neutrals < 0.5 * by_means, (by_means, by_neutrals)
    for seeds in ((9, 29), (100, 101), (102, 103)):  # and nothing is lost where habits are alike
        by_means, by_neutrals = errors_of(seeds, (None, None))
        assert by_neutrals < by_means + 0.2, (by_means, by_neutrals)


def test_a_turned_head_turns_what_lies_between(rng=np.random.default_rng(0)):
    a, b = (looking_ahead(landmarks_of(random_identity(seed), Expression())) for seed in (9, 29))
    geometry = NeutralToNeutral(Shape(a + 1, a), Shape(b + 1, b))
    np.testing.assert_allclose(geometry.move(a), b, atol=1e-6)
    turn = cv2.getRotationMatrix2D((128, 128), 20, 0.9)
    rolled = a @ turn[:, :2].T + turn[:, 2]
    # rolled and smaller: so is the answer, about the same place
    expected = (b - b.mean(axis=0)) @ turn[:, :2].T
    found = geometry.move(rolled)
    np.testing.assert_allclose(found - found.mean(axis=0), expected, atol=0.8)


def test_closed_eyes_close_on_larger_eyes():
    small, large = random_identity(9), random_identity(29)
    shapes = [Shape(0 * landmarks_of(who, Expression()), landmarks_of(who, Expression())) for who in (small, large)]
    for blink in (0.0, 0.5, 1.0):
        moved = NeutralToNeutral(*shapes).move(landmarks_of(small, Expression(blink=blink)))
        truth = landmarks_of(large, Expression(blink=blink))
        opening = [(x[66, 1] - x[62, 1], x[74, 1] - x[70, 1]) for x in (moved, truth)]
        np.testing.assert_allclose(*opening, atol=0.6)


def test_pupils_keep_their_place_in_eyes_of_another_width():
    narrow, wide = random_identity(9), random_identity(29)
    neutral = [landmarks_of(who, Expression()) for who in (narrow, wide)]
    geometry = NeutralToNeutral(*(Shape(0 * face, face) for face in neutral))
    apart = []
    for look in (Expression(gaze_x=x, gaze_y=y, blink=0.3) for x in (-0.8, 0.0, 0.8) for y in (-1.0, 1.0)):
        moved, truth = geometry.move(landmarks_of(narrow, look)), landmarks_of(wide, look)
        apart += np.linalg.norm(moved[96:] - truth[96:], axis=1).tolist()
    assert max(apart) < 0.6, apart  # 1.7 px if pupils moved by the source's pixels


def test_a_few_frames_tell_no_habit():
    few = track_of(random_identity(9), 5, 0)
    shape = shape_of(few)
    np.testing.assert_allclose(shape.mean, few.mean(axis=0))
    assert shape.neutral is shape.mean
    target = shape_of(track_of(random_identity(29), 100, 0))
    moved = NeutralToNeutral(shape, target).move(few.mean(axis=0))
    np.testing.assert_allclose(moved[:96], target.mean[:96], atol=0.5)  # the same as from mean to mean, but for pupils


@pytest.mark.parametrize("points", [np.zeros((98, 2)), np.full((98, 2), 1e5), marks(3)], ids=("zero", "far", "random"))
def test_landmarks_that_are_no_face_give_numbers(points):
    shape = shape_of([points] * 40)
    assert np.isfinite(shape.neutral).all()
    assert np.isfinite(NeutralToNeutral(shape, shape).move(points)).all()


def test_a_geometry_is_kept_and_read(tmp_path):
    frames = track_of(random_identity(9), 40, 0)
    write_shape(tmp_path, frames)
    for found, truth in zip(Trained(load_config("decoder"), tmp_path / "weights.h5").shape(), shape_of(frames)):
        np.testing.assert_allclose(found, truth, atol=1e-4)
    (tmp_path / "face_98pt.txt").write_text(format_line(marks(0), "mean") + "\n")
    with pytest.raises(WeightsError, match="no lines 'mean' and 'neutral'"):
        Trained(load_config("decoder"), tmp_path / "weights.h5").shape()


def test_without_a_file_it_comes_from_the_persons_frames(data, tmp_path):
    config = complete_config("decoder", {"train_dir": str(data / "datasets/CelebV"), "trg_celeb_name": "Linnea"}, None)
    truth = read_person(data / "datasets/CelebV", "Linnea", "all").landmarks.mean(axis=0)
    np.testing.assert_allclose(Trained(config, tmp_path / "weights.h5").shape().mean, truth)
    with pytest.raises(WeightsError, match="pass a --transformer-config, or train the decoder on landmarks"):
        Trained(with_values(config, {"trg_celeb_name": "Nobody"}), tmp_path / "weights.h5").shape()


def test_the_demos_weights_have_one():
    config = load_config("decoder", DEMO / "decoder/training_info.yaml")
    assert (DEMO / "decoder/face_98pt.txt").exists()
    found, truth = (
        Trained(config, DEMO / "decoder/weights.h5").shape(),
        landmarks_of(random_identity(29), Expression()),
    )
    assert np.linalg.norm(found.neutral - truth, axis=1).mean() < 2


# The pipeline


def frames_with_landmarks(count: int) -> list[FaceFrame]:
    face = np.zeros((256, 256, 3), np.uint8)
    return [FaceFrame(index, face, "", index / 25, marks(index)) for index in range(count)]


def test_each_combination_computes_what_it_needs():
    frames, geometry = frames_with_landmarks(3), MeanToMean(flat(marks(10)), flat(marks(11)))
    for networks in (("encoder", "transformer"), ("transformer",), ("encoder",), ()):
        backend = Recorder()
        moved = None if "transformer" in networks else geometry
        reenactor = Reenactor(backend, DECODER_OF_B, "encoder" in networks, geometry=moved, batch_size=2)
        items = list(reenactor.reenact(frames))
        assert all(isinstance(item, Result) for item in items) and len(items) == 3
        assert set(backend.seen) == {*networks, "decoder"}
        for index, item in enumerate(items):
            if "encoder" not in networks:
                np.testing.assert_allclose(item.heatmap, heatmap_of(marks(index), DrawingStyle()))
            if moved is not None:
                asked = uncrossed(geometry.move(marks(index)))
                np.testing.assert_allclose(item.transformed, heatmap_of(asked, DrawingStyle()))
                np.testing.assert_allclose(backend.seen["decoder"][index], item.transformed)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_landmarks_are_steadied_and_forgotten_where_the_face_was_gone(batch_size):
    """Whether or not the gap lies within a batch."""
    frames = frames_with_landmarks(4)
    frames[2] = FaceFrame(2, None, "gone", 0.08)
    geometry = MeanToMean(flat(marks(0)), flat(marks(0)))
    items = list(
        Reenactor(Recorder(), DECODER_OF_B, geometry=geometry, batch_size=batch_size, smooth=0.5).reenact(frames)
    )
    steady = OneEuro(0.5, 25)
    first, second = (steady.steady(marks(index), 0.04 * index) for index in (0, 1))
    assert np.abs(second - marks(1)).max() > 1 and np.array_equal(first, marks(0))
    np.testing.assert_allclose(items[1].heatmap, heatmap_of(second, DrawingStyle()))
    np.testing.assert_allclose(items[3].heatmap, heatmap_of(marks(3), DrawingStyle()))


def test_a_camera_calibrates_on_its_first_seconds(capsys):
    frames = [frame._replace(time_s=frame.index * 0.5) for frame in frames_with_landmarks(10)]
    frames[1] = FaceFrame(1, None, "gone", 0.5)
    camera = Input(Replayed(iter(frames)), 25, None)
    shape = shape_of_source(camera)
    np.testing.assert_allclose(shape.mean, np.mean([marks(index) for index in (0, 2, 3, 4, 5, 6)], axis=0))
    assert [frame.index for frame in camera.frames] == list(range(10))  # nothing is lost
    assert "first 3 s" in capsys.readouterr().out
    with pytest.raises(DataError, match="no face with landmarks"):
        shape_of_source(Input(Replayed(iter([FaceFrame(0, None, "gone", 0.0)])), 25, None))


# Whole runs


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--backend", "nnabla"), ("--batch-size", 3)])
def test_a_decoder_alone_is_driven(film, tmp_path, more):
    flags = ("--landmarks", "--input", film / "m.mp4", "--video", "o.mp4", *more)
    out = must_run(tmp_path, "test_reenactment.py", *DECODER, *flags)
    assert "12 frames of" in out and "without a face" not in out
    (result,) = tmp_path.glob("reenactment_result/source2Linnea/*")
    record = yaml.safe_load((result / "reenactment.yaml").read_text())
    assert (
        record["boundaries"] == "landmarks"
        and record["transfer"] == "geometry"
        and set(record["configs"]) == {"decoder"}
    )
    frame = np.asarray(Image.open(result / "result/000010-000.png"), int)
    face = frame[:, 768:]  # skin and hair of a face, not noise and not black
    assert 60 < face.mean() < 200 and np.abs(np.diff(face, axis=0)).mean() < 12
    out = must_run(tmp_path, "evaluate.py", result)
    assert "of the result against the requested ones" in out and "encoder" not in out.split("backend")[1][20:200]


@pytest.mark.slow
def test_other_combinations_run(film, data, tmp_path):
    for networks in ((*TRANSFORMER, *DECODER, "--landmarks"), (*ENCODER, *DECODER)):
        must_run(tmp_path, "test_reenactment.py", *networks, "--input", film / "m.mp4", "-n", 3)
    people = ("--data-dir", data / "datasets/CelebV", "--src-celeb-name", "Rowan")
    must_run(tmp_path, "test_reenactment.py", *DECODER, "--landmarks", *people, "-n", 3)
    picture = next(frame for frame, _ in moving_head("Rowan=9", 1, seed=0))
    write_image(tmp_path / "me.png", picture)
    must_run(tmp_path, "test_reenactment.py", *DECODER, "--landmarks", "--input", "me.png")


@pytest.mark.slow
def test_the_shape_lies_beside_the_weights_or_beside_the_configuration(tmp_path):
    frames = landmarks_of(random_identity(29), Expression())[None] + np.zeros((30, 1, 1))
    weights, info = tmp_path / "weights", tmp_path / "run"
    for folder in (weights, info):
        folder.mkdir()
    decoder = Trained(DecoderConfig(train_dir="nowhere", trg_celeb_name="X"), weights / "w.h5", info / "i.yaml")
    with pytest.raises(WeightsError, match="weights/face_98pt.txt: missing"):
        decoder.shape()
    write_shape(info, frames)
    np.testing.assert_allclose(decoder.shape().mean, frames[0], atol=1e-3)
    write_shape(weights, frames + 5)  # the weights' come first
    np.testing.assert_allclose(decoder.shape().mean, frames[0] + 5, atol=1e-3)


@pytest.fixture(scope="module")
def intro(tmp_path_factory) -> Path:
    """100 frames without a face, then 20 with one."""
    path = tmp_path_factory.mktemp("intro") / "intro.mp4"
    faces = [frame for frame, _ in moving_head("Rowan=9", 20, 0)]
    write_frames(path, [np.full((360, 640, 3), 90, np.uint8)] * 100 + faces)
    return path


@pytest.fixture
def quick_finder(monkeypatch):
    """Skip the search in plain gray frames, which is slow."""
    find = FaceFinder.find
    monkeypatch.setattr(FaceFinder, "find", lambda self, image: find(self, image) if image[::9, ::9].std() > 9 else [])


def test_the_first_frames_with_a_face_are_meant(intro, quick_finder):
    found = list(open_input(str(intro)).calibration())
    assert [frame.index for frame in found] == list(range(100, 120))
    shape = shape_of_source(open_input(str(intro)))
    assert np.abs(shape.mean - np.mean([frame.landmarks for frame in found], axis=0)).max() < 1e-6
    with pytest.raises(DataError, match="no usable face in 80 frames .80 x no face found"):
        list(open_input(str(intro), wanted=80).calibration())


@pytest.mark.parametrize("count", [1, 3])
def test_films_that_are_shorter_than_a_glance(tmp_path, count):
    write_frames(tmp_path / "short.mp4", [frame for frame, _ in moving_head("Rowan=9", count, 0)])
    frames = list(open_input(str(tmp_path / "short.mp4")).frames)
    assert len(frames) == count and all(frame.face is not None for frame in frames)
    (grey := np.full((360, 640, 3), 110, np.uint8))[:5] = 0
    write_frames(tmp_path / "grey.mp4", [grey] * count)
    with pytest.raises(DataError, match=f"no usable face in {count} frames .{count} x no face found"):
        shape_of_source(open_input(str(tmp_path / "grey.mp4")))


@pytest.mark.slow
def test_wrong_combinations_say_what_is_missing(film, tmp_path):
    reenact, own = "test_reenactment.py", ("--input", film / "m.mp4")
    must_fail(tmp_path, 2, "pass either --encoder-config or --landmarks", reenact, *DECODER, *own)
    must_fail(tmp_path, 2, "pass either", reenact, *ENCODER, *DECODER, "--landmarks", *own)
    must_fail(tmp_path, 2, "--decoder-config", reenact, "--landmarks", *own)
    must_fail(tmp_path, 2, "without a transformer the source is unknown", reenact, *DECODER, "--landmarks")
    must_fail(tmp_path, 2, "was trained for", reenact, *DECODER, "--landmarks", *own, "--trg-celeb-name", "Rowan")
    shutil.copytree(DEMO / "decoder", tmp_path / "decoder", ignore=shutil.ignore_patterns("face_98pt.txt", ".*"))
    bare = ("--decoder-config", "decoder/training_info.yaml", "--decoder-param-file", "decoder/weights.h5")
    must_fail(tmp_path, 4, "pass a --transformer-config", reenact, *bare, "--landmarks", *own)
    grey = [np.full((360, 640, 3), 110, np.uint8)] * 5
    write_frames(tmp_path / "grey.mp4", grey)
    words = "no usable face in 5 frames (5 x no face found)"
    must_fail(tmp_path, 3, words, reenact, *DECODER, "--landmarks", "--input", "grey.mp4")


@pytest.mark.slow
def test_a_decoders_run_keeps_its_persons_geometry_and_is_driven(film, data, tmp_path):
    (tmp_path / "datasets").symlink_to(data / "datasets")
    content = {"trg_celeb_name": "Linnea", "mode": "train", "experiment_name": "one", "model": {"planes": 2}}
    content["train"] = {"epochs": 1, "batch_size": 4, "num_workers": 0, "feature_loss": {"lambda": 0}}
    (tmp_path / "decoder.yaml").write_text(yaml.safe_dump(content))
    must_run(tmp_path, "train_decoder.py", "--conf", "decoder.yaml")
    run = tmp_path / "tmp.monitor/decoder/Linnea/one"
    truth = read_person(data / "datasets/CelebV", "Linnea", "train").landmarks.mean(axis=0)
    np.testing.assert_allclose(
        Trained(load_config("decoder"), run / "netG_decoder_1.h5").shape().mean, truth, atol=1e-3
    )
    assert read_film(run / "film.npz", "Linnea").landmarks.shape == (8, 98, 2)
    info = ("--decoder-config", run / "training_info.yaml")
    must_run(tmp_path, "test_reenactment.py", *info, "--landmarks", "--input", film / "m.mp4", "-n", 2)


@pytest.mark.slow
def test_several_videos_make_one_person(film, tmp_path):
    write_frames(tmp_path / "b.mp4", [frame for frame, _ in moving_head("Rowan=9", 12, seed=1)])
    make = ("prepare_person.py", film / "m.mp4", "b.mp4", "--name")
    out = must_run(tmp_path, *make, "Me", "--data-dir", "people", "--every", 2)
    assert "Me: 12 of 24 frames; left out: 12 x usable, but --every 2" in out
    found = read_person(tmp_path / "people", "Me", "all")
    assert found.names == [f"{number:06d}.jpg" for number in range(1, 25, 2)]
    assert found.landmarks.min() > 20 and found.landmarks.max() < 236
    must_run(tmp_path, "split_celebv.sh", "people", 8)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/CelebV").symlink_to(tmp_path / "people")
    assert "no problems on which training would fail" in must_run(
        tmp_path, "preprocess.py", "--dataset", "CelebV", "--check"
    )
    must_fail(tmp_path, 2, "an input is duplicated", "prepare_person.py", "b.mp4", "./b.mp4", "--name", "You")
