// One request of the Requests tab, opened. Words go in as textContent, never as HTML.
(() => {
  const { t, tn, number } = window.workbenchLanguage;
  const { make, say, set, button, copy } = window.workbenchDraw;
  const { STAGES, ms } = window.workbenchAxis;
  const { percent } = window.workbenchWords;
  const STAGE = Object.fromEntries(STAGES.map(([name, words, light, night]) => [name, { words, light, night }]));
  const FORMS = { curl: "curl", python: "Python (openai)", javascript: "JavaScript", pytest: "pytest" };
  const ROLES = { system: t("System"), user: t("User"), assistant: t("Assistant"), tool: t("Tool") };

  const section = (title, ...inside) => (inside.some(Boolean) ? make("section", "", make("h4", "", title), ...inside) : null);
  const text = (words) => make("pre", "", words);

  // What the time to the first token was spent on; a bar begins where the one before it ends.
  const waterfall = (parts) => {
    const list = make("ol", "waterfall");
    let before = 0;
    for (const part of parts) {
      const bar = make("i"), { words, light, night } = STAGE[part.stage];
      bar.style.marginLeft = `${100 * before}%`;
      bar.style.width = `${100 * part.share}%`;
      bar.style.setProperty("--light", light);
      bar.style.setProperty("--night", night);
      const line = make("li", "", make("span", "stage", words), make("span", "track", bar), make("span", "time", ms(part.ms)), make("span", "share", percent(part.share)));
      set(line, "data-ms", part.ms);
      list.append(line);
      before += part.share;
    }
    return list;
  };

  const facts = (values) => {
    const list = make("dl", "facts");
    for (const [name, value] of Object.entries(values)) list.append(make("dt", "", name), make("dd", "", typeof value === "string" ? value : JSON.stringify(value)));
    return list;
  };

  // What was asked for each medium: under the option's own name where all have the same, else under the medium's, too.
  const OPTIONS = ["detail", "max_pixels", "min_pixels", "exact_px", "crop_px", "animated", "sampling", "pages", "description"];
  const mediaOptions = (messages) => {
    const media = messages.flatMap((one) => one.content).filter((one) => one.type !== "text");
    const each = media.flatMap((one) => [one, ...(one.frames ?? [])]), asked = {};
    for (const name of OPTIONS) {
      const having = each.filter((one) => one[name] !== undefined), [first] = having;
      const isOfAll = media.every((one) => JSON.stringify(one[name]) === JSON.stringify(media[0][name])) && having.length === media.length;
      if (first && isOfAll) asked[name] = first[name];
      else for (const one of having) asked[`${one.param}: ${name}`] = one[name];
    }
    return asked;
  };

  const calls = (all) => all.map((call) => text(`${call.name}(${call.arguments})`));

  const part = (item, named) => {
    if (item.type === "text") return text(item.text);
    const url = named[item.param], image = url ? make("img") : null;
    if (image) { image.src = url; image.alt = ""; }
    const size = item.media ? `${item.media.media_type}, ${number(item.media.num_bytes)} B` : "";
    return make("p", "medium", image, make("span", "", [item.name, item.url, size, item.frames ? tn("{count} frame", "{count} frames", item.frames.length) : ""].filter(Boolean).join(" · ") || item.type));
  };

  const message = (item, named) => make("div", "message", make("h5", "", [ROLES[item.role] ?? item.role, item.name].filter(Boolean).join(" · ")),
    ...(item.reasoning ? [text(item.reasoning)] : []), ...item.content.map((one) => part(one, named)), ...calls(item.tool_calls ?? []));

  const answer = (choice) => {
    const known = choice.tokens.length && choice.tokens.every((token) => token.text !== undefined);
    const tokens = known ? window.workbenchProbabilities.draw(choice.tokens.map((token) => [token.text, token.logprob, token.top.map((other) => [other.text, other.logprob])])) : null;
    const thoughts = choice.reasoning ? make("details", "", make("summary", "", t("Thoughts")), text(choice.reasoning)) : null;
    return make("div", "message", thoughts, tokens ?? (choice.text ? text(choice.text) : null), ...calls(choice.tool_calls), make("p", "quiet-words", choice.finish_reason));
  };

  const failure = (error) => error && make("div", "failure", make("p", "", `${error.code} (${error.status}): ${error.message}`), ...error.causes.map((cause) => make("p", "cause", cause)));

  const strip = (lane, pictures) => {
    if (!lane || !lane.tokens) return null;
    const bar = make("div", "bar");
    set(bar, "role", "img");
    set(bar, "aria-label", lane.words);
    window.workbenchCache.fillSegments(bar, lane.segments, pictures);
    return make("div", "", bar, make("p", "quiet-words", `${lane.words}. ${lane.why}`));
  };

  // ask: asks the server. zip: where the request is as a zip. close: takes the view away.
  const draw = ({ whole, receipt, seen, pictures, named, strip: lane }, { title, ask, zip, close }) => {
    const said = make("p", "said"), form = make("select");
    set(said, "aria-live", "polite");
    set(form, "aria-label", t("Copy as"));
    form.append(...Object.entries(FORMS).map(([value, words]) => new Option(words, value)));
    const copying = button("quiet", t("Copy"), async () => {
      const reply = await ask("copy", { id: whole.id, form: form.value });
      if (!reply.error) await copy(reply.text);
      say(said, reply.error ?? t("Copied. The key is read from OPENAI_API_KEY."));
    });
    const down = button("quiet", t("Download as zip"), async () => {
      const response = await fetch(zip(whole.id));
      if (!response.ok) return say(said, (await response.json()).error?.message ?? t("The server refused."));
      window.workbenchDraw.save(`request-${whole.id.replace(/[^\w.-]/g, "_")}.zip`, await response.blob());
      say(said, t("vllm-mlx replay asks it again and compares."));
    });
    const isChat = whole.messages.length > 0 && !whole.questions.length && whole.prompt === null && whole.num_texts === null;
    const again = isChat && button("quiet", t("Ask again in Compare"), () => window.workbenchCompare.again(whole.id));
    const questions = whole.questions.length ? [text(JSON.stringify({ questions: whole.questions, decisions: whole.decisions }, null, 1))] : [];
    const raw = whole.prompt === null ? [] : [text(typeof whole.prompt === "string" ? whole.prompt : JSON.stringify(whole.prompt))];
    const parameters = { ...whole.parameters, ...mediaOptions(whole.messages) };
    const words = [whole.id, whole.model, whole.num_texts === null ? "" : tn("{count} text", "{count} texts", whole.num_texts), whole.served_by && t("served by {host}", { host: whole.served_by.server }), whole.usage && t("{prompt} + {answer} tokens", { prompt: number(whole.usage.prompt_tokens), answer: number(whole.usage.completion_tokens) })];
    const head = make("div", "opened-head", make("h4", "", title), make("label", "filter", make("span", "", t("Copy as")), form), copying, down, again, button("quiet", t("Close"), close));
    return make("div", "opened-inside", head, make("p", "quiet-words", words.filter(Boolean).join(" · ")), said,
      failure(whole.failure) && section(t("Error"), failure(whole.failure)),
      section(t("To the first token"), whole.first_token.length ? waterfall(whole.first_token) : null),
      section(t("Asked"), ...raw, ...whole.messages.map((one) => message(one, named)), ...questions, whole.media_dropped ? make("p", "quiet-words", t("Its media were too large to be kept.")) : null),
      section(t("Parameters"), Object.keys(parameters).length ? facts(parameters) : null),
      section(t("Answer"), ...whole.answer.map(answer)),
      section(t("What the model saw"), receipt && window.workbenchReceipts.draw("", receipt, () => Promise.resolve(seen))),
      section(t("Cache"), strip(lane, pictures)));
  };

  window.workbenchOpened = { draw };
})();
