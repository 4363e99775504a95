// The folders of the list, by day. Does not use `document`: tests/page runs this file in Node.
(() => {
  const { locale, t } = globalThis.workbenchLanguage;
  const DAY_MS = 24 * 3600 * 1000;

  const midnight = (time) => new Date(time.getFullYear(), time.getMonth(), time.getDate());

  // "Today", "Yesterday", a weekday within a week, then "12 November", with the year where it is another.
  const day = (time, now) => {
    const days = Math.round((midnight(now) - midnight(time)) / DAY_MS);
    if (days <= 0) return t("Today");
    if (days === 1) return t("Yesterday");
    if (days < 7) return time.toLocaleDateString(locale, { weekday: "long" });
    const year = time.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
    return time.toLocaleDateString(locale, { day: "numeric", month: "long", ...year });
  };

  // [{key, title, items}] in the order of the items, which come pinned first and then newest first.
  const folders = (items, now) => {
    const groups = new Map();
    for (const item of items) {
      const title = item.is_pinned ? t("Pinned") : day(new Date(item.changed_s * 1000), now);
      if (!groups.has(title)) groups.set(title, { key: title, title, items: [] });
      groups.get(title).items.push(item);
    }
    return [...groups.values()];
  };

  globalThis.workbenchDays = { day, folders };
})();
