// The frame of the page: one line of header where it fits, two where not; and the tab in the address.
(() => {
  const OTHERS_PX = 560;  // brand, a model's name and the buttons, beside the tabs (static/tabs.css)
  const neededPx = () => OTHERS_PX + parseFloat(getComputedStyle(document.body).getPropertyValue("--tabs"));

  // The settings panel takes its room from the header too, so its own width decides, not the window's.
  const watchWidth = (header) => new ResizeObserver(([entry]) =>
    document.body.classList.toggle("narrow", entry.contentRect.width < neededPx())).observe(header);

  // --- tabs: chat is the address itself, the others are ?tab=name

  const tabs = () => [...document.querySelectorAll('#tabs .tab-container:not(.visually-hidden) [role="tab"]')];
  const nameOf = (tab) => tab.id.replace(/^tab-|-button$/g, "");  // its elem_id: its words are in the reader's language
  const wanted = () => new URL(location.href).searchParams.get("tab") ?? "chat";
  const selected = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true");
  const select = (name) => {
    const tab = tabs().find((one) => nameOf(one) === name);
    if (tab && tab !== selected() && getComputedStyle(tab).display !== "none") tab.click();
  };

  // The current tab is in sight, also where not all of them fit; so is one that the keyboard leads to. A press of the
  // pointer moves nothing: it would be let go over another tab.
  const reveal = (tab = selected()) => {
    const bar = tab?.parentElement;
    if (bar) bar.scrollLeft = tab.offsetLeft - (bar.clientWidth - tab.offsetWidth) / 2;
  };

  const watchBar = (bar) => {
    bar.addEventListener("focusin", ({ target }) => { if (target.matches(":focus-visible")) reveal(target); });
    new ResizeObserver(() => reveal()).observe(bar);
    window.workbenchDraw.markEdges(bar);
  };

  const remember = () => {
    const tab = selected();
    reveal();
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
    watchBar(selected().parentElement);
    select(wanted());
    new MutationObserver(remember).observe(bar, { attributes: true, attributeFilter: ["aria-selected"], subtree: true });
  };
  begin();

  window.workbenchFrame = { select };
})();
