// The words of the page in the language of its reader, from the catalogue (workbench/language.py).
// tests/page runs this file in Node, where there is no document.
(() => {
  const COOKIE = "workbench-language";
  const { names, texts: all } = globalThis.workbenchCatalogues ?? { names: { en: "English" }, texts: {} };

  // The same rule as in language.py: the setting, else the first language of the browser that is here.
  const cookie = () => globalThis.document?.cookie.match(new RegExp(`(?:^|; )${COOKIE}=(\\w+)`))?.[1];
  const wanted = () => [cookie(), ...(globalThis.document ? navigator.languages : []).map((one) => one.split("-")[0].toLowerCase())];
  const chosen = cookie() in names ? cookie() : "";
  const language = wanted().find((one) => one in names) ?? "en", texts = all[language] ?? {};

  // What writes numbers is made once for each number of digits, for making it takes a hundred times as long as its work.
  const formats = {};
  const number = (value, digits = 1) =>
    (formats[digits] ??= new Intl.NumberFormat(language, { maximumFractionDigits: digits })).format(value);
  const shown = (value) => (typeof value === "number" ? number(value) : String(value));

  const filled = (text, values) =>
    (texts[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? shown(values[name]) : whole));

  // The text with these values in the place of their names: t("{count} tokens", { count: 1234 }).
  // text: a literal, for the catalogue is made of them.
  const t = (text, values = {}) => filled(text, values);

  // One text or another by a number, which is also the value {count}.
  const tn = (one, many, count, values = {}) => filled(count === 1 ? one : many, { count, ...values });

  const locale = language === "en" ? "en-GB" : language;  // the day before the month

  // The time of day of so many seconds since 1970: "07:05:09".
  const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

  // "pictures, clips or documents".
  const list = (items, type = "disjunction") => new Intl.ListFormat(locale, { type }).format(items);

  if (globalThis.document) document.documentElement.lang = language;

  globalThis.workbenchLanguage = { COOKIE, chosen, language, locale, names, number, clock, list, t, tn };
})();
