// One row, opened: its picture, the whole answer to be corrected by hand, and the receipt. Text goes in as textContent.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button } = window.workbenchDraw;
  const { bars, confidence } = window.workbenchQuestions;

  // One of the decisions: its bars, and its answer as one of the options.
  const decision = (one, place, save) => {
    const best = one.answer.replace(/ \([\d.]+\)$/, ""), select = make("select");
    set(select, "aria-label", t("Answer to: {question}", { question: one.question }));
    select.append(...one.bars.map((bar) => new Option(bar.label, bar.label)));
    select.value = best;
    const model = one.model_answer ?? one.answer;
    select.addEventListener("change", () => save(model.replace(/ \([\d.]+\)$/, "") === select.value ? model : select.value, place));
    const likeliest = Math.max(...one.bars.map((bar) => bar.probability));
    const drawn = bars({ answer: one.answer, confidence: one.confidence, bars: one.bars.map((bar) => ({ ...bar, best: bar.probability === likeliest })) });
    const said = one.edited ? [make("span", "", t("edited; the model said {answer}", { answer: one.model_answer }))] : confidence(one.confidence);
    return make("li", "decided", make("h4", "", one.question), make("div", "chosen", select, ...said), ...drawn.slice(1));
  };

  // ask(path, method, body): of the routes of the run. picture(row): the address of its picture. moved(step): the place
  // of a neighbour in the table, or null.
  const view = ({ ask, picture, moved, changed }) => {
    const title = make("h3"), image = Object.assign(make("img", "large"), { alt: "" }), notes = make("ul", "marks"), facts = make("ul", "facts");
    const text = Object.assign(make("textarea", "whole"), { rows: 6 }), said = make("p", "was"), problem = make("p", "error"), decided = make("ol", "decisions");
    set(text, "aria-label", t("Answer"));
    set(problem, "role", "alert");
    let row = null;
    const save = async (answer, question = null) => {
      const reply = await ask(`/rows/${row.place}`, "PATCH", { answer, question });
      say(problem, reply.problem ?? "");
      if (reply.problem) return;
      draw(reply);
      changed();
    };
    const keep = button("primary", t("Save"), () => save(text.value));
    const back = button("", t("Back to the model's answer"), () => save(row.model_answer));
    const before = button("", t("Previous row"), () => step(-1)), after = button("", t("Next row"), () => step(1));
    const close = button("remove", "×", () => node.close());
    set(close, "aria-label", t("Close"));
    const edits = make("div", "edits", text, said, make("div", "tools", keep, back));
    const node = make("dialog", "row-dialog", make("header", "", title, close), make("div", "opened", image, make("div", "words", notes, edits, decided, facts, problem)), make("div", "steps", before, after));
    set(node, "aria-label", t("Row"));
    node.addEventListener("click", (event) => { if (event.target === node) node.close(); });
    text.addEventListener("input", () => { keep.disabled = text.value === row.whole; });

    const item = (name, words) => make("li", name, words);
    const draw = (value) => {
      row = value;
      say(title, value.name);
      const url = picture(value);
      show(image, Boolean(url));
      if (url) set(image, "src", url);
      notes.replaceChildren(...(value.error ? [item("failed", value.error)] : []), ...value.warnings.map((words) => item("warned", words)),
        ...(value.state === "waiting" ? [item("", t("This row has no answer yet."))] : []));
      const isText = value.state === "answered" && !value.decisions.length;
      show(edits, isText);
      text.value = value.whole;
      keep.disabled = true;
      show(said, value.edited && isText);
      show(back, value.edited && isText);
      say(said, value.edited ? t("Edited. The model said: {answer}", { answer: value.model_answer }) : "");
      decided.replaceChildren(...value.decisions.map((one, place) => decision(one, place, save)));
      const columns = Object.entries(value.columns).map(([name, cell]) => item("", `${name}: ${cell}`));
      facts.replaceChildren(...columns, ...value.media.flatMap((one) => [item("", one.line), item("hash", t("Hash of its content: {hash}", { hash: one.sha256.slice(0, 12) }))]), ...(value.cost ? [item("", value.cost)] : []));
      before.disabled = moved(value.place, -1) === null;
      after.disabled = moved(value.place, 1) === null;
    };

    const open = async (place) => {
      const reply = await ask(`/rows/${place}`);
      say(problem, reply.problem ?? "");
      if (!reply.problem) draw(reply);
      if (!node.open && row) node.showModal();
    };
    const step = (by) => {
      const place = moved(row.place, by);
      if (place !== null) open(place);
    };
    return { node, open };
  };

  window.workbenchBatchRow = { view };
})();
