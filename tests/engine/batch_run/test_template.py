"""Placeholders of a prompt."""

from __future__ import annotations

import pytest

from engine.batch_run.template import filled, placeholders
from engine.errors import BadRequest

KNOWN = ("name", "page", "a colour")


def test_values_are_text() -> None:
    template = "Page {page} of {name}: {{{a colour}}}?"
    assert placeholders(template, KNOWN, "--prompt") == {"page", "name", "a colour"}
    assert filled(template, {"page": "3", "name": "{x}.pdf", "a colour": "{page}"}) == "Page 3 of {x}.pdf: {{page}}?"
    assert placeholders("no braces", KNOWN, "--prompt") == frozenset()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("What is {nmae}?", r"there is no placeholder {nmae}; here are {name}, {page}, {a colour}"),
        ("{}", "there is no placeholder {}"),
        ("{name.__class__}", "no placeholder {name.__class__}"),
        ("{name!r}", "no placeholder {name!r}"),
        ("{page:>9}", "no placeholder {page:>9}"),
        ('{"a": 1}', "for braces that are text"),
        ("{name", "for braces that are text"),
        ("name}", "for braces that are text"),
    ],
)
def test_what_cannot_be_filled_is_named(template: str, words: str) -> None:
    with pytest.raises(BadRequest) as error:
        placeholders(template, KNOWN, "--prompt")
    assert words in error.value.message and error.value.message.startswith("--prompt: ")
