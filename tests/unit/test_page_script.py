"""The page's own scripts, with a browser around them that is made of what they ask for."""

from __future__ import annotations

import json

import pytest
from helpers import ROOT

BROWSER = """
var tracks = [], sockets = [], waiting = [], posts = [], answers = [], shown = {}, timers = [], recorders = [];
function element(id) {
  if (shown[id]) { return shown[id]; }
  const made = { id, textContent: "", dataset: {}, style: {}, classList: { toggle() {} }, width: 0,
    options: [], children: [],
    play: async () => {}, getContext: () => ({ drawImage() {} }), replaceChildren(...all) { this.options = all; },
    append() {}, toBlob() {}, value: "1", setAttribute() {}, getAttribute: () => "", removeAttribute() {},
    requestVideoFrameCallback() {}, captureStream: () => stream(), querySelector: (name) => element(id + name),
    cloneNode: () => element(id + "+" + Object.keys(shown).length), remove() {}, focus() {} };
  shown[id] = made;
  Object.defineProperties(made, {  // not followed until they are asked for
    lastElementChild: { get: () => element(id + ">last") }, parentElement: { get: () => element(id + "<") },
    content: { get: () => ({ firstElementChild: element(id + ">content") }) } });
  return made;
}
var window = {}, location = { host: "here" }, performance = { now: () => 0 }, confirm = () => true;
var localStorage = { getItem: () => null };
var document = { getElementById: element, querySelectorAll: () => [], addEventListener() {}, createElement: element,
                 body: { dataset: { megabytes: "1", seconds: "5" } } };
function setTimeout(call) { timers.push(call); }
function Worker() {}
function Option(text) { this.value = text; }
function URLSearchParams(all) { this.toString = () => JSON.stringify(all); }
function Blob(parts) { this.size = parts.length; }
var URL = { createObjectURL: () => "blob:x", revokeObjectURL() {} };
var fetch = async (path, { body }) => { posts.push([path, body]); const [ok, found] = answers.shift() || [true, {}];
                                        return { ok, json: async () => found }; };
function WebSocket(address) { this.address = address; sockets.push(this);
  this.sent = []; this.send = (data) => this.sent.push(data); this.close = () => { this.isClosed = true; }; }
WebSocket.OPEN = 1;
function MediaRecorder() { recorders.push(this); this.state = "recording"; this.start = () => {};
  this.stop = () => { this.state = "inactive"; this.onstop(); }; }
function stream() {
  const track = { state: "live", stop() { this.state = "ended"; } };
  tracks.push(track);
  const all = [track];
  return { getTracks: () => all, getVideoTracks: () => [track], addTrack: (other) => all.push(other) };
}
var navigator = { mediaDevices: { getUserMedia: () => new Promise((give) => waiting.push(() => give(stream()))) } };
function answer() { const all = waiting; waiting = []; all.forEach((give) => give()); }
var running = () => tracks.filter((track) => track.state === "live").length;
var status = (where) => element(where + "-status").textContent, banner = () => element("banner-words").textContent;
"""
STATE = {"people": [{"name": "Linnea", "facts": [], "portrait": "1"}], "job": {}, "results": []}


class Browser:
    """The page in a browser."""

    def __init__(self, run):
        self.run = run
        self.do("page.begin()")

    def do(self, words: str) -> None:
        self.run(f"{words}; 0")
        self.run("0")  # what waits for promises

    def tell(self, **news: object) -> None:
        self.do(f"page.socket.onmessage({{ data: {json.dumps(json.dumps(news))} }})")

    def state(self, **news: object) -> None:
        self.tell(**{**STATE, **news})


@pytest.fixture
def browser():
    racer = pytest.importorskip("py_mini_racer", reason="of requirements-dev.txt")
    engine = racer.MiniRacer()
    scripts = ("page", "upload", "live", "people", "video")
    engine.eval(BROWSER + "".join((ROOT / f"web/static/{name}.js").read_text() for name in scripts))
    found = Browser(engine.eval)
    found.tell(session="t")
    found.state()
    return found


