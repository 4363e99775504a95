// Runs in the page at Enter, before the server: adds the message to the chat and empties the composer.
// Inputs: composer, chat. Outputs: composer, chat, outbox. The server then replies with its own version of the chat.
(value, chat) => {
  const { added, isEmpty } = globalThis.workbenchOutgoing;
  const isWriting = document.querySelector("#composer .stop-button");
  if (isWriting) globalThis.workbenchComposer?.hold();
  if (isWriting || isEmpty(value) || !globalThis.workbenchLive.sends()) return [value, chat, { text: "", files: [] }];
  return [{ text: "", files: [] }, { ...chat, turns: added(chat?.turns ?? [], value) }, value];
}
