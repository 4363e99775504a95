// Where this page is, and what the server tells it: the header's figures, what changed, the answer being written.
// Plain server-sent events, beside Gradio: a connection that breaks is opened again, and the page stays as it is.
(() => {
  const { t } = window.workbenchLanguage;
  const { token, heard, missed, watch: watchNetwork } = window.workbenchNetwork;
  const SILENCE_MS = 6000;  // the server says something every second
  const AGAIN_MS = 1000;
  const DRAFT_MS = 600;

  // The tab's own name: what a visitor of a public page wrote is shown to this tab only.
  const visitor = (() => {
    try {
      const name = sessionStorage.getItem("workbench-visitor") ?? token();
      sessionStorage.setItem("workbench-visitor", name);
      return name;
    } catch {
      return token();  // storage is blocked: until the next reload
    }
  })();
  const page = token();

  let place = null, trigger = () => {}, figures = null;
  let source = null, heardAt = 0, version = null;
  let opening = false, sending = false, isUnsent = false, sendAgain = false, serial = 0;
  let latest = { conversation: "", revision: 0 }, answer = null;

  const here = () => place?.value ?? {};
  const root = () => (window.gradio_config?.root ?? location.origin).replace(/\/$/, "");

  const ask = (path, options = {}) => fetch(`${root()}/workbench/${path}`, {
    ...options,
    headers: { "X-Workbench-Visitor": visitor, ...(options.body ? { "Content-Type": "application/json" } : {}), ...options.headers },
  });

  const link = (path) => `${root()}/workbench/${path}?visitor=${visitor}`;

  // -- the address

  const inAddress = () => new URLSearchParams(location.search).get("c");

  const remember = (conversation, isNew) => {
    const address = new URL(location.href);
    if (conversation) address.searchParams.set("c", conversation);
    else address.searchParams.delete("c");
    if (address.href === location.href) return;
    history[isNew ? "replaceState" : "pushState"]({}, "", address);
  };

  // Going back may also be from one tab to another.
  addEventListener("popstate", () => {
    const wanted = inAddress() ?? "";
    if (wanted !== (here().conversation || "new")) open(wanted === "new" ? "" : wanted, "switch");
  });

  const title = () => window.workbenchNotify.marked(here().title ? `${here().title} · MLX Workbench` : "MLX Workbench");

  // -- showing conversations

  const open = (conversation, why) => {
    flush();
    opening = true;
    trigger("input", { conversation, why });
  };

  // A reply of the server has changed where the page is.
  const arrived = () => {
    const value = here();
    if (!value.serial || value.serial === serial) return;
    const wasNew = !before.conversation;
    serial = value.serial;
    opening = sending = isUnsent = false;
    if (value.conversation !== before.conversation) keptDraft = null;
    remember(value.conversation, wasNew);
    if (!new URLSearchParams(location.search).has("tab")) document.title = title();
    if (!value.is_writing || answer?.conversation !== value.conversation) answer = null;
    before = value;
    if (value.is_writing && writes?.conversation !== value.conversation) writes = { conversation: value.conversation, since: Date.now() };
    if (!value.is_writing) writes = null;
    if (value.notice) window.workbenchList?.say(value.notice);
    window.workbenchList?.mark(value);
    if (value.has_draft && !composerHolds()) { value.has_draft = false; trigger("apply", {}); }
    setTimeout(draw, 0);
    setTimeout(refresh, 0);
    if (sendAgain) {
      sendAgain = false;
      setTimeout(() => document.querySelector("#composer .submit-button")?.click(), 0);
    }
  };
  let before = {};

  const composerHolds = () => Boolean(document.querySelector("#composer textarea")?.value.trim()
    || document.querySelector("#composer .thumbnail-item"));

  // While this page removes a conversation, that it is gone is news only to other pages that show it.
  let leaving = "";
  const removing = (id) => { leaving = id; refresh(); };

  // The conversation was changed elsewhere: by another page, or its answer has ended.
  const refresh = () => {
    const { conversation, revision } = here();
    if (opening || sending || isUnsent || !conversation || conversation === leaving || latest.conversation !== conversation || latest.revision <= revision) return;
    opening = true;
    trigger("submit", {});
  };

  // -- the answer being written

  // As often as the page can: a drawing that took long is followed by a pause of twice its time, and what comes
  // meanwhile is drawn at once afterwards.
  let isDue = false, next_ms = 0;

  const belongs = () => {
    const { outline = [], conversation } = here();
    if (!answer || (answer.conversation !== conversation && !sending)) return false;
    return sending || outline[outline.length - 1]?.turn === answer.parent;
  };

  const draw = () => {
    if (isDue || !belongs()) return;
    isDue = true;
    setTimeout(() => requestAnimationFrame(() => {
      isDue = false;
      if (!belongs()) return;
      const begun_ms = performance.now();
      window.workbenchChat.live(answer.parts);
      requestAnimationFrame(() => setTimeout(() => { next_ms = 3 * performance.now() - 2 * begun_ms; }, 0));
    }), Math.max(0, next_ms - performance.now()));
  };

  // An answer that this page shows has ended; nobody may be looking.
  let writes = null;  // {conversation, since}: the answer that is being written here

  const noteEnd = (event) => {
    if (writes?.conversation !== event.conversation || event.is_writing) return;
    window.workbenchNotify.answered({ title: here().title, took_ms: Date.now() - writes.since });
    writes = null;
  };

  // -- the events

  const told = {
    hello: (event) => {
      if (version !== null && event.version !== version) window.workbenchList?.outdated();
      version = event.version;
    },
    kept: (event) => window.workbenchList?.kept(event),
    status: ({ status }) => { figures = status; showFigures(); },
    beat: () => {},
    list: () => window.workbenchList?.refresh(),
    conversation: (event) => { latest = event; noteEnd(event); refresh(); },
    models: (event) => window.workbenchModels.tell(event),
    memory: (event) => window.workbenchModels.tell(event),
    downloads: (event) => window.workbenchModels.tell(event),
    server: (event) => window.workbenchServer.tell(event),
    runs: (event) => window.workbenchBatch.tell(event),
    answer: (event) => { answer = event; draw(); },
  };

  const listen = () => {
    source?.close();
    heardAt = Date.now();
    const query = new URLSearchParams({ page, visitor, conversation: here().conversation ?? "" });
    source = new EventSource(`${root()}/workbench/live?${query}`);
    source.onopen = () => { heardAt = Date.now(); heard(); };
    source.onmessage = (message) => {
      heardAt = Date.now();
      heard();
      const event = JSON.parse(message.data);
      told[event.kind]?.(event);
    };
    source.onerror = () => {
      missed();
      if (source.readyState === EventSource.CLOSED) setTimeout(signedOut, AGAIN_MS);
    };
  };

  // The server answered, but not with events: it has been started anew and does not know the login, or a proxy said so.
  const signedOut = async () => {
    try {
      const response = await ask("conversations");
      if (response.status === 401) { window.workbenchList?.outdated(t("Sign in again to go on.")); return; }
    } catch { /* not there yet */ }
    listen();
  };

  setInterval(() => {
    if (source && document.visibilityState === "visible" && Date.now() - heardAt > SILENCE_MS) { missed(); listen(); }
  }, 1000);

  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") {
      if (place && !source) listen();
    } else {
      flush();
      if (!here().is_writing) { source?.close(); source = null; }  // a browser opens only six connections to one server
    }
  });
  addEventListener("online", () => { if (place) listen(); });

  // -- the header

  const showFigures = () => {
    if (!figures) return;
    const isLost = window.workbenchNetwork.lost();
    window.workbenchHeader.show(isLost
      ? { ...figures, state: "offline", model: t("Connection lost, trying again…"), running: "" } : figures);
  };
  watchNetwork((lost) => {
    document.documentElement.classList.toggle("offline", lost);
    showFigures();
    if (!lost) window.workbenchList?.refresh();
  });

  // -- drafts

  let draftTimer = 0, keptDraft = null, pending = null;
  const FIELDS = ["system", "temperature", "max_tokens", "top_p", "top_k", "min_p", "seed", "fps", "max_frames", "model"];

  const draft = (composer, ...fields) => {
    const files = (composer?.files ?? []).map((file) => file?.path).filter(Boolean);
    window.workbenchSwitch.follow(fields[FIELDS.indexOf("model")] ?? "");
    const settings = Object.fromEntries(FIELDS.map((name, place_) => [name, fields[place_] ?? ""]).filter(([, value]) => value));
    const body = JSON.stringify({ text: composer?.text ?? "", files, settings });
    if (opening || sending || body === keptDraft) return;
    pending = { conversation: here().conversation || "new", body };
    clearTimeout(draftTimer);
    draftTimer = setTimeout(flush, DRAFT_MS);
  };

  const flush = () => {
    clearTimeout(draftTimer);
    if (!pending) return;
    const { conversation, body } = pending;
    pending = null;
    keptDraft = body;
    ask(`drafts/${conversation}`, { method: "PUT", body, keepalive: body.length < 60_000 }).catch(() => { keptDraft = null; });
  };
  addEventListener("pagehide", flush);

  // -- for the page's other scripts

  const canSend = () => !opening;

  // At Enter (chat/send.js). false: the page is opening a conversation, and the message is sent after that.
  const sends = () => {
    if (opening) { sendAgain = true; return false; }
    clearTimeout(draftTimer);
    pending = null;
    sending = true;
    isUnsent = false;
    setTimeout(() => { sending = false; refresh(); }, 20_000);
    return true;
  };

  // The server did not take a message: it stays where it is shown until its writer decides.
  const unsent = () => {
    sending = false;
    isUnsent = true;
    window.workbenchChat.unsent();
  };

  const start = (props, watch, tell) => {
    place = props;
    trigger = tell;
    place.value = { page, visitor, conversation: "", outline: [] };
    watch("value", arrived);
    const conversation = inAddress();
    if (conversation !== "new") open(conversation ?? "last", "load");
    listen();
  };

  window.workbenchLive = {
    start, open, removing, draft, canSend, sends, unsent, ask, link, here, flush, title, visitor,
    act: (name, event) => trigger(name, event),
  };
})();
