import assert from "node:assert/strict";
import { test } from "node:test";
import "../../workbench/static/language.js";
import "../../workbench/static/words.js";

const { figures, moved, clock, seconds, milliseconds, times, percent } = globalThis.workbenchWords;

test("numbers have three figures, and are whole from a thousand on", () => {
  assert.deepEqual([0, 0.12345, 1.5, 99.95, 123.4, 1234.5, -1234567].map(figures),
    ["0", "0.123", "1.5", "100", "123", "1,235", "-1,234,567"]);
});

test("a clock shows minutes and two digits of seconds", () => {
  assert.deepEqual([0, 7.4, 59.6, 60, 725].map(clock), ["0:00", "0:07", "1:00", "1:00", "12:05"]);
});

test("times in a clip have at most two decimals", () => {
  assert.deepEqual([0, 1.5, 2.0049, 2.005001].map(seconds), ["0 s", "1.5 s", "2 s", "2.01 s"]);
});

test("factors lose what nobody can see", () => {
  assert.deepEqual([1.26, 9.96, 10.4, 999.4, 1000].map(times), ["1.3", "10.0", "10", "999", "over a thousand"]);
});

test("a probability is never rounded to certainty", () => {
  assert.deepEqual([0, 0.00004, 0.001, 0.5, 0.9876, 0.999, 0.99999, 1].map(percent),
    ["0 %", "< 0.1 %", "0.1 %", "50 %", "98.8 %", "99.9 %", "> 99.9 %", "100 %"]);
});

test("an item of a list is moved, and nothing else changes its order", () => {
  const list = ["a", "b", "c"];
  assert.deepEqual([[0, 2], [2, 0], [1, 2], [1, 1]].map(([from, to]) => moved(list, from, to).join("")), ["bca", "cab", "acb", "abc"]);
  assert.deepEqual(list, ["a", "b", "c"]);
  for (const [from, to] of [[0, 3], [-1, 0], [3, 0], [0, 0.5]]) assert.equal(moved(list, from, to), null);
});

test("measured times are as the server says them", () => {
  assert.deepEqual([0.25, 9.96, 284.4, 1250, 61_000].map(milliseconds), ["0.3 ms", "10 ms", "284 ms", "1.25 s", "1:01"]);
});
