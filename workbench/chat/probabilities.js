// An answer as its tokens, each tinted by how likely it was; the others that were likely at its place come beside it when
// the mouse is on it or it has the focus.
(() => {
  const { t, tn } = window.workbenchLanguage;
  const { make, say, set, show, stepAmong } = window.workbenchDraw;
  const { percent } = window.workbenchWords;
  const SIGNS = { "\n": "↵", "\t": "⇥", "\r": "␍" };

  // What cannot be seen is shown by a sign.
  const visible = (text) => text.replace(/[\n\t\r]/g, (sign) => SIGNS[sign]).replace(/^ | $/g, "␣") || "∅";

  let tip = null;
  const hide = () => { if (tip) show(tip, false); };

  const build = () => {
    tip = make("div", "token-tip", make("b"), make("ol"));
    tip.id = "token-tip";
    set(tip, "role", "tooltip");
    document.querySelector(".gradio-container").append(tip);
    addEventListener("scroll", hide, true);
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || tip.hidden) return;
      event.preventDefault();  // and the answer that is being written goes on
      event.stopPropagation();
      hide();
    }, true);
    return tip;
  };

  const row = (text, logprob, isTaken) => {
    const share = Math.exp(logprob), bar = make("i");
    bar.style.width = `${100 * share}%`;
    return make("li", isTaken ? "taken" : "", make("code", "", visible(text)), make("span", "bar", bar), make("span", "share", percent(share)));
  };

  const tell = (node) => {
    tip ??= build();
    const [text, logprob, top] = node.token, isListed = top.some(([other]) => other === text);
    say(tip.firstChild, `${visible(text)} · ${percent(Math.exp(logprob))}`);
    const rows = top.map(([other, value]) => row(other, value, other === text));
    tip.lastChild.replaceChildren(...rows, ...(isListed ? [] : [row(text, logprob, true)]));
    show(tip, true);
    const box = node.getClientRects()[0] ?? node.getBoundingClientRect();
    const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${below ? box.bottom + 6 : Math.max(8, box.top - 6 - tip.offsetHeight)}px`;
  };

  const piece = (token, isFirst) => {
    const [text, logprob] = token;
    if (logprob === null) return make("span", "unknown", text);
    const share = Math.exp(logprob), node = make("span", "token", text);
    node.token = token;
    node.tabIndex = isFirst ? 0 : -1;
    node.style.setProperty("--doubt", `${Math.round(100 * (1 - share))}%`);
    set(node, "role", "button");
    set(node, "aria-label", `${visible(text)}, ${percent(share)}`);
    set(node, "aria-describedby", "token-tip");
    return node;
  };

  // tokens: [text, log-probability or null, [[text, log-probability] of the likeliest ones]].
  const draw = (tokens) => {
    const known = tokens.filter(([, logprob]) => logprob !== null);
    const box = make("div", "tokens-view", make("p", "scale", t("unlikely"), make("i"), t("likely")), make("div", "token-text"));
    set(box.lastChild, "role", "group");
    set(box.lastChild, "aria-label", tn("{count} token with its probability", "{count} tokens with their probabilities", known.length));
    box.lastChild.append(...tokens.map((token) => piece(token, token === known[0])));
    box.addEventListener("pointerover", (event) => { const node = event.target.closest(".token"); if (node) tell(node); });
    box.addEventListener("pointerleave", () => { if (!box.contains(document.activeElement)) hide(); });
    box.addEventListener("focusin", (event) => {
      const node = event.target.closest(".token");
      if (!node) return;
      for (const other of box.querySelectorAll(".token[tabindex='0']")) other.tabIndex = -1;
      node.tabIndex = 0;
      tell(node);
    });
    box.addEventListener("focusout", hide);
    box.addEventListener("keydown", (event) => stepAmong([...box.querySelectorAll(".token")], event));
    return box;
  };

  // Shows an answer as it was again; nothing where it is.
  const close = (answer) => {
    answer.querySelector(".tokens-view")?.remove();
    show(answer.firstChild, true);
    hide();
  };

  // The reply of the server, with `problem` where there is none.
  const fetchTokens = async (turn) => {
    const { conversation } = window.workbenchLive.here();
    try {
      const response = await window.workbenchLive.ask(`conversations/${conversation}/turns/${turn}/tokens`);
      const reply = await response.json();
      return response.ok ? reply : { problem: reply.error?.message ?? t("The server refused.") };
    } catch {
      return { problem: t("The server cannot be reached just now.") };
    }
  };

  // Shows an answer of this turn as tokens. Returns whether that could be done; if not, why is said, unless the answer is
  // another one by now.
  const open = async (answer, turn) => {
    const { source } = answer, { tokens, problem } = await fetchTokens(turn);
    if (!answer.isConnected || answer.source !== source) return false;
    if (problem) {
      window.workbenchList?.say(problem);
      return false;
    }
    close(answer);
    answer.append(draw(tokens));
    show(answer.firstChild, false);
    return true;
  };

  window.workbenchProbabilities = { draw, open, close };
})();
