import zlib

import numpy as np
import pytest

from synthetic.expressions import Expression, expression_track
from synthetic.geometry import landmarks_of
from synthetic.painter import render, render_cutout
from synthetic.people import identity_seed, random_identity
from tools import make_synthetic


def test_same_seed_same_person_other_seed_other_person():
    face = Expression()
    first, again, other = (render(random_identity(seed), face)[0] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 5
    assert len({random_identity(seed) for seed in range(50)}) == 50


@pytest.mark.parametrize("seed", range(6))
def test_landmarks_lie_on_the_face(seed):
    who = random_identity(seed)
    picture, marks = render(who, Expression())
    assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
    assert ((marks > 0) & (marks < 256)).all()
    # the left eye is on the image's left, the brows above the eyes, the chin below the mouth
    assert marks[60:68, 0].mean() < marks[68:76, 0].mean()
    assert marks[33:42, 1].mean() < marks[60:68, 1].mean() < marks[76:96, 1].mean() < marks[16, 1]
    # the lips have the lips' colour
    x, y = marks[85].round().astype(int)
    lip = picture[(y + int(marks[94, 1])) // 2, x].astype(int)
    assert np.abs(lip - who.lip).mean() < 40


def test_expressions_move_what_they_name():
    who = random_identity(9)

    def marks(**values):
        return landmarks_of(who, Expression(**values))

    neutral = marks()
    assert np.ptp(marks(mouth_open=1)[[90, 94], 1]) > np.ptp(neutral[[90, 94], 1]) + 10
    assert np.ptp(marks(blink=1)[[62, 66], 1]) < 0.5 * np.ptp(neutral[[62, 66], 1])
    assert marks(brow_raise=1)[33:51, 1].mean() < neutral[33:51, 1].mean() - 3
    assert marks(smile=1)[82, 0] - marks(smile=1)[76, 0] > neutral[82, 0] - neutral[76, 0]
    assert marks(yaw=0.4)[54, 0] - marks(yaw=-0.4)[54, 0] > 20
    np.testing.assert_allclose(marks(shift_x=5, shift_y=-3), neutral + (5, -3))


def test_expression_is_apart_from_identity():
    """One expression opens two people's mouths alike, so reenactment has a truth."""
    openings = []
    for seed in (9, 29):
        who = random_identity(seed)
        track = [landmarks_of(who, Expression(mouth_open=value)) for value in np.linspace(0, 1, 9)]
        openings.append([marks[94, 1] - marks[90, 1] for marks in track])
    assert np.corrcoef(openings)[0, 1] > 0.99


def test_tracks_are_smooth_and_differ_by_seed():
    track = expression_track(300, 5)
    assert track.shape == (300, 12) and track.dtype == np.float32
    assert np.array_equal(track, expression_track(300, 5))
    assert not np.array_equal(track, expression_track(300, 6))
    yaw = np.rad2deg(track[:, 0])
    assert np.abs(np.diff(yaw)).max() < 5 < np.ptp(yaw)
    assert track[:, 9].max() > 0.9  # with a blink


def test_cutout_is_transparent_around_the_person():
    cutout, _ = render_cutout(random_identity(2), Expression())
    assert cutout[2, 2, 3] == 0 and cutout[120, 128, 3] == 255 and cutout[250, 128, 3] == 255


def test_names_and_seeds():
    assert identity_seed("Ada=12") == ("Ada", 12)
    assert identity_seed("Ada") == identity_seed("Ada") != identity_seed("Bo")
    for wrong in ("=3", "a/b", "..", "Ada=x", "-n"):
        with pytest.raises(ValueError):
            identity_seed(wrong)


def test_stride_takes_every_nth_frame_of_the_same_motion(tmp_path):
    for stride, frames in ((1, 6), (3, 2)):
        make_synthetic.make_celebv([("Ada", 3)], frames, stride, 5, tmp_path / str(stride), True)
    every, third = (np.load(tmp_path / f"{stride}/Ada/expressions.npz") for stride in (1, 3))
    # the noise of a track depends on its length, so compare with the track itself
    track = expression_track(6, zlib.crc32(b"5 Ada"))
    assert np.array_equal(every["expressions"], track)
    assert np.array_equal(third["expressions"], track[::3])
    lines = [(tmp_path / f"{stride}/Ada/all_98pt.txt").read_text().splitlines() for stride in (1, 3)]
    assert [line.split()[:-1] for line in lines[1]] == [line.split()[:-1] for line in lines[0][::3]]
    assert int(third["identity_seed"]) == 3 and list(third["columns"]) == list(Expression._fields)


def test_a_turned_head_shows_no_gap_in_long_hair():
    """Between the cheek and the far hair lies hair, not background."""
    who = random_identity(29)
    assert who.has_long_hair
    for yaw in (-0.45, -0.3, 0.3, 0.45):
        cutout, marks = render_cutout(who, Expression(yaw=yaw))
        rows = range(int(marks[0, 1]), int(marks[4, 1]))
        for row in rows:
            opaque = np.flatnonzero(cutout[row, :, 3] > 128)
            assert len(opaque) == opaque[-1] - opaque[0] + 1, (yaw, row)
