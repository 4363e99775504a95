import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Script, createContext } from "node:vm";

// The file is one function, which Gradio calls with the values of its inputs. It asks the page two things: is an answer
// being written (then the composer shows a button that stops it), and can a message be sent now.
const read = (name) => readFileSync(new URL(`../../workbench/chat/${name}`, import.meta.url), "utf8");
const source = read("send.js"), outgoing = new Script(read("outgoing.js"));
const send = (value, messages, isWriting = false, sends = () => true) => {
  const document = { querySelector: (selector) => (selector === "#composer .stop-button" && isWriting ? {} : null) };
  const page = createContext({ document, workbenchLive: { sends } });
  outgoing.runInContext(page);
  const result = new Script(`(${source})`).runInContext(page)(value, messages);
  return JSON.parse(JSON.stringify(result));
};

test("a message joins the chat, files before their question, and the composer is empty", () => {
  const value = { text: "What is it?", files: [{ path: "/x/a.png", mime_type: "image/png" }, { path: "/x/b.pdf", orig_name: "B.pdf" }] };
  const before = { turns: [{ role: "user", parts: [{ at: 0 }] }, { role: "assistant", parts: [{ at: 1 }, { at: 2 }] }] };
  const [composer, chat, outbox] = send(value, before);
  assert.deepEqual(composer, { text: "", files: [] });
  assert.equal(chat.turns.length, 3);
  assert.deepEqual(chat.turns[2].parts.map((part) => [part.at, part.kind, part.name ?? part.text]),
    [[3, "image", "a.png"], [4, "document", "B.pdf"], [5, "text", "What is it?"]]);
  assert.deepEqual(outbox, value);
});

test("what follows a message without an answer belongs to it", () => {
  const before = { turns: [{ role: "user", parts: [{ at: 0 }] }] };
  const [, chat] = send({ text: "And?", files: [] }, before);
  assert.deepEqual(chat.turns, [{ role: "user", isOwn: true, parts: [{ at: 0 }, { at: 1, kind: "text", text: "And?" }] }]);
});

test("nothing is sent of an empty composer, nor while an answer is written", () => {
  const nothing = { text: "", files: [] };
  assert.deepEqual(send({ text: "  ", files: [] }, null), [{ text: "  ", files: [] }, null, nothing]);
  assert.deepEqual(send(null, null), [null, null, nothing]);
  const value = { text: "Hello", files: [] };
  assert.deepEqual(send(value, null, true), [value, null, nothing]);
});

test("spaces around a picture alone are no text", () => {
  const [, chat] = send({ text: " \n", files: [{ path: "/a.png" }] }, null);
  assert.deepEqual(chat.turns[0].parts.map((part) => part.name), ["a.png"]);
});

test("a message waits in the composer while a conversation is opened", () => {
  const value = { text: "Hello", files: [] };
  assert.deepEqual(send(value, [], false, () => false), [value, [], { text: "", files: [] }]);
});

test("a message that the server did not take makes room for the next one", () => {
  const [, before] = send({ text: "Lost", files: [] }, { turns: [{ role: "assistant", parts: [{ at: 0 }] }] });
  const [, chat] = send({ text: "Again", files: [] }, before);
  assert.deepEqual(chat.turns.map((turn) => turn.parts.map((part) => part.text ?? "")), [[""], ["Again"]]);
});
