// What the tabs share: the connection, over which the server sends its state when it changes, requests, and settings.
const $ = (id) => document.getElementById(id);

const page = {
  RETRY_MS: 2000, token: null, news: null,

  sentence: (text) => text && text[0].toUpperCase() + text.slice(1),

  // `where`: live | video | person
  say(where, text, isWrong = false) {
    const status = $(`${where}-status`), words = page.sentence(text);
    if (status.textContent !== words) { status.textContent = words; }
    status.classList.toggle("wrong", isWrong);
  },

  timeLeft(seconds) {
    return seconds < 90 ? `about ${Math.ceil(seconds)} s left` : `about ${Math.round(seconds / 60)} minutes left`;
  },

  showProgress(bar, isShown, done) {
    bar.hidden = !isShown;
    if (done === undefined) { bar.removeAttribute("value"); } else { bar.value = done; }
  },

  show(name) {
    for (const tab of document.querySelectorAll("[role=tab]")) {
      const isChosen = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
  },

  // one browser tab uses the page; `take` ends the other's work
  connect(take = false) {
    const socket = page.socket = new WebSocket(`ws://${location.host}/session${take ? "?take" : ""}`);
    page.isElsewhere = false;
    socket.onmessage = (event) => page.receive(JSON.parse(event.data));
    socket.onclose = () => {
      page.token = page.news = null;
      if (live.session) { live.end(live.session, "Stopped."); }
      for (const upload of Object.values(page.uploads)) { upload.forget(); }
      page.warn(page.isElsewhere ? "This page is open in another tab."
        : "The server has stopped. Start it again, and this page goes on.", page.isElsewhere);
      if (!page.isElsewhere) { setTimeout(page.connect, page.RETRY_MS); }
      page.update();
    };
  },

  // a banner above all tabs
  warn(words, mayTake = false) {
    $("banner").hidden = !words;
    $("banner-words").textContent = words;
    $("banner-take").hidden = !mayTake;
  },

  receive(news) {
    if (news.session) {
      page.token = news.session;
      page.warn("");
      for (const upload of Object.values(page.uploads)) { upload.send(upload.file); }  // again, if the server was started anew
    }
    if (news.busy || news.taken) { page.isElsewhere = true; }
    if (news.people) {
      page.news = news;
      people.draw(news.people);
      video.draw(news);
    }
    page.update();
  },

  update() {
    const isOff = !page.token || page.isAsking;
    page.uploads.video.update(isOff || video.isMaking());
    page.uploads.person.update(isOff);
    $("video-go").disabled = isOff || !(video.isMaking() || page.uploads.video.isReady);
    $("person-go").disabled = isOff || !page.uploads.person.isReady;
  },

  // returns the server's answer, or null after it has said what is wrong
  async post(path, body, where) {
    let answer, found;
    try {
      answer = await fetch(path, { method: "POST", body, headers: { "X-Session": page.token || "" } });
      found = await answer.json();
    } catch { page.say(where, "The server does not answer.", true); return null; }
    if (answer.ok) { return found; }
    page.say(where, found.error, true);
    return null;
  },

  async ask(action, where) {
    page.isAsking = true;
    page.update();
    const found = await page.post("do", JSON.stringify(action), where);
    page.isAsking = false;
    page.update();
    return found !== null;
  },

  // records until it is stopped or too long; `tell` gets the seconds, and `done` resolves to the file
  record(stream, tell) {
    const parts = [], recorder = new MediaRecorder(stream), most = Number(document.body.dataset.seconds);
    const stop = () => recorder.state === "recording" && recorder.stop();
    stream.getVideoTracks()[0].onended = stop;
    recorder.ondataavailable = (event) => { tell(parts.push(event.data)); if (parts.length >= most) { stop(); } };
    const done = new Promise((give) => { recorder.onstop = () => give(new Blob(parts, { type: recorder.mimeType })); })
      .finally(() => page.giveBack(stream));
    recorder.start(1000);
    return { stop, done };
  },

  giveBack: (stream) => stream.getTracks().forEach((track) => track.stop()),

  // values of all controls of a tab, see web/controls.py
  controls(tab) {
    const value = (input) => (input.type === "checkbox" ? input.checked : input.type === "range" ? Number(input.value) : input.value);
    return Object.fromEntries([...document.querySelectorAll(`[data-tab=${tab}]`)].map((input) => [input.dataset.control, value(input)]));
  },

  // controls keep their values in this browser; Reset brings the defaults back
  keepSettings() {
    const inputs = [...document.querySelectorAll("[data-default]")];
    const set = (input, value) => {
      if (input.type === "checkbox") { input.checked = value === "True"; } else { input.value = value; }
      if (input.nextElementSibling?.tagName === "OUTPUT") { input.nextElementSibling.textContent = input.value; }
    };
    for (const input of inputs) {
      set(input, localStorage.getItem(input.id) ?? input.dataset.default);
      input.oninput = () => {
        const value = input.type === "checkbox" ? (input.checked ? "True" : "False") : input.value;
        localStorage.setItem(input.id, value);
        set(input, value);
        if (input.id.startsWith("live")) { live.choose(); }
      };
    }
    for (const button of document.querySelectorAll("[data-reset]")) {
      button.onclick = () => {
        for (const input of inputs.filter((each) => each.id.startsWith(button.dataset.reset))) {
          localStorage.removeItem(input.id);
          set(input, input.dataset.default);
        }
        live.choose();
      };
    }
  },

  begin() {
    const tabs = [...document.querySelectorAll("[role=tab]")];
    tabs.forEach((tab, i) => {
      tab.onclick = () => page.show(tab.id.slice("tab-".length));
      tab.onkeydown = (event) => {
        const last = tabs.length - 1;
        const to = { ArrowRight: i < last ? i + 1 : 0, ArrowLeft: i ? i - 1 : last, Home: 0, End: last }[event.key];
        if (to !== undefined) { event.preventDefault(); tabs[to].focus(); tabs[to].click(); }
      };
    });
    page.uploads = { video: new Upload("video"), person: new Upload("person") };
    page.keepSettings();
    live.begin();
    video.begin();
    people.begin();
    window.onbeforeunload = (event) => {
      if (video.isMaking() || live.recorder || Object.values(page.uploads).some((upload) => upload.isBusy || upload.recorder)) { event.preventDefault(); }
    };
    $("banner-take").onclick = () => page.connect(true);
    page.update();
    page.connect();
  },
};
document.addEventListener("DOMContentLoaded", page.begin);
