// Draws the Models tab from what the page's events tell (workbench/models/live.py). Text goes in as textContent.
(() => {
  const { make, say, set, show, button, sureButton, keep, heading } = window.workbenchDraw;
  const KINDS = [["weights", "weights"], ["kv", "kept prompts (KV)"], ["features", "kept pictures (features)"]];
  let latest = { manages: false, searched: false, models: [], choices: [], memory: { models: [], words: "" } };
  let downloads = [], draw = () => {};

  const tell = (event) => {
    if (event.kind === "models") latest = event;
    else ({ downloads } = event);
    draw();
    window.dispatchEvent(new CustomEvent("workbench-models"));
  };

  // A button of the tab. Resolves to what the server replied, with `problem` where it refused.
  const act = async (action, body = {}) => {
    try {
      const response = await window.workbenchLive.ask(`models/${action}`, { method: "POST", body: JSON.stringify(body) });
      const reply = await response.json();
      return response.ok ? reply : { problem: reply.error?.message ?? "The server refused." };
    } catch {
      return { problem: "The server cannot be reached just now." };
    }
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
    const head = heading("Memory", "What each loaded model holds, of what models may take together on this machine.", key);
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
      said.className = "said";
      say(said, words);
      busy(true);
      const reply = await act(action, { source: key });
      busy(false);
      said.classList.toggle("problem", Boolean(reply.problem));
      say(said, reply.problem ?? "");
      if (reply.freed_bytes !== undefined) notice(`${node.dataset.name} was deleted: ${window.workbenchWords.bytes(reply.freed_bytes)} are free again.`);
    };
    const load = button("primary", "Load", () => run("load", "Loading…"));
    const unload = button("quiet", "Unload", () => run("unload", "Unloading…"));
    const resume = button("quiet", "Download the rest", async () => {
      const reply = await act("pull", { repo: node.dataset.key });
      said.classList.toggle("problem", Boolean(reply.problem));
      say(said, reply.problem ?? "");
    });
    const remove = sureButton("quiet remove", "Delete", "Delete from the disk?", () => run("delete", "Deleting…"));
    const buttons = [load, unload, resume, remove];
    const busy = (on) => { for (const one of buttons) one.disabled = on; };
    const actions = make("div", "actions", ...buttons);
    const node = make("li", "model", make("div", "what", make("div", "title", name, lamp), facts, fit, problems, progress, said, where), actions);
    node.update = (item) => {
      node.dataset.name = item.name;
      say(name, item.name);
      say(lamp, item.stage === "known" ? "" : item.is_default && item.stage_words ? `${item.stage_words} · default` : item.stage_words);
      lamp.className = `stage ${item.stage}`;
      say(where, item.where);
      say(facts, [item.family, item.takes && `takes ${item.takes}`, item.quantization, item.size].filter(Boolean).join(" · "));
      say(fit, item.fit_words);
      fit.className = `fit ${item.fit}`;
      keep(problems, [...item.problems, item.error].filter(Boolean).map((text) => ({ key: text, text })), () => make("li"), (line, problem) => say(line, problem.text));
      show(problems, item.problems.length > 0 || Boolean(item.error));
      show(progress, item.progress !== null);
      fill(progress, item.progress ?? 0, `${item.name}: ${item.stage_words}`);
      show(load, latest.manages && item.can_load && item.fit !== "no");
      show(unload, latest.manages && item.stage === "ready");
      show(resume, latest.manages && item.can_resume);
      show(remove, latest.manages && item.can_delete);
      for (const one of [load, unload, resume]) set(one, "aria-label", `${one.textContent}: ${item.name}`);
      remove.title = `Delete ${item.name}`;  // no label: what it says changes when it asks once more
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
    const pause = button("quiet", "Pause", change("pause")), resume = button("primary", "Resume", change("resume"));
    const cancel = button("quiet", "Cancel", change("cancel"));
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
    const input = field("Words to search the hub for", "Qwen3-VL 4bit"), found = make("ul", "hits"), said = make("p", "said");
    const only = Object.assign(make("input"), { type: "checkbox", checked: true });
    const search = form("search", input, "Search", make("label", "only", only, "made for MLX"));
    let hits = [];
    const hit = () => {
      const name = make("h4"), facts = make("p", "facts"), fit = make("p", "fit"), error = make("p", "problem");
      const get = button("primary", "Download", async () => {
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
        say(fit, isHere ? "on this machine" : item.fit_words);
        fit.className = `fit ${isHere ? "here" : item.fit}`;
        show(get, !running && !isHere);
        set(get, "aria-label", `Download: ${item.key}`);
      };
      return node;
    };
    const again = () => keep(found, hits, hit, (node, item) => node.update(item));
    search.addEventListener("submit", async (event) => {
      event.preventDefault();
      said.className = "said";
      say(said, "Asking the hub…");
      const reply = await act("search", { words: input.value, only_mlx: only.checked });
      said.classList.toggle("problem", Boolean(reply.problem));
      hits = reply.hits ?? [];
      say(said, reply.problem ?? (hits.length ? "" : "The hub has no such model with weights in safetensors files."));
      again();
    });
    const node = make("section", "hub", heading("Get a model", "Searches the Hugging Face Hub. What is downloaded goes into the hub's "
      + "cache on this machine, where other programs find it too."), search, said, found);
    node.update = again;
    return node;
  };

  const folder = () => {
    const input = field("Path of a folder on this machine", "/path/to/a/model"), said = make("p", "said");
    const node = make("section", "folder", heading("Try a folder", "The whole path of a folder on the server's machine with a config.json and safetensors files."),
      form("path", input, "Load it"), said);
    node.querySelector("form").addEventListener("submit", async (event) => {
      event.preventDefault();
      said.className = "said";
      say(said, "Loading…");
      const reply = await act("try", { folder: input.value });
      said.classList.toggle("problem", Boolean(reply.problem));
      say(said, reply.problem ?? `${reply.name} is loaded. Choose it in the header.`);
    });
    return node;
  };

  const view = (element) => {
    const root = element.firstElementChild, note = make("p", "note"), list = make("ul", "list"), arriving = make("ul", "arriving");
    set(note, "role", "status");
    const look = button("quiet", "Look again", async () => {
      look.disabled = true;
      say(note, (await act("look")).problem ?? "");
      look.disabled = false;
    });
    look.title = "Look through the folders and the hub's cache again";
    const head = heading("Models", "", look), words = head.querySelector("p");
    const here = make("section", "here", head, note, list), bars = memory(), search = hub(), path = folder();
    const coming = make("section", "coming", heading("Downloads", "What has arrived is kept when you pause, and checked at the end."), arriving);
    root.replaceChildren(here, bars, coming, search, path);
    const notice = (text) => { say(note, text); };
    draw = () => {
      say(words, !latest.manages ? "What this server has loaded. Loading and downloading is for its operator."
        : latest.searched ? "What is on this machine. A model that is loaded answers at once; the first question to another waits until it is loaded."
          : "Looking through this machine…");
      show(look, latest.manages);
      keep(list, latest.models, () => model(notice), (node, item) => node.update(item));
      bars.update(latest.memory);
      show(bars, latest.memory.models.length > 0);
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
