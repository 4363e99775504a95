// Rules for the page's scripts. Run from the repository's root: npm --prefix tests/page run lint
import js from "@eslint/js";
import globals from "globals";

// Every text of the page goes through the catalogue: t("…") with a literal. Where texts go in, no other literal may stand.
const TEXTS = { make: [2, Infinity], say: [1, 2], button: [1, 2], sureButton: [1, 3], heading: [0, 2], copyButton: [1, 2],
  labelled: [0, 1], tell: [0, 2], ask: [0, 0], choice: [0, 1] };
const ATTRIBUTES = new Set(["aria-label", "aria-description", "title", "placeholder", "alt"]);
const PROPERTIES = new Set(["textContent", "title", "placeholder", "alt"]);
const NAMES = /^(MLX Workbench|PNG|· MLX Workbench)$/;  // the same in every language
const isText = (text) => /[A-Za-z]{2,}/.test(text) && !NAMES.test(text);

const catalogue = {
  create: (context) => {
    const check = (node) => {
      if (!node) return;
      if (node.type === "ConditionalExpression") { check(node.consequent); check(node.alternate); }
      if (node.type === "LogicalExpression" || node.type === "BinaryExpression") { check(node.left); check(node.right); }
      const isLiteral = node.type === "Literal" && typeof node.value === "string" && isText(node.value);
      const isTemplate = node.type === "TemplateLiteral" && node.quasis.some((part) => isText(part.value.cooked.trim()));
      if (isLiteral || isTemplate) context.report({ node, message: "A text of the page outside of the catalogue: use t() of static/language.js." });
    };
    return {
      CallExpression: ({ callee, arguments: given }) => {
        const name = callee.name ?? "";
        if (["t", "tn"].includes(name)) {
          for (const text of given.slice(0, name === "t" ? 1 : 2)) {
            if (text.type !== "Literal") context.report({ node: text, message: "The catalogue is made of literals." });
          }
        }
        if (Object.hasOwn(TEXTS, name)) given.slice(...TEXTS[name]).forEach(check);
        if (name === "set" && ATTRIBUTES.has(given[1]?.value)) check(given[2]);
        if (callee.property?.name === "setAttribute" && ATTRIBUTES.has(given[0]?.value)) check(given[1]);
      },
      AssignmentExpression: ({ left, right }) => { if (PROPERTIES.has(left.property?.name)) check(right); },
      Property: ({ key, value }) => { if (PROPERTIES.has(key.name)) check(value); },
    };
  },
};

const rules = {
  ...js.configs.recommended.rules,
  "curly": ["error", "multi-line"],
  "eqeqeq": "error",
  "no-alert": "error",
  "no-eval": "error",
  "no-implied-eval": "error",
  "no-unused-vars": ["error", { argsIgnorePattern: "^_", ignoreRestSiblings: true }],
  "no-var": "error",
  "object-shorthand": "error",
  "prefer-arrow-callback": "error",
  "prefer-const": "error",
  "prefer-template": "error",
  // Words of prompts and answers go in as textContent, never as HTML.
  "no-restricted-properties": ["error",
    { property: "innerHTML", message: "Use textContent: the values hold words of prompts and answers." },
    { property: "outerHTML", message: "Use textContent: the values hold words of prompts and answers." },
    { property: "insertAdjacentHTML", message: "Use append: the values hold words of prompts and answers." },
  ],
};

export default [
  {
    files: ["workbench/**/*.js"],
    languageOptions: { sourceType: "script", ecmaVersion: 2022, globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    plugins: { page: { rules: { catalogue } } },
    rules: { ...rules, "page/catalogue": "error" },
  },
  {
    files: ["tests/page/*.js"],
    languageOptions: { sourceType: "module", ecmaVersion: 2022, globals: globals.node },
    rules,
  },
];
