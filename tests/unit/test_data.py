import numpy as np
import pytest
from helpers import GAZE
from PIL import Image

from datasets.annotations import format_line, read_annotations
from datasets.batches import to_float
from datasets.boundary import draw_heatmap, resize_heatmap
from datasets.celebv import HEATMAP, IMAGE, RESIZED_HEATMAP, find_people
from datasets.images import read_image, write_image
from datasets.panels import face_image
from datasets.samples import DrawnDataset, ShiftedDataset
from datasets.wflw import WFLWDataset, WFLWFaces, crop_face, list_path
from utils.errors import DataError

PARTS = (IMAGE, HEATMAP, RESIZED_HEATMAP)


def test_prepared_data_equals_drawn_data(data):
    drawn = DrawnDataset(data / "datasets/CelebV", "Rowan", "train", PARTS, style=GAZE)
    prepared = DrawnDataset(
        data / "datasets/CelebV", "Rowan", "train", PARTS, data / "datasets/celebv_heatmaps_GT", style=GAZE
    )
    assert len(drawn) == len(prepared) == 8
    for index in range(8):
        for first, second in zip(drawn[index], prepared[index]):
            assert first.dtype == second.dtype == np.uint8
            assert np.array_equal(first, second)
    assert [array.shape for array in drawn[0]] == [(3, 256, 256), (15, 64, 64), (15, 256, 256)]


def test_all_train_and_test_lists(data):
    root = data / "datasets/CelebV"
    names = {mode: DrawnDataset(root, "Linnea", mode, (HEATMAP,)).names for mode in ("all", "train", "test")}
    assert names["train"] + names["test"] == names["all"]
    assert len(names["all"]) == 14


def test_preprocessing_covers_all_frames_in_the_lists_order(data):
    with np.load(data / "datasets/celebv_heatmaps_GT/Linnea_heatmap.npz") as file:
        assert file.files == [f"{k + 1:06d}.jpg" for k in range(14)]
    assert find_people(data / "datasets/CelebV") == ["Linnea", "Rowan"]


def test_wflw_files(data):
    source = WFLWDataset(data / "datasets/WFLW_heatmaps", "train", GAZE)
    assert len(source) == 6
    image, heatmap = source[0]
    assert image.shape == (3, 256, 256) and heatmap.shape == (15, 64, 64) and image.dtype == np.uint8
    table = (data / "datasets/WFLW_heatmaps/train_data.csv").read_text().splitlines()
    assert table[0] == "saved_name,real_name" and len(table) == 7
    names = read_annotations(list_path(data / "datasets", "train"), 10, "").names
    assert table[1] == f"train_0.png,{names[0]}"


def test_wflw_crop_is_a_square_about_the_nose():
    # a image whose red is x and green is y, so that a pixel tells where it came from
    y, x = np.mgrid[0:200, 0:240].astype(np.uint8)
    image = np.stack([x, y, np.zeros_like(x)], axis=2)
    landmarks = np.full((98, 2), 100.0)
    landmarks[54] = (120, 100)
    crop, points = crop_face(image, landmarks, np.array([60, 70, 150, 130]), margin=0.1)
    # the box reaches 60 to the left of the nose, so the half side is 66
    assert crop.shape == (256, 256, 3)
    assert crop[128, 128, :2].tolist() == pytest.approx([120, 100], abs=1)
    assert crop[0, 0, :2].tolist() == pytest.approx([54, 34], abs=1)
    assert crop[255, 255, :2].tolist() == pytest.approx([186, 166], abs=1)
    np.testing.assert_allclose(points[54], [128, 128], atol=1)
    np.testing.assert_allclose(points[0], (np.array([100.0, 100.0]) - (54, 34)) * 256 / 132, atol=1)


def test_wflw_crop_mirrors_where_it_leaves_the_image():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, :10] = 255  # a bright left edge
    landmarks = np.full((98, 2), 20.0)
    crop, points = crop_face(image, landmarks, np.array([0, 0, 60, 60]), margin=0.0)
    # 40 about (20, 20): 20 columns outside on the left, mirrored, so the bright band is twice as wide
    bright = (crop[128, :, 0] > 128).sum() / 256 * 80
    assert 18 <= bright <= 21
    np.testing.assert_allclose(points[54], [128, 128], atol=1)


