// How much an answer hangs on each pair of frames, in words. drop: by how much its log-probability falls without that pair.
// Does not use `document`: tests/page runs this file in Node.
(() => {
  const { t } = globalThis.workbenchLanguage;
  const { seconds, times } = globalThis.workbenchWords;
  const LITTLE = 0.05;

  const hardlyMatters = (drop) => Math.abs(drop) < LITTLE;
  const factor = (drop) => times(Math.exp(Math.abs(drop)));

  // Under one pair.
  const pairWords = (drop) => {
    if (hardlyMatters(drop)) return t("hardly matters");
    return drop > 0 ? t("{factor} × less likely without", { factor: factor(drop) }) : t("{factor} × more likely without", { factor: factor(drop) });
  };

  // The place of the pair that changes the answer most; -1 where none does.
  const strongest = (drops) => {
    const sizes = drops.map(Math.abs), most = Math.max(...sizes);
    return most < LITTLE ? -1 : sizes.indexOf(most);
  };

  // All of it in a sentence. pairs: of each the frames as {number, time}; two of one time are one frame that goes in twice.
  const conclusion = (pairs, drops) => {
    const place = strongest(drops);
    if (place < 0) return t("No frame mattered by itself: whichever pair is left out, this answer stays about as likely.");
    const [one, two = one] = pairs[place], drop = drops[place];
    const values = { first: one.number, start: seconds(one.time), second: two.number, end: seconds(two.time), factor: factor(drop) };
    if (one.time === two.time) {
      return drop > 0 ? t("Frame {first}, at {start}, mattered most: without it, this answer is {factor} × less likely.", values)
        : t("Frame {first}, at {start}, mattered most: without it, this answer is {factor} × more likely.", values);
    }
    return drop > 0 ? t("Frames {first} and {second}, at {start} and {end}, mattered most: without them, this answer is {factor} × less likely.", values)
      : t("Frames {first} and {second}, at {start} and {end}, mattered most: without them, this answer is {factor} × more likely.", values);
  };

  globalThis.workbenchWeights = { pairWords, strongest, conclusion };
})();
