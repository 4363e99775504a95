// What is said of a run, in words. Does not use `document`: tests/page runs this file in Node.
(() => {
  const { t, tn, number } = globalThis.workbenchLanguage;
  const { durationWords } = globalThis.workbenchWords;
  const STATES = {
    running: t("running"), pausing: t("pausing: the rows that were begun are being finished"), paused: t("paused"),
    stopped: t("stopped"), done: t("done"), failed: t("interrupted"),
  };
  const FILTERS = [["all", t("All")], ["waiting", t("Waiting")], ["answered", t("Answered")], ["failed", t("Failed")], ["warned", t("With warnings")], ["edited", t("Edited")]];
  const ORDERS = [["place", t("Order of the files")], ["name", t("Name")], ["answer", t("Answer")], ["tokens", t("Tokens")], ["ms", t("Time")], ["latest", t("Answered last")]];

  // How much of a run is done: from 0 to 1. While failed rows are asked again, they count as not done.
  const share = ({ counts, left }) => {
    const all = counts.all ?? 0;
    return all ? 1 - Math.max(left, counts.waiting ?? 0) / all : 0;
  };

  // "34 of 60 rows · 2 failed · 3 with warnings · about 12 s left"
  const progress = (run) => {
    const { counts, left_s: left } = run, done = Math.round(share(run) * (counts.all ?? 0));
    const said = [tn("{done} of {count} row", "{done} of {count} rows", counts.all ?? 0, { done })];
    if (counts.failed) said.push(t("{count} failed", { count: counts.failed }));
    if (counts.warned) said.push(t("{count} with warnings", { count: counts.warned }));
    if (counts.edited) said.push(t("{count} edited", { count: counts.edited }));
    if (left !== null && run.left && run.state === "running") said.push(t("about {time} left", { time: durationWords(Math.max(1, left)) }));
    if (run.left_out) said.push(tn("{count} file is left out: no medium", "{count} files are left out: no media", run.left_out));
    return said.join(" · ");
  };

  // What may be done with a run.
  const offers = ({ state, counts }) => {
    const goes = ["running", "pausing"].includes(state);
    return { pause: state === "running", stop: goes, resume: !goes && counts.waiting > 0, retry: !goes && counts.failed > 0, remove: !goes };
  };

  // "1 to 100 of 5,000"; "" without any.
  const span = (offset, shown, total) => (shown ? t("{first} to {last} of {total}", { first: offset + 1, last: offset + shown, total }) : "");

  const ms = (value) => (value < 1000 ? `${number(value, value < 10 ? 1 : 0)} ms` : `${number(value / 1000, 2)} s`);

  globalThis.workbenchBatchLines = { STATES, FILTERS, ORDERS, share, progress, offers, span, ms };
})();
