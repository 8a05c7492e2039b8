"""People that the page learns: a video goes up, is looked at and learned, whatever becomes of server and browsers."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from helpers import PATIENCE_S, ROOT, Visitor, ask_page, must_fail, must_run, open_socket, serve_page, write_frames

from config.runs import GEOMETRY_FILE, HELD_OUT_FILE, INFO_FILE
from datasets.film import FILM_FILE
from people.advice import what_is_missing
from people.targets import DEMO, target_of
from synthetic.expressions import Expression
from synthetic.geometry import landmarks_of
from synthetic.moving import moving_head
from synthetic.people import random_identity
from utils.errors import UserError
from utils.files import read_yaml, write_yaml
from web.learning import STATE_FILE, VIDEO, Learned, Learning

TYPED, NAME = "../Anna  <b>Müller-Östlund\n", "../Anna <b>Müller-Östlund"  # as typed, and no path or HTML
TRAINED = (str(ROOT / "tests/drivers/small.py"), "app", "100")


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "mira.mp4"
    write_frames(path, [frame for frame, _ in moving_head("Mira=41", 50, seed=0)])
    return path


class Learner(Visitor):
    """A page whose People tab is open."""

    def look(self, name: str, **wish: object) -> tuple[int, dict]:
        return self.do("look", name=name, **{"agreed": True, **wish})

    def person(self, is_so: Callable[[dict], object]) -> dict:
        """Wait for a state of the only person that is learned."""
        return next(iter(learned(self.wait_for(lambda news: any(map(is_so, learned(news)))))))

    def names(self) -> list[str]:
        return [person["name"] for person in self.news["people"] if "name" in person]


def learned(news: dict) -> list[dict]:
    return [person for person in news["people"] if "id" in person]


def is_over(person: dict) -> bool:
    return person["state"] in ("looked", "done", "failed")


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
            page.upload(film.read_bytes(), "person")
            status, words = page.look(TYPED, agreed="yes")  # a tick is true, no word
            assert status == 409 and "agreed" in words["error"] and not list(tmp_path.rglob("video"))
            assert page.look(TYPED)[0] == 200
            (folder,) = root.iterdir()
            page.upload(film.read_bytes(), "person")
            status, words = page.look("Other")
            assert status == 409 and "is being processed" in words["error"]
            person = page.person(is_over)
            assert person["state"] == "looked" and person["title"] == NAME, person
            assert person["frames"] == num_frames and f"({num_frames} usable" in person["missing"][-1]
            # painted with the video's frames, at once
            assert page.names() == ["Linnea, demo", NAME] and person["facts"] == ["shown with images of the video"]
            query = urlencode({"name": NAME, "version": person["portrait"]})
            assert ask_page(page.page, f"/portrait?{query}")[1].startswith(b"\xff\xd8")
            assert (folder / "film.npz").exists() and person["next"] == "draft"
            assert not (folder / VIDEO).exists() and read_yaml(folder / STATE_FILE)["agreed_on"]
            status, sheet, headers = ask_page(page.page, f"/learned/{person['id']}/sheet")
            assert status == 200 and sheet.startswith(b"\x89PNG") and headers["content-type"] == "image/png"
            assert page.do("learn", id=person["id"])[0] == 200
        with Learner((address, tmp_path)) as page:  # another browser, or the same one later
            person = page.person(lambda person: person["face"] and "done" in person)
            assert person["state"] == "learning" and page.names() == ["Linnea, demo", NAME]
            assert 0 < person["done"] <= 1 and person["left_s"] >= 0 and person["what"] == "learning"
            assert ask_page(page.page, f"/learned/{person['id']}/face")[1].startswith(b"\xff\xd8")
        server.kill()
    with serve_page(tmp_path, *driver) as (address, _), Learner((address, tmp_path)) as page:
        person = page.person(is_over)
        assert person["state"] == "done", (folder / "log.txt").read_text()[-3000:]
        log = (folder / "log.txt").read_text()
        assert " done; press Ctrl-C" in log and "from iteration" in log and log.count("== prepare") == 1
        assert page.names() == ["Linnea, demo", NAME] and "like images of the video" in person["facts"][1]
        portrait = ask_page(page.page, f"/portrait?{urlencode({'name': NAME, 'version': person['portrait']})}")
        with open_socket(page.page, "live") as live:
            live.send(json.dumps({"target": NAME, "session": page.token}))
            assert "ready" in live.recv(timeout=PATIENCE_S)
            assert person["next"] == "good"  # it can become better still
            page.upload(film.read_bytes())
            page.make(target=NAME)
            # what drives or paints a person that is removed ends
            assert page.do("remove", id=person["id"])[0] == 200
            assert page.ended() == {"said": "Stopped."}
            page.wait_for(lambda news: not learned(news))
            while "error" not in (words := str(live.recv(timeout=PATIENCE_S))):
                pass
            assert "was removed" in words
        assert not list(root.iterdir())
        query = urlencode({"name": NAME, "version": person["portrait"]})
        assert portrait[0] == 200 and ask_page(page.page, f"/portrait?{query}")[0] == 404
        assert ask_page(page.page, f"/learned/{person['id']}/sheet")[0] == 409


@pytest.mark.slow
def test_a_video_without_a_face_is_said_and_what_cannot_be_done_is_refused(film, tmp_path):
    nobody = (str(ROOT / "tests/drivers/page.py"), "nowhere")
    with serve_page(tmp_path, *nobody) as (address, _), Learner((address, tmp_path)) as page:
        assert "choose or record" in page.look("x")[1]["error"]
        page.upload(film.read_bytes(), "person")
        assert page.look("", part=[3, 1])[0] == 409
        assert page.look("", part=[0, 1.5], face=1)[0] == 200
        person = page.person(is_over)
        assert person["state"] == "failed" and "no usable face" in person["why"] and person["title"] == "person", person
        assert str(tmp_path) not in person["why"]
        (state,) = (tmp_path / "tmp.monitor/learned").glob(f"*/{STATE_FILE}")
        assert read_yaml(state)["flags"] == ["--part", "0.0", "1.5", "--face", "1"]
        assert page.do("learn", id=person["id"])[0] == 409
        for action, name in (("remove", f"../{person['id']}"), ("learn", None), ("pause", ["x"])):
            assert page.do(action, id=name)[0] == 409, action
        for path in ("/learned/x/sheet", "/learned/..%2f..%2f/sheet", f"/learned/{person['id']}/log.txt"):
            assert ask_page(page.page, path)[0] in (404, 409), path
        assert page.do("remove", id=person["id"])[0] == 200
        page.wait_for(lambda news: not learned(news))


def test_what_is_trained_next_and_shown_meanwhile(tmp_path):
    """A better quality is shown when it is complete, not when it has begun."""
    person = Learned(tmp_path, "b", "B")
    assert person.next_quality() == ""  # nothing is known of it yet
    person.num_frames, person.state = 50, "looked"
    assert person.next_quality() == "draft"
    person.state = "done"
    assert person.next_quality() == "good"
    person.quality, person.state = "good", "stopped"
    assert person.next_quality() == "good"
    person.quality, person.state = "full", "done"
    assert person.next_quality() == ""
    person.quality = "good"
    targets: dict = {}
    learning = Learning(tmp_path / "none", targets, "cpu", nothing)
    learning._paint = lambda *_: b"x"
    person.shown_as = "B"
    (tmp_path / FILM_FILE).touch()
    for quality in ("draft", "good"):
        run = person.work(quality).run("decoder")
        run.mkdir(parents=True)
        for own, given in (("netG_decoder_1.h5", "weights.h5"), (GEOMETRY_FILE,) * 2, (INFO_FILE,) * 2):
            shutil.copy(DEMO / given, run / own)  # of a person's decoder
    learning._look_at(person)
    assert targets["B"].decoder.config_path.parent.name == "decoder-draft" and person.faces == 1
    (run / HELD_OUT_FILE).write_text('{"PSNR": 25.0, "SSIM": 0.8, "sharpness": 0.5}')
    learning._look_at(person)
    assert targets["B"].decoder.config_path.parent.name == "decoder-good" and person.faces == 1


async def nothing(name: str) -> None: ...


def test_bounds(tmp_path, monkeypatch):
    """No more people than may be, none without room on the disk, and each process only for a while."""
    monkeypatch.setattr("web.learning.MAX_PEOPLE", 1)
    monkeypatch.setattr("web.learning.MAX_LEARN_S", 0.1)
    monkeypatch.setattr("web.learning.WATCH_S", 0.1)
    monkeypatch.setattr("web.learning.COMMAND", ["sh", "-c", "sleep 60"])

    async def run() -> None:
        learning = Learning(tmp_path / "learned", {"somebody": target_of(DEMO / "training_info.yaml")}, "cpu", nothing)
        film, me = tmp_path / "film", {"name": "Me", "agreed": True}
        film.write_text("x")
        await learning.look(me, film)
        (person,) = learning.people.values()
        await learning._task
        assert person.state == "failed" and "not finished after" in person.why
        with pytest.raises(UserError, match="already 1 people"):
            film.write_text("x")
            await learning.look(me, film)
        await learning.remove({"id": person.id})
        monkeypatch.setattr("web.learning.MIN_FREE_BYTES", 1 << 62)
        with pytest.raises(UserError, match="too little space"):
            await learning.look(me, film)
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
        return {person.name: person.state for person in learning.people.values()}

    found = asyncio.run(run())
    assert not (tmp_path / "learned/f").exists() and (tmp_path / "learned/d").exists()
    assert found == {"a": "done", "b": "stopped", "c": "stopped"}
    assert log.read_text().split() == ["--quality", "draft", "--work-dir", str(tmp_path / "learned/a")]


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
