// A clip in the chat: it plays, and below it is a line of its time with a mark for each frame that the model took.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, set, show, button, keep, stepAmong } = window.workbenchDraw;
  const { seconds } = window.workbenchWords;
  const JUST_AFTER_S = 0.001;  // a time that was rounded down would show the frame before

  const film = (part, source) => {
    const video = Object.assign(make("video"), { src: source, controls: true, playsInline: true, preload: "metadata" });
    const line = make("div", "frame-line", make("i", "played"), make("div", "marks"));
    set(video, "aria-label", part.name);
    set(line, "role", "group");
    show(line, false);
    const box = make("div", "film", video, line);
    video.addEventListener("timeupdate", () => now(box));
    video.addEventListener("seeking", () => now(box));
    video.addEventListener("loadedmetadata", () => { if (box.shown) fill(box, box.shown); });
    line.addEventListener("click", (event) => pressed(box, event));
    line.addEventListener("keydown", (event) => {
      const mark = stepAmong(marks(box), event);
      if (mark) seek(box, mark);
    });
    return box;
  };

  const marks = (box) => [...box.querySelectorAll(".marks button")];

  const mark = () => {
    const node = button("", "", () => {});  // the line hears the click: of marks that lie close, the nearest counts
    node.tabIndex = -1;
    return node;
  };

  const fill = (box, part) => {
    box.shown = part;
    const [video, line] = box.children, times = part.frames ?? [];
    const duration_s = part.duration_s || video.duration || 0;
    show(line, times.length > 0 && duration_s > 0);
    if (line.hidden) return;
    line.dataset.duration = duration_s;
    set(line, "aria-label", t("{count} frames that the model took of {name}", { count: times.length, name: part.name }));
    keep(line.lastChild, times.map((time_s, key) => ({ key, time_s })), mark, (node, { key, time_s }) => {
      node.style.left = `${Math.min(100, (100 * time_s) / duration_s)}%`;
      node.dataset.time = time_s;
      node.title = t("Frame {number} of {count}, at {time}", { number: key + 1, count: times.length, time: seconds(time_s) });
      set(node, "aria-label", node.title);
    });
    now(box);
  };

  // The last frame at or before the time that is shown is marked; it is the one that Tab leads to.
  const now = (box) => {
    const [video, line] = box.children;
    line.firstChild.style.width = `${(100 * video.currentTime) / (Number(line.dataset.duration) || 1)}%`;
    const all = marks(box);
    const times = all.map((node) => Number(node.dataset.time));
    const at = Math.max(0, window.workbenchPlayhead.frameAt(times, video.currentTime));
    all.forEach((node, place) => {
      if (place === at) set(node, "aria-current", "true"); else node.removeAttribute("aria-current");
      node.tabIndex = place === at ? 0 : -1;
    });
  };

  const seek = (box, node) => {
    box.firstChild.currentTime = Number(node.dataset.time) + JUST_AFTER_S;
  };

  const pressed = (box, event) => {
    const all = marks(box);
    if (event.detail === 0) { seek(box, event.target); return; }  // Enter or the space bar
    const distance = (node) => { const { left, width } = node.getBoundingClientRect(); return Math.abs(event.clientX - left - width / 2); };
    seek(box, all.reduce((best, node) => (distance(node) < distance(best) ? node : best)));
  };

  window.workbenchFrames = { film, fill };
})();
