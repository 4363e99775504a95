import assert from "node:assert/strict";
import { test } from "node:test";
import "../../workbench/static/language.js";
import "../../workbench/video/playhead.js";

const { frameAt, placed, moved, endsOf, isMovingPng } = globalThis.workbenchPlayhead;

test("the frame under the playhead is the last that was taken", () => {
  const times = [0.5, 1, 1.5];
  assert.deepEqual([0, 0.5, 0.99, 1, 1.4999, 9].map((time) => frameAt(times, time)), [-1, 0, 0, 1, 2, 2]);
  assert.equal(frameAt([], 1), -1);
  assert.equal(frameAt([0, 0], 0), 1, "a frame that goes in twice");
});

test("a handle stays within the clip and does not pass the other", () => {
  const ends = { start: 1, end: 3 };
  assert.equal(placed("start", -5, ends, 10), 0);
  assert.equal(placed("start", 7, ends, 10), 2.9);
  assert.equal(placed("end", 0, ends, 10), 1.1);
  assert.equal(placed("end", 70, ends, 10), 10);
  assert.equal(placed("end", 2.3456, ends, 10), 2.35);
  assert.equal(placed("start", 5, { start: 0, end: 0.05 }, 0.05), 0, "a clip shorter than the shortest stretch");
});

test("keys move a handle by a hundredth of the clip, pages by a tenth", () => {
  assert.equal(moved("ArrowRight", 1, 20), 1.2);
  assert.equal(moved("ArrowLeft", 1, 20), 0.8);
  assert.equal(moved("PageUp", 1, 20), 3);
  assert.equal(moved("Home", 1, 20), 0);
  assert.equal(moved("End", 1, 20), 20);
  assert.equal(moved("Tab", 1, 20), null);
});

test("fields say where the handles are; what is no number leaves the clip's own ends", () => {
  assert.deepEqual(endsOf("", "", 4), { start: 0, end: 4 });
  assert.deepEqual(endsOf("1,5", "3", 4), { start: 1.5, end: 3 });
  assert.deepEqual(endsOf("soon", "99", 4), { start: 0, end: 4 });
  assert.deepEqual(endsOf("0", " ", 4), { start: 0, end: 4 });
});

const png = (...names) => {
  const chunk = (name) => [0, 0, 0, 2, ...[...name].map((letter) => letter.charCodeAt(0)), 7, 7, 0, 0, 0, 0];
  return new Uint8Array([0x89, 80, 78, 71, 13, 10, 26, 10, ...names.flatMap(chunk)]);
};

test("a PNG moves if it says so before its first picture", () => {
  assert.equal(isMovingPng(png("IHDR", "acTL", "IDAT")), true);
  assert.equal(isMovingPng(png("IHDR", "IDAT", "acTL")), false);
  assert.equal(isMovingPng(png("IHDR")), false);
  assert.equal(isMovingPng(new Uint8Array(3)), false);
  assert.equal(isMovingPng(png("IHDR").subarray(0, 13)), false, "cut off");
});
