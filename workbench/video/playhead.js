// Times of a clip: what the model has at a moment, and where its start and end may lie.
// Does not use `document`: tests/page runs this file in Node.
(() => {
  const CLOSE = 0.001;  // seconds: nearer than this, two times are one

  // The place of the frame that was taken last at this time, -1 before the first. times: ascending, in seconds.
  const frameAt = (times, time) => times.findLastIndex((taken) => taken <= time + CLOSE);

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // The smallest stretch that handles leave between them.
  const shortest = (whole) => Math.min(whole, Math.max(0.1, whole / 200));

  // Where an end may be put: `end` is "start" or "end", `ends` what both are now. Two decimals, as the fields show them.
  const placed = (end, time, ends, whole) => {
    const least = shortest(whole);
    const [low, high] = end === "start" ? [0, ends.end - least] : [ends.start + least, whole];
    return Number(clamp(time, Math.max(0, low), Math.min(whole, high)).toFixed(2));
  };

  // The time that a key moves a handle to; null for other keys.
  const moved = (key, time, whole) => {
    const step = Math.max(0.01, Number((whole / 100).toFixed(2)));
    const by = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step, PageDown: -10 * step, PageUp: 10 * step }[key];
    if (by !== undefined) return time + by;
    return { Home: 0, End: whole }[key] ?? null;
  };

  // The ends that two fields say; empty ones, and what is no number, stand for the clip's own.
  const endsOf = (from, to, whole) => {
    const number = (text, other) => {
      const value = Number(String(text).replace(",", "."));
      return String(text).trim() && Number.isFinite(value) ? clamp(value, 0, whole) : other;
    };
    return { start: number(from, 0), end: number(to, whole) };
  };

  // Whether a PNG has several pictures: its acTL chunk stands before the first picture's data. bytes: Uint8Array.
  const isMovingPng = (bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 8; at + 8 <= bytes.length; at += 12 + view.getUint32(at)) {
      const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
      if (name === "acTL") return true;
      if (name === "IDAT") return false;
    }
    return false;
  };

  globalThis.workbenchPlayhead = { frameAt, placed, moved, endsOf, isMovingPng };
})();
