// Draws the Decide tab and sends what is asked. Names, questions and answers go in as textContent, never as HTML.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, say, show, button, save, address } = window.workbenchDraw;
  const { percent } = window.workbenchWords;
  const { questions } = window.workbenchQueue;
  const FEW = 8;  // bars shown at first; a button shows all
  const MAX_LINES = 8;  // of options, before they scroll

  const KINDS = { "yes or no": t("Yes or no"), choice: t("Choice"), score: t("Score") };

  const select = (kinds) => {
    const node = make("select");
    for (const kind of kinds) node.append(new Option(KINDS[kind], kind));
    return node;
  };

  const labelled = (text, input) => {
    input.setAttribute("aria-label", text);
    return input;
  };

  // One question: its words, its type, its options, and the bars of its answer.
  const row = (kinds, value, changed, remove) => {
    const words = labelled(t("Question"), Object.assign(make("textarea"), { rows: 1, value: value.question, placeholder: t("Is there a red circle?") }));
    const kind = labelled(t("Type"), select(kinds));
    const options = labelled(t("Options, one a line"), Object.assign(make("textarea", "options"), { rows: 3, value: value.options.join("\n"), placeholder: t("One option a line") }));
    const hint = make("p", "hint");
    const drop = button("remove", "×", () => remove(node));
    drop.title = t("Remove this question");
    drop.setAttribute("aria-label", t("Remove this question"));
    const answer = make("div", "answer");
    const node = make("li", "question", make("span", "place"), make("div", "asked", words, make("div", "form", kind, options), hint), drop, answer);
    kind.value = value.type;
    const shape = () => {
      show(options, kind.value !== kinds[0]);
      say(hint, kind.value === "score" ? t("Levels, the lowest first") : "");
    };
    const grow = () => {
      words.style.height = "auto";
      words.style.height = `${words.scrollHeight + 2}px`;
      options.rows = Math.min(MAX_LINES, Math.max(2, options.value.split("\n").length));
    };
    for (const input of [words, kind, options]) input.addEventListener("input", () => { shape(); grow(); node.clear(); changed(); });
    shape();
    requestAnimationFrame(grow);
    node.fields = () => ({ question: words.value, type: kind.value, options: kind.value === kinds[0] ? [] : options.value.split("\n").map((line) => line.trim()).filter(Boolean) });
    node.clear = () => { node.answered = null; answer.replaceChildren(); };
    node.draw = (found) => {
      node.answered = found;
      answer.replaceChildren(...bars(found));
    };
    node.focus = () => words.focus();
    return node;
  };

  const bars = (found) => {
    const all = found.bars.map((item) => {
      const fill = make("span", "fill"), track = make("span", "track", fill);
      fill.style.width = `${100 * item.probability}%`;
      const node = make("li", item.best ? "bar best" : "bar", make("span", "label", item.label), track, make("span", "number", percent(item.probability)));
      node.dataset.probability = item.probability;
      return node;
    });
    const list = make("ol", "bars", ...all);
    const parts = [make("p", "said", make("strong", "", found.answer), make("span", "", t("confidence {share}", { share: percent(found.confidence) }))), list];
    if (all.length <= FEW) return parts;
    // The likeliest are shown in the order in which they stand.
    const likely = new Set([...found.bars.keys()].sort((a, b) => found.bars[b].probability - found.bars[a].probability).slice(0, FEW));
    all.forEach((node, place) => node.classList.toggle("rest", !likely.has(place)));
    const more = button("more", t("Show all {count}", { count: all.length }), () => {
      const open = list.classList.toggle("all");
      more.textContent = open ? t("Show the likeliest") : t("Show all {count}", { count: all.length });
    });
    return [...parts, more];
  };

  const view = (element, props, watch, trigger, upload) => {
    const root = element.firstElementChild, setup = props.setup, { kinds } = setup;
    const queue = questions(props, watch, trigger);
    let chosen = null, deciding = false;

    // --- what it is about
    const file = Object.assign(make("input"), { type: "file", accept: setup.suffixes.join(","), hidden: true });
    file.addEventListener("change", () => { if (file.files[0]) open(file.files[0]); file.value = ""; });
    const medium = (item) => {
      const node = item.isClip
        ? Object.assign(make("video"), { muted: true, loop: true, playsInline: true, autoplay: true })
        : Object.assign(make("img"), { alt: item.name });
      node.src = item.url ?? address(item.path);
      return node;
    };
    const shown = make("div", "shown"), text = labelled(t("Text"), Object.assign(make("textarea", "text"), { rows: 3, placeholder: t("A text to ask about, alone or beside the picture") }));
    const choose = button("drop", "", () => file.click());
    const samples = make("div", "samples", ...setup.samples.map((sample) => {
      const card = button("sample", "", () => take(sample));
      card.title = sample.name;
      card.setAttribute("aria-label", sample.name);
      card.append(medium(sample));
      return card;
    }));
    const about = make("section", "about", make("h2", "", t("Ask about")), shown, choose, samples, text, file);
    text.addEventListener("input", () => clear());

    const take = (item) => {
      if (chosen?.url) URL.revokeObjectURL(chosen.url);
      chosen = item;
      clear();
      show(shown, Boolean(item));
      show(samples, !item);
      const remove = button("remove", "×", () => take(null));
      remove.title = t("Remove");
      remove.setAttribute("aria-label", t("Remove the file"));
      const isShown = item && (item.isClip || item.isPicture !== false);
      shown.replaceChildren(...(item ? [isShown ? medium(item) : make("div", "paper", item.name), make("p", "", item.name), remove] : []));
      choose.replaceChildren(make("strong", "", item ? t("Choose another") : t("Drop a picture or a clip here, or choose one")));
    };

    const open = async (picked) => {
      failed("");
      root.classList.add("uploading");
      try {
        const isClip = picked.type.startsWith("video/"), isPicture = picked.type.startsWith("image/");
        const url = isClip || isPicture ? URL.createObjectURL(picked) : null;
        take({ path: (await upload(picked)).path, name: picked.name, isClip, isPicture, url });
      } catch (error) {
        failed(t("{name} could not be sent: {reason}", { name: picked.name, reason: error.message ?? error }));
      }
      root.classList.remove("uploading");
    };

    // --- the questions
    const list = make("ol", "list"), error = make("p", "error"), summary = make("p", "summary");
    error.setAttribute("role", "alert");
    summary.setAttribute("aria-live", "polite");
    const failed = (words) => say(error, words ?? "");
    const rows = () => [...list.children];
    const clear = () => { summary.textContent = ""; for (const node of rows()) node.clear(); };
    const number = () => rows().forEach((node, place) => say(node.firstChild, String(place + 1)));
    const add = (value = { question: "", type: kinds[0], options: [] }) => {
      const node = row(kinds, value, () => { summary.textContent = ""; failed(""); }, (gone) => { gone.remove(); if (!rows().length) add(); number(); });
      list.append(node);
      number();
      return node;
    };
    const fill = (values) => { list.replaceChildren(); values.forEach((value) => add(value)); clear(); };

    const csv = Object.assign(make("input"), { type: "file", accept: ".csv,text/csv", hidden: true });
    csv.addEventListener("change", async () => {
      const picked = csv.files[0];
      csv.value = "";
      if (!picked) return;
      const content = await picked.text(), reply = await queue.ask("import", () => ({ csv: content }));
      failed(reply.error);
      if (reply.rows) fill(reply.rows);
    });
    const export_ = async () => {
      const all = rows(), isAnswered = all.every((node) => node.answered);
      const fields = { rows: all.map((node) => node.fields()), answers: isAnswered ? all.map((node) => node.answered) : [] };
      const reply = await queue.ask("export", () => fields);
      failed(reply.error);
      if (reply.csv) save("decisions.csv", new Blob([reply.csv], { type: "text/csv" }));
    };

    const go = button("primary", t("Decide"), async () => {
      if (deciding) return trigger("click", {});
      const asked = rows();
      failed("");
      clear();
      deciding = true;
      say(go, t("Stop"));
      root.classList.add("deciding");
      say(summary, tn("Asking…", "Asking {count} questions…", asked.length));
      const reply = await queue.ask("decide", () => ({ path: chosen?.path ?? "", text: text.value, rows: asked.map((node) => node.fields()) }));
      deciding = false;
      say(go, t("Decide"));
      root.classList.remove("deciding");
      failed(reply.error);
      summary.textContent = reply.summary ?? "";
      reply.answers?.forEach((found, place) => asked[place].draw(found));
    });
    const tools = make("div", "tools",
      button("", t("Add a question"), () => add().focus()),
      button("", t("Examples"), () => fill(setup.examples)),
      button("", t("Import CSV"), () => csv.click()),
      button("", t("Export CSV"), export_));
    const asked = make("section", "questions", make("div", "head", make("h2", "", t("Questions")), tools), list, csv, make("div", "go", go, summary), error);

    root.replaceChildren(about, asked);
    take(null);
    add();

    // A file dropped on the window while this tab is shown is for this tab.
    window.workbenchDecide.takes = (files) => {
      if (!root.offsetParent || document.body.matches(".no-image, .is-described") || files.length !== 1) return false;
      open(files[0]);
      return true;
    };
  };

  window.workbenchDecide = { view, takes: () => false };
})();
