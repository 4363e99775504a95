// Shows what the message being written would cost. Asks after a pause in the typing; only the last reply counts.
(() => {
  const { t } = window.workbenchLanguage;
  const PAUSE_MS = 300, OTHERS_MS = 1000;
  let changed = () => {};

  const line = (element, props, watch, trigger) => {
    const root = element.firstElementChild;
    const words = document.createElement("span"), more = document.createElement("span"), fit = document.createElement("button");
    more.className = "more";
    fit.type = "button";
    fit.textContent = t("Make it fit");
    fit.addEventListener("click", () => { fit.disabled = true; fitting = ++turn; trigger("submit", { turn }); });
    root.append(words, more, fit);
    let turn = 0, fitting = 0, timer = 0, othersTimer = 0;  // fitting: the turn of "Make it fit" while it has no reply

    const draw = (value) => {
      if (words.textContent !== (value.words ?? "")) words.textContent = value.words ?? "";
      window.workbenchComposer?.tokens(value.files ?? []);
      more.textContent = value.more ? ` · ${value.more}` : "";
      root.dataset.state = value.state ?? "";
      fit.hidden = !value.can_fit;
      fit.disabled = false;
    };
    const isEmpty = () => !document.querySelector("#composer textarea")?.value.trim()
      && !document.querySelector("#composer .thumbnail-item");

    changed = () => {
      clearTimeout(timer);
      turn += 1;  // replies on their way are out of date
      if (isEmpty()) draw({});
      timer = setTimeout(() => (isEmpty() ? draw({}) : trigger("input", { turn })), PAUSE_MS);
    };
    // What runs beside it is a part of what it costs. A reply that makes it fit is waited for: it counts them as well.
    window.addEventListener("workbench-running", () => {
      if (!othersTimer) othersTimer = setTimeout(() => { othersTimer = 0; if (!isEmpty() && turn !== fitting) changed(); }, OTHERS_MS);
    });
    watch("value", () => {
      if (props.value?.turn !== turn) return;
      fitting = 0;
      draw(props.value);
    });
    // A server that was away may have forgotten the question.
    window.workbenchNetwork.watch((lost) => { if (!lost) { fitting = 0; fit.disabled = false; } });
    draw({});
  };

  window.workbenchCost = { line, changed: () => changed() };
})();
