// The files of a run that has not begun: gathered from what was dropped or chosen, and sent a few at a time.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, say, set, show, button } = window.workbenchDraw;
  const { bytes } = window.workbenchWords;
  const AT_ONCE = 4;

  // All that lies in a folder, a batch of entries after the other: browsers give no more than a hundred at once.
  const inFolder = (folder) => new Promise((settle) => {
    const reader = folder.createReader(), found = [];
    const next = () => reader.readEntries((some) => {
      if (!some.length) return settle(found);
      found.push(...some);
      next();
    }, () => settle(found));
    next();
  });

  const ofEntry = async (entry) => {
    if (entry.isDirectory) return (await Promise.all((await inFolder(entry)).map(ofEntry))).flat();
    const file = await new Promise((settle) => { entry.file(settle, () => settle(null)); });
    return file ? [{ path: entry.fullPath.replace(/^\//, ""), file }] : [];
  };

  // {path, file} of everything, folders opened. transfer: of a drop; its entries are gone once the event is over.
  const gathered = (files, transfer) => {
    const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (entries.some((entry) => entry.isDirectory)) return Promise.all(entries.map(ofEntry)).then((found) => found.flat());
    return Promise.resolve(files.map((file) => ({ path: file.webkitRelativePath || file.name, file })));
  };

  // changed: called when there are more files, or none. limits(): what the server takes.
  const view = (ask, limits, changed) => {
    const several = Object.assign(make("input"), { type: "file", multiple: true, hidden: true });
    const folder = Object.assign(make("input"), { type: "file", webkitdirectory: true, hidden: true });
    const drop = button("drop", "", () => several.click());
    drop.append(make("strong", "", t("Drop files or a folder here, or choose files")), make("span", "", t("Pictures, clips, sounds, PDFs, or a CSV with the files that it names")));
    const choose = button("", t("Choose a folder"), () => folder.click());
    const said = make("p", "sent"), problems = make("p", "error"), clear = button("", t("Remove all"), () => forget());
    const bar = make("div", "track", make("i"));
    const path = Object.assign(make("input", "path"), { type: "text", spellcheck: false, placeholder: t("The path of a folder") });
    set(path, "aria-label", t("A folder of this machine"));
    const named = make("label", "named", make("span", "", t("Or a folder of this machine, read where it is")), path);
    const node = make("section", "files", make("h2", "", t("Ask about")), drop, make("div", "tools", choose, clear), bar, said, problems, named, several, folder);
    set(problems, "role", "alert");
    set(said, "aria-live", "polite");
    set(bar, "role", "progressbar");
    set(bar, "aria-label", t("Files that are sent"));
    let run = "", made = null, count = 0, size = 0, waiting = [], open = 0, planned = 0, generation = 0;

    const draw = () => {
      const isSending = open + waiting.length > 0;
      show(bar, isSending);
      bar.firstChild.style.width = `${planned ? 100 * count / planned : 0}%`;
      set(bar, "aria-valuenow", planned ? Math.round(100 * count / planned) : 0);
      say(said, isSending ? t("{done} of {count} files are sent", { done: count, count: planned }) : count ? `${tn("{count} file", "{count} files", count)} · ${bytes(size)}` : "");
      show(clear, count > 0 && !isSending);
      show(named, Boolean(limits().may_name_folders) && !count && !isSending);
      changed();
    };

    const begin = async () => {
      made ??= ask("", "POST", { like: "" });
      const reply = await made;
      if (reply.problem) { made = null; throw new Error(reply.problem); }
      run = reply.id;
    };

    const send = async ({ path: name, file }, mine) => {
      const reply = await ask(`/${run}/files?path=${encodeURIComponent(name)}`, "PUT", file);
      if (mine !== generation) return;
      if (reply.problem) {
        planned -= 1;
        say(problems, t("{name} could not be sent: {reason}", { name, reason: reply.problem }));
      } else {
        count += 1;
        size += file.size;
      }
    };

    const work = async (mine) => {
      while (mine === generation && waiting.length) {
        open += 1;
        await send(waiting.shift(), mine);
        if (mine !== generation) return;
        open -= 1;
        draw();
      }
    };

    const add = async (files, transfer = null) => {
      const mine = generation, found = await gathered(files, transfer);
      say(problems, "");
      if (!found.length || mine !== generation) return;
      try {
        await begin();
      } catch (error) {
        return say(problems, error.message);
      }
      const { max_rows: most = Infinity } = limits();
      if (planned + found.length > most) return say(problems, t("At most {most} files go into one run here.", { most }));
      planned += found.length;
      waiting.push(...found);
      draw();
      await Promise.all(Array.from({ length: AT_ONCE }, () => work(mine)));
    };
    for (const input of [several, folder]) {
      input.addEventListener("change", () => { add([...input.files]); input.value = ""; });
    }

    // like: what the server said of a run that has files from the start. folderPath: a folder in place of these.
    const take = (like, folderPath = "") => {
      path.value = folderPath;
      generation += 1;
      run = like?.id ?? "";
      made = like ? Promise.resolve(like) : null;
      count = planned = like?.num_files ?? 0;
      size = like?.num_bytes ?? 0;
      waiting = [];
      open = 0;
      say(problems, "");
      draw();
    };
    const forget = () => {
      if (run) ask(`/${run}`, "DELETE");
      take(null);
    };
    path.addEventListener("input", changed);

    // The run to begin; a folder that is named needs one, too.
    const ready = async () => { await begin(); return run; };
    return { node, add, take, draw, ready, folder: () => (count ? "" : path.value.trim()), isReady: () => (count > 0 && !open && !waiting.length) || (!named.hidden && Boolean(path.value.trim())) };
  };

  window.workbenchBatchFiles = { view };
})();
