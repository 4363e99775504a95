"""workbench.chat.markdown: an answer becomes trees, and nothing in it becomes HTML or a request."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from workbench.chat import markdown
from workbench.chat.markdown import Rendering, blocks

DATA = "data:image/png;base64,iVBORw0KGgo="


def every(trees: Any) -> Iterator[list[Any]]:
    """All elements of trees, the outer ones first."""
    for tree in trees:
        if isinstance(tree, list):
            yield tree
            yield from every(tree[2:])


def text_of(trees: Any) -> str:
    return "".join(tree if isinstance(tree, str) else text_of(tree[2:]) for tree in trees)


@pytest.mark.parametrize(
    "html",
    [
        '<div style="position:fixed">x</div>',
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "<!-- c --> <?php ?> <![CDATA[x]]>",
        '<form action="/v1">\n\n<input>\n</form>',
    ],
)
def test_html_is_text(html):
    trees = blocks(html)
    assert {tree[0] for tree in every(trees)} <= {"p", "br"}
    assert text_of(trees).replace(" ", "") == html.replace(" ", "").replace("\n", "")


@pytest.mark.parametrize(
    "address",
    ["http://a.example/x.png", "//a.example/x", "/logout", "data:image/svg+xml;base64,AA", "blob:x", "ftp://a/b"],
)
def test_a_picture_that_would_be_fetched_is_no_picture(address):
    elements = {tree[0]: tree for tree in every(blocks(f"![seen]({address})"))}
    assert "img" not in elements
    assert ("a" in elements) == address.startswith("http")


def test_a_picture_within_the_answer_is_shown_up_to_a_size():
    (image,) = [tree for tree in every(blocks(f"![a *red* dot]({DATA})")) if tree[0] == "img"]
    assert image[1] == {"src": DATA, "alt": "a *red* dot"}
    large = DATA.replace("=", "A" * markdown.MAX_PICTURE_CHARS)
    assert "img" not in {tree[0] for tree in every(blocks(f"![x]({large})"))}


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "vbscript:x", "data:text/html,x", "/v1/cache/clear", "#top"]
)
def test_a_link_leads_to_other_hosts_only(address):
    assert "a" not in {tree[0] for tree in every(blocks(f"[click]({address}) <{address}>"))}
    assert "click" in text_of(blocks(f"[click]({address})"))


def test_addresses_are_links():
    links = [
        tree
        for tree in every(blocks("[x](https://a.example) https://b.example <mailto:me@c.example>"))
        if tree[0] == "a"
    ]
    assert [link[1]["href"] for link in links] == ["https://a.example", "https://b.example", "mailto:me@c.example"]


@pytest.mark.parametrize(
    ("text", "display"),
    [("a $x^2$ b", False), ("a \\(x^2\\) b", False), ("$$x^2$$", True), ("\\[x^2\\]", True), ("\\[\nx^2\n\\]", True)],
)
def test_formulas_in_all_four_forms(text, display):
    (formula,) = [tree for tree in every(blocks(text)) if tree[0] == "math" and "tex" in tree[1]]
    assert formula[1] == {"tex": "x^2", "display": display}
    assert "msup" in {tree[0] for tree in every([formula])}


def test_prices_are_no_formulas():
    assert text_of(blocks("It costs $5, or $6 each.")) == "It costs $5, or $6 each."


@pytest.mark.parametrize(
    "tex", ["\\frac{a}{", "\\unknowncommand{x}", "\\href{http://a.example}{x}", "\\includegraphics{x}"]
)
def test_a_formula_that_cannot_be_read_shows_its_source_and_one_that_links_has_no_link(tex):
    (formula,) = [tree for tree in every(blocks(f"$${tex}$$")) if tree[0] == "math" and "tex" in tree[1]]
    assert formula[1]["tex"] == tex
    assert not [tree for tree in every([formula]) if {"href", "src", "style"} & set(tree[1])]


def test_code_has_a_language_and_colours():
    ((tag, attributes, *pieces),) = blocks("```py\ndef f():\n    return 1\n```")
    assert (tag, attributes) == ("pre", {"language": "Python"})
    assert ["span", {"kind": "keyword"}, "def"] in pieces
    assert text_of(pieces) == "def f():\n    return 1"
    assert blocks("```nothing-known\n<b>\n```") == (["pre", {"language": "nothing-known"}, "<b>"],)


def test_lists_tables_and_tasks():
    assert blocks("- [x] a\n- b") == (
        ["ul", {}, ["li", {"task": True}, ["task", {"done": True}], "a"], ["li", {}, "b"]],
    )
    assert blocks("- [ ] a\n\n- b")[0][2] == ["li", {"task": True}, ["p", {}, ["task", {"done": False}], "a"]]
    assert blocks("3. a")[0][:2] == ["ol", {"start": 3}]
    head, body = blocks("|a|b|\n|:-:|-:|\n|1|2|")[0][2:]
    assert head[2][2:] == [["th", {"align": "center"}, "a"], ["th", {"align": "right"}, "b"]]
    assert body[2][3] == ["td", {"align": "right"}, "2"]


def test_an_answer_that_grows_has_the_same_trees_in_the_end():
    """Cut at any place; finished code keeps its colours, and what is drawn already stays as it is."""
    text = "# T\n\nA *b*\nc\n\n- x\n- y\n\n```py\nx = 1\n\ny = 2\n```\n\n|a|\n|-|\n|1|"
    text += "\n\n$$\nx\n$$\n\n> q\n\nEnd.\n\nLast words."
    cuts = sorted(random.Random(7).sample(range(len(text)), 40))
    growing, before = Rendering(), []
    for cut in cuts:
        now = growing.update(text[:cut])
        assert now[: max(0, len(before) - 1)] == before[:-1], "a finished block changed"
        before = now
    assert tuple(growing.update(text)) == blocks(text)
    assert growing.update("Other words.") == [["p", {}, "Other words."]], "another text begins anew"
