import assert from "node:assert/strict";
import { test } from "node:test";
import "../../workbench/static/language.js";
import "../../workbench/static/words.js";
import "../../workbench/batch/lines.js";

const { offers, progress, share, span, ms } = globalThis.workbenchBatchLines;

const run = (more = {}, counts = {}) => ({ state: "running", left: 26, left_s: 12, left_out: 0, ...more, counts: { all: 60, waiting: 26, answered: 32, failed: 2, warned: 3, edited: 0, ...counts } });

test("how far a run is, with the time left while it runs", () => {
  assert.equal(progress(run()), "34 of 60 rows · 2 failed · 3 with warnings · about 12 s left");
  assert.equal(progress(run({ state: "paused", left: 0 })), "34 of 60 rows · 2 failed · 3 with warnings");
  assert.equal(progress(run({ left_s: null, left_out: 1 }, { failed: 0, warned: 0, edited: 4 })), "34 of 60 rows · 4 edited · 1 file is left out: no medium");
  assert.equal(progress(run({ left: 0, left_s: 0 }, { all: 1, waiting: 0, failed: 0, warned: 0 })), "1 of 1 row");
});

test("rows that are asked again are not done", () => {
  assert.equal(share(run({ left: 0 }, { waiting: 0 })), 1);
  assert.equal(share(run({ left: 6 }, { waiting: 0 })), 0.9);
  assert.equal(share({ counts: {}, left: 0 }), 0);
});

test("what may be done with it", () => {
  assert.deepEqual(offers(run()), { pause: true, stop: true, resume: false, retry: false, remove: false });
  assert.deepEqual(offers(run({ state: "pausing" })), { pause: false, stop: true, resume: false, retry: false, remove: false });
  assert.deepEqual(offers(run({ state: "paused" })), { pause: false, stop: false, resume: true, retry: true, remove: true });
  assert.deepEqual(offers(run({ state: "done" }, { waiting: 0, failed: 0 })), { pause: false, stop: false, resume: false, retry: false, remove: true });
});

test("which rows are shown, and times", () => {
  assert.equal(span(100, 100, 5000), "101 to 200 of 5,000");
  assert.equal(span(0, 0, 0), "");
  assert.equal(ms(8.25), "8.3 ms");
  assert.equal(ms(1234), "1.23 s");
});
