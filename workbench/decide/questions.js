// The editor of typed questions, for every tab that asks such. Questions and answers go in as textContent, never as HTML.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button } = window.workbenchDraw;
  const { percent } = window.workbenchWords;
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
      say(hint, kind.value === "score" ? t("Levels, the lowest first; it counts 0, the next 1, and so on.") : "");
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

  // "confidence 86 %", which tells what that is when it is pressed, and those words.
  const confidence = (share) => {
    const meaning = make("p", "meaning", t("Computed from the bars: 0 % where all options are equally likely, 100 % where one is certain. It does not say how often the model is right."));
    const name = button("term", t("confidence {share}", { share: percent(share) }), () => {
      show(meaning, meaning.hidden);
      set(name, "aria-expanded", !meaning.hidden);
    });
    name.title = meaning.textContent;
    set(name, "aria-expanded", false);
    show(meaning, false);
    return [name, meaning];
  };

  // The answer with its confidence; then a bar for each option.
  const bars = (found) => {
    const all = found.bars.map((item) => {
      const fill = make("span", "fill"), track = make("span", "track", fill);
      fill.style.width = `${100 * item.probability}%`;
      const node = make("li", item.best ? "bar best" : "bar", make("span", "label", item.label), track, make("span", "number", percent(item.probability)));
      node.dataset.probability = item.probability;
      return node;
    });
    const list = make("ol", "bars", ...all);
    const parts = [make("div", "said", make("strong", "", found.answer), ...confidence(found.confidence)), make("p", "of", t("Probability of each option")), list];
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

  // A list of questions. changed: called when somebody writes. fields(): of all of them.
  const questionList = (kinds, changed) => {
    const node = make("ol", "list"), rows = () => [...node.children];
    const number = () => rows().forEach((one, place) => say(one.firstChild, String(place + 1)));
    const add = (value = { question: "", type: kinds[0], options: [] }) => {
      const one = row(kinds, value, changed, (gone) => { gone.remove(); if (!rows().length) add(); number(); });
      node.append(one);
      number();
      return one;
    };
    const fill = (values) => { node.replaceChildren(); values.forEach((value) => add(value)); };
    return { node, rows, add, fill, fields: () => rows().map((one) => one.fields()) };
  };

  // A hidden input for a CSV. take: gets its text; a click() on the input opens it.
  const csvInput = (take) => {
    const input = Object.assign(make("input"), { type: "file", accept: ".csv,text/csv", hidden: true });
    input.addEventListener("change", async () => {
      const [picked] = input.files;
      input.value = "";
      if (picked) await take(await picked.text());
    });
    return input;
  };

  window.workbenchQuestions = { labelled, bars, confidence, questionList, csvInput };
})();
