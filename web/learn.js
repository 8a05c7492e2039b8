// People that are learned: a video goes up and is looked at, then the server learns the face, and says how far it is.
const learn = {
  POLL_MS: 2000,
  WORDS: { looking: "Looking for the face in each frame ...", looked: "Ready: drive it now, or let it be learned for a closer likeness.", stopped: "Stopped.",
           done: "Learned.", failed: "It did not work: ", learning: "Learning: the first pictures take a moment ..." },
  DOES: { looked: "Learn", stopped: "Go on", failed: "Try again" },
  $: (id) => document.getElementById(id),
  people: new Map(), timer: null,

  say(text, isWrong = false) {
    learn.$("add-progress").textContent = text;
    learn.$("add-progress").classList.toggle("wrong", isWrong);
  },

  // why a video cannot go up yet, or nothing
  objection() {
    if (!learn.$("add-name").value.trim()) { return "Write a name first."; }
    if (!learn.$("add-agreed").checked) { return "Tick first that the person filmed has agreed."; }
    return "";
  },

  async ask(wish) {
    let answer, words;
    try {
      const headers = { "Content-Type": "application/json", "X-Session": page.token || "" };
      answer = await fetch("learned", { method: "POST", headers, body: JSON.stringify(wish) });
      words = await answer.json();
    } catch { learn.say("The server has ended; start it again, and load this page anew.", true); return false; }
    if (!answer.ok) { learn.say(words.error, true); return false; }
    learn.draw(words);
    return true;
  },

  async look() {
    learn.say("The video is there; it is looked at.");
    if (await learn.ask({ do: "look", name: learn.$("add-name").value, agreed: learn.$("add-agreed").checked })) {
      learn.say("");
      learn.$("add-agreed").checked = false;
      learn.watch();
    }
  },

  async refresh() {
    try { learn.draw(await (await fetch("learned")).json()); } catch { /* said elsewhere */ }
  },

  // news as long as the tab is open
  watch() {
    clearTimeout(learn.timer);
    if (learn.$("panel-people").hidden) { return; }
    learn.refresh();
    learn.timer = setTimeout(learn.watch, learn.POLL_MS);
  },

  draw(news) {
    for (const id of ["live-who", "video-who"]) {
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
      learn.$("live-who").value = entry.shownAs;
      page.showPortraits();
      page.show("live");
      learn.$("tab-live").focus();
    };
    entry.part("remove").onclick = () => {
      if (confirm(`Remove ${entry.name}, and all that was made of the video?`)) { learn.ask({ do: "remove", id }); }
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
      words = `Learning: ${Math.round(100 * person.done)} %, about ${left} left.`;
      if (person.loss !== undefined) { words += ` Error ${person.loss.toFixed(3)}, which falls as the likeness grows.`; }
    }
    put("state", words + (person.state === "failed" || person.why ? person.why : ""));
    entry.part("state").classList.toggle("wrong", person.state === "failed");
    put("frames", person.frames ? `${person.frames} frames of the video serve.` : "");
    put("missing", person.missing.length && person.state !== "done"
      ? `Better results if you also film this: ${person.missing.join("; ")}.` : "");
    entry.part("bar").hidden = person.done === undefined;
    entry.part("bar").value = person.done || 0;
    put("go", learn.DOES[person.state] || "Learn");
    entry.part("go").hidden = !(person.state in learn.DOES) || !person.frames;
    entry.part("stop").hidden = !["looking", "learning"].includes(person.state);
    entry.part("live").hidden = !person.shown_as;
    const show = (name, isThere, address) => {
      const picture = entry.part(name);
      picture.closest("figure").hidden = !isThere;
      if (isThere && picture.getAttribute("src") !== address) { picture.src = address; }
    };
    if (person.state === "looked" && entry.state !== "looked") { entry.part("details").open = true; }
    entry.state = person.state;
    show("sheet", person.sheet, `learned/${person.id}/sheet`);
    show("face", person.face > 0, `learned/${person.id}/face?${person.face}`);
  },
};
window.learn = learn;
