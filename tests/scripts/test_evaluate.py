import json
import re
from contextlib import contextmanager
from types import SimpleNamespace

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from helpers import DEMO_NETWORKS, must_fail, must_run

import evaluate
from config.config_decoder import DecoderConfig
from config.config_encoder import EncoderConfig
from config.config_transformer import TransformerConfig
from datasets.batches import heatmap_of
from datasets.boundary import DrawingStyle
from datasets.prepared import PreparedWriter
from faces.finder import FaceFinder
from inference import measures as metrics
from inference.networks import index_batches
from inference.record import add_scores, read_record
from synthetic.expressions import Expression, expression_track
from synthetic.geometry import landmarks_of
from synthetic.painter import render
from synthetic.people import random_identity
from utils.errors import DataError
from utils.files import write_yaml
from utils.video import open_video

TRACK = [Expression(*row) for row in expression_track(400, 3)[::20]]


def scores_of(images, truth, landmarks=None) -> dict[str, float]:
    return {m.name: m.value for m in metrics.measure_images("x", metrics.Sequence(images, truth, [], landmarks))}


def test_scores_equal_the_formula():
    who = random_identity(1)
    true, marks = render(who, TRACK[0])
    true = np.clip(true, 20, 235)
    noisy = true + np.random.default_rng(0).choice([-10, 10], true.shape).astype(np.int16)
    scores = scores_of([noisy.astype(np.uint8)], [true], [marks])
    expected = 10 * np.log10(255**2 / 100)
    assert scores["PSNR"] == pytest.approx(expected) and scores["face PSNR"] == pytest.approx(expected)
    assert scores_of([true], [true], [marks])["SSIM"] == pytest.approx(1)


def test_face_psnr_looks_at_the_face_alone():
    true, marks = render(random_identity(1), TRACK[0])
    spoilt = true.copy()
    spoilt[:20] = 0  # above the hair
    scores = scores_of([spoilt], [true], [marks])
    assert scores["PSNR"] < 30 and scores["face PSNR"] == 100


@pytest.mark.parametrize("seed", [9, 29])
def test_measures_of_mouth_and_yaw_follow_the_expression(seed):
    heatmaps = [heatmap_of(landmarks_of(random_identity(seed), face), DrawingStyle()) for face in TRACK]
    mouth = [metrics.mouth_opening(heatmap) for heatmap in heatmaps]
    turn = [metrics.face_turn(heatmap) for heatmap in heatmaps]
    assert metrics.correlation(mouth, [face.mouth_open for face in TRACK]) > 0.98
    assert metrics.correlation(turn, [face.yaw for face in TRACK]) > 0.97


def test_batches_of_indices_count_every_frame_once():
    batches = list(index_batches(7, 3))
    assert batches == [([0, 1, 2], 3), ([3, 4, 5], 3), ([6, 6, 6], 1)]


def write_all(path, frames, size: tuple[int, int]) -> int:
    with open_video(path, size, 25.0, "AI-generated") as video:
        for frame in frames:
            video.write(frame)
    return video.count


def test_video_has_all_frames_and_its_mark(tmp_path):
    frames = [np.full((64, 96, 3), 10 * k, np.uint8) for k in range(12)]
    assert write_all(tmp_path / "new/a.mp4", frames, (96, 64)) == 12
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "new/a.mp4"))
    meta = next(reader)
    assert meta["size"] == (96, 64) and meta["fps"] == 25.0
    read = [np.frombuffer(frame, np.uint8).mean() for frame in reader]
    np.testing.assert_allclose(read, [10 * k for k in range(12)], atol=4)
    assert b"AI-generated" in (tmp_path / "new/a.mp4").read_bytes()


