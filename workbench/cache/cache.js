// Draws the Cache tab from plain values. Text of prompts goes in as textContent, never as HTML.
(() => {
  const { clock, t } = window.workbenchLanguage;
  const { make, say, show, button, sureButton, keep, heading, drawing, steadying } = window.workbenchDraw;

  const legend = (entries) => {
    const key = make("div", "legend");
    for (const [name, text] of entries) {
      const entry = make("span", `entry ${name}`);
      entry.append(make("i", `swatch ${name}`), make("span", "", text));
      key.append(entry);
    }
    return key;
  };

  const picture = (url, name = "") => {
    if (!url) return make("span", `no-picture ${name}`);
    const image = make("img", name);
    image.src = url;
    image.alt = "";
    return image;
  };

  // --- headline numbers

  const totals = (element, props, watch) => {
    const note = make("p", "note"), tiles = make("div", "tiles");
    element.firstElementChild.replaceChildren(note, tiles);
    drawing(element, props, watch, (value) => {
      say(note, value.note);
      keep(tiles, value.tiles, () => {
        const tile = make("div", "tile");
        tile.append(make("h4"), make("strong"), make("p"));
        return tile;
      }, (tile, item) => {
        const [name, number, words] = tile.children;
        say(name, item.name);
        say(number, item.number);
        say(words, item.words);
      });
    });
  };

  // --- the latest prompts

  const FEW = 6;  // lanes shown at first; a button shows all

  const lane = (trigger) => {
    const node = make("div", "lane"), head = make("div", "head"), more = make("div", "more"), sides = make("div", "sides");
    const bar = button("bar", "", () => toggle(node));
    const check = button("check", t("Check"), () => {
      node.dataset.checking = "yes";
      check.disabled = true;
      say(verdict.lastChild, t("Computing it again, with the cache and without…"));
      toggle(node, true);
      trigger("submit", { request: node.dataset.key });
    });
    check.title = t("Compute this request again with the cache and without it, and compare the answers");
    const verdict = make("p", "verdict");
    verdict.append(make("i", "lamp"), make("span"));
    head.append(make("span", "who"), make("span", "words"), check);
    more.append(make("p", "why"), verdict, sides);
    node.append(head, bar, more);
    toggle(node, false);
    return node;
  };

  const toggle = (node, open = !node.classList.contains("open")) => {
    node.classList.toggle("open", open);
    node.children[1].setAttribute("aria-expanded", String(open));
  };

  // The strip of one prompt: its runs of tokens, reused or computed.
  const fillSegments = (bar, segments, pictures) => keep(bar, segments, () => make("span"), (segment, part) => {
    segment.className = `segment ${part.how}${part.medium ? " medium" : ""}`;
    segment.style.flexGrow = part.tokens;
    segment.title = part.title;
    const url = part.medium ? pictures[part.medium] ?? "" : null;
    if (segment.dataset.url !== String(url)) {
      segment.dataset.url = url;
      segment.replaceChildren(url === null ? make("span", "said") : picture(url));
    }
    if (url === null) say(segment.firstChild, part.words);
  });

  const fillLane = (node, item, longest, pictures) => {
    const [head, bar, more] = node.children, [who, words, check] = head.children, [why, verdict, sides] = more.children;
    const time = clock(item.at);
    say(who, [item.source, time, item.ended].filter(Boolean).join(" · "));
    say(words, item.words);
    say(why, item.why);
    bar.setAttribute("aria-label", t("{request}: {words}. Why?", { request: who.textContent, words: item.words }));
    bar.style.width = `${Math.min(100, (100 * item.tokens) / longest)}%`;
    fillSegments(bar, item.segments, pictures);
    show(check, item.checkable);
    check.setAttribute("aria-label", t("Check {request}", { request: who.textContent }));
    const json = JSON.stringify(item.verdict);
    if (item.verdict && node.dataset.verdict !== json) {
      node.dataset.verdict = json;
      delete node.dataset.checking;
      check.disabled = false;
      head.dataset.lamp = verdict.dataset.lamp = item.verdict.lamp;
      say(verdict.lastChild, item.verdict.words);
      sides.replaceChildren(...item.verdict.sides.map((side) => {
        const box = make("div");
        box.append(make("h4", "", side.name), make("p", "text", side.text));
        return box;
      }));
    }
  };

  const strips = (element, props, watch, send) => {
    const steady = steadying(element), trigger = steady.acts(send), lanes = make("div", "lanes"), empty = make("p", "empty");
    const last = button("quiet check-last", t("Check the latest reuse"), () => {
      const check = [...lanes.querySelectorAll(".check")].find((item) => !item.hidden && !item.disabled);
      check?.click();
      check?.closest(".lane").scrollIntoView({ block: "nearest" });
    });
    last.title = t("Compute the latest prompt that reused something again, without the cache, and compare the answers");
    const all = button("quiet all", "", () => all.setAttribute("aria-expanded", String(lanes.classList.toggle("all"))));
    const key = legend([["reused", t("reused")], ["disk", t("reused from disk")], ["computed", t("computed")]]);
    element.firstElementChild.replaceChildren(
      heading(t("Latest prompts"), t("One bar per request, newest first. Click a bar to see why it was not reused further."), key, last),
      steady.note, empty, lanes, all);
    // A lane that fills in changes no place; one more moves all others.
    drawing(element, props, watch, (value) => steady.draw(value.lanes.map((item) => item.key).join(), () => {
      say(empty, value.lanes.length ? "" : value.note || t("No request has ended yet. Ask about a picture in the chat, ask something else about it, then come back: the picture will not have been computed again."));
      const longest = Math.max(1, ...value.lanes.filter((item) => item.ended !== "failed").map((item) => item.tokens));
      keep(lanes, value.lanes, () => lane(trigger), (node, item) => fillLane(node, item, longest, value.pictures));
      show(last, value.lanes.some((item) => item.checkable));
      show(key.querySelector(".disk"), value.lanes.some((item) => item.segments.some((part) => part.how === "disk")));
      show(all, value.lanes.length > FEW);
      say(all, lanes.classList.contains("all") ? t("Show fewer") : t("Show all {count}", { count: value.lanes.length }));
    }));
    all.addEventListener("click", () =>
      say(all, lanes.classList.contains("all") ? t("Show fewer") : t("Show all {count}", { count: lanes.children.length })));
  };

  // --- the blocks

  const STATES = { stored: t("stored"), used: t("in use now"), pinned: t("pinned") };
  const MAX_FREE = 30;  // faint squares for free blocks; above that, their number

  const blocks = (element, props, watch, send) => {
    const steady = steadying(element), trigger = steady.acts(send);
    const act = (action, key = "") => trigger("submit", { action, key });
    const grid = make("div", "grid"), free = make("p", "free-count"), note = make("p", "note"), details = make("div", "details");
    const clear = sureButton("quiet clear", t("Clear"), t("Forget everything?"), () => act("clear"));
    clear.title = t("Forget everything that is stored, except what is pinned or in use");
    const head = heading(t("Stored blocks"), t("A block is a run of tokens that the model has read; one prompt's blocks stand side by side. Click one to see what it holds. When room is needed, the longest unused go first."),
      legend([["stored", t("stored")], ["used", t("in use now")], ["pinned", t("pinned")]]), clear);
    const names = heading(t("Pictures and clips held"), t("A question about one of these does not compute it again. Each can be stored in two ways: with its prompt (KV), and as features, the output of the vision encoder. What is pinned is never removed to make room."));
    const held = make("div", "held");
    element.firstElementChild.replaceChildren(head, steady.note, note, grid, free, details, names, held);

    const open = (block, operator) => {
      const text = make("p", "text"), urls = block.media.map((medium) => block.pictures[medium]);
      block.text.split("▣").forEach((words, place) => {
        if (place) text.append(picture(urls.length === 1 ? urls[0] : urls[place - 1]));
        text.append(words);
      });
      text.tabIndex = 0;  // a long text is scrolled by keys
      const actions = make("div", "actions"), pin = block.pinned ? ["unpin", t("Unpin")] : ["pin", t("Pin")];
      if (operator) actions.append(button("quiet", pin[1], () => act(pin[0], block.key)), sureButton("quiet", t("Drop"), t("Drop it?"), () => act("drop", block.key)));
      actions.append(button("quiet close", t("Close"), () => {
        act("close");
        grid.querySelector('[aria-pressed="true"]')?.focus();
      }));
      return [text, make("ul", "facts"), make("p", "refused"), actions];
    };
    // How long ago it was used changes all the time; the buttons stay, and so does what they have asked.
    const tell = (block) => {
      keep(details.querySelector(".facts"), block.facts.map((fact, place) => ({ key: place, fact })), () => make("li"), (line, item) => say(line, item.fact));
      say(details.querySelector(".refused"), block.notice);
    };

    const cell = (item) => {
      if (!item.readable) return make("span");
      const node = button("", "", () => act(node.getAttribute("aria-pressed") === "true" ? "close" : "open", node.dataset.key));
      return node;
    };

    const card = (operator) => {
      const node = make("div", "card"), look = button("look", "", () => { if (node.dataset.block) act("open", node.dataset.block); });
      look.append(make("span", "frame"));
      const share = (name, title, ending) => {
        const part = make("div", `share ${name}`), facts = make("div"), actions = make("div", "actions");
        facts.append(make("h4", "", title), make("span", "words"), make("span", "hits"));
        const pin = button("quiet", "", () => act(pin.dataset.action + ending, node.dataset.key));
        const drop = sureButton("quiet", t("Drop"), t("Drop it?"), () => act(`drop${ending}`, node.dataset.key));
        if (operator) actions.append(pin, drop);
        part.append(facts, actions);
        return part;
      };
      const shares = make("div", "shares"), film = make("div", "film");
      film.setAttribute("role", "img");
      shares.append(share("kv", t("Prompt"), ""), share("features", t("Features"), "_features"));
      node.append(look, shares, film);
      return node;
    };

    const fillShare = (part, item, name) => {
      const [facts, actions] = part.children, [title, words, hits] = facts.children, pin = actions.firstChild;
      part.classList.toggle("pinned", Boolean(item?.pinned));
      say(words, item ? item.words : t("none held"));
      say(hits, item ? item.hits : "");
      show(actions, Boolean(item));
      if (!pin || !item) return;
      pin.dataset.action = item.pinned ? "unpin" : "pin";
      say(pin, item.pinned ? t("Unpin") : t("Pin"));
      for (const one of [pin, actions.lastChild]) one.setAttribute("aria-label", `${one.textContent}: ${title.textContent}, ${name}`);
    };

    // A clip's frames, from one picture of all of them. Frames with stored features are marked.
    const fillFilm = (film, frames, sheet) => {
      const shown = frames.slice(0, 64), count = frames.filter(Boolean).length;
      show(film, frames.length > 0);
      film.setAttribute("aria-label", t("Features of {count} of {all} frames are held", { count, all: frames.length }));
      const url = sheet ? `url("${sheet}")` : "none";
      if (film.dataset.url !== url) {
        film.dataset.url = url;
        film.style.setProperty("--sheet", url);
        film.style.setProperty("--count", shown.length);
      }
      keep(film, shown.map((here, place) => ({ key: place, here })), () => make("i"), (frame, item) => {
        frame.className = item.here ? "here" : "";
        frame.title = item.here ? t("Frame {number}: its features are held", { number: item.key + 1 }) : t("Frame {number}: not held", { number: item.key + 1 });
        frame.style.setProperty("--place", shown.length > 1 ? item.key / (shown.length - 1) : 0);
      });
    };

    const layout = (value) => [...value.cells.map((item) => item.key), value.open?.key, ...value.media.map((item) => item.medium)].join();
    drawing(element, props, watch, (value) => steady.draw(layout(value), () => {
      say(note, value.note);
      show(clear, value.operator && value.cells.length > 0);
      const room = Array.from({ length: Math.min(value.free, Math.max(6, MAX_FREE - value.cells.length)) },
        (_, place) => ({ key: `free-${place}`, state: "free", fill: 1, title: t("free"), readable: false }));
      keep(grid, [...value.cells, ...room], cell, (node, item) => {
        node.className = `cell ${item.state}${item.opens ? " opens" : ""}`;
        node.title = item.title;
        if (item.readable) {
          node.setAttribute("aria-label", t("Block: {title}, {state}", { title: item.title, state: STATES[item.state] }));
          node.setAttribute("aria-pressed", String(item.key === value.open?.key));
        }
        node.style.setProperty("--fill", item.fill);
        const url = item.medium ? value.pictures[item.medium] ?? "" : "";
        if ((node.dataset.url ?? "") !== url) {
          node.dataset.url = url;
          node.replaceChildren(...(url ? [picture(url)] : []));
        }
      });
      const more = value.free - room.length;
      say(free, more > 0 ? t("{count} more blocks are free.", { count: more }) : "");
      const { facts, notice, ...kept } = value.open ?? {};
      const json = JSON.stringify([value.operator, kept]);
      if (details.dataset.json !== json) {
        const before = details.dataset.key;
        details.dataset.json = json;
        details.dataset.key = value.open?.key ?? "";
        details.replaceChildren(...(value.open ? open(value.open, value.operator) : []));
        if (value.open && before !== value.open.key) details.scrollIntoView({ block: "nearest" });
      }
      if (value.open) tell({ facts, notice: notice ?? "" });
      show(names, value.media.length > 0);
      keep(held, value.media.map((item, place) => ({ ...item, place, key: item.medium })), () => card(value.operator), (node, item) => {
        node.dataset.block = item.block ?? "";
        node.classList.toggle("clip", item.frames.length > 0);
        const [look, shares, film] = node.children, [frame] = look.children;
        look.disabled = !item.block;
        look.setAttribute("aria-label", t("Picture or clip: {words}, {hits}", { words: (item.kv ?? item.features).words, hits: (item.kv ?? item.features).hits }));
        const url = value.pictures[item.medium] ?? "";
        if (!frame.firstChild || frame.dataset.url !== url) {
          frame.dataset.url = url;
          frame.replaceChildren(picture(url));
        }
        const name = item.frames.length ? t("clip {number}", { number: item.place + 1 }) : t("picture {number}", { number: item.place + 1 });
        fillShare(shares.children[0], item.kv, name);
        fillShare(shares.children[1], item.features, name);
        fillFilm(film, item.frames, value.sheets[item.medium]);
      });
    }));
  };

  // --- the last five minutes

  const plot = () => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 100 60");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    return svg;
  };

  const chart = (item) => {
    const node = make("div", `chart ${item.key}`), head = make("div", "head"), frame = make("div", "plot"), axis = make("div", "axis");
    const svg = plot();
    head.append(make("h4", "", item.name), make("strong"));
    axis.append(make("span"), make("span", "", "0"));
    frame.append(axis, svg);
    const times = make("div", "times");
    times.append(make("span", "", t("5 min ago")), make("span", "", t("now")));
    node.append(head, frame, times);
    const named = item.areas.filter((area) => area.name).reverse();
    if (named.length) node.append(legend(named.map((area) => [area.key, area.name])));
    return node;
  };

  const charts = (element, props, watch) => {
    const all = make("div", "all-charts");
    element.firstElementChild.replaceChildren(heading(t("Over time"), t("The last five minutes, as far as a page was open.")), all);
    drawing(element, props, watch, (value) => keep(all, value.charts, chart, (node, item) => {
      const [head, frame] = node.children, [axis, svg] = frame.children;
      say(head.lastChild, item.now);
      say(axis.firstChild, item.top);
      item.areas.forEach((area, place) => {
        const shape = svg.children[place] ?? svg.appendChild(document.createElementNS(svg.namespaceURI, "polygon"));
        shape.setAttribute("class", area.key);
        shape.setAttribute("points", area.points);
        if (area.name) say(node.querySelector(`.entry.${area.key}`).lastChild, `${area.name} ${area.now}`);
      });
    }));
  };

  // --- from an answer's "41 from cache" in the chat to its strip

  const reveal = (lane) => {
    if (getComputedStyle(lane).display === "none") document.querySelector("#cache .all").click();
    toggle(lane, true);
    lane.scrollIntoView({ block: "center" });
    lane.children[1].focus({ preventScroll: true });
  };

  const follow = (key, tries = 50) => {
    const lane = document.querySelector(`#cache .lane[data-key="${CSS.escape(key)}"]`);
    if (lane && document.querySelector("#cache").offsetParent) return reveal(lane);
    if (tries) setTimeout(follow, 100, key, tries - 1);  // the tab is filled by its first tick
  };

  addEventListener("click", (event) => {
    const link = event.target.closest?.("#chat .note a");
    if (!link?.hash.startsWith("#strip-")) return;
    event.preventDefault();
    event.stopPropagation();
    window.workbenchFrame.select("cache");
    follow(decodeURIComponent(link.hash.slice("#strip-".length)));
  }, true);

  window.workbenchCache = { fillSegments, totals, strips, blocks, charts };
})();
