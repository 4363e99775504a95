// What drawings from plain values are made with. Words go in as textContent, never as HTML.
// Elements are kept by key, so that a drawing that is sent again keeps its focus, its scroll and what is open.
(() => {
  const make = (tag, name = "", text = "") => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text) node.textContent = text;
    return node;
  };

  const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  const set = (node, name, value) => { if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value); };

  const show = (node, wanted) => { if (node.hidden === wanted) node.hidden = !wanted; };

  const button = (name, text, press) => {
    const node = make("button", name, text);
    node.type = "button";
    node.addEventListener("click", press);
    return node;
  };

  // The children of parent become one per item: old ones are moved, new ones created, the rest removed.
  const keep = (parent, items, create, update) => {
    const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
    items.forEach((item, place) => {
      const key = String(item.key ?? place);
      const node = old.get(key) ?? create(item);
      old.delete(key);
      node.dataset.key = key;
      if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
      update(node, item);
    });
    for (const node of old.values()) node.remove();
  };

  const heading = (title, words, ...rest) => {
    const head = make("div", "section-head"), names = make("div");
    names.append(make("h3", "", title), make("p", "", words));
    head.append(names, ...rest);
    return head;
  };

  // Draws now and whenever the value changes; nothing is shown before the first value has come.
  const drawing = (element, props, watch, draw) => {
    element.classList.add("undrawn");
    const again = () => {
      if (!props.value || typeof props.value !== "object") return;
      draw(props.value);
      element.classList.remove("undrawn");
    };
    watch("value", again);
    again();
  };

  // Gives a file to the browser's downloads.
  const save = (name, blob) => {
    const link = make("a"), url = URL.createObjectURL(blob);
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };

  window.workbenchDraw = { make, say, set, show, button, keep, heading, drawing, save };
})();
