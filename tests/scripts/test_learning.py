"""People that the page learns: a video goes up, is looked at and learned, whatever becomes of server and browsers."""

from __future__ import annotations

import asyncio
import json
import struct
from html import escape
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import (
    PATIENCE_S,
    ROOT,
    Visitor,
    ask_page,
    must_fail,
    must_run,
    open_socket,
    serve_page,
    wait_until,
    write_frames,
)

from people.advice import what_is_missing
from people.targets import DEMO, target_of
from synthetic.expressions import Expression
from synthetic.geometry import landmarks_of
from synthetic.moving import moving_head
from synthetic.people import random_identity
from utils.errors import UserError
from utils.files import read_yaml, write_yaml
from web.learning import STATE_FILE, VIDEO, Learning

TYPED, NAME = "../Anna  <b>Müller-Östlund\n", "../Anna <b>Müller-Östlund"  # as typed, and no path or HTML
TRAINED = (str(ROOT / "tests/drivers/small.py"), "app", "100")


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "mira.mp4"
    write_frames(path, [frame for frame, _ in moving_head("Mira=41", 50, seed=0)])
    return path


class Learner(Visitor):
    """A page whose People tab is open."""

    def wish(self, **wish: object) -> tuple[int, dict]:
        headers = {"X-Session": self.token, "Content-Type": "application/json"}
        status, content, _ = ask_page(self.page, "/learned", json.dumps(wish).encode(), **headers)
        return status, json.loads(content)

    def news(self) -> dict:
        return json.loads(ask_page(self.page, "/learned")[1])

    def person(self) -> dict:
        (person,) = self.news()["people"]
        return person

    def wait_for(self, *states: str) -> dict:
        wait_until(lambda: self.person()["state"] in states)
        return self.person()


@pytest.fixture(params=["copied", pytest.param("trained", marks=pytest.mark.long)])
def driver(request, data) -> tuple[str, ...]:
    """The page's command: people are copied instead of trained, or really trained."""
    copied = (str(ROOT / "tests/drivers/page.py"), str(data / "datasets/CelebV/Linnea"))
    return copied if request.param == "copied" else TRAINED


@pytest.mark.slow
def test_a_person_is_learned_though_the_page_is_closed_and_the_server_killed(film, driver, tmp_path):
    root, num_frames = tmp_path / "tmp.monitor/learned", 50 if driver == TRAINED else 14
    with serve_page(tmp_path, *driver) as (address, server):
        with Learner((address, tmp_path)) as page:
            page.upload(film.read_bytes())
            status, words = page.wish(do="look", name=TYPED, agreed="yes")  # a tick is true, no word
            assert status == 409 and "agreed" in words["error"] and not list(tmp_path.rglob("video"))
            page.upload(film.read_bytes())
            assert page.wish(do="look", name=TYPED, agreed=True)[0] == 200
            (folder,) = root.iterdir()
            page.upload(film.read_bytes())
            status, words = page.wish(do="look", name="Other", agreed=True)
            assert status == 409 and "is being processed" in words["error"]
            person = page.wait_for("looked", "failed")
            assert person["state"] == "looked" and person["name"] == NAME, person
            assert person["frames"] == num_frames and f"({num_frames} usable" in person["missing"][-1]
            assert page.news()["shown"] == ["Linnea, demo", NAME]  # painted with the video's frames, at once
            assert (folder / "film.npz").exists() and b"nothing has been learned yet" in ask_page(page.page, "/people")[
                1
            ]
            assert not (folder / VIDEO).exists() and read_yaml(folder / STATE_FILE)["agreed_on"]
            status, sheet, headers = ask_page(page.page, f"/learned/{person['id']}/sheet")
            assert status == 200 and sheet.startswith(b"\x89PNG") and headers["content-type"] == "image/png"
            assert page.wish(do="learn", id=person["id"])[0] == 200
        with Learner((address, tmp_path)) as page:  # another browser, or the same one later
            wait_until(lambda: page.person()["face"] > 0)
            person = page.person()
            assert person["state"] == "learning" and page.news()["shown"] == ["Linnea, demo", NAME]
            assert 0 < person["done"] <= 1 and person["left_s"] >= 0
            assert ask_page(page.page, f"/learned/{person['id']}/face")[1].startswith(b"\xff\xd8")
        server.kill()
    with serve_page(tmp_path, *driver) as (address, _), Learner((address, tmp_path)) as page:
        assert page.wait_for("done", "failed")["state"] == "done", (folder / "log.txt").read_text()[-3000:]
        log = (folder / "log.txt").read_text()
        assert " done; press Ctrl-C" in log and "from iteration" in log and log.count("== prepare") == 1
        assert page.news()["shown"] == ["Linnea, demo", NAME]
        assert b"like the real video" in ask_page(page.page, "/people")[1].split(f"<b>{escape(NAME)}".encode())[1]
        with open_socket(page.page, "live") as live:
            live.send(json.dumps({"target": NAME, "session": page.token}))
            grey = cv2.imencode(".jpg", np.full((90, 160, 3), 110, np.uint8))[1].tobytes()
            live.send(struct.pack(">I", 1) + grey)
            assert "ready" in live.recv(timeout=PATIENCE_S)
            person = page.person()
            assert page.wish(do="learn", id=person["id"])[0] == 409  # nothing is left to be learned
            page.upload(film.read_bytes())
            page.make(target=NAME)
            # what drives or paints a person that is removed ends
            assert page.wish(do="remove", id=person["id"]) == (200, {"people": [], "shown": ["Linnea, demo"]})
            assert "stopped" in page.next("stopped", "done", "failed")
            while "error" not in (words := str(live.recv(timeout=PATIENCE_S))):
                pass
            assert "was removed" in words
        assert not list(root.iterdir())
        assert ask_page(page.page, f"/learned/{person['id']}/sheet")[0] == 409


