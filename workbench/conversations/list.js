// The list of conversations at the left of the chat: search, folders by day, and what can be done with each.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button, keep } = window.workbenchDraw;
  const live = window.workbenchLive;
  const RELOAD = t("Reload");
  const SEARCH_MS = 120, UNDO_MS = 10_000;
  const KEPT = {
    disk: window.workbenchNetwork.isLocal ? t("Kept on this machine") : t("Kept on the server"),
    memory: t("Not kept: gone when the server ends"),
    tab: t("Not kept: only in this browser tab"),
  };
  const wide = matchMedia("(min-width: 1100px)");

  let root = null, parts = {}, items = [], now_s = 0, hasMore = false, current = "", renaming = "", asked = 0, timer = 0;

  // -- asking the server

  const query = () => parts.search?.value.trim() ?? "";

  const refresh = async (offset = 0) => {
    if (!root) return;
    const turn = ++asked;
    try {
      const response = await live.ask(`conversations?q=${encodeURIComponent(query())}&offset=${offset}`);
      if (!response.ok || turn !== asked) return;
      const reply = await response.json();
      items = offset ? [...items, ...reply.conversations] : reply.conversations;
      ({ now_s, has_more: hasMore } = reply);
      draw();
    } catch { /* the network is away; the list is asked for again when it is back */ }
  };

  const change = async (path, method, body) => {
    try {
      const response = await live.ask(path, { method, ...(body ? { body: JSON.stringify(body) } : {}) });
      if (response.ok) return true;
      tell((await response.json()).error?.message ?? t("That did not work."));
    } catch {
      tell(t("The server cannot be reached."));
    }
    return false;
  };

  // -- what is done with a conversation

  const pin = (item) => change(`conversations/${item.id}`, "PATCH", { is_pinned: !item.is_pinned });

  const remove = async (item) => {
    live.removing(item.id);
    const isGone = await change(`conversations/${item.id}`, "DELETE");
    if (isGone && item.id === current) live.open("", "switch");
    live.removing("");
    if (!isGone) return;
    tell(t("Deleted “{title}”.", { title: short(item.title) }), t("Undo"), async () => {
      if (await change(`conversations/${item.id}/restore`, "POST")) live.open(item.id, "switch");
    });
  };

  const short = (title) => (title.length > 40 ? `${title.slice(0, 39)}…` : title || t("Untitled"));

  const rename = (item) => { renaming = item.id; draw(); parts.folders.querySelector(".item input")?.select(); };

  const renamed = async (item, title) => {
    renaming = "";
    if (title !== null && title !== item.title) {
      item.title = title;
      draw();
      await change(`conversations/${item.id}`, "PATCH", { title });
    } else draw();
  };

  const take = (item, suffix) => {
    const link = make("a");
    link.href = live.link(`conversations/${item.id}/export.${suffix}`);
    link.download = "";
    link.click();
  };

  const print = (item) => {
    const page = window.open(live.link(`conversations/${item.id}/print`), "_blank");
    page?.addEventListener("load", () => page.print());
  };

  const bring = async (file) => {
    try {
      const response = await live.ask(`import?name=${encodeURIComponent(file.name)}`, {
        method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" },
      });
      const reply = await response.json();
      if (response.ok) live.open(reply.id, "switch");
      else tell(reply.error?.message ?? t("The file cannot be read."));
    } catch {
      tell(t("The server cannot be reached."));
    }
  };

  // -- the menu of one conversation

  const openMenu = (item, opener) => {
    closeMenu();
    const entries = [
      [t("Rename"), () => rename(item)],
      [item.is_pinned ? t("Unpin") : t("Pin"), () => pin(item)],
      [t("Export as Markdown"), () => take(item, "md")],
      [t("Export as JSON"), () => take(item, "json")],
      [t("Export with media (zip)"), () => take(item, "zip")],
      [t("Print"), () => print(item)],
      [t("Delete"), () => remove(item), "danger"],
    ];
    const menu = make("div", "conversation-menu");
    set(menu, "role", "menu");
    for (const [name, act, look = ""] of entries) {
      const entry = button(look, name, () => { closeMenu(); act(); });
      set(entry, "role", "menuitem");
      menu.append(entry);
    }
    document.body.append(menu);
    const box = opener.getBoundingClientRect();
    menu.style.left = `${Math.min(box.left, innerWidth - menu.offsetWidth - 8)}px`;
    menu.style.top = `${Math.min(box.bottom + 4, innerHeight - menu.offsetHeight - 8)}px`;
    menu.dataset.of = item.id;
    menu.firstElementChild.focus();
    menu.addEventListener("keydown", (event) => {
      const entries_ = [...menu.children], at = entries_.indexOf(document.activeElement);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: entries_.length - 1 }[event.key];
      if (to !== undefined) { event.preventDefault(); entries_[(to + entries_.length) % entries_.length].focus(); }
      if (event.key === "Escape" || event.key === "Tab") { event.preventDefault(); event.stopPropagation(); closeMenu(); opener.focus(); }
    });
  };
  const closeMenu = () => document.querySelector(".conversation-menu")?.remove();
  addEventListener("pointerdown", (event) => { if (!event.target.closest?.(".conversation-menu, .item .more")) closeMenu(); });

  // -- drawing

  const makeItem = () => {
    const item = make("li", "item"), opener = make("button", "open", make("span", "title"), make("span", "excerpt"));
    opener.type = "button";
    opener.addEventListener("click", () => { choose(item.conversation); });
    opener.addEventListener("dblclick", () => rename(item.conversation));
    const more = button("more", "⋯", () => openMenu(item.conversation, more));
    set(more, "aria-haspopup", "menu");
    item.append(opener, more);
    return item;
  };

  const choose = (conversation) => {
    if (!wide.matches) toggle(false);
    if (conversation.id !== current) live.open(conversation.id, "switch");
  };

  const drawItem = (node, item) => {
    node.conversation = item;
    node.classList.toggle("current", item.id === current);
    node.classList.toggle("writing", Boolean(item.is_writing));
    const opener = node.querySelector(".open"), title = item.title || t("Untitled");
    say(node.querySelector(".title"), title);
    say(node.querySelector(".excerpt"), item.excerpt ?? "");
    show(node.querySelector(".excerpt"), Boolean(item.excerpt));
    set(opener, "title", title);
    if (item.id === current) set(opener, "aria-current", "page"); else opener.removeAttribute("aria-current");
    set(node.querySelector(".more"), "aria-label", t("More for {title}", { title }));
    const field = node.querySelector("input");
    if (renaming === item.id && !field) node.append(renameField(item));
    if (renaming !== item.id) field?.remove();
  };

  const renameField = (item) => {
    const field = make("input");
    field.value = item.title;
    field.maxLength = 80;
    set(field, "aria-label", t("New title"));
    let isDone = false;
    const end = (title) => { if (!isDone) { isDone = true; renamed(item, title); } };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) end(field.value.trim());
      if (event.key === "Escape") { event.stopPropagation(); end(null); }
    });
    field.addEventListener("blur", () => end(field.value.trim()));
    return field;
  };

  const draw = () => {
    if (!root) return;
    const folders = window.workbenchDays.folders(items, new Date(now_s * 1000));
    keep(parts.folders, folders, () => make("section", "folder", make("h3"), make("ol")), (node, folder) => {
      say(node.firstElementChild, folder.title);
      keep(node.lastElementChild, folder.items.map((item) => ({ ...item, key: item.id })), makeItem, drawItem);
    });
    show(parts.more, hasMore);
    show(parts.none, !items.length);
    say(parts.none, query() ? t("Nothing found.") : t("No conversations yet."));
  };

  // -- a line that says what happened, with a way back. It has room of its own, so that it covers nothing: in the list where
  // that is open, else above the composer, in the other tabs at the end of the page.

  const isSeen = (node) => Boolean(node?.getClientRects().length);

  const settle = () => {
    const foot = root.querySelector(".list-foot"), composer = document.querySelector("#composer");
    const place = [foot, composer].find(isSeen), { said } = parts;
    if (place && place.previousElementSibling !== said) place.before(said);
    const tabs = document.querySelector("#tabs");
    if (!place && tabs.nextElementSibling !== said) tabs.after(said);
  };

  const tell = (words, action = "", act = () => {}) => {
    clearTimeout(timer);
    settle();
    say(parts.words, words);
    say(parts.undo, action);
    show(parts.undo, Boolean(action));
    parts.undo.onclick = () => { show(parts.said, false); act(); };
    show(parts.said, true);
    if (action !== RELOAD) hideLater();
  };

  /** Nothing goes away under the pointer of somebody who is about to press it, nor while the keyboard is on it. */
  const hideLater = () => {
    timer = setTimeout(() => (parts.said.matches(":hover, :focus-within") ? hideLater() : show(parts.said, false)), UNDO_MS);
  };

  const outdated = (words = t("The workbench was updated.")) => tell(words, RELOAD, () => { live.flush(); location.reload(); });

  const kept = (event) => {
    say(parts.kept, KEPT[event.kept] ?? "");
    parts.kept.classList.toggle("problem", event.kept === "problem");
    if (event.kept === "problem") say(parts.kept, event.problem);
  };

  // -- open and closed

  const toggle = (isOpen) => {
    document.documentElement.classList.toggle("with-list", isOpen);
    if (!parts.said.hidden) settle();
    set(parts.opener, "aria-expanded", isOpen);
    if (wide.matches) try { localStorage.setItem("workbench-list", isOpen ? "open" : "closed"); } catch { /* blocked */ }
  };

  const mark = (value) => {
    current = value.conversation;
    if (parts.title) say(parts.title, value.title || t("New chat"));
    draw();
  };

  // The list may be drawn before the chat beside it is.
  const placeBar = (bar) => {
    const stage = document.querySelector("#stage");
    if (stage) stage.prepend(bar);
    else requestAnimationFrame(() => placeBar(bar));
  };

  const start = (element) => {
    root = element.querySelector(".list");
    set(root, "role", "navigation");
    set(root, "aria-label", t("Conversations"));
    const search = make("input", "search");
    Object.assign(search, { type: "search", placeholder: t("Search conversations") });
    set(search, "aria-label", t("Search conversations"));
    let pause = 0;
    search.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(refresh, SEARCH_MS); });
    const file = make("input");
    Object.assign(file, { type: "file", accept: ".json,.md,.markdown,.zip", hidden: true });
    file.addEventListener("change", () => { if (file.files[0]) bring(file.files[0]); file.value = ""; });
    const close = button("close", "", () => toggle(false));
    set(close, "aria-label", t("Close the list of conversations"));
    const undo = button("undo", "", () => {});
    const said = make("div", "list-toast", make("span"), undo);
    set(said, "role", "status");
    parts = {
      search, folders: make("div", "folders"), more: button("show-more", t("Show more"), () => refresh(items.length)),
      none: make("p", "none"), kept: make("p", "kept"), said, words: said.firstElementChild, undo,
    };
    show(said, false);
    root.append(
      make("div", "list-head", make("h2", "", t("Conversations")), close), search, make("div", "scroll", parts.folders, parts.more, parts.none),
      make("div", "list-foot", button("import", t("Import…"), () => file.click()), parts.kept), file,
    );
    new IntersectionObserver(() => { if (!said.hidden && !isSeen(said)) settle(); }).observe(said);  // another tab is shown
    const opener = button("list-opener", "", () => toggle(true));
    set(opener, "aria-label", t("Conversations"));
    parts.opener = opener;
    parts.title = make("span", "now", t("New chat"));
    placeBar(make("div", "chat-bar", opener, parts.title));
    let stored = null;
    try { stored = localStorage.getItem("workbench-list"); } catch { /* blocked */ }
    toggle(wide.matches && stored !== "closed");
    wide.addEventListener("change", () => toggle(wide.matches));
    refresh();
  };

  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || wide.matches || !document.documentElement.classList.contains("with-list")) return;
    event.preventDefault();
    toggle(false);
    parts.opener.focus();
  }, true);
  addEventListener("pointerdown", (event) => {
    if (!wide.matches && document.documentElement.classList.contains("with-list")
        && !event.target.closest?.("#conversations, .conversation-menu, .list-opener, .list-toast")) toggle(false);
  });

  window.workbenchList = { start, refresh, mark, kept, outdated, say: (words) => tell(words) };
})();
