// Sends one question at a time: replies arrive in a single value, where a later reply would replace an earlier one.
// Does not use `document`: tests/page runs this file in Node.
(() => {
  const questions = (props, watch, trigger) => {
    const waiting = [];
    let turn = 0, current = null;
    const next = () => {
      if (current || !waiting.length) return;
      current = waiting.shift();
      current.turn = ++turn;
      trigger("submit", { turn, what: current.what, fields: current.fields() });
    };
    watch("value", () => {
      if (!current || props.value?.turn !== current.turn) return;
      const { settle } = current, reply = props.value;
      current = null;
      settle(reply);
      next();
    });
    return {
      // fields is called when the question is sent. key: a newer question replaces a waiting one of the same key.
      ask: (what, fields, key = null) => new Promise((settle) => {
        const old = waiting.findIndex((question) => key && question.key === key);
        if (old >= 0) waiting.splice(old, 1)[0].settle({ stale: true });
        waiting.push({ what, fields, key, settle });
        next();
      }),
    };
  };

  globalThis.workbenchQueue = { questions };
})();
