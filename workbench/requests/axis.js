// Requests -> what Plotly draws on the time axis. Does not use `document`: tests/page runs this file in Node.
(() => {
  const { t } = globalThis.workbenchLanguage;
  const { milliseconds: ms } = globalThis.workbenchWords;
  // Stage, words, colour in the light and in the dark. Waits are pale, work is strong.
  const STAGES = [
    ["model", t("waits for the model"), "#c9cfda", "#4a5262"],
    ["describe", t("another model describes its media"), "#b457a8", "#cf83c5"],
    ["fetch", t("addresses are read"), "#8fd0c7", "#2d7f76"],
    ["media", t("media are decoded"), "#41b5a6", "#41b5a6"],
    ["prepare", t("grammar and long texts"), "#a8ad4e", "#8d923f"],
    ["queue", t("waits for its turn"), "#f0c36a", "#8a6a22"],
    ["prompt", t("template, processor, cache"), "#7fa6d9", "#4d79b3"],
    ["restore", t("KV is read from disk"), "#8a8f2c", "#b0b552"],
    ["encode", t("vision or audio tower"), "#b9698f", "#d089ab"],
    ["prefill", t("prefill"), "#5b74e6", "#8198f5"],
    ["score", t("questions"), "#5b74e6", "#8198f5"],
    ["turns", t("others take their turns"), "#f6dda6", "#665022"],
    ["server", t("another server has it"), "#4f9fb0", "#63b4c6"],
    ["decode", t("decode"), "#1f9d6f", "#35b67f"],
  ];
  const WORDS = Object.fromEntries(STAGES.map(([name, words]) => [name, words]));
  const WAITS = ["queue", "turns"];
  const ROWS = 40;  // on the axis; the table has all
  const WINDOW_MS = 120_000;
  const FIELDS = ["source", "model", "status", "key"];

  const matches = (row, filters) => FIELDS.every((name) => !filters[name] || row[name] === filters[name]);

  // The values that a filter offers: those of the requests that are there, and the chosen one.
  const choices = (rows, name, chosen) => [...new Set([...rows.map((row) => row[name]), chosen].filter(Boolean))].sort();

  const isRunning = (row) => ["waiting", "running"].includes(row.status);

  // The end of the axis by the time of day, in ms: now, or that of the last request where nothing runs.
  const endOf = (rows, now) => (rows.some(isRunning) || !rows.length ? now * 1000 : Math.max(...rows.map((row) => row.created * 1000 + row.total_ms)));

  // The rows on the axis, and how many of the newest it leaves out: by the time of day those that ended before its window,
  // which would be lines without a bar. whole: those are wanted, too.
  const onAxis = (rows, { now, aligned, whole }) => {
    const newest = rows.slice(0, ROWS), from = endOf(newest, now) - WINDOW_MS;
    const isEarlier = (row) => !isRunning(row) && row.created * 1000 + row.total_ms <= from;
    const earlier = aligned ? 0 : newest.filter(isEarlier).length;
    return { shown: earlier && !whole ? newest.filter((row) => !isEarlier(row)) : newest, earlier };
  };

  // A bar for each stage of each request. aligned: all begin at 0, in seconds; else at their time of day. shift: from UTC
  // to the clock on the wall, in ms: Plotly knows no other time than UTC. outlined: a bar is never thinner than its line.
  const traces = (rows, { aligned, dark, outlined = false, shift = 0 }) => STAGES.map(([stage, words, light, night]) => {
    const colour = dark ? night : light, trace = { type: "bar", orientation: "h", name: words, y: [], x: [], base: [], customdata: [], text: [], marker: { color: colour, line: { width: outlined ? 1 : 0, color: colour } }, hovertemplate: "%{text}<extra></extra>", textposition: "none", showlegend: false, width: 0.72 };
    for (const row of rows) {
      row.stages.forEach((span, place) => {
        if (span.stage !== stage) return;
        trace.y.push(row.id);
        trace.x.push(aligned ? span.ms / 1000 : span.ms);
        trace.base.push(aligned ? span.start_ms / 1000 : row.created * 1000 + span.start_ms + shift);
        trace.customdata.push([row.id, place]);
        trace.text.push(`${words}: ${ms(span.ms)}`);
      });
    }
    return trace;
  });

  // What is seen at first: the last two minutes, or all of it where the earlier rows are wanted, too.
  const range = (rows, { now, aligned, whole = false }) => {
    if (aligned) return [0, Math.max(0.05, ...rows.map((row) => row.total_ms / 1000)) * 1.02];
    const last = endOf(rows, now), first = Math.min(...rows.map((row) => row.created * 1000), last - 1000);
    const from = whole ? first : Math.max(first, last - WINDOW_MS);
    return [from - 0.01 * (last - from), last + 0.03 * (last - from)];
  };

  // shown: of onAxis. labels: of the rows by id. look: colours of the page and whether it is dark. zoom: what a person chose
  // to see, null for what is seen at first. revision: what else they changed is kept as long as it is the same.
  const figure = (shown, { now, aligned, look, labels, revision, whole = false, zoom = null, shift = 0 }) => {
    const ids = shown.map((row) => row.id).reverse();
    const top = look.narrow ? 44 : 26;  // Plotly's buttons have their place above the rows
    const layout = {
      barmode: "overlay", uirevision: revision, height: Math.max(170, top + 56 + 22 * shown.length),
      margin: { l: look.narrow ? 116 : 170, r: 12, t: top, b: 40 }, dragmode: look.narrow ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: look.text, family: look.font, size: 12 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: look.text, activecolor: look.text },
      hoverlabel: { bgcolor: look.card, bordercolor: look.line, font: { color: look.text } },
      xaxis: { type: aligned ? "linear" : "date", range: zoom ?? range(shown, { now, aligned, whole }).map((end) => (aligned ? end : end + shift)), gridcolor: look.line, zeroline: false, tickangle: 0, nticks: look.narrow ? 3 : 0, ...(aligned ? { title: { text: t("seconds since it was accepted") } } : {}) },
      yaxis: { type: "category", categoryorder: "array", categoryarray: ids, range: [-0.6, Math.max(ids.length, 1) - 0.4], tickvals: ids, ticktext: ids.map((id) => labels[id] ?? id), fixedrange: true, automargin: true, gridcolor: "rgba(0,0,0,0)" },
    };
    return { data: traces(shown, { aligned, dark: look.dark, outlined: whole && !aligned, shift }), layout };
  };

  // "Meanwhile ran": the words for one wait, as the server tells it.
  const meanwhile = (wait, label) => {
    const rows = wait.meanwhile.map((row) => `${label(row)} (${WORDS[row.stage]}, ${ms(row.ms)})`);
    const head = `${WORDS[wait.stage][0].toUpperCase()}${WORDS[wait.stage].slice(1)}, ${ms(wait.ms)}.`;
    const words = rows.length ? t("Meanwhile ran: {rows}.", { rows: rows.join(", ") }) : t("No other request of this model ran meanwhile.");
    return `${head} ${words}`;
  };

  globalThis.workbenchAxis = { STAGES, WAITS, FIELDS, ROWS, matches, choices, onAxis, traces, range, figure, meanwhile, ms };
})();
