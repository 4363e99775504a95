// Where a chart's points and marks lie, in pixels, and what a chart says in words. No document: tests/page reads this
// file as it is. A chart: {title, unit, kind, x: {scale: "linear" | "log" | "count"}, series: [{name, points: [[x, y, …]]}]}.
(() => {
  const { t } = globalThis.workbenchLanguage;
  const { figures, clock } = globalThis.workbenchWords;
  const HEIGHT = 210, LEFT = 54, RIGHT = 14, TOP = 10, BOTTOM = 26;
  const BYTES = [[2 ** 30, "GB"], [2 ** 20, "MB"], [2 ** 10, "KB"]];

  // What values up to `top` are divided by, and the unit they then have.
  const unitOf = (unit, top) => {
    if (unit !== "bytes") return [1, unit];
    return BYTES.find(([size]) => top >= size) ?? [1, "B"];
  };

  // The end of an axis and the step of its marks, both round, for about `count` marks.
  const roundAxis = (top, count) => {
    const rough = (top || 1) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].find((one) => one * power >= rough * 0.999) * power;
    return [Math.ceil((top || 1) / step - 1e-9) * step, step];
  };

  // Multiples of step from start to end.
  const range = (start, end, step) => {
    const marks = [];
    for (let i = Math.ceil(start / step - 1e-9) || 0; i * step <= end + step * 1e-6; i += 1) marks.push(i * step);
    return marks;
  };

  // The ends of the x axis when nothing is zoomed.
  const extent = (item) => {
    const xs = item.series.flatMap((one) => one.points.map((point) => point[0]));
    if (item.x.scale === "log") return [Math.min(1, ...xs) / 1.15, Math.max(2, ...xs) * 1.15];
    if (item.x.scale === "count") return [0.5, Math.max(1, ...xs) + 0.5];
    const top = Math.max(0, ...xs) || 1;
    return [0, item.kind === "time" ? Math.max(top, 10) : top * 1.04];
  };

  // From values to pixels and back. zoom: the ends of the x axis, null for all of it.
  const scales = (item, width, zoom) => {
    const [x0, x1] = zoom ?? extent(item), log = item.x.scale === "log";
    const at = log ? Math.log2 : (x) => x, back = log ? (x) => 2 ** x : (x) => x;
    const span = at(x1) - at(x0) || 1, plotWidth = width - LEFT - RIGHT;
    const values = item.series.flatMap((one) => one.points.filter(([x]) => x >= x0 && x <= x1).map((point) => point[1]));
    const maxValue = Math.max(0, ...values), [divide, unit] = unitOf(item.unit, maxValue);
    const [top, step] = roundAxis(maxValue / divide, 4), plotHeight = HEIGHT - TOP - BOTTOM;
    return {
      x0, x1, divide, unit, step, top,
      x: (x) => LEFT + (plotWidth * (at(x) - at(x0))) / span,
      y: (y) => TOP + plotHeight * (1 - y / divide / top),
      back: (px) => back(at(x0) + (span * (px - LEFT)) / plotWidth),
    };
  };

  // [value, words] of the marks under the x axis: as many as have room.
  const xMarks = (item, scale, width) => {
    const room = Math.max(2, Math.floor((width - LEFT) / 70));
    if (item.x.scale !== "linear") {
      const xs = [...new Set(item.series.flatMap((one) => one.points.map((point) => point[0])))].sort((a, b) => a - b);
      const values = xs.filter((x) => x >= scale.x0 && x <= scale.x1), every = Math.ceil(values.length / (room * 1.6));
      return values.filter((_, i) => i % every === 0).map((x) => [x, String(x)]);
    }
    const minutes = item.kind === "time" && scale.x1 - scale.x0 > 150;
    const step = minutes ? 60 * Math.ceil((scale.x1 - scale.x0) / 60 / room) : roundAxis(scale.x1 - scale.x0, room)[1];
    return range(scale.x0, scale.x1, step).map((x) => [x, minutes ? clock(x) : figures(x)]);
  };

  // What the chart shows, for those who do not see it.
  const describe = (item) => {
    const shown = item.series.filter((one) => one.points.length).map((one) => {
      const ys = one.points.map((point) => point[1]);
      return t("{name}: {count} values from {least} to {most}", { name: one.name, count: ys.length, least: figures(Math.min(...ys)), most: figures(Math.max(...ys)) });
    });
    return `${item.title}, ${item.unit}. ${shown.join("; ") || t("nothing yet")}`;
  };

  globalThis.workbenchScales = { HEIGHT, LEFT, RIGHT, TOP, BOTTOM, unitOf, roundAxis, range, extent, scales, xMarks, describe };
})();
