import cv2
import numpy as np
import pytest

from config import load_config, with_values
from datasets.boundary import BOUNDARY_PARTS, DrawingStyle, draw_heatmap, resize_heatmap, style_of
from synthetic.expressions import Expression
from synthetic.geometry import landmarks_of
from synthetic.people import random_identity

# SPEC.md section 1, written out by hand
JOINED = [
    list(range(0, 33)),
    [33, 34, 35, 36, 37],
    [38, 39, 40, 41],
    [42, 43, 44, 45, 46],
    [47, 48, 49, 50],
    [51, 52, 53, 54],
    [55, 56, 57, 58, 59],
    [60, 61, 62, 63, 64],
    [64, 65, 66, 67, 60],
    [68, 69, 70, 71, 72],
    [72, 73, 74, 75, 68],
    [76, 77, 78, 79, 80, 81, 82],
    [88, 89, 90, 91, 92],
    [92, 93, 94, 95, 88],
    [82, 83, 84, 85, 86, 87, 76],
]


def by_hand(landmarks: np.ndarray, size: int) -> np.ndarray:
    maps = []
    for part in JOINED:
        canvas = np.zeros((256, 256), np.uint8)
        for a, b in zip(part, part[1:]):
            start, end = ((int(landmarks[k, 0]), int(landmarks[k, 1])) for k in (a, b))
            cv2.line(canvas, start, end, 255, 3)
        canvas = cv2.GaussianBlur(canvas, (5, 5), 3)
        maps.append(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_LINEAR))
    return np.stack(maps)


@pytest.mark.parametrize("size", [64, 256])
def test_drawing_equals_plain_opencv(size):
    landmarks = landmarks_of(random_identity(4), Expression(yaw=0.3, mouth_open=0.6))
    drawn = resize_heatmap(draw_heatmap(landmarks), size)
    assert drawn.dtype == np.uint8 and drawn.shape == (15, size, size)
    assert np.array_equal(drawn, by_hand(landmarks, size))
    assert (drawn.reshape(15, -1).max(axis=1) > 100).all()


def test_the_edge_79_80_is_there():
    assert [list(part) for part in BOUNDARY_PARTS.values()] == JOINED
    landmarks = np.full((98, 2), 200.0)
    landmarks[79], landmarks[80] = (50, 60), (90, 60)
    assert draw_heatmap(landmarks)[11][60, 70] > 100


def test_landmarks_outside_the_image_are_drawn_as_far_as_they_reach():
    landmarks = landmarks_of(random_identity(4), Expression()) - (120, 0)
    assert np.array_equal(draw_heatmap(landmarks), by_hand(landmarks, 256))


def test_thickness_follows_the_image():
    landmarks = np.full((98, 2), 300.0)
    landmarks[0], landmarks[1] = (100, 100), (400, 100)
    column = draw_heatmap(landmarks, (512, 512), DrawingStyle())[0][:, 250]
    assert 6 <= (column > 0).sum() <= 12


def test_wrong_number_of_landmarks_is_refused():
    with pytest.raises(ValueError, match="98, 2"):
        draw_heatmap(np.zeros((68, 2)))


def gaze_by_hand(landmarks: np.ndarray) -> np.ndarray:
    """The style `gaze`: lines between pixels, and a disc for each pupil in the upper eyelid's channel."""
    fixed = np.round(landmarks * 16).astype(np.int32)
    maps = np.zeros((15, 256, 256), np.uint8)
    for canvas, part in zip(maps, JOINED):
        cv2.polylines(canvas, [fixed[part]], False, 255, 3, cv2.LINE_AA, 4)
    for channel, pupil in ((7, 96), (9, 97)):
        cv2.circle(maps[channel], tuple(map(int, fixed[pupil])), 3 * 16, 255, -1, cv2.LINE_AA, 4)
    return np.stack([cv2.GaussianBlur(canvas, (5, 5), 3) for canvas in maps])


@pytest.mark.parametrize("shift", [(0, 0), (0.37, -0.61), (-130, 0), (150, 90), (1000, 0)])
def test_the_style_gaze_equals_plain_opencv(shift):
    landmarks = landmarks_of(random_identity(4), Expression(yaw=0.3, gaze_x=0.8, gaze_y=-0.5)) + shift
    landmarks[96] -= (30, 0)  # a pupil that lies far from its eyelid is drawn as well
    assert np.array_equal(draw_heatmap(landmarks, style=DrawingStyle(name="gaze")), gaze_by_hand(landmarks))


def test_the_style_gaze_shows_where_the_eyes_look_and_moves_by_parts_of_a_pixel():
    looks = [landmarks_of(random_identity(4), Expression(gaze_x=x)) for x in (-0.6, 0, 0.6)]
    published = [draw_heatmap(face) for face in looks]
    assert all(np.array_equal(published[0], other) for other in published)
    left, middle, right = (draw_heatmap(face, style=DrawingStyle(name="gaze")).astype(float) for face in looks)
    across = [(np.arange(256) * maps[7].sum(axis=0)).sum() / maps[7].sum() for maps in (left, middle, right)]
    assert across[0] < across[1] < across[2]
    whole, part = (draw_heatmap(looks[1] + d, style=DrawingStyle(name="gaze")) for d in (0, 0.25))
    assert not np.array_equal(whole, part)


def test_a_configuration_decides_how_boundaries_are_drawn():
    assert style_of(load_config("decoder")) == DrawingStyle()
    config = with_values(load_config("transformer"), {"drawing": "gaze", "preprocess": {"line_thickness": 5}})
    assert style_of(config) == DrawingStyle(line_thickness=5, name="gaze")
    assert DrawingStyle().record() == {"line_thickness": 3, "gaussian_kernel": 5, "gaussian_sigma": 3.0}
    assert DrawingStyle(name="gaze").record()["name"] == "gaze"
