// Frames of the camera are sent to the server, which returns results. Only two or three are in flight at a time, which
// keeps the delay small.
const live = {
  IN_FLIGHT: 3, IN_FLIGHT_SLOW: 2, SLOW_MS: 250, FAST_MS: 100,
  WIDTH: 640, QUALITY: 0.85, WINDOW_MS: 2000, SAY_MS: 3000, TILES: 4, TILE: 256, RESULT: 3, NEUTRAL: 12,

  $: (id) => document.getElementById(id),
  said: { text: "", at: -Infinity },

  // for screen readers: important messages at once, frequent ones rarely
  say(text, isFrequent = false) {
    const now = performance.now();
    if (text === live.said.text || (isFrequent && now - live.said.at < live.SAY_MS)) { return; }
    live.said = { text, at: now };
    live.$("live-status").textContent = text;
  },

  turn: 0,  // number of starts and stops, to detect that another one happened meanwhile

  async start(target) {
    if (live.session) { live.end(live.session, "Stopped.", Boolean(target && page.token)); }
    if (!target) { live.say("Choose a target first."); return; }
    if (!page.token) { live.say("The page is not connected."); return; }
    const turn = ++live.turn;
    live.say("Waiting for the camera ...");
    let stream;
    try {
      const deviceId = live.$("live-camera").value;
      const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: live.WIDTH, ...which } });
      live.listCameras();
    } catch (error) {
      if (turn === live.turn) {
        live.say(`No camera: ${error.message}. Is one connected, not in use, and allowed for this page?`);
      }
      return;
    }
    const giveBack = () => stream.getTracks().forEach((track) => track.stop());
    if (turn !== live.turn) { giveBack(); return; }
    const video = live.$("live-video");
    video.srcObject = stream;
    await video.play().catch(() => {});
    if (turn !== live.turn) { giveBack(); return; }
    const socket = new WebSocket(`ws://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    const session = { stream, socket, sent: new Map(), delays: [], number: 0, reason: "", room: live.IN_FLIGHT };
    live.session = session;
    live.update();
    stream.getVideoTracks()[0].onended = () => live.end(session, "The camera was disconnected. Connect it and press Start.");
    // the first frame requests a place on the server
    socket.onopen = () => { socket.send(JSON.stringify({ target, session: page.token })); live.pump(session); };
    socket.onmessage = (event) => live.receive(session, event.data);
    socket.onclose = (event) => live.end(session, event.reason || "Stopped: the connection was closed.");
    live.say("Loading the network ...");
  },

  stop() {
    live.turn++;
    if (live.session) { live.end(live.session, "Stopped."); } else { live.say("Stopped."); }
  },

  // `goesOn`: another session follows at once
  end(session, why, goesOn = false) {
    if (session !== live.session) { return; }
    live.session = null;
    session.stream.getTracks().forEach((track) => track.stop());
    session.socket.close();
    live.$("live-video").srcObject = null;
    live.$("live-rate").textContent = "";
    live.update();
    if (live.recorder && !goesOn) { live.recorder.stop(); }
    live.say(why);
  },

  // Start and Stop are one button; a dot on the tab shows that the camera is on
  update() {
    const isOn = Boolean(live.session), go = live.$("live-go");
    go.textContent = isOn ? "Stop" : "Start";
    go.setAttribute("aria-pressed", isOn);
    live.$("tab-live").classList.toggle("on", isOn);
    for (const id of ["live-record", "live-neutral", "live-pop"]) { live.$(id).disabled = !isOn && !(id === "live-record" && live.recorder); }
  },

  async listCameras() {
    const choice = live.$("live-camera"), chosen = choice.value;
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
    const options = cameras.map((camera, i) => new Option(camera.label || `camera ${i + 1}`, camera.deviceId));
    choice.replaceChildren(new Option("default", ""), ...options);
    choice.value = cameras.some((camera) => camera.deviceId === chosen) ? chosen : "";
  },

  calibrate() {
    if (!live.session?.ready) { return; }
    live.session.socket.send(JSON.stringify({ calibrate: true }));
    live.session.neutral = live.NEUTRAL;  // results until it is taken
  },

  // the result in a window above others, for calls
  async popOut() {
    const video = live.$("live-window");
    try {
      video.srcObject = live.$(`live-${live.RESULT}`).captureStream();
      await video.play();
      await video.requestPictureInPicture();
    } catch (error) { live.say(`This browser cannot show a window: ${error.message}`); }
  },

  choose() {
    if (live.session?.ready) { live.session.socket.send(JSON.stringify(page.controls("live"))); }
  },

  // records the labelled result with the microphone's sound, also while the person is changed
  async record() {
    if (live.recorder) { live.recorder.stop(); return; }
    const sound = await navigator.mediaDevices.getUserMedia({ audio: true }).catch(() => null);
    if (!live.session || live.recorder) { sound?.getTracks().forEach((track) => track.stop()); return; }
    const parts = [], save = live.$("live-save"), button = live.$("live-record"), began = performance.now();
    const stream = live.$(`live-${live.RESULT}`).captureStream();
    sound?.getTracks().forEach((track) => stream.addTrack(track));
    const recorder = live.recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => {
      parts.push(event.data);
      const seconds = Math.round((performance.now() - began) / 1000);
      button.textContent = `Stop recording (${seconds} s)`;
      if (seconds >= Number(document.body.dataset.seconds) && recorder.state === "recording") { recorder.stop(); }
    };
    recorder.onstop = () => {
      live.recorder = null;
      button.textContent = "Record";
      stream.getTracks().forEach((track) => track.stop());
      if (save.href) { URL.revokeObjectURL(save.href); }
      save.href = URL.createObjectURL(new Blob(parts, { type: recorder.mimeType }));
      save.download = "synthetic.webm";
      save.hidden = false;
      live.update();
    };
    button.textContent = "Stop recording";
    recorder.start(1000);
  },

  async receive(session, data) {
    if (session !== live.session) { return; }
    if (typeof data === "string") {
      const news = JSON.parse(data);
      if (news.error) { live.end(session, news.error); return; }
      if (news.ready) { session.ready = true; live.say("Running."); live.choose(); return; }
      live.count(session, news.number);
      session.reason = news.reason;
      live.report(session);
      return;
    }
    const view = new DataView(data);
    const number = view.getUint32(0), isLearning = view.getUint8(4);
    const panel = await createImageBitmap(new Blob([data.slice(5)], { type: "image/jpeg" }));
    if (session !== live.session) { return; }
    live.draw(panel);
    if (session.neutral && !--session.neutral) { live.say("Your neutral face was taken."); }
    session.reason = isLearning ? "Measuring your face: look at the camera, talk, close your mouth." : "Running.";
    live.count(session, number);
    live.report(session);
  },

  // the panel has four images in a row
  draw(panel) {
    const side = live.TILE;
    for (let i = 0; i < live.TILES; i++) {
      const context = live.$(`live-${i}`).getContext("2d");
      context.drawImage(panel, i * side, 0, side, side, 0, 0, side, side);
    }
    panel.close();
  },

  count(session, number) {
    const now = performance.now(), sent = session.sent.get(number);
    if (sent === undefined) { return; }  // a later frame was displayed first
    session.delays.push([now, now - sent]);
    for (const earlier of session.sent.keys()) { if (earlier <= number) { session.sent.delete(earlier); } }
    while (session.delays.length && session.delays[0][0] < now - live.WINDOW_MS) { session.delays.shift(); }
  },

  report(session) {
    const now = performance.now(), many = session.delays.length;
    if (!many) { return; }
    const span = Math.max(now - session.delays[0][0], 1), rate = many > 1 ? 1000 * (many - 1) / span : 0;
    const delay = session.delays.reduce((sum, [, ms]) => sum + ms, 0) / many;
    if (delay > live.SLOW_MS) { session.room = live.IN_FLIGHT_SLOW; }
    if (delay < live.FAST_MS) { session.room = live.IN_FLIGHT; }
    const shown = live.$("live-rate");
    shown.dataset.rate = rate.toFixed(1);
    shown.dataset.delay = delay.toFixed(0);
    shown.textContent = `${rate.toFixed(0)} images per second, delay ${delay.toFixed(0)} ms`;
    live.say(session.reason, true);
  },

  // send the newest frame if there is room for it
  pump(session) {
    if (session !== live.session) { return; }
    const video = live.$("live-video");
    const again = () => live.pump(session);
    if (video.requestVideoFrameCallback) { video.requestVideoFrameCallback(again); } else { setTimeout(again, 30); }
    const room = session.ready ? session.room : 1;
    if (session.sent.size >= room || session.encoding || !video.videoWidth) { return; }
    session.encoding = true;
    const canvas = live.$("live-in");
    canvas.width = Math.min(video.videoWidth, live.WIDTH);
    canvas.height = Math.round(video.videoHeight * canvas.width / video.videoWidth);
    const context = canvas.getContext("2d");
    if (live.$("live-mirror").checked) { context.setTransform(-1, 0, 0, 1, canvas.width, 0); }
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const number = session.number++;
    session.sent.set(number, performance.now());
    canvas.toBlob(async (blob) => {
      const bytes = new Uint8Array(4 + blob.size);
      new DataView(bytes.buffer).setUint32(0, number);
      bytes.set(new Uint8Array(await blob.arrayBuffer()), 4);
      session.encoding = false;
      if (session === live.session && session.socket.readyState === WebSocket.OPEN) { session.socket.send(bytes); }
    }, "image/jpeg", live.QUALITY);
  },
};
window.live = live;
