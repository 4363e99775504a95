// Draws the header. What is known of the model decides what the whole page offers: see `offers`.
(() => {
  const { language, t } = window.workbenchLanguage;
  const { make, say, set, show, button } = window.workbenchDraw;
  const KINDS = ["image", "video", "audio"];
  const EXAMPLE = "vllm-mlx-chat --model mlx-community/Qwen3-VL-4B-Instruct-4bit";
  const TAIL_CHARS = 12;  // the end of a name is always shown: there stands how the model is quantized
  let draw = () => {}, latest = null, known = "", model = { takes: null, toy: "" };

  // Classes of the page: no-image, no-video, no-audio for what the model cannot take, is-toy for a toy, is-described where another model describes media to it. Listeners of the
  // event "workbench-model" hear of a change; those of "workbench-running", that more or fewer requests run.
  const offers = (value) => {
    const now = JSON.stringify([value.takes, value.toy, value.is_described]);
    if (now === known) return;
    known = now;
    for (const kind of KINDS) document.body.classList.toggle(`no-${kind}`, Boolean(value.takes && !value.takes.includes(kind)));
    document.body.classList.toggle("is-toy", Boolean(value.toy));
    document.body.classList.toggle("is-described", Boolean(value.is_described));
    model = { takes: value.takes, toy: value.toy };
    window.dispatchEvent(new CustomEvent("workbench-model", { detail: model }));
  };

  const modelCard = () => {
    const card = make("div", "model-card", make("h2"), make("p", "toy"), make("p", "about"),
      ...window.workbenchSwitch.part(() => { if (latest) draw(latest); }),
      make("h3", "", t("Use another model")),
      make("p", "", t("Load or download one in the Models tab, or start the server with a model of the Hugging Face Hub or with a folder:")), make("code", "", EXAMPLE),
      make("p", "", t("A model of 4 billion parameters in 4 bits takes about 3 GB of memory.")), window.workbenchServer.opener("server-opener"));
    card.id = "model-card";
    card.popover = "auto";
    set(card, "role", "dialog");
    set(card, "aria-label", t("The model"));
    return card;
  };

  const view = (element, props) => {
    const root = element.firstElementChild, brand = make("h1", "brand", "MLX Workbench");
    const pill = button("pill model", "", () => {}), card = modelCard(), pills = make("div", "pills");
    const device = make("span", "pill device"), memory = make("span", "pill memory"), running = make("span", "pill running");
    pill.append(make("i"), make("span", "head"), make("span", "tail"));
    pill.popoverTargetElement = card;
    set(pill, "aria-haspopup", "dialog");
    running.title = t("Requests in the engine: this page, other pages and /v1");
    pills.append(pill, device, memory, running);
    root.append(brand, pills, card);
    const [name, toy, about] = card.children, [, head, tail] = pill.children;
    draw = (status) => {
      const value = window.workbenchSwitch.of(status);
      pill.className = `pill model ${value.state}`;
      const cut = value.model.length > 2 * TAIL_CHARS ? value.model.length - TAIL_CHARS : value.model.length;
      say(head, value.model.slice(0, cut));
      say(tail, value.model.slice(cut));
      set(pill, "aria-label", t("Model: {name}", { name: value.model }));
      pill.title = value.about;
      if (value.state !== "offline") say(name, value.model);
      say(toy, value.toy ? t("This is a toy. {about} For anything else, load a real model.", { about: value.toy }) : "");
      say(about, value.about);
      show(toy, Boolean(value.toy));
      say(device, value.device);
      device.title = value.device_title;
      say(memory, value.memory);
      memory.title = value.memory_title;
      if (running.textContent !== value.running) window.dispatchEvent(new Event("workbench-running"));
      say(running, value.running);
      offers(value);
    };
    // What the page itself holds is the same for everybody, in English.
    if (latest || language === "en") draw(latest ?? props.value);
  };

  // What is said comes with the page's events (conversations/live.js), perhaps before the header is there.
  const tell = (value) => { latest = value; draw(value); };

  window.workbenchHeader = { view, show: tell, model: () => model };
})();
