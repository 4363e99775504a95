import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Script } from "node:vm";

// The file is one function, which Gradio calls with the values of its inputs. It asks the page two things: is an answer
// being written (then the composer shows a button that stops it), and can a message be sent now.
const source = readFileSync(new URL("../../workbench/chat/send.js", import.meta.url), "utf8");
const send = (value, messages, isWriting = false, sends = () => true) => {
  const document = { querySelector: (selector) => (selector === "#composer .stop-button" && isWriting ? {} : null) };
  const window = { workbenchLive: { sends } };
  const result = new Script(`(${source})`).runInNewContext({ document, window })(value, messages);
  return JSON.parse(JSON.stringify(result));
};

test("a message joins the chat, files before their question, and the composer is empty", () => {
  const value = { text: "What is it?", files: [{ path: "/a.png" }] };
  const [composer, chat, outbox] = send(value, [{ role: "assistant", content: [] }]);
  assert.deepEqual(composer, { text: "", files: [] });
  assert.deepEqual(chat.slice(1).map((one) => [one.role, one.content[0].type]), [["user", "file"], ["user", "text"]]);
  assert.equal(chat[0].role, "assistant");
  assert.deepEqual(outbox, value);
});

test("nothing is sent of an empty composer, nor while an answer is written", () => {
  const nothing = { text: "", files: [] };
  assert.deepEqual(send({ text: "  ", files: [] }, []), [{ text: "  ", files: [] }, [], nothing]);
  assert.deepEqual(send(null, null), [null, null, nothing]);
  const value = { text: "Hello", files: [] };
  assert.deepEqual(send(value, [], true), [value, [], nothing]);
});

test("spaces around a picture alone are no text", () => {
  const [, chat] = send({ text: " \n", files: [{ path: "/a.png" }] }, null);
  assert.deepEqual(chat.map((one) => one.content[0].type), ["file"]);
});

test("a message waits in the composer while a conversation is opened", () => {
  const value = { text: "Hello", files: [] };
  assert.deepEqual(send(value, [], false, () => false), [value, [], { text: "", files: [] }]);
});
