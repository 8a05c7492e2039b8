"""prepare_person.py: from a video to a person that the decoder trains on."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import ROOT, must_fail, must_run, write_frames
from PIL import Image

from config import load_config, to_dict, with_values
from datasets.annotations import read_annotations
from datasets.batches import to_float
from datasets.images import read_image, write_image
from faces.crop import Square, cut_square
from faces.finder import Face, FaceFinder
from faces.follower import BRIEF, EDGE, GONE, NO_FACE, SAME, SMALL, WAIT_S, FaceFollower, Placed, follow_face
from inference.backends import NnablaBackend
from inference.inputs import FrameSource
from inference.networks import Trained
from prepare_person import find_faces, large_ones, to_uint8
from synthetic.moving import VIDEO_FPS, VIDEO_SIZE, moving_head
from utils.files import write_yaml
from utils.video import open_film, read_video

SIZE = VIDEO_SIZE[::-1]  # height, width
FPS = VIDEO_FPS
ENCODER = ROOT / "demo/weights/encoder"
WITH_ENCODER = ("--encoder-config", ENCODER / "training_info.yaml", "--encoder-param-file", ENCODER / "weights.h5")


def scene(num_frames: int) -> list[tuple[np.ndarray, Square]]:
    return list(moving_head("Mira=41", num_frames, seed=0))


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """30 frames; the head is gone in those from 10 to 13."""
    frames = [frame for frame, _ in scene(30)]
    empty = np.full((*SIZE, 3), 120, np.uint8)
    frames[10:14] = [empty] * 4
    path = tmp_path_factory.mktemp("video") / "me.mp4"
    write_frames(path, frames)
    return path


LOOKS = 10 * np.eye(88)  # people who look very different


def face(center_x: float, center_y: float, width: float, who: int | None = None) -> list[Face]:
    box = np.array([center_x - width / 2, center_y - width / 2, width, width])
    return [Face(box, np.full((98, 2), (center_x, center_y)), look=None if who is None else LOOKS[who])]


NOTHING: list[Face] = []


def test_the_crop_lies_as_in_celebv():
    frames = scene(40)
    finder = FaceFinder(is_video=True)
    found = [finder.find(frame) for frame, _ in frames]
    crops = follow_face(found, [SIZE] * 40, FPS)
    assert not any(isinstance(crop, str) for crop in crops)
    for crop, (_, truth) in zip(crops, frames):
        assert crop.square.side == pytest.approx(truth.side, rel=0.15)
        assert crop.square.left + crop.square.side / 2 == pytest.approx(
            truth.left + truth.side / 2, abs=0.09 * truth.side
        )
        assert crop.square.top + crop.square.side / 2 == pytest.approx(
            truth.top + truth.side / 2, abs=0.09 * truth.side
        )


def test_the_crop_is_steadier_than_the_detector():
    rng = np.random.default_rng(0)
    times = np.arange(200)
    truth = np.stack([300 + 60 * np.sin(times / 20), 180 + 0 * times, 100 + 0 * times], axis=1)
    noisy = truth + rng.normal(0, 3, truth.shape)
    crops = follow_face([face(*row) for row in noisy], [SIZE] * 200, FPS)
    centers = np.array([crop.square.left + crop.square.side / 2 for crop in crops])
    assert np.abs(centers - truth[:, 0]).max() < 6
    shake, noise = (np.abs(np.diff(x, 2)).std() for x in (centers, noisy[:, 0]))
    assert shake < noise / 4
    assert np.std([crop.square.side for crop in crops]) < 1.5  # 1.77 x 3 in single images


def test_two_people_a_cut_and_a_glance():
    left, right, small = (100, 180, 90, 0), (500, 180, 100, 0), (560, 60, 60, 1)
    found = [face(*left) + face(*small)] * 20  # the larger of two faces
    found += [face(*right)] * 20  # a cut to the same face
    found[30] = face(*left)  # at another place, for an instant
    found[10] = found[11] = NOTHING
    crops = follow_face(found, [SIZE] * 40, FPS)
    assert crops[10] == crops[11] == NO_FACE and crops[30] == BRIEF
    centers = [None if isinstance(crop, str) else crop.square.left + crop.square.side / 2 for crop in crops]
    assert [center for center in centers[:20] if center] == pytest.approx([100] * 18, abs=1)  # no slide to the cut
    assert [center for center in centers[20:] if center] == pytest.approx([500] * 19, abs=1)


DRIVER, BYSTANDER = (200, 180, 100, 0), (500, 200, 60, 1)
BOTH, ALONE = face(*DRIVER) + face(*BYSTANDER), face(*BYSTANDER)
LARGER = face(*DRIVER) + face(480, 180, 140, 1)
MOVED = face(*BYSTANDER) + face(360, 120, 100, 0)
WITHOUT_LOOKS = face(*DRIVER[:3]) + face(*BYSTANDER[:3])


def followed(found: list[list[Face]], **options: object) -> tuple[list[str], list[float]]:
    """Tracked face of each image (d: first person, b: bystander, g: gone, .: no face), and times of the notes."""
    said: list[float] = []
    follower = FaceFollower(FPS, 0.0, 0.0, say_change=said.append, **options)
    crops = [crop for faces in found for crop in follower.add(faces, SIZE)]
    letters = {NO_FACE: ".", GONE: "g"}

    def letter(crop: Placed | str) -> str:
        if isinstance(crop, str):
            return letters.get(crop, "?")
        return "b" if crop.face.box[2] in (60, 140) else "d"

    return "".join(map(letter, crops)), said


@pytest.mark.parametrize(
    "found, expected",
    [
        ([BOTH] * 5 + [ALONE] + [BOTH] * 5, "d" * 5 + "g" + "d" * 5),  # one missed frame
        ([BOTH] * 5 + [NOTHING] * 3 + [ALONE] * 60 + [BOTH] * 5, "d" * 5 + "..." + "g" * 60 + "d" * 5),
        ([LARGER] * 1 + [BOTH] * 4, "b" * 5),  # it begins with the larger one
        ([BOTH] * 5 + [LARGER[1:]] * 9 + [LARGER] * 5, "d" * 5 + "g" * 9 + "d" * 5),
        ([BOTH] * 5 + [ALONE] * 20 + [MOVED] * 5, "d" * 5 + "g" * 20 + "d" * 5),  # known again at another place
        ([BOTH] * 5 + [face(200, 180, 140, 1)] * 9 + [BOTH] * 2, "d" * 5 + "g" * 9 + "d" * 2),  # in its place
        ([BOTH] * 5 + [face(210, 180, 100)] * 3, "d" * 8),  # nothing is known of its look
        ([WITHOUT_LOOKS] * 5 + [WITHOUT_LOOKS[1:]] * 9 + [WITHOUT_LOOKS] * 5, "d" * 5 + "g" * 9 + "d" * 5),
    ],
)
def test_nobody_takes_the_place_of_a_face_that_is_gone_for_a_while(found, expected):
    assert followed(found) == (expected, [])


def test_another_is_followed_after_a_while_until_the_first_comes_back_and_it_is_said():
    wait = int(WAIT_S * FPS)
    found = [BOTH] * 5 + [ALONE] * (wait + 10) + [BOTH] * 5
    letters, said = followed(found)
    assert letters == "d" * 5 + "g" * wait + "b" * 10 + "d" * 5
    assert said == [pytest.approx((wait + 5) / FPS), pytest.approx((wait + 15) / FPS)]
    # a number chooses once
    letters, said = followed([BOTH] * 5 + [MOVED] * 5, number=2)
    assert letters == "b" * 10 and said == []


def test_pictures_that_do_not_follow_each_other_wait_for_nobody():
    found = [face(200, 180, 100, 0), face(500, 200, 140, 1), face(210, 100, 100, 2)]
    assert followed(found, wait_s=0.0) == ("dbd", [])


def test_the_looks_of_two_people_differ_by_more_than_those_of_one():
    looks = {}
    for who in ("Mira=41", "Bo=7", "Rowan=9"):
        finder = FaceFinder()
        frames = [frame for frame, _ in moving_head(who, 60, 3)][::6]
        looks[who] = np.array([finder.find(frame)[0].look for frame in frames])
    for who, of_one in looks.items():
        mean = of_one.mean(axis=0)
        assert np.linalg.norm(of_one - mean, axis=1).max() < SAME
        for other, of_other in looks.items():
            if other != who:
                assert np.median(np.linalg.norm(of_other - mean, axis=1)) > SAME


@pytest.mark.slow
def test_a_person_is_made_of_one_face(tmp_path):
    """Two people in a row: the one that is seen more often is the person."""
    frames = [frame for who, count in (("Bo=7", 30), ("Mira=41", 120)) for frame, _ in moving_head(who, count, seed=0)]
    write_frames(tmp_path / "two.mp4", frames)
    said = must_run(tmp_path, "prepare_person.py", "two.mp4", "--name", "Me", "--data-dir", "people")
    names = (tmp_path / "people/Me/all_98pt.txt").read_text().splitlines()
    numbers = [int(line.split()[-1].removesuffix(".jpg")) for line in names]
    assert min(numbers) > 30 and len(numbers) > 40 and "face of another person" in said


def test_small_faces_and_faces_at_the_edge_are_left_out():
    assert set(follow_face([face(300, 180, 40)] * 10, [SIZE] * 10, FPS)) == {SMALL}
    assert set(follow_face([face(20, 180, 120)] * 10, [SIZE] * 10, FPS)) == {EDGE}
    assert set(follow_face([face(300, 180, 90)] * 2, [SIZE] * 2, FPS)) == {BRIEF}
    assert not isinstance(follow_face([face(300, 180, 90)], [SIZE], FPS, min_shot_s=0.0)[0], str)


def test_cutting_equals_opencv():
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    plain = cv2.resize(image[20:120, 30:130], (256, 256), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(cut_square(image, Square(30, 20, 100)), plain)
    assert Square(-10, 20, 100).outside((300, 400)) == 10
    assert Square(350, 20, 100).outside((300, 400)) == 50
    mirrored = cut_square(image, Square(-10, 20, 100), mirror=True)
    assert np.array_equal(
        mirrored, cv2.resize(np.pad(image, ((0, 0), (10, 0), (0, 0)), "reflect")[20:120, :100], (256, 256))
    )


def test_beyond_a_picture_nothing_can_be_taken_for_a_face():
    """Its edges are drawn out and blurred; what lies in the image is untouched."""
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    crop = cut_square(image, Square(-20, 220, 100))  # 20 of 100 pixels to the left, 20 below
    inside = cv2.resize(np.pad(image, ((0, 20), (20, 0), (0, 0)), "edge")[220:, :100], (256, 256))
    assert np.array_equal(crop[:204, 52:], inside[:204, 52:])
    steps = np.abs(np.diff(crop.astype(float), axis=1)).mean(axis=(1, 2))
    assert steps[210:].mean() < 0.1 * steps[:200].mean()


def test_a_large_face_is_kept_at_512_pixels_as_well():
    face = Face(np.zeros(4), landmarks=np.random.default_rng(0).uniform(0, 256, (98, 2)))
    crops = ["no face", *(Placed(Square(0, 0, side), face) for side in (300, 400, 500))]
    assert large_ones(crops, [1, 2, 3]) == {1, 2, 3}
    assert large_ones(crops, [1]) == set()
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    large = cut_square(image, Square(-20, 220, 100), size=512)
    assert (
        cv2.PSNR(cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA), cut_square(image, Square(-20, 220, 100)))
        > 30
    )


class Forgetful:
    """A finder that loses its face in images 31 to 33, unless it saw it in the image before."""

    def __init__(self, is_video: bool):
        self.reset()

    def reset(self) -> None:
        self.saw_it = False

    def find(self, image: np.ndarray) -> list[Face]:
        number = round(float(image.mean()) / 4)
        self.saw_it = self.saw_it or number not in (31, 32, 33)
        return [Face(np.array([80, 80, 90, 90]), np.full((98, 2), 125.0))] if self.saw_it else []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_face_is_not_lost_between_two_workers(tmp_path, num_workers, monkeypatch):
    """FrameSource are handed out in runs; a run begins with what the one before has seen."""
    write_frames(tmp_path / "m.mp4", [np.full((*SIZE, 3), 4 * number, np.uint8) for number in range(50)])
    monkeypatch.setattr("prepare_person.FaceFinder", Forgetful)
    crops = find_faces(FrameSource(tmp_path / "m.mp4"), num_workers)
    assert len(crops) == 50 and not [crop for crop in crops if isinstance(crop, str)]


def test_maps_of_both_sizes():
    y, x = np.mgrid[0:64, 0:64]
    bump = np.exp(-((x - 20.0) ** 2 + (y - 40.0) ** 2) / 18).astype(np.float32)
    boundary = np.stack([bump * 0.9 - 0.1] * 15)
    small, large = to_uint8(boundary, 64), to_uint8(boundary, 256)
    assert small.dtype == large.dtype == np.uint8 and large.shape == (15, 256, 256)
    assert np.array_equal(small[0], np.round(boundary[0].clip(0, 1) * 255).astype(np.uint8))
    assert np.unravel_index(large[3].argmax(), (256, 256)) == pytest.approx((4 * 40 + 1.5, 4 * 20 + 1.5), abs=3)


@pytest.mark.slow
def test_from_a_video_to_a_decoder(video, tmp_path):
    out = must_run(tmp_path, "prepare_person.py", video, "--name", "Me", *WITH_ENCODER)
    assert "26 of 30 frames; left out: 4 x no face found" in out
    folder = tmp_path / "datasets/CelebV/Me"
    lists = read_annotations(folder / "all_98pt.txt", 0, "")
    names = lists.names
    assert names == [f"{k:06d}.jpg" for k in [*range(1, 11), *range(15, 31)]]
    assert sorted(path.name for path in (folder / "Image").iterdir()) == names
    files = ["Image", "all_98pt.txt", "contact_sheet.png", "person.yaml"]
    assert sorted(path.name for path in folder.iterdir()) == files
    # landmarks lie where they are in the crops, which are cut from frames of a known face
    assert (lists.landmarks > 10).all() and (lists.landmarks < 246).all()
    sheet = Image.open(folder / "contact_sheet.png")
    assert sheet.size == (8 * 128, 4 * 128)
    with np.load(tmp_path / "datasets/celebv_heatmaps_encoder/Me_heatmap.npz") as maps:
        assert maps.files == names
        # the encoder sees a contour
        assert min(maps[name][0].max() for name in names) > 100
    must_run(tmp_path, "split_celebv.sh", "datasets/CelebV", 8)
    content = {
        "trg_celeb_name": "Me",
        "boundary": "encoder",
        "mode": "train",
        "ref_dir": "datasets/celebv_heatmaps_encoder",
        "experiment_name": "one",
        "model": {"planes": 2},
        "train": {"epochs": 1, "batch_size": 4, "feature_loss": {"lambda": 0}},
    }
    write_yaml(tmp_path / "decoder.yaml", content)
    must_run(tmp_path, "train_decoder.py", "--conf", "decoder.yaml")
    must_run(tmp_path, "test_decoder.py", "tmp.monitor/decoder/Me/one/training_info.yaml", "-n", 2)
    # a second time, everything is up to date
    must_fail(tmp_path, 3, "already exists", "prepare_person.py", video, "--name", "Me", *WITH_ENCODER)
    again = must_run(tmp_path, "prepare_person.py", folder, "--name", "Me", *WITH_ENCODER)
    assert "is up to date" in again
    assert "Me: 26 lines; images: 26 256x256" in must_run(tmp_path, "preprocess.py", "--dataset", "CelebV", "--check")
    # what does not fit together is refused
    write_yaml(tmp_path / "wrong.yaml", {**content, "ref_dir": ""})
    must_fail(tmp_path, 2, "requires ref_dir", "train_decoder.py", "--conf", "wrong.yaml")
    write_yaml(tmp_path / "wrong.yaml", {**content, "ref_dir": "nowhere"})
    line = must_fail(tmp_path, 3, "nowhere: no such folder (ref_dir)", "train_decoder.py", "--conf", "wrong.yaml")
    assert "prepare_person.py" in line and "--out-dir nowhere" in line
    both = {**content, "src_celeb_name": "You", "drawing": "gaze"}
    both["train"] = {"warm_start": {"epochs": 1}, "shape_loss": {"lambda": 0}, "batch_size": 2}
    shutil.copytree(folder, folder.with_name("You"))
    prepared = tmp_path / "datasets/celebv_heatmaps_encoder"
    for part in ("image", "heatmap", "resized_heatmap"):
        shutil.copy(prepared / f"Me_{part}.npz", prepared / f"You_{part}.npz")
    write_yaml(tmp_path / "wrong.yaml", both)
    must_fail(tmp_path, 3, "You is prepared with 'boundary: landmarks'", "train_transformer.py", "--conf", "wrong.yaml")
    shutil.copy(prepared / "Me_prepared.yaml", prepared / "You_prepared.yaml")
    must_fail(tmp_path, 2, "train.warm_start", "train_transformer.py", "--conf", "wrong.yaml")


@pytest.mark.slow
def test_boundaries_for_a_person_of_celebv(data, tmp_path):
    out_dir = tmp_path / "encoded"
    args = ("prepare_person.py", data / "datasets/CelebV/Rowan", "--name", "Rowan", "--out-dir", out_dir)
    must_fail(tmp_path, 2, "add --encoder-config", *args)
    must_fail(tmp_path, 2, "pass that one", *args[:3], "Other", *WITH_ENCODER)
    must_run(tmp_path, *args, *WITH_ENCODER)
    drawn = data / "datasets/celebv_heatmaps_GT"
    with np.load(out_dir / "Rowan_image.npz") as ours, np.load(drawn / "Rowan_image.npz") as theirs:
        assert ours.files == theirs.files
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours.files)
    for part, shape in (("heatmap", (15, 64, 64)), ("resized_heatmap", (15, 256, 256))):
        with np.load(out_dir / f"Rowan_{part}.npz") as ours, np.load(drawn / f"Rowan_{part}.npz") as theirs:
            name = ours.files[3]
            assert ours[name].shape == shape and ours[name].dtype == np.uint8
            error = ((ours[name].astype(float) - theirs[name]) ** 2).sum() / (theirs[name].astype(float) ** 2).sum()
            assert error < 0.5, part  # an all-zero answer's share; a trained encoder, not one with random weights
    must_run(tmp_path, *args, *WITH_ENCODER, "--batch-size", 4)  # larger than what is left: kept


@pytest.mark.slow
def test_the_encoders_configuration_says_which_statistics_count(data, tmp_path):
    config = load_config("encoder", ENCODER / "training_info.yaml")
    config = with_values(config, {"test": {"batch_stat": True}})
    write_yaml(tmp_path / "info.yaml", to_dict(config))
    person = (data / "datasets/CelebV/Rowan", "--name", "Rowan")
    with_batch = ("--encoder-config", "info.yaml", "--encoder-param-file", ENCODER / "weights.h5")
    out = must_run(tmp_path, "prepare_person.py", *person, "--out-dir", "batch", *with_batch)
    assert "Rowan, 14 images" in out
    must_run(tmp_path, "prepare_person.py", *person, "--out-dir", "running", *WITH_ENCODER)
    backend = NnablaBackend({"encoder": Trained(config, ENCODER / "weights.h5")}, 1)
    with (
        np.load(tmp_path / "batch/Rowan_heatmap.npz") as ours,
        np.load(tmp_path / "running/Rowan_heatmap.npz") as other,
    ):
        for name in ours.files[:3]:
            face = read_image(data / "datasets/CelebV/Rowan/Image" / name)
            (expected,) = backend.infer("encoder", to_float(face.transpose(2, 0, 1))[None])
            assert np.array_equal(ours[name], to_uint8(expected, 64))
            assert not np.array_equal(ours[name], other[name])
    # by batch statistics each heatmap depends on its batch: another size is another making
    out = must_run(tmp_path, "prepare_person.py", *person, "--out-dir", "batch", *with_batch, "--batch-size", 4)
    assert "the encoder's batch size has changed" in out


@pytest.mark.slow
def test_a_folder_of_pictures(tmp_path):
    for number, (frame, _) in enumerate(scene(6)):
        write_image(tmp_path / f"pictures/f{number + 1}.png", frame)
    phone = Image.fromarray(np.rot90(read_image(tmp_path / "pictures/f3.png")))  # stored sideways, as phones do
    exif = Image.Exif()
    exif[0x0112] = 6
    phone.save(tmp_path / "pictures/f3.png", exif=exif)
    (tmp_path / "pictures/f5.png").write_text("no picture")
    (tmp_path / "pictures/readme.txt").write_text("no picture")
    out = must_run(tmp_path, "prepare_person.py", "pictures", "--name", "Me Too")
    assert "5 of 6 frames; left out: 1 x image that cannot be decoded" in out and "f5.png" in out
    faces = [read_image(tmp_path / f"datasets/CelebV/Me Too/Image/{k:06d}.jpg") for k in (2, 3, 4)]
    assert np.abs(faces[1].astype(int) - faces[0]).mean() < 30  # upright, as its neighbours


@pytest.mark.slow
def test_a_synthetic_video(tmp_path):
    args = ("tools/make_synthetic.py", "video", "--person", "Mira=41", "--frames", 7)
    must_run(tmp_path, *args, "--out-file", "a.mp4")
    assert len(list(read_video(open_film(tmp_path / "a.mp4")))) == 7
    must_fail(tmp_path, 2, "must end in .mp4", *args, "--out-file", "a.gif")


@pytest.mark.slow
def test_what_is_no_video(video, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:30000])
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{video}'\n")
    (tmp_path / "empty").mkdir()
    for name in ("noise.mp4", "list.mp4"):
        must_fail(tmp_path, 3, f"{name}: cannot be read as a video", "prepare_person.py", name, "--name", "Me")
    must_fail(tmp_path, 3, "cut.mp4: ", "prepare_person.py", "cut.mp4", "--name", "Me")
    must_fail(tmp_path, 3, "no such video, image or folder", "prepare_person.py", "nowhere.mp4", "--name", "Me")
    must_fail(tmp_path, 3, "no images", "prepare_person.py", "empty", "--name", "Me")
    must_fail(tmp_path, 2, "must be a folder name", "prepare_person.py", video, "--name", "../Me")
    must_fail(
        tmp_path, 4, "no such weights file", "prepare_person.py", video, "--name", "Me", *WITH_ENCODER[:3], "x.h5"
    )
    must_fail(tmp_path, 2, "no such file", "prepare_person.py", video, "--name", "Me", "--encoder-config", "x.yaml")
    assert not list(tmp_path.glob("datasets/CelebV/*"))
