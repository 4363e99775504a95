// The header's switch: which model answers in this conversation. The conversation's settings hold the name, in a field
// that nobody sees; what there is to choose from comes with the page's events.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button, keep } = window.workbenchDraw;
  const STATES = { ready: "ready", loading: "loading", downloading: "loading", known: "known", failed: "failed" };
  let chosen = "", again = () => {};

  const choices = () => window.workbenchModels?.latest().choices ?? [];
  const isOf = (name) => (one) => one.name === name;
  const isGone = () => Boolean(chosen) && choices().length > 0 && !choices().some(isOf(chosen));

  // The header's figures, with the model of this conversation in place of the default one.
  const of = (value) => {
    if (!chosen || value.state === "offline") return value;
    const one = choices().find(isOf(chosen));
    if (one?.is_default || (!one && !choices().length)) return value;
    if (!one) return { ...value, state: "failed", model: chosen, about: t("This model is not here any more. Choose another."), toy: "" };
    return { ...value, state: STATES[one.stage], model: one.name, about: one.about || one.words, toy: one.toy, takes: one.takes ?? value.takes, is_described: one.is_described };
  };

  const hold = (name) => {
    const field = document.querySelector("#chat-model :is(textarea, input)");
    if (!field) return;
    Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value").set.call(field, name);
    field.dispatchEvent(new Event("input", { bubbles: true }));
    follow(name);
  };

  const choose = async (one) => {
    hold(one.name);
    if (one.stage === "ready" || !one.is_here || !window.workbenchModels.latest().manages) return;
    const { problem } = await window.workbenchModels.act("load", { source: one.name });
    if (problem) window.workbenchList?.say(problem);
  };

  // The field has another value: somebody chose, or another conversation was opened.
  const follow = (name) => {
    if (name === chosen) return;
    chosen = name;
    again();
    dispatchEvent(new Event("workbench-switched"));
  };

  // What the card of the model says: what there is to choose from, and that the conversation's own model is gone.
  const part = (redraw) => {
    const gone = make("p", "gone"), title = make("h3", "", t("Answer with")), list = make("div", "choices");
    set(gone, "role", "status");
    again = () => {
      show(gone, isGone());
      say(gone, isGone() ? t("This conversation was with {chosen}, which is not here any more. Choose a model to go on.", { chosen }) : "");
      const all = choices();
      show(title, all.length > 1 || isGone());
      show(list, all.length > 1 || isGone());
      keep(list, all.map((one) => ({ ...one, key: one.name })), () => {
        const node = button("", "", () => choose(choices().find(isOf(node.dataset.key))));
        node.append(make("span"), make("span"));
        return node;
      }, (node, one) => {
        say(node.firstChild, one.name);
        say(node.lastChild, one.is_default ? t("{words} · default", { words: one.words }) : one.words);
        set(node, "aria-pressed", chosen ? isOf(chosen)(one) : one.is_default);
      });
      redraw();
    };
    return [gone, title, list];
  };

  addEventListener("workbench-models", () => again());

  // The name of the model that the header shows; "" for the default one.
  const name = () => chosen;

  window.workbenchSwitch = { of, part, follow, name };
})();
