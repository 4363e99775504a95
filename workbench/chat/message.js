// One turn of the chat as elements. What the user wrote is shown as typed; what the model wrote is made of trees (rich.js).
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button, keep, address, copyButton } = window.workbenchDraw;
  const { render } = window.workbenchRich;
  const { durationWords } = window.workbenchWords;
  const FOLD_CHARS = 1200, FOLD_LINES = 14;

  const icon = (name, label, press) => {
    const node = button(`icon ${name}`, "", press);
    set(node, "aria-label", label);
    node.title = label;
    return node;
  };

  // Arrows between the versions of a message: ‹ 2/3 ›.
  const arrows = ({ turn }) => {
    const step = (by) => window.workbenchLive.act("select", { turn, step: by });
    const back = button("", "‹", () => step(-1)), on = button("", "›", () => step(1));
    set(back, "aria-label", t("Version before"));
    set(on, "aria-label", t("Version after"));
    return make("div", "branches", back, make("span"), on);
  };

  const fillArrows = (box, line) => {
    const [back, words, on] = box.children;
    say(words, `${line.place}/${line.of}`);
    back.disabled = line.place === 1;
    on.disabled = line.place === line.of;
  };

  const fillBranches = (box, branches = []) =>
    keep(box, branches.map((line) => ({ ...line, key: line.turn })), arrows, fillArrows);

  // --- what the user sent

  const names = {
    image: (part, open) => {
      const image = Object.assign(make("img"), { alt: part.name, draggable: false });
      const box = button("picture", "", open);
      set(box, "aria-label", t("Look at {name}", { name: part.name }));
      image.addEventListener("error", () => box.replaceWith(card(part)));  // a kind that this browser does not show
      const src = address(part.path);
      if (part.crop) window.workbenchCrop.cut(src, part.crop).then((url) => { image.src = url; }, () => box.replaceWith(card(part)));
      else image.src = src;
      box.append(image);
      return box;
    },
    video: (part) => {
      const film = window.workbenchFrames.film(part, address(part.path));
      film.firstChild.addEventListener("error", () => film.replaceWith(card(part, t("This browser cannot play it."))));
      return film;
    },
    audio: (part) => {
      const sound = Object.assign(make("audio"), { src: address(part.path), controls: true, preload: "metadata" });
      set(sound, "aria-label", part.name);
      return sound;
    },
    document: (part) => card(part),
  };

  const card = (part, words = "") => make("span", "card", make("b", "", part.name.split(".").pop().toUpperCase()), make("span", "", words));

  const captionOf = ({ name, crop }) => {
    if (!crop) return name;
    const [x, y, width, height] = crop;
    return t("{name}, {width} × {height} at {x}, {y}", { name, width, height, x, y });
  };

  const medium = (part, acts) => {
    const box = make("figure", `message user medium ${part.kind}`);
    box.dataset.testid = "user";
    box.dataset.at = part.at;
    const why = make("span", "why"), out = button("quiet", t("Take it out"), () => acts.send("delete", { index: Number(box.dataset.at) }));
    if (part.crop) box.dataset.crop = JSON.stringify(part.crop);
    box.append(names[part.kind](part, () => acts.look(box)), make("figcaption", "", captionOf(part)), make("div", "broken", why, out));
    return box;
  };

  const fillMedium = (box, part) => {
    box.dataset.at = part.at;
    box.classList.toggle("is-broken", Boolean(part.broken));
    const broken = box.lastChild, film = box.querySelector(".film");
    if (film) window.workbenchFrames.fill(film, part);
    show(broken, Boolean(part.broken));
    if (part.broken) say(broken.firstChild, t("Left out: {reason}", { reason: part.broken }));
  };

  // Words as typed; long ones are folded.
  const words = (acts) => {
    const box = make("div", "message user words"), text = make("div", "text");
    const more = button("quiet fold", "", () => fold(box, !box.classList.contains("folded")));
    box.dataset.testid = "user";
    box.append(text, more);
    box.acts = acts;
    return box;
  };

  const fold = (box, folded) => {
    box.classList.toggle("folded", folded);
    say(box.lastChild, folded ? t("Show all") : t("Show less"));
    set(box.lastChild, "aria-expanded", !folded);
  };

  const fillWords = (box, part) => {
    box.dataset.at = part.at;
    const [text, more] = box.children;
    if (text.textContent === part.text) return;
    text.textContent = part.text;
    const isLong = part.text.length > FOLD_CHARS || part.text.split("\n").length > FOLD_LINES;
    show(more, isLong);
    fold(box, isLong);
  };

  // A field in place of a text, until its change is sent or given up.
  const editor = (text, label, send, leave) => {
    const area = Object.assign(make("textarea"), { value: text }), box = make("div", "editor");
    const out = () => { box.remove(); leave(); };
    const done = () => { out(); send(area.value); };
    set(area, "aria-label", label);
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); done(); }
      if (event.key === "Escape") { event.preventDefault(); event.stopPropagation(); out(); }
    });
    box.append(area, make("div", "row", button("quiet", t("Cancel"), out), button("primary", t("Send"), done)));
    return { box, focus: () => { area.focus(); area.setSelectionRange(text.length, text.length); } };
  };

  const edit = (turn, acts) => {
    const box = turn.querySelector(".words");
    const { box: field, focus } = editor(box.firstChild.textContent, t("Edit the message"),
      (value) => acts.send("edit", { index: Number(box.dataset.at), value }), () => turn.classList.remove("edited"));
    turn.classList.add("edited");
    box.before(field);
    focus();
  };

  const user = (acts) => {
    const turn = make("div", "turn user"), media = make("div", "media"), texts = make("div", "texts"), actions = make("div", "actions");
    actions.append(copyButton("icon copy", t("Copy message"), () => [...texts.querySelectorAll(".text")].map((one) => one.textContent).join("\n")),
      icon("edit", t("Edit"), () => edit(turn, acts)),
      icon("undo", t("Undo"), () => acts.send("undo", { index: turn.last })));
    actions.lastChild.title = t("Take the message back into the composer");
    actions.append(make("div", "versions"));
    turn.append(media, texts, actions);
    return turn;
  };

  const fillUser = (turn, item, acts) => {
    const [media, texts, actions] = turn.children, [copy, change, undo, versions] = actions.children;
    const parts = item.parts.filter((part) => part.kind !== "text"), spoken = item.parts.filter((part) => part.kind === "text");
    keep(media, parts.map((part) => ({ ...part, key: `${part.kind} ${part.path} ${part.crop ?? ""}` })), (part) => medium(part, acts), fillMedium);
    keep(texts, spoken.map((part, place) => ({ ...part, key: place })), () => words(acts), fillWords);
    turn.last = item.parts.at(-1).at;
    turn.classList.toggle("own", Boolean(item.isOwn));
    turn.querySelector(".unsent")?.remove();
    media.dataset.count = parts.length;
    show(copy, spoken.length > 0);
    show(change, spoken.length === 1);
    show(undo, Boolean(item.isLast));
    fillBranches(versions, item.branches);
  };

  // The server did not take it: said below the message.
  const unsent = (turn) => {
    const words = make("span", "", t("Not sent: the server had an error; its log says which."));
    const back = button("quiet", t("Take the message back into the composer"), () => window.workbenchLive.act("undo", {}));
    const line = make("div", "unsent", words, back);
    set(line, "role", "alert");
    turn.append(line);
  };

  // --- what the model wrote

  const thought = () => {
    const box = make("details", "thought", make("summary"), make("div", "text"));
    box.open = true;
    return box;
  };

  const fillThought = (box, part) => {
    const isOver = part.duration_s !== null || !part.isLive;  // of one that was brought from elsewhere it is not known
    const words = part.duration_s === null ? t("Thought") : t("Thought for {time}", { time: durationWords(part.duration_s) });
    say(box.firstChild, isOver ? words : t("Thinking…"));
    say(box.lastChild, part.text);
    if (isOver && !box.dataset.over) box.open = false;
    box.dataset.over = isOver ? "yes" : "";
    if (box.open && !isOver) box.lastChild.scrollTop = box.lastChild.scrollHeight;
  };

  const answer = () => {
    const box = make("div", "message bot answer", make("div", "prose-like"));
    box.dataset.testid = "bot";
    return box;
  };

  const fillAnswer = (box, part) => {
    box.source = part.text;
    keep(box.firstChild, part.blocks.map((tree, key) => ({ key, tree })), () => make("div", "block"), (node, { tree }) => {
      const json = JSON.stringify(tree);
      if (node.json === json) return;
      node.json = json;
      node.replaceChildren(render(tree));
    });
  };

  // What another model said about the media: its words as they are, never as markup. They can be changed, and the
  // message sent again with them.
  const described = ({ summary, items }, acts) => {
    const list = make("ol"), steps = make("details", "described", make("summary", "", summary), list);
    for (const one of items) {
      const said = make("p", "said", one.text), row = make("li", "", make("h4", "", one.name), said, make("p", "", one.line));
      const change = button("quiet", t("Edit and send again"), () => {
        const send = (value) => acts.send("edit", { index: steps.first + one.edits, value, described: true });
        const { box, focus } = editor(one.text, t("Edit what was said about {name}", { name: one.name }), send, () => row.classList.remove("edited"));
        row.classList.add("edited");
        said.before(box);
        focus();
      });
      if (one.edits !== null && acts.send) row.append(change);
      list.append(row);
    }
    return steps;
  };

  const note = () => {
    const box = make("div", "message bot told", make("div"));
    box.dataset.testid = "bot";
    return box;
  };

  const fillNote = (box, part, acts) => {
    const line = box.lastChild, [first, cached, rest] = part.words;
    line.className = `note note-${part.kind}`;
    if (line.textContent !== part.words.join("")) {
      const link = cached && Object.assign(make("a", "", cached), { href: `#strip-${encodeURIComponent(part.request)}` });
      line.replaceChildren(...[first, link, rest].filter(Boolean));
    }
    if (part.described && !box.querySelector(".described")) line.before(described(part.described, acts));
    if (part.described) box.querySelector(".described").first = part.first;  // it moves when earlier messages come in
    if (part.receipt && !box.querySelector(".receipt")) line.before(window.workbenchReceipts.draw(part.request, part.receipt, acts.pictures));
  };

  const PARTS = { text: [answer, fillAnswer], reasoning: [thought, fillThought] };

  // The parts of an answer, in the order in which they stand.
  const fillParts = (box, item, acts) =>
    keep(box, item.parts.map((part) => ({ ...part, first: item.parts[0].at, isLive: item.isLive, key: ["text", "reasoning"].includes(part.kind) ? part.kind : "note" })),
      (part) => (PARTS[part.kind] ?? [note])[0](), (node, part) => (PARTS[part.kind] ?? [null, fillNote])[1](node, part, acts));

  const bot = (acts) => {
    const turn = make("div", "turn bot"), parts = make("div", "parts"), actions = make("div", "actions");
    actions.append(copyButton("icon copy", t("Copy answer"), () => turn.querySelector(".answer")?.source ?? ""),
      icon("retry", t("Retry"), () => acts.send("retry", { index: turn.first })));
    actions.lastChild.title = t("Answer again");
    const goOn = button("quiet go-on", t("Continue"), () => { goOn.disabled = true; acts.send("submit", { index: turn.first, num_parts: turn.numParts }); });
    goOn.title = t("Go on with this answer");
    const likely = icon("likely", t("Token probabilities"), () => showTokens(turn, likely.getAttribute("aria-pressed") !== "true"));
    actions.append(likely, goOn, make("div", "versions"));
    turn.append(parts, actions);
    return turn;
  };

  // isOn: the answer is shown as its tokens. What was asked last counts, whichever reply comes first.
  const showTokens = async (turn, isOn) => {
    const asked = turn.asked = (turn.asked ?? 0) + 1;
    const box = turn.querySelector(".answer"), { outline } = window.workbenchLive.here();
    if (!isOn && box) window.workbenchProbabilities.close(box);
    const isShown = isOn && box !== null && await window.workbenchProbabilities.open(box, outline[turn.first]?.turn);
    if (turn.asked === asked) set(turn.querySelector(".likely"), "aria-pressed", isShown);
  };

  const fillBot = (turn, item, acts) => {
    const [parts, actions] = turn.children;
    fillParts(parts, item, acts);
    turn.first = item.parts[0].at;
    turn.classList.toggle("writing", Boolean(item.isLive));
    show(actions, !item.isLive);
    const goOn = actions.querySelector(".go-on"), text = parts.querySelector(".answer")?.source ?? "";
    show(actions.querySelector(".likely"), Boolean(item.parts.at(-1).has_tokens));
    if (turn.shown !== text) showTokens(turn, false);  // what is shown as tokens was another text
    turn.shown = text;
    turn.numParts = item.parts.at(-1).num_parts ?? 0;
    goOn.disabled = false;
    show(goOn, turn.numParts > 0);
    fillBranches(actions.lastChild, item.branches);
    show(actions.firstChild, item.parts.some((part) => part.kind === "text"));
  };

  window.workbenchMessage = {
    create: (item, acts) => (item.role === "user" ? user(acts) : bot(acts)),
    fillParts,
    unsent,
    fill: (turn, item, acts) => (item.role === "user" ? fillUser(turn, item, acts) : fillBot(turn, item, acts)),
  };
})();
