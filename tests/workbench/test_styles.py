"""Styles: what one part of the page gives a class reaches no element of another part that happens to have it too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

WORKBENCH = ROOT / "workbench"
TOGETHER = {"branches"}
"""Classes of one part that another draws on purpose: the chat's messages have a chooser of branches."""


def everywhere(style: str) -> set[str]:
    """Classes that a style sheet gives something wherever they stand: the first of a selector that names no id."""
    rules = re.findall(r"([^{}]+)\{", re.sub(r"/\*.*?\*/", "", style, flags=re.S))
    selectors = [one for rule in rules if not rule.strip().startswith("@") for one in re.split(r",(?![^()]*\))", rule)]
    found = [re.search(r"\.([a-zA-Z][\w-]*)", selector) for selector in selectors if "#" not in selector]
    return {match[1] for match in found if match}


def reached(styles: dict[Path, str], scripts: dict[Path, str]) -> Iterator[tuple[str, str, str]]:
    """(style sheet, class, script of another folder that makes elements with it)."""
    for sheet, style in styles.items():
        for name in sorted(everywhere(style) - TOGETHER):
            made = re.compile(rf'(?:make|button)\([^)]*"(?:[\w -]* )?{name}(?: [\w -]*)?"')
            yield from (
                (sheet.name, name, script.name)
                for script, text in scripts.items()
                if script.parent != sheet.parent and made.search(text)
            )


def test_no_style_reaches_into_another_part() -> None:
    """But for workbench/static/, whose styles are for all."""
    styles = {path: path.read_text() for path in WORKBENCH.rglob("*.css") if path.parent.name != "static"}
    scripts = {path: path.read_text() for path in WORKBENCH.rglob("*.js")}
    assert len(styles) > 8 and len(scripts) > 12, "the test sees nothing"
    assert list(reached(styles, scripts)) == []


def test_sabotage_a_message_bar_that_is_called_as_an_answer_is() -> None:
    """Twin: so the answers of the Decide tab once lay over the page's lower corner."""
    styles = {Path("conversations/conversations.css"): "#list .x { a: b } .said { position: fixed }"}
    scripts = {Path("decide/decide.js"): 'make("p", "said", make("strong"))'}
    assert list(reached(styles, scripts)) == [("conversations.css", "said", "decide.js")]
