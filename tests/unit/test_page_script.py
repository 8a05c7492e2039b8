"""The page's own scripts, with a browser around them that is made of what they ask for."""

from __future__ import annotations

import json

import pytest
from helpers import ROOT

BROWSER = """
var tracks = [], sockets = [], waiting = [], shown = {};
function element(id) {
  return shown[id] = shown[id] || { id, textContent: "", dataset: {}, classList: { toggle() {} }, width: 0,
    play: async () => {}, getContext: () => ({ drawImage() {} }), parentElement: { clientWidth: 900 },
    toBlob() {}, value: "1", setAttribute() {}, getAttribute: () => "", removeAttribute() {}, videoWidth: 0 };
}
var window = {}, location = { protocol: "http:", host: "here" }, performance = { now: () => 0 };
var document = { getElementById: element, querySelectorAll: () => [], querySelector: () => ({ value: "face" }),
                 body: { dataset: { megabytes: "1", seconds: "5" } } };
var timers = [];
function setTimeout(call) { timers.push(call); }
function clearTimeout() {}
var fetch = () => new Promise(() => {});
function WebSocket(address) { this.address = address; sockets.push(this);
  this.sent = []; this.send = (data) => this.sent.push(data);
  this.close = () => { this.isClosed = true; }; }
WebSocket.OPEN = 1;
function stream() {
  const track = { state: "live", stop() { this.state = "ended"; } };
  tracks.push(track);
  return { getTracks: () => [track], getVideoTracks: () => [track] };
}
var navigator = { mediaDevices: { getUserMedia: () => new Promise((give) => waiting.push(() => give(stream()))) } };
function answer() { const all = waiting; waiting = []; all.forEach((give) => give()); }
var running = () => tracks.filter((track) => track.state === "live").length;
var status = () => element("live-status").textContent, progress = () => element("video-progress").textContent;
var banner = () => element("banner-words").textContent;
"""


@pytest.fixture
def browser():
    racer = pytest.importorskip("py_mini_racer", reason="of requirements-dev.txt")
    engine = racer.MiniRacer()
    engine.eval(BROWSER + "".join((ROOT / "web" / name).read_text() for name in ("live.js", "learn.js", "page.js")))
    return engine


def test_start_and_stop(browser):
    run = browser.eval
    run("page.token = 't'; 0")
    for words in ("live.start('x')", "live.start('x')", "live.stop()", "answer()"):
        run(f"{words}; 0")
    assert run("running()") == 0 and run("!live.session") and run("status()") == "Stopped."
    run("live.start('x'); live.start('x'); answer(); 0")  # twice: one camera
    run("0")
    assert run("running()") == 1 and run("sockets.length") == 2  # the page's own, and one live one
    run("live.stop(); 0")
    assert run("running()") == 0 and run("sockets.at(-1).isClosed") is True
    run("live.start('x'); 0")
    run("answer(); 0")
    run("tracks.at(-1).onended(); 0")
    assert run("running()") == 0 and "camera was disconnected" in run("status()")
    run("live.start('x'); live.start('y'); live.start('z'); 0")
    run("answer(); 0")
    run("sockets.at(-1).onopen(); 0")
    assert run("running()") == 1 and json.loads(run("sockets.at(-1).sent[0]")) == {"target": "z", "session": "t"}
    run("sockets.at(-1).onclose({ reason: '' }); 0")
    assert run("running()") == 0 and "the connection was closed" in run("status()")


def test_make_and_stop_and_a_server_that_dies(browser):
    run = browser.eval
    tell = "sockets[0].onmessage({{ data: JSON.stringify({}) }}); 0"
    run(tell.format("{session: 't'}"))
    run("page.hasUpload = true; page.make(); page.stop(); 0")
    assert run("progress()") == "stopping ..." and run("element('video-go').disabled") is True
    run(tell.format("{stopped: true}"))
    assert run("progress()") == "Stopped." and run("element('video-go').disabled") is False
    run("page.make(); 0")
    run(tell.format("{progress: '1 of 587 frames'}"))
    assert run("progress()") == "1 of 587 frames"
    assert [next(iter(json.loads(text))) for text in run("JSON.stringify(sockets[0].sent)") and
            [run(f"sockets[0].sent[{i}]") for i in range(3)]] == ["make", "stop", "make"]  # fmt: skip
    run("sockets[0].onclose({}); 0")
    assert "server has stopped" in run("banner()") and run("element('video-go').disabled") is True
    assert run("element('banner').hidden") is False and run("element('banner-take').hidden") is True
    run("timers.pop()(); 0")  # the page connects again by itself
    run("sockets.at(-1).onmessage({ data: JSON.stringify({ session: 't2' }) }); 0")
    assert run("element('banner').hidden") is True and run("page.token") == "t2"
    run("sockets.at(-1).onmessage({ data: JSON.stringify({ taken: true }) }); sockets.at(-1).onclose({}); 0")
    assert "another tab" in run("banner()") and run("element('banner-take').hidden") is False
    assert run("timers.length") == 0  # it does not take over by itself
    run("element('banner-take').onclick(); 0")
    assert run("sockets.at(-1).address").endswith("/session?take")
    # the camera that records, stopped while the browser still asks
    run(tell.format("{session: 't'}").replace("sockets[0]", "sockets.at(-1)"))
    run("page.record('video'); page.stop(); 0")
    run("answer(); 0")
    assert run("running()") == 0 and run("progress()") == "Stopped."


def test_a_video_is_kept_until_name_and_consent_are_there(browser):
    run = browser.eval
    run("page.token = 't'; page.update(); var taken = []; const whole = page.upload; 0")
    run("page.upload = (file, where) => { try { whole(file, where); } catch { taken.push(where); } }; 0")
    run("element('add-name').value = ''; element('add-agreed').checked = false; page.choose({ size: 1 }, 'add'); 0")
    assert run("taken.length") == 0 and "Enter a name" in run("element('add-progress').textContent")
    run("element('add-name').value = 'Mi'; element('add-name').onchange(); 0")
    assert run("taken.length") == 0 and "agreed" in run("element('add-progress').textContent")
    run("element('add-agreed').checked = true; element('add-agreed').onchange(); 0")
    assert run("taken[0]") == "add" and run("page.kept === null")
    run("element('add-agreed').onchange(); 0")  # nothing is left to be uploaded
    assert run("taken.length") == 1
    run("element('add-agreed').checked = false; page.choose({ size: 1 }, 'add'); 0")
    run("page.upload({ size: 1 }, 'add'); 0")  # another one was recorded instead
    assert run("page.kept === null") and run("taken.length") == 2


def test_the_camera_is_shown_to_be_on_and_a_reload_is_asked_about(browser):
    run = browser.eval
    run("page.token = 't'; live.start('x'); answer(); 0")
    run("0")
    assert run("element('live-go').textContent") == "Stop" and run("element('live-record').disabled") is False
    run("live.stop(); 0")
    assert run("element('live-go').textContent") == "Start" and run("element('live-pop').disabled") is True
    run("var asked = 0, reload = { preventDefault() { asked++; } }; window.onbeforeunload(reload); 0")
    assert run("asked") == 0
    run("page.isMaking = true; window.onbeforeunload(reload); 0")
    assert run("asked") == 1
