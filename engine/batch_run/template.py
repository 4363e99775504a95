"""A prompt with placeholders: "What is on page {page} of {name}?" Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from string import Formatter

from engine.errors import BadRequest

BRACES = "write {{ and }} for braces that are text"


def placeholders(template: str, known: Collection[str], param: str) -> frozenset[str]:
    """The names that a template uses. Raises BadRequest for a name that is not known, and for braces that do not
    close."""
    used = set()
    try:
        for _, name, form, conversion in Formatter().parse(template):
            if name is None:
                continue
            if name not in known or form or conversion:
                whole = "".join((name, f"!{conversion}" if conversion else "", f":{form}" if form else ""))
                there = ", ".join(f"{{{one}}}" for one in known)
                why = f"there is no placeholder {{{whole}}}; here are {there}"
                raise BadRequest(f"{param}: {why} ({BRACES}).", param=param, code="unknown_placeholder")
            used.add(name)
    except ValueError as error:
        raise BadRequest(f"{param}: {error} ({BRACES}).", param=param, code="unknown_placeholder") from error
    return frozenset(used)


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with its placeholders filled in; values are text, whatever braces they hold. Raises KeyError."""
    return "".join(text + ("" if name is None else values[name]) for text, name, _, _ in Formatter().parse(template))
