import assert from "node:assert/strict";
import { test } from "node:test";
import "../../workbench/static/language.js";
import "../../workbench/static/words.js";
import "../../workbench/bench/scales.js";

const { HEIGHT, LEFT, RIGHT, TOP, BOTTOM, unitOf, roundAxis, range, extent, scales, xMarks, describe } = globalThis.workbenchScales;
const WIDTH = 620;

const chart = (points, more = {}) => ({
  title: "First token", unit: "ms", kind: "line", x: { scale: "linear", title: "tokens" }, series: [{ name: "demo", points }], ...more,
});

test("bytes are shown in the largest unit that the top value fills", () => {
  assert.deepEqual(unitOf("bytes", 3 * 2 ** 30), [2 ** 30, "GB"]);
  assert.deepEqual(unitOf("bytes", 2 ** 20), [2 ** 20, "MB"]);
  assert.deepEqual(unitOf("bytes", 1023), [1, "B"]);
  assert.deepEqual(unitOf("ms", 5000), [1, "ms"]);
});

test("an axis ends at a round number at or above its top value, in round steps", () => {
  assert.deepEqual(roundAxis(100, 4), [100, 25]);
  assert.deepEqual(roundAxis(101, 4), [150, 50]);
  assert.deepEqual(roundAxis(0, 4), [1, 0.25]);
  for (const top of [0.003, 0.7, 9.99, 1234, 5e6]) {
    const [end, step] = roundAxis(top, 4);
    assert.ok(end >= top && end - step < top, `${top}: ends at ${end} in steps of ${step}`);
  }
});

test("marks are the multiples of the step, both ends included", () => {
  assert.deepEqual(range(0, 1, 0.25), [0, 0.25, 0.5, 0.75, 1]);
  assert.deepEqual(range(3, 10, 5), [5, 10]);
  assert.equal(range(0, 0.3, 0.1).length, 4);  // 3 × 0.1 is above 0.3 in floating point
});

test("the x axis holds every point", () => {
  const points = [[64, 1], [2048, 9]];
  for (const scale of ["linear", "log", "count"]) {
    const [low, high] = extent(chart(points, { x: { scale } }));
    assert.ok(low <= 64 && high >= 2048, scale);
  }
  assert.deepEqual(extent(chart([], { kind: "time" })), [0, 10]);
});

test("values become pixels inside the frame, and pixels become the same values again", () => {
  for (const scale of ["linear", "log", "count"]) {
    const item = chart([[64, 3], [512, 7], [2048, 9]], { x: { scale } }), to = scales(item, WIDTH, null);
    for (const [x, y] of item.series[0].points) {
      assert.ok(to.x(x) >= LEFT && to.x(x) <= WIDTH - RIGHT, `${scale}: ${x}`);
      assert.ok(to.y(y) >= TOP && to.y(y) <= HEIGHT - BOTTOM, `${scale}: ${y}`);
      assert.ok(Math.abs(to.back(to.x(x)) - x) < 1e-6 * x, `${scale}: ${x} comes back as ${to.back(to.x(x))}`);
    }
    assert.equal(to.y(0), HEIGHT - BOTTOM);
  }
});

test("a zoomed chart is as high as what is seen of it", () => {
  const item = chart([[1, 10], [2, 1000]]);
  assert.equal(scales(item, WIDTH, null).top, 1000);
  assert.equal(scales(item, WIDTH, [0, 1.5]).top, 10);
});

test("marks under the axis are the measured values where they are few, and minutes where it is long", () => {
  const measured = chart([[128, 1], [32, 1], [64, 1]], { x: { scale: "log" } });
  assert.deepEqual(xMarks(measured, scales(measured, WIDTH, null), WIDTH), [[32, "32"], [64, "64"], [128, "128"]]);
  const long = chart([[0, 1], [600, 1]], { kind: "time" }), words = xMarks(long, scales(long, WIDTH, null), WIDTH).map(([, text]) => text);
  assert.equal(words[0], "0:00");
  assert.ok(words.every((text) => text.endsWith(":00")), words.join(" "));
});

test("no two marks stand closer than they are wide", () => {
  const many = chart(Array.from({ length: 200 }, (_, i) => [i + 1, 1]), { x: { scale: "count" } });
  const scale = scales(many, WIDTH, null), places = xMarks(many, scale, WIDTH).map(([x]) => scale.x(x));
  assert.ok(places.length > 5);
  assert.ok(places.every((x, i) => !i || x - places[i - 1] > 30), places.join(" "));
});

test("a chart says what it shows", () => {
  assert.equal(describe(chart([[1, 10], [2, 1500]])), "First token, ms. demo: 2 values from 10 to 1,500");
  assert.equal(describe(chart([])), "First token, ms. nothing yet");
});
