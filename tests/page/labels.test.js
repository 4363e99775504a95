import assert from "node:assert/strict";
import { test } from "node:test";
import "../../workbench/chat/labels.js";

const { placed, overlap } = globalThis.workbenchLabels;
const SIZE = { width: 200, height: 200 }, LABEL = { width: 60, height: 15 };
const box = (left, top, right, bottom) => ({ left, top, right, bottom, isPoint: false });
const point = (left, top) => ({ left, top, right: left, bottom: top, isPoint: true });
const corner = (rectangle) => rectangle && [rectangle.left, rectangle.top];

test("a label stands above its box, below it at the upper edge, and inside one that fills the picture", () => {
  assert.deepEqual(corner(placed([box(50, 80, 150, 150)], [LABEL], SIZE)[0]), [50, 65]);
  assert.deepEqual(corner(placed([box(50, 5, 150, 150)], [LABEL], SIZE)[0]), [50, 150]);
  assert.deepEqual(corner(placed([box(0, 0, 200, 200)], [LABEL], SIZE)[0]), [0, 0]);
});

test("at the right edge it is moved into the picture", () => {
  assert.deepEqual(corner(placed([box(180, 80, 199, 150)], [LABEL], SIZE)[0]), [140, 65]);
  assert.deepEqual(corner(placed([point(190, 100)], [LABEL], SIZE)[0]), [120, 92.5], "of a point, to its left");
});

test("two boxes of one place have their labels apart", () => {
  const both = placed([box(50, 80, 150, 150), box(50, 80, 150, 150)], [LABEL, LABEL], SIZE);
  assert.deepEqual(both.map(corner), [[50, 65], [50, 150]]);
});

test("a label leaves another point's mark free where it can", () => {
  const [first] = placed([point(80, 100), point(120, 100)], [LABEL, LABEL], SIZE);
  assert.deepEqual(corner(first), [10, 92.5]);
});

test("of very many, those without room have none, and the others neither cover each other nor leave the picture", () => {
  const marks = Array.from({ length: 60 }, (_, at) => box((at * 37) % 150, (at * 53) % 160, 50 + ((at * 37) % 150), 40 + ((at * 53) % 160)));
  const found = placed(marks, marks.map(() => LABEL), SIZE).filter(Boolean);
  assert.ok(found.length > 10 && found.length < 60);
  found.forEach((one, at) => {
    assert.ok(one.left >= 0 && one.top >= 0 && one.right <= SIZE.width && one.bottom <= SIZE.height);
    assert.ok(!found.some((other, place) => place !== at && overlap(one, other)));
  });
});

test("a label higher than its picture has no place", () => {
  assert.deepEqual(placed([box(0, 0, 10, 10)], [LABEL], { width: 100, height: 10 }), [null]);
});
