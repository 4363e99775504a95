// What the composer shows beside Gradio's own parts: each file's name, size and tokens; a choice after a paste that was
// text and picture at once; and a message that waits until the answer that is being written is done.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, say, button } = window.workbenchDraw;
  const { bytes } = window.workbenchWords;
  let files = [], counts = [], offer = null, isHeld = false;
  const composer = () => document.querySelector("#composer");
  const area = () => composer()?.querySelector("textarea");

  // --- files

  const label = () => {
    const wrappers = [...(composer()?.querySelectorAll(".thumbnail-wrapper") ?? [])];
    wrappers.forEach((wrapper, place) => {
      wrapper.setAttribute("role", "group");  // Gradio calls it an item of a list, and has no list around it
      const file = files[place];
      if (!file) return;
      let words = wrapper.querySelector(".file-words");
      if (!words) wrapper.append(words = make("span", "file-words", make("b"), make("span")));
      const name = file.orig_name || file.path.split("/").pop();
      const tokens = counts.length === wrappers.length && counts[place] ? tn("{count} token", "{count} tokens", counts[place]) : "";
      say(words.firstChild, name);
      say(words.lastChild, [file.size ? bytes(file.size) : "", tokens].filter(Boolean).join(" · "));
      wrapper.setAttribute("aria-label", name);
      wrapper.title = name;
      wrapper.querySelector(".delete-button")?.setAttribute("aria-label", t("Remove {name}", { name }));
      window.workbenchOrder.dress(wrapper, place, wrappers.length, name);
    });
  };

  const changed = (value) => {
    files = value?.files ?? [];
    counts = [];
    requestAnimationFrame(label);
  };

  const tokens = (numbers) => { counts = numbers; label(); };

  // A tap on a thumbnail shows the picture; only the sign beside it takes it out.
  addEventListener("click", (event) => {
    const image = event.target.closest?.("#composer .thumbnail-item img");
    if (!image || event.target.closest(".delete-button")) return;
    const all = [...document.querySelectorAll("#composer .thumbnail-item img")];
    window.workbenchLightbox.open(all.map((one) => ({
      name: one.closest(".thumbnail-wrapper").title, src: one.src, line: "", seen: async () => null,
    })), all.indexOf(image));
  });

  // --- a line inside the composer with one button

  const ask = (words, name, press) => {
    offer?.remove();
    offer = make("div", "offer", make("span", "", words), button("", name, () => { press(); close(); }));
    offer.setAttribute("role", "status");
    composer().querySelector(".input-container").prepend(offer);
  };
  const close = () => { offer?.remove(); offer = null; };
  const tell = (words) => ask(words, t("Close"), () => {});

  // After a paste of something that is text and files: it is in the composer as text, and may become files.
  const offerFiles = (pasted, attach) => {
    const node = area(), before = node.value;
    setTimeout(() => {
      const after = node.value;
      ask(t("Pasted as text."), pasted.length > 1 ? t("Paste the files instead") : t("Paste the picture instead"), () => {
        if (node.value === after) write(before);
        attach();
      });
      node.addEventListener("input", close, { once: true });
    });
  };

  // Puts a text into the composer, as if it had been typed.
  const write = (text) => {
    const node = area();
    Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(node, text);
    node.dispatchEvent(new Event("input", { bubbles: true }));
    node.focus();
  };

  // --- a message that waits

  const hold = () => {
    if (isHeld || (!area()?.value.trim() && !files.length)) return;
    isHeld = true;
    const conversation = window.workbenchLive.here().conversation;
    ask(t("Waits for the answer to end, then it is sent."), t("Do not send"), release);
    const observer = new MutationObserver(() => {
      if (composer().querySelector(".stop-button")) return;
      observer.disconnect();
      setTimeout(() => {  // the page knows by then which conversation it shows
        const isThere = !conversation || conversation === window.workbenchLive.here().conversation;
        const send = isHeld && isThere && composer().querySelector(".submit-button");
        release();
        close();
        if (send) send.click();
      }, 0);
    });
    observer.observe(composer(), { childList: true, subtree: true });
  };
  const release = () => { isHeld = false; };

  // --- one's own message, drawn before Gradio hears of it: what Gradio does at Enter takes the browser several times as
  // long as the bubble, and would come first

  let isDrawn = false, isPassed = false;  // isPassed: the click that Gradio is to hear of

  const ahead = (event) => {
    const send = composer()?.querySelector(".submit-button");
    if (isPassed || !send || send.disabled) return;
    if (isDrawn) return stay(event);  // a second Enter sends nothing more
    const value = { text: area().value, files };
    const isUploaded = composer().querySelectorAll(".thumbnail-item").length === files.length;
    if (document.hidden || !isUploaded || window.workbenchOutgoing.isEmpty(value) || !window.workbenchLive.canSend()) return;
    stay(event);
    isDrawn = true;
    window.workbenchChat.own(value);
    requestAnimationFrame(() => setTimeout(pass, 0));
  };

  const stay = (event) => {
    event.preventDefault();
    event.stopPropagation();
  };

  const pass = () => {
    isDrawn = false;
    isPassed = true;
    composer().querySelector(".submit-button")?.click();
    isPassed = false;
  };

  addEventListener("keypress", (event) => {
    if (event.key === "Enter" && !event.shiftKey && event.target === area()) ahead(event);
  }, true);
  addEventListener("click", (event) => {
    if (event.target.closest?.("#composer .submit-button")) ahead(event);
  }, true);

  // Who stops the answer decides anew what to send.
  addEventListener("click", (event) => {
    if (event.target.closest?.("#composer .stop-button")) { release(); close(); }
  }, true);

  window.workbenchComposer = { changed, tokens, offerFiles, hold, tell, write };
})();