def test_start_and_stop(browser):
    run, do = browser.run, browser.do
    for words in ("live.start('x')", "live.start('x')", "live.stop()", "answer()"):
        do(words)
    assert run("running()") == 0 and run("!live.session") and run("status('live')") == "Stopped."
    do("live.start('x'); live.start('x'); answer()")  # twice: one camera
    assert run("running()") == 1 and run("sockets.length") == 2  # the page's own, and one live one
    assert run("element('live-go>last').textContent") == "Stop" and run("element('live-record').disabled") is False
    do("live.stop()")
    assert run("running()") == 0 and run("sockets.at(-1).isClosed") is True
    assert run("element('live-go>last').textContent") == "Start" and run("element('live-pop').disabled") is True
    do("live.start('x')")
    do("answer()")
    do("tracks.at(-1).onended()")
    assert run("running()") == 0 and "camera was disconnected" in run("status('live')")
    do("live.start('x'); live.start('y'); live.start('z')")
    do("answer()")
    do("sockets.at(-1).onopen()")
    assert run("running()") == 1 and json.loads(run("sockets.at(-1).sent[0]")) == {"target": "z", "session": "t"}
    do("sockets.at(-1).onclose({})")
    assert run("running()") == 0 and "the connection was closed" in run("status('live')")


def test_make_and_stop_and_a_server_that_dies(browser):
    run, do, state = browser.run, browser.do, browser.state
    assert run("element('video-go').disabled") is True
    do("page.uploads.video.isReady = true; page.uploads.video.seconds = 9; element('video-from').value = 2")
    do("element('video-to').value = 5; element('video-target').value = 'Linnea'; page.update()")
    assert run("element('video-go').disabled") is False
    do("video.go()")
    path, wish = json.loads(run("JSON.stringify(posts[0])"))
    wish = json.loads(wish)
    assert path == "do" and wish == {"do": "make", "part": [2, 5], "face": None, "target": "Linnea"}
    state(job={"what": "painting", "done": 0.25, "left_s": 30})
    assert run("status('video')") == "Painting: about 30 s left" and run("element('video-bar').value") == 0.25
    assert run("element('video-go>last').textContent") == "Stop"
    do("video.go()")
    assert json.loads(run("posts[1][1]")) == {"do": "stop"}
    state(job={"said": "Stopped."})
    assert run("status('video')") == "Stopped."
    result = {"name": "Linnea.mp4", "time": 0}
    do("document.querySelector = 0; element('result>content').cloneNode = () => ({ children: [{}, {}, {}, {}] })")
    state(job={"said": "Done: 7 frames.", "result": "Linnea.mp4"}, results=[result])
    assert run("element('video-out').src") == "result/Linnea.mp4" and run("element('video-out').hidden") is False
    state(job={"said": "Done: 7 frames.", "result": "Linnea.mp4"})  # it was deleted
    assert run("element('video-out').hidden") is True
    do("page.socket.onclose({})")
    assert "server has stopped" in run("banner()") and run("element('video-go').disabled") is True
    assert run("element('banner').hidden") is False and run("element('banner-take').hidden") is True
    do("timers.pop()()")  # the page connects again by itself
    browser.tell(session="t2")
    assert run("element('banner').hidden") is True and run("page.token") == "t2"
    browser.tell(taken=True)
    do("page.socket.onclose({})")
    assert "another tab" in run("banner()") and run("element('banner-take').hidden") is False
    assert run("timers.length") == 0  # it does not take over by itself
    do("element('banner-take').onclick()")
    assert run("sockets.at(-1).address").endswith("/session?take")


