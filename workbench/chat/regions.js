// The boxes and points of an answer, drawn over the pictures of its receipt.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, button, copy } = window.workbenchDraw;
  const COLOURS = 6;
  const LABEL = 18; // a label's height in a small picture, as a share of it in percent

  const words = (region) => [region.label, `[${region.pixels.join(", ")}]`].filter(Boolean).join(" ");

  // Which side of its mark a label stands at: above and from the left, but where it would leave the picture.
  const beside = (left, top, height) => {
    const down = top > LABEL ? "" : top + height < 100 - LABEL ? "below" : "within";
    return [down, left > 50 ? "from-right" : ""].filter(Boolean).join(" ");
  };

  // Over a frame, which holds an image of the whole picture: shares of the one are shares of the other.
  const mark = (region, place) => {
    const node = button(`region ${region.kind} colour-${place % COLOURS}`, "", () => copied(node, JSON.stringify(region.pixels)));
    const [left, top, width, height] = region.share;
    Object.assign(node.style, { left: `${left}%`, top: `${top}%`, width: `${width}%`, height: `${height}%` });
    node.title = t("{words} (pixels of the picture that was sent; click to copy)", { words: words(region) });
    node.setAttribute("aria-label", t("Copy {words}", { words: words(region) }));
    if (region.label) node.append(make("span", beside(left, top, height), region.label));
    return node;
  };

  const copied = async (node, text) => {
    await copy(text);
    node.classList.add("copied");
    setTimeout(() => node.classList.remove("copied"), 1200);
  };

  const draw = (frame, regions, slot) => {
    frame.classList.toggle("has-regions", regions.length > 0);
    regions.forEach((region, place) => { if (region.places.includes(slot)) frame.append(mark(region, place)); });
  };

  // All of them, to take away.
  const list = (regions) => {
    const all = regions.map(({ kind, label, pixels }) => ({ kind, label, pixels }));
    const node = make("div", "regions", `${tn("{count} place in the answer", "{count} places in the answer", regions.length)} · `);
    node.append(button("link", t("Copy as JSON"), (event) => copied(event.currentTarget, JSON.stringify(all, null, 2))));
    return node;
  };

  window.workbenchRegions = { draw, list };
})();
