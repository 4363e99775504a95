// The rows of a run, a page at a time: the server sorts and filters, so that thousands of rows stay as quick as ten.
(() => {
  const { t, number } = window.workbenchLanguage;
  const { make, say, set, show, button, keep } = window.workbenchDraw;
  const { FILTERS, ORDERS, span, ms } = window.workbenchBatchLines;
  const SEARCH_MS = 200;
  const COLUMNS = [["place", t("No.")], ["", t("Picture")], ["name", t("Name")], ["answer", t("Answer")], ["", t("Notes")], ["tokens", t("Tokens")], ["ms", t("Time")]];
  const STATES = { waiting: t("waiting"), failed: t("failed"), answered: "" };

  // ask(path, method, body): of the routes of the run. picture(row): the address of its picture, "" without one.
  const view = (setup, { ask, picture, open }) => {
    const state = { offset: 0, order: "place", descending: false, only: "all", words: "" };
    let rows = [], total = 0, isAsking = false, isStale = false, timer = 0;
    const problem = make("p", "error");
    set(problem, "role", "alert");

    const filters = make("div", "filters");
    set(filters, "role", "group");
    set(filters, "aria-label", t("Show"));
    for (const [name, words] of FILTERS) {
      const one = button("filter", "", () => change({ only: name }));
      one.append(make("span", "", words), make("b"));
      one.dataset.only = name;
      filters.append(one);
    }
    const search = Object.assign(make("input", "search"), { type: "search", placeholder: t("Search names and answers") });
    set(search, "aria-label", t("Search names and answers"));
    search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => change({ words: search.value.slice(0, 200) }), SEARCH_MS);
    });
    const order = make("select", "order");
    set(order, "aria-label", t("Sort by"));
    for (const [name, words] of ORDERS) order.append(new Option(words, name));
    const sortBy = (name) => change({ order: name, descending: state.order === name ? !state.descending : name === "latest" });
    order.addEventListener("change", () => sortBy(order.value));

    const heads = COLUMNS.map(([name, words]) => {
      const cell = make("th", name ? `of-${name}` : "", name ? button("sort", words, () => sortBy(name)) : words);
      cell.scope = "col";
      cell.dataset.order = name;
      return cell;
    });
    const body = make("tbody"), scroll = make("div", "scroll", make("table", "", make("thead", "", make("tr", "", ...heads)), body));
    set(scroll, "role", "region");
    set(scroll, "aria-label", t("Rows"));
    set(scroll, "tabindex", 0);
    const empty = make("p", "empty", t("No row is like that."));
    const first = button("", t("First"), () => change({ offset: 0 })), back = button("", t("Back"), () => change({ offset: Math.max(0, state.offset - setup.pageSize) }));
    const next = button("", t("Next"), () => change({ offset: state.offset + setup.pageSize })), last = button("", t("Last"), () => change({ offset: Math.floor((total - 1) / setup.pageSize) * setup.pageSize }));
    const shown = make("span", "shown-rows"), pager = make("nav", "pager", first, back, shown, next, last);
    set(pager, "aria-label", t("Pages of the table"));
    const node = make("div", "rows", make("div", "bar-of-table", filters, search, order), problem, scroll, empty, pager);

    const line = () => {
      const image = Object.assign(make("img"), { alt: "", loading: "lazy", width: 56, height: 44 }), kind = make("i", "no-picture");
      const name = button("open", "", () => open(Number(row.dataset.key)));
      const row = make("tr", "", make("td", "no"), make("td", "pic", image, kind), make("td", "name", name), make("td", "said-here", make("span"), make("em")), make("td", "notes", make("ul")), make("td", "tokens"), make("td", "ms"));
      row.addEventListener("click", (event) => { if (!event.target.closest("button") && !String(getSelection())) open(Number(row.dataset.key)); });
      row.update = (value) => {
        const [place, , , answer, notes, tokens, time] = row.children;
        row.className = value.state;
        row.dataset.prompt = value.prompt;
        row.dataset.written = value.written;
        say(place, number(value.place + 1));
        const url = picture(value);
        show(image, Boolean(url));
        show(kind, !url);
        if (url) set(image, "src", url);
        say(name, value.name);
        say(answer.firstChild, value.error || value.answer || STATES[value.state]);
        say(answer.lastChild, value.edited ? t("edited") : "");
        const marks = [...(value.valid ? [{ key: "valid", name: "valid", words: t("valid JSON") }] : []), ...value.warnings.map((words) => ({ key: words, name: "warned", words }))];
        keep(notes.firstChild, marks, (one) => make("li", one.name), (item, one) => say(item, one.words));
        say(tokens, value.prompt ? t("{prompt} + {answer}", { prompt: value.prompt, answer: value.written }) : "");
        tokens.title = value.prompt ? t("{prompt} read, {cached} of them from the cache, {written} written", { prompt: value.prompt, cached: value.cached, written: value.written }) : "";
        say(time, value.ms ? ms(value.ms) : "");
      };
      return row;
    };

    const draw = (counts) => {
      keep(body, rows.map((value) => ({ key: value.place, value })), line, (row, item) => row.update(item.value));
      for (const one of filters.children) {
        const count = counts?.[one.dataset.only] ?? 0;
        set(one, "aria-pressed", one.dataset.only === state.only);
        say(one.lastChild, number(count));
        show(one, count > 0 || ["all", state.only].includes(one.dataset.only));
      }
      for (const cell of heads) {
        const isIt = cell.dataset.order && cell.dataset.order === state.order;
        if (isIt) set(cell, "aria-sort", state.descending ? "descending" : "ascending");
        else cell.removeAttribute("aria-sort");
      }
      order.value = state.order;
      show(empty, !rows.length);
      show(scroll, rows.length > 0);
      show(pager, total > setup.pageSize);
      say(shown, span(state.offset, rows.length, total));
      for (const one of [first, back]) one.disabled = state.offset === 0;
      for (const one of [next, last]) one.disabled = state.offset + setup.pageSize >= total;
    };

    // One question at a time; what changes meanwhile is asked for once it is answered.
    const refresh = async () => {
      if (isAsking) { isStale = true; return; }
      isAsking = true;
      do {
        isStale = false;
        const reply = await ask(`/rows?${new URLSearchParams(state)}`);
        if (isStale) continue;
        say(problem, reply.problem ?? "");
        if (reply.problem) break;
        ({ rows, total, offset: state.offset } = reply);
        draw(reply.status.counts);
      } while (isStale);
      isAsking = false;
    };
    const change = (what) => {
      Object.assign(state, { offset: 0, ...what });
      refresh();
    };
    // Of another run.
    const begin = () => {
      search.value = "";
      rows = [];
      total = 0;
      body.replaceChildren();
      change({ order: "place", descending: false, only: "all", words: "" });
    };
    // The place of a neighbour on this page.
    const moved = (place, by) => rows[rows.findIndex((one) => one.place === place) + by]?.place ?? null;
    return { node, refresh, begin, moved };
  };

  window.workbenchBatchTable = { view };
})();
