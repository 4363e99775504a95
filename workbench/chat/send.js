// Runs in the page at Enter, before the server: adds the message to the chat and empties the composer.
// Inputs: composer, chat. Outputs: composer, chat, outbox. The server then replies with its own version of the chat.
(value, messages) => {
  const isWriting = document.querySelector("#composer .stop-button");
  const text = value?.text ?? "";
  const files = value?.files ?? [];
  const isEmpty = !text.trim() && !files.length;
  if (isWriting || isEmpty || !window.workbenchLive.sends()) return [value, messages, { text: "", files: [] }];
  const message = (part) => ({ role: "user", content: [part], metadata: null, options: null });
  const parts = files.map((file) => ({ type: "file", file, alt_text: null }));
  if (text.trim()) parts.push({ type: "text", text });
  return [{ text: "", files: [] }, [...(messages ?? []), ...parts.map(message)], value];
}
