// One column of the Compare tab: its settings, its answer as the chat draws it, and what is thought of it.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, say, set, show, button } = window.workbenchDraw;
  const LETTERS = "ABCD";
  const EMPTY = { model: "", temperature: "", max_tokens: "", fps: "", max_pixels: "", system: "", reuse: true, votes: 0 };
  const NUMBERS = { temperature: t("Temperature"), max_tokens: t("Max tokens"), max_pixels: t("Max pixels"), fps: t("Frames per second") };
  const choices = () => window.workbenchModels?.latest().choices ?? [];

  const labelled = (text, input) => make("label", "field", make("span", "", text), input);

  // What was set, in a line.
  const summary = (value) => [
    value.model || t("default model"),
    ...Object.entries(NUMBERS).filter(([name]) => value[name].trim()).map(([name, words]) => `${words} ${value[name].trim()}`),
    value.system.trim() && t("System prompt"),
    !value.reuse && t("without the cache"),
  ].filter(Boolean).join(" · ");

  // value: the column's settings, changed here. acts: {changed, remove, vote, keep, pictures}.
  const create = (value, acts) => {
    const title = make("h3"), votes = make("span", "votes"), remove = button("remove", "×", () => acts.remove(node));
    remove.title = t("Remove this column");
    set(remove, "aria-label", t("Remove this column"));
    const model = make("select"), reuse = Object.assign(make("input"), { type: "checkbox", checked: value.reuse });
    const system = Object.assign(make("textarea"), { rows: 2, value: value.system, placeholder: t("How the model should behave. Optional.") });
    const inputs = Object.fromEntries(Object.keys(NUMBERS).map((name) =>
      [name, Object.assign(make("input"), { value: value[name], inputMode: "decimal", autocomplete: "off", placeholder: t("as the model says") })]));
    const told = make("summary");
    const form = make("div", "form", labelled(t("Model"), model), ...Object.entries(inputs).map(([name, input]) => labelled(NUMBERS[name], input)),
      labelled(t("System prompt"), system), make("label", "check", reuse, make("span", "", t("Use the cache"))));
    const settings = make("details", "setup", told, form);
    const parts = make("div", "parts"), vote = button("vote", t("Better"), () => acts.vote(node)), keep = button("keep", t("Go on in the chat"), () => acts.keep(node));
    keep.title = t("Keep this answer as a conversation and go on with it");
    const feet = make("div", "feet", vote, keep);
    const node = make("section", "side", make("header", "", title, votes, remove), settings, parts, feet);
    let item = null, marked = null, isMarked = true;

    // What there is to choose from comes with the page's events; what was chosen stays, even where it is gone.
    const fillModels = () => {
      const names = [...new Set(["", ...choices().map((one) => one.name), value.model])];
      if (names.join("\n") === [...model.options].map((one) => one.value).join("\n")) return;
      model.replaceChildren(...names.map((name) => new Option(name || t("default model"), name)));
      model.value = value.model;
    };
    const read = () => {
      for (const [name, input] of Object.entries(inputs)) value[name] = input.value;
      Object.assign(value, { model: model.value, system: system.value, reuse: reuse.checked, votes: 0 });  // votes were for other settings
      say(told, summary(value));
      node.sayVotes();
      acts.changed();
    };
    for (const one of ["pointerdown", "focus"]) model.addEventListener(one, fillModels);
    for (const one of [model, system, reuse, ...Object.values(inputs)]) one.addEventListener("input", read);
    fillModels();
    say(told, summary(value));

    const drawn = () => {
      if (!item) return;
      const withMarks = isMarked && marked ? item.parts.map((part) => (part.kind === "text" ? { ...part, blocks: marked } : part)) : item.parts;
      window.workbenchMessage.fillParts(parts, { ...item, parts: withMarks }, { pictures: () => acts.pictures(node), send: () => {} });
    };
    Object.assign(node, {
      value,
      result: null,
      place: (at, canRemove) => {
        node.at = at;
        say(title, LETTERS[at]);
        set(node, "aria-label", t("Column {letter}", { letter: LETTERS[at] }));
        show(remove, canRemove);
      },
      sayVotes: () => say(votes, value.votes ? tn("{count} vote", "{count} votes", value.votes) : ""),
      vote: (by) => { value.votes = Math.max(0, value.votes + by); node.sayVotes(); },
      clear: () => { item = marked = node.result = null; parts.replaceChildren(); node.ended(); node.voted(false); },
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
