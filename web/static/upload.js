// A video of the Video or People tab: chosen, dropped or recorded, checked by the server, and trimmed.
class Upload {
  constructor(kind) {
    Object.assign(this, { kind, isReady: false, isBusy: false, recorder: null, face: null, file: null });
    this.part("file").onchange = (event) => {
      const [file] = event.target.files;
      event.target.value = "";
      this.send(file);
    };
    this.part("record").onclick = () => (this.recorder ? this.recorder.stop() : this.record());
    const zone = this.part("drop"), mark = (isOver) => (event) => { event.preventDefault(); zone.classList.toggle("over", isOver); };
    zone.ondragover = mark(true);
    zone.ondragleave = mark(false);
    zone.ondrop = (event) => { mark(false)(event); this.send(event.dataTransfer.files[0]); };
    this.part("from").oninput = () => this.trim(true);
    this.part("to").oninput = () => this.trim(false);
  }

  part(name) { return $(`${this.kind}-${name}`); }

  say(text, isWrong) { page.say(this.kind, text, isWrong); }

  update(isOff) {
    this.part("file").disabled = isOff || this.isBusy || Boolean(this.recorder);
    this.part("record").disabled = isOff || this.isBusy;
    this.part("record").lastElementChild.textContent = this.recorder ? "Stop recording" : "Record";
    for (const button of document.querySelectorAll(`#panel-${this.kind} .example`)) { button.disabled = this.part("file").disabled; }
  }

  forget() {
    this.isReady = false;
    this.part("chosen").hidden = true;
    this.say("Choose a video.");
  }

  async send(file) {
    if (!file || this.isBusy || this.recorder) { return; }
    this.forget();
    if (file.size > Number(document.body.dataset.megabytes) * 2 ** 20) {
      this.say(`The file is larger than ${document.body.dataset.megabytes} MB; cut or compress it.`, true);
      return;
    }
    this.file = file;
    if (!page.token) { return; }  // it is sent when the page is connected again
    this.isBusy = true;
    this.say("Checking the video ...");
    page.update();
    const preview = this.part("in");
    URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(file);
    preview.hidden = false;
    preview.onerror = () => { preview.hidden = true; };  // the browser cannot play it, but perhaps the server can
    const found = await page.post(`upload/${this.kind}`, file, this.kind);
    this.isBusy = false;
    if (found) { this.showFound(found); }
    page.update();
  }

  // its length, two handles, and the faces of its first seconds
  showFound({ seconds, faces }) {
    this.isReady = true;
    this.seconds = seconds;
    for (const name of ["from", "to"]) {
      this.part(name).max = seconds;
      this.part(name).value = name === "to" ? seconds : 0;
    }
    this.part("chosen").hidden = false;
    this.trim();
    this.face = faces.length > 1 ? 1 : null;
    this.part("faces").replaceChildren(...(faces.length < 2 ? [] : faces).map((address, i) => {
      const button = document.createElement("button");
      button.append(Object.assign(new Image(), { src: address, alt: `Face ${i + 1}` }));
      button.onclick = () => { this.face = i + 1; this.markFace(); };
      return button;
    }));
    this.markFace();
    if (!faces.length) { this.say("No face was found in the first seconds. Is this the right video?", true); }
    else { this.say(faces.length > 1 ? "There are several faces: choose one." : this.kind === "video" ? "Ready: make the video." : "The video is fine."); }
  }

  markFace() {
    [...this.part("faces").children].forEach((button, i) => button.setAttribute("aria-pressed", i + 1 === this.face));
  }

  trim(isStart) {
    const from = this.part("from"), to = this.part("to"), least = Math.min(1, this.seconds);
    if (isStart) { from.value = Math.min(from.value, to.value - least); } else { to.value = Math.max(to.value, Number(from.value) + least); }
    if (isStart !== undefined) { this.part("in").currentTime = Number((isStart ? from : to).value); }
    this.part("part").textContent = `${Number(from.value).toFixed(1)} s to ${Number(to.value).toFixed(1)} s of ${this.seconds.toFixed(1)} s`;
  }

  // what a request says about the video
  choice() {
    const part = [Number(this.part("from").value), Number(this.part("to").value)];
    const isWhole = part[0] === 0 && part[1] > this.seconds - 0.1;
    return { part: isWhole ? null : part, face: this.face };
  }

  async record() {
    const asking = this.recorder = { stop: () => { this.recorder = null; page.update(); } };  // until the browser has answered
    page.update();
    this.say("Waiting for the camera ...");
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: this.kind === "video" })
        .catch(() => navigator.mediaDevices.getUserMedia({ video: true }));
    } catch (error) {
      this.recorder = null;
      this.say(live.noCamera(error), true);
      page.update();
      return;
    }
    if (this.recorder !== asking) { page.giveBack(stream); this.say("Stopped."); return; }
    const preview = this.part("in");
    preview.srcObject = stream;
    preview.hidden = false;
    preview.play().catch(() => {});
    this.say("Recording.");
    this.recorder = page.record(stream, (s) => this.say(`Recording: ${s} s of at most ${document.body.dataset.seconds} s.`));
    page.update();
    const file = await this.recorder.done;
    this.recorder = preview.srcObject = null;
    this.send(file);
  }
}
