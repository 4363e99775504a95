// The page's own preferences, below the settings: light or dark, its language, and the way out. Both are kept by the
// browser: the first in its storage, the second in a cookie, for the server answers in that language (language.py).
(() => {
  const { COOKIE, chosen, names, t } = window.workbenchLanguage;
  const { make, set } = window.workbenchDraw;
  const KEY = "workbench-theme", YEAR_S = 365 * 24 * 3600;
  const system = matchMedia("(prefers-color-scheme: dark)");

  // --- light or dark

  const stored = () => { try { return localStorage.getItem(KEY) ?? ""; } catch { return ""; } };
  let theme = stored();
  const isDark = () => (theme ? theme === "dark" : system.matches);

  // Gradio sets the class by the system; where the reader wants another, it is put right.
  const apply = () => {
    if (document.body.classList.contains("dark") !== isDark()) document.body.classList.toggle("dark", isDark());
    document.documentElement.style.colorScheme = theme || "light dark";
  };
  new MutationObserver(apply).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  system.addEventListener("change", apply);
  apply();

  const setTheme = (value) => {
    theme = value;
    try { localStorage.setItem(KEY, value); } catch { /* blocked: until the next reload */ }
    apply();
  };

  // --- the language

  const setLanguage = (value) => {
    document.cookie = `${COOKIE}=${value}; path=/; max-age=${value ? YEAR_S : 0}; samesite=lax`;
    window.workbenchLive.flush();
    location.reload();
  };

  const choice = (label, options, value, change) => {
    const node = make("select");
    node.append(...options.map(([key, text]) => new Option(text, key, false, key === value)));
    set(node, "aria-label", label);
    node.addEventListener("change", () => change(node.value));
    return make("label", "", make("span", "", label), node);
  };

  const view = (element) => {
    const root = element.firstElementChild;
    root.append(
      choice(t("Appearance"), [["", t("as the system")], ["light", t("light")], ["dark", t("dark")]], theme, setTheme),
      choice(t("Language"), [["", t("as the browser")], ...Object.entries(names)], chosen, setLanguage));
    if (!window.gradio_config?.username) return;
    const out = make("a", "", t("Log out"));
    out.href = `${(window.gradio_config.root ?? "").replace(/\/$/, "")}/logout?all_session=false`;
    root.append(out);
  };

  window.workbenchPreferences = { view };
})();
