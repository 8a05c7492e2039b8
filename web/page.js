// Tabs and videos: a file is uploaded, the server makes a video of it and reports its progress over a web socket.
const page = {
  $: (id) => document.getElementById(id),
  RETRY_MS: 2000,
  token: null, isUploading: false, isMaking: false, hasUpload: false, recorder: null,
  where: "video",  // section that uploads or records: video | add

  say(text, isWrong = false, where = "video") {
    const progress = page.$(`${where}-progress`);
    progress.textContent = text;
    progress.classList.toggle("wrong", isWrong);
  },

  show(name) {
    for (const tab of document.querySelectorAll("[role=tab]")) {
      const isChosen = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
      page.$(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
    if (name === "people") { page.showPeople(); learn.watch(); }
  },

  async showPeople() {
    try {
      const answer = await fetch("people");
      page.$("people").innerHTML = await answer.text();
      page.showPortraits();
    } catch (error) {
      page.$("people").textContent = "";
    }
  },

  // portraits of the selected targets
  showPortraits() {
    for (const where of ["live", "video"]) {
      const name = page.$(`${where}-target`).value, portrait = page.$(`${where}-portrait`);
      const card = [...document.querySelectorAll("#people figure")].find((figure) => figure.dataset.name === name);
      const face = card?.querySelector("img");
      portrait.hidden = !face;
      if (face) { portrait.src = face.src; }
    }
  },

  // one tab uses the page; `take` ends the other's work
  connect(take = false) {
    const socket = page.socket = new WebSocket(`ws://${location.host}/session${take ? "?take" : ""}`);
    page.isElsewhere = false;
    socket.onmessage = (event) => page.receive(JSON.parse(event.data));
    socket.onclose = () => {
      page.token = null;
      page.isMaking = page.hasUpload = false;
      if (live.session) { live.end(live.session, "Stopped."); }
      page.warn(page.isElsewhere ? "This page is open in another tab."
        : "The server has stopped. Start it again, and this page goes on.", page.isElsewhere);
      if (!page.isElsewhere) { setTimeout(page.connect, page.RETRY_MS); }
      page.update();
    };
  },

  // a banner above all tabs
  warn(words, mayTake = false) {
    page.$("banner").hidden = !words;
    page.$("banner-words").textContent = words;
    page.$("banner-take").hidden = !mayTake;
  },

  receive(news) {
    if (news.session) {
      page.token = news.session;
      page.warn("");
      learn.refresh();
    }
    if (news.busy || news.taken) { page.isElsewhere = true; }
    if (news.progress) { page.say(news.progress); }
    if (news.failed) { page.isMaking = false; page.say(news.failed, true); }
    if (news.stopped) { page.isMaking = false; page.say("Stopped."); }
    if (news.done) {
      page.isMaking = false;
      page.say(`Done: ${news.done}.`);
      const address = `result/${encodeURIComponent(news.result)}`;
      page.$("video-out").src = page.$("video-save").href = address;
      page.$("video-save").download = `${news.person}.mp4`;
      page.$("video-out").hidden = page.$("video-save").hidden = false;
    }
    page.update();
  },

  update() {
    page.$("video-go").disabled = !page.token || !page.hasUpload || page.isMaking || page.isUploading;
    page.$("video-stop").disabled = !page.isMaking && !page.isUploading && !page.recorder;
    const isBusy = !page.token || page.isMaking || page.isUploading || Boolean(page.recorder);
    for (const id of ["video-file", "video-record", "add-file", "add-record"]) { page.$(id).disabled = isBusy; }
    for (const button of document.querySelectorAll(".example")) { button.disabled = isBusy; }
    page.$("add-stop").disabled = page.where !== "add" || (!page.isUploading && !page.recorder);
  },

  hideResult() {
    page.$("video-out").removeAttribute("src");
    page.$("video-out").hidden = page.$("video-save").hidden = true;
  },

  upload(file, where) {
    const most = Number(document.body.dataset.megabytes);
    page.hideResult();
    page.hasUpload = false;
    page.kept = null;  // also if another video was recorded instead
    page.where = where;
    if (file.size > most * 2 ** 20) {
      page.say(`The file is larger than ${most} MB; cut or compress it.`, true, where);
      return;
    }
    const preview = page.$(`${where}-in`);
    if (page.preview) { URL.revokeObjectURL(page.preview); }
    preview.src = page.preview = URL.createObjectURL(file);
    preview.hidden = false;
    page.$("video-hidden").hidden = true;
    preview.onerror = () => { preview.hidden = true; page.$("video-hidden").hidden = where !== "video"; };
    const request = page.request = new XMLHttpRequest();
    request.open("POST", "upload");
    request.setRequestHeader("X-Session", page.token);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      page.say(`uploading: ${Math.round(100 * event.loaded / Math.max(event.total, 1))} %`, false, where);
    };
    request.onloadend = () => {
      page.isUploading = false;
      const isThere = request.status === 200;
      page.hasUpload = isThere && where === "video";
      let words = page.wasStopped ? "Stopped." : "The upload was interrupted; choose the file again.";
      if (isThere) { words = "Uploaded. Press Make the video."; }
      else if (request.status) { try { words = JSON.parse(request.responseText).error; } catch { /* not JSON */ } }
      page.say(words, !isThere && !page.wasStopped, where);
      page.update();
      if (isThere && where === "add") { learn.look(); }
    };
    page.isUploading = true;
    page.wasStopped = false;
    page.update();
    request.send(file);
  },

  async record(where) {
    const most = Number(document.body.dataset.seconds);
    page.hideResult();
    page.where = where;
    page.recorder = { stop() { page.recorder = null; page.update(); } };  // until the browser has answered
    const asking = page.recorder;
    page.update();
    page.say("Waiting for the camera ...", false, where);
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: where === "video" })
        .catch(() => navigator.mediaDevices.getUserMedia({ video: true }));
    } catch (error) {
      page.recorder = null;
      page.say(`No camera: ${error.message}. Is one connected, not in use, and allowed for this page?`, true, where);
      page.update();
      return;
    }
    if (page.recorder !== asking) {
      stream.getTracks().forEach((track) => track.stop());
      page.say("Stopped.", false, where);
      return;
    }
    const parts = [], recorder = page.recorder = new MediaRecorder(stream);
    const clock = setTimeout(() => recorder.state === "recording" && recorder.stop(), most * 1000);
    stream.getVideoTracks()[0].onended = () => recorder.state === "recording" && recorder.stop();
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      clearTimeout(clock);
      stream.getTracks().forEach((track) => track.stop());
      page.recorder = null;
      page.$(`${where}-in`).srcObject = null;
      page.upload(new Blob(parts, { type: recorder.mimeType }), where);
    };
    const preview = page.$(`${where}-in`);
    preview.srcObject = stream;
    preview.hidden = false;
    preview.play().catch(() => {});
    recorder.start(1000);
    page.say(`Recording, at most ${most} s; press Stop to finish.`, false, where);
    page.update();
  },

  // a file is kept until name and consent are there
  choose(file, where) {
    if (!file || page.$(`${where}-file`).disabled) { return; }
    if (page.mayBegin(where)) { page.upload(file, where); } else { page.kept = file; }
  },

  // controls keep their values in this browser; Reset brings the defaults back
  keepSettings() {
    const inputs = [...document.querySelectorAll("[data-default]")];
    const set = (input, value) => {
      if (input.type === "checkbox") { input.checked = value === "True"; } else { input.value = value; }
      if (input.nextElementSibling?.tagName === "OUTPUT") { input.nextElementSibling.textContent = input.value; }
    };
    for (const input of inputs) {
      const kept = localStorage.getItem(input.id);
      if (kept !== null) { set(input, kept); }
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
    for (const zone of document.querySelectorAll("[data-drop]")) {
      const mark = (isOver) => (event) => { event.preventDefault(); zone.classList.toggle("over", isOver); };
      zone.ondragover = mark(true);
      zone.ondragleave = mark(false);
      zone.ondrop = (event) => { mark(false)(event); page.choose(event.dataTransfer.files[0], zone.dataset.drop); };
    }
  },

  mayBegin(where) {
    const objection = where === "add" ? learn.objection() : "";
    if (objection) { page.say(objection, true, where); }
    return !objection;
  },

  stop() {
    if (page.recorder) { page.recorder.stop(); return; }
    if (page.isUploading) { page.wasStopped = true; page.request.abort(); return; }
    if (page.isMaking) {
      page.say("stopping ...");
      page.socket.send(JSON.stringify({ stop: true }));
    }
  },

  make() {
    page.hideResult();
    page.isMaking = true;
    page.say("starting ...");
    page.socket.send(JSON.stringify({ make: {
      ...page.controls("video"), target: page.$("video-target").value,
    } }));
    page.update();
  },

  // values of all controls of a tab, see web/controls.py
  controls(tab) {
    const values = {};
    for (const input of document.querySelectorAll(`[data-tab=${tab}]`)) {
      const isNumber = input.type === "range";
      values[input.dataset.control] = input.type === "checkbox" ? input.checked : isNumber ? Number(input.value) : input.value;
    }
    return values;
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
    page.$("live-go").onclick = () => (live.session ? live.stop() : live.start(page.$("live-target").value));
    page.$("live-neutral").onclick = () => live.calibrate();
    page.$("live-full").onclick = () => page.$(`live-${live.RESULT}`).requestFullscreen();
    page.$("live-pop").onclick = () => live.popOut();
    const again = () => { if (live.session) { live.start(page.$("live-target").value); } };
    page.$("live-target").onchange = () => { page.showPortraits(); again(); };
    page.$("live-camera").onchange = again;
    page.$("video-target").onchange = () => page.showPortraits();
    page.keepSettings();
    for (const button of document.querySelectorAll(".example")) {
      button.onclick = async () => {
        const answer = await fetch(`examples/${button.dataset.name}.mp4`);
        page.upload(await answer.blob(), "video");
      };
    }
    page.$("live-record").onclick = () => live.record();
    for (const where of ["video", "add"]) {
      page.$(`${where}-file`).onchange = (event) => {
        const [file] = event.target.files;
        event.target.value = "";
        page.choose(file, where);
      };
      page.$(`${where}-record`).onclick = () => { if (page.mayBegin(where)) { page.record(where); } };
    }
    for (const id of ["add-name", "add-agreed"]) { page.$(id).onchange = () => page.choose(page.kept, "add"); }
    window.onbeforeunload = (event) => {
      if (page.isMaking || page.isUploading || page.recorder || live.recorder) { event.preventDefault(); }
    };
    page.$("add-stop").onclick = () => page.stop();
    page.$("video-go").onclick = () => page.make();
    page.$("video-stop").onclick = () => page.stop();
    page.$("banner-take").onclick = () => page.connect(true);
    page.update();
    page.connect();
    page.showPeople();
  },
};
page.begin();
