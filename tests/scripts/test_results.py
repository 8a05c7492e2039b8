"""Results of a reenactment: their order, missing faces, layouts and stored arrays."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import PATIENCE_S
from PIL import Image

from config.config_decoder import DecoderConfig
from datasets.panels import heatmap_image, labelled
from faces.follower import NO_FACE
from inference.inputs import FaceFrame, Input
from inference.networks import Trained
from inference.outputs import MeasuredFrames, lay_out, layout_size, open_frames
from inference.reenactor import MissingFaces, Reenactor, Result, in_batches, results_of
from utils.errors import DataError
from utils.files import new_result
from utils.parallel import prefetched

DECODER = Trained(DecoderConfig(), Path("weights.h5"))


class Fake:
    """A backend whose networks hand on the mean of what they get."""

    name = "fake"

    def infer(self, module, x):
        shape = {"encoder": (15, 64, 64), "transformer": (15, 64, 64), "decoder": (3, 256, 256)}[module]
        mean = x.mean(axis=(1, 2, 3))
        return np.broadcast_to(mean[:, None, None, None], (len(x), *shape)).astype(np.float32).copy()


def face_frame(index: int, grey: int | None) -> FaceFrame:
    face = None if grey is None else np.full((256, 256, 3), grey, np.uint8)
    return FaceFrame(index, face, "" if face is not None else NO_FACE, index / 25)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_results_come_in_order_whatever_the_batch(batch_size):
    greys = [200, 210, None, 220, None, None, 230, 240]
    frames = [face_frame(index, grey) for index, grey in enumerate(greys)]
    items = list(Reenactor(Fake(), DECODER, True, batch_size=batch_size).reenact(frames))
    assert [item.index for item in items] == list(range(8))
    assert [item.face[0, 0, 0] if isinstance(item, Result) else None for item in items] == greys
    assert all(abs(int(r.generated[0, 0, 0]) - g) <= 1 for r, g in zip(items, greys) if g)
    assert all(sum(f.face is not None for f in batch) <= batch_size for batch in in_batches(frames, batch_size))


def test_frames_end_with_the_results_that_are_no_longer_wanted():
    ended = threading.Event()

    def endless():
        try:
            yield from (face_frame(index, 200) for index in itertools.count())
        finally:
            ended.set()

    frames = Input(endless(), 25, None)  # held here, as a frame of a traceback may do
    with results_of(Reenactor(Fake(), DECODER, True), frames, MissingFaces("hold")) as results:
        assert next(results).index == 0
    assert ended.wait(PATIENCE_S)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_boundaries_are_steadied_over_time(batch_size):
    greys = [128, 255, 255, None, 255]
    frames = [face_frame(index, grey) for index, grey in enumerate(greys)]
    items = list(Reenactor(Fake(), DECODER, True, batch_size=batch_size, smooth=0.5).reenact(frames))
    levels = [float(heatmap_image(item.heatmap).mean()) for item in items if isinstance(item, Result)]
    np.testing.assert_allclose(levels, [1, 128, 191, 255], atol=1.5)  # forgotten where the face was gone


def test_frames_without_a_face():
    frames = [face_frame(index, grey) for index, grey in enumerate([None, 200, None, 100])]
    items = list(Reenactor(Fake(), DECODER, True).reenact(frames))
    hold, skip, fail = (MissingFaces(choice) for choice in ("hold", "skip", "fail"))
    held = [hold.resolve(item) for item in items]
    assert [result.index for result in held] == [0, 1, 2, 3]
    assert held[0].generated.max() == 0 and np.array_equal(held[2].generated, held[1].generated)
    assert [result.is_held for result in held] == [True, False, True, False]
    assert [result.index for result in map(skip.resolve, items) if result] == [1, 3]
    with pytest.raises(DataError, match="frame 0 at 0.00 s: no face found"):
        list(map(fail.resolve, items))


def test_only_the_generated_face_is_labelled(tmp_path):
    grey = np.full((256, 256, 3), 128, np.uint8)
    changed = np.abs(labelled(grey).astype(int) - grey).max(axis=2)
    assert changed.max() > 100 and changed[:-30].max() == 0 and changed[:, 120:].max() == 0
    (item,) = Reenactor(Fake(), DECODER, True).reenact([face_frame(0, 128)])
    with open_frames(tmp_path, {"Comment": "AI-generated"}) as frames:
        frames.write(item, lay_out(item, "panel", has_label=True))
    face = lay_out(item, "face", has_label=False)
    panel = Image.open(tmp_path / "result/000000-000.png")
    assert panel.size == (1024, 256) and panel.text["Comment"] == "AI-generated"
    assert np.array_equal(face, item.generated)  # the video's, which was asked for without
    tiles = np.asarray(panel)
    lines = [heatmap_image(item.heatmap), heatmap_image(item.transformed)]
    assert np.array_equal(tiles[:, :768], np.hstack([item.face, *lines]))
    assert np.array_equal(tiles[:, 768:], labelled(item.generated))


def test_what_is_measured_has_no_label_and_no_held_frame(tmp_path):
    frames = [face_frame(index, grey) for index, grey in enumerate([100, None, 200])]
    missing = MissingFaces("hold")
    items = list(Reenactor(Fake(), DECODER, True).reenact(frames))
    with open_frames(tmp_path, {}) as results:
        for item in map(missing.resolve, items):
            results.write(item, lay_out(item, "face", has_label=True))
    assert list(results.metrics) == [f"{index:06d}-000.png" for index in range(3)]
    measured = MeasuredFrames(tmp_path, 10)
    assert measured.indices == [0, 2]
    for part in ("heatmap", "transformed", "generated"):
        for array, item in zip(measured.read(part), (items[0], items[2])):
            np.testing.assert_allclose(array, getattr(item, part), atol=0 if part == "generated" else 5e-4)
    path = tmp_path / "measured/transformed.npz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="transformed.npz: not a complete npz file"):
        MeasuredFrames(tmp_path, 10)


def test_a_result_without_a_face_leaves_no_folder(tmp_path):
    missing = MissingFaces("hold")
    with pytest.raises(DataError, match="here: no usable face in 1 frames"):  # noqa: SIM117
        with new_result(tmp_path, "run") as folder, open_frames(folder.path, {}) as results:
            item = missing.resolve(face_frame(0, None))
            results.write(item, lay_out(item, "face", has_label=True))
            missing.require_some("here")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("has_truth", [False, True])
@pytest.mark.parametrize("layout", ["panel", "face", "side-by-side"])
def test_the_size_of_a_layout_is_known_before(layout, has_truth):
    (item,) = Reenactor(Fake(), DECODER, True).reenact([face_frame(0, 128)])
    item = item._replace(true_heatmap=item.heatmap if has_truth else None)
    height, width, _ = lay_out(item, layout, has_label=True).shape
    assert layout_size(layout, has_truth) == (width, height)


def test_made_ahead_in_order_with_errors_and_no_thread_left():
    def items():
        yield from range(5)
        raise DataError("the end of it")

    before = threading.active_count()
    got = []
    with pytest.raises(DataError, match="the end of it"), prefetched(items(), 2) as ready:
        got.extend(ready)
    assert got == [0, 1, 2, 3, 4]
    closed = []

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    with prefetched(endless(), 2) as ready:
        assert next(ready) == 1
    assert closed == [True] and threading.active_count() == before
