// Runs in the page at Enter, before the server: adds the message to the chat and empties the composer.
// Inputs: composer, chat. Outputs: composer, chat, outbox. The server then replies with its own version of the chat.
(value, chat) => {
  const isWriting = document.querySelector("#composer .stop-button");
  const text = value?.text ?? "";
  const files = value?.files ?? [];
  if (isWriting) globalThis.workbenchComposer?.hold();
  const isEmpty = !text.trim() && !files.length;
  if (isWriting || isEmpty || !globalThis.workbenchLive.sends()) return [value, chat, { text: "", files: [] }];
  const turns = chat?.turns ?? [];
  let at = turns.reduce((count, turn) => count + turn.parts.length, 0);
  const kinds = { image: "image", video: "video", audio: "audio" };
  const parts = files.map((file) => {
    const name = file.orig_name || file.path.split("/").pop();
    const kind = kinds[(file.mime_type ?? "").split("/")[0]] ?? "document";
    return { at: at++, kind, name, path: file.path, broken: "" };
  });
  if (text.trim()) parts.push({ at, kind: "text", text });
  const isOpen = turns.at(-1)?.role === "user";  // what follows a message that has no answer belongs to it
  const turn = { role: "user", parts: isOpen ? [...turns.at(-1).parts, ...parts] : parts };
  return [{ text: "", files: [] }, { ...chat, turns: [...(isOpen ? turns.slice(0, -1) : turns), turn] }, value];
}