def test_an_interrupted_video_leaves_nothing(tmp_path):
    def frames():
        yield np.zeros((64, 64, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path / "a.mp4", frames(), (64, 64))
    assert list(tmp_path.iterdir()) == []


def test_errors_are_a_share_of_an_empty_answers():
    heatmaps = [heatmap_of(landmarks_of(random_identity(3), face), DrawingStyle()) for face in TRACK[:3]]
    assert metrics.relative_error([np.zeros_like(h) for h in heatmaps], heatmaps) == pytest.approx(1)
    assert metrics.relative_error([h / 2 for h in heatmaps], heatmaps) == pytest.approx(0.25)


def test_frames_that_were_trained_on_are_refused():
    configs = {"transformer": TransformerConfig(mode="train"), "decoder": DecoderConfig(mode="all")}
    what = {"configs": {"transformer": "t.yaml", "decoder": "d.yaml"}, "target": "Donald_Trump"}
    with pytest.raises(DataError, match="d.yaml: the decoder was trained with 'mode: all'"):
        evaluate.require_test_frames(configs, what)
    evaluate.require_test_frames({**configs, "decoder": DecoderConfig(mode="train")}, what)
    encoder = EncoderConfig(dataset="CelebV", mode="all", celeb_names=("A", "B"))
    layout = {"decoder": configs["decoder"]}
    evaluate.require_test_frames(layout, what | {"target": "C"})  # it lays out C's film, and never saw C
    what = {"configs": {"encoder": "e.yaml"}, "source": "A", "target": "B"}
    with pytest.raises(DataError, match="e.yaml: the encoder was trained with 'mode: all'"):
        evaluate.require_test_frames({"encoder": encoder}, what)
    evaluate.require_test_frames({"encoder": encoder}, what | {"source": "C"})


def test_a_video_without_a_frame_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="there is no frame to write"):
        write_all(tmp_path / "a.mp4", [], (64, 64))
    assert list(tmp_path.iterdir()) == []


def test_jitter_does_not_jump_over_frames_that_are_not_there():
    def line(x):
        heatmap = np.zeros((15, 64, 64), np.float32)
        heatmap[:, 20:40, x] = 1
        return heatmap

    even = [line(x) for x in (10, 12, 14, 40, 42, 44)]
    assert metrics.temporal_jitter(even, [0, 1, 2, 15, 16, 17]) == pytest.approx(0, abs=1e-4)
    assert metrics.temporal_jitter(even) > 5
    assert metrics.temporal_jitter(even[:2] + even[3:5], [0, 1, 15, 16]) is None  # never three in a row


def test_what_cannot_be_measured_is_none_and_not_a_number():
    assert metrics.correlation([1.0], [2.0]) is None and metrics.correlation([1, 2, 3], [4, 4, 4]) is None
    assert metrics.correlation([1, 2, 4], [2, 4, 8]) == pytest.approx(1)
    empty = [np.zeros((15, 64, 64))]
    assert metrics.relative_error(empty, empty) is None and metrics.relative_error([], []) is None
    assert str(metrics.Measure("x", "yaw", None)) == "yaw not measured"
    assert str(metrics.Measure("x", "yaw", 0.12345)) == "yaw 0.123"


@pytest.mark.slow
def test_results_of_a_frame_and_of_none(data, tmp_path):
    people = ("--data-dir", data / "datasets/CelebV")
    must_run(tmp_path, "test_reenactment.py", *DEMO_NETWORKS, *people, "-n", 1)
    (result,) = tmp_path.glob("reenactment_result/*/*")
    out = must_run(tmp_path, "evaluate.py", result, "--allow-trained")
    assert "nan" not in out and "yaw not measured" in out
    scores = json.loads((result / "scores.json").read_text(), parse_constant=pytest.fail)
    values = {score["name"]: score["value"] for score in scores}
    assert values["yaw"] is None and values["jitter of the source"] is None and values["SSIM"] is not None
    (tmp_path / "empty").mkdir()
    must_fail(tmp_path, 3, "no reenactment.yaml; name", "evaluate.py", "empty")
    for part in ("face", "heatmap", "transformed", "generated"):
        with open_archive(result / f"measured/{part}.npz"):
            pass
    must_fail(tmp_path, 3, "no frame with a face to measure", "evaluate.py", result, "--allow-trained")
    for file in result.glob("measured/*"):
        file.unlink()
    must_fail(tmp_path, 3, "face.npz: missing", "evaluate.py", result, "--allow-trained")


