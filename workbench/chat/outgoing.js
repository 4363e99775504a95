// The chat with a message at its end that the server does not know yet. Pure: tests/page runs this file in Node.
(() => {
  const KINDS = { image: "image", video: "video", audio: "audio" };

  const known = (turns) => turns.filter((turn) => !turn.isOwn);

  // value: of the composer. isOwn: until the server's version takes its place.
  const added = (before, value) => {
    const turns = known(before);  // a message that the server did not take makes room for the next
    const text = value?.text ?? "", files = value?.files ?? [];
    let at = turns.reduce((count, turn) => count + turn.parts.length, 0);
    const parts = files.map((file) => {
      const name = file.orig_name || file.path.split("/").pop();
      const kind = KINDS[(file.mime_type ?? "").split("/")[0]] ?? "document";
      return { at: at++, kind, name, path: file.path, broken: "" };
    });
    if (text.trim()) parts.push({ at, kind: "text", text });
    const isOpen = turns.at(-1)?.role === "user";  // what follows a message that has no answer belongs to it
    const turn = { role: "user", isOwn: true, parts: isOpen ? [...turns.at(-1).parts, ...parts] : parts };
    return [...(isOpen ? turns.slice(0, -1) : turns), turn];
  };

  const isEmpty = (value) => !value?.text?.trim() && !value?.files?.length;

  globalThis.workbenchOutgoing = { added, known, isEmpty };
})();
