// Functions that draw plain values as elements. Text goes in as textContent, never as HTML.
// Elements are matched by key, so that a drawing that is updated keeps its focus, its scroll and what is open.
(() => {
  const { t } = window.workbenchLanguage;
  // An element of a class with texts and elements inside; empty ones are left out.
  const make = (tag, name = "", ...inside) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...inside.filter(Boolean));
    return node;
  };

  const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  const set = (node, name, value) => { if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value); };

  const show = (node, visible) => { if (node.hidden === visible) node.hidden = !visible; };

  const button = (name, text, press) => {
    const node = make("button", name, text);
    node.type = "button";
    node.addEventListener("click", press);
    return node;
  };

  // Makes the children of parent one for each item: existing ones are moved, missing ones created, others removed.
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

  // Draws now and whenever the value changes. The element is hidden until the first value arrives. A refusal in the
  // value ({words, serial}) is said once.
  const drawing = (element, props, watch, draw) => {
    element.classList.add("undrawn");
    let said = 0;
    const again = () => {
      if (!props.value || typeof props.value !== "object") return;
      draw(props.value);
      element.classList.remove("undrawn");
      const { words, serial } = props.value.refusal ?? {};
      if (serial && serial !== said) window.workbenchList?.say(words);
      said = serial ?? said;
    };
    watch("value", again);
    again();
  };

  // What scrolls sideways says at which of its edges there is more: data-before, data-after. inside: what may grow.
  const markEdges = (node, inside = node) => {
    const look = () => {
      node.toggleAttribute("data-before", node.scrollLeft > 1);
      node.toggleAttribute("data-after", node.scrollLeft < node.scrollWidth - node.clientWidth - 1);
    };
    node.addEventListener("scroll", look, { passive: true });
    const sizes = new ResizeObserver(look);
    for (const one of new Set([node, inside])) sizes.observe(one);
  };

  const ACT_MS = 3000;

  // Keeps a drawing as it is while a mouse is over it, if the next one would move what is under the mouse: who is about
  // to click must hit what they saw. What the person does here themselves (acts) is drawn at once.
  const steadying = (element) => {
    let isOver = false, until = 0, layout = null, waiting = null;
    const note = make("span", "later", t("Newer ones are shown when the pointer leaves."));
    note.setAttribute("role", "status");
    note.hidden = true;
    const rest = () => {
      const draw = waiting;
      waiting = null;
      show(note, false);
      draw?.();
    };
    element.addEventListener("pointerenter", (event) => { isOver = event.pointerType === "mouse"; });
    element.addEventListener("pointerleave", () => { isOver = false; rest(); });
    return {
      note,
      acts: (trigger) => (...what) => { until = performance.now() + ACT_MS; trigger(...what); },
      // wanted: what stands where in this drawing, as a text.
      draw: (wanted, draw) => {
        const drawNow = () => { layout = wanted; draw(); };
        if (isOver && layout !== null && wanted !== layout && performance.now() > until) {
          waiting = drawNow;
          show(note, true);
        } else {
          waiting = null;
          show(note, false);
          drawNow();
        }
      },
    };
  };

  // The arrow keys, Home and End lead from the one of these elements that has the focus to another, which gets it.
  // Returns that one; null where the key leads nowhere.
  const stepAmong = (all, event) => {
    const at = all.indexOf(document.activeElement);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined || at < 0) return null;
    event.preventDefault();
    all[to]?.focus();
    return all[to] ?? null;
  };

  // Saves a file through the browser's downloads.
  const save = (name, blob) => {
    const link = make("a"), url = URL.createObjectURL(blob);
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };

  // A button that asks once more, in its own words, before it does what cannot be undone.
  const sureButton = (name, text, question, press) => {
    let timer = 0;
    const rest = () => { clearTimeout(timer); timer = 0; say(node, text); };
    const node = button(name, text, () => {
      if (timer) { rest(); press(); return; }
      say(node, question);
      timer = setTimeout(rest, 4000);
    });
    return node;
  };

  // Where a file of the upload folder is served.
  const address = (path) => {
    const root = (window.gradio_config?.root ?? "").replace(/\/$/, "");
    return `${root}/gradio_api/file=${path.split("/").map(encodeURIComponent).join("/")}`;
  };

  // Copies text. navigator.clipboard is missing on pages of the local network, which are not served over https.
  const copy = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = Object.assign(make("textarea", "copied"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };

  // A button that copies what text() gives, and says so for a moment.
  const copyButton = (name, label, text) => {
    const node = button(name, "", async () => {
      await copy(text());
      node.classList.add("done");
      setTimeout(() => node.classList.remove("done"), 1500);
    });
    set(node, "aria-label", label);
    node.title = label;
    return node;
  };

  window.workbenchDraw = { make, say, set, show, button, sureButton, keep, heading, drawing, steadying, stepAmong, markEdges, save, address, copy, copyButton };
})();
