// Draws the Decide tab and sends what is asked. Names, questions and answers go in as textContent, never as HTML.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, say, show, button, save, address } = window.workbenchDraw;
  const { questions } = window.workbenchQueue;
  const { labelled, questionList, csvInput } = window.workbenchQuestions;

  const view = (element, props, watch, trigger, upload) => {
    const root = element.firstElementChild, setup = props.setup, { kinds } = setup;
    const queue = questions(props, watch, trigger);
    let chosen = null, deciding = false;

    // --- what it is about
    const file = Object.assign(make("input"), { type: "file", accept: setup.suffixes.join(","), hidden: true });
    file.addEventListener("change", () => { if (file.files[0]) open(file.files[0]); file.value = ""; });
    const medium = (item) => {
      const node = item.isClip
        ? Object.assign(make("video"), { muted: true, loop: true, playsInline: true, autoplay: true })
        : Object.assign(make("img"), { alt: item.name });
      node.src = item.url ?? address(item.path);
      return node;
    };
    const shown = make("div", "shown"), text = labelled(t("Text"), Object.assign(make("textarea", "text"), { rows: 3, placeholder: t("A text to ask about, alone or beside the picture") }));
    const choose = button("drop", "", () => file.click());
    const samples = make("div", "samples", ...setup.samples.map((sample) => {
      const card = button("sample", "", () => take(sample));
      card.title = sample.name;
      card.setAttribute("aria-label", sample.name);
      card.append(medium(sample));
      return card;
    }));
    const about = make("section", "about", make("h2", "", t("Ask about")), shown, choose, samples, text, file);
    text.addEventListener("input", () => clear());
    addEventListener("workbench-switched", () => clear());

    const take = (item) => {
      if (chosen?.url) URL.revokeObjectURL(chosen.url);
      chosen = item;
      clear();
      show(shown, Boolean(item));
      show(samples, !item);
      const remove = button("remove", "×", () => take(null));
      remove.title = t("Remove");
      remove.setAttribute("aria-label", t("Remove the file"));
      const isShown = item && (item.isClip || item.isPicture !== false);
      shown.replaceChildren(...(item ? [isShown ? medium(item) : make("div", "paper", item.name), make("p", "", item.name), remove] : []));
      choose.replaceChildren(make("strong", "", item ? t("Choose another") : t("Drop a picture or a clip here, or choose one")));
    };

    const open = async (picked) => {
      failed("");
      root.classList.add("uploading");
      try {
        const isClip = picked.type.startsWith("video/"), isPicture = picked.type.startsWith("image/");
        const url = isClip || isPicture ? URL.createObjectURL(picked) : null;
        take({ path: (await upload(picked)).path, name: picked.name, isClip, isPicture, url });
      } catch (error) {
        failed(t("{name} could not be sent: {reason}", { name: picked.name, reason: error.message ?? error }));
      }
      root.classList.remove("uploading");
    };

    // --- the questions
    const error = make("p", "error"), summary = make("p", "summary");
    error.setAttribute("role", "alert");
    summary.setAttribute("aria-live", "polite");
    const failed = (words) => say(error, words ?? "");
    const list = questionList(kinds, () => { summary.textContent = ""; failed(""); });
    const { rows } = list;
    const clear = () => { summary.textContent = ""; for (const node of rows()) node.clear(); };
    const fill = (values) => { list.fill(values); clear(); };
    const csv = csvInput(async (content) => {
      const reply = await queue.ask("import", () => ({ csv: content }));
      failed(reply.error);
      if (reply.rows) fill(reply.rows);
    });
    const export_ = async () => {
      const all = rows(), isAnswered = all.every((node) => node.answered);
      const fields = { rows: all.map((node) => node.fields()), answers: isAnswered ? all.map((node) => node.answered) : [] };
      const reply = await queue.ask("export", () => fields);
      failed(reply.error);
      if (reply.csv) save("decisions.csv", new Blob([reply.csv], { type: "text/csv" }));
    };

    const go = button("primary", t("Decide"), async () => {
      if (deciding) return trigger("click", {});
      const asked = rows();
      failed("");
      clear();
      deciding = true;
      say(go, t("Stop"));
      root.classList.add("deciding");
      say(summary, tn("Asking…", "Asking {count} questions…", asked.length));
      const reply = await queue.ask("decide", () => ({ path: chosen?.path ?? "", text: text.value, model: window.workbenchSwitch.name(), rows: asked.map((node) => node.fields()) }));
      deciding = false;
      say(go, t("Decide"));
      root.classList.remove("deciding");
      failed(reply.error);
      summary.textContent = reply.summary ?? "";
      reply.answers?.forEach((found, place) => asked[place].draw(found));
    });
    const tools = make("div", "tools",
      button("", t("Add a question"), () => list.add().focus()),
      button("", t("Examples"), () => fill(setup.examples)),
      button("", t("Import CSV"), () => csv.click()),
      button("", t("Export CSV"), export_));
    const asked = make("section", "questions", make("div", "head", make("h2", "", t("Questions")), tools), list.node, csv, make("div", "go", go, summary), error);

    root.replaceChildren(about, asked);
    take(null);
    list.add();

    // A file dropped on the window while this tab is shown is for this tab.
    window.workbenchDecide.takes = (files) => {
      if (!root.offsetParent || document.body.matches(".no-image, .is-described") || files.length !== 1) return false;
      open(files[0]);
      return true;
    };
  };

  window.workbenchDecide = { view, takes: () => false };
})();
