// Numbers as text, in the same format in every tab. Does not use `document`: tests/page runs this file in Node.
(() => {
  const { language, number, t } = globalThis.workbenchLanguage;
  // With one decimal, also where it is 0.
  const fixed = (value) => value.toLocaleString(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

  // Three significant digits; whole numbers from a thousand on.
  const figures = (value) => {
    if (Math.abs(value) >= 1000) return number(value, 0);
    return number(Number(value.toPrecision(3)), 12);
  };

  // 0:07, 12:05, 1:02:05; in: seconds.
  const clock = (seconds) => {
    const whole = Math.round(seconds), minutes = Math.floor(whole / 60), two = (number) => String(number).padStart(2, "0");
    if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
    return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
  };

  // 0.58 s, 42 s; from a minute on 2:32. The same as seconds() in words.py.
  const seconds = (time) => (Math.round(time) < 60 ? `${number(Number(time.toFixed(2)), 2)} s` : clock(time));

  // A measured time: 1.5 ms, 284 ms, 1.25 s. The same as milliseconds() in words.py.
  const milliseconds = (time) => {
    if (time < 1000) return `${number(time, time < 10 ? 1 : 0)} ms`;
    return time < 60_000 ? `${number(time / 1000, 2)} s` : seconds(time / 1000);
  };

  // A factor as text: 1.3, 42, over a thousand.
  const times = (factor) => {
    if (factor >= 1000) return t("over a thousand");
    return factor >= 10 ? number(factor, 0) : fixed(factor);
  };

  // A probability as text: never 0 % or 100 % where it is neither.
  const percent = (share) => {
    if (share > 0 && share < 0.001) return `< ${number(0.1)} %`;
    if (share < 1 && share > 0.999) return `> ${number(99.9)} %`;
    return `${number(100 * share)} %`;
  };

  // How long something took, for a person: 0.4 s, 4 s, 1:05.
  const durationWords = (time) => {
    if (time < 1) return `${fixed(time)} s`;
    return time < 60 ? `${Math.round(time)} s` : clock(time);
  };

  // 12 KB, 3.4 MB: powers of 1024, as size() in words.py.
  const bytes = (count) => {
    for (const unit of ["B", "KB", "MB"]) {
      if (count < 1000) return `${number(count, 0)} ${unit}`;
      count /= 1024;
    }
    return `${count < 10 ? fixed(count) : number(count, 0)} GB`;
  };

  // A list with one of its items at another place; null where there is no such place.
  const moved = (list, from, to) => {
    if (![from, to].every((place) => Number.isInteger(place) && place >= 0 && place < list.length)) return null;
    const others = list.filter((_, place) => place !== from);
    return [...others.slice(0, to), list[from], ...others.slice(to)];
  };

  globalThis.workbenchWords = { bytes, moved, figures, clock, seconds, milliseconds, times, percent, durationWords };
})();
