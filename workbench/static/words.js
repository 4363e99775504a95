// Numbers in words, the same in every tab. No document: tests/page reads this file as it is.
(() => {
  // Three figures, whole from a thousand on.
  const figures = (value) => {
    if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(3)));
  };

  // 0:07, 12:05; in: seconds.
  const clock = (seconds) => {
    const whole = Math.round(seconds);
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  };

  const seconds = (time) => `${Number(time.toFixed(2))} s`;

  // How many times as much, as it is said: 1.3, 42, over a thousand.
  const times = (factor) => {
    if (factor >= 1000) return "over a thousand";
    return factor >= 10 ? factor.toFixed(0) : factor.toFixed(1);
  };

  globalThis.workbenchWords = { figures, clock, seconds, times };
})();
