// The one place where Plotly draws: its script, what its buttons do and are called, and figures made in Python.
(() => {
  const { t, language } = window.workbenchLanguage;
  const { make, say, set, show } = window.workbenchDraw;
  const root = () => (window.gradio_config?.root ?? "").replace(/\/$/, "");
  const NARROW_PX = 620;

  // Loaded when a chart is first shown: it is large.
  let loading = null;
  const library = () => {
    loading ??= new Promise((settle, fail) => {
      const script = make("script");
      script.src = `${root()}/workbench/plotly.js`;
      script.onload = () => settle(window.Plotly);
      script.onerror = () => { loading = null; script.remove(); fail(new Error("plotly.js")); };
      document.head.append(script);
    });
    return loading;
  };

  const isDark = () => document.body.classList.contains("dark");
  const whenThemed = (draw) => new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ["class"] });

  // Plotly takes tags in a text for markup. raw: back again.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const raw = (text) => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");

  // What the buttons over a chart do and are called. name: of the file that it is saved as. isNarrow: there is no room for
  // those that zoom. Kept: to Plotly another function is another configuration, for which it draws all anew and forgets a zoom.
  const configs = {}, ZOOM = ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d"];
  const config = (plot, name, isNarrow) => (configs[`${name} ${isNarrow}`] ??= {
    displaylogo: false, showSendToCloud: false, responsive: true, doubleClick: "autosize", locale: language,
    locales: { [language]: { dictionary: {
      "Download plot as a PNG": t("Save as PNG"), "Zoom": t("Zoom"), "Pan": t("Move"), "Zoom in": t("Zoom in"), "Zoom out": t("Zoom out"), "Autoscale": t("Show all"),
    }, format: {} } },
    toImageButtonOptions: { format: "png", scale: 2, filename: name },
    modeBarButtonsToRemove: ["select2d", "lasso2d", "resetScale2d", ...(isNarrow ? ZOOM : [])],
    modeBarButtonsToAdd: [{ name: "svg", title: t("Save as SVG"), icon: plot.Icons.disk, click: (chart) => plot.downloadImage(chart, { format: "svg", filename: name }) }],
  });

  // Keeps a chart as wide as its box: what is first drawn while it cannot be seen has a width of Plotly's own.
  const fitted = (box) => {
    new ResizeObserver(() => {
      if (box.clientWidth && box._fullLayout && box._fullLayout.width !== box.clientWidth) window.Plotly.Plots.resize(box);
    }).observe(box);
    return box;
  };

  // A chart of Python's (workbench/bench/figures.py): its figure, and the same numbers as a table.
  const figure = () => {
    const box = make("div", "figure"), body = make("tbody"), head = make("tr"), details = make("details", "values");
    const grid = make("div", "scroll", make("table", "", make("thead", "", head), body));
    grid.tabIndex = 0;
    details.append(make("summary", "", t("As a table")), grid);
    const node = make("div", "chart", make("h4"), box, details);
    set(box, "role", "figure");
    details.addEventListener("toggle", () => tabulate(node));
    fitted(box);
    return node;
  };

  const tabulate = (node) => {
    const [, , details] = node.children, { item } = node;
    if (!details.open || !item) return;
    const table = details.querySelector("table"), isFlat = item.kind === "bars", words = item.figure.data.length > 1;
    const rows = item.figure.data.flatMap((one) => one.x.map((x, place) => [
      ...(words ? [raw(one.name)] : []), isFlat ? raw(one.y[place]) : x, isFlat ? x : one.y[place], raw(one.customdata[place][1]).trim(),
    ]));
    const shown = (value) => (typeof value === "number" ? Number(value.toPrecision(6)).toLocaleString(language, { maximumFractionDigits: 6 }) : value);
    table.tHead.rows[0].replaceChildren(...[...(words ? [t("run")] : []), ...item.heads, ""].map((text) => make("th", "", text)));
    table.tBodies[0].replaceChildren(...rows.map((row) => make("tr", "", ...row.map((cell) => make("td", "", shown(cell))))));
    for (const cell of table.tHead.rows[0].cells) cell.scope = "col";
  };

  // templates: by theme, of workbench/figures.py.
  const update = (node, item, templates) => {
    const [title, box, details] = node.children, json = JSON.stringify([item, isDark()]);
    if (node.json === json) return;
    node.json = json;
    node.item = item;
    node.className = `chart ${item.kind}`;
    say(title, item.title);
    set(box, "aria-label", item.words);
    set(details.lastChild, "aria-label", item.title);
    set(details.lastChild, "role", "region");
    tabulate(node);
    library().then((plot) => {
      if (node.item !== item || !box.isConnected) return;
      const { data, layout } = item.figure, narrow = node.clientWidth < NARROW_PX && matchMedia("(pointer: coarse)").matches;
      plot.react(box, data, { ...layout, template: templates[isDark() ? "dark" : "light"], ...(narrow ? { dragmode: false } : {}) }, config(plot, item.title, narrow));
      show(box, true);
    }, () => { details.open = true; });  // without Plotly the numbers are still there
  };

  window.workbenchFigures = { library, isDark, whenThemed, plain, config, fitted, figure, update };
})();
