import cv2
import numpy as np
import pytest

from datasets.boundary import BOUNDARY_PARTS, DrawingStyle, draw_heatmap, resize_heatmap
from synthetic.people import Expression, landmarks_of, random_identity

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
