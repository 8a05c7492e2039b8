"""A face that is learned while it drives, and the people that can be driven."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from helpers import DEMO

from config.runs import GEOMETRY_FILE, HELD_OUT_FILE, INFO_FILE
from faces.geometry import NeutralToNeutral, Shape, looking_ahead, shape_of, typical_neutral
from faces.learning import LEARN_FRAMES, NEUTRAL_FRAMES, LearningGeometry
from faces.motion import Motion
from people.targets import find_targets, portrait
from synthetic.expressions import Expression, expression_track
from synthetic.geometry import landmarks_of
from synthetic.people import random_identity
from utils.errors import UserError, WeightsError
from web.live_reenactor import FRAMES_WAITING, LiveFrames
from web.server import facts_of


def test_pictures_are_taken_in_order_until_the_end():
    camera = LiveFrames()
    for number in range(3):
        camera.offer(np.full((1, 1, 3), number, np.uint8))
    pictures = iter(camera)
    assert [next(pictures)[0, 0, 0] for _ in range(3)] == [0, 1, 2]
    threading.Timer(0.1, camera.end).start()
    assert list(pictures) == []
    for _ in range(FRAMES_WAITING):
        camera.offer(np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(UserError, match="faster than"):
        camera.offer(np.zeros((1, 1, 3), np.uint8))
    camera.end()
    assert list(camera) == []


def track(seed: int, count: int) -> np.ndarray:
    who = random_identity(seed)
    return np.array([landmarks_of(who, Expression(*map(float, row))) for row in expression_track(4 * count, 0)[::4]])


def test_a_live_face_is_learned_and_calibrated():
    target, source = shape_of(track(29, 100)), track(9, LEARN_FRAMES + 1)
    geometry = LearningGeometry(target)
    middle = (typical_neutral(source[0]) + source[0]) / 2  # little is known of it yet
    first = NeutralToNeutral(Shape(source[0], middle), target).move(source[0])
    np.testing.assert_allclose(geometry.move(source[0]), first)
    for marks in source[1:LEARN_FRAMES]:
        assert geometry.is_learning
        moved = geometry.move(marks)
    assert not geometry.is_learning
    expected = NeutralToNeutral(shape_of(source[:LEARN_FRAMES]), target)
    np.testing.assert_allclose(moved, expected.move(source[LEARN_FRAMES - 1]))
    neutral = looking_ahead(landmarks_of(random_identity(9), Expression()))
    geometry.calibrate()
    for _ in range(NEUTRAL_FRAMES):
        moved = geometry.move(neutral)
    np.testing.assert_allclose(moved, target.neutral, atol=1e-6)
    mean = neutral + 0  # another array: it is known to be neutral
    np.testing.assert_allclose(geometry.move(source[5]), NeutralToNeutral(Shape(mean, neutral), target).move(source[5]))


def test_a_live_face_moves_as_it_is_chosen():
    target, source = shape_of(track(29, 100)), track(9, LEARN_FRAMES)
    geometry = LearningGeometry(target)
    for marks in source:
        geometry.move(marks)
    neutral_source = shape_of(source)
    geometry.choose("lips", 1.5)
    expected = NeutralToNeutral(neutral_source, target).move(
        Motion("lips", 1.5, neutral_source.neutral).choose(source[7])
    )
    np.testing.assert_allclose(geometry.move(source[7]), expected)
    geometry.choose("all", 1.0)
    np.testing.assert_allclose(geometry.move(source[7]), NeutralToNeutral(neutral_source, target).move(source[7]))
    # another neutral face is what the chosen motion begins from, then
    geometry.choose("pose", 1.0)
    geometry.calibrate()
    for _ in range(NEUTRAL_FRAMES):
        geometry.move(source[3])
    np.testing.assert_allclose(geometry.move(source[3]), target.neutral, atol=1e-6)


def test_a_live_face_is_calibrated_before_it_was_seen():
    target, neutral = shape_of(track(29, 100)), looking_ahead(landmarks_of(random_identity(9), Expression()))
    geometry = LearningGeometry(target)
    geometry.calibrate()  # pressed while there was no face yet
    for _ in range(NEUTRAL_FRAMES):
        assert geometry.is_learning
        moved = geometry.move(neutral)
    assert not geometry.is_learning
    np.testing.assert_allclose(moved, target.neutral, atol=1e-6)


def test_people_are_found_with_what_is_known_of_them(tmp_path, capsys):
    for run in ("good", "no_shape", "no_weights", "damaged"):
        folder = tmp_path / "decoder" / "Linnea" / run
        folder.mkdir(parents=True)
        if run != "no_weights":
            (folder / "netG_decoder_3.h5").write_bytes((DEMO / "decoder/weights.h5").read_bytes())
        info = "model: [" if run == "damaged" else (DEMO / "decoder" / INFO_FILE).read_text()
        (folder / INFO_FILE).write_text(info)
        if run != "no_shape":
            (folder / GEOMETRY_FILE).write_text((DEMO / "decoder" / GEOMETRY_FILE).read_text())
        (folder / HELD_OUT_FILE).write_text('{"PSNR": 25.8, "SSIM": 0.865, "sharpness": 0.52}')
    people = find_targets([tmp_path, tmp_path / "nowhere", tmp_path])
    assert list(people) == ["Linnea, demo", "Linnea, good"] and people["Linnea, demo"].date > "2020"
    found = people["Linnea, good"]
    assert found.held_out == {"PSNR": 25.8, "SSIM": 0.865, "sharpness": 0.52}
    assert capsys.readouterr().out.count("note: skipped") == 3
    note = found.decoder.weights.parent / HELD_OUT_FILE
    note.write_text('{"PSNR": "?", "SSIM": 0.8, "sharpness": 0.5}')
    assert find_targets([tmp_path])["Linnea, good"].held_out == {}


def test_people_of_one_name_are_all_shown_and_a_damaged_one_hides_nobody(tmp_path):
    for folder in (tmp_path / name / "decoder" / "Linnea" / "good" for name in ("a", "b")):
        folder.mkdir(parents=True)
        for name, own in (("weights.h5", "netG_decoder_3.h5"), (INFO_FILE, INFO_FILE), (GEOMETRY_FILE, GEOMETRY_FILE)):
            (folder / own).write_bytes((DEMO / "decoder" / name).read_bytes())
    people = find_targets([tmp_path / "a", tmp_path / "b"])
    assert list(people) == ["Linnea, demo", "Linnea, good", "Linnea, good (2)"]
    (tmp_path / "b/decoder/Linnea/good").rename(tmp_path / "b/decoder/Linnea/demo")  # make demo-train calls its runs so
    assert list(find_targets([tmp_path / "b"])) == ["Linnea, demo", "Linnea, demo (2)"]
    (tmp_path / "b/decoder/Linnea/demo").rename(tmp_path / "b/decoder/Linnea/good")
    weights = people["Linnea, good"].decoder.weights
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert facts_of(people["Linnea, demo"])[1:] == ["91% like images of the video", "54% as sharp"]
    assert portrait(people["Linnea, demo"], "cpu").shape == (256, 256, 3)
    with pytest.raises(WeightsError):
        portrait(people["Linnea, good"], "cpu")
