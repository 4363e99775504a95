// Files dropped or pasted anywhere on the window go to the composer; Esc stops the answer.
(() => {
  const { list, t } = window.workbenchLanguage;
  const composer = () => document.querySelector("#composer");

  // The words of the style sheets.
  const WORDS = { drop: t("Drop to add to your message"), "drop-video": t("Drop to see what the model sees of it"),
    "drop-decide": t("Drop to ask about it"), "drop-compare": t("Drop to add to your message"), "drop-batch": t("Drop to ask about all of them"), toy: t("toy"), pinned: t("pinned") };
  for (const [name, words] of Object.entries(WORDS)) document.documentElement.style.setProperty(`--words-${name}`, JSON.stringify(words));
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

  // Gradio refuses a file of another kind with a list of all suffixes; here it is said before, in words.
  const isTaken = (file, accept) => !accept || accept.split(",").map((one) => one.trim()).some((one) =>
    (one.endsWith("/*") ? file.type.startsWith(one.slice(0, -1)) : file.name.toLowerCase().endsWith(one)));
  const takenWords = () => {
    const kinds = [["no-image", t("pictures")], ["no-video", t("clips")], ["no-audio", t("sounds")]];
    const names = kinds.filter(([name]) => !document.body.classList.contains(name)).map(([, word]) => word);
    return t("This model takes {kinds}.", { kinds: list([t("text"), ...names, t("documents")], "conjunction") });
  };

  // The composer's own file input: one change event takes all files through Gradio's upload and its type check.
  // dropped: all of a drop, which may hold folders.
  const attach = (files, dropped = null) => {
    if (window.workbenchVideo?.takes(files) || window.workbenchDecide?.takes(files) || window.workbenchCompare?.takes(files) || window.workbenchBatch?.takes(files, dropped)) return;
    const input = composer()?.querySelector("input[type=file]");
    if (!input || !files.length) return;
    const taken = files.filter((file) => isTaken(file, input.accept)), others = files.filter((file) => !taken.includes(file));
    if (others.length) window.workbenchComposer.tell(t("Not added: {names}. {why}", { names: others.map((file) => file.name).join(", "), why: takenWords() }));
    if (!taken.length) return;
    window.workbenchFrame.select("chat");  // where the composer is
    const transfer = new DataTransfer();
    for (const file of taken) transfer.items.add(file);
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    composer().querySelector("textarea")?.focus();
  };

  const dragging = (on) => {
    document.documentElement.classList.toggle("dragging", on);
    for (const tab of ["video", "decide", "compare", "batch"]) {
      const isShown = Boolean(document.querySelector(`#${tab} .${tab}`)?.offsetParent);
      document.documentElement.classList.toggle(`to-${tab}`, isShown);
    }
  };

  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();  // without this the browser leaves the page and opens the file
    dragging(true);
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) dragging(false); });
  addEventListener("drop", (event) => {
    dragging(false);
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    event.stopPropagation();  // capture phase: one path for every place on the page, the composer included
    attach([...event.dataTransfer.files], event.dataTransfer);
  }, true);

  // Gradio's own paste takes pictures only, and only inside its textarea. What is text too is pasted as text, and the
  // composer offers the picture instead.
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    if (event.clipboardData.getData("text/plain")) {
      if (!composer()?.contains(event.target)) return;
      event.stopPropagation();  // Gradio would take the picture and lose the text
      window.workbenchComposer.offerFiles(files, () => attach(files));
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    attach(files);
  }, true);

  // A phone shows its number pad; Gradio's Textbox has no way to ask for it.
  addEventListener("focusin", (event) => {
    if (event.target.closest?.(".number")) event.target.inputMode = "decimal";
  });

  // Esc stops the answer, where nothing else takes it.
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    composer()?.querySelector(".stop-button")?.click();
  });
})();
