import assert from "node:assert/strict";
import { test } from "node:test";
import "../../workbench/static/language.js";
import "../../workbench/static/words.js";
import "../../workbench/video/weights.js";

const { pairWords, strongest, conclusion } = globalThis.workbenchWeights;
const PAIRS = [[{ number: 1, time: 0 }, { number: 2, time: 0.5 }], [{ number: 3, time: 1 }, { number: 4, time: 1.5 }], [{ number: 5, time: 75 }]];

test("the pair that changes the answer most is named by its frames and their times", () => {
  assert.equal(conclusion(PAIRS, [0.2, Math.log(4), -0.3]), "Frames 3 and 4, at 1 s and 1.5 s, mattered most: without them, this answer is 4.0 × less likely.");
  assert.equal(conclusion(PAIRS, [0.2, -Math.log(2), 0]), "Frames 3 and 4, at 1 s and 1.5 s, mattered most: without them, this answer is 2.0 × more likely.");
  assert.equal(strongest([0.2, -0.7, 0]), 1);
});

test("a frame that goes in twice, or alone, is one frame", () => {
  assert.equal(conclusion(PAIRS, [0, 0, 3]), "Frame 5, at 1:15, mattered most: without it, this answer is 20 × less likely.");
  const twice = [[{ number: 1, time: 2 }, { number: 2, time: 2 }], PAIRS[0]];
  assert.equal(conclusion(twice, [-1, 0]), "Frame 1, at 2 s, mattered most: without it, this answer is 2.7 × more likely.");
});

test("where no pair changes the answer, none is named", () => {
  assert.equal(conclusion(PAIRS, [0.04, -0.04, 0]), "No frame mattered by itself: whichever pair is left out, this answer stays about as likely.");
  assert.equal(strongest([0.04, -0.04, 0]), -1);
});

test("under each pair stands what it does", () => {
  assert.deepEqual([0.04, Math.log(3), -Math.log(3)].map(pairWords), ["hardly matters", "3.0 × less likely without", "3.0 × more likely without"]);
});
