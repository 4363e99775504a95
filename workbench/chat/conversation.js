// Draws the chat: its turns, and at their end the answer that is being written (from conversations/live.js).
(() => {
  const { list: inWords, t } = window.workbenchLanguage;
  const { make, say, show, set, button, keep, address } = window.workbenchDraw;
  const { create, fill } = window.workbenchMessage;
  let chat = null;  // the one chat of the page

  // Keeps the end in view while text comes, until the reader scrolls up.
  const follow = (scroller, content, toEnd) => {
    let pinned = true, top = 0;
    const gap = () => scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop;
    const stick = () => { if (pinned && !scroller.classList.contains("is-empty")) scroller.scrollTop = scroller.scrollHeight; show(toEnd, !pinned && gap() > 60); };
    const away = () => { if (scroller.scrollHeight > scroller.clientHeight) pinned = false; };
    scroller.addEventListener("scroll", () => {
      if (gap() < 4) pinned = true;
      else if (scroller.scrollTop < top - 1) pinned = false;
      top = scroller.scrollTop;
      show(toEnd, !pinned && gap() > 60);
    });
    scroller.addEventListener("wheel", (event) => { if (event.deltaY < 0) away(); }, { passive: true });
    scroller.addEventListener("touchmove", () => { if (gap() > 4) away(); }, { passive: true });
    scroller.addEventListener("keydown", (event) => { if (["PageUp", "ArrowUp", "Home"].includes(event.key)) away(); });
    const observer = new ResizeObserver(stick);
    observer.observe(scroller);
    observer.observe(content);
    return { toEnd: () => { pinned = true; stick(); } };
  };

  const sample = (item, place, trigger) => {
    const pictures = item.files.map((file) => {
      const node = make(file.kind === "video" ? "video" : "img");
      Object.assign(node, { src: address(file.path), alt: "", muted: true, preload: "metadata" });
      return make("span", file.kind, node);
    });
    const card = button("example", "", () => {
      trigger("example_select", { index: place });
      // The card goes away with its welcome. A phone would open its keyboard over the answer.
      if (matchMedia("(hover: hover)").matches) document.querySelector("#composer textarea")?.focus();
    });
    card.dataset.kinds = item.files.map((file) => file.kind).join(" ");
    card.append(make("span", "thumbs", ...pictures), make("span", "", item.text));
    return card;
  };

  const NAMES = { image: t("pictures"), video: t("clips"), audio: t("sounds") };
  const STARTERS = [t("Explain what a prefix cache does, in three sentences."), t("What should I ask a small language model?"),
    t("Write four lines about the sea.")];

  // What a toy is, and the way to another model: in the empty chat and under the answers.
  const toyNote = () => {
    const words = make("span"), note = make("p", "toy", words, " ", button("", t("Load another model"), () => window.workbenchFrame.select("models")));
    const offer = ({ toy }) => {
      say(words, toy ? t("This model is a toy. {note}", { note: toy }) : "");
      show(note, Boolean(toy));
    };
    addEventListener("workbench-model", (event) => offer(event.detail));
    offer(window.workbenchHeader.model());
    return note;
  };

  // What the empty chat offers follows what the model takes; until that is known, everything is shown.
  const welcome = (props, trigger) => {
    const title = make("h2"), words = make("p"), examples = make("div", "examples");
    examples.append(...props.cards.map((item, place) => sample(item, place, trigger)), ...STARTERS.map((text) =>
      button("starter", text, () => window.workbenchComposer.write(text))));
    const offer = ({ takes }) => {
      const kinds = (takes ?? ["image", "video"]).map((kind) => NAMES[kind]);
      const sees = takes === null || kinds.length > 0;
      say(title, sees ? t("Show it something") : t("Ask it something"));
      const things = inWords([...kinds, t("documents")]);
      const home = window.workbenchNetwork.isLocal ? t("Everything stays on this machine.")
        : t("What you send goes to the server of this page, and from there to nobody.");
      words.replaceChildren(t("Drop {things} anywhere on this page, paste them, or just ask.", { things }), make("br"), home);
    };
    addEventListener("workbench-model", (event) => offer(event.detail));
    offer(window.workbenchHeader.model());
    return make("div", "welcome", title, words, toyNote(), examples);
  };

  // The pictures of the chat for the lightbox. A picture's receipt is in the answer that follows it.
  const gallery = (list, acts) => [...list.querySelectorAll(".medium.image:not(.is-broken) img")].map((image) => {
    const turn = image.closest(".turn"), name = image.alt;
    const receipt = turn.nextElementSibling?.querySelector(".receipt");
    const rows = receipt ? [...receipt.querySelectorAll(":scope > ol > li")] : [];
    const place = rows.length === 1 ? 0 : rows.findLastIndex((row) => row.firstChild.textContent === name);
    const line = rows.length === 1 ? receipt.firstChild.textContent : rows[place]?.querySelector("p")?.textContent ?? "";
    const seen = async () => (receipt && place >= 0 ? (await window.workbenchReceipts.pictures(receipt.id))[place]?.[0] : null);
    const { at, crop } = image.closest(".medium").dataset, corner = crop ? JSON.parse(crop).slice(0, 2) : [0, 0];
    const ask = (part, value) => acts.send("apply", { index: Number(at), part, value });
    return { image, name, src: image.src, line, seen, corner, ask };
  });

  const view = (element, props, watch, trigger) => {
    const root = element.firstElementChild, empty = welcome(props, trigger), list = make("div", "turns");
    const toEnd = button("icon to-end", "", () => end.toEnd());
    const fresh = button("icon clear", "", () => trigger("clear", {}));
    set(toEnd, "aria-label", t("To the end"));
    set(fresh, "aria-label", t("New chat"));
    set(list, "role", "log");
    set(list, "aria-label", t("Conversation"));
    fresh.append(make("span", "", t("New chat")));
    const earlier = button("quiet earlier", t("Show earlier messages"), () => { earlier.disabled = true; window.workbenchLive.act("expand", {}); });
    const content = make("div", "content", empty, earlier, list, toyNote());
    root.append(content);
    element.append(toEnd, fresh);
    root.tabIndex = 0;
    set(root, "role", "region");
    set(root, "aria-label", t("Chat"));
    const end = follow(root, content, toEnd);
    let turns = [], live = null, conversation = "", first = 0;  // first: the number of the first turn that is shown

    const acts = {
      send: (action, fields) => trigger(action, fields),
      look: (box) => {
        const pictures = gallery(list, acts);
        window.workbenchLightbox.open(pictures, pictures.findIndex((one) => box.contains(one.image)));
      },
    };
    const draw = () => {
      const isLive = live && turns.at(-1)?.role === "user";  // else the whole answer is there already
      const all = [...turns, ...(isLive ? [{ role: "assistant", parts: live, isLive: true }] : [])];
      const last = all.findLastIndex((turn) => turn.role === "user");
      keep(list, all.map((turn, place) => ({ ...turn, key: `${first + place} ${turn.role}`, isLast: place === last })),
        (turn) => create(turn, acts), (node, turn) => fillIfNew(node, turn));
      set(list, "aria-busy", Boolean(isLive));
      show(empty, !all.length);
      show(fresh, all.some((turn) => !turn.isOwn));
      root.classList.toggle("is-empty", !all.length);
    };
    const fillIfNew = (node, turn) => {
      if (node.turn === turn.parts && node.isLast === turn.isLast && !turn.isLive && !node.wasLive) return;
      [node.turn, node.isLast, node.wasLive] = [turn.parts, turn.isLast, Boolean(turn.isLive)];
      fill(node, turn, acts);
    };
    chat = {
      live: (parts) => { live = parts; draw(); },
      own: (value) => { turns = window.workbenchOutgoing.added(turns, value); draw(); end.toEnd(); },
      unsent: () => window.workbenchMessage.unsent(list.lastElementChild),
    };
    const whole = () => {
      const before = turns.length, value = props.value ?? {}, now = value.conversation ?? "";
      const isOther = now !== conversation;
      turns = value.turns ?? [];
      if (isOther && conversation) list.replaceChildren();
      if (isOther || turns.at(-1)?.role !== "user") live = null;
      if (!live && value.live?.length) live = value.live;  // until the page's events say more
      if (!isOther && earlier.disabled) first -= turns.length - before;  // what was shown keeps its place
      conversation = now;
      earlier.disabled = false;
      show(earlier, Boolean(value.has_earlier));
      draw();
      if (isOther || (turns.length > before && turns.at(-1).role === "user")) end.toEnd();
    };
    watch("value", whole);
    whole();
  };

  // parts: of the answer that is being written. value: of the composer, whose message is shown at once.
  window.workbenchChat = { view, live: (parts) => chat?.live(parts), own: (value) => chat?.own(value), unsent: () => chat?.unsent() };
})();
