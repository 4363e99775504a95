// Draws the Batch tab. A run belongs to the server: how each stands comes with the page's events (conversations/live.js).
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button, sureButton, heading } = window.workbenchDraw;
  const { STATES, share, progress, offers } = window.workbenchBatchLines;
  const KEPT = "workbench-run", EXPORTS = ["csv", "jsonl", "parquet", "coco.json"];
  let tell = () => {};

  // Resolves to what the server replied, with `problem` where it refused.
  const ask = async (path, method = "GET", body = null) => {
    const isFile = body instanceof Blob;
    const options = { method, ...(body ? { body: isFile ? body : JSON.stringify(body) } : {}), ...(isFile ? { headers: { "Content-Type": "application/octet-stream" } } : {}) };
    try {
      const response = await window.workbenchLive.ask(`runs${path}`, options);
      const reply = await response.json();
      return response.ok ? reply : { problem: reply.error?.message ?? t("The server refused.") };
    } catch {
      return { problem: t("The server cannot be reached just now.") };
    }
  };

  const remembered = () => { try { return sessionStorage.getItem(KEPT); } catch { return null; } };
  const remember = (run) => { try { sessionStorage.setItem(KEPT, run); } catch { /* storage is blocked */ } };

  const view = (element, props) => {
    const root = element.firstElementChild, { setup } = props;
    let runs = [], limits = {}, shown = remembered(), seen = null, isBeginning = false, isShown = false;
    const current = () => runs.find((one) => one.id === shown);
    const here = (path, method, body) => ask(`/${shown}${path}`, method, body);
    const picture = (row) => (row.picture ? window.workbenchLive.link(`runs/${shown}/pictures/${row.picture}`) : "");

    // --- a new run
    const files = window.workbenchBatchFiles.view(ask, () => limits, () => ready());
    const form = window.workbenchBatchAsk.view(setup, ask);
    const start = button("primary", t("Start the run"), async () => {
      isBeginning = true;
      ready();
      form.fail("");
      let reply = null;
      try {
        reply = await ask(`/${await files.ready()}/begin`, "POST", { ...form.fields(), folder: files.folder() });
      } catch (error) {
        reply = { problem: error.message };
      }
      isBeginning = false;
      ready();
      form.fail(reply.problem);
      if (reply.problem) return;
      files.take(null);
      runs = [reply, ...runs.filter((one) => one.id !== reply.id)];
      choose(reply.id);
    });
    const beginning = make("p", "sent", t("The files are looked through…"));
    const ready = () => {
      start.disabled = isBeginning || !files.isReady();
      show(beginning, isBeginning);
    };
    form.node.append(make("div", "go", start, beginning));
    const making = make("div", "making", files.node, form.node);

    // --- a run
    const title = make("h2"), state = make("span", "stage"), words = make("p", "progress-words"), error = make("p", "error"), bar = make("div", "track", make("i"));
    set(words, "aria-live", "polite");
    set(error, "role", "alert");
    set(bar, "role", "progressbar");
    set(bar, "aria-label", t("Rows that are done"));
    const act = async (action) => {
      say(error, "");
      const reply = await here(`/${action}`, "POST", {});
      if (reply.problem) say(error, reply.problem);
      else hear({ runs: runs.map((one) => (one.id === reply.id ? reply : one)) });
    };
    const pause = button("", t("Pause"), () => act("pause")), stop = button("", t("Stop"), () => act("stop"));
    const resume = button("primary", t("Go on"), () => act("resume")), retry = button("", t("Ask the failed ones again"), () => act("retry"));
    const again = button("", t("Same files, another prompt"), async () => {
      const asked = await here("/form"), like = await ask("", "POST", { like: asked.folder ? "" : shown });
      if (like.problem) { say(error, like.problem); return; }
      form.fill(asked);
      files.take(asked.folder ? null : like, asked.folder);
      choose("");
    });
    const remove = sureButton("", t("Delete"), t("Delete it with its answers?"), async () => {
      const reply = await here("", "DELETE");
      if (reply.problem) { say(error, reply.problem); return; }
      runs = runs.filter((one) => one.id !== shown);
      choose("");
    });
    const links = EXPORTS.map((suffix) => {
      const link = make("a", "export", suffix.split(".")[0].toUpperCase());
      set(link, "download", `rows.${suffix}`);
      return link;
    });
    const save = make("div", "exports", make("span", "", t("Save as")), ...links);
    const table = window.workbenchBatchTable.view(setup, { ask: here, picture, open: (place) => opened.open(place) });
    const opened = window.workbenchBatchRow.view({ ask: here, picture, moved: table.moved, changed: table.refresh });
    const running = make("div", "run", make("div", "head-of-run", title, state), words, bar, error, make("div", "tools", pause, stop, resume, retry, save, again, remove), table.node, opened.node);

    // --- which one
    const select = make("select", "which"), fresh = button("", t("New run"), () => choose(""));
    set(select, "aria-label", t("Run"));
    select.addEventListener("change", () => choose(select.value));
    root.append(heading(t("Batch"), t("One prompt about many files. A run goes on while you look elsewhere, and is found again after a reload."), make("div", "tools", select, fresh)), making, running);

    const choose = (run) => {
      shown = run;
      seen = null;
      remember(run);
      say(error, "");
      draw();
      if (current()) table.begin();
    };

    const draw = () => {
      const run = current(), can = run && offers(run);
      show(making, !run);
      show(running, Boolean(run));
      show(select, runs.length > 0);
      show(fresh, Boolean(run));
      const items = [["", t("New run")], ...runs.map((one) => [one.id, `${one.name} · ${STATES[one.state].split(":")[0]}`])];
      if (JSON.stringify(items) !== select.dataset.items) {
        select.dataset.items = JSON.stringify(items);
        select.replaceChildren(...items.map(([id, name]) => new Option(name, id)));
      }
      select.value = run ? run.id : "";
      ready();
      if (!run) return;
      say(title, run.name);
      say(state, STATES[run.state]);
      state.className = `stage ${run.state}`;
      say(words, progress(run));
      if (run.error) say(error, run.error);
      const percent = Math.round(100 * share(run));
      bar.firstChild.style.width = `${percent}%`;
      set(bar, "aria-valuenow", percent);
      for (const [node, name] of [[pause, "pause"], [stop, "stop"], [resume, "resume"], [retry, "retry"], [remove, "remove"]]) show(node, can[name]);
      show(links[EXPORTS.indexOf("coco.json")], run.has_boxes !== false);  // COCO is for boxes alone
      for (const [place, suffix] of EXPORTS.entries()) set(links[place], "href", window.workbenchLive.link(`runs/${run.id}/export.${suffix}`));
      if (run.revision === seen || !isShown) return;
      if (seen !== null) table.refresh();
      seen = run.revision;
    };

    // What the server says of all runs. A page that has just been opened shows the one that goes on.
    const hear = (event) => {
      const isFirst = !runs.length && shown === null;
      ({ runs } = event);
      const going = runs.find((one) => one.state === "running");
      if (isFirst && going) choose(going.id);
      draw();
    };
    tell = hear;

    new IntersectionObserver(([entry]) => {
      if (entry.isIntersecting === isShown) return;
      isShown = entry.isIntersecting;
      if (!isShown) return;
      ask("").then((reply) => {
        if (reply.problem) return;
        limits = reply;
        files.draw();
        hear(reply);
        if (current()) table.refresh();
      });
    }).observe(element);
    files.draw();
    draw();

    // Files that are dropped on the window while this tab is shown are for this tab.
    window.workbenchBatch.takes = (given, transfer) => {
      if (!root.offsetParent) return false;
      if (current()) choose("");
      files.add(given, transfer);
      return true;
    };
  };

  window.workbenchBatch = { view, tell: (event) => tell(event), takes: () => false };
})();
