// Rules for the page's scripts. Run from the repository's root: npm --prefix tests/page run lint
import js from "@eslint/js";
import globals from "globals";

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
    rules,
  },
  {
    files: ["tests/page/*.js"],
    languageOptions: { sourceType: "module", ecmaVersion: 2022, globals: globals.node },
    rules,
  },
];
