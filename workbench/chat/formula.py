"""A formula in LaTeX -> MathML, as a tree of plain values (see markdown.py). Pure.

Browsers draw MathML themselves (https://www.w3.org/TR/mathml-core/), so no script and no font has to be loaded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert

MAX_CHARS = 4000

_ELEMENTS = frozenset(
    [
        "math",
        "mrow",
        "mi",
        "mn",
        "mo",
        "mtext",
        "mspace",
        "msup",
        "msub",
        "msubsup",
        "mfrac",
        "msqrt",
        "mroot",
        "mover",
        "munder",
        "munderover",
        "mtable",
        "mtr",
        "mtd",
        "mstyle",
        "mpadded",
        "mphantom",
        "menclose",
        "mmultiscripts",
        "mprescripts",
        "none",
    ]
)
_ATTRIBUTES = frozenset(
    [
        "display",
        "displaystyle",
        "scriptlevel",
        "mathvariant",
        "stretchy",
        "fence",
        "form",
        "separator",
        "lspace",
        "rspace",
        "minsize",
        "maxsize",
        "accent",
        "accentunder",
        "largeop",
        "movablelimits",
        "symmetric",
        "linethickness",
        "width",
        "height",
        "depth",
        "columnalign",
        "rowspacing",
        "columnspacing",
        "columnlines",
        "rowlines",
        "notation",
        "xmlns",
    ]
)


@lru_cache(maxsize=512)
def formula(tex: str, display: bool) -> list[Any]:
    """["math", {"tex", "display"}, tree]; without a tree for a formula that cannot be read: its source is shown."""
    head = ["math", {"tex": tex, "display": display}]
    if len(tex) > MAX_CHARS:
        return head
    try:
        root = ElementTree.fromstring(convert(tex, display="block" if display else "inline"))
    except Exception:  # the converter raises whatever its tables and indices do on LaTeX that it does not know
        return head
    return [*head, _tree(root)]


def _tree(element: ElementTree.Element) -> list[Any]:
    """An element with what is known of it; one that is not known becomes a row of its children."""
    name = element.tag.rpartition("}")[2]
    attributes = {key: value for key, value in element.attrib.items() if key in _ATTRIBUTES and key != "xmlns"}
    inside: list[Any] = [element.text] if element.text and element.text.strip() else []
    inside += [_tree(child) for child in element]
    return [name if name in _ELEMENTS else "mrow", attributes, *inside]
