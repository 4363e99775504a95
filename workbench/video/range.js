// Two handles on a timeline, for the start and the end of what is taken of a clip. They set the fields of the same name.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, set } = window.workbenchDraw;
  const { seconds } = window.workbenchWords;
  const { placed, moved, endsOf } = window.workbenchPlayhead;

  // from, to: inputs. changed(): they hold something new. title: of the side, for who cannot see.
  const range = (from, to, title, changed) => {
    const node = make("div", "ends"), handles = {};
    let whole = 0;
    const now = () => endsOf(from.value, to.value, whole);

    const draw = () => {
      const ends = now();
      for (const [name, handle] of Object.entries(handles)) {
        handle.style.left = `${whole ? (100 * ends[name]) / whole : 0}%`;
        set(handle, "aria-valuemin", 0);
        set(handle, "aria-valuemax", whole);
        set(handle, "aria-valuenow", ends[name]);
        set(handle, "aria-valuetext", seconds(ends[name]));
      }
    };
    const put = (name, time) => {
      const at = placed(name, time, now(), whole);
      const input = name === "start" ? from : to;
      const text = (name === "start" ? at <= 0 : at >= whole - 0.005) ? "" : String(at);
      if (input.value === text) return;
      input.value = text;
      draw();
      changed();
    };
    const handleOf = (name, words) => {
      const handle = make("div", `handle ${name}`);
      set(handle, "role", "slider");
      set(handle, "aria-label", `${words}, ${title}`);
      handle.tabIndex = 0;
      handle.addEventListener("keydown", (event) => {
        const time = moved(event.key, now()[name], whole);
        if (time === null) return;
        event.preventDefault();
        put(name, time);
      });
      handle.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        event.preventDefault();
        handle.focus();
        handle.setPointerCapture(event.pointerId);
      });
      handle.addEventListener("pointermove", (event) => {
        if (!handle.hasPointerCapture(event.pointerId)) return;
        const box = node.getBoundingClientRect();
        put(name, (whole * (event.clientX - box.left)) / box.width);
      });
      handles[name] = handle;
      return handle;
    };
    node.append(handleOf("start", t("Start")), handleOf("end", t("End")));
    for (const input of [from, to]) input.addEventListener("input", draw);
    return { node, show: (length) => { whole = length; draw(); } };
  };

  window.workbenchRange = { range };
})();
