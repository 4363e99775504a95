import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Script } from "node:vm";

const source = readFileSync(new URL("../../workbench/static/network.js", import.meta.url), "utf8");
const EVENT = "http://here/gradio_api/run/predict?";

// A page whose server fails as often as `failures` says, each with a status or, as the network does, with an error.
const page = (failures) => {
  const asked = [];
  const fetch = async (url, init) => {
    asked.push({ url, key: init?.headers?.get?.("Idempotency-Key") ?? null });
    const failure = failures.shift();
    if (failure instanceof Error) throw failure;
    return { status: failure ?? 200 };
  };
  const window = { fetch };
  const setTimeout = (act) => { queueMicrotask(act); };
  new Script(source).runInNewContext({ window, location: { href: "http://here/" }, URL, Headers, crypto, setTimeout });
  return { asked, fetch: window.fetch, network: window.workbenchNetwork };
};

test("an event that fails on the way is sent again, with the same key, until the server answers", async () => {
  const { asked, fetch, network } = page([new TypeError("Failed to fetch"), 502, 503]);
  const said = [];
  network.watch((lost) => said.push(lost));
  const response = await fetch(EVENT, { method: "POST", body: "{}", headers: {} });
  assert.equal(response.status, 200);
  assert.equal(asked.length, 4);
  assert.match(asked[0].key, /^[0-9a-f]{32}$/);
  assert.equal(new Set(asked.map(({ key }) => key)).size, 1);
  assert.deepEqual(said, [true], "until an event of the server is heard");
  network.heard();
  assert.deepEqual(said, [true, false]);
});

test("two events have two keys", async () => {
  const { asked, fetch } = page([]);
  for (const body of ["{}", "{}"]) await fetch(EVENT, { method: "POST", body });
  assert.notEqual(asked[0].key, asked[1].key);
});

test("an error of the server itself is an answer", async () => {
  const { asked, fetch } = page([500]);
  assert.equal((await fetch(EVENT, { method: "POST", body: "{}" })).status, 500);
  assert.equal(asked.length, 1);
});

test("what is taken back is not sent again", async () => {
  const { asked, fetch } = page([Object.assign(new Error("taken back"), { name: "AbortError" })]);
  await assert.rejects(fetch(EVENT, { method: "POST", body: "{}" }), /taken back/);
  assert.equal(asked.length, 1);
});

test("everything else goes as it came", async () => {
  for (const [url, init] of [
    ["http://here/v1/models", undefined],
    [EVENT, { method: "GET" }],
    ["http://here/gradio_api/upload", { method: "POST", body: new FormData() }],
  ]) {
    const { asked, fetch } = page([new TypeError("Failed to fetch")]);
    await assert.rejects(fetch(url, init), /Failed to fetch/);
    assert.deepEqual(asked, [{ url, key: null }]);
  }
});
