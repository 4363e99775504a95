// A picture of the chat in full: as it was sent, and beside it as the model saw it, each with its size.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button } = window.workbenchDraw;
  let dialog = null, crop = null, steps = () => {};

  const figure = (name, title) => {
    const image = make("img"), words = make("figcaption", "", make("b", "", title), make("span"));
    image.addEventListener("load", () => say(words.lastChild, ` ${image.naturalWidth} × ${image.naturalHeight}`));
    return make("figure", name, image, words);
  };

  const build = () => {
    const name = make("h2"), close = button("icon close", "", () => dialog.close());
    const sent = figure("sent", t("As sent")), seen = figure("seen", t("As the model saw it")), line = make("p");
    const before = button("icon before", "", () => steps(-1)), after = button("icon after", "", () => steps(1));
    for (const [node, words] of [[close, t("Close")], [before, t("Previous picture")], [after, t("Next picture")]]) set(node, "aria-label", words);
    crop = window.workbenchCrop.panel(sent, () => dialog.close());
    dialog = make("dialog", "lightbox", make("header", "", name, crop.opener, before, after, close), make("div", "both", sent, seen), line, crop.form);
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      if (event.target.matches("input")) return;
      if (event.key === "ArrowLeft") steps(-1);
      if (event.key === "ArrowRight") steps(1);
    });
    document.querySelector(".gradio-container").append(dialog);
    return dialog;
  };

  // pictures: [{name, src, line, seen: () => Promise of an address or null, and what chat/crop.js takes}]; place: the one
  // to begin with.
  const open = (pictures, place) => {
    dialog ??= build();
    const [header, both, line] = dialog.children, [name, , before, after] = header.children, [sent, seen] = both.children;
    const showOne = async (at) => {
      const one = pictures[at];
      steps = (step) => { if (pictures[at + step]) showOne(at + step); };
      say(name, one.name);
      say(line, one.line);
      show(before, pictures.length > 1);
      show(after, pictures.length > 1);
      before.disabled = at === 0;
      after.disabled = at === pictures.length - 1;
      Object.assign(sent.firstChild, { src: one.src, alt: one.name });
      crop.begin(one);
      show(seen, false);
      const url = await one.seen().catch(() => null);
      if (name.textContent !== one.name || !url) return;
      Object.assign(seen.firstChild, { src: url, alt: t("{name} as the model saw it", { name: one.name }) });
      show(seen, true);
    };
    showOne(place);
    if (!dialog.open) dialog.showModal();
  };

  window.workbenchLightbox = { open };
})();
