// Draws the Cache tab from plain values. Words of prompts go in as textContent, never as HTML.
// Elements are kept by key, so that a drawing that is sent again keeps its focus, its scroll and what is open.
(() => {
  const make = (tag, name = "", text = "") => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text) node.textContent = text;
    return node;
  };

  const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };

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

  const heading = (title, words, legend = []) => {
    const head = make("div", "section-head");
    const names = make("div");
    names.append(make("h3", "", title), make("p", "", words));
    const key = make("div", "legend");
    for (const [name, text] of legend) {
      const entry = make("span");
      entry.append(make("i", `swatch ${name}`), text);
      key.append(entry);
    }
    head.append(names, key);
    return head;
  };

  // Draws now and whenever the value changes; nothing before the first value has come.
  const drawing = (props, watch, draw) => {
    const again = () => { if (props.value && typeof props.value === "object") draw(props.value); };
    watch("value", again);
    again();
  };

  const picture = (url, name = "") => {
    if (!url) return make("span", `no-picture ${name}`);
    const image = make("img", name);
    image.src = url;
    image.alt = "";
    return image;
  };

  // --- headline numbers, each with its last five minutes

  const chart = () => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 100 28");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    return svg;
  };

  const plot = (svg, lines) => {
    while (svg.children.length > lines.length) svg.lastChild.remove();
    lines.forEach((points, place) => {
      const line = svg.children[place] ?? svg.appendChild(document.createElementNS(svg.namespaceURI, "polyline"));
      line.setAttribute("points", points);
    });
  };

  const totals = (element, props, watch) => {
    const root = element.firstElementChild;
    const note = make("p", "note"), tiles = make("div", "tiles");
    const intro = make("p", "intro", "What the model has read is kept for a while. When another prompt begins the same way, "
      + "that part is not computed again, whether it is words, pictures or clips. The small curves are the last five minutes.");
    root.replaceChildren(intro, note, tiles);
    drawing(props, watch, (value) => {
      say(note, value.note);
      keep(tiles, value.tiles, () => {
        const tile = make("div", "tile");
        tile.append(make("h4"), make("strong"), make("p"), chart());
        return tile;
      }, (tile, item) => {
        const [name, number, words, svg] = tile.children;
        say(name, item.name);
        say(number, item.number);
        say(words, item.words);
        plot(svg, item.lines);
      });
    });
  };

  // --- the latest prompts

  const lane = () => {
    const node = make("div", "lane"), why = make("p", "why");
    const bar = button("bar", "", () => {
      bar.setAttribute("aria-expanded", String(node.classList.toggle("open")));
    });
    bar.setAttribute("aria-expanded", "false");
    bar.append(make("span", "who"), make("span", "words"), make("span", "strip"));
    node.append(bar, why);
    return node;
  };

  const fillLane = (node, item, longest, pictures) => {
    const [bar, why] = node.children, [who, words, strip] = bar.children;
    const time = new Date(item.at * 1000).toLocaleTimeString();
    say(who, [item.source, time, item.ended].filter(Boolean).join(" · "));
    say(words, item.words);
    say(why, item.why);
    strip.style.width = `${Math.max(18, (100 * item.tokens) / longest)}%`;
    keep(strip, item.segments, () => make("span"), (segment, part) => {
      segment.className = `segment ${part.how}${part.medium ? " medium" : ""}`;
      segment.style.flexGrow = part.tokens;
      segment.title = part.title;
      const url = part.medium && pictures[part.medium];
      if (part.medium && segment.dataset.url !== (url ?? "")) {
        segment.dataset.url = url ?? "";
        segment.replaceChildren(picture(url));
      }
    });
  };

  const strips = (element, props, watch) => {
    const root = element.firstElementChild;
    const lanes = make("div", "lanes"), empty = make("p", "empty");
    root.replaceChildren(
      heading("Latest prompts", "One bar per request, newest first, as long as its prompt. Click one to see why it was not reused further.",
        [["reused", "reused"], ["computed", "computed"], ["medium", "picture or clip"]]), empty, lanes);
    drawing(props, watch, (value) => {
      say(empty, value.lanes.length ? "" : value.note || "No request has ended yet. Ask something in the chat, then come back.");
      const longest = Math.max(1, ...value.lanes.map((item) => item.tokens));
      keep(lanes, value.lanes, lane, (node, item) => fillLane(node, item, longest, value.pictures));
    });
  };

  // --- the blocks

  const MAX_FREE = 60;  // faint squares for room that is left; the rest is a number

  const blocks = (element, props, watch, server, trigger) => {
    const root = element.firstElementChild;
    const head = heading("Stored blocks", "A block is a run of up to 64 tokens that the model has read. What belongs to one prompt stands "
      + "side by side; the oldest that nobody uses go first when room is needed.",
      [["stored", "stored"], ["used", "in use now"], ["pinned", "pinned"], ["free", "free"]]);
    const note = make("p", "note"), grid = make("div", "grid"), free = make("p", "free-count");
    const details = make("div", "details"), held = make("div", "held");
    const pictures = heading("Pictures and clips held", "A question about one of these does not have to read it again.");
    const clear = button("clear", "Clear", async () => { await server.clear_cache(null); close(); trigger("submit"); });
    root.replaceChildren(head, note, grid, free, details, pictures, held);
    let chosen = null;

    const close = () => { chosen = null; details.replaceChildren(); mark(); };
    const mark = () => {
      for (const cell of grid.children) cell.setAttribute("aria-pressed", String(cell.dataset.key === chosen));
    };
    const open = async (key) => {
      chosen = key;
      mark();
      const block = await server.read_block(key);
      if (chosen !== key) return;  // another one was clicked meanwhile
      details.replaceChildren(...(block ? shown(block) : [make("p", "", "This block is no longer stored.")]));
      details.scrollIntoView({ block: "nearest" });
    };
    const change = async (action, key) => {
      const done = await server.change_block([action, key]);
      trigger("submit");
      if (done && action === "drop") return close();
      await open(key);
      if (!done) details.append(make("p", "refused", "A running request or a pin holds this block, or one that continues it."));
    };
    const shown = (block) => {
      const text = make("p", "text");
      const urls = block.media.map((medium) => block.pictures[medium]);
      block.text.split("▣").forEach((words, place) => {
        if (place) text.append(picture(urls.length === 1 ? urls[0] : urls[place - 1]));
        text.append(words);
      });
      const actions = make("div", "actions");
      const pin = block.pinned ? ["unpin", "Unpin"] : ["pin", "Pin"];
      actions.append(button("", pin[1], () => change(pin[0], block.key)), button("", "Drop", () => change("drop", block.key)),
        button("close", "Close", close));
      const facts = make("ul", "facts");
      facts.append(...block.facts.map((fact) => make("li", "", fact)));
      return [text, facts, actions];
    };

    drawing(props, watch, (value) => {
      say(note, value.note);
      if (value.operator && !clear.isConnected) head.append(clear);
      const room = Array.from({ length: Math.min(value.free, Math.max(6, MAX_FREE - value.cells.length)) },
        (_, place) => ({ key: `free-${place}`, state: "free", fill: 1, title: "free" }));
      keep(grid, [...value.cells, ...room], (item) => {
        if (item.state === "free" || !value.operator) return make("span");
        const cell = button("", "", () => open(cell.dataset.key));
        return cell;
      }, (cell, item) => {
        cell.className = `cell ${item.state}${item.opens ? " opens" : ""}`;
        cell.title = item.title;
        cell.style.setProperty("--fill", item.fill);
        const url = item.medium ? value.pictures[item.medium] ?? "" : "";
        if ((cell.dataset.url ?? "") !== url) {
          cell.dataset.url = url;
          cell.replaceChildren(...(url ? [picture(url)] : []));
        }
      });
      const more = value.free - room.length;
      say(free, more > 0 ? `and room for ${more.toLocaleString()} more` : "");
      if (chosen && !value.cells.some((item) => item.key === chosen)) close();
      mark();
      pictures.hidden = !value.held.length;
      keep(held, value.held.map((item) => ({ ...item, key: item.medium })), () => {
        const card = button("card", "", () => open(card.dataset.block));
        card.append(make("span", "frame"), make("span", "words"), make("span", "hits"));
        return card;
      }, (card, item) => {
        card.dataset.block = item.block;
        const [frame, words, hits] = card.children;
        if (!frame.firstChild) frame.append(picture(value.pictures[item.medium]));
        say(words, item.words);
        say(hits, item.hits);
      });
    });
  };

  window.workbenchCache = { totals, strips, blocks };
})();
