// Draws the Compare tab and sends what is asked. What comes from outside goes in as textContent, or as the trees of the
// chat (chat/rich.js), never as HTML. Settings, message and prompts are kept by the browser; files and answers are not.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button, heading, save } = window.workbenchDraw;
  const { questions } = window.workbenchQueue, { csvInput } = window.workbenchQuestions;
  const { create } = window.workbenchCompareComposer, { create: createSide, EMPTY, LETTERS } = window.workbenchColumn;
  const { fill, progress } = window.workbenchCompareTable;
  const KEY = "workbench-compare";

  let wanted = "", ask = null;  // a request of the log that is to be asked again; what does it, once the tab is drawn

  const stored = () => { try { return JSON.parse(localStorage.getItem(KEY)) ?? {}; } catch { return {}; } };
  const store = (value) => { try { localStorage.setItem(KEY, JSON.stringify(value)); } catch { /* blocked: until the next reload */ } };

  // The lines of a reply as they come, each JSON.
  const read = async (response, tell) => {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.filter(Boolean)) tell(JSON.parse(line));
    }
  };

  const view = (element, props, watch, trigger, upload) => {
    const root = element.firstElementChild, { low, high, suffixes } = props.setup, queue = questions(props, watch, trigger);
    // visitor: what is asked of may have been sent, or is kept, under the tab's own name.
    const asking = (what, fields) => queue.ask(what, () => ({ ...fields(), visitor: window.workbenchLive.visitor }));
    const kept = { text: "", prompts: "", isMarked: true, columns: [], ...stored() };
    const values = (Array.isArray(kept.columns) ? kept.columns : []).slice(0, high).map((one) => ({ ...EMPTY, ...one }));
    while (values.length < low) values.push({ ...EMPTY });
    let rows = [], name = "", running = false, wantsStop = false;
    let last = null, asked = [], names = [];  // the last run: {prompt, results, vote: a letter or ""}, its columns, and what they are called

    // --- the message
    const head = heading(t("Compare"), t("Two to four columns answer the same message at once, each with its own model, settings or picture size."));
    const about = head.querySelector("p");  // not needed any more once somebody has seen it
    const error = make("p", "error"), status = make("p", "status");
    set(error, "role", "alert");
    set(status, "aria-live", "polite");
    const failed = (words) => say(error, words ?? "");
    const composer = create(kept.text, suffixes, { upload, failed, changed: () => { root.classList.toggle("is-again", composer.isAgain()); keep(); } });
    composer.text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); if (!running) go.click(); }
    });

    // --- the columns
    const list = make("div", "sides");
    const sides = () => [...list.children];
    const keep = () => composer.isAgain() || store({ text: composer.text.value, prompts: prompts.value, isMarked: marks.checked, columns: sides().map((side) => side.value) });
    const number = () => {
      sides().forEach((side, at) => side.place(at, sides().length > low));
      more.disabled = sides().length >= high;
      list.style.setProperty("--sides", sides().length);
      keep();
    };
    const addSide = (value) => {
      const side = createSide(value, {
        changed: keep,
        opened: (isOpen) => sides().forEach((one) => one.open(isOpen)),  // all together, so that answers begin at one height
        remove: (gone) => { gone.remove(); number(); },
        stop: (of) => queue.ask("stop", () => ({ name: of.comparison, column: of.column })),
        vote: (of) => like(last, of.column),
        keep: goOn,
        pictures: async (of) => {
          const reply = await queue.ask("seen", () => ({ name: of.comparison, column: of.column }));
          if (reply.error) throw new Error(reply.error);
          return reply.media;
        },
      });
      list.append(side);
      return side;
    };
    const goOn = async (side) => {
      const reply = await asking("keep", () => ({ name: side.comparison, column: side.column }));
      failed(reply.error);
      if (!reply.conversation) return;
      window.workbenchFrame.select("chat");
      window.workbenchLive.open(reply.conversation, "switch");
    };

    const marks = Object.assign(make("input"), { type: "checkbox", checked: kept.isMarked });
    marks.addEventListener("input", () => { sides().forEach((side) => side.showMarks(marks.checked)); keep(); });
    const more = button("more", t("Add a column"), () => {
      const last = sides().at(-1);
      addSide({ ...last.value, votes: 0 }).open(last.isOpen());
      number();
    });

    // --- running
    // One message in all columns; what each of them answered. null: it could not be asked.
    const run = async (message) => {
      asked = sides();
      names = asked.map((side) => side.names());
      last = null;
      failed("");
      asked.forEach((side) => side.clear());
      show(about, false);
      const reply = await asking("start", () => ({ ...composer.asked(), text: message, columns: asked.map((side) => side.value) }));
      if (reply.error) { failed(reply.error); return null; }
      name = reply.name;
      asked.forEach((side, column) => Object.assign(side, { comparison: name, column }));
      if (wantsStop) await queue.ask("stop", () => ({ name }));
      try {
        const response = await window.workbenchLive.ask(`compare/${name}`);
        if (!response.ok) throw new Error(String(response.status));
        await read(response, (news) => {
          if (news.marked !== undefined) asked.forEach((side, at) => side.mark(news.marked?.[at] ?? null, marks.checked));
          else asked[news.column].tell(news);
        });
      } catch { /* said below, in each column that has no end */ }
      asked.forEach((side) => { side.lost(t("The connection was lost.")); side.ended(); });
      last = { prompt: message, results: asked.map((side) => side.result), vote: "" };
      return last;
    };

    const busy = (isOn) => {
      running = isOn;
      wantsStop = false;
      root.classList.toggle("running", isOn);
      set(list, "aria-busy", isOn);
      say(go, isOn ? t("Stop") : t("Compare"));
      for (const one of [more, runSet]) one.disabled = isOn;
      if (!isOn) number();
    };
    const stop = () => { wantsStop = true; if (name) queue.ask("stop", () => ({ name })); };
    const go = button("primary", t("Compare"), async () => {
      if (running) { stop(); return; }
      name = "";
      rows = [];
      table.replaceChildren();
      show(export_, false);
      busy(true);
      say(status, "");
      await run(composer.text.value);
      busy(false);
    });

    // A request of the log in two columns that ask the same; something is to be changed in one of them.
    ask = async (id) => {
      if (running) return;
      const reply = await asking("again", () => ({ id }));
      failed(reply.error);
      if (reply.error) return;
      show(about, false);
      say(status, "");
      composer.use({ id, ...reply.about });
      list.replaceChildren();
      for (let at = 0; at < low; at += 1) addSide({ ...EMPTY, ...reply.column });
      number();
      list.scrollTo({ left: 0, behavior: "instant" });  // on a phone the columns are swiped
      sides().forEach((side) => side.open(true));
    };

    // --- a set of prompts
    const prompts = Object.assign(make("textarea"), { rows: 4, value: kept.prompts, placeholder: t("One prompt a line") });
    set(prompts, "aria-label", t("Prompts"));
    prompts.addEventListener("input", keep);
    const csv = csvInput(async (content) => {
      const reply = await queue.ask("prompts", () => ({ text: content, is_csv: true }));
      failed(reply.error);
      if (reply.prompts) runAll(reply.prompts);
    });
    const table = make("table"), scroll = make("div", "results", table);
    // A second click on the same answer takes the vote back. Columns keep the order in which they were asked.
    const like = (row, at) => {
      const before = row.vote, letter = LETTERS[at];
      row.vote = before === letter ? "" : letter;
      if (before) asked[LETTERS.indexOf(before)].vote(-1);
      if (row.vote) asked[at].vote(1);
      asked.forEach((side) => side.voted(LETTERS[side.column] === last?.vote));
      keep();
      if (rows.length) fill(table, names, rows, like);
    };
    const runAll = async (wanted) => {
      if (running) return;
      rows = [];
      table.replaceChildren();
      name = "";
      busy(true);
      for (const prompt of wanted) {
        say(status, progress(rows.length, wanted.length));
        const row = await run(prompt);
        if (!row) break;
        rows.push(row);
        fill(table, names, rows, like);
        if (wantsStop) break;
      }
      say(status, progress(rows.length, wanted.length));
      show(export_, rows.length > 0);
      busy(false);
    };
    const runSet = button("", t("Run over the columns"), async () => {
      const reply = await queue.ask("prompts", () => ({ text: prompts.value }));
      failed(reply.error);
      if (reply.prompts) runAll(reply.prompts);
    });
    const export_ = button("", t("Export CSV"), async () => {
      const reply = await queue.ask("export", () => ({ rows }));
      failed(reply.error);
      if (reply.csv) save("comparison.csv", new Blob([reply.csv], { type: "text/csv" }));
    });
    show(export_, false);
    const set_ = make("details", "set", make("summary", "", t("A set of prompts")),
      make("p", "about", t("All columns answer each prompt, one prompt after the other, with the files from above. The answers come as a table.")), prompts,
      make("div", "tools", runSet, button("", t("Run a CSV"), () => { if (!running) csv.click(); }), export_, csv), scroll);
    set_.open = Boolean(kept.prompts);

    root.replaceChildren(
      head,
      make("section", "composer", ...composer.nodes, make("div", "tools", go, composer.addFiles, more,
        make("label", "check", marks, make("span", "", t("Mark differences from A"))), status), error),
      list, set_);
    values.forEach(addSide);
    number();
    if (wanted) ask(wanted);
    addEventListener("workbench-models", () => sides().forEach((side) => side.fillModels()));

    // A file dropped on the window while this tab is shown is for this tab.
    window.workbenchCompare.takes = (dropped) => {
      if (!root.offsetParent) return false;
      composer.add(dropped);
      return true;
    };
  };

  const again = (id) => {
    wanted = id;
    window.workbenchFrame.select("compare");
    ask?.(id);
  };

  window.workbenchCompare = { view, again, takes: () => false };
})();
