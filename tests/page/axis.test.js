import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import "../../workbench/static/language.js";
import "../../workbench/static/words.js";
import "../../workbench/requests/axis.js";

const { STAGES, ROWS, matches, choices, onAxis, traces, range, figure, meanwhile } = globalThis.workbenchAxis;
const LOOK = { dark: false, text: "#000", line: "#ccc", card: "#fff", font: "sans", narrow: false };

const row = (id, more = {}) => ({
  id, created: 1000, source: "api", model: "m", key: "", status: "finished", total_ms: 500, ...more,
  stages: more.stages ?? [{ stage: "queue", start_ms: 0, ms: 200 }, { stage: "decode", start_ms: 200, ms: 300 }],
});

test("every stage of the engine has its words and colours, in its order", () => {
  const source = readFileSync(new URL("../../engine/types/stages.py", import.meta.url), "utf8");
  const names = [...source.match(/StageName = Literal\[([^\]]*)\]/)[1].matchAll(/"(\w+)"/g)].map((found) => found[1]);
  assert.deepEqual(STAGES.map(([name]) => name), names);
});

test("each stage of a request is a bar at its time of day, and knows whose it is", () => {
  const drawn = traces([row("a"), row("b", { created: 1001 })], { aligned: false, dark: false });
  const queue = drawn.find((trace) => trace.name === "waits for its turn");
  assert.deepEqual(queue.y, ["a", "b"]);
  assert.deepEqual(queue.base, [1_000_000, 1_001_000]);
  assert.deepEqual(queue.x, [200, 200]);
  assert.deepEqual(queue.customdata, [["a", 0], ["b", 0]]);
  assert.equal(drawn.flatMap((trace) => trace.y).length, 4);
});

test("aligned, all begin at nought, in seconds", () => {
  const decode = traces([row("a")], { aligned: true, dark: true }).find((trace) => trace.name === "decode");
  assert.deepEqual([decode.base[0], decode.x[0]], [0.2, 0.3]);
});

test("the axis shows the last minutes up to now, or up to the last request", () => {
  const [from, to] = range([row("new", { created: 5000 })], { now: 6000 });
  assert.ok(from > 4_990_000 && from <= 5_000_000 && to >= 5_000_500 && to < 5_001_000);
  assert.ok(range([row("a", { created: 5000, status: "running" })], { now: 5010 })[1] >= 5_010_000);
  const long = row("long", { created: 4000, total_ms: 1_000_000 });
  assert.ok(range([row("new", { created: 5000 }), long], { now: 6000 })[0] > 4_870_000, "what began before the window is cut off");
});

test("no row of the axis is without a bar: what ended before its window is counted, and shown if that is wanted", () => {
  const rows = [row("new", { created: 5000 }), row("near", { created: 4900 }), row("old", { created: 4800 }), row("older", { created: 10 })];
  const ids = ({ shown, earlier }) => [shown.map((one) => one.id).join(" "), earlier];
  assert.deepEqual(ids(onAxis(rows, { now: 9000 })), ["new near", 2]);
  const whole = onAxis(rows, { now: 9000, whole: true });
  assert.deepEqual(ids(whole), ["new near old older", 2]);
  const [from, to] = range(whole.shown, { now: 9000, whole: true });
  assert.ok(from < 10_000 && to > 5_000_500, "all of them are in sight");
  assert.deepEqual(ids(onAxis(rows, { now: 9000, aligned: true })), ["new near old older", 0]);
  const running = [row("new", { created: 8999, status: "running" }), row("waits", { created: 10, status: "waiting", total_ms: 0 }), ...rows];
  assert.deepEqual(ids(onAxis(running, { now: 9000 })), ["new waits", 4], "up to now, while something runs");
  assert.deepEqual(ids(onAxis([], { now: 9000 })), ["", 0]);
  const many = Array.from({ length: ROWS + 5 }, (_, place) => row(`r${place}`));
  assert.equal(onAxis(many, { now: 1001 }).shown.length, ROWS);
});

test("in a long stretch of time a short request is still seen", () => {
  const given = { now: 6000, aligned: false, look: LOOK, labels: {}, revision: 1 };
  const width = (more) => figure([row("a")], { ...given, ...more }).data[0].marker.line.width;
  assert.deepEqual([width({ whole: true }), width({}), width({ whole: true, aligned: true })], [1, 0, 0]);
});

test("times are those of the clock on the wall, and what a person zoomed into stays", () => {
  const given = { now: 1001, aligned: false, look: LOOK, labels: {}, revision: 1, shift: 3_600_000 };
  const { data, layout } = figure([row("a")], given);
  assert.equal(data.find((trace) => trace.y.length).base[0], 4_600_000);
  assert.ok(layout.xaxis.range[0] <= 4_600_000 && layout.xaxis.range[1] >= 4_600_500);
  assert.deepEqual(figure([row("a")], { ...given, zoom: [1, 2] }).layout.xaxis.range, [1, 2]);
});

test("the newest stands at the top", () => {
  const many = Array.from({ length: ROWS + 5 }, (_, place) => row(`r${place}`));
  const { layout } = figure(onAxis(many, { now: 1001 }).shown, { now: 1001, aligned: false, look: LOOK, labels: { r0: "first" }, revision: 3 });
  assert.equal(layout.uirevision, 3);
  assert.equal(layout.yaxis.categoryarray.at(-1), "r0");
  assert.equal(layout.yaxis.ticktext.at(-1), "first");
  assert.equal(layout.yaxis.categoryarray.length, ROWS);
});

test("filters: what they let through and what they offer", () => {
  const rows = [row("a"), row("b", { source: "chat", status: "failed" })];
  assert.deepEqual(rows.filter((one) => matches(one, { source: "chat", status: "" })).map((one) => one.id), ["b"]);
  assert.deepEqual(choices(rows, "source", ""), ["api", "chat"]);
  assert.deepEqual(choices([], "model", "gone"), ["gone"]);
});

test("a wait is told with the rows that ran meanwhile", () => {
  const wait = { stage: "queue", ms: 1500, meanwhile: [{ id: "a", source: "api", stage: "prefill", ms: 40 }] };
  assert.equal(meanwhile(wait, (one) => `request ${one.id}`), "Waits for its turn, 1.5 s. Meanwhile ran: request a (prefill, 40 ms).");
  assert.match(meanwhile({ ...wait, meanwhile: [] }, String), /No other request of this model ran meanwhile\.$/);
});
