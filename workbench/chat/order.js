// The order of the composer's files, which is the order in which the model gets them. A file is dragged with the mouse, or
// with a finger that is held on it for a moment; or it is moved by the two buttons beside it.
(() => {
  const { t } = window.workbenchLanguage;
  const { say, set, show, button, make } = window.workbenchDraw;
  const FAR_PX = 6, HOLD_MS = 300;
  let wanted = null, focus = null, drag = null, hasDragged = false, told = null;

  const files = () => [...document.querySelectorAll("#composer .thumbnail-wrapper")];

  // The value of the composer changes in an event of Gradio's: `ordered` runs in it.
  const move = (from, to) => {
    if (from === to || to < 0 || to >= files().length) return;
    wanted = { from, to };
    window.workbenchLive.act("release", {});
  };

  const ordered = (value) => {
    const moved = wanted && value && window.workbenchWords.moved(value.files ?? [], wanted.from, wanted.to);
    wanted = null;
    return moved ? { ...value, files: moved } : value;
  };

  const announce = (words) => {
    if (!told) {
      told = make("span", "unseen");
      set(told, "role", "status");
      document.body.append(told);
    }
    say(told, words);
  };

  // --- the two buttons

  const step = (wrapper, by) => {
    const from = files().indexOf(wrapper), to = from + by;
    focus = { place: to, by, name: wrapper.title };
    move(from, to);
  };

  const buttons = (wrapper) => {
    const back = button("move back", "‹", () => step(wrapper, -1)), on = button("move on", "›", () => step(wrapper, 1));
    const box = make("span", "moves", back, on);
    box.addEventListener("pointerdown", (event) => event.stopPropagation());
    return box;
  };

  // Called for each file whenever the composer has changed.
  const dress = (wrapper, place, count, name) => {
    if (!wrapper.querySelector(".moves")) {
      wrapper.append(buttons(wrapper));
      wrapper.addEventListener("pointerdown", (event) => press(wrapper, event));
      wrapper.addEventListener("touchmove", (event) => { if (drag?.isOn) event.preventDefault(); }, { passive: false });
      wrapper.addEventListener("contextmenu", (event) => { if (drag) event.preventDefault(); });
      wrapper.addEventListener("dragstart", (event) => event.preventDefault());
    }
    const box = wrapper.querySelector(".moves"), [back, on] = box.children;
    show(box, count > 1);
    back.disabled = place === 0;
    on.disabled = place === count - 1;
    set(back, "aria-label", t("Move {name} left", { name }));
    set(on, "aria-label", t("Move {name} right", { name }));
    if (focus?.place !== place || focus.name !== name) return;
    announce(t("{name} is now {number} of {count}.", { name, number: place + 1, count }));
    const next = focus.by < 0 ? back : on;
    (next.disabled ? (next === back ? on : back) : next).focus();
    focus = null;
  };

  // --- dragging

  const press = (wrapper, event) => {
    if (drag || event.button !== 0 || event.target.closest(".delete-button") || files().length < 2) return;
    drag = { wrapper, from: files().indexOf(wrapper), to: -1, x: event.clientX, y: event.clientY, id: event.pointerId, isOn: false };
    if (event.pointerType === "mouse") return;
    drag.timer = setTimeout(begin, HOLD_MS);
  };

  const begin = () => {
    drag.isOn = true;
    drag.to = drag.from;
    drag.wrapper.classList.add("dragged");
    try { drag.wrapper.setPointerCapture(drag.id); } catch { /* it was let go meanwhile */ }
  };

  const middle = (node) => {
    const box = node.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };

  const far = (event) => Math.hypot(event.clientX - drag.x, event.clientY - drag.y);

  const follow = (event) => {
    const { wrapper, from } = drag;
    wrapper.style.transform = `translate(${event.clientX - drag.x}px, ${event.clientY - drag.y}px)`;
    const distances = files().map((one, place) => {
      const [x, y] = place === from ? [drag.x, drag.y] : middle(one);
      return Math.hypot(event.clientX - x, event.clientY - y);
    });
    drag.to = distances.indexOf(Math.min(...distances));
    files().forEach((one, place) => {
      one.classList.toggle("goes-before", place === drag.to && place < from);
      one.classList.toggle("goes-after", place === drag.to && place > from);
    });
  };

  const end = (isDropped) => {
    const { wrapper, from, to, isOn, timer } = drag;
    clearTimeout(timer);
    drag = null;
    if (!isOn) return;
    wrapper.style.transform = "";
    for (const one of files()) one.classList.remove("dragged", "goes-before", "goes-after");
    hasDragged = true;
    setTimeout(() => { hasDragged = false; }, 0);
    if (isDropped) move(from, to);
  };

  addEventListener("pointermove", (event) => {
    if (drag?.id !== event.pointerId) return;
    if (!drag.isOn && far(event) > FAR_PX) {
      if (event.pointerType !== "mouse") { end(false); return; }  // a finger that scrolls
      begin();
    }
    if (drag.isOn) follow(event);
  });
  addEventListener("pointerup", (event) => { if (drag?.id === event.pointerId) end(true); });
  addEventListener("pointercancel", (event) => { if (drag?.id === event.pointerId) end(false); });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !drag?.isOn) return;
    event.preventDefault();
    end(false);
  }, true);
  // The click at the end of a drag is not one on the picture.
  addEventListener("click", (event) => { if (hasDragged) { event.stopPropagation(); event.preventDefault(); } }, true);

  window.workbenchOrder = { dress, ordered };
})();
