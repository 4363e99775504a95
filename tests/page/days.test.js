import assert from "node:assert/strict";
import { test } from "node:test";
import "../../workbench/static/language.js";
import "../../workbench/conversations/days.js";

const { day, folders } = globalThis.workbenchDays;
const NOW = new Date(2026, 10, 28, 0, 30);  // a Saturday, half past midnight

test("a day is told as people say it, by the calendar and not by hours", () => {
  assert.equal(day(new Date(2026, 10, 28, 0, 1), NOW), "Today");
  assert.equal(day(new Date(2026, 10, 27, 23, 59), NOW), "Yesterday");
  assert.equal(day(new Date(2026, 10, 26, 12), NOW), "Thursday");
  assert.equal(day(new Date(2026, 10, 22, 12), NOW), "Sunday");
  assert.equal(day(new Date(2026, 10, 21, 12), NOW), "21 November");
  assert.equal(day(new Date(2025, 11, 31, 12), NOW), "31 December 2025");
  assert.equal(day(new Date(2026, 10, 29), NOW), "Today", "a clock that runs ahead");
});

test("folders keep the order, the pinned ones first", () => {
  const at = (time) => time.getTime() / 1000;
  const items = [
    { id: "a", is_pinned: true, changed_s: at(new Date(2020, 1, 1)) },
    { id: "b", is_pinned: false, changed_s: at(NOW) },
    { id: "c", is_pinned: false, changed_s: at(NOW) },
    { id: "d", is_pinned: false, changed_s: at(new Date(2026, 10, 27)) },
  ];
  const found = folders(items, NOW).map((folder) => [folder.title, folder.items.map((item) => item.id)]);
  assert.deepEqual(found, [["Pinned", ["a"]], ["Today", ["b", "c"]], ["Yesterday", ["d"]]]);
});