@contextmanager
def open_archive(path):
    """An npz without an array in it."""
    writer = PreparedWriter(path)
    yield writer
    writer.finish()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"a": 1}', '{"a": {"b": "x"}}', '{"a": {"b": [1]}}', '{"a": {"b": 1' + "0" * 400 + "}}"]
)
def test_frames_of_a_result_that_are_damaged(tmp_path, text):
    record = {"input": "", "source": "", "target": "", "data_dir": "", "video": "", "film": ""}
    write_yaml(tmp_path / "reenactment.yaml", record | {"configs": {}, "weights": {}})
    (tmp_path / "frames.json").write_text(text)
    with pytest.raises(DataError, match="frames.json: missing or damaged"):
        add_scores(tmp_path, [])


@pytest.mark.parametrize(
    "key, value",
    [("configs", None), ("weights", {"decoder": 1}), ("input", [1]), ("weights", {True: "x"}), ("configs", {"x": "y"})],
)
def test_records_of_a_result_that_are_damaged(tmp_path, key, value):
    record = {"input": "", "source": "A", "target": "B", "data_dir": "../d", "video": "", "film": "", "frames": 9}
    record |= {"configs": {"decoder": "a.yaml"}, "weights": {"decoder": "/w/a.h5"}}
    write_yaml(tmp_path / "reenactment.yaml", record)
    found = record | {"data_dir": f"{tmp_path.parent}/d", "configs": {"decoder": f"{tmp_path}/a.yaml"}}
    assert read_record(tmp_path) == found
    write_yaml(tmp_path / "reenactment.yaml", record | {key: value})
    with pytest.raises(DataError, match="reenactment.yaml: damaged"):
        read_record(tmp_path)
    (tmp_path / "reenactment.yaml").write_text("[" * 3000)
    with pytest.raises(DataError, match="reenactment.yaml: damaged"):
        read_record(tmp_path)


def test_gestures_are_what_the_face_does():
    """By the mesh, on a person that its correction was not fitted on, against the expressions."""
    finder = FaceFinder()
    track = [Expression(*row) for row in expression_track(2000, 3)[::20]]
    seen = [metrics.gestures(finder.find(render(random_identity(900_001), face)[0])[0]) for face in track]
    for name, (part, sign) in metrics.EXPRESSION_OF.items():
        least = {"blink": 0.6, "pitch": 0.4, "gaze_y": 0.25}.get(part, 0.8)
        least = 0.4 if name.startswith("AU4 ") else least  # the drawing has no frown of its own
        found = metrics.correlation([sign * getattr(face, part) for face in track], [gesture[name] for gesture in seen])
        assert found > least, (name, found)


def test_gestures_of_source_and_result():
    images = [render(random_identity(900_002), face)[0] for face in TRACK]
    faces = evaluate.find_faces(images, "source")

    def scores(results: list, *truth: list) -> dict:
        run = SimpleNamespace(faces={"face": faces, "generated": results})
        return {(m.of.split(",")[0], m.name): m.value for m in evaluate.measure_gestures(run, *truth)}

    follows, true = "the result follows the source", "the result follows the true expression"
    found = scores(faces, TRACK)
    assert found["a face is found in the result", "in"] == 100
    assert min(value for (of, _), value in found.items() if of == follows) > 0.99
    assert found[true, "AU25/26 mouth opening"] > 0.8 and found[true, "AU43/45 eyes closed"] > 0.5
    units = [value for (of, name), value in found.items() if of == true and re.match("AU[0-9]", name)]
    assert len(units) == 5 and found[true, metrics.AU_MEAN] == pytest.approx(np.mean(units))
    assert scores([faces[0]] * len(faces))[follows, "yaw"] is None
    nobody = scores([None] * len(faces))
    assert nobody["a face is found in the result", "in"] == 0 and nobody[follows, "roll"] is None


def test_sharpness_is_a_share_of_the_true_pictures():
    true = render(random_identity(1), TRACK[0])[0]
    soft = cv2.GaussianBlur(true, (0, 0), 2)
    assert scores_of([true], [true])["sharpness"] == pytest.approx(1)
    assert scores_of([soft], [true])["sharpness"] < 0.5 < metrics.sharpness(true) / metrics.sharpness(soft)
    assert scores_of([np.zeros_like(true)], [np.zeros_like(true)])["sharpness"] == 0


def test_a_comb_is_seen_and_a_broad_wave_is_not():
    x = np.arange(256)
    wave = {period: 128 + 20 * np.cos(2 * np.pi * x / period) for period in (2, 2.5, 3.2, 16)}
    energies = {
        period: metrics.comb_energy(np.repeat(np.tile(row, (64, 1))[..., None], 3, axis=2).round().astype(np.uint8))
        for period, row in wave.items()
    }
    # a cosine's energy is half its squared height times the width; rfft holds half of that, of the Nyquist wave all
    assert energies[2] == pytest.approx(20**2 * 256, rel=0.02)
    assert energies[2.5] > 100 * energies[3.2] and energies[16] < 0.001 * energies[2]
