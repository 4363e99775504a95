// The boxes and points of an answer, drawn over the pictures of its receipt.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, button, copy } = window.workbenchDraw;
  const COLOURS = 6;
  const WIDTH_PX = 400, HEIGHT_PX = 300;  // at most, of a picture with marks
  const BORDER_PX = 2, POINT_PX = -5;  // from a mark's corner, or a point, to where its label is counted from

  const words = (region) => [region.label, `[${region.pixels.join(", ")}]`].filter(Boolean).join(" ");

  // Over a frame, which holds an image of the whole picture: shares of the one are shares of the other.
  const mark = (region, place) => {
    const node = button(`region ${region.kind} colour-${place % COLOURS}`, "", () => copied(node, JSON.stringify(region.pixels)));
    const [left, top, width, height] = region.share;
    node.share = region.share;
    Object.assign(node.style, { left: `${left}%`, top: `${top}%`, width: `${width}%`, height: `${height}%` });
    node.title = t("{words} (pixels of the picture that was sent; click to copy)", { words: words(region) });
    node.setAttribute("aria-label", t("Copy {words}", { words: words(region) }));
    if (region.label) node.append(make("span", "", region.label));
    return node;
  };

  const copied = async (node, text) => {
    await copy(text);
    node.classList.add("copied");
    setTimeout(() => node.classList.remove("copied"), 1200);
  };

  // In pixels of the frame.
  const rectangle = (node, { clientWidth, clientHeight }) => {
    const [left, top, width, height] = node.share.map((share, at) => share * (at % 2 ? clientHeight : clientWidth) / 100);
    return { isPoint: node.classList.contains("point"), left, top, right: left + width, bottom: top + height };
  };

  // The labels stand where none covers another; one without room is seen when its mark is pointed at.
  const arrange = (frame) => {
    const nodes = [...frame.querySelectorAll(".region:has(span)")], marks = nodes.map((node) => rectangle(node, frame));
    const labels = nodes.map(({ firstChild }) => ({ width: firstChild.offsetWidth, height: firstChild.offsetHeight }));
    const size = { width: frame.clientWidth, height: frame.clientHeight };
    window.workbenchLabels.placed(marks, labels, size).forEach((place, at) => {
      const label = nodes[at].firstChild, { left, top, isPoint } = marks[at], origin = isPoint ? POINT_PX : BORDER_PX;
      label.classList.toggle("crowded", !place);
      const x = place?.left ?? Math.max(0, Math.min(left, size.width - labels[at].width)), y = place?.top ?? 0;
      Object.assign(label.style, { left: `${x - left - origin}px`, top: `${y - top - origin}px` });
    });
  };

  const draw = (frame, regions, slot) => {
    frame.classList.toggle("has-regions", regions.length > 0);
    if (!regions.length) return;
    enlarge(frame.querySelector("img"));
    regions.forEach((region, place) => { if (region.places.includes(slot)) frame.append(mark(region, place)); });
    new ResizeObserver(() => arrange(frame)).observe(frame);
  };

  // What a model sees may be a hundred pixels wide, too little to see marks and their labels on.
  const enlarge = (image) => image.decode().then(() => {
    image.style.width = `min(${HEIGHT_PX * image.naturalWidth / image.naturalHeight}px, ${WIDTH_PX}px, 70vw)`;
  }, () => {});

  // All of them, to take away.
  const list = (regions) => {
    const all = regions.map(({ kind, label, pixels }) => ({ kind, label, pixels }));
    const node = make("div", "regions", `${tn("{count} place in the answer", "{count} places in the answer", regions.length)} · `);
    node.append(button("link", t("Copy as JSON"), (event) => copied(event.currentTarget, JSON.stringify(all, null, 2))));
    return node;
  };

  window.workbenchRegions = { draw, list };
})();
