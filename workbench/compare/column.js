// One column of the Compare tab: its settings, its answer as the chat draws it, its numbers, and what is thought of it.
(() => {
  const { t, tn, number } = window.workbenchLanguage;
  const { make, say, set, show, button } = window.workbenchDraw;
  const { figures, milliseconds: ms } = window.workbenchWords;
  const LETTERS = "ABCD";
  const EMPTY = { model: "", temperature: "", max_tokens: "", fps: "", max_pixels: "", system: "", reuse: true, votes: 0 };
  const NUMBERS = { temperature: t("Temperature"), max_tokens: t("Max tokens"), max_pixels: t("Max pixels"), fps: t("Frames per second") };
  const choices = () => window.workbenchModels?.latest().choices ?? [];

  const labelled = (text, input) => make("label", "field", make("span", "", text), input);

  // What was set, in a line.
  const summary = (value) => [
    ...Object.entries(NUMBERS).filter(([name]) => value[name].trim()).map(([name, words]) => `${words}\u00a0${value[name].trim()}`),
    value.system.trim() && t("System prompt"),
    !value.reuse && t("without the cache"),
  ].filter(Boolean).join(" · ");

  // The numbers under an answer: those of its request on the API, in the same places in every column.
  const known = (value) => ((value ?? null) === null ? "–" : number(value));  // another server need not tell
  const FIGURES = [
    [t("Tokens in"), (one) => known(one.prompt_tokens)],
    [t("From cache"), (one) => (one.cached_tokens && one.is_here ? Object.assign(make("a", "", number(one.cached_tokens)), { href: `#strip-${encodeURIComponent(one.request)}` }) : known(one.cached_tokens))],
    [t("Tokens out"), (one) => known(one.completion_tokens)],
    [t("First token"), (one) => ms(one.ttft_ms)],
    [t("Whole"), (one) => ms(one.total_ms)],
    [t("Tokens/s"), (one) => (one.tokens_per_s ? figures(one.tokens_per_s) : "–")],
  ];
  const ENDS = { length: t("length limit reached"), cancelled: t("stopped") };

  const fillNumbers = (box, result) => {
    const isKnown = result?.ttft_ms !== undefined, [list, end] = box.children;
    list.replaceChildren(...(isKnown ? FIGURES : []).map(([name, value]) => {
      const told = make("dd");
      told.append(value(result));
      return make("div", "", make("dt", "", name), told);
    }));
    say(end, (isKnown && ENDS[result.finish_reason]) || "");
    show(box, isKnown);
  };

  // value: the column's settings, changed here. acts: {changed, opened, remove, stop, vote, keep, pictures}.
  const create = (value, acts) => {
    const letter = make("h4"), model = make("select"), remove = button("remove", "×", () => acts.remove(node));
    const stop = button("stop", t("Stop"), () => acts.stop(node));
    remove.title = t("Remove this column");
    const system = Object.assign(make("textarea"), { rows: 2, value: value.system, placeholder: t("How the model should behave. Optional.") });
    const inputs = Object.fromEntries(Object.keys(NUMBERS).map((name) =>
      [name, Object.assign(make("input"), { value: value[name], inputMode: "decimal", autocomplete: "off", placeholder: t("default") })]));
    const reuse = Object.assign(make("input"), { type: "checkbox", checked: value.reuse });
    const told = make("span", "chosen"), form = make("div", "form", ...Object.entries(inputs).map(([name, input]) => labelled(NUMBERS[name], input)),
      labelled(t("System prompt"), system), make("label", "check", reuse, make("span", "", t("Use the cache"))));
    const settings = make("details", "setup", make("summary", "", t("Settings"), told), form);
    const parts = make("div", "parts"), numbers = make("div", "numbers", make("dl"), make("p"));
    const vote = button("vote", t("Better"), () => acts.vote(node)), votes = make("span", "votes"), keep = button("keep", t("Go on in the chat"), () => acts.keep(node));
    keep.title = t("Keep this answer as a conversation and go on with it");
    vote.append(votes);
    const feet = make("div", "feet", vote, keep);
    const node = make("section", "side", make("header", "", letter, model, stop, remove), settings, parts, numbers, feet);
    settings.addEventListener("toggle", () => acts.opened(settings.open));
    let item = null, marked = null, isMarked = true;

    // What there is to choose from comes with the page's events; what was chosen stays, even where it is gone.
    const fillModels = () => {
      const names = [...new Set(["", ...choices().map((one) => one.name), value.model])], main = choices().find((one) => one.is_default)?.name;
      const words = names.map((name) => name || (main ? t("{model}, the default", { model: main }) : t("default model")));
      if (words.join("\n") === [...model.options].map((one) => one.text).join("\n")) return;
      model.replaceChildren(...names.map((name, at) => new Option(words[at], name)));
      model.value = value.model;
    };
    const read = () => {
      for (const [name, input] of Object.entries(inputs)) value[name] = input.value;
      Object.assign(value, { model: model.value, system: system.value, reuse: reuse.checked, votes: 0 });  // votes were for other settings
      say(told, summary(value));
      node.sayVotes();
      acts.changed();
    };
    for (const one of [model, system, reuse, ...Object.values(inputs)]) one.addEventListener("input", read);
    fillModels();
    say(told, summary(value));

    const drawn = () => {
      if (!item) return;
      const withMarks = isMarked && marked ? item.parts.map((part) => (part.kind === "text" ? { ...part, blocks: marked } : part)) : item.parts;
      window.workbenchMessage.fillParts(parts, { ...item, parts: withMarks }, { pictures: () => acts.pictures(node) });
      node.classList.toggle("writing", item.isLive);
      show(stop, item.isLive);
      fillNumbers(numbers, node.result);
    };
    Object.assign(node, {
      value,
      result: null,
      isOpen: () => settings.open,
      open: (isOpen) => { settings.open = isOpen; },
      names: () => [LETTERS[node.at], value.model || model.options[0].text, summary(value)],
      place: (at, canRemove) => {
        node.at = at;
        say(letter, LETTERS[at]);
        set(node, "aria-label", t("Column {letter}", { letter: LETTERS[at] }));
        set(model, "aria-label", t("Model of column {letter}", { letter: LETTERS[at] }));
        set(stop, "aria-label", t("Stop column {letter}", { letter: LETTERS[at] }));
        set(remove, "aria-label", t("Remove column {letter}", { letter: LETTERS[at] }));
        show(remove, canRemove);
      },
      sayVotes: () => {
        say(votes, value.votes ? number(value.votes) : "");
        vote.title = value.votes ? tn("{count} vote", "{count} votes", value.votes) : t("Vote for this answer");
      },
      vote: (by) => { value.votes = Math.max(0, value.votes + by); node.sayVotes(); },
      clear: () => { item = marked = node.result = null; parts.replaceChildren(); fillNumbers(numbers, null); show(stop, false); node.ended(); node.voted(false); },
      tell: (news) => { item = { parts: news.parts, isLive: !news.result }; node.result = news.result ?? null; drawn(); },
      mark: (blocks, isOn) => { marked = blocks; isMarked = isOn; drawn(); },
      showMarks: (isOn) => { isMarked = isOn; drawn(); },
      lost: (words) => { if (!node.result) node.tell({ parts: [...(item?.parts ?? []).filter((part) => part.kind !== "busy"), { kind: "error", words: [words] }], result: { state: "failed", answer: "", error: words } }); },
      ended: () => { show(feet, Boolean(node.result?.answer)); },
      voted: (isOn) => set(vote, "aria-pressed", isOn),
      fillModels,
    });
    node.sayVotes();
    node.clear();
    return node;
  };

  window.workbenchColumn = { create, EMPTY, LETTERS };
})();
