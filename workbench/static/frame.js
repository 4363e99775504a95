// The frame of the page: one line of header where it fits, two where not; and the tab in the address.
(() => {
  const NARROW_PX = 1190;  // brand, tabs, a model's name and the buttons

  // The settings panel takes its room from the header too, so its own width decides, not the window's.
  const watchWidth = (header) => new ResizeObserver(([entry]) =>
    document.body.classList.toggle("narrow", entry.contentRect.width < NARROW_PX)).observe(header);

  // --- tabs: chat is the address itself, the others are ?tab=name

  const tabs = () => [...document.querySelectorAll('#tabs .tab-container:not(.visually-hidden) [role="tab"]')];
  const nameOf = (tab) => tab.id.replace(/^tab-|-button$/g, "");  // its elem_id: its words are in the reader's language
  const wanted = () => new URL(location.href).searchParams.get("tab") ?? "chat";
  const selected = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true");
  const select = (name) => {
    const tab = tabs().find((one) => nameOf(one) === name);
    if (tab && tab !== selected() && getComputedStyle(tab).display !== "none") tab.click();
  };

  const remember = () => {
    const tab = selected();
    if (!tab || nameOf(tab) === wanted()) return;
    const url = new URL(location.href);
    if (nameOf(tab) === "chat") url.searchParams.delete("tab");
    else url.searchParams.set("tab", nameOf(tab));
    history.pushState(history.state, "", url);
    document.title = nameOf(tab) === "chat" ? window.workbenchLive.title() : `${tab.textContent.trim()} · MLX Workbench`;
  };

  addEventListener("popstate", () => select(wanted()));

  // Gradio takes the help of a field for a part of its name; to a screen reader it is its description.
  const nameFields = (fields) => fields.forEach((field, place) => {
    const input = field.querySelector("input"), help = field.querySelector(".info-text");
    input.setAttribute("aria-label", field.querySelector("[data-testid=block-info]").textContent.trim());
    help.id = `setting-help-${place}`;
    input.setAttribute("aria-describedby", help.id);
  });

  const begin = () => {
    const bar = document.querySelector("#tabs"), header = document.querySelector("#header");
    const fields = document.querySelectorAll("#settings .number");
    if (!bar || !header || !selected() || !fields.length) return setTimeout(begin, 50);
    nameFields(fields);
    watchWidth(header);
    select(wanted());
    new MutationObserver(remember).observe(bar, { attributes: true, attributeFilter: ["aria-selected"], subtree: true });
  };
  begin();

  window.workbenchFrame = { select };
})();
