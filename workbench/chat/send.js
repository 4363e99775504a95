// What Enter does in the page, before the server knows of it: the message joins the chat and the composer is empty.
// Inputs: composer, chat. Outputs: composer, chat, outbox. The server then answers with the chat as it holds it.
(value, messages) => {
  const isWriting = document.querySelector("#composer .stop-button");
  const text = value?.text ?? "";
  const files = value?.files ?? [];
  if (isWriting || (!text.trim() && !files.length)) return [value, messages, { text: "", files: [] }];
  const said = (part) => ({ role: "user", content: [part], metadata: null, options: null });
  const parts = files.map((file) => ({ type: "file", file, alt_text: null }));
  if (text.trim()) parts.push({ type: "text", text });
  return [{ text: "", files: [] }, [...(messages ?? []), ...parts.map(said)], value];
}