@pytest.mark.slow
def test_a_video_without_a_face_is_said_and_what_strangers_ask_is_refused(film, tmp_path):
    nobody = (str(ROOT / "tests/drivers/page.py"), "nowhere")
    with serve_page(tmp_path, *nobody) as (address, _), Learner((address, tmp_path)) as page:
        status, words = page.wish(do="look", name="x", agreed=True)
        assert status == 409 and "choose or record" in words["error"]
        page.upload(film.read_bytes())
        assert page.wish(do="look", name="", agreed=True)[0] == 200
        person = page.wait_for("failed", "looked")
        assert person["state"] == "failed" and "no usable face" in person["why"] and person["name"] == "person", person
        assert str(tmp_path) not in person["why"]
        assert page.wish(do="learn", id=person["id"])[0] == 409
        for wish in (
            {"do": "__init__", "id": person["id"]},
            {"do": "_begin", "id": person["id"]},
            {"do": "as_json"},
            {"do": "start"},
            {"do": ["learn"], "id": person["id"]},
            {"do": "remove", "id": f"../{person['id']}"},
            {"do": "remove", "id": None},
            {"do": "remove", "id": ["x"]},
            {},
        ):
            assert page.wish(**wish)[0] in (400, 409), wish
        for words in (b"[]", b"null", b"{" * 900, b'{"do": "remove", "id": "' + b"x" * 5000 + b'"}', b"\xff\xfe"):
            assert ask_page(page.page, "/learned", words, **{"X-Session": page.token})[0] in (409, 413)
        for path in ("/learned/x/sheet", "/learned/..%2f..%2f/sheet", f"/learned/{person['id']}/log.txt"):
            assert ask_page(page.page, path)[0] in (404, 409), path
        # no pages of other sites, and no requests without the session's token
        foreign = {"X-Session": page.token, "Origin": "http://evil.example"}
        assert ask_page(page.page, "/learned", b"{}", **foreign)[0] == 403
        page.upload(film.read_bytes())
        wish = json.dumps({"do": "look", "name": "x", "agreed": True}).encode()
        assert ask_page(page.page, "/learned", wish)[0] == 403
        assert page.person()["id"] == person["id"]
        assert page.wish(do="remove", id=person["id"])[1]["people"] == []


async def nothing(name: str) -> None: ...


