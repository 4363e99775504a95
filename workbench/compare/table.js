// The answers to a set of prompts: a row for each prompt, a cell for each column.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, say, set, button, keep } = window.workbenchDraw;
  const { LETTERS } = window.workbenchColumn, { milliseconds } = window.workbenchWords;

  const figures = (result) => [
    (result.completion_tokens ?? null) !== null && t("{count} out", { count: result.completion_tokens }),
    result.cached_tokens ? t("{count} from cache", { count: result.cached_tokens }) : "",
    result.total_ms !== undefined && milliseconds(result.total_ms),
  ].filter(Boolean).join(" · ");

  const cell = () => make("td", "", make("div", "said"), make("div", "figures"));

  const fillCell = (node, { result, label, isBetter, vote }) => {
    const [text, line] = node.children;
    node.dataset.label = label;
    text.classList.toggle("failed", Boolean(result.error));
    say(text, result.error || result.answer);
    if (!line.firstChild) line.append(make("span"), button("vote", t("Better"), () => node.vote()));
    node.vote = vote;
    say(line.firstChild, figures(result));
    set(line.lastChild, "aria-pressed", isBetter);
    line.lastChild.hidden = !result.answer;
  };

  const head = ([letter, model, settings]) => make("th", "", make("b", "", letter), ` ${model}`, make("small", "", settings));

  // names: for each column its letter, model and settings. rows: [{prompt, results, vote: a letter or ""}].
  // vote(row, column): somebody liked an answer.
  const fill = (table, names, rows, vote) => {
    if (!table.lastChild) table.append(make("thead", "", make("tr", "", make("th", "", make("b", "", t("Prompt"))), ...names.map(head))), make("tbody"));
    keep(table.lastChild, rows.map((row, key) => ({ key, row })), () => make("tr", "", make("th")), (line, { row }) => {
      const [prompt, ...cells] = line.children;
      say(prompt, row.prompt);
      row.results.forEach((result, at) => {
        const node = cells[at] ?? line.appendChild(cell());
        fillCell(node, { result, label: names[at].filter(Boolean).join(" · "), isBetter: row.vote === LETTERS[at], vote: () => vote(row, at) });
      });
    });
  };

  const progress = (done, all) => tn("{done} of {count} prompt", "{done} of {count} prompts", all, { done });

  window.workbenchCompareTable = { fill, progress };
})();
