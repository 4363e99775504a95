import assert from "node:assert/strict";
import { test } from "node:test";
import "../../workbench/static/queue.js";

const { questions } = globalThis.workbenchQueue;

// A component as Gradio gives it to the script: what was sent, and a way to let a reply arrive.
const component = () => {
  const props = {}, sent = [];
  let changed = null;
  const queue = questions(props, (_, then) => { changed = then; }, (_, message) => sent.push(message));
  const reply = (value) => { props.value = value; changed(); };
  return { queue, sent, reply };
};

test("the second question is sent when the first has its answer", async () => {
  const { queue, sent, reply } = component();
  const first = queue.ask("sheet", () => "a"), second = queue.ask("sheet", () => "b");
  assert.deepEqual(sent, [{ turn: 1, what: "sheet", fields: "a" }]);
  reply({ turn: 1, text: "one" });
  assert.deepEqual(await first, { turn: 1, text: "one" });
  assert.deepEqual(sent.at(-1), { turn: 2, what: "sheet", fields: "b" });
  reply({ turn: 2, text: "two" });
  assert.equal((await second).text, "two");
});

test("a reply to another question is not taken", async () => {
  const { queue, sent, reply } = component();
  const only = queue.ask("sheet", () => "a");
  reply({ turn: 7, text: "somebody else's" });
  reply(null);
  reply({ turn: 1, text: "mine" });
  assert.equal((await only).text, "mine");
  assert.equal(sent.length, 1);
});

test("a newer question of the same key takes the place of one that waits, not of one that was sent", async () => {
  const { queue, sent, reply } = component();
  const first = queue.ask("sheet", () => "a", "side A"), old = queue.ask("sheet", () => "b", "side A");
  const other = queue.ask("sheet", () => "c", "side B"), last = queue.ask("sheet", () => "d", "side A");
  assert.deepEqual(await old, { stale: true });
  for (const turn of [1, 2, 3]) reply({ turn });
  assert.deepEqual([(await first).turn, (await other).turn, (await last).turn], [1, 2, 3]);
  assert.deepEqual(sent.map((one) => one.fields), ["a", "c", "d"]);
});

test("what is asked is read when its turn has come", () => {
  const { queue, sent, reply } = component();
  let text = "early";
  queue.ask("sheet", () => "a");
  queue.ask("sheet", () => text);
  text = "late";
  reply({ turn: 1 });
  assert.equal(sent.at(-1).fields, "late");
});
