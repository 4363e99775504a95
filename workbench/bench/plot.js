// Charts as SVG: lines, times and bars, y from zero. A chart is updated in place, so that its zoom is kept.
// Drag across it to zoom; double click or Esc resets; + - and the arrow keys zoom and move too.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button, keep } = window.workbenchDraw;
  const { figures, clock } = window.workbenchWords;
  const { HEIGHT, LEFT, RIGHT, TOP, BOTTOM, unitOf, range, extent, scales, xMarks, describe } = window.workbenchScales;
  const NS = "http://www.w3.org/2000/svg";
  const ROW = 40, BAR = 12;  // of a chart of bars: a case's words, then a bar for each series
  const NAMES = { noisy: t("noisy: its rounds differ by more than 15 %, or others asked meanwhile"),
                  false: t("a check failed: this number cannot be trusted"), running: t("still being measured") };

  const shape = (tag, name = "") => {
    const node = document.createElementNS(NS, tag);
    if (name) node.setAttribute("class", name);
    return node;
  };
  const place = (node, values) => { for (const [name, value] of Object.entries(values)) set(node, name, value); };

  // --- one chart

  const chart = (item) => {
    const node = make("div", `chart ${item.kind}`), head = make("div", "head"), frame = make("div", "frame");
    const svg = shape("svg"), tip = make("div", "tip"), legend = make("div", "legend");
    const whole = button("quiet whole", t("Show all"), () => zoom(node, null));
    head.append(make("h4"), make("span", "unit"), whole);
    for (const name of ["bands", "grid", "marks", "lines", "dots", "choice"]) svg.append(shape("g", name));
    frame.append(svg, tip);
    node.append(head, frame, legend);
    frame.tabIndex = 0;
    node.plot = { zoom: null, item, width: 0 };
    listen(node, frame);
    new ResizeObserver(() => {
      const width = Math.round(frame.clientWidth);
      if (width && width !== node.plot.width) {
        node.plot.width = width;
        draw(node);
      }
    }).observe(frame);
    return node;
  };

  const update = (node, item) => {
    const json = JSON.stringify(item);
    if (node.plot.json === json) return;
    node.plot.json = json;
    node.plot.item = item;
    draw(node);
  };

  const zoom = (node, range) => {
    node.plot.zoom = range;
    draw(node);
  };

  const draw = (node) => {
    const { item, width } = node.plot, [head, frame, legend] = node.children, [name, unit, whole] = head.children;
    say(name, item.title);
    show(whole, Boolean(node.plot.zoom));
    if (!width) return;
    const svg = frame.firstChild;
    const layers = Object.fromEntries([...svg.children].map((layer) => [layer.getAttribute("class"), layer]));
    const size = item.kind === "bars" ? bars(node, layers, item, width) : lines(node, layers, item, width);
    say(unit, size.unit);
    place(svg, { width, height: size.height, viewBox: `0 0 ${width} ${size.height}`, role: "img", "aria-label": describe(item) });
    const named = item.series.length > 1;
    const entries = named ? item.series.map((one) => ({ key: one.key, colour: `s-${one.place}`, text: one.name })) : [];
    if (item.bands?.length) entries.push({ key: "band", colour: "band", text: t("others were served") });
    keep(legend, entries, () => {
      const entry = make("span", "entry");
      entry.append(make("i"), make("span"));
      return entry;
    }, (entry, one) => {
      entry.firstChild.className = `swatch ${one.colour}`;
      say(entry.lastChild, one.text);
    });
  };

  // --- lines

  const lines = (node, layers, item, width) => {
    const scale = scales(item, width, node.plot.zoom), bottom = HEIGHT - BOTTOM, right = width - RIGHT;
    node.plot.scale = scale;
    const inside = ([x]) => x >= scale.x0 && x <= scale.x1;
    keep(layers.grid, range(0, scale.top, scale.step).map((y) => ({ key: y, y })), () => shape("line"), (line, { y }) =>
      place(line, { x1: LEFT, x2: right, y1: scale.y(y * scale.divide), y2: scale.y(y * scale.divide), class: y ? "" : "zero" }));
    const ys = range(0, scale.top, scale.step).map((y) => ({ key: `y${y}`, x: LEFT - 8, y: scale.y(y * scale.divide) + 4, anchor: "end", text: figures(y) }));
    const xs = xMarks(item, scale, width).map(([x, text]) => ({ key: `x${x}`, x: scale.x(x), y: bottom + 17, anchor: "middle", text }));
    texts(layers.marks, [...ys, ...xs]);
    keep(layers.bands, (item.bands ?? []).filter(([a, b]) => b > scale.x0 && a < scale.x1).map((band) => ({ key: band[0], band })),
      () => shape("rect", "band"), (rect, { band }) => {
        const a = scale.x(Math.max(band[0], scale.x0)), b = scale.x(Math.min(band[1], scale.x1));
        place(rect, { x: a, y: TOP, width: Math.max(2, b - a), height: bottom - TOP });
      });
    keep(layers.lines, item.series.filter((one) => one.points.length), () => shape("polyline"), (line, one) => {
      // One point beyond each edge, so that a line leads out of a zoomed chart; clipped by the frame.
      const points = one.points.filter((point, i) => inside(point) || inside(one.points[i + 1] ?? [NaN]) || inside(one.points[i - 1] ?? [NaN]));
      place(line, { class: `line s-${one.place}`, points: points.map(([x, y]) => `${scale.x(x).toFixed(1)},${scale.y(y).toFixed(1)}`).join(" ") });
    });
    const dots = item.kind === "time" ? [] : item.series.flatMap((one) => one.points.filter(inside).map((point) => ({ key: `${one.key}/${point[0]}`, one, point })));
    keep(layers.dots, dots, () => shape("circle"), (dot, { one, point: [x, y, , mark] }) =>
      place(dot, { class: `dot s-${one.place} ${mark}`, cx: scale.x(x).toFixed(1), cy: scale.y(y).toFixed(1), r: 4 }));
    return { unit: t("{unit} by {axis}", { unit: scale.unit, axis: item.x.title }), height: HEIGHT };
  };

  const texts = (layer, items) => keep(layer, items, () => shape("text"), (text, one) => {
    place(text, { x: one.x.toFixed(1), y: one.y.toFixed(1), "text-anchor": one.anchor, class: one.name ?? "" });
    say(text, one.text);
  });

  // --- bars

  const bars = (node, layers, item, width) => {
    const names = [...new Set(item.series.flatMap((one) => one.points.map((point) => point[0])))];
    const each = ROW - BAR - 6 + (BAR + 2) * item.series.length;
    const maxValue = Math.max(0, ...item.series.flatMap((one) => one.points.map((point) => point[1]))) || 1;
    const barWidth = width - 8 - 86;
    const boxes = item.series.flatMap((one, i) => one.points.map(([name, y, , mark]) => ({
      key: `${one.key}/${name}`, one, y, mark, width: Math.max(2, (barWidth * y) / maxValue),
      top: names.indexOf(name) * each + 20 + i * (BAR + 2),
    })));
    node.plot.scale = null;
    keep(layers.dots, boxes, () => shape("rect"), (bar, b) =>
      place(bar, { class: `bar s-${b.one.place} ${b.mark}`, x: 4, y: b.top, width: b.width.toFixed(1), height: BAR, rx: 3 }));
    const labels = names.map((name, i) => ({ key: name, x: 4, y: i * each + 14, anchor: "start", text: name, name: "case" }));
    texts(layers.marks, [...labels, ...boxes.map((b) => ({ key: `n/${b.key}`, x: b.width + 10, y: b.top + BAR - 1.5, anchor: "start", text: `${figures(b.y)} ${item.unit}` }))]);
    for (const name of ["bands", "grid", "lines"]) layers[name].replaceChildren();
    return { unit: t("{unit}, median of each case", { unit: item.unit }), height: Math.max(40, names.length * each + 8) };
  };

  // --- zoom and tips

  const listen = (node, frame) => {
    const [svg, tip] = frame.children, choice = svg.lastChild;
    let from = null;
    const px = (event) => {
      const box = frame.getBoundingClientRect();
      return Math.min(Math.max(event.clientX - box.left, LEFT), node.plot.width - RIGHT);
    };
    const nearest = (at) => {
      const { item, scale } = node.plot;
      return item.series.map((one) => {
        const points = one.points.filter(([x]) => x >= scale.x0 && x <= scale.x1);
        const best = points.reduce((a, b) => (a && Math.abs(scale.x(a[0]) - at) <= Math.abs(scale.x(b[0]) - at) ? a : b), null);
        return best && { one, best };
      }).filter(Boolean);
    };
    const showTip = (event) => {
      const { scale, item } = node.plot;
      if (!scale) return;
      const at = px(event), points = nearest(at);
      show(tip, points.length > 0);
      if (!points.length) return;
      const near = points.reduce((a, b) => (Math.abs(scale.x(a.best[0]) - at) <= Math.abs(scale.x(b.best[0]) - at) ? a : b)).best;
      const head = near[2] || (item.kind === "time" ? t("at {time}", { time: clock(near[0]) }) : String(near[0]));
      const notes = [...new Set(points.map(({ best }) => NAMES[best[3]]).filter(Boolean))];
      tip.replaceChildren(make("b", "", head), ...points.map(({ one, best }) => {
        const line = make("span");
        const [divide, unit] = unitOf(item.unit, best[1]);
        line.append(make("i", `swatch s-${one.place}`), `${figures(best[1] / divide)} ${unit}`,
          ...(points.length > 1 ? [make("em", "", one.name)] : []));
        return line;
      }), ...notes.map((note) => make("small", "", note)));
      const x = scale.x(near[0]), left = x > node.plot.width / 2;
      Object.assign(tip.style, { left: left ? "" : `${x + 12}px`, right: left ? `${node.plot.width - x + 12}px` : "" });
      if (from === null) {
        keep(choice, [{ key: "at" }], () => shape("line", "at"), (line) => place(line, { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
      } else {
        keep(choice, [{ key: "range" }], () => shape("rect", "range"), (rect) =>
          place(rect, { x: Math.min(from, at), y: TOP, width: Math.abs(at - from), height: HEIGHT - TOP - BOTTOM }));
      }
    };
    const hideTip = () => {
      show(tip, false);
      choice.replaceChildren();
    };
    show(tip, false);
    frame.addEventListener("pointerdown", (event) => {
      if (!node.plot.scale || event.button !== 0) return;
      from = px(event);
      frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointermove", showTip);
    frame.addEventListener("pointerup", (event) => {
      const began = from, ended = px(event), scale = node.plot.scale;
      from = null;
      choice.replaceChildren();
      if (began !== null && scale && Math.abs(ended - began) > 8) {
        zoom(node, [scale.back(Math.min(began, ended)), scale.back(Math.max(began, ended))]);
      }
    });
    frame.addEventListener("pointercancel", () => { from = null; hideTip(); });
    frame.addEventListener("pointerleave", () => { if (from === null) hideTip(); });
    frame.addEventListener("dblclick", () => zoom(node, null));
    frame.addEventListener("keydown", (event) => {
      const { scale, item } = node.plot;
      if (!scale) return;
      const span = node.plot.width - LEFT - RIGHT, [a, b] = [LEFT, LEFT + span];
      const [low, high] = extent(item);
      const to = (x0, x1) => zoom(node, [Math.max(low, scale.back(x0)), Math.min(high, scale.back(x1))]);
      const keys = {
        "+": () => to(a + span / 4, b - span / 4),
        "-": () => to(a - span / 2, b + span / 2),
        ArrowLeft: () => { if (scale.x0 > low) to(a - span / 4, b - span / 4); },
        ArrowRight: () => { if (scale.x1 < high) to(a + span / 4, b + span / 4); },
        Escape: () => { if (node.plot.zoom) zoom(node, null); },
      };
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
  };

  // --- export as a picture

  const STYLE_PROPERTIES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "font-size", "font-weight"];
  const GAP = 18, WIDTH = 620, HEAD = 34;

  const inlined = (svg) => {
    const copy = svg.cloneNode(true), from = [...svg.querySelectorAll("*")], to = [...copy.querySelectorAll("*")];
    from.forEach((node, i) => {
      const style = getComputedStyle(node);
      for (const name of STYLE_PROPERTIES) to[i].setAttribute(name, style.getPropertyValue(name));
    });
    copy.querySelector(".choice")?.remove();
    return copy;
  };

  // A copy of a chart in the width of the exported picture.
  const copyAtWidth = (node, width) => {
    const before = node.plot.width;
    node.plot.width = width;
    draw(node);
    const copy = inlined(node.querySelector("svg"));
    node.plot.width = before;
    draw(node);
    return copy;
  };

  const label = (text, x, y, colour, size, weight = "400") => {
    const node = shape("text");
    place(node, { x, y, fill: colour, "font-size": size, "font-weight": weight });
    node.textContent = text;
    return node;
  };

  // The charts in `nodes`, two side by side, under a title, as a PNG blob.
  const png = async (nodes, title, under) => {
    const style = getComputedStyle(document.body), ink = style.getPropertyValue("--body-text-color") || style.color;
    const quiet = getComputedStyle(nodes[0].querySelector(".unit")).color, root = shape("svg");
    const paper = getComputedStyle(nodes[0]).backgroundColor, columns = nodes.length > 1 ? 2 : 1;
    root.append(label(title, GAP, 34, ink, 19, "650"), label(under, GAP, 56, quiet, 12));
    let top = 74, tall = 0;
    nodes.forEach((node, i) => {
      const copy = copyAtWidth(node, WIDTH), column = i % columns, x = GAP + column * (WIDTH + GAP);
      const height = Number(copy.getAttribute("height"));
      if (!column) { top += tall; tall = 0; }
      root.append(label(node.querySelector("h4").textContent, x, top + 16, ink, 14, "600"));
      const unit = label(node.querySelector(".unit").textContent, x + WIDTH, top + 16, quiet, 12);
      unit.setAttribute("text-anchor", "end");
      const group = shape("g");
      group.setAttribute("transform", `translate(${x} ${top + HEAD - 8})`);
      group.append(...copy.children);
      root.append(unit, group);
      let left = x;
      for (const entry of node.querySelectorAll(".legend .entry")) {
        const swatch = shape("rect"), text = entry.textContent;
        place(swatch, { x: left, y: top + HEAD + height - 6, width: 11, height: 11, rx: 3, fill: getComputedStyle(entry.firstChild).backgroundColor });
        root.append(swatch, label(text, left + 17, top + HEAD + height + 4, quiet, 12));
        left += 34 + text.length * 6.6;
      }
      tall = Math.max(tall, HEAD + height + 30);
    });
    const width = columns * (WIDTH + GAP) + GAP, height = Math.ceil(top + tall);
    place(root, { xmlns: NS, width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "system-ui, sans-serif" });
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(root))}`;
    await image.decode();
    const canvas = document.createElement("canvas"), draw = canvas.getContext("2d");
    Object.assign(canvas, { width: width * 2, height: height * 2 });
    draw.fillStyle = paper;
    draw.fillRect(0, 0, canvas.width, canvas.height);
    draw.drawImage(image, 0, 0, canvas.width, canvas.height);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  };

  window.workbenchPlot = { chart, update, png };
})();
