// What all columns of the Compare tab are asked: a message with files, or a request of the log once more.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, say, set, show, button, address } = window.workbenchDraw;

  // told: the text at first. acts: {upload, failed, changed}; changed is called after every change.
  const create = (told, suffixes, acts) => {
    let files = [], logged = null;  // {id, num_messages, num_media, pictures, text}: a request of the log in place of a message
    const text = Object.assign(make("textarea", "text"), { rows: 2, value: told, placeholder: t("One message for all columns") });
    set(text, "aria-label", t("Message"));
    text.addEventListener("input", acts.changed);
    const chooser = Object.assign(make("input"), { type: "file", accept: suffixes.join(","), multiple: true, hidden: true });
    chooser.addEventListener("change", () => { const picked = [...chooser.files]; chooser.value = ""; add(picked); });
    const thumbs = make("div", "thumbs"), addFiles = button("", t("Add files"), () => chooser.click());

    const thumb = (file) => {
      const remove = button("remove", "×", () => { files = files.filter((one) => one !== file); node.remove(); });
      set(remove, "aria-label", t("Remove {name}", { name: file.name }));
      const isPicture = file.type.startsWith("image/"), seen = isPicture ? Object.assign(make("img"), { src: address(file.path), alt: file.name }) : null;
      seen?.addEventListener("error", () => seen.remove());
      const node = make("div", "thumb", seen, make("span", "", file.name), remove);
      return node;
    };
    const add = async (picked) => {
      acts.failed("");
      if (logged) use(null);  // a file is for a message
      for (const one of picked) {
        try {
          const file = { path: (await acts.upload(one)).path, name: one.name, type: one.type };
          files.push(file);
          thumbs.append(thumb(file));
        } catch (reason) {
          acts.failed(t("{name} could not be sent: {reason}", { name: one.name, reason: reason.message ?? reason }));
        }
      }
    };

    const about = make("p"), words = make("p", "words"), seen = make("div", "thumbs"), source = make("div", "again", about, seen, words, button("", t("Write a message of your own"), () => use(null)));
    const use = (request) => {
      logged = request;
      const { id, num_messages, num_media } = logged ?? {};
      say(about, logged ? [t("Asked again: {id}", { id }), tn("{count} message", "{count} messages", num_messages),
        num_media && tn("{count} picture, clip or sound", "{count} pictures, clips or sounds", num_media)].filter(Boolean).join(" · ") : "");
      seen.replaceChildren(...(logged?.pictures ?? []).map((src) => make("div", "thumb", Object.assign(make("img"), { src, alt: "" }))));
      say(words, logged?.text ?? "");
      for (const node of [text, thumbs, addFiles]) show(node, !logged);
      show(source, Boolean(logged));
      acts.changed();
    };
    show(source, false);

    return {
      nodes: [source, text, thumbs, chooser], addFiles, text, add, use,
      isAgain: () => Boolean(logged),
      asked: () => ({ again: logged?.id ?? "", paths: files.map((file) => file.path) }),
    };
  };

  window.workbenchCompareComposer = { create };
})();
