"""Settings put into files and taken out again: nothing else changes, whatever the file holds."""

from __future__ import annotations

import json

import pytest

from engine.errors import BadRequest
from engine.launch.edit import with_settings, without_settings
from engine.launch.formats import BOM, dump, parse
from engine.launch.recipe import Item, Setting, SettingsFormat

PROVIDER = Setting(("providers", "ours"), {"url": "http://x/v1", "models": ["a"], "on": True})
MODEL = Setting(("models", Item("name", "ours")), {"name": "ours", "model": "demo"})

TOML = """# mine
model = "gpt"   # the default

[providers.other] # keep
url = 'http://y'
retries = 3

[[hooks]]
command = "a"
"""
YAML = """# mine
name: "My Config"   # quoted
schema: v1
models:
  - name: other   # keep
    roles: [chat, edit]
    text: |
      two
      lines
# the end
"""
JSON = '{\n    "a": [1, 2.5, null],\n    "providers": {"other": {"url": "http://ü"}},\n    "z": true\n}'
LIST = "- model_id: mine\n  model_name: gpt\n"


@pytest.mark.parametrize(
    ("form", "text", "setting"),
    [
        ("toml", TOML, PROVIDER),
        ("toml", "", PROVIDER),
        ("toml", 'model = "gpt"\n', PROVIDER),
        ("toml", TOML.replace("\n", "\r\n"), PROVIDER),
        ("json", JSON, PROVIDER),
        ("json", JSON + "\n", PROVIDER),
        ("json", BOM + JSON, PROVIDER),
        ("json", '{\n\t"a": 1\n}\n', PROVIDER),
        ("json", "{}", PROVIDER),
        ("json", "", PROVIDER),
        ("yaml", YAML, MODEL),
        ("yaml", YAML.replace("\n", "\r\n"), MODEL),
        ("yaml", "models:\n- name: other\n", MODEL),
        ("yaml", "models:\n", MODEL),
        ("yaml", "", MODEL),
        ("yaml", LIST, Setting((Item("model_id", "ours"),), {"model_id": "ours"})),
        ("env", "# mine\nA=1\n\nB=x=y\n", Setting(("C",), "http://x")),
    ],
)
def test_what_is_put_in_comes_out_again(form: SettingsFormat, text: str, setting: Setting) -> None:
    changed = with_settings(text, form, [setting])
    assert with_settings(changed, form, [setting]) == changed, "twice is once"
    assert value_at(parse(changed, form), setting) == setting.value
    restored = without_settings(changed, form, [setting], text)
    assert parse(restored, form) == parse(text, form) or (not text.strip() and not parse(restored, form))
    for line in text.removeprefix(BOM).splitlines():
        if form != "json" and line.strip() not in ("", "models:"):
            assert line in changed.splitlines() and line in restored.splitlines(), "the user's lines stay as they are"
    assert changed.startswith(BOM) == text.startswith(BOM)
    assert ("\r\n" in changed) == ("\r\n" in text)


def value_at(document: object, setting: Setting) -> object:
    here: object = document
    for step in setting.path:
        if isinstance(step, Item):
            assert isinstance(here, list)
            (here,) = [item for item in here if item.get(step.field) == step.value]
        else:
            assert isinstance(here, dict)
            here = here[step]
    return here


def test_a_value_that_was_there_before_comes_back() -> None:
    before = '{"env": {"URL": "http://mine", "A": "1"}}'
    setting = Setting(("env", "URL"), "http://ours")
    changed = with_settings(before, "json", [setting])
    later = json.dumps({**json.loads(changed), "new": 1})
    assert json.loads(without_settings(later, "json", [setting], before)) == {**json.loads(before), "new": 1}


def test_what_the_user_has_changed_since_stays() -> None:
    setting = Setting(("env", "URL"), "http://ours")
    assert without_settings('{"env": {"URL": "http://theirs"}}', "json", [setting], "{}").count("theirs") == 1


def test_containers_made_for_it_go_with_it_and_others_stay() -> None:
    setting = Setting(("a", "b", "c"), 1)
    assert json.loads(without_settings('{"a": {"b": {"c": 1}}}', "json", [setting], "{}")) == {}
    assert json.loads(without_settings('{"a": {"b": {"c": 1}}}', "json", [setting], '{"a": {}}')) == {"a": {}}
    assert json.loads(without_settings('{"a": {"b": {"c": 1}, "d": 2}}', "json", [setting], "")) == {"a": {"d": 2}}


@pytest.mark.parametrize("place", ["before", "inside", "after"])
def test_comments_beside_our_entry_stay(place: str) -> None:
    ours = with_settings(YAML, "yaml", [MODEL])
    first, last = ours.index("  - name: ours"), ours.rindex("model: demo")
    at = {"before": first, "inside": last, "after": len(ours)}[place]
    indent = {"before": "  ", "inside": "", "after": ""}[place]
    commented = f"{ours[:at]}{indent}# a word of mine\n{ours[at:]}"
    commented = commented.replace("# a word of mine\nmodel", "# a word of mine\n    model")
    assert parse(commented, "yaml") == parse(ours, "yaml")
    for text in (without_settings(commented, "yaml", [MODEL], YAML), with_settings(commented, "yaml", [MODEL])):
        assert "# a word of mine" in text


def test_a_default_gives_way() -> None:
    default = Setting(("name",), "ours", is_default=True)
    assert json.loads(with_settings('{"name": "mine"}', "json", [default])) == {"name": "mine"}
    assert json.loads(with_settings("{}", "json", [default])) == {"name": "ours"}


@pytest.mark.parametrize(
    ("form", "text", "words"),
    [
        ("json", "{// a comment\n}", "JSON"),
        ("json", '{"a": 1, "a": 2}', "twice"),
        ("json", "[1]", "mapping"),
        ("json", '{"providers": "x"}', "at providers there is no mapping"),
        ("json", '{"providers": [1]}', "at providers there is no mapping"),
        ("json", "{", "JSON"),
        ("toml", "a = ", "TOML"),
        ("toml", "a = 1\na = 2\n", "TOML"),
        ("yaml", "a: [1", "YAML"),
        ("yaml", "a: 1\na: 2\n", "YAML"),
        ("yaml", "a: 1\n---\nb: 2\n", "YAML"),
        ("yaml", "- 1\n", "mapping"),
        ("yaml", "just a text", "mapping"),
    ],
)
def test_what_cannot_be_changed_without_loss_is_refused(form: SettingsFormat, text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        with_settings(text, form, [PROVIDER])


def test_a_list_is_not_replaced_by_a_mapping() -> None:
    with pytest.raises(BadRequest, match="at models there is no list"):
        with_settings("models: {a: 1}", "yaml", [MODEL])


def test_numbers_and_texts_survive_json() -> None:
    text = '{"big": 123456789012345678901234567890, "tiny": 1e-07, "text": "\\u00fc\\ud83d\\ude00 \\"q\\""}'
    assert parse(dump(parse(text, "json"), "json", text), "json") == json.loads(text)
