// Draws the Video tab, and sends its questions. Names and answers go in as textContent, never as HTML.
(() => {
  const { number, t, tn } = window.workbenchLanguage;
  const { make, set, button, address } = window.workbenchDraw;
  const { seconds } = window.workbenchWords;
  const { questions } = window.workbenchQueue;
  const { frameAt, isMovingPng } = window.workbenchPlayhead;
  const { range } = window.workbenchRange;
  const { pairWords, strongest, conclusion } = window.workbenchWeights;
  const { player } = window.workbenchPlayer;
  const PAUSE_MS = 350, REST_MS = 900;
  const COUNTS = [4, 8, 16, 32, 64];
  const PIXELS = [25_000, 50_000, 100_000, 250_000, 1_000_000, 4_000_000, 16_000_000];
  const budgets = () => [["", t("the model's own")], ...PIXELS.map((count) => [count, number(count)])];

  const field = (label, hint, options) => {
    const input = make(options ? "select" : "input");
    if (options) for (const [value, text] of options) input.append(new Option(text, value));
    else Object.assign(input, { type: "text", inputMode: "decimal", autocomplete: "off", placeholder: hint });
    return { input, node: make("label", "", make("span", "", label), input) };
  };

  // The settings of one side, its contact sheet and its answer.
  const panel = (title, shared, changed) => {
    const { clip } = shared;  // kept: a question may be sent after another clip was chosen
    const fields = {
      fps: field(t("Frames per second"), "2"), max_frames: field(t("Max frames"), "64"), start_s: field(t("From, s"), t("start")),
      end_s: field(t("To, s"), t("end")), max_pixels: field(t("Pixels, all frames"), "", budgets()),
    };
    const fold = Object.assign(make("input"), { type: "checkbox" });
    const settings = make("div", "settings", ...Object.values(fields).map((item) => item.node),
      make("label", "check", fold, make("span", "", t("Skip repeated frames"))));
    const name = make("h3", "side", title), error = make("p", "error"), numbers = make("div", "numbers"), track = make("div", "track");
    const rate = make("p", "quiet rate"), gaps = make("p", "quiet"), head = make("span", "head"), sheet = make("ol", "sheet"), answer = make("div", "answer");
    const verdict = make("p", "verdict");
    set(verdict, "role", "status");
    const edited = () => { answer.replaceChildren(); verdict.textContent = ""; refreshSoon(); };
    const ends = range(fields.start_s.input, fields.end_s.input, title, () => edited());
    const node = make("section", "panel", name, settings, error, numbers, make("div", "timeline", track, head, ends.node), rate, gaps, verdict, sheet);
    node.classList.add("bare");
    let data = null, turn = 0, timer = 0;
    let taken = [], shown = null;  // the times of the frames, and the place of the one that stands out

    const values = () => ({
      path: clip.path, question: shared.question(), fold: fold.checked, model: window.workbenchSwitch.name(),
      ...Object.fromEntries(Object.entries(fields).map(([key, item]) => [key, item.input.value])),
    });
    const frames = () => ({ ...values(), indices: data?.indices ?? null });

    const refresh = async () => {
      const thisTurn = ++turn;
      node.classList.add("busy");
      const reply = await shared.ask("sheet", values, `sheet ${title}`);
      if (thisTurn !== turn || reply.stale || shared.clip !== clip) return;
      node.classList.remove("busy");
      error.textContent = reply.error ?? "";
      node.classList.toggle("old", Boolean(reply.error));
      shared.checked();
      if (reply.error) return;
      node.classList.remove("bare");
      data = reply;
      draw();
      changed(data);
    };
    const refreshSoon = () => { clearTimeout(timer); timer = setTimeout(refresh, PAUSE_MS); };
    for (const item of Object.values(fields)) item.input.addEventListener("input", edited);
    fold.addEventListener("change", edited);

    const draw = () => {
      numbers.replaceChildren(...data.numbers.map((item) =>
        make("div", "number", make("h4", "", item.name), make("strong", "", item.number), make("p", "", item.words))));
      rate.textContent = data.rate;
      gaps.textContent = data.gaps;
      fields.fps.input.placeholder = rateTaken();
      [taken, shown] = [data.frames.map((frame) => frame.time), null];
      verdict.textContent = "";
      drawTrack();
      sheet.replaceChildren(...pairs(data.frames).map(pair));
    };
    // The rate as it is taken: the limit of frames may lower it.
    const rateTaken = () => {
      const length = data.frames.at(-1).time - data.frames[0].time;
      return length > 0 ? String(Number(((data.frames.length - 1) / length).toPrecision(2))) : "2";
    };
    const pairs = (all) => all.flatMap((_, place) => (place % 2 ? [] : [all.slice(place, place + 2)]));

    const pair = (frames) => {
      const pictures = frames.map((frame) => {
        const image = Object.assign(make("img"), { src: frame.url, alt: t("Frame {index}, at {time}", { index: frame.index, time: seconds(frame.time) }) });
        const words = make("figcaption", "", make("b", "", seconds(frame.time)), ` ${tn("{count} token", "{count} tokens", data.frame_tokens)}`);
        if (frame.same) words.append(make("i", "", t("nothing new")));
        const look = button("frame", "", () => shared.seek(frame.time));
        look.append(image);
        look.title = t("Show the clip at {time}", { time: seconds(frame.time) });
        const figure = make("figure", frame.same ? "same" : "", look, words);
        Object.assign(figure.dataset, { index: frame.index, time: frame.time });
        return figure;
      });
      const box = make("li", "pair", make("div", "two", ...pictures), make("div", "weight", make("span"), make("em")));
      box.addEventListener("pointerenter", () => track.querySelectorAll("i").forEach((tick) =>
        tick.classList.toggle("lit", frames.some((frame) => String(frame.index) === tick.dataset.index))));
      box.addEventListener("pointerleave", () => track.querySelectorAll(".lit").forEach((tick) => tick.classList.remove("lit")));
      return box;
    };

    const wholeOf = () => Math.max(data.duration, data.frames.at(-1).time, 0.001);
    // The playhead is there: the frame that the model has at this time stands out.
    const at = (time) => {
      if (!data) return;
      head.style.left = `${(100 * Math.min(time, wholeOf())) / wholeOf()}%`;
      const place = frameAt(taken, time);
      if (place === shown) return;  // most calls: the browser shows several pictures for each frame that is taken
      shown = place;
      const now = data.frames[place];
      for (const one of [...sheet.querySelectorAll("figure"), ...track.querySelectorAll("i")]) {
        one.classList.toggle("now", Boolean(now) && one.dataset.index === String(now.index));
      }
    };

    const drawTrack = () => {
      const whole = wholeOf();
      const at = (time) => `${(100 * Math.min(time, whole)) / whole}%`;
      const first = data.frames[0].time, last = data.frames.at(-1).time;
      const window = make("span", "window");
      window.style.left = at(first);
      window.style.width = `${(100 * (last - first)) / whole}%`;
      const still = data.still.map(([from, to]) => {
        const stretch = make("span", "still");
        stretch.style.left = at(from);
        stretch.style.width = `${(100 * (to - from)) / whole}%`;
        stretch.title = t("{from} to {to}: nothing new", { from: seconds(from), to: seconds(to) });
        return stretch;
      });
      const ticks = data.frames.map((frame) => {
        const tick = make("i", frame.same ? "same" : "");
        tick.style.left = at(frame.time);
        tick.title = seconds(frame.time);
        tick.dataset.index = frame.index;
        tick.addEventListener("click", () => {
          shared.seek(frame.time);
          sheet.querySelector(`[data-index="${frame.index}"]`)?.scrollIntoView({ block: "nearest", behavior: "smooth" });
        });
        return tick;
      });
      track.replaceChildren(window, ...still, ...ticks, make("small", "start", whole < 60 ? "0 s" : "0:00"), make("small", "end", seconds(whole)));
      ends.show(whole);
    };

    const showAnswer = async () => {
      const head = make("h3", "side", `${title}: ${tn("{count} frame", "{count} frames", data?.frames.length ?? 0)}`);
      answer.replaceChildren(head, make("p", "waiting", t("Answering…")));
      answer.scrollIntoView({ block: "nearest", behavior: "smooth" });
      const reply = await shared.ask("answer", frames);
      answer.replaceChildren(head, ...(reply.error ? [make("p", "error", reply.error)] : [make("p", "text", reply.text), make("p", "quiet", reply.note)]));
    };

    const weigh = async (progress) => {
      verdict.textContent = "";
      const base = await shared.ask("answer", () => ({ ...frames(), weigh: true }));
      if (base.error) return progress.end(base.error);
      const weighed = data;  // another sheet has other frames, of which these numbers say nothing
      if (!base.rest.length) return progress.end(t("There is only one pair of frames: nothing can be left out."));
      answer.replaceChildren(make("p", "text", base.text));
      const drops = [];
      for (const [place, rest] of base.rest.entries()) {
        if (!progress.step(place, base.rest.length)) return progress.end(t("Stopped after {done} of {count} pairs.", { done: place, count: base.rest.length }));
        const reply = await shared.ask("without", () => ({ ...frames(), rest, ids: base.ids, seen: base.seen }));
        if (reply.error) return progress.end(reply.error);
        if (data !== weighed) return progress.end("");
        drops.push(base.logprob - reply.logprob);
        weights(drops);
      }
      progress.end(t("Each bar: how much less likely this answer gets when that pair of frames is left out (its log-probability, the answer held fixed)."));
      conclude(drops);
    };
    const conclude = (drops) => {
      const all = data.frames.map(({ time }, place) => ({ number: place + 1, time }));
      verdict.textContent = conclusion(pairs(all), drops);
      sheet.children[strongest(drops)]?.classList.add("most");
      verdict.scrollIntoView({ block: "nearest", behavior: "smooth" });
    };
    const weights = (drops) => {
      const maxDrop = Math.max(0.1, ...drops.map(Math.abs));
      [...sheet.children].forEach((box, place) => {
        if (place >= drops.length) return;
        const drop = drops[place], [bar, words] = box.querySelector(".weight").children;
        box.classList.add("weighed");
        box.dataset.drop = drop.toFixed(4);
        bar.style.width = `${Math.max(2, (100 * Math.abs(drop)) / maxDrop)}%`;
        bar.className = drop > 0 ? "" : "against";
        words.textContent = pairWords(drop);
      });
    };
    return { isWrong: () => node.classList.contains("old"), node, at, edited, refresh, refreshSoon, values, frames, showAnswer, weigh, answer, fields, data: () => data };
  };

  const view = (element, props, watch, trigger, upload) => {
    const root = element.firstElementChild, setup = props.setup;
    const queue = questions(props, watch, trigger);
    const suffixes = setup.suffixes;
    const isClip = async (file) => {
      if (file.type.startsWith("video/") || suffixes.some((end) => file.name.toLowerCase().endsWith(end))) return true;
      return file.name.toLowerCase().endsWith(".png") && isMovingPng(new Uint8Array(await file.arrayBuffer()));
    };
    let sides = [], stopped = false, weighing = null, tradeKey = "";

    const question = Object.assign(make("input", "question"), { type: "text", value: setup.question, placeholder: setup.question });
    question.setAttribute("aria-label", t("Question"));
    const film = player((time) => { for (const side of sides) side.at(time); });
    const shared = { clip: null, question: () => question.value, ask: queue.ask, checked: () => check(), seek: (time) => film.seek(time) };

    // --- nothing chosen yet
    const file = Object.assign(make("input"), { type: "file", accept: ["video/*", ...suffixes, ".png"].join(","), hidden: true });
    file.addEventListener("change", () => { if (file.files[0]) open(file.files[0]); file.value = ""; });
    const failed = make("p", "error");
    const samples = make("div", "samples", ...setup.samples.map((sample) => {
      const preview = Object.assign(make("video"), { src: address(sample.path), muted: true, loop: true, playsInline: true, preload: "auto" });
      const card = button("sample", "", () => show({ path: sample.path, name: sample.name }));
      card.append(preview, make("span", "", sample.name));
      card.addEventListener("pointerenter", () => preview.play().catch(() => {}));
      card.addEventListener("pointerleave", () => preview.pause());
      return card;
    }));
    const empty = make("div", "empty", make("h2", "", t("See what the model sees of a clip")),
      make("p", "", t("A model never watches a clip: it gets a few still frames, often small ones. Here are exactly those frames, before anything is asked.")),
      button("drop", t("Drop a clip here, or choose one"), () => file.click()), failed,
      make("p", "quiet", setup.samples.length ? t("Or try one of these:") : ""), samples);

    // --- a clip
    const clipName = make("h2"), sidesNode = make("div", "sides"), progress = make("p", "quiet progress");
    const compare = button("", t("Compare two settings"), () => (sides.length > 1 ? showOne() : showTwo()));
    const askChat = button("primary", t("Ask about it"), () => trigger("click", { fields: sides[0].frames() }));
    const both = button("", t("Answer both"), async () => { for (const side of sides) await side.showAnswer(); });
    const weigh = button("", t("Which frame mattered?"), () => (weighing ? stop() : start()));
    const trade = make("div", "trade"), tradeHead = make("div", "trade-head");
    tradeHead.append(make("h3", "", t("More frames, or sharper ones")), make("p", "quiet"));
    const top = make("div", "top", clipName, compare, button("", t("Another clip"), () => reset()));
    const bar = make("form", "bar", question, askChat, weigh, both);
    bar.addEventListener("submit", (event) => { event.preventDefault(); askChat.click(); });
    const answers = make("div", "answers");
    const work = make("div", "work", top, film.node, sidesNode, bar, progress, answers, tradeHead, trade);
    // Nothing is asked with a setting that is refused.
    const check = () => {
      askChat.disabled = weigh.disabled = sides[0].isWrong();
      both.disabled = sides.some((side) => side.isWrong());
    };
    question.addEventListener("input", () => sides.forEach((side) => side.refreshSoon()));
    addEventListener("workbench-switched", () => sides.forEach((side) => side.edited()));

    const stop = () => { stopped = true; weigh.textContent = t("Stopping…"); };
    const leave = () => { weighing = null; weigh.textContent = sides.length > 1 ? t("Which frame of A mattered?") : t("Which frame mattered?"); };
    const start = async () => {
      const side = sides[0];
      [weighing, stopped] = [side, false];
      weigh.textContent = t("Stop");
      progress.textContent = t("Answering with all frames…");
      await side.weigh({
        step: (place, count) => {
          if (weighing !== side) return false;
          progress.textContent = t("Leaving out pair {number} of {count}…", { number: place + 1, count });
          return !stopped;
        },
        end: (words) => { if (weighing === side) progress.textContent = words; },
      });
      if (weighing === side) leave();
    };

    const showOne = () => layout(sides.slice(0, 1));
    const showTwo = () => {
      const other = panel("B", shared, () => {});
      for (const [key, value] of Object.entries(sides[0].fields)) other.fields[key].input.value = value.input.value;
      const count = sides[0].data()?.frames.length ?? 8;
      other.fields.fps.input.value = "";
      other.fields.max_frames.input.value = String(Math.max(2, Math.floor(count / 4) * 2));
      layout([sides[0], other]);
      other.refresh();
    };
    const layout = (panels) => {
      sides = panels;
      root.classList.toggle("comparing", sides.length > 1);
      compare.textContent = sides.length > 1 ? t("One setting") : t("Compare two settings");
      both.hidden = sides.length < 2;
      sidesNode.replaceChildren(...sides.map((side) => side.node));
      answers.replaceChildren(...sides.map((side) => side.answer));
      check();
      leave();
    };
    const show = (clip) => {
      shared.clip = clip;
      clipName.textContent = clip.name;
      progress.textContent = "";
      leave();
      tradeKey = "";
      trade.replaceChildren();
      tradeHead.hidden = true;
      layout([panel("A", shared, (data) => { film.show(data.frames, data.duration); trades(); })]);
      root.replaceChildren(work, file);
      film.load(clip);
      sides[0].refresh();
    };
    const reset = (why = "") => {
      leave();
      film.stop();
      failed.textContent = why;
      root.replaceChildren(empty, file);
    };
    const open = async (chosen) => {
      failed.textContent = "";
      if (!(await isClip(chosen))) return reset(t("{name} is not a clip.", { name: chosen.name }));
      root.classList.add("uploading");
      try {
        show({ path: (await upload(chosen)).path, name: chosen.name });
      } catch (error) {
        reset(t("{name} could not be sent: {reason}", { name: chosen.name, reason: error.message ?? error }));
      }
      root.classList.remove("uploading");
    };

    // The middle frame of the clip for several numbers of frames under one budget: the more frames, the smaller each.
    const trades = async () => {
      const { path, model, start_s, end_s, max_pixels } = sides[0].values(), key = JSON.stringify([path, model, start_s, end_s, max_pixels]);
      if (key === tradeKey) return mark();
      tradeKey = key;
      const cards = [];
      await new Promise((rest) => setTimeout(rest, REST_MS));
      for (const count of COUNTS) {
        if (tradeKey !== key) break;
        if (!root.offsetParent) {  // another tab is shown: the rest is asked for at the next change
          tradeKey = "";
          break;
        }
        const reply = await queue.ask("trade", () => ({ ...sides[0].values(), indices: null, fps: "", max_frames: "", count }));
        if (tradeKey !== key || reply.error) break;
        if (cards.some((card) => Number(card.dataset.frames) === reply.frames)) break;
        const image = Object.assign(make("img"), { src: reply.url, alt: t("One of {count} frames", { count: reply.frames }) });
        const card = button("option", "", () => {
          const { fps, max_frames, start_s, end_s } = sides[0].fields, whole = sides[0].data().duration;
          const stretch = (Number(end_s.input.value) || whole) - (Number(start_s.input.value) || 0);
          fps.input.value = String(Math.ceil((100 * reply.frames) / Math.max(stretch, 0.01)) / 100);
          max_frames.input.value = String(reply.frames);
          sides[0].refresh();
        });
        card.append(image, make("strong", "", tn("{count} frame", "{count} frames", reply.frames)), make("span", "", reply.seen[0] ? t("{width} × {height} each", { width: String(reply.seen[0]), height: String(reply.seen[1]) }) : ""),
          make("span", "", reply.fits ? tn("{count} token", "{count} tokens", reply.tokens) : tn("{count} token, too many", "{count} tokens, too many", reply.tokens)));
        card.dataset.frames = reply.frames;
        card.dataset.width = reply.seen[0];
        cards.push(card);
        trade.replaceChildren(...cards);
        tradeHead.hidden = false;
        mark();
      }
    };
    const mark = () => {
      const widths = new Set([...trade.children].map((card) => card.dataset.width));
      tradeHead.lastChild.textContent = widths.size > 1
        ? t("All frames share one budget of pixels: the more frames, the smaller each. Each card shows the same moment.")
        : t("This model gives each frame its own size, so more frames cost more tokens. With “Pixels, all frames” set, more frames become smaller ones instead.");
      const count = sides[0].data()?.frames.length;
      for (const card of trade.children) card.setAttribute("aria-pressed", String(Number(card.dataset.frames) === count));
    };

    root.replaceChildren(empty, file);
    // A file dropped on the window while this tab is shown is for this tab.
    window.workbenchVideo.takes = (files) => {
      if (!root.offsetParent || files.length !== 1) return false;
      open(files[0]);
      return true;
    };
  };

  window.workbenchVideo = { view, takes: () => false };
})();
