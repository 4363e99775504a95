// Draws the Benchmark tab from plain values.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button, keep, heading, drawing, markEdges, save } = window.workbenchDraw;
  const { figure, update, whenThemed } = window.workbenchFigures;

  const field = (words, input) => {
    const label = make("label", "field");
    label.append(make("span", "", words), input);
    return label;
  };

  const input = (type, value, more = {}) => Object.assign(make("input"), { type, value, ...more });

  // --- the form, the progress and the outcome of a run

  const panel = (element, props, watch, trigger) => {
    const note = make("p", "note"), body = make("div", "body"), form = make("form"), suites = make("div", "suites");
    const about = make("p", "about"), options = make("div", "options");
    const prompts = input("number", 5, { min: 1, max: 100, required: true });
    const tokens = input("number", 256, { min: 1, max: 4096, required: true });
    const quick = input("checkbox", "", { checked: true });
    const run = make("button", "primary run", t("Run"));
    suites.setAttribute("role", "radiogroup");
    suites.setAttribute("aria-label", t("What is measured"));
    const quickly = make("label", "field check");
    quickly.append(quick, make("span", "", t("Quick")));
    quickly.title = t("Fewer cases, and answers of at most 64 tokens");
    options.append(field(t("Prompts"), prompts), field(t("Tokens per answer"), tokens), quickly, run);
    form.append(suites, about, options);

    const going = make("div", "going"), words = make("p"), bar = make("div", "progress"), count = make("p", "count");
    const stop = button("quiet stop", t("Stop"), () => { stop.disabled = true; trigger("submit", { action: "stop" }); });
    bar.setAttribute("role", "progressbar");
    bar.append(make("i"));
    going.append(words, stop, bar, count);

    const end = make("form", "end"), outcome = make("p"), name = input("text", "", { maxLength: 60, required: true });
    name.setAttribute("aria-label", t("Name to keep the run under"));
    const kept = make("p", "kept"), keeping = make("div", "keeping");
    keeping.append(name, make("button", "quiet keep", t("Keep")));
    end.append(outcome, keeping, kept);
    end.addEventListener("submit", (event) => {
      event.preventDefault();
      trigger("submit", { action: "keep", name: name.value });
    });

    const noise = make("div", "noise"), facts = make("p", "machine"), roof = make("div", "roofline"), share = make("div", "share");
    share.append(make("i"));
    roof.append(make("h4", "", t("Roofline: share of the limit")), make("strong"), share, make("p"));
    const work = make("div", "work"), side = make("div", "side");
    work.append(form, going, end, noise);
    side.append(roof, facts);
    body.append(work, side);
    element.firstElementChild.replaceChildren(
      heading(t("Benchmark"), t("Measures this model on this machine while the chat goes on. Each number comes with its proof: what the model saw, cold or warm, and that a blanked picture changes the answer.")), note, body);

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      run.disabled = true;
      trigger("submit", { action: "run", suite: form.elements.suite.value, quick: quick.checked,
        prompts: prompts.valueAsNumber, max_tokens: tokens.valueAsNumber });
    });
    const describe = () => {
      const one = suites.querySelector("input:checked");
      say(about, one ? one.dataset.words : "");
    };
    suites.addEventListener("change", describe);

    drawing(element, props, watch, (value) => {
      say(note, value.note);
      show(body, value.operator);
      if (!value.operator) return;
      keep(suites, value.suites, (item) => {
        const label = make("label", "suite");
        label.append(input("radio", item.key, { name: "suite" }), make("span", "", item.name));
        return label;
      }, (label, item) => {
        const radio = label.firstChild;
        radio.disabled = Boolean(item.cannot);
        radio.dataset.words = item.words;
        label.title = item.cannot || item.words;
      });
      if (!suites.querySelector("input:checked:enabled")) {
        (suites.querySelector('input[value="image"]:enabled') ?? suites.querySelector("input:enabled"))?.click();
      }
      describe();
      show(form, !value.run);
      run.disabled = Boolean(value.note);
      show(going, Boolean(value.run));
      if (value.run) {
        const { done, total } = value.run;
        if (total === 0) stop.disabled = false;
        say(words, value.run.words);
        say(count, [total ? t("{done} of {total} answers", { done, total }) : "", value.run.now, value.run.left].filter(Boolean).join(" · "));
        bar.firstChild.style.width = `${total ? (100 * done) / total : 0}%`;
        set(bar, "aria-valuenow", done);
        set(bar, "aria-valuemax", total);
        set(bar, "aria-label", t("Answers"));
      } else {
        stop.disabled = false;
      }
      show(end, Boolean(value.end));
      if (value.end) {
        say(outcome, value.end.words);
        outcome.classList.toggle("bad", value.end.bad);
        show(keeping, value.end.keep && !value.end.kept);
        say(kept, value.end.kept ? t("Kept as “{kept}”.", { kept: value.end.kept }) : "");
        if (name.dataset.suggested !== value.end.suggested) {
          name.dataset.suggested = value.end.suggested;
          name.value = value.end.suggested;
        }
      }
      keep(noise, value.noise.map((text) => ({ key: text, text })), () => make("span", "chip"), (chip, item) => say(chip, item.text));
      say(facts, value.machine.join(" · "));
      show(roof, Boolean(value.roofline.words));
      if (value.roofline.words) {
        const [, number, track, text] = roof.children;
        say(number, value.roofline.number);
        track.firstChild.style.width = `${Math.min(100, 100 * value.roofline.share)}%`;
        say(text, value.roofline.words);
      }
    });
  };

  // --- charts

  const charts = (element, props, watch) => {
    const all = make("div", "all-charts"), empty = make("p", "empty");
    let shown = {};
    const head = heading(t("Charts"), t("Drag across a chart to look closer; a zoom stays while answers come. Hollow points and hatched bars: noisy, or still being measured. Crosses: a check failed, so the number cannot be trusted."));
    element.firstElementChild.replaceChildren(head, all, empty);
    const draw = () => keep(all, shown.charts ?? [], figure, (node, item) => update(node, item, shown.templates));
    whenThemed(draw);
    drawing(element, props, watch, (value) => {
      shown = value;
      const some = Boolean(value.charts?.length);
      show(head, some);
      say(empty, some || !value.charts ? "" : t("Nothing has been measured yet. Choose what to measure and press Run; the charts grow as answers come."));
      draw();
    });
  };

  // --- the numbers

  const VERDICTS = { better: t("better"), worse: t("worse") };
  const LAMPS = { good: t("passed"), false: t("failed"), unknown: t("not known"), "": t("not yet") };

  const table = () => {
    const node = make("div", "numbers"), scroll = make("div", "scroll"), grid = make("table"), head = make("thead"), body = make("tbody");
    head.append(make("tr"));
    grid.append(head, body);
    scroll.append(grid);
    scroll.tabIndex = 0;
    set(scroll, "role", "region");
    markEdges(scroll, grid);
    node.append(make("h4"), scroll);
    return node;
  };

  const CANARY = t("canary");
  const TERMS = {
    TTFT: t("Time to first token: from sending the question to the first text of the answer"),
    TPOT: t("Time per output token: after the first one, on average"),
    ITL: t("Inter-token latency: the gaps between two tokens"),
    E2E: t("End to end: from sending the question to the end of the answer"),
    [t("prompt tokens (cached)")]: t("Tokens of a prompt, on average over the answers; in brackets those that were reused from the cache"),
    [t("output tokens")]: t("Tokens of an answer, on average"),
    [CANARY]: t("Checks that the model really saw its picture and that cold and warm runs were what they say"),
  };
  const cells = (row, texts, tag) => keep(row, texts.map((text, place) => ({ key: place, text })), () => make(tag), (cell, item) => {
    say(cell, item.text);
    const term = tag === "th" ? TERMS[item.text] ?? TERMS[item.text.split(" ")[0]] : "";
    if (term) set(cell, "title", term);
    else cell.removeAttribute("title");  // the cell may have had another head
  });

  const line = () => {
    const row = make("tr"), details = make("tr", "told"), cell = make("td");
    details.append(cell);
    row.details = details;
    const open = button("lamp-button", "", () => {
      details.hidden = !details.hidden;
      set(open, "aria-expanded", !details.hidden);
    });
    open.append(make("i", "lamp"), make("span"));
    set(open, "aria-expanded", false);
    details.hidden = true;
    row.open = open;
    row.proof = make("td", "proof");
    row.proof.append(open, make("span", "chip noisy", t("noisy")));
    return row;
  };

  const fill = (row, item, width) => {
    row.className = item.marks.running ? "running" : "";
    keep(row, [...item.cells.map((text, place) => ({ key: place, text })), { key: "proof" }],
      (cell) => (cell.key === "proof" ? row.proof : make("td")), (cell, one) => { if (one.key !== "proof") say(cell, one.text); });
    row.open.dataset.lamp = item.marks.canary;
    say(row.open.lastChild, LAMPS[item.marks.canary]);
    set(row.open, "aria-label", t("Canary of {case}: {verdict}. Show what was checked", { case: item.cells[0], verdict: LAMPS[item.marks.canary] }));
    row.open.disabled = !item.more.length;
    show(row.proof.lastChild, item.marks.noise);
    row.details.firstChild.colSpan = width;
    keep(row.details.firstChild, item.more.map((one) => ({ ...one, key: one.words })), () => {
      const line = make("p");
      line.append(make("i", "lamp"), make("span"));
      return line;
    }, (line, check) => {
      line.dataset.lamp = check.lamp;
      say(line.lastChild, check.words);
    });
  };

  const tables = (element, props, watch) => {
    const head = heading(t("Numbers"), t("Medians, with the 95th percentile in brackets. Click a canary to read what was checked."));
    const measured = make("div", "measured"), facts = make("div", "facts"), compared = make("div", "compared");
    element.firstElementChild.replaceChildren(head, compared, measured, facts);
    drawing(element, props, watch, (value) => {
      const some = value.tables ?? [];
      show(head, some.length > 0);
      keep(measured, some, table, (node, item) => {
        const [name, scroll] = node.children, [top, body] = scroll.firstChild.children;
        say(name, some.length > 1 ? item.name : "");
        set(scroll, "aria-label", t("Numbers of {name}", { name: item.name }));
        cells(top.firstChild, [...item.heads, CANARY], "th");
        const lines = new Map([...body.children].filter((row) => row.details).map((row) => [row.dataset.key, row]));
        item.rows.forEach((one) => {
          const row = lines.get(one.key) ?? line();
          lines.delete(one.key);
          row.dataset.key = one.key;
          fill(row, one, item.heads.length + 1);
          one.nodes = [row, row.details];
        });
        const wanted = item.rows.flatMap((one) => one.nodes);
        wanted.forEach((row, place) => { if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null); });
        while (body.children.length > wanted.length) body.lastChild.remove();
      });
      keep(facts, value.facts ?? [], () => {
        const node = make("div");
        node.append(make("h4"), make("ul"));
        return node;
      }, (node, item) => {
        say(node.firstChild, some.length > 1 ? t("Results of {name}", { name: item.name }) : t("Results"));
        keep(node.lastChild, item.facts.map((one) => ({ ...one, key: one.title })), () => {
          const one = make("li");
          one.append(make("span"), make("strong"));
          return one;
        }, (one, fact) => {
          say(one.firstChild, fact.title);
          say(one.lastChild, fact.value);
        });
      });
      keep(compared, value.compared ?? [], table, (node, item) => {
        const [name, scroll] = node.children, [top, body] = scroll.firstChild.children;
        say(name, item.rows.length ? item.name : t("{name}: they have no case in common", { name: item.name }));
        show(scroll, item.rows.length > 0);
        set(scroll, "aria-label", item.name);
        cells(top.firstChild, item.heads, "th");
        keep(body, item.rows, () => make("tr"), (row, one) => {
          const all = [{ key: "case", value: one.case }, ...one.cells];
          keep(row, all, () => {
            const cell = make("td");
            cell.append(make("span"), make("small"));
            return cell;
          }, (cell, ratio) => {
            cell.className = ratio.verdict ?? "";
            say(cell.firstChild, ratio.value);
            say(cell.lastChild, [VERDICTS[ratio.verdict], ratio.interval].filter(Boolean).join(", "));
          });
        });
        if (!node.children[2]) node.append(make("p", "caution"));
        say(node.children[2], [t("Under each ratio: the range that it lies in. The differences of the whole table are judged together (Holm): the risk that any of them is chance is 5 %. Grey: no difference is shown. Differences below 5 % are not judged."), item.caution ? t("Not the same in both: {what}.", { what: item.caution }) : ""].join(" "));
        show(node.children[2], item.rows.length > 0);
      });
    });
  };

  // --- runs

  // What a run is downloaded as: how the name ends, its media type, the button and what that says.
  const FILES = [
    [".csv", "text/csv", "CSV", ""],
    [".json", "application/json", "JSON", t("Everything of this run, with a seal that shows whether it was changed: vllm-mlx-bench --compare reads it anywhere")],
    [".png", "image/png", t("Card"), t("A picture to show: model, machine, numbers, the canary's verdict, and the seal of the JSON")],
  ];

  const runs = (element, props, watch, trigger) => {
    const list = make("div", "list"), empty = make("p", "empty");
    const head = heading(t("Kept runs"), t("Tick two or more to compare them. The first one ticked is the basis."));
    element.firstElementChild.replaceChildren(head, list, empty);
    const act = (action, node, more = {}) => trigger("submit", { action, name: node.dataset.name, ...more });
    const create = () => {
      const node = make("div", "run"), label = make("label"), box = input("checkbox", "");
      const texts = make("span", "texts");
      texts.append(make("b"), make("small"));
      label.append(box, make("i", "lamp"), texts);
      box.addEventListener("change", () => act("show", node, { on: box.checked }));
      const remove = button("quiet delete", t("Delete"), () => {
        if (remove.dataset.sure) return act("delete", node);
        remove.dataset.sure = "yes";
        remove.textContent = t("Delete for good?");
        setTimeout(() => { delete remove.dataset.sure; remove.textContent = t("Delete"); }, 4000);
      });
      const actions = make("div", "actions");
      for (const [suffix, , name, words] of FILES) {
        const get = button("quiet", name, () => act("export", node, { suffix }));
        if (words) get.title = words;
        actions.append(get);
      }
      actions.append(remove);
      node.append(label, actions);
      return node;
    };
    drawing(element, props, watch, (value) => {
      const last = value.last ? [{ key: "", name: t("This run"), words: t("not saved: the next run replaces it"), on: value.on, last: true }] : [];
      const all = [...last, ...(value.runs ?? [])];
      show(head, Boolean(value.runs));
      say(empty, value.runs && !all.length ? t("None yet. A run that has ended can be kept under a name; runs that vllm-mlx-bench --save kept are here too.") : "");
      keep(list, all.map((item) => ({ ...item, key: `run ${item.key}` })), create, (node, item) => {
        const [label, actions] = node.children, [box, lamp, texts] = label.children;
        node.dataset.name = item.last ? "" : item.name;
        box.checked = item.on;
        box.disabled = Boolean(item.last);
        lamp.dataset.lamp = item.canary === true ? "good" : item.canary === false ? "false" : "";
        lamp.title = item.last ? "" : t("canary: {verdict}", { verdict: LAMPS[item.canary === null ? "unknown" : item.canary ? "good" : "false"] });
        say(texts.firstChild, item.name);
        say(texts.lastChild, item.words);
        show(actions.lastChild, !item.last);
        for (const one of actions.children) set(one, "aria-label", `${one.textContent}: ${item.name}`);
      });
    });
  };

  // A download that was requested.
  const file = (element, props, watch) => drawing(element, props, watch, (value) => {
    if (!value.name) return;
    const [, type] = FILES.find(([suffix]) => value.name.endsWith(suffix));
    const content = value.base64 ? Uint8Array.from(atob(value.base64), (letter) => letter.charCodeAt(0)) : value.text;
    save(value.name, new Blob([content], { type }));
  });

  window.workbenchBench = { panel, charts, tables, runs, file };
})();
