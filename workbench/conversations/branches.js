// Arrows at a message that has siblings (‹ 2/3 ›), and a button for earlier messages. They are put beside what Gradio
// draws, by the place of each message, and again whenever it draws anew.
(() => {
  const { make, say, button } = window.workbenchDraw;
  let lines = [], hasEarlier = false, waiting = false;

  const arrows = (line) => {
    const words = make("span"), back = button("", "‹", () => step(line.turn, -1)), on = button("", "›", () => step(line.turn, 1));
    back.setAttribute("aria-label", "Version before");
    on.setAttribute("aria-label", "Version after");
    return make("div", "branches", back, words, on);
  };

  const step = (turn, by) => window.workbenchLive.act("select", { turn, step: by });

  const place = () => {
    waiting = false;
    const rows = document.querySelectorAll("#chat .message-row");
    rows.forEach((row, number) => {
      const line = lines[number], old = row.querySelector(":scope > .branches");
      if (!line?.of) { old?.remove(); return; }
      if (old?.dataset.turn === line.turn && old.dataset.of === String(line.of)) return;
      const drawn = arrows(line);
      drawn.dataset.turn = line.turn;
      drawn.dataset.of = line.of;
      say(drawn.children[1], `${line.place}/${line.of}`);
      drawn.children[0].disabled = line.place === 1;
      drawn.children[2].disabled = line.place === line.of;
      old?.remove();
      row.append(drawn);
      row.classList.add("branched");
    });
    const chat = document.querySelector("#chat .bubble-wrap"), earlier = chat?.querySelector(":scope > .earlier");
    if (hasEarlier && chat && !earlier) {
      const more = button("earlier", "Show earlier messages", () => { more.disabled = true; window.workbenchLive.act("expand", {}); });
      chat.prepend(more);
    } else if (!hasEarlier) {
      earlier?.remove();
    } else if (earlier) {
      earlier.disabled = false;
    }
  };

  const soon = () => {
    if (waiting || (!hasEarlier && !lines.some((line) => line.of) && !document.querySelector("#chat :is(.branches, .earlier)"))) return;
    waiting = true;
    requestAnimationFrame(place);
  };

  let seen = null;
  const outline = (value) => {
    lines = value.outline ?? [];
    hasEarlier = Boolean(value.has_earlier);
    const chat = document.querySelector("#chat");
    if (chat && chat !== seen) {
      seen = chat;
      new MutationObserver(soon).observe(chat, { childList: true, subtree: true });
    }
    soon();
  };

  window.workbenchBranches = { outline };
})();
