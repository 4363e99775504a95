"""Secrets are taken out of texts, addresses and JSON; everything else stays as it is."""

from __future__ import annotations

import pytest

from engine.request_log.redact import HIDDEN, Redactor

OWN = "the-own-key+/="
REDACTOR = Redactor((OWN, "abc"))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"my key is {OWN}!", f"my key is {HIDDEN}!"),
        ("http://h/?x=the-own-key%2B%2F%3D", f"http://h/?x={HIDDEN}"),
        ("sk-proj-abcdefghijklmnop1234 and on", f"{HIDDEN} and on"),
        ("Authorization: Bearer abcdefghijkl.mnop", f"Authorization: Bearer {HIDDEN}"),
        ("https://me:pass@host/a", f"https://{HIDDEN}@host/a"),
        ("see https://h/a.png?w=3&X-Amz-Signature=f00&n=1.", f"see https://h/a.png?w=3&X-Amz-Signature={HIDDEN}&n=1."),
        ("hf_abcdefghijklmnopqrst", HIDDEN),
    ],
)
def test_secrets_are_taken_out(text: str, kept: str) -> None:
    assert REDACTOR.text(text) == kept


@pytest.mark.parametrize(
    "text", ["abc is too short to be looked for", "ask-me about tokens=3", "https://h/a?w=3&page=2"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert REDACTOR.text(text) == text


def test_nothing_of_an_address_is_told_behind_its_question_mark() -> None:
    assert REDACTOR.address("https://u:p@h/a.png?w=3&x=1") == f"https://{HIDDEN}@h/a.png?{HIDDEN}"
    assert REDACTOR.address("https://h/a.png") == "https://h/a.png"


def test_json_is_walked_with_its_names() -> None:
    assert REDACTOR.json({OWN: [1, None, (OWN,)], "n": 1.5}) == {HIDDEN: [1, None, [HIDDEN]], "n": 1.5}
