"""Videos that are given to the page: uploads, jobs, results."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from helpers import DEMO, MAX_SECONDS, Visitor, ask_page, files_of, wait_until, write_frames
from starlette.requests import ClientDisconnect

from people.targets import Target, target_of
from utils.errors import DataError, UserError
from utils.video import open_film
from web.controls import read_controls
from web.session import Refused
from web.videos import READING, Limits, Videos, _Stop


def test_a_video_is_made_with_its_sound_and_kept_until_it_is_deleted(page, films, tmp_path):
    results = page[1] / "tmp.monitor/page_results"
    with Visitor(page) as visitor:
        status, found = visitor.upload((films / "face.mp4").read_bytes())
        assert status == 200 and found["seconds"] == pytest.approx(0.8, abs=0.1) and len(found["faces"]) == 1
        assert (
            visitor.make(file=str(films / "face.mp4"), path="/etc/passwd", video="http://x")[0] == 200
        )  # are not read
        job = visitor.ended()
        assert job == {"said": "Done: 20 frames.", "result": "Linnea.mp4"}
        status, content, headers = ask_page(page, "/result/Linnea.mp4")
        assert status == 200 and headers["content-type"] == "video/mp4"
        (tmp_path / "made.mp4").write_bytes(content)
        made = open_film(tmp_path / "made.mp4")
        assert made.has_sound and made.size == (512, 256)
        assert ask_page(page, "/result/Linnea.mp4", Range="bytes=4-7")[:2] == (206, b"ftyp")
        visitor.make(part=[0.2, 0.6], face=1)
        assert visitor.ended() == {"said": "Done: 10 frames.", "result": "Linnea (2).mp4"}
        assert len(files_of(page)) == 1
    wait_until(lambda: not files_of(page))  # the upload has gone with its session
    with Visitor(page) as visitor:
        names = [result["name"] for result in visitor.news["results"]]
        assert names == ["Linnea (2).mp4", "Linnea.mp4"]
        for name in names:
            assert visitor.do("delete", name=name)[0] == 200
        assert visitor.wait_for(lambda news: not news["results"])
        assert ask_page(page, "/result/Linnea.mp4")[0] == 404 and visitor.do("delete", name="Linnea.mp4")[0] == 404
        assert not list(results.iterdir())


def test_a_live_recording_becomes_a_marked_result(page, films):
    with Visitor(page) as visitor:
        status, found = visitor.upload((films / "face.mp4").read_bytes(), "recording")
        assert (status, found) == (200, {"result": "live.mp4"})
        with av.open(str(page[1] / "tmp.monitor/page_results/live.mp4")) as container:
            assert container.metadata["comment"].startswith("AI-generated (synthetic)") and container.streams.audio
        assert visitor.do("delete", name="live.mp4")[0] == 200
        assert visitor.upload((films / "text.mp4").read_bytes(), "recording")[0] == 409


@pytest.mark.parametrize(
    "name, words", [("text.mp4", "cannot be read as a video"), ("long.mp4", "more than 5 s"), ("face.png", "an image")]
)
def test_what_is_wrong_with_a_video_is_said_when_it_is_chosen(page, films, faces, name, words):
    import cv2

    data = cv2.imencode(".png", faces[0])[1].tobytes() if name == "face.png" else (films / name).read_bytes()
    with Visitor(page) as visitor:
        status, found = visitor.upload(data)
        assert status == 409 and words in found["error"]
        assert str(page[1]) not in found["error"] and "session-" not in found["error"]
        assert not files_of(page)


def test_several_faces_can_be_chosen_from_left_to_right(page, faces, tmp_path):
    from synthetic.moving import moving_head

    others = [frame for frame, _ in moving_head("Mira=41", 12, seed=0)]
    pairs = [np.concatenate([a[:, 160:480], b[:, 160:480]], axis=1) for a, b in zip(faces, others)]
    write_frames(tmp_path / "two.mp4", pairs)
    with Visitor(page) as visitor:
        status, found = visitor.upload((tmp_path / "two.mp4").read_bytes(), "person")
        assert status == 200 and len(found["faces"]) == 2 and found["faces"][0] != found["faces"][1]
        assert all(face.startswith("data:image/jpeg;base64,") for face in found["faces"])


def test_a_film_without_a_face_is_taken_with_a_warning_and_fails_at_once(page, films):
    with Visitor(page) as visitor:
        assert visitor.upload((films / "grey.mp4").read_bytes())[1]["faces"] == []
        visitor.make()
        failed = visitor.ended()["failed"]
        assert "no usable face" in failed and str(page[1]) not in failed and "session-" not in failed
        assert not visitor.news["results"]


@pytest.mark.slow
def test_one_job_at_a_time_which_can_be_stopped_and_begun_again(page, films):
    film = (films / "silent.mp4").read_bytes()
    with Visitor(page) as visitor:
        assert "choose or record" in visitor.make()[1]["error"]
        visitor.upload(film)
        assert [visitor.make()[0] for _ in range(3)] == [200, 409, 409]
        status, words = visitor.upload(film)  # not while the one before is read
        assert status == 409 and "stop that first" in words["error"]
        assert visitor.ended()["said"] == "Done: 20 frames."
        assert "cannot be shown any more" in visitor.make(target="Nobody")[1]["error"]
        visitor.make()
        visitor.do("stop")
        assert visitor.make()[0] == 200  # though the first may not have ended yet
        assert visitor.ended()["result"]
        visitor.make()
        with Visitor(page) as other:  # taking over stops the job
            assert not files_of(page) and other.news["job"] == {}
            for result in other.news["results"]:
                other.do("delete", name=result["name"])


class Blind:
    """A finder that finds nothing, while whose tenth frame Stop is pressed."""

    videos: Videos
    count = 0

    def __init__(self, is_video: bool):
        Blind.count = 0

    def reset(self) -> None: ...

    def find(self, image: np.ndarray) -> list:
        Blind.count += 1
        if Blind.count == 10:
            self.videos.stop.set()
        return []


def test_stop_ends_a_film_without_a_face_at_once(tmp_path, films, monkeypatch):
    """Though nothing is painted; also while the source is measured, and when time is up."""
    monkeypatch.setattr("inference.inputs.FaceFinder", Blind)

    def work() -> None:
        Blind.videos = Videos({}, "cpu", Limits(1, 60), tmp_path / "results")
        Blind.videos.state = {"what": READING}
        controls = read_controls("video", {})
        Blind.videos._reenact(films / "long.mp4", real_target(), controls, None, None, tmp_path / "out.mp4")

    for _ in ("measured", "painted"):
        with pytest.raises(_Stop):
            work()
        assert 10 <= Blind.count < 60  # fewer than the tracker looks ahead
        assert Blind.videos.state["what"] == READING and 0 < Blind.videos.state["done"] < 0.5
        monkeypatch.setattr("inference.reenactor.shape_of_source", lambda _: real_target().decoder.shape())
    monkeypatch.setattr("web.videos.MAX_JOB_S", 0.0)
    with pytest.raises(UserError, match="not finished"):
        work()
    assert not list(tmp_path.iterdir())


def real_target() -> Target:
    return target_of(DEMO / "decoder/training_info.yaml")


@pytest.mark.parametrize("count, fps", [(301, 60.0), (5001, 1000.0), (126, 25.0)])
def test_frames_are_limited_as_well_as_seconds(count, fps):
    Limits(1, 5).check(125, 25.0)
    Limits(1, 5).check(300, 60.0)
    with pytest.raises(DataError, match="more than"):
        Limits(1, 5).check(count, fps)


class Upload:
    """A request whose content comes in parts; an exception among them is raised in its place."""

    def __init__(self, *parts: bytes | BaseException, size: int):
        self.headers = {"content-length": str(size)}
        self._parts = parts

    async def stream(self):
        for part in self._parts:
            if isinstance(part, BaseException):
                raise part
            yield part


@pytest.mark.parametrize(
    "parts, size, status",
    [
        ([b"a" * 1000, ClientDisconnect()], 5000, 408),  # the browser went away
        ([b"a"], (1 << 20) + 1, 413),
        ([], 0, 413),
        ([b"a", OSError(28, "No space left on device")], 2, 507),
    ],
)
def test_an_upload_that_fails_leaves_the_one_before(tmp_path, parts, size, status):
    videos = Videos({}, "cpu", Limits(1, MAX_SECONDS), tmp_path / "results")
    videos._check = lambda path: {"seconds": 1.0}

    async def fail() -> None:
        session = SimpleNamespace(folder=tmp_path)
        assert await videos.take(Upload(b"wh", b"ole", size=5), session, "video") == {"seconds": 1.0}
        with pytest.raises(Refused) as caught:
            await videos.take(Upload(*parts, size=size), session, "video")
        assert caught.value.status == status

    asyncio.run(fail())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]


def test_results_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("web.videos.MAX_RESULTS", 1)
    videos = Videos({}, "cpu", Limits(1, MAX_SECONDS), tmp_path / "results")
    path = videos._new_result("../Anna <b>")
    assert path.parent == tmp_path / "results" and path.name == "Anna_b.mp4"
    path.touch()
    with pytest.raises(UserError, match="already 1 results"):
        videos._new_result("x")


def test_a_disk_without_space_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("web.videos.SPARE_BYTES", 1 << 62)
    videos = Videos({}, "cpu", Limits(1, MAX_SECONDS), Path(tmp_path))
    with pytest.raises(Refused, match="too little space"):
        asyncio.run(videos.take(Upload(b"a", size=1), SimpleNamespace(folder=tmp_path), "video"))
    assert not list(tmp_path.iterdir())
