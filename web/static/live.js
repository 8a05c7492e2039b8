// The Live tab: sends frames of the camera to the server and shows its results. Few are in flight, which keeps the delay small.
const live = {
  IN_FLIGHT: 3, IN_FLIGHT_SLOW: 2, SLOW_MS: 250, FAST_MS: 100,
  WIDTH: 640, QUALITY: 0.85, WINDOW_MS: 2000, SAY_MS: 3000, TILES: 4, TILE: 256, RESULT: 3, NEUTRAL: 12,
  said: { text: "", at: -Infinity },

  // for screen readers: important messages at once, frequent ones rarely
  say(text, isFrequent = false) {
    const now = performance.now();
    if (text === live.said.text || (isFrequent && now - live.said.at < live.SAY_MS)) { return; }
    live.said = { text, at: now };
    page.say("live", text);
  },

  noCamera: (error) => `No camera: ${error.message}. Is one connected, not in use, and allowed for this page?`,

  turn: 0,  // number of starts and stops, to detect that another one happened meanwhile

  async start(target) {
    if (live.session) { live.end(live.session, "Stopped.", Boolean(target && page.token)); }
    if (!target || !page.token) { live.say("The page is not connected."); return; }
    const turn = ++live.turn;
    live.say("Waiting for the camera ...");
    let stream;
    try {
      const deviceId = $("live-camera").value;
      const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: live.WIDTH, ...which } });
      live.listCameras();
    } catch (error) {
      if (turn === live.turn) { live.say(live.noCamera(error)); }
      return;
    }
    if (turn !== live.turn) { page.giveBack(stream); return; }
    $("live-video").srcObject = stream;
    await $("live-video").play().catch(() => {});
    if (turn !== live.turn) { page.giveBack(stream); return; }
    const socket = new WebSocket(`ws://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    const session = { stream, socket, sent: [], delays: [], reason: "", room: live.IN_FLIGHT };
    live.session = session;
    live.update();
    stream.getVideoTracks()[0].onended = () => live.end(session, "The camera was disconnected. Connect it and press Start.");
    socket.onopen = () => socket.send(JSON.stringify({ target, session: page.token }));
    socket.onmessage = (event) => live.receive(session, event.data);
    socket.onclose = () => live.end(session, "Stopped: the connection was closed.");
    live.say("Loading the network ...");
  },

  again() { if (live.session) { live.start($("live-target").value); } },  // with another person or camera

  stop() {
    live.turn++;
    if (live.session) { live.end(live.session, "Stopped."); } else { live.say("Stopped."); }
  },

  // `goesOn`: another session follows at once
  end(session, why, goesOn = false) {
    if (session !== live.session) { return; }
    live.session = null;
    page.giveBack(session.stream);
    session.socket.close();
    $("live-video").srcObject = null;
    $("live-rate").textContent = "";
    live.update();
    if (live.recorder && !goesOn) { live.recorder.stop(); }
    live.say(why);
  },

  // Start and Stop are one button; a dot on the tab shows that the camera is on
  update() {
    const isOn = Boolean(live.session);
    $("live-go").lastElementChild.textContent = isOn ? "Stop" : "Start";
    $("tab-live").classList.toggle("on", isOn);
    $("live-neutral").disabled = $("live-pop").disabled = !isOn;
    $("live-record").disabled = !isOn && !live.recorder;
  },

  async listCameras() {
    const choice = $("live-camera"), chosen = choice.value;
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
    const video = $("live-window");
    try {
      video.srcObject = $(`live-${live.RESULT}`).captureStream();
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
    const stream = $(`live-${live.RESULT}`).captureStream();
    sound?.getTracks().forEach((track) => stream.addTrack(track));
    if (!live.session || live.recorder) { page.giveBack(stream); return; }
    const words = $("live-record").lastElementChild;
    words.textContent = "Stop recording";
    live.recorder = page.record(stream, (seconds) => { words.textContent = `Stop recording (${seconds} s)`; });
    const file = await live.recorder.done;
    live.recorder = null;
    words.textContent = "Record";
    live.update();
    const found = await page.post("upload/recording", file, "live");
    if (found) { Object.assign($("live-save"), { href: video.address(found.result), download: found.result, hidden: false }); }
  },

  // each frame has an answer, in order
  async receive(session, data) {
    if (session !== live.session) { return; }
    if (typeof data === "string") {
      const news = JSON.parse(data);
      if (news.error) { live.end(session, news.error); return; }
      if (news.ready) { session.ready = true; live.say("Running."); live.choose(); live.pump(session); return; }
      session.reason = news.reason;
      live.count(session, session.sent.shift());
      return;
    }
    const sent = session.sent.shift(), isLearning = new Uint8Array(data)[0];
    const panel = await createImageBitmap(new Blob([data.slice(1)], { type: "image/jpeg" }));
    if (session !== live.session) { return; }
    for (let i = 0; i < live.TILES; i++) {  // the panel has four images in a row
      $(`live-${i}`).getContext("2d").drawImage(panel, i * live.TILE, 0, live.TILE, live.TILE, 0, 0, live.TILE, live.TILE);
    }
    panel.close();
    if (session.neutral && !--session.neutral) { live.say("Your neutral face was taken."); }
    session.reason = isLearning ? "Measuring your face: look at the camera, talk, close your mouth." : "Running.";
    live.count(session, sent);
  },

  // the rate and the delay of the last seconds
  count(session, sent) {
    const now = performance.now(), { delays } = session;
    delays.push([now, now - sent]);
    while (delays[0][0] < now - live.WINDOW_MS) { delays.shift(); }
    const rate = delays.length > 1 ? 1000 * (delays.length - 1) / Math.max(now - delays[0][0], 1) : 0;
    const delay = delays.reduce((sum, [, ms]) => sum + ms, 0) / delays.length;
    if (delay > live.SLOW_MS) { session.room = live.IN_FLIGHT_SLOW; }
    if (delay < live.FAST_MS) { session.room = live.IN_FLIGHT; }
    $("live-rate").textContent = `${rate.toFixed(0)} images/s, delay ${delay.toFixed(0)} ms`;
    live.say(session.reason, true);
  },

  // sends each new frame; a hidden tab gets no new frames, but is told by the clock
  pump(session) {
    if (session !== live.session) { return; }
    $("live-video").requestVideoFrameCallback(() => live.pump(session));
    live.send(session);
  },

  send(session) {
    const video = $("live-video"), canvas = $("live-in");
    if (!session?.ready || session.sent.length >= session.room || session.encoding || !video.videoWidth) { return; }
    session.encoding = true;
    canvas.width = Math.min(video.videoWidth, live.WIDTH);
    canvas.height = Math.round(video.videoHeight * canvas.width / video.videoWidth);
    const context = canvas.getContext("2d");
    if ($("live-mirror").checked) { context.setTransform(-1, 0, 0, 1, canvas.width, 0); }
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    session.sent.push(performance.now());
    canvas.toBlob((blob) => {
      session.encoding = false;
      if (session === live.session && session.socket.readyState === WebSocket.OPEN) { session.socket.send(blob); }
    }, "image/jpeg", live.QUALITY);
  },

  begin() {
    $("live-go").onclick = () => (live.session ? live.stop() : live.start($("live-target").value));
    $("live-camera").onchange = live.again;
    $("live-neutral").onclick = live.calibrate;
    $("live-full").onclick = () => $(`live-${live.RESULT}`).requestFullscreen();
    $("live-pop").onclick = live.popOut;
    $("live-record").onclick = live.record;
    new Worker("static/clock.js").onmessage = () => { if (document.hidden) { live.send(live.session); } };
  },
};
