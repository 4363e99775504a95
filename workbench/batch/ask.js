// What is asked about every file: the prompt, the form of the answer, and the settings.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, say, set, show, button } = window.workbenchDraw;
  const { labelled, questionList, csvInput } = window.workbenchQuestions;
  const FORMS = [["text", t("Text")], ["json", t("JSON")], ["questions", t("Typed questions")]];
  const SCHEMA = '{\n  "type": "object",\n  "properties": {\n    "color": {"type": "string"}\n  },\n  "required": ["color"]\n}';

  const area = (name, label, rows, placeholder) => labelled(label, Object.assign(make("textarea", name), { rows, placeholder }));
  const field = (label, input) => make("label", "field", make("span", "", label), input);
  const numeric = (value, more) => Object.assign(make("input"), { type: "number", value, ...more });

  // ask(path, method, body): of the routes of runs.
  const view = (setup, ask) => {
    const prompt = area("prompt", t("Prompt"), 3, t("What is in this picture?"));
    const hint = make("p", "help", t("{name} is the file's name, {page} the page of a PDF, {COLUMN} a column of a CSV."));
    const problem = make("p", "error");
    set(problem, "role", "alert");
    const schema = area("schema", t("JSON Schema"), 8, "");
    schema.spellcheck = false;
    schema.value = SCHEMA;
    const list = questionList(setup.kinds, () => say(problem, ""));
    const csv = csvInput(async (content) => {
      const reply = await ask("/questions", "POST", { csv: content });
      say(problem, reply.problem ?? "");
      if (reply.rows) list.fill(reply.rows);
    });
    const tools = make("div", "tools", button("", t("Add a question"), () => list.add().focus()), button("", t("Import CSV"), () => csv.click()));
    const asked = make("div", "typed", list.node, tools, csv);

    // --- the form of the answer
    let form = "text";
    const forms = make("div", "forms");
    set(forms, "role", "radiogroup");
    set(forms, "aria-label", t("Answers as"));
    for (const [name, words] of FORMS) {
      const input = Object.assign(make("input"), { type: "radio", name: "batch-form", value: name, checked: name === form });
      input.addEventListener("change", () => choose(name));
      forms.append(make("label", "", input, make("span", "", words)));
    }
    const choose = (name) => {
      form = name;
      forms.querySelector(`input[value="${name}"]`).checked = true;
      show(schema, name === "json");
      show(asked, name === "questions");
      prompt.placeholder = name === "questions" ? t("A text before the questions, if any") : t("What is in this picture?");
    };

    // --- the rest
    const system = area("system", t("System prompt"), 2, "");
    const most = numeric(setup.maxTokens, { min: 1, step: 1 }), heat = numeric(0, { min: 0, max: 10, step: 0.1 }), model = make("select");
    const models = field(t("Model"), model);
    const more = make("details", "rest", make("summary", "", t("Settings")), make("div", "fields", field(t("Tokens of an answer, at most"), most), field(t("Temperature"), heat), models), field(t("System prompt"), system));
    const choices = () => {
      const all = window.workbenchModels.latest().choices ?? [], chosen = model.value;
      model.replaceChildren(...all.map((one) => new Option(one.is_default ? t("{name} (default)", { name: one.name }) : one.name, one.is_default ? "" : one.name)));
      model.value = [...model.options].some((one) => one.value === chosen) ? chosen : "";
      show(models, all.length > 1);
    };
    addEventListener("workbench-models", choices);

    const node = make("section", "ask", make("h2", "", t("What to ask about each of them")), prompt, hint, make("div", "as", make("span", "", t("Answers as")), forms), schema, asked, more, problem);
    list.add();
    choose("text");
    choices();

    return {
      node,
      fail: (words) => say(problem, words ?? ""),
      fields: () => ({
        prompt: prompt.value, system: system.value, form, schema_text: schema.value, questions: form === "questions" ? list.fields() : [],
        max_tokens: Number(most.value) || 0, temperature: Number(heat.value) || 0, model: model.value,
      }),
      // From a run that was asked before.
      fill: (value) => {
        prompt.value = value.prompt ?? "";
        system.value = value.system ?? "";
        schema.value = value.schema_text || SCHEMA;
        most.value = value.max_tokens ?? setup.maxTokens;
        heat.value = value.temperature ?? 0;
        if (value.questions?.length) list.fill(value.questions);
        choose(value.form ?? "text");
      },
    };
  };

  window.workbenchBatchAsk = { view };
})();
