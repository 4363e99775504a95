// A part of a picture of the chat: dragged with the mouse or a finger on the picture in full, or given as four numbers.
// What is asked about it goes in as that part at its full size, beside the whole picture that is there already.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button } = window.workbenchDraw;
  const { dragged, problemOf } = window.workbenchCropRules;

  // The part of a picture as an image address. Browsers turn it upright, as the server does.
  const cut = async (src, [x, y, width, height]) => {
    const whole = new Image();
    whole.src = src;
    await whole.decode();
    const canvas = Object.assign(make("canvas"), { width, height });
    canvas.getContext("2d").drawImage(whole, x, y, width, height, 0, 0, width, height);
    return canvas.toDataURL();
  };

  // Where the picture itself lies in the page: its element may be wider or higher than what it shows.
  const shownAt = (image) => {
    const box = image.getBoundingClientRect();
    const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
    const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
    return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, scale };
  };

  // A touch screen would open its keyboard over the picture.
  const focus = (field) => { if (!matchMedia("(pointer: coarse)").matches) field.focus(); };

  const isWriting = () => Boolean(document.querySelector("#composer .stop-button"));

  // figure: holds the picture; done: closes the dialog. Returns what is to be shown below, and `begin` for each picture.
  const panel = (figure, done) => {
    const image = figure.querySelector("img"), frame = make("div", "crop-frame");
    let one = null, start = null;
    const field = (name) => {
      const input = Object.assign(make("input"), { type: "number", min: 0, step: 1, inputMode: "numeric" });
      input.addEventListener("input", draw);
      return [make("label", "", make("span", "", name), input), input];
    };
    const fields = [field(t("Left")), field(t("Top")), field(t("Width")), field(t("Height"))];
    const inputs = fields.map(([, input]) => input);
    const words = Object.assign(make("input", "question"), { type: "text", placeholder: t("Ask about this part") });
    set(words, "aria-label", t("Ask about this part"));
    const problem = make("div", "problem"), ask = Object.assign(make("button", "primary", t("Ask")), { type: "submit" });
    set(problem, "role", "alert");
    const leave = button("quiet", t("Cancel"), () => toggle(false));
    const form = make("form", "crop", make("div", "numbers", ...fields.map(([label]) => label)), words, make("div", "row", leave, ask), problem);
    form.noValidate = true;
    const opener = button("quiet crop-open", t("Ask about a part"), () => toggle(form.hidden));

    const part = () => inputs.map((input) => (input.value === "" ? NaN : Number(input.value)));

    function draw() {
      const [x, y, width, height] = part(), at = shownAt(image), home = figure.getBoundingClientRect();
      const isDrawn = (!form.hidden || start !== null) && !problemOf(part(), [image.naturalWidth, image.naturalHeight]);
      show(frame, isDrawn);
      if (!isDrawn) return;
      Object.assign(frame.style, {
        left: `${at.left - home.left + x * at.scale}px`, top: `${at.top - home.top + y * at.scale}px`,
        width: `${width * at.scale}px`, height: `${height * at.scale}px`,
      });
    }

    const put = (numbers) => {
      numbers.forEach((number, place) => { inputs[place].value = number; });
      say(problem, "");
      draw();
    };

    const toggle = (isOn) => {
      show(form, isOn);
      set(opener, "aria-expanded", isOn);
      if (isOn && !inputs[2].value) put([0, 0, image.naturalWidth, image.naturalHeight]);
      draw();
      if (isOn) focus(inputs[0]);
    };

    const place = (event) => {
      const at = shownAt(image);
      return [(event.clientX - at.left) / at.scale, (event.clientY - at.top) / at.scale];
    };

    image.addEventListener("pointerdown", (event) => {
      if (!one?.ask || event.button !== 0) return;
      event.preventDefault();
      start = { id: event.pointerId, at: place(event) };
      image.setPointerCapture(event.pointerId);
    });
    image.addEventListener("pointermove", (event) => {
      if (start?.id !== event.pointerId) return;
      const numbers = dragged(start.at, place(event), [image.naturalWidth, image.naturalHeight]);
      if (numbers) put(numbers);
    });
    // The form comes when the drag is over: it takes room from the picture, which must not move under the pointer.
    const end = (event) => {
      if (start?.id !== event.pointerId) return;
      start = null;
      if (!inputs[2].value) return;
      show(form, true);
      set(opener, "aria-expanded", true);
      draw();
      focus(words);
    };
    image.addEventListener("pointerup", end);
    image.addEventListener("pointercancel", end);
    image.addEventListener("dragstart", (event) => event.preventDefault());
    new ResizeObserver(draw).observe(figure);

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const numbers = part(), text = words.value.trim();
      const wrong = problemOf(numbers, [image.naturalWidth, image.naturalHeight]) || (text ? "" : t("Write what you want to know about it."))
        || (isWriting() ? t("An answer is being written: wait for its end, or stop it.") : "");
      say(problem, wrong);
      if (wrong) return;
      const [left, top] = one.corner, [x, y, width, height] = numbers;
      one.ask([left + x, top + y, width, height], text);
      words.value = "";
      done();
    });

    figure.append(frame);
    // picture: with `ask(part, text)` and the corner that it has in its file; without `ask` nothing can be asked.
    const begin = (picture) => {
      one = picture;
      start = null;
      for (const input of inputs) input.value = "";
      say(problem, "");
      show(form, false);
      show(frame, false);
      show(opener, Boolean(picture.ask));
      set(opener, "aria-expanded", false);
      figure.classList.toggle("can-crop", Boolean(picture.ask));
    };
    return { form, opener, begin };
  };

  window.workbenchCrop = { cut, panel };
})();