def test_margins_differ_between_faces_but_not_between_runs(data):
    first, again, other = ([face.image for face in WFLWFaces(data / "datasets", "test", seed)] for seed in (42, 42, 43))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other))


def test_annotation_lines_round_trip_with_spaces_in_names(tmp_path):
    landmarks = np.random.default_rng(0).uniform(0, 255, (98, 2))
    path = tmp_path / "list.txt"
    path.write_text(format_line(landmarks, "a folder/some name.jpg", (1, 2)) + "\n\n")
    found = read_annotations(path, 2, "")
    assert found.names == ["a folder/some name.jpg"] and found.extras.tolist() == [[1, 2]]
    np.testing.assert_allclose(found.landmarks[0], landmarks, atol=1e-4)


@pytest.mark.parametrize(
    "line, words",
    [
        ("1 2 3 a.jpg", "line 2 has 4 columns instead of 197"),
        (" ".join(["x"] * 196) + " a.jpg", "line 2 contains something that is not a number"),
        (" ".join(["nan"] * 196) + " a.jpg", "line 2 has a value that is not finite"),
        (" ".join(["1e9"] * 196) + " a.jpg", "line 2 has a value beyond 100000 pixels"),
        (" ".join(["1"] * 196) + " ../../a.jpg", "line 2 names '../../a.jpg', which is outside the folder"),
        (" ".join(["1"] * 196) + " /etc/a.jpg", "line 2 names '/etc/a.jpg', which is outside the folder"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, words):
    path = tmp_path / "all_98pt.txt"
    path.write_text(format_line(np.zeros((98, 2)), "a.jpg") + f"\n{line}\n")
    with pytest.raises(DataError) as error:
        read_annotations(path, 0, "")
    assert words in str(error.value) and str(path) in str(error.value)


def test_missing_and_empty_lists(tmp_path):
    with pytest.raises(DataError, match="no such annotation list; unpack it"):
        read_annotations(tmp_path / "x.txt", 0, "unpack it")
    (tmp_path / "y.txt").write_text("\n")
    with pytest.raises(DataError, match="no annotations"):
        read_annotations(tmp_path / "y.txt", 0, "unpack it")


def picture(tmp_path, mode: str, ending: str):
    path = tmp_path / f"a.{ending}"
    gradient = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    if mode == "I;16":
        Image.fromarray(gradient.astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(gradient).convert(mode).save(path)
    return path


@pytest.mark.parametrize("mode, ending", [("L", "jpg"), ("CMYK", "jpg"), ("RGBA", "png"), ("P", "png"), ("RGB", "png")])
def test_images_of_any_mode_come_back_as_rgb(tmp_path, mode, ending):
    image = read_image(picture(tmp_path, mode, ending))
    assert image.shape == (256, 256, 3) and image.dtype == np.uint8
    assert abs(int(image[0, 200, 0]) - 200) < 8


def test_values_of_images(tmp_path):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    face = np.repeat(image[None], 3, axis=0)
    assert np.array_equal(face_image(to_float(face))[..., 0], image)
    floats = to_float(np.full((1, 15, 2, 2), 255, np.uint8))
    assert floats.dtype == np.float32 and floats.max() == 1.0
    assert to_float(np.zeros((1, 3, 2, 2), np.uint8)).min() == -1.0
    write_image(tmp_path / "b.png", np.zeros((4, 4, 3), np.uint8), {"Comment": "synthetic"})
    assert Image.open(tmp_path / "b.png").text == {"Comment": "synthetic"}


def test_shifted_heatmaps_are_drawn_where_landmarks_are_moved_to(data):
    a = DrawnDataset(data / "datasets/CelebV", "Rowan", "train", (HEATMAP,))
    heatmap, itself, target = ShiftedDataset(a, [lambda marks: marks, lambda marks: marks + (3, -5)])[0]
    assert np.array_equal(heatmap, a[0][0]) and np.array_equal(heatmap, itself)
    assert np.array_equal(target, resize_heatmap(draw_heatmap(a.landmarks[0] + (3, -5)), 64))
