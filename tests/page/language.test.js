import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { runInThisContext } from "node:vm";

const SCRIPT = readFileSync(new URL("../../workbench/static/language.js", import.meta.url), "utf8");

globalThis.workbenchCatalogues = { names: { en: "English", de: "Deutsch" }, texts: { en: {}, de: { "{count} tokens": "{count} Token", "Close": "Schließen" } } };

// A browser that wants these languages, with this cookie.
const spoken = (languages, cookie = "") => {
  globalThis.document = { cookie, documentElement: {} };
  Object.defineProperty(globalThis, "navigator", { value: { languages }, configurable: true });
  runInThisContext(SCRIPT);
  return globalThis.workbenchLanguage;
};

test("the first language of the browser that is here", () => {
  assert.equal((spoken(["fr-FR", "de-AT", "en"])).language, "de");
  assert.equal((spoken(["en-US", "de"])).language, "en");
  assert.equal((spoken(["fr"])).language, "en");
});

test("the setting comes before the browser", () => {
  assert.equal((spoken(["en"], "a=b; workbench-language=de")).language, "de");
  assert.equal((spoken(["de"], "workbench-language=xx")).language, "de");
});

test("a text with its values, and numbers as the language writes them", () => {
  const { t, tn, number } = spoken(["de"]);
  assert.equal(t("{count} tokens", { count: 12345 }), "12.345 Token");
  assert.equal(tn("{count} token", "{count} tokens", 2), "2 Token");
  assert.equal(tn("{count} token", "{count} tokens", 1), "1 token", "what has no translation is English");
  assert.equal(t("Close"), "Schließen");
  assert.equal(number(0.25, 2), "0,25");
  assert.equal(t("{name} {other}", { name: "{other}" }), "{other} {other}", "values are no texts");
});

test("one clock: 24 hours, in every language", () => {
  const seconds = new Date(2026, 10, 28, 19, 5, 9).getTime() / 1000, night = new Date(2026, 10, 28, 0, 5, 9).getTime() / 1000;
  for (const language of ["en", "de"]) assert.deepEqual([seconds, night].map(spoken([language]).clock), ["19:05:09", "00:05:09"]);
});
