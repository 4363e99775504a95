"""A settings file as it may be shown on a terminal: with what we write, and without keys, without comments and without
the values that its user has written there, any of which may be a secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from engine.launch.formats import dump, parse
from engine.launch.recipe import Setting, SettingsFormat

HIDDEN = "••••"
CHANGED = f"{HIDDEN} (changed)"
SECRET_NAME = re.compile("key|token|secret|passw|auth|bearer|credential|cookie", re.IGNORECASE)
COMMENT = re.compile(r"(^|\s)#.*")


def open_texts(settings: Iterable[Setting]) -> set[str]:
    """The texts among the values of settings that are no secrets."""
    found: set[str] = set()
    for setting in settings:
        names = [step for step in setting.path if isinstance(step, str)]
        if not setting.is_secret:
            found.update(_open(setting.value, names))
    return found


def _open(value: Any, names: list[str]) -> Iterator[str]:
    if any(map(SECRET_NAME.search, names)):
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _open(inner, [name])
    elif isinstance(value, list):
        for inner in value:
            yield from _open(inner, names)
    elif isinstance(value, str):
        yield value


def shown(text: str | None, form: SettingsFormat, texts: Collection[str], before: str | None = None) -> list[str]:
    """A file's lines with these texts in them, and HIDDEN for every other; CHANGED for one that the file has not had
    before. Raises BadRequest for a file that cannot be read."""
    document = parse(text or "", form)
    if document is None:
        return []
    known = set(_texts(parse(before, form))) if before is not None else None

    def hide(value: str) -> str:
        if value in texts or not value.strip():
            return value
        return HIDDEN if known is None or value in known else CHANGED

    _replace(document, hide)
    lines = dump(document, form, text or "").splitlines()
    return lines if form == "json" else [COMMENT.sub(rf"\1# {HIDDEN}", line) for line in lines]


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from _texts(inner)
    elif isinstance(node, str):
        yield node


def _replace(node: Any, change: Callable[[str], str]) -> None:
    """Change every text inside a document, in place."""
    pairs = list(node.items() if isinstance(node, dict) else enumerate(node)) if isinstance(node, dict | list) else []
    for key, inner in pairs:
        if isinstance(inner, str):
            node[key] = change(inner)
        else:
            _replace(inner, change)
