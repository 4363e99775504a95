"""Settings put into a document and taken out of it again. Pure; what they do not name stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from engine.errors import BadRequest
from engine.launch.formats import dump, empty, parse
from engine.launch.recipe import Item, PathStep, Setting, SettingsFormat

MISSING = object()


def with_settings(text: str, form: SettingsFormat, settings: Sequence[Setting]) -> str:
    """A file's text with these settings in it. Raises BadRequest where a list or a mapping would have to be replaced
    by another kind of value, or the text cannot be read."""
    document = parse(text, form)
    if document is None:
        document = empty(form, is_list=isinstance(settings[0].path[0], Item))
    for setting in settings:
        if not (setting.is_default and _get(document, setting.path) is not MISSING):
            _put(document, setting.path, setting.value)
    return _with_comments(dump(document, form, text), form, text)


def without_settings(text: str, form: SettingsFormat, settings: Sequence[Setting], before: str) -> str:
    """A file's text without these settings, as far as they are still as they were written: each is again what it was
    in the text before, or gone. So are containers that were made for them and are empty now."""
    document, old = parse(text, form), parse(before, form)
    if document is None:
        return text
    for setting in reversed(settings):
        if _get(document, setting.path) != setting.value:
            continue
        value = MISSING if old is None else _get(old, setting.path)
        if value is MISSING:
            _remove(document, setting.path, old)
        else:
            _put(document, setting.path, value)
    return _with_comments(dump(document, form, text), form, text)


def _with_comments(text: str, form: SettingsFormat, before: str) -> str:
    """The text with every line of comment of the one before: those that stood beside a value that has gone, as parsers
    see it, are at the end now."""
    if form not in ("toml", "yaml"):
        return text
    kept = set(map(str.strip, text.splitlines()))
    comments = [line.strip() for line in before.splitlines() if line.lstrip().startswith("#")]
    lost = [line for line in comments if line not in kept]
    end = "\r\n" if "\r\n" in before else "\n"
    return text + "".join(f"{line}{end}" for line in lost)


def _get(document: Any, path: Sequence[PathStep]) -> Any:
    """The value at a path, MISSING where there is none."""
    here = document
    for step in path:
        key = _key(here, step)
        if key is None:
            return MISSING
        here = here[key]
    return here


def _key(container: Any, step: PathStep) -> str | int | None:
    """Name or index of a step's value in a container, None where it has none."""
    if isinstance(step, Item):
        items = container if isinstance(container, list) else []
        found = (i for i, item in enumerate(items) if isinstance(item, dict) and item.get(step.field) == step.value)
        return next(found, None)
    return step if isinstance(container, dict) and step in container else None


def _put(document: Any, path: Sequence[PathStep], value: Any) -> None:
    here: Any = document
    for depth, step in enumerate(path):
        if not _holds(here, step):
            where = ".".join(_word(passed) for passed in path[:depth]) or "its top"
            wanted = "a list" if isinstance(step, Item) else "a mapping"
            raise BadRequest(f"at {where} there is no {wanted.removeprefix('a ')}, and {wanted} is needed there")
        key, is_last = _key(here, step), depth == len(path) - 1
        if is_last:
            inner = copy.deepcopy(value)
        elif key is not None and here[key] is not None:
            here = here[key]
            continue
        else:
            inner = [] if isinstance(path[depth + 1], Item) else {}
        if isinstance(step, Item) and key is None:
            here.append(inner)
            here = here[-1]
        else:
            name: Any = step if key is None else key
            here[name] = inner
            here = here[name]


def _holds(container: Any, step: PathStep) -> bool:
    return isinstance(container, list if isinstance(step, Item) else dict)


def _remove(document: Any, path: Sequence[PathStep], old: Any) -> None:
    """Take a value out. A container on the way to it that is empty then is again what it was in the old document."""
    del _get(document, path[:-1])[_key(_get(document, path[:-1]), path[-1])]
    for depth in range(len(path) - 1, 0, -1):
        if _get(document, path[:depth]):
            return
        value = MISSING if old is None else _get(old, path[:depth])
        holder = _get(document, path[: depth - 1])
        if value is not MISSING:
            holder[_key(holder, path[depth - 1])] = value
            return
        del holder[_key(holder, path[depth - 1])]


def _word(step: PathStep) -> str:
    return step if isinstance(step, str) else step.value