def test_a_video_is_checked_and_kept_until_name_and_consent_are_there(browser):
    run, do = browser.run, browser.do
    do("element('person-name').value = ' '; element('person-agreed').checked = false")
    do("answers.push([false, { error: 'the file is an image; choose a video' }])")
    do("page.uploads.person.send({ size: 1 })")
    assert run("status('person')") == "The file is an image; choose a video"
    assert run("element('person-go').disabled") is True
    do("answers.push([true, { seconds: 9, faces: [] }])")
    do("page.uploads.person.send({ size: 1 })")
    assert "No face was found" in run("status('person')") and run("element('person-go').disabled") is False
    do("people.add()")
    assert run("posts.length") == 2 and "Enter a name" in run("status('person')")
    do("element('person-name').value = 'Mi'; people.add()")
    assert run("posts.length") == 2 and "has agreed" in run("status('person')")
    do("element('person-agreed').checked = true; people.add()")
    do("0")
    assert json.loads(run("posts[2][1]")) == {"do": "look", "name": "Mi", "agreed": True, "part": None, "face": None}
    assert run("page.uploads.person.isReady") is False and run("element('person-agreed').checked") is False
    do("page.uploads.video.send({ size: 7 })")
    do("page.socket.onclose({})")  # the server is started anew: what was not used yet is sent again
    assert "server has stopped" in run("banner()") and run("page.uploads.video.isReady") is False
    do("page.uploads.person.send({ size: 8 })")  # chosen meanwhile
    do("timers.pop()()")
    browser.tell(session="t2")
    assert json.loads(run("JSON.stringify(posts.slice(3).map((post) => post[1].size))")) == [7, 7, 8]
    do("posts.pop()")
    assert [run(f"posts[{i}][1].size") for i in (3, 4)] == [7, 7] and run("posts.length") == 5
    do("page.uploads.video.send({ size: 2 ** 21 })")
    assert run("posts.length") == 5 and "larger than 1 MB" in run("status('video')")


def test_recording_is_ended_and_given_to_the_server(browser):
    run, do = browser.run, browser.do
    do("page.uploads.video.record()")
    do("page.uploads.video.recorder.stop()")  # while the browser still asks
    do("answer()")
    assert run("running()") == 0 and run("status('video')") == "Stopped."
    do("page.uploads.video.record()")
    do("answer()")
    do("recorders.at(-1).ondataavailable({ data: 1 })")
    assert run("status('video')") == "Recording: 1 s of at most 5 s."
    do("for (let i = 0; i < 4; i++) { recorders.at(-1).ondataavailable({ data: 1 }); }")  # as long as may be
    do("0")
    assert run("running()") == 0 and run("posts[0][0]") == "upload/video" and run("posts[0][1].size") == 5
    do("live.start('x')")
    do("answer()")
    do("live.record()")
    do("answer()")
    do("recorders.at(-1).ondataavailable({ data: 1 }); live.stop()")
    do("answers.push([true, { result: 'live.mp4' }])")
    do("0")
    assert run("running()") == 0 and run("posts[1][0]") == "upload/recording"


def test_a_reload_that_loses_work_is_asked_about(browser):
    run, do = browser.run, browser.do
    do("var asked = 0, reload = { preventDefault() { asked++; } }; window.onbeforeunload(reload)")
    assert run("asked") == 0
    browser.state(job={"what": "painting"})
    do("window.onbeforeunload(reload)")
    assert run("asked") == 1


def test_a_person_that_is_learned_can_be_driven_before(browser):
    run = browser.run
    person = {
        "id": "1",
        "title": "Mi",
        "state": "looking",
        "why": "",
        "missing": [],
        "frames": 0,
        "face": 0,
        "next": "",
    }
    person["sheet"] = False
    browser.state(people=[*STATE["people"], {**person, "what": "finding faces", "done": 0.5, "left_s": 100}])
    (card,) = json.loads(run("JSON.stringify([...people.cards.values()].slice(1).map((card) => card.root.id))"))
    part = lambda name: json.loads(run(f"JSON.stringify(element({json.dumps(card + '.')} + {json.dumps(name)}))"))  # noqa: E731
    assert part("state")["textContent"] == "Finding faces, about 2 minutes left" and part("live")["hidden"] is True
    browser.state(
        people=[*STATE["people"], {**person, "name": "Mi", "state": "looked", "portrait": "2", "next": "draft"}]
    )
    assert part("live")["hidden"] is False and part("go")["textContent"] == "Learn (minutes)"
    assert run("status('person')") == "Mi can be driven live now."
    browser.state()
    assert run("people.cards.size") == 1
