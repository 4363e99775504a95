// Draws the Requests tab from its own events (workbench/requests/live.py). Words go in as textContent, never as HTML.
(() => {
  const { t, tn, number, clock } = window.workbenchLanguage;
  const { make, say, set, show, button, keep, heading, markEdges, save } = window.workbenchDraw;
  const { questions } = window.workbenchQueue, { draw: drawOpened } = window.workbenchOpened;
  const { STAGES, WAITS, FIELDS, matches, choices, onAxis, figure, meanwhile, ms } = window.workbenchAxis;
  const { library, isDark, whenThemed, plain, config, fitted } = window.workbenchFigures;
  const SOURCES = { chat: t("Chat"), api: "API", bench: t("Benchmark"), video: t("Video"), decide: t("Decide"), compare: t("Compare"), batch: t("Batch") };
  const NAMES = { source: t("Source"), model: t("Model"), status: t("Status"), key: t("Key") };
  const COLUMNS = [t("Began"), t("From"), t("Model"), t("Status"), t("Prompt"), t("Reused"), t("Answer"), t("First token"), t("Waited"), t("Whole")];
  const STATUSES = { waiting: t("waiting"), running: t("running"), finished: t("finished"), failed: t("failed"), cancelled: t("cancelled") };
  const DRAW_MS = 200, MAX_DRAW_MS = 1000, AGAIN_MS = 2000;
  const root = () => (window.gradio_config?.root ?? "").replace(/\/$/, "");

  const from = (row) => [SOURCES[row.source] ?? row.source, row.key].filter(Boolean).join(" · ");
  const time = (row) => clock(row.created);
  const short = (row) => row.id.slice(-4);  // tells those of one second apart
  const label = (row) => `${time(row)} ${from(row)} …${short(row)}`;
  const waited = (row) => row.stages.filter((span) => WAITS.includes(span.stage)).reduce((sum, span) => sum + span.ms, 0);

  const view = (element, props, watch, trigger) => {
    const home = element.firstElementChild, queue = questions(props, watch, trigger), rows = new Map();
    const ask = (what, fields, key) => queue.ask(what, () => ({ ...fields(), visitor: window.workbenchLive.visitor }), key);
    let order = [], now = 0, source = null, pass = "", plot = null, timer = 0, cost = 0, shownWait = "", revision = 1, zoom = null, whole = false, hasHeard = !props.setup.isOn;
    const filters = Object.fromEntries(FIELDS.map((name) => [name, ""]));

    const selects = FIELDS.map((name) => {
      const input = make("select"), node = make("label", "filter", make("span", "", NAMES[name]), input);
      set(input, "aria-label", NAMES[name]);
      input.addEventListener("change", () => { filters[name] = input.value; begin(); });
      node.update = () => {
        const wanted = choices([...rows.values()], name, filters[name]);
        show(node, wanted.length > 1 || Boolean(filters[name]));
        const items = ["", ...wanted];
        if (items.join("\n") !== [...input.options].map((one) => one.value).join("\n")) {
          input.replaceChildren(...items.map((value) => new Option(value ? SOURCES[value] ?? STATUSES[value] ?? value : t("all"), value)));
        }
        input.value = filters[name];
      };
      return node;
    });
    const aligned = make("select");
    set(aligned, "aria-label", t("Axis"));
    aligned.append(new Option(t("time of day"), ""), new Option(t("from the start of each"), "1"));
    aligned.addEventListener("change", () => begin());
    const widen = button("quiet earlier", "", () => { whole = !whole; begin(); });
    const csv = button("quiet", t("Save as CSV"), async () => {
      const reply = await ask("csv", () => ({ ids: chosen().map((row) => row.id) }));
      if (reply.error) say(said, reply.error);
      else save("requests.csv", new Blob([reply.csv], { type: "text/csv" }));
    });
    const count = make("p", "count"), axis = fitted(make("div", "axis")), said = make("p", "meanwhile"), opened = make("div", "card opened"), key = make("div", "legend");
    const empty = make("p", "empty", props.setup.isOn
      ? t("No request yet. Whatever the chat and programs on /v1 ask appears here while it runs.")
      : t("This server keeps no requests (--request-log 0)."));
    const body = make("tbody"), table = make("table", "", make("thead", "", make("tr", "", ...COLUMNS.map((name) => {
      const head = make("th", "", name);
      head.scope = "col";
      return head;
    }))), body);
    const scroll = make("div", "scroll", table);
    markEdges(scroll, table);
    set(said, "aria-live", "polite");
    set(scroll, "tabindex", 0);
    set(scroll, "role", "region");
    set(scroll, "aria-label", t("Requests as a table"));
    set(axis, "role", "figure");
    for (const [name, words, light, night] of STAGES) {
      const swatch = make("i", "swatch");
      swatch.style.setProperty("--light", light);
      swatch.style.setProperty("--night", night);
      key.append(make("span", `entry ${name}`, swatch, make("span", "", words)));
    }
    const bar = make("div", "filters", ...selects, make("label", "filter", make("span", "", t("Axis")), aligned), csv, count);
    home.append(
      heading(t("Requests"), t("What the page and programs ask, as it runs. Point at a wait to see who ran meanwhile.")),
      bar, make("div", "card", axis, widen, key, said), opened, scroll, empty,
    );
    show(opened, false);

    const chosen = () => order.map((id) => rows.get(id)).filter((row) => row && matches(row, filters));

    const tellWaits = async (id, place = null) => {
      shownWait = `${id} ${place}`;
      const reply = await ask("waits", () => ({ id }), "waits");
      if (reply.stale || shownWait !== `${id} ${place}`) return;
      const waits = (reply.waits ?? []).filter((wait) => place === null || wait.place === place);
      const named = (row) => (row.id === null ? t("somebody else's") : rows.has(row.id) ? label(rows.get(row.id)) : row.id);
      const words = waits.map((wait) => meanwhile(wait, named)).join(" ");
      say(said, reply.error ?? `${rows.has(id) ? `${label(rows.get(id))}: ` : ""}${words || t("It waited for nobody.")}`);
    };

    let wanted = "";
    const close = () => {
      opened.replaceChildren();
      show(opened, false);
      body.querySelector(`[data-key="${CSS.escape(wanted)}"] .open`)?.focus();
    };
    const open = async (id) => {
      wanted = id;
      const reply = await ask("open", () => ({ id }), "open");
      if (reply.stale || wanted !== id) return;
      if (reply.error) return say(said, reply.error);
      const zip = (which) => `${root()}/workbench/requests/zip?${new URLSearchParams({ of: pass, id: which })}`;
      const title = rows.has(id) ? label(rows.get(id)) : id;
      opened.replaceChildren(drawOpened(reply, { title, zip, close, ask: (what, fields) => ask(what, () => fields) }));
      set(opened, "data-key", id);
      show(opened, true);
      opened.scrollIntoView({ block: "nearest" });
    };

    const look = () => {
      const style = getComputedStyle(document.body), of = (name) => style.getPropertyValue(name).trim();
      return { dark: isDark(), text: of("--body-text-color"), line: of("--line") || of("--border-color-primary"), card: isDark() ? "#171b22" : "#ffffff", font: style.fontFamily, narrow: home.clientWidth < 620 };
    };

    // The legend: the stages of the requests on the axis.
    const drawKey = (onIt) => {
      const used = new Set(onIt.flatMap((row) => row.stages.map((span) => span.stage)));
      for (const node of key.children) show(node, used.has(node.classList[1]));
    };

    const drawAxis = (all) => {
      const at = { now, aligned: Boolean(aligned.value), whole }, { shown, earlier } = onAxis(all, at);
      drawKey(shown);
      say(widen, whole ? t("Only the last two minutes") : tn("Show {count} earlier request", "Show {count} earlier requests", earlier));
      show(widen, earlier > 0);
      const labels = Object.fromEntries(shown.map((row) => [row.id, plain(home.clientWidth < 620 ? `${from(row)} …${short(row)}` : label(row))]));
      const { data, layout } = figure(shown, { ...at, look: look(), labels, revision, zoom, shift: -60_000 * new Date().getTimezoneOffset() });
      const began = performance.now();
      plot.react(axis, data, layout, config(plot, "requests", home.clientWidth < 620));
      cost = performance.now() - began;
      if (!axis.dataset.listens) {
        axis.dataset.listens = "yes";
        const tell = (event) => {
          const [id, place] = event.points[0].customdata;
          if (WAITS.includes(rows.get(id)?.stages[place]?.stage) && shownWait !== `${id} ${place}`) tellWaits(id, place);
        };
        axis.on("plotly_hover", tell);
        axis.on("plotly_click", tell);
        axis.on("plotly_relayout", (change) => {
          if (change["xaxis.range[0]"] !== undefined) zoom = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
          else if (change["xaxis.autorange"]) begin();
        });
      }
      set(axis, "aria-label", t("{count} requests on a time axis. The table below has the same numbers.", { count: shown.length }));
    };

    const line = () => {
      const cells = COLUMNS.map(() => make("td"));
      const node = make("tr", "", ...cells);
      const waits = button("waits", "", () => tellWaits(node.dataset.key));
      const opens = button("open", "", () => open(node.dataset.key));
      cells[8].append(waits);
      cells[0].append(opens);
      node.update = (row) => {
        const known = (value) => (value === null ? "–" : number(value));
        const status = [STATUSES[row.status] ?? row.status, row.error].filter(Boolean).join(": ");
        const texts = [`${time(row)} …${short(row)}`, from(row), row.model, status, known(row.prompt_tokens), known(row.cached_tokens), known(row.completion_tokens), row.ttft_ms === null ? "–" : ms(row.ttft_ms), "", ms(row.total_ms)];
        texts.forEach((text, place) => { if (place !== 0 && place !== 8) say(cells[place], text); });
        say(opens, texts[0]);
        set(opens, "aria-label", t("Open {request}", { request: texts[0] }));
        say(waits, ms(waited(row)));
        set(waits, "aria-label", t("Waited {time}: who ran meanwhile", { time: ms(waited(row)) }));
        node.className = row.status;
        for (const name of ["ttft_ms", "total_ms", "prompt_tokens", "cached_tokens", "completion_tokens"]) set(node, `data-${name.replaceAll("_", "-")}`, row[name] ?? "");
      };
      return node;
    };

    const drawNow = () => {
      timer = 0;
      const shown = chosen();
      for (const node of selects) node.update();
      say(count, order.length === shown.length ? tn("{count} request", "{count} requests", shown.length) : t("{count} of {all} requests", { count: shown.length, all: order.length }));
      show(empty, hasHeard && !order.length);
      for (const node of [bar, axis.parentElement, scroll]) show(node, order.length > 0);
      keep(body, shown.map((row) => ({ key: row.id, row })), line, (node, item) => node.update(item.row));
      if (plot && shown.length) drawAxis(shown);
      else {
        show(widen, false);
        drawKey([]);
      }
      show(axis, shown.length > 0);
    };
    // As often as the machine can: a drawing that takes long is made less often.
    const draw = () => { timer ||= setTimeout(drawNow, Math.min(MAX_DRAW_MS, Math.max(DRAW_MS, 3 * cost))); };

    // What a person had zoomed into is no more what they asked for.
    const begin = () => {
      zoom = null;
      revision += 1;
      draw();
    };

    const hear = (event) => {
      ({ now } = event);
      hasHeard = true;
      for (const row of event.rows) rows.set(row.id, row);
      if (event.kept) {
        order = event.kept;
        const kept = new Set(order);
        for (const id of rows.keys()) if (!kept.has(id)) rows.delete(id);
      }
      draw();
    };

    const listen = async () => {
      if (source) return;
      source = { close: () => {} };  // until the pass is there
      if (!pass) ({ pass = "" } = await ask("enter", () => ({})));
      if (!source) return;
      const mine = source = new EventSource(`${root()}/workbench/requests/live?${new URLSearchParams({ of: pass })}`);
      mine.onmessage = (message) => hear(JSON.parse(message.data));
      mine.onerror = () => {
        if (mine.readyState !== EventSource.CLOSED || source !== mine) return;
        source = null;
        pass = "";  // the server has been started anew
        setTimeout(() => { if (isShown) listen(); }, AGAIN_MS);
      };
    };
    const leave = () => { source?.close(); source = null; };

    let isShown = false;
    new IntersectionObserver(([entry]) => {
      if (entry.isIntersecting === isShown) return;
      isShown = entry.isIntersecting;
      if (!isShown) return leave();
      listen();
      library().then((loaded) => { plot = loaded; draw(); }, () => say(said, t("The time axis could not be loaded; the table is complete.")));
    }).observe(element);
    whenThemed(draw);
    drawNow();
  };

  window.workbenchRequests = { view };
})();
