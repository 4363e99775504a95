// The answers to a set of prompts: a row for each prompt, a cell for each column.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, say, set, button, keep } = window.workbenchDraw;
  const { LETTERS } = window.workbenchColumn;

  const figures = (result) => [
    result.completion_tokens !== undefined && t("{count} out", { count: result.completion_tokens }),
    result.cached_tokens ? t("{count} from cache", { count: result.cached_tokens }) : "",
    result.total_ms !== undefined && window.workbenchWords.durationWords(result.total_ms / 1000),
  ].filter(Boolean).join(" · ");

  const cell = () => make("td", "", make("div", "said"), make("div", "figures"));

  const fillCell = (node, { result, letter, isBetter, vote }) => {
    const [text, line] = node.children;
    node.dataset.label = letter;
    text.classList.toggle("failed", Boolean(result.error));
    say(text, result.error || result.answer);
    if (!line.firstChild) line.append(make("span"), button("vote", t("Better"), () => node.vote()));
    node.vote = vote;
    say(line.firstChild, figures(result));
    set(line.lastChild, "aria-pressed", isBetter);
    line.lastChild.hidden = !result.answer;
  };

  // rows: [{prompt, results, vote: a letter or ""}]. vote(row, column): somebody liked an answer.
  const fill = (table, rows, vote) => {
    const width = Math.max(...rows.map((row) => row.results.length));
    table.replaceChildren(make("thead", "", make("tr", "", make("th", "", t("Prompt")), ...[...LETTERS.slice(0, width)].map((letter) => make("th", "", letter)))), make("tbody"));
    update(table, rows, vote);
  };

  const update = (table, rows, vote) => {
    keep(table.lastChild, rows.map((row, key) => ({ key, row })), () => make("tr", "", make("th")), (line, { row }) => {
      const [head, ...cells] = line.children;
      say(head, row.prompt);
      row.results.forEach((result, at) => {
        const node = cells[at] ?? line.appendChild(cell());
        fillCell(node, { result, letter: LETTERS[at], isBetter: row.vote === LETTERS[at], vote: () => vote(row, at) });
      });
    });
  };

  const progress = (done, all) => tn("{done} of {count} prompt", "{done} of {count} prompts", all, { done });

  window.workbenchCompareTable = { fill, progress };
})();
