// The People tab, and the choice of a person on the others: the server prepares a video, trains, and reports its progress.
const people = {
  WORDS: { looking: "Starting", looked: "Ready. Learning improves the result.", stopped: "Stopped.", done: "", failed: "Failed: ", learning: "Starting" },
  DOES: { looked: "Learn (minutes)", stopped: "Continue", failed: "Try again", done: "Improve (an hour or more)" },
  cards: new Map(),

  draw(all) {
    const shown = all.filter((person) => person.name);
    for (const where of ["live", "video"]) {
      const choice = $(`${where}-target`), names = shown.map((person) => person.name);
      if ([...choice.options].map((option) => option.value).join("\n") !== names.join("\n")) {
        const chosen = choice.value;
        choice.replaceChildren(...names.map((name) => new Option(name)));
        if (names.includes(chosen)) { choice.value = chosen; }
      }
      people.showPortrait(where);
    }
    const keys = new Set(all.map(people.key));
    for (const [key, card] of people.cards) { if (!keys.has(key)) { card.root.remove(); people.cards.delete(key); } }
    for (const person of all) { people.fill(people.cards.get(people.key(person)) || people.make(people.key(person)), person); }
  },

  key: (person) => person.id || person.name,

  showPortrait(where) {
    const person = page.news?.people.find((each) => each.name === $(`${where}-target`).value);
    people.setImage($(`${where}-portrait`), people.portrait(person));
    if (where === "live") { $("live-3").style.backgroundImage = person ? `url("${people.portrait(person)}")` : ""; }
  },

  portrait: (person) => (person?.name ? `portrait?${new URLSearchParams({ name: person.name, version: person.portrait })}` : ""),

  setImage(image, address) {
    image.hidden = !address;
    if (address && image.getAttribute("src") !== address) { image.src = address; }
  },

  make(key) {
    const root = $("card").content.firstElementChild.cloneNode(true);
    const card = { root, part: (name) => root.querySelector(`.${name}`) };
    card.part("live").onclick = () => {
      $("live-target").value = card.person.name;
      people.showPortrait("live");
      page.show("live");
      $("tab-live").focus();
      live.start(card.person.name);
    };
    card.part("go").onclick = () => page.ask({ do: "learn", id: card.person.id }, "person");
    card.part("pause").onclick = () => page.ask({ do: "pause", id: card.person.id }, "person");
    card.part("remove").onclick = () => {
      if (!confirm(`Remove ${card.person.title} with all files?`)) { return; }
      page.ask({ do: "remove", id: card.person.id }, "person");
      $("people-title").focus();
    };
    card.part("portrait").onerror = async () => {  // the server says why
      const found = await fetch(people.portrait(card.person)).then((answer) => answer.json()).catch(() => ({}));
      card.part("about").textContent = `cannot be shown: ${found.error}`;
    };
    $("people").append(root);
    people.cards.set(key, card);
    return card;
  },

  fill(card, person) {
    const seen = JSON.stringify(person), before = card.person;
    if (card.seen === seen) { return; }
    Object.assign(card, { seen, person });
    const { state } = person, isWorking = ["looking", "learning"].includes(state);
    const put = (name, text) => { card.part(name).textContent = text; card.part(name).hidden = !text; };
    put("name", person.name || person.title);
    put("about", [...(person.facts || []), ...(person.frames ? [`${person.frames} usable images`] : [])].join("; "));
    const words = `${person.what || people.WORDS[state] || ""}${isWorking ? " ..." : person.why || ""}`;
    put("state", page.sentence(person.done === undefined ? words : `${person.what}, ${page.timeLeft(person.left_s)}`));
    card.part("state").classList.toggle("wrong", state === "failed");
    put("missing", person.missing?.length && state !== "done" ? `For a better result, film this too: ${person.missing.join("; ")}.` : "");
    page.showProgress(card.root.querySelector("progress"), isWorking, person.done);
    put("go", person.next ? people.DOES[state] : "");
    card.part("pause").hidden = !isWorking;
    card.part("live").hidden = !person.name;
    card.part("remove").hidden = !person.id;
    people.setImage(card.part("portrait"), people.portrait(person));
    card.part("portrait").alt = `face of ${person.title || person.name}, generated`;
    card.part("face").parentElement.hidden = !person.face;
    people.setImage(card.part("face"), person.face ? `learned/${person.id}/face?${person.face}` : "");
    card.part("details").hidden = !person.sheet;
    people.setImage(card.part("sheet"), person.sheet ? `learned/${person.id}/sheet` : "");
    if (state === "looked" && before?.state === "looking") { page.say("person", `${person.title} can be driven live now.`); }
  },

  async add() {
    const name = $("person-name").value.trim(), agreed = $("person-agreed").checked, upload = page.uploads.person;
    if (!name || !agreed) { upload.say(name ? "Confirm that the person has agreed." : "Enter a name.", true); return; }
    if (!await page.ask({ do: "look", name, agreed, ...upload.choice() }, "person")) { return; }
    upload.forget();
    upload.file = null;
    $("person-in").hidden = true;
    $("person-agreed").checked = false;
    page.update();
  },

  begin() {
    $("person-go").onclick = people.add;
    $("video-target").onchange = () => people.showPortrait("video");
    $("live-target").onchange = () => { people.showPortrait("live"); live.again(); };
  },
};
