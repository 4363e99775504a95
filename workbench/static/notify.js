// Tells of an answer that is done while nobody looks: a dot in the title, and a notification if that was switched on. The
// browser is asked for its permission only by a click on that switch. Installs the service worker (worker.js).
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show } = window.workbenchDraw;
  const LONG_MS = 5000, KEY = "workbench-notify", DOT = "● ";
  let installed = null, isMarked = false;

  const root = () => new URL((window.gradio_config?.root ?? location.origin).replace(/\/$/, ""), location.href).pathname.replace(/\/$/, "");

  // Browsers have service workers only on this machine and over https.
  const install = () => {
    const link = document.querySelector("link[rel=manifest]");
    if (link) link.href = `${root()}/manifest.json`;
    installed = navigator.serviceWorker?.register(`${root()}/workbench/worker.js`, { scope: `${root()}/`, updateViaCache: "none" });
    installed?.catch(() => { /* the browser forbids it; the page works without */ });
  };
  if (document.readyState === "complete") install();
  else addEventListener("load", install);

  // --- the switch

  const stored = () => { try { return localStorage.getItem(KEY) === "on"; } catch { return false; } };
  const store = (isOn) => { try { localStorage.setItem(KEY, isOn ? "on" : "off"); } catch { /* blocked: until the next reload */ } };
  const isOn = () => stored() && window.Notification?.permission === "granted";

  const view = (element) => {
    const box = make("input"), words = make("p", "hint");
    box.type = "checkbox";
    set(words, "role", "status");
    show(words, false);
    const tell = (text) => { say(words, text); show(words, Boolean(text)); };
    box.checked = isOn();
    box.addEventListener("change", async () => {
      tell("");
      if (!box.checked) { store(false); return; }
      box.checked = false;
      if (!window.Notification) { tell(t("This browser shows notifications only on this machine and over https.")); return; }
      const permission = await Notification.requestPermission();
      store(permission === "granted");
      box.checked = isOn();
      if (!box.checked) tell(t("The browser blocks notifications of this page; allow them in its settings."));
    });
    element.firstElementChild.append(make("label", "", box, make("span", "", t("Notify me when a long answer is done"))), words);
  };

  // --- an answer is done

  const marked = (title) => (isMarked ? `${DOT}${title}` : title);

  const mark = (on) => {
    isMarked = on;
    document.title = marked(document.title.replace(DOT, ""));
    (on ? navigator.setAppBadge?.() : navigator.clearAppBadge?.())?.catch(() => { /* not installed */ });
  };

  const notify = async (title) => {
    const words = { body: title || t("The answer is done."), tag: location.href, icon: `${root()}/workbench/icon-192.png`, data: location.href };
    const registration = await installed?.catch(() => null);
    if (registration) { await registration.showNotification(t("Your answer is done"), words); return; }
    const shown = new Notification(t("Your answer is done"), words);
    shown.addEventListener("click", () => { window.focus(); shown.close(); });
  };

  // title: of its conversation. Nothing of the answer itself leaves the page.
  const answered = ({ title, took_ms }) => {
    if (document.visibilityState === "visible") return;
    mark(true);
    if (took_ms >= LONG_MS && isOn()) notify(title).catch(() => { /* the browser does not show it */ });
  };
  document.addEventListener("visibilitychange", () => { if (isMarked && document.visibilityState === "visible") mark(false); });

  window.workbenchNotify = { view, answered, marked };
})();
