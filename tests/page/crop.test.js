import assert from "node:assert/strict";
import { test } from "node:test";
import "../../workbench/static/language.js";
import "../../workbench/chat/crop_rules.js";

const { dragged, problemOf } = globalThis.workbenchCropRules;

test("a part is dragged in any direction and ends at the picture's edge", () => {
  assert.deepEqual(dragged([10.4, 20], [50, 80.6], [100, 100]), [10, 20, 40, 61]);
  assert.deepEqual(dragged([50, 81], [10, 20], [100, 100]), [10, 20, 40, 61]);
  assert.deepEqual(dragged([90, 90], [400, -30], [100, 100]), [90, 0, 10, 90]);
  assert.equal(dragged([10, 10], [12, 80], [100, 100]), null);
});

test("what is no part of a picture is said in words", () => {
  assert.equal(problemOf([0, 0, 100, 50], [100, 50]), "");
  assert.match(problemOf([1, 0, 100, 50], [100, 50]), /inside of the picture, which has 100 × 50 pixels/);
  assert.match(problemOf([-1, 0, 10, 10], [100, 50]), /inside/);
  assert.match(problemOf([0, 0, 0, 5], [100, 50]), /at least 1/);
  assert.match(problemOf([0, 0, 1.5, 5], [100, 50]), /whole numbers/);
  assert.match(problemOf([NaN, 0, 1, 5], [100, 50]), /whole numbers/);
});
