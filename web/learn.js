// Adding people: the server prepares an uploaded video, trains a decoder, and reports its progress.
const learn = {
  POLL_MS: 2000,
  WORDS: { looking: "Finding faces ...", looked: "Ready: use it now, or press Learn to improve it.", stopped: "Stopped.",
           done: "Trained.", failed: "Failed: ", learning: "Training ..." },
  DOES: { looked: "Learn", stopped: "Continue", failed: "Try again" },
  $: (id) => document.getElementById(id),
  people: new Map(), timer: null,

  say(text, isWrong = false) {
    learn.$("add-progress").textContent = text;
    learn.$("add-progress").classList.toggle("wrong", isWrong);
  },

  // why a video cannot be uploaded yet, or ''
  objection() {
    if (!learn.$("add-name").value.trim()) { return "Enter a name; the video is used then."; }
    if (!learn.$("add-agreed").checked) { return "Confirm that the person has agreed; the video is used then."; }
    return "";
  },

  async ask(action) {
    let answer, words;
    try {
      const headers = { "Content-Type": "application/json", "X-Session": page.token || "" };
      answer = await fetch("learned", { method: "POST", headers, body: JSON.stringify(action) });
      words = await answer.json();
    } catch { learn.say("The server does not answer.", true); return false; }
    if (!answer.ok) { learn.say(words.error, true); return false; }
    learn.draw(words);
    return true;
  },

  async look() {
    learn.say("The video was uploaded.");
    if (await learn.ask({ do: "look", name: learn.$("add-name").value, agreed: learn.$("add-agreed").checked })) {
      learn.say("");
      learn.$("add-agreed").checked = false;
      learn.watch();
    }
  },

  async refresh() {
    try { learn.draw(await (await fetch("learned")).json()); } catch { /* the banner says so */ }
  },

  // poll while the tab is open
  watch() {
    clearTimeout(learn.timer);
    if (learn.$("panel-people").hidden) { return; }
    learn.refresh();
    learn.timer = setTimeout(learn.watch, learn.POLL_MS);
  },

  draw(news) {
    for (const id of ["live-target", "video-target"]) {
      const choice = learn.$(id), names = [...choice.options].map((option) => option.value);
      if (names.join("\n") === news.shown.join("\n")) { continue; }
      const chosen = choice.value;
      choice.replaceChildren(...news.shown.map((name) => new Option(name)));
      if (news.shown.includes(chosen)) { choice.value = chosen; }
      page.showPortraits();
    }
    const there = new Set(news.people.map((person) => person.id));
    for (const [id, entry] of learn.people) { if (!there.has(id)) { entry.root.remove(); learn.people.delete(id); } }
    for (const person of news.people) { learn.fill(learn.people.get(person.id) || learn.make(person.id), person); }
    const seen = [...news.shown, ...news.people.map((person) => person.state)].join("\n");
    if (learn.seen !== undefined && learn.seen !== seen) { page.showPeople(); }
    learn.seen = seen;
  },

  make(id) {
    const root = learn.$("learned-entry").content.firstElementChild.cloneNode(true);
    const entry = { root, part: (name) => root.querySelector(`.${name}`) };
    entry.part("go").onclick = () => learn.ask({ do: "learn", id });
    entry.part("stop").onclick = () => learn.ask({ do: "stop", id });
    entry.part("live").onclick = () => {
      learn.$("live-target").value = entry.shownAs;
      page.showPortraits();
      page.show("live");
      learn.$("tab-live").focus();
    };
    entry.part("remove").onclick = () => {
      if (!confirm(`Remove ${entry.name} with all files?`)) { return; }
      learn.ask({ do: "remove", id });
      learn.$("people-title").focus();
    };
    learn.$("learned").append(root);
    learn.people.set(id, entry);
    return entry;
  },

  fill(entry, person) {
    const put = (name, text) => {
      if (entry.part(name).textContent !== text) { entry.part(name).textContent = text; }
    };
    entry.name = person.name;
    entry.shownAs = person.shown_as;
    put("name", person.name);
    let words = learn.WORDS[person.state];
    if (person.done !== undefined) {
      const seconds = Math.round(person.left_s);
      const left = seconds < 90 ? `${seconds} seconds` : `${Math.round(seconds / 60)} minutes`;
      words = `Training: ${Math.round(100 * person.done)} %, about ${left} left.`;
    }
    put("state", words + (person.state === "failed" || person.why ? person.why : ""));
    entry.part("state").classList.toggle("wrong", person.state === "failed");
    put("frames", person.frames ? `${person.frames} usable frames.` : "");
    put("missing", person.missing.length && person.state !== "done"
      ? `To improve the result, also film this: ${person.missing.join("; ")}.` : "");
    entry.part("bar").hidden = person.done === undefined;
    entry.part("bar").value = person.done || 0;
    put("go", learn.DOES[person.state] || "Learn");
    entry.part("go").hidden = !(person.state in learn.DOES) || !person.frames;
    entry.part("stop").hidden = !["looking", "learning"].includes(person.state);
    entry.part("live").hidden = !person.shown_as;
    const show = (name, isThere, address) => {
      const image = entry.part(name);
      image.closest("figure").hidden = !isThere;
      if (isThere && image.getAttribute("src") !== address) { image.src = address; }
    };
    if (person.state === "looked" && entry.state !== "looked") { entry.part("details").open = true; }
    entry.state = person.state;
    show("sheet", person.sheet, `learned/${person.id}/sheet`);
    show("face", person.face > 0, `learned/${person.id}/face?${person.face}`);
  },
};
window.learn = learn;
