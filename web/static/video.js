// The Video tab: the server makes a video of the chosen one, and keeps the results.
const video = {
  isMaking: () => Boolean(page.news?.job.what),

  draw({ job, results }) {
    const seen = JSON.stringify(job), listed = JSON.stringify(results);
    $("video-go").lastElementChild.textContent = job.what ? "Stop" : "Make the video";
    page.showProgress($("video-bar"), job.what, job.done);
    if (job.what) {
      page.say("video", job.done === undefined ? `${job.what} ...` : `${job.what}: ${page.timeLeft(job.left_s)}`);
    } else if (seen !== video.seen && (job.said || job.failed)) {
      page.say("video", job.said || job.failed, Boolean(job.failed));
      if (job.result) { video.play(job.result); }
    }
    if (listed !== video.listed) { $("results").replaceChildren(...results.map(video.entry)); }
    Object.assign(video, { seen, listed });
    if (!results.some(({ name }) => name === video.shown)) { video.hide(); }
  },

  entry({ name, time }) {
    const item = $("result").content.firstElementChild.cloneNode(true), [words, play, save, remove] = item.children;
    words.textContent = `${name.replace(/\.mp4$/, "")}, ${new Date(1000 * time).toLocaleString()}`;
    play.onclick = () => video.play(name);
    Object.assign(save, { href: video.address(name), download: name });
    remove.onclick = () => {
      if (!confirm(`Delete ${name}?`)) { return; }
      page.ask({ do: "delete", name }, "video");
      $("results-title").focus();
    };
    return item;
  },

  address: (name) => `result/${encodeURIComponent(name)}`,

  play(name) {
    video.shown = name;
    $("video-out").src = $("video-save").href = video.address(name);
    $("video-save").download = name;
    $("video-out").hidden = $("video-save").hidden = false;
  },

  hide() {
    video.shown = null;
    $("video-out").removeAttribute("src");
    $("video-out").hidden = $("video-save").hidden = true;
  },

  go() {
    if (video.isMaking()) { page.ask({ do: "stop" }, "video"); return; }
    video.hide();
    video.seen = null;
    page.ask({ do: "make", ...page.controls("video"), ...page.uploads.video.choice(), target: $("video-target").value }, "video");
  },

  begin() {
    $("video-go").onclick = video.go;
    for (const button of document.querySelectorAll(".example")) {
      button.onclick = async () => page.uploads.video.send(await (await fetch(`static/examples/${button.dataset.name}.mp4`)).blob());
    }
  },
};
