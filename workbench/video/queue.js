// One question at a time: the replies come through one value, and a reply that is overtaken would be lost.
// No document: tests/page reads this file as it is.
(() => {
  const questions = (props, watch, trigger) => {
    const waiting = [];
    let turn = 0, current = null;
    const next = () => {
      if (current || !waiting.length) return;
      current = waiting.shift();
      current.turn = ++turn;
      trigger("submit", { turn, what: current.what, asked: current.asked() });
    };
    watch("value", () => {
      if (!current || props.value?.turn !== current.turn) return;
      const { settle } = current, reply = props.value;
      current = null;
      settle(reply);
      next();
    });
    return {
      // asked is called when its turn has come. key: a newer question of this key takes the place of one that waits.
      ask: (what, asked, key = null) => new Promise((settle) => {
        const old = waiting.findIndex((one) => key && one.key === key);
        if (old >= 0) waiting.splice(old, 1)[0].settle({ stale: true });
        waiting.push({ what, asked, key, settle });
        next();
      }),
    };
  };

  globalThis.workbenchQueue = { questions };
})();
