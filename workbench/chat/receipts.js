// The receipt under an answer: what became of each picture, clip and sound. Its pictures are fetched when it is opened.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, keep } = window.workbenchDraw;
  const waiting = new Map();  // request -> those who wait for its pictures
  let send = () => {};

  // The pictures as the model saw them: a list of addresses for each medium of a request. Rejects with the reason.
  const pictures = (request) => new Promise((resolve, reject) => {
    const others = waiting.get(request);
    if (others) return others.push([resolve, reject]);
    waiting.set(request, [[resolve, reject]]);
    send(request);
  });

  const fill = async (node, fetched) => {
    try {
      const media = await fetched(node.id);
      [...node.querySelectorAll(":scope > ol > li")].forEach((row, place) => {
        [...row.querySelectorAll(".frames > li > span")].forEach((frame, slot) => {
          const url = media[place]?.[slot];
          frame.replaceChildren(url ? Object.assign(make("img"), { src: url, alt: t("As the model saw it") }) : make("i"));
          if (url) window.workbenchRegions.draw(frame, row.regions, slot);
        });
      });
    } catch (error) {
      node.title = error.message;
    }
  };

  const item = () => make("li", "", make("h4"), make("ol", "frames"), make("p"), make("ul"));

  const fillItem = (node, value) => {
    const [name, frames, line, facts] = node.children;
    node.regions = value.regions;
    if (value.regions.length && !node.querySelector(".regions")) frames.after(window.workbenchRegions.list(value.regions));
    say(name, value.name);
    say(line, value.line);
    name.hidden = !value.name;
    line.hidden = !value.line;
    if (!value.line) line.remove();  // a single medium is told by the summary alone
    keep(frames, value.places.map((time, place) => ({ key: place, time })), () => make("li", "", make("span"), make("small")),
      (place, one) => say(place.lastChild, one.time));
    keep(facts, value.facts.map((text, place) => ({ key: place, text })),
      (fact) => make("li", fact.key === value.facts.length - 1 ? "hash" : ""), (fact, one) => say(fact, one.text));
  };

  // fetched: gives the pictures, where they are not of a conversation.
  const draw = (request, value, fetched = pictures) => {
    const node = make("details", "receipt", make("summary", "", value.summary), make("ol"));
    node.id = request;
    node.open = value.items.some((one) => one.regions.length);
    let isAsked = !node.open;  // who opened it wants to see it; what opens by itself moves nothing
    keep(node.lastChild, value.items.map((one, place) => ({ ...one, key: place })), item, fillItem);
    node.addEventListener("toggle", () => {
      if (!node.open) return;
      if (!node.querySelector("img")) fill(node, fetched);
      if (isAsked) requestAnimationFrame(() => node.scrollIntoView({ block: "nearest" }));
      isAsked = true;
    });
    return node;
  };

  const seen = (props, watch, trigger) => {
    let turn = 0;  // makes each reply another value, so that a second one for the same receipt is seen too
    send = (request) => trigger("submit", { receipt: request, turn: ++turn });
    watch("value", () => {
      const { receipt, media, error } = props.value ?? {};
      const others = waiting.get(receipt) ?? [];
      waiting.delete(receipt);
      for (const [resolve, reject] of others) if (media) resolve(media); else reject(new Error(error));
    });
  };

  window.workbenchReceipts = { draw, pictures, seen };
})();
