// Files dropped or pasted anywhere on the window go to the composer; Esc stops the answer.
(() => {
  const composer = () => document.querySelector("#composer");
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

  // The composer's own file input: one change event takes all files through Gradio's upload and its type check.
  const attach = (files) => {
    if (window.workbenchVideo?.takes(files) || window.workbenchDecide?.takes(files)) return;
    const input = composer()?.querySelector("input[type=file]");
    if (!input || !files.length) return;
    const transfer = new DataTransfer();
    for (const file of files) transfer.items.add(file);
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    composer().querySelector("textarea")?.focus();
  };

  const dragging = (on) => {
    document.documentElement.classList.toggle("dragging", on);
    for (const tab of ["video", "decide"])
      document.documentElement.classList.toggle(`to-${tab}`, Boolean(document.querySelector(`#${tab} .${tab}`)?.offsetParent));
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
    attach([...event.dataTransfer.files]);
  }, true);

  // Gradio's own paste takes pictures only, and only inside its textarea.
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length || event.clipboardData.getData("text/plain")) return;
    event.preventDefault();
    event.stopPropagation();
    attach(files);
  }, true);

  // A file that is no picture shows its name; Gradio gives pictures no alternative text.
  addEventListener("error", (event) => {
    const image = event.target;
    if (image.matches?.("#chat .message img")) image.alt = decodeURIComponent(image.src.split("/").pop());
  }, true);

  // A phone shows its number pad; Gradio's Textbox has no way to ask for it.
  addEventListener("focusin", (event) => {
    if (event.target.closest?.(".number")) event.target.inputMode = "decimal";
  });

  // A message being edited: Enter sends, Esc leaves it as it was. Elsewhere Esc stops the answer.
  const press = (area, name) =>
    area.closest(".message-row")?.nextElementSibling?.querySelector(`button[aria-label="${name}"]`)?.click();

  addEventListener("keydown", (event) => {
    const edited = event.target.closest?.("#chat textarea");
    if (edited && event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      press(edited, "Submit");
    } else if (edited && event.key === "Escape") {
      press(edited, "Cancel");
    } else if (event.key === "Escape" && !event.defaultPrevented) {
      composer()?.querySelector(".stop-button")?.click();
    }
  });
})();
