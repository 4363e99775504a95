// Numbers as text, in the same format in every tab. Does not use `document`: tests/page runs this file in Node.
(() => {
  // Three significant digits; whole numbers from a thousand on.
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

  // A factor as text: 1.3, 42, over a thousand.
  const times = (factor) => {
    if (factor >= 1000) return "over a thousand";
    return factor >= 10 ? factor.toFixed(0) : factor.toFixed(1);
  };

  // A probability as text: never 0 % or 100 % where it is neither.
  const percent = (share) => {
    if (share > 0 && share < 0.001) return "< 0.1 %";
    if (share < 1 && share > 0.999) return "> 99.9 %";
    return `${Number((100 * share).toFixed(1))} %`;
  };

  globalThis.workbenchWords = { figures, clock, seconds, times, percent };
})();
