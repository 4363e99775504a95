// Draws the Models tab from what the page's events tell (workbench/models/live.py). Text goes in as textContent.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button, sureButton, keep, heading } = window.workbenchDraw;
  const KINDS = [["weights", t("weights")], ["kv", t("kept prompts (KV)")], ["features", t("kept pictures (features)")]];
  let isTold = false, latest = { manages: false, searched: false, models: [], choices: [] };
  let memoryNow = { models: [], words: "" }, downloads = [], draw = () => {};

  const tell = (event) => {
    if (event.kind === "models") { latest = event; isTold = true; }
    else if (event.kind === "memory") memoryNow = event;
    else ({ downloads } = event);
    draw();
    if (event.kind === "models") window.dispatchEvent(new CustomEvent("workbench-models"));
  };

  // A button of the tab. Resolves to what the server replied, with `problem` where it refused.
  const act = async (action, body = {}) => {
    try {
      const response = await window.workbenchLive.ask(`models/${action}`, { method: "POST", body: JSON.stringify(body) });
      const reply = await response.json();
      return response.ok ? reply : { problem: reply.error?.message ?? t("The server refused.") };
    } catch {
      return { problem: t("The server cannot be reached just now.") };
    }
  };

  // A line that says what goes on, and then what came of it.
  const begun = (said, words) => { said.className = "said"; say(said, words); };
  const ended = (said, reply, words = "") => {
    said.classList.toggle("problem", Boolean(reply.problem));
    say(said, reply.problem ?? words);
  };

  const bar = (name) => {
    const node = make("div", `track ${name}`, make("i"));
    set(node, "role", "progressbar");
    set(node, "aria-valuemin", 0);
    set(node, "aria-valuemax", 100);
    return node;
  };
  const fill = (node, share, label) => {
    const percent = Math.round(100 * share);
    node.firstChild.style.width = `${percent}%`;
    set(node, "aria-valuenow", percent);
    set(node, "aria-label", label);
  };

  // --- memory

  const memory = () => {
    const words = make("p", "words"), strip = make("div", "strip"), key = make("div", "legend"), rows = make("ul", "held");
    const head = heading(t("Memory"), t("What each loaded model holds, of what models may take together on this machine."), key);
    for (const [kind, text] of KINDS) key.append(make("span", "entry", make("i", `swatch ${kind}`), make("span", "", text)));
    const node = make("section", "memory", head, strip, words, rows);
    set(strip, "role", "img");
    node.update = (value) => {
      say(words, value.words);
      set(strip, "aria-label", value.words);
      const parts = value.models.flatMap((model) => model.parts.map((part) => ({ ...part, key: `${model.key} ${part.kind}`, name: model.name })));
      keep(strip, parts, () => make("span"), (part, item) => {
        part.className = item.kind;
        part.style.width = `${100 * item.share}%`;
        part.title = `${item.name}: ${item.words}`;
      });
      keep(rows, value.models, () => make("li", "", make("strong"), make("span")), (row, item) => {
        say(row.firstChild, item.name);
        say(row.lastChild, [item.size, ...item.parts.map((part) => part.words)].join(" · "));
      });
    };
    return node;
  };

  // --- the list

  const model = (notice) => {
    const lamp = make("span", "stage"), name = make("h4"), where = make("p", "where"), facts = make("p", "facts");
    const fit = make("p", "fit"), problems = make("ul", "problems"), said = make("p", "said"), progress = bar("loading");
    const run = async (action, words) => {
      const { key } = node.dataset;
      begun(said, words);
      busy(true);
      const reply = await act(action, { source: key });
      busy(false);
      ended(said, reply);
      if (reply.freed_bytes !== undefined) notice(t("{name} was deleted: {size} are free again.", { name: node.dataset.name, size: window.workbenchWords.bytes(reply.freed_bytes) }));
    };
    const load = button("primary", t("Load"), () => run("load", t("Loading…")));
    const unload = button("quiet", t("Unload"), () => run("unload", t("Unloading…")));
    const resume = button("quiet", t("Download the rest"), async () => {
      const reply = await act("pull", { repo: node.dataset.key });
      ended(said, reply);
    });
    const remove = sureButton("quiet remove", t("Delete"), t("Delete from the disk?"), () => run("delete", t("Deleting…")));
    const buttons = [load, unload, resume, remove];
    const busy = (on) => { for (const one of buttons) one.disabled = on; };
    const actions = make("div", "actions", ...buttons);
    const node = make("li", "model", make("div", "what", make("div", "title", name, lamp), facts, fit, problems, progress, said, where), actions);
    node.update = (item) => {
      node.dataset.name = item.name;
      say(name, item.name);
      say(lamp, item.stage === "known" && item.can_load ? "" : item.is_default && item.stage_words ? t("{words} · default", { words: item.stage_words }) : item.stage_words);
      lamp.className = `stage ${item.stage}`;
      say(where, item.where);
      say(facts, [item.family, item.takes && t("takes {kinds}", { kinds: item.takes }), item.quantization, item.size].filter(Boolean).join(" · "));
      say(fit, item.fit_words);
      fit.className = `fit ${item.fit}`;
      keep(problems, [...item.problems, item.error].filter(Boolean).map((text) => ({ key: text, text })), () => make("li"), (line, problem) => say(line, problem.text));
      show(problems, item.problems.length > 0 || Boolean(item.error));
      show(progress, item.progress !== null);
      fill(progress, item.progress ?? 0, `${item.name}: ${item.stage_words}`);
      show(load, latest.manages && item.can_load && item.fit !== "no");
      show(unload, latest.manages && item.can_unload);
      show(resume, latest.manages && item.can_resume);
      show(remove, latest.manages && item.can_delete);
      for (const one of [load, unload, resume]) set(one, "aria-label", `${one.textContent}: ${item.name}`);
      remove.title = t("Delete {name}", { name: item.name });  // no label: what it says changes when it asks once more
      show(actions, buttons.some((one) => !one.hidden));
    };
    return node;
  };

  // --- downloads

  const download = () => {
    const name = make("h4"), words = make("p", "words"), error = make("p", "problem"), progress = bar("arriving");
    const change = (action) => async () => {
      const reply = await act(`downloads/${action}`, { repo: node.dataset.key });
      if (reply.problem) say(error, reply.problem);
    };
    const pause = button("quiet", t("Pause"), change("pause")), resume = button("primary", t("Resume"), change("resume"));
    const cancel = button("quiet", t("Cancel"), change("cancel"));
    const node = make("li", "download", make("div", "what", name, words, progress, error), make("div", "actions", pause, resume, cancel));
    node.update = (item) => {
      say(name, item.key);
      say(words, [item.words, item.file].filter(Boolean).join(" · "));
      say(error, item.error);
      fill(progress, item.progress, `${item.key}: ${item.words}`);
      show(progress, item.is_running || item.can_resume);
      show(pause, item.is_running);
      show(resume, item.can_resume);
      show(cancel, item.is_running || item.can_resume);
      for (const one of [pause, resume, cancel]) set(one, "aria-label", `${one.textContent}: ${item.key}`);
    };
    return node;
  };

  // --- the hub

  const field = (label, placeholder) => {
    const input = Object.assign(make("input"), { type: "text", placeholder, autocomplete: "off", spellcheck: false });
    set(input, "aria-label", label);
    return input;
  };

  const form = (name, input, press, ...more) => {
    const node = make("form", name, input, ...more, Object.assign(make("button", "primary", press), { type: "submit" }));
    return node;
  };

  const hub = () => {
    const input = field(t("Words to search the hub for"), "Qwen3-VL 4bit"), found = make("ul", "hits"), said = make("p", "said");
    const only = Object.assign(make("input"), { type: "checkbox", checked: true });
    const search = form("search", input, t("Search"), make("label", "only", only, t("made for MLX")));
    let hits = [];
    const hit = () => {
      const name = make("h4"), facts = make("p", "facts"), fit = make("p", "fit"), error = make("p", "problem");
      const get = button("primary", t("Download"), async () => {
        get.disabled = true;
        const reply = await act("pull", { repo: node.dataset.key });
        get.disabled = false;
        say(error, reply.problem ?? "");
      });
      const node = make("li", "hit", make("div", "what", name, facts, fit, error), make("div", "actions", get));
      node.update = (item) => {
        const running = downloads.some((one) => one.key === item.key && one.is_running);
        const isHere = item.is_here || latest.models.some((one) => one.key === item.key && !one.problems.length);
        say(name, item.key);
        say(facts, item.facts);
        say(fit, isHere ? t("on this machine") : item.fit_words);
        fit.className = `fit ${isHere ? "here" : item.fit}`;
        show(get, !running && !isHere);
        set(get, "aria-label", `${get.textContent}: ${item.key}`);
      };
      return node;
    };
    const again = () => keep(found, hits, hit, (node, item) => node.update(item));
    search.addEventListener("submit", async (event) => {
      event.preventDefault();
      begun(said, t("Asking the hub…"));
      const reply = await act("search", { words: input.value, only_mlx: only.checked });
      hits = reply.hits ?? [];
      ended(said, reply, hits.length ? "" : t("The hub has no such model with weights in safetensors files."));
      again();
    });
    const node = make("section", "hub", heading(t("Get a model"), t("Searches the Hugging Face Hub. What is downloaded goes into the hub's cache on this machine, where other programs find it too.")), search, said, found);
    node.update = again;
    return node;
  };

  const folder = () => {
    const input = field(t("Path of a folder on this machine"), "/path/to/a/model"), said = make("p", "said");
    const node = make("section", "folder", heading(t("Try a folder"), t("The whole path of a folder on the server's machine with a config.json and safetensors files.")),
      form("path", input, t("Load it")), said);
    node.querySelector("form").addEventListener("submit", async (event) => {
      event.preventDefault();
      begun(said, t("Loading…"));
      const reply = await act("try", { folder: input.value });
      ended(said, reply, t("{name} is loaded. Choose it in the header.", { name: reply.name }));
    });
    return node;
  };

  const view = (element) => {
    const root = element.firstElementChild, note = make("p", "note"), list = make("ul", "list"), arriving = make("ul", "arriving");
    set(note, "role", "status");
    const look = button("quiet", t("Look again"), async () => {
      look.disabled = true;
      say(note, (await act("look")).problem ?? "");
      look.disabled = false;
    });
    look.title = t("Look through the folders and the hub's cache again");
    const head = heading(t("Models"), "", make("div", "actions", window.workbenchServer.opener("quiet"), look)), words = head.querySelector("p");
    const here = make("section", "here", head, note, list), bars = memory(), search = hub(), path = folder();
    const coming = make("section", "coming", heading(t("Downloads"), t("What has arrived is kept when you pause, and checked at the end.")), arriving);
    root.replaceChildren(here, bars, coming, search, path);
    const notice = (text) => { say(note, text); };
    draw = () => {
      say(words, !isTold ? t("Loading…") : !latest.manages ? t("What this server has loaded. Loading and downloading is for its operator.")
        : latest.searched ? t("What is on this machine. A model that is loaded answers at once; the first question to another waits until it is loaded.")
          : t("Looking through this machine…"));
      show(look, latest.manages);
      keep(list, latest.models, () => model(notice), (node, item) => node.update(item));
      bars.update(memoryNow);
      show(bars, memoryNow.models.length > 0);
      show(coming, latest.manages && downloads.length > 0);
      keep(arriving, downloads, download, (node, item) => node.update(item));
      show(search, latest.manages);
      show(path, latest.manages);
      search.update();
    };
    draw();
  };

  window.workbenchModels = { view, tell, act, latest: () => latest };
})();
