// Makes elements of the trees of an answer (chat/markdown.py): "text" or [tag, attributes, ...trees].
// Only what is listed here is made, with textContent and a few attributes, never from HTML.
(() => {
  const { t } = window.workbenchLanguage;
  const { make, copyButton, set } = window.workbenchDraw;
  const MATH = "http://www.w3.org/1998/Math/MathML";
  const PLAIN = new Set(["p", "h3", "h4", "h5", "h6", "ul", "blockquote", "hr", "br", "strong", "em", "s", "code", "mark",
    "thead", "tbody", "tr"]);
  const MATH_TAGS = new Set(["math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "msup", "msub", "msubsup", "mfrac", "msqrt",
    "mroot", "mover", "munder", "munderover", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "menclose",
    "mmultiscripts", "mprescripts", "none"]);
  const MATH_ATTRIBUTES = new Set(["display", "displaystyle", "scriptlevel", "mathvariant", "stretchy", "fence", "form",
    "separator", "lspace", "rspace", "minsize", "maxsize", "accent", "accentunder", "largeop", "movablelimits", "symmetric",
    "linethickness", "width", "height", "depth", "columnalign", "rowspacing", "columnspacing", "columnlines", "rowlines",
    "notation"]);
  const SCHEMES = new Set(["http:", "https:", "mailto:"]);
  const PICTURE = /^data:image\/(png|jpeg|gif|webp);base64,/;

  const inside = (trees) => trees.map(render);

  const render = (tree) => {
    if (typeof tree === "string") return document.createTextNode(tree);
    const [tag, attributes, ...trees] = tree;
    if (PLAIN.has(tag)) return make(tag, "", ...inside(trees));
    return MAKERS[tag]?.(attributes, trees) ?? document.createTextNode("");
  };

  // A link is opened by a click only, in a page of its own that does not learn where it was clicked.
  const link = ({ href }, trees) => {
    let scheme = "";
    try { scheme = new URL(href).protocol; } catch { /* not an address */ }
    if (!SCHEMES.has(scheme)) return make("span", "", ...inside(trees));
    const node = make("a", "", ...inside(trees));
    return Object.assign(node, { href, title: href, target: "_blank", rel: "noopener noreferrer", referrerPolicy: "no-referrer" });
  };

  const picture = ({ src, alt }) => {
    if (!PICTURE.test(src)) return document.createTextNode(alt);
    return Object.assign(make("img", "inline"), { src, alt });
  };

  const code = ({ language }, trees) => {
    const pieces = trees.map((tree) => (typeof tree === "string" ? tree : make("span", `code-${tree[1].kind}`, tree[2])));
    const block = make("code", "", ...pieces), pre = make("pre", "", block);
    pre.tabIndex = 0;  // a wide one is scrolled by keys
    set(pre, "aria-label", language ? t("Code, {language}", { language }) : t("Code"));
    const head = make("div", "code-head", make("span", "", language || t("Code")),
      copyButton("icon copy", t("Copy code"), () => block.textContent));
    return make("div", "code", head, pre);
  };

  const table = (_, trees) => {
    const scroll = make("div", "table", make("table", "", ...inside(trees)));
    scroll.tabIndex = 0;
    set(scroll, "role", "region");
    set(scroll, "aria-label", t("Table"));
    return scroll;
  };

  const cell = (tag) => ({ align }, trees) => {
    const node = make(tag, "", ...inside(trees));
    if (["left", "center", "right"].includes(align)) node.style.textAlign = align;
    return node;
  };

  const formula = ({ tex, display }, [tree]) => {
    const name = display ? "formula display" : "formula";
    if (!tree) return make("span", name, make("code", "", tex));
    const node = make("span", name, mathElement(tree));
    node.title = tex;
    if (display) node.tabIndex = 0;
    return node;
  };

  const mathElement = (tree) => {
    if (typeof tree === "string") return document.createTextNode(tree);
    const [tag, attributes, ...trees] = tree;
    const node = document.createElementNS(MATH, MATH_TAGS.has(tag) ? tag : "mrow");
    for (const [name, value] of Object.entries(attributes)) if (MATH_ATTRIBUTES.has(name)) node.setAttribute(name, value);
    node.append(...trees.map(mathElement));
    return node;
  };

  const task = ({ done }) => {
    const box = make("span", "task", done ? "☑" : "☐");
    set(box, "role", "img");
    set(box, "aria-label", done ? t("done") : t("not done"));
    return box;
  };

  const MAKERS = {
    a: link, img: picture, pre: code, table, th: cell("th"), td: cell("td"), math: formula, task,
    ol: ({ start }, trees) => Object.assign(make("ol", "", ...inside(trees)), { start: Number(start) || 1 }),
    li: (attributes, trees) => make("li", attributes.task ? "with-task" : "", ...inside(trees)),
  };

  window.workbenchRich = { render };
})();