def test_bounds(tmp_path, monkeypatch):
    """No more people than may be, none without room on the disk, and each process only for a while."""
    monkeypatch.setattr("web.learning.MAX_PEOPLE", 1)
    monkeypatch.setattr("web.learning.MAX_LEARN_S", 0.1)
    monkeypatch.setattr("web.learning.WATCH_S", 0.1)
    monkeypatch.setattr("web.learning.COMMAND", ["sh", "-c", "sleep 60"])

    async def run() -> None:
        learning = Learning(tmp_path / "learned", {"somebody": target_of(DEMO / "training_info.yaml")}, "cpu", nothing)
        (tmp_path / "film").write_text("x")
        person = await learning.look(tmp_path / "film", "Me", True)
        await learning._task
        assert person.state == "failed" and "not finished after" in person.why
        with pytest.raises(UserError, match="already 1 people"):
            await learning.look(tmp_path / "film", "Me", True)
        await learning.remove(person)
        monkeypatch.setattr("web.learning.MIN_FREE_BYTES", 1 << 62)
        with pytest.raises(UserError, match="too little space"):
            await learning.look(tmp_path / "film", "Me", True)
        assert not list((tmp_path / "learned").iterdir())

    asyncio.run(run())


def test_what_a_killed_server_left_goes_on_and_what_is_damaged_hides_nobody(tmp_path, monkeypatch):
    log = tmp_path / "calls"
    monkeypatch.setattr("web.learning.COMMAND", ["sh", "-c", f'echo "$@" >> {log}', "x"])
    for name, state in (("a", "learning"), ("b", "learning"), ("c", "looked"), ("d", "")):
        (tmp_path / "learned" / name).mkdir(parents=True)
        inputs = {"names": {"target": name}, "digests": {}, "quality": "draft"}
        write_yaml(tmp_path / "learned" / name / "inputs.yaml", inputs)
        write_yaml(tmp_path / "learned" / name / STATE_FILE, {"state": state, "agreed_on": "2026-01-01"})
    (tmp_path / "learned/c" / STATE_FILE).write_text("{")
    (tmp_path / "learned/d/inputs.yaml").write_text("[]")
    (tmp_path / "learned/e").write_text("no folder")
    (tmp_path / "learned/f").mkdir()  # killed before the video was looked at: it is deleted
    (tmp_path / "learned/f" / VIDEO).write_bytes(b"x")

    async def run() -> dict:
        learning = Learning(tmp_path / "learned", {}, "cpu", nothing)
        await learning.start()
        await learning._task
        return {person["name"]: person["state"] for person in learning.as_json()["people"]}

    found = asyncio.run(run())
    assert not (tmp_path / "learned/f").exists() and (tmp_path / "learned/d").exists()
    assert found == {"a": "done", "b": "stopped", "c": "stopped"}
    assert log.read_text().split() == ["--work-dir", str(tmp_path / "learned/a")]


def test_what_a_video_lacks():
    who = random_identity(41)
    still = [landmarks_of(who, Expression(yaw=0.01 * (k % 3))) for k in range(500)]

    def lacks(*frames: Expression) -> str:
        return "; ".join(what_is_missing(np.array(still + 40 * [landmarks_of(who, frame) for frame in frames])))

    everything = lacks()
    for words in ("turn the head", "raise and lower", "open the mouth", "shut the eyes"):
        assert words in everything
    assert "longer" not in everything and "shut the mouth" not in everything
    assert "turn the head" in lacks(Expression(yaw=0.4))  # to one side
    assert "turn the head" not in lacks(Expression(yaw=0.4), Expression(yaw=-0.4))
    assert "raise" not in lacks(Expression(pitch=0.2), Expression(pitch=-0.2))
    assert "open the mouth" not in lacks(Expression(mouth_open=1.0))
    assert "shut the eyes" not in lacks(Expression(blink=1.0))


@pytest.mark.slow
def test_the_script(film, tmp_path):
    learn = ("reenact_people.py", "--work-dir", "w")
    must_fail(tmp_path, 2, "contains no person; pass --target", *learn)
    must_fail(tmp_path, 3, "no such video", *learn, "--target", "none.mp4")
    out = must_run(tmp_path, *learn, "--target", film, "--look")
    assert "50 usable frames" in out and "missing: film for longer" in out
    assert "== prepare" not in must_run(tmp_path, *learn, "--look")
