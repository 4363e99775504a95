"""The page's languages: code and catalogue are the same, and every request is answered in its reader's language."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests import catalogue
from tests.conftest import ROOT
from workbench import language, words
from workbench.language import NAMES, chosen, later, speaking, t, tn

WORKBENCH = ROOT / "workbench"
LOCAL = "http://127.0.0.1"
OTHERS = [name for name in NAMES if name != language.ENGLISH]
PLACE = re.compile(r"\{\w*\}")

NOT_SHOWN = {"app.py", "schema.py", "theme.py", "install.py"}
"""Modules without words of the page: the command, SQL, colours, and the manifest, which is the same for everybody."""


def test_code_and_catalogue_have_the_same_texts() -> None:
    told = catalogue.texts(WORKBENCH)
    assert len(told) > 500, "the test sees nothing"
    for name in OTHERS:
        texts = language.catalogue(name)
        assert {text: told[text] for text in told if text not in texts} == {}, f"{name}: not translated"
        assert [text for text in texts if text not in told] == [], f"{name}: nobody says this"


def test_a_translation_has_the_same_values() -> None:
    for name in OTHERS:
        wrong = {one: two for one, two in language.catalogue(name).items() if places(one) != places(two)}
        assert wrong == {}, name


def test_sabotage_a_value_that_a_translation_forgets() -> None:
    """Twin."""
    assert places("{count} of {all}") != places("{count} von allen")


def places(text: str) -> list[str]:
    return sorted(PLACE.findall(text))


def sentences(source: str) -> Iterator[str]:
    """Literals that read like words of the page and go past the catalogue."""
    tree = ast.parse(source)
    quiet: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            quiet.add(node.value)  # a docstring
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in {*catalogue.CALLS, "warning", "exception", "error", "DatabaseError", "plural", "get"}:
                quiet.update(one for argument in node.args for one in ast.walk(argument))
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in quiet
        if is_text and re.fullmatch(r"[ (]*[A-Za-z“][a-zA-Z']*,?( [a-z{][a-z']*[,:;]?){2,}.*", str(node.value)):  # type: ignore[attr-defined]
            yield str(node.value)  # type: ignore[attr-defined]


def test_no_sentence_of_the_page_stands_outside_of_the_catalogue() -> None:
    """In the modules of the page; in its scripts, the rule page/catalogue of tests/page/eslint.config.js sees to it."""
    files = [path for path in WORKBENCH.rglob("*.py") if path.name not in NOT_SHOWN]
    found = {path.name: list(sentences(path.read_text(encoding="utf-8"))) for path in files}
    shown = {
        name: [text for text in texts if not is_for_a_model_or_program(text)] for name, texts in found.items() if texts
    }
    assert {name: texts for name, texts in shown.items() if texts} == {}


def is_for_a_model_or_program(text: str) -> bool:
    """SQL, HTML, style, a form of a file, a question of the model, a call of a script."""
    return bool(
        re.search(
            r"SELECT|INSERT|UPDATE|DELETE|PRAGMA|<|trigger|\{|^(What|How|Is) .*\?$|^mlx-workbench |yes or no", text
        )
    )


def test_sabotage_a_sentence_beside_the_catalogue() -> None:
    """Twin."""
    assert list(sentences('def f():\n    return "The engine does not run."')) == ["The engine does not run."]
    assert list(sentences('def f():\n    return t("The engine does not run.")')) == []


@pytest.mark.parametrize(
    ("accepted", "setting", "expected"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "", "de"),
        ("en-US,en;q=0.9,de;q=0.8", "", "en"),
        ("fr,de;q=0.5,en;q=0.7", "", "en"),
        ("fr", "", "en"),
        ("", "", "en"),
        ("de;q=0", "", "en"),
        ("de;q=x, ;;,*", "", "en"),
        ("en", "de", "de"),
        ("de", "klingon", "de"),
    ],
)
def test_which_language_is_spoken(accepted: str, setting: str, expected: str) -> None:
    assert chosen(accepted, setting) == expected


def test_numbers_and_counted_things_as_the_language_has_them() -> None:
    told = (words.size(1.9 * 2**30), words.seconds(0.58), words.plural(12_345, "token"), words.percent(0.27))
    assert told == ("1.9 GB", "0.58 s", "12,345 tokens", "27 %")
    with speaking("de"):
        told = (words.size(1.9 * 2**30), words.seconds(0.58), words.plural(12_345, "token"), words.percent(0.27))
        assert told == ("1,9 GB", "0,58 s", "12.345 Token", "27 %")
        assert tn("{count} frame", "{count} frames", 1) == "1 Einzelbild"
    assert t("{count} from cache", count=1_000) == "1,000 from cache"


def test_what_is_said_later_is_said_in_the_readers_language() -> None:
    said = later("{count} tokens", count=2)
    assert said() == "2 tokens"
    with speaking("de"):
        assert said() == "2 Token"


def test_values_are_no_texts() -> None:
    assert t("{first} and {last}", first="{last}", last="{0}") == "{last} and {0}"


def test_each_request_is_answered_in_its_own_language(page_app) -> None:
    """The page's errors too; those of the API are English."""
    with TestClient(page_app(), base_url=LOCAL) as client:
        for accepted, tab, error in (
            ("de-DE", "Entscheiden", "Dieses Gespräch gibt es hier nicht mehr."),
            ("en", "Decide", "That conversation is not here any more."),
        ):
            headers = {"Accept-Language": accepted, "X-Workbench-Visitor": "somebody"}
            page = client.get("/", headers=headers).text
            config = json.loads(re.search(r"window.gradio_config = (.*?);</script>", page)[1])  # type: ignore[index]
            assert tab in [one["props"].get("label") for one in config["components"]]
            assert "__i18n__" not in page
            reply = client.get("/workbench/conversations/none/export.md", headers=headers)
            assert reply.json()["error"]["message"] == error
            api = client.post("/v1/chat/completions", json={"model": "demo", "messages": []}, headers=headers)
            assert api.status_code == 400 and "messages" in api.json()["error"]["message"]
        cookie = {"Accept-Language": "en", "Cookie": f"{language.COOKIE}=de", "X-Workbench-Visitor": "somebody"}
        reply = client.get("/workbench/conversations/none/export.md", headers=cookie)
        assert reply.json()["error"]["message"].startswith("Dieses Gespräch")
