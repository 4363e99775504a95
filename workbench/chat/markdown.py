"""Markdown of an answer -> trees of plain values, from which the page makes elements (chat/rich.js). Pure.

    tree    "text" | [tag, {attribute: value}, *trees]

An answer comes from outside. No HTML in it is parsed: it is shown as it stands. What would make the page fetch
something becomes a link, which a person may click. The page makes only the elements that it knows, so a tree is no way
around this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath import texmath_plugin

from workbench.chat.code import coloured
from workbench.chat.formula import formula

Tree = str | list[Any]

MAX_PICTURE_CHARS = 2_000_000
"""Longest `data:` address of a picture that is shown: 1.5 MB of picture."""

_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+")
_LINK = re.compile(r"(?:https?://|mailto:)\S", re.IGNORECASE)
_TASK = re.compile(r"\[([ xX])\]\s")
_ALIGN = re.compile(r"text-align:\s*(left|center|right)")

_PLAIN = {"strong", "em", "s", "blockquote", "table", "thead", "tbody", "tr", "hr", "bullet_list"}
_TAGS = {"blockquote": "blockquote", "bullet_list": "ul"}
_INLINE_FORMULAS = {"math_inline", "math_single"}
_FORMULAS = {"math_block", "math_block_label", "math_block_eqno", "math_inline_double"}


@lru_cache(maxsize=1)
def parser() -> MarkdownIt:
    """CommonMark with tables, struck-out text, bare addresses and formulas in $, $$, \\( \\) and \\[ \\]."""
    parse = MarkdownIt("commonmark", {"html": False, "linkify": True, "breaks": True})
    parse.disable(["html_block", "html_inline"])
    parse.enable(["table", "strikethrough", "linkify"])
    # Without digits beside the signs, prices stay text: "$5 and $6".
    parse.use(dollarmath_plugin, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True)
    return parse.use(texmath_plugin, delimiters="brackets")


class Rendering:
    """The trees of an answer that grows: its finished blocks are parsed once, only the last one again and again."""

    def __init__(self) -> None:
        self._text = ""
        self._done: list[Tree] = []
        self._start = 0  # of the part of the text that is not finished

    def update(self, text: str) -> list[Tree]:
        """One tree for each block of the text."""
        if not text.startswith(self._text):
            self._done, self._start = [], 0
        self._text = text
        rest = text[self._start :]
        tokens = parser().parse(rest)
        starts = [token.map[0] for token in tokens if token.level == 0 and token.nesting >= 0 and token.map]
        if len(starts) > 1:
            num_chars = sum(map(len, rest.splitlines(keepends=True)[: starts[-1]]))
            self._done += trees(parser().parse(rest[:num_chars]))
            self._start += num_chars
            tokens = parser().parse(rest[num_chars:])
        return [*self._done, *trees(tokens, whole=False)]


@lru_cache(maxsize=512)
def blocks(text: str) -> tuple[Tree, ...]:
    """The trees of a whole answer, one for each block. Kept for the next time the chat is shown."""
    return tuple(trees(parser().parse(text)))


def trees(tokens: Sequence[Token], whole: bool = True) -> list[Tree]:
    """Tokens of the parser -> trees. whole: False while the text goes on: code is coloured at its end."""
    return [tree for node in SyntaxTreeNode(tokens).children for tree in _trees(node, whole)]


def _trees(node: SyntaxTreeNode, whole: bool) -> list[Tree]:
    """The trees of one node: one, or those of its children where the node itself is not shown."""
    if node.type in _PLAIN:
        return [[_TAGS.get(node.type, node.type), {}, *_inside(node, whole)]]
    if node.type in _INLINE_FORMULAS or node.type in _FORMULAS:
        return [formula(node.content.strip(), display=node.type in _FORMULAS)]
    make = _MAKERS.get(node.type)
    return make(node, whole) if make else [node.content]


def _inside(node: SyntaxTreeNode, whole: bool) -> list[Tree]:
    return [tree for child in node.children for tree in _trees(child, whole)]


def _paragraph(node: SyntaxTreeNode, whole: bool) -> list[Tree]:
    """A list whose items follow each other closely has no paragraphs."""
    inside = _inside(node, whole)
    return inside if node.hidden else [["p", {}, *inside]]


def _heading(node: SyntaxTreeNode, whole: bool) -> list[Tree]:
    """The page has its own titles above: an answer's begin at the third level."""
    return [[f"h{min(6, int(node.tag[1]) + 2)}", {}, *_inside(node, whole)]]


def _ordered_list(node: SyntaxTreeNode, whole: bool) -> list[Tree]:
    return [["ol", {"start": node.attrs.get("start", 1)}, *_inside(node, whole)]]


def _list_item(node: SyntaxTreeNode, whole: bool) -> list[Tree]:
    inside = _inside(node, whole)
    loose = bool(inside) and isinstance(inside[0], list) and inside[0][0] == "p"
    words = inside[0][2:] if loose else inside
    task = _TASK.match(words[0]) if words and isinstance(words[0], str) else None
    if task is None:
        return [["li", {}, *inside]]
    words = [["task", {"done": task[1] != " "}], words[0][task.end() :], *words[1:]]
    return [["li", {"task": True}, *([["p", {}, *words], *inside[1:]] if loose else words)]]


def _cell(node: SyntaxTreeNode, whole: bool) -> list[Tree]:
    align = _ALIGN.search(str(node.attrs.get("style", "")))
    return [[node.type, {"align": align[1]} if align else {}, *_inside(node, whole)]]


def _code_block(node: SyntaxTreeNode, whole: bool) -> list[Tree]:
    language = node.info.strip().split(maxsplit=1)[0] if node.info.strip() else ""
    label, pieces = coloured(node.content.rstrip("\n"), language if whole else "")
    return [["pre", {"language": label or language}, *pieces]]


def _link(node: SyntaxTreeNode, whole: bool) -> list[Tree]:
    return _link_to(str(node.attrs.get("href", "")), _inside(node, whole))


def _image(node: SyntaxTreeNode, whole: bool) -> list[Tree]:
    """A picture within the answer itself is shown; one that would have to be fetched is a link."""
    address = str(node.attrs.get("src", ""))
    if len(address) <= MAX_PICTURE_CHARS and _PICTURE.fullmatch(address):
        return [["img", {"src": address, "alt": node.content}]]
    return _link_to(address, [node.content or "picture"])


def _link_to(address: str, inside: list[Tree]) -> list[Tree]:
    """A link to another host. An address of this server, or of no kind that is known, is shown as text."""
    if _LINK.match(address):
        return [["a", {"href": address}, *inside]]
    return [*inside, f" ({address if len(address) < 200 else f'{address[:200]}…'})"] if address else inside


_MAKERS: dict[str, Callable[[SyntaxTreeNode, bool], list[Tree]]] = {
    "inline": _inside,
    "paragraph": _paragraph,
    "heading": _heading,
    "ordered_list": _ordered_list,
    "list_item": _list_item,
    "th": _cell,
    "td": _cell,
    "fence": _code_block,
    "code_block": _code_block,
    "code_inline": lambda node, whole: [["code", {}, node.content]],
    "softbreak": lambda node, whole: [["br", {}]],
    "hardbreak": lambda node, whole: [["br", {}]],
    "link": _link,
    "image": _image,
}
