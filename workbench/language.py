"""The page's words in the reader's language.

English stands in the code, as the argument of `t` and `tn`, and of their twins in static/language.js. The file
languages/de.json has the German of each; another file there, named in NAMES, is another language. A test keeps code and
catalogue the same (tests/workbench/test_language.py). What the API says, and what the engine says of an error, stays
English.

A request's language is that of the setting, a cookie, else the first that the browser asks for and that is here:
https://www.rfc-editor.org/rfc/rfc9110#name-accept-language. It holds for all that runs for the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = Path(__file__).parent / "languages"
COOKIE = "workbench-language"
ENGLISH = "en"
NAMES = {ENGLISH: "English", "de": "Deutsch"}
"""The languages of the page, each by its own name."""

_DECIMAL_COMMA = {"de": str.maketrans(",.", ".,")}

_language: ContextVar[str] = ContextVar("language", default=ENGLISH)


def t(text: str, /, **values: object) -> str:
    """The text in the reader's language, with these values in the place of their names: "{count} tokens". Whole numbers
    get their separators; other numbers come as text, from workbench.words.

    text: a literal, for the catalogue is made of them.
    """
    found = catalogue(_language.get()).get(text, text)
    return found.format_map({name: _shown(value) for name, value in values.items()}) if values else found


def tn(one: str, many: str, count: int, /, **values: object) -> str:
    """`t` of one text or another by a number, which is also the value {count}."""
    return t(one if count == 1 else many, count=count, **values)


def catalogued(text: str) -> str:
    """A text for the catalogue that `t` gets later: in the page's script, or where it is known who reads it."""
    return text


def later(text: str, /, **values: object) -> Callable[[], str]:
    """`t` for whoever asks then."""
    return lambda: t(text, **values)


def number(value: float, form: str = ",") -> str:
    """A number in a format of Python's, with the reader's signs: 1,234.5 or 1.234,5."""
    text = format(value, form)
    signs = _DECIMAL_COMMA.get(_language.get())
    return text.translate(signs) if signs else text


def _shown(value: object) -> str:
    return number(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def current() -> str:
    """The reader's language, as a BCP 47 tag."""
    return _language.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """In this language, whatever was asked for."""
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """English text -> the text of this language; {} for English itself."""
    if language == ENGLISH:
        return {}
    texts: dict[str, str] = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return texts


def chosen(accepted: str, setting: str = "") -> str:
    """The language of whoever asks. accepted: their Accept-Language. setting: "" where they chose none."""
    if setting in NAMES:
        return setting
    wishes = [_wish(item) for item in accepted.split(",")]
    for weight, language in sorted(wishes, key=lambda wish: -wish[0]):
        if weight > 0 and language in NAMES:
            return language
    return ENGLISH


def _wish(item: str) -> tuple[float, str]:
    """ "de-AT;q=0.8" -> (0.8, "de")."""
    tag, _, weight = item.partition(";")
    try:
        share = float(weight.strip().removeprefix("q=") or 1)
    except ValueError:
        share = 0.0
    return share, tag.strip().partition("-")[0].lower()


def catalogues(scripts: str) -> str:
    """The beginning of the page's scripts: their texts in every language (static/language.js)."""
    told = {language: _told_in(scripts, catalogue(language)) for language in NAMES}
    return f"globalThis.workbenchCatalogues = {json.dumps({'names': NAMES, 'texts': told}, ensure_ascii=False)};"


def _told_in(scripts: str, texts: Mapping[str, str]) -> Mapping[str, str]:
    """Those of the texts that these scripts have."""
    return {text: found for text, found in texts.items() if json.dumps(text, ensure_ascii=False) in scripts}


class InLanguage:
    """Lets each request be answered in the language of whoever asks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with speaking(chosen(headers.get("accept-language", ""), _setting(headers.get("cookie", "")))):
            await self._app(scope, receive, send)


def _setting(cookies: str) -> str:
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
