// The dialog "This server": the last lines of its log, and its restart. For the operator: other pages hear nothing of the
// server's process (workbench/server/routes.py), and offer none of it. Text goes in as textContent.
(() => {
  const { locale, clock, t, tn } = window.workbenchLanguage;
  const { make, say, set, show, button, save, copy } = window.workbenchDraw;
  const POLL_MS = 1000, COPIED_MS = 1500, MOST = 2000;
  const END_PX = 24;  // who is so near to the end is at it
  const LEVELS = ["debug", "info", "warning", "error"];
  let now = null, dialog = null;  // now: what the server said of its process last; null for who is not its operator
  const openers = [];

  const names = () => ({ debug: t("debug"), info: t("info"), warning: t("warning"), error: t("error") });

  // A line as a file has it: what follows its first line is set in, so that it is not taken for another.
  const written = (line) => `${new Date(1000 * line.created).toISOString()} ${line.level.toUpperCase()} ${line.logger}: ${line.text.replace(/\n/g, "\n    ")}`;

  // What the server replied, with `problem` where it refused or could not be reached.
  const ask = async (path, options) => {
    try {
      const response = await window.workbenchLive.ask(`server/${path}`, options), reply = await response.json();
      return response.ok ? reply : { problem: reply.error?.message ?? t("The server refused.") };
    } catch {
      return { problem: t("The server cannot be reached just now.") };
    }
  };

  const log = () => {
    const word = names(), level = make("select"), filter = Object.assign(make("input"), { type: "search", placeholder: t("Filter"), autocomplete: "off", spellcheck: false });
    level.append(new Option(t("Everything"), "debug"), new Option(t("From info on"), "info"), new Option(t("Warnings and errors"), "warning"), new Option(t("Errors only"), "error"));
    set(level, "aria-label", t("Which lines"));
    set(filter, "aria-label", t("Only lines with these words"));
    const list = make("ol"), none = make("p", "none"), box = make("div", "log", list, none), count = make("p", "count");
    for (const [name, value] of Object.entries({ role: "log", tabindex: 0, "aria-live": "off", "aria-label": t("Log of the server") })) set(box, name, value);
    const lines = [];
    let after = null, follows = true, kept = { level: null, num_gone: 0 };

    const isShown = (line) => LEVELS.indexOf(line.level) >= LEVELS.indexOf(level.value)
      && `${line.logger} ${line.text}`.toLowerCase().includes(filter.value.trim().toLowerCase());
    const text = () => lines.filter(isShown).map((line) => `${written(line)}\n`).join("");

    const row = (line) => {
      const time = make("time", "", clock(line.created)), item = make("li", line.level, time, make("b", "", word[line.level]), make("span", "logger", line.logger), make("span", "text", line.text));
      set(time, "datetime", new Date(1000 * line.created).toISOString());
      item.dataset.key = line.id;
      return item;
    };
    const toEnd = () => { box.scrollTop = box.scrollHeight; };
    const end = button("end", t("To the end"), () => { follows = true; toEnd(); box.focus(); });
    const drawn = () => {
      const shown = list.children.length, gone = kept.num_gone ? ` · ${tn("{count} older line is no longer kept", "{count} older lines are no longer kept", kept.num_gone)}` : "";
      say(count, t("{count} of {all} lines", { count: shown, all: lines.length }) + gone);
      const empty = kept.level === null ? t("This server is part of another program, which has its log.")
        : t("Nothing was logged. What is below the level “{level}” is left out, as --log-level says.", { level: word[kept.level] });
      say(none, shown ? "" : lines.length ? t("No line has these words.") : empty);
      if (follows) toEnd();
      show(end, !follows);
    };
    const again = () => { list.replaceChildren(...lines.filter(isShown).map(row)); drawn(); };
    const add = (reply) => {
      kept = reply;
      lines.push(...reply.data);
      list.append(...reply.data.filter(isShown).map(row));
      after = reply.data.at(-1)?.id ?? after;
      for (const old of lines.splice(0, Math.max(0, lines.length - MOST))) {
        if (list.firstChild?.dataset.key === String(old.id)) list.firstChild.remove();
      }
      drawn();
    };
    box.addEventListener("scroll", () => {
      follows = box.scrollHeight - box.scrollTop - box.clientHeight < END_PX;
      show(end, !follows);
    }, { passive: true });
    new ResizeObserver(() => { if (follows) toEnd(); }).observe(box);
    level.addEventListener("change", again);
    filter.addEventListener("input", again);

    const copied = button("", t("Copy"), async () => {
      await copy(text());
      say(copied, t("Copied"));
      setTimeout(() => say(copied, t("Copy")), COPIED_MS);
    });
    const download = button("", t("Download"), () => save(`mlx-workbench-${new Date().toISOString().slice(0, 16).replace(":", "")}.log.txt`, new Blob([text()], { type: "text/plain" })));
    const problem = make("p", "problem");
    set(problem, "role", "status");
    const node = make("section", "log-part", make("div", "tools", level, filter, copied, download), make("div", "framed", box, end), count, problem);

    // Asks for what is new as long as the dialog is open and somebody looks.
    let turn = 0;
    const listen = async () => {
      const mine = ++turn;
      while (mine === turn) {
        const reply = document.visibilityState === "visible" ? await ask(after === null ? "log" : `log?after=${after}`) : null;
        if (mine !== turn) return;
        if (reply) say(problem, reply.problem ?? "");
        if (reply?.data) add(reply);
        if (!reply?.has_more) await new Promise((resolve) => { setTimeout(resolve, POLL_MS); });
      }
    };
    const stop = () => { turn += 1; };
    return { node, listen, stop };
  };

  const restart = () => {
    const words = make("p", "words"), question = make("p", "question"), said = make("p", "said");
    set(said, "role", "status");
    let asked = null;  // when the process began that is to be restarted
    const rest = () => { show(sure, false); draw(); };
    const go = async () => {
      asked = now.started;
      say(said, t("Checking that the server would start again…"));
      rest();
      const reply = await ask("restart", { method: "POST" });
      if (reply.problem) asked = null;
      if (reply.problem) say(said, reply.problem); else tell(reply);
      draw();
    };
    const no = button("", t("Cancel"), () => { rest(); first.focus(); });
    const yes = button("primary", t("Restart now"), go);
    const first = button("", t("Restart…"), () => { show(sure, true); draw(); no.focus(); });
    const sure = make("div", "sure", question, make("div", "tools", yes, no));
    show(sure, false);

    const obstacles = { embedded: t("The server runs inside another program, such as a notebook, so it cannot be restarted from here."),
      no_program: t("The program that the server was started with is not there any more, so it cannot be restarted."),
      several_ranks: t("This server is one of several processes that mlx.launch has started: restart that one.") };
    const running = () => (now.running ? tn("{count} request runs now.", "{count} requests run now.", now.running) : t("No request runs now."));
    const draw = () => {
      if (!now) return;
      const { how, obstacle, asked: isAsked, wait_seconds: limit, changes_link: changesLink } = now.restart;
      say(words, how ? t("Models are loaded anew, and the page comes back by itself.") : obstacles[obstacle]);
      say(question, [running(), t("What runs may go on for {limit} s, then it is ended with an error. New requests are refused until the server is there again.", { limit }),
        changesLink ? t("The public link gets another address.") : ""].filter(Boolean).join(" "));
      if (isAsked) asked = now.started;
      if (asked !== null && asked !== now.started) {
        say(said, t("The server was restarted at {time}.", { time: clock(now.started) }));
        asked = null;
      } else if (asked !== null && window.workbenchNetwork.lost()) {
        say(said, t("The server is starting…"));
      } else if (isAsked) {
        say(said, now.running ? tn("Waiting for {count} request, {limit} s at most.", "Waiting for {count} requests, {limit} s at most.", now.running, { limit }) : t("The server is ending…"));
      }
      show(first, Boolean(how) && asked === null && sure.hidden);
      if (!how || asked !== null) show(sure, false);
    };
    window.workbenchNetwork.watch(draw);
    return { node: make("section", "restart-part", make("h3", "", t("Restart")), words, first, sure, said), draw };
  };

  const build = () => {
    const facts = make("p", "facts"), lines = log(), again = restart();
    const close = button("close", "×", () => node.close());
    set(close, "aria-label", t("Close"));
    const title = make("h2", "", t("This server")), node = make("dialog", "server-dialog", make("header", "", title, close), facts, lines.node, again.node);
    set(node, "aria-label", t("This server"));
    node.addEventListener("click", (event) => { if (event.target === node) node.close(); });
    let back = null;
    node.addEventListener("close", () => {
      lines.stop();
      (back?.checkVisibility() ? back : document.querySelector("#header .model"))?.focus();
    });
    document.body.append(node);
    const draw = () => {
      if (!now) { node.close(); return; }
      const since = new Date(1000 * now.started).toLocaleString(locale, { dateStyle: "medium", timeStyle: "medium" });
      say(facts, [t("Runs since {time}", { time: since }), t("process {number}", { number: String(now.pid) }), tn("{count} request now", "{count} requests now", now.running)].join(" · "));
      again.draw();
    };
    const open = (opener) => {
      back = opener;
      draw();
      if (node.open) return;
      node.showModal();
      lines.listen();
    };
    return { open, draw };
  };

  const tell = (value) => {
    now = value;
    for (const opener of openers) show(opener, now !== null);
    dialog?.draw();
  };

  // A button that opens the dialog; it is there for the operator only.
  const opener = (name) => {
    const node = button(name, t("Log and restart"), () => { dialog ??= build(); dialog.open(node); });
    set(node, "aria-haspopup", "dialog");
    show(node, now !== null);
    openers.push(node);
    return node;
  };

  window.workbenchServer = { tell, opener };
})();
