"""Code of an answer -> its pieces with the kind of each, for colours. Pure."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import Any

from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, Operator, String, _TokenType
from pygments.util import ClassNotFound

MAX_CHARS = 50_000
"""Longer code is shown without colours."""

_KINDS = (
    (Comment, "comment"),
    (Keyword, "keyword"),
    (Operator.Word, "keyword"),
    (String, "string"),
    (Number, "number"),
    (Name.Function, "name"),
    (Name.Class, "name"),
    (Name.Decorator, "name"),
    (Name.Builtin, "name"),
    (Name.Tag, "keyword"),
    (Name.Attribute, "name"),
)


@lru_cache(maxsize=128)
def coloured(code: str, language: str) -> tuple[str, tuple[str | list[Any], ...]]:
    """The language's full name ("" for one that is not known), and the code as texts and ["span", {"kind"}, text]."""
    if not language or len(code) > MAX_CHARS:
        return "", (code,)
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return "", (code,)
    runs = groupby(lexer.get_tokens(code), key=lambda token: _kind(token[0]))
    pieces = [(kind, "".join(text for _, text in run)) for kind, run in runs]
    return lexer.name, tuple(["span", {"kind": kind}, text] if kind else text for kind, text in pieces if text)


@lru_cache(maxsize=512)
def _kind(token: _TokenType) -> str:
    return next((name for parent, name in _KINDS if token in parent), "")
