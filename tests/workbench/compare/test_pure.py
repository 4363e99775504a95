"""The pure parts of the Compare tab: settings of a column, marks between answers, sets of prompts and their table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest

from engine.errors import BadRequest
from engine.types import Sampling
from workbench.chat.convert import user_entries
from workbench.chat.markdown import Tree, blocks
from workbench.compare import difference, prompts
from workbench.compare.columns import check_number, read_column, request_of, texts_of


def test_a_column_asks_what_the_chat_would_with_its_settings() -> None:
    fields = {"model": "m", "temperature": "0,5", "max_tokens": "7", "fps": "2", "system": "Be brief.", "reuse": False}
    column = read_column({**fields, "max_pixels": "784", "votes": 3})
    entries = user_entries("What is it?", ["/a.png", "/b.mp4", "/c.wav"])
    request = request_of(entries, column, "page", "tenant")
    assert (request.model, request.sampling, request.max_tokens) == ("m", Sampling(temperature=0.5), 7)
    assert (request.frames.fps, request.reuse, request.source) == (2.0, False, "compare")
    assert (request.session, request.tenant) == ("page", "tenant")
    system, asked = request.messages
    assert system.parts[0].text == "Be brief."
    assert [(part.kind, part.max_pixels) for part in asked.parts] == [
        ("image", 784),
        ("video", 784),
        ("audio", None),
        ("text", None),
    ]
    assert texts_of(fields) == {key: fields[key] for key in ("model", "temperature", "max_tokens", "fps", "system")}


def test_an_empty_column_leaves_everything_to_the_model() -> None:
    request = request_of(user_entries("Hi", []), read_column({"temperature": " ", "model": ""}), "", "")
    assert (request.sampling, request.model, request.max_tokens, request.reuse) == (Sampling(), None, None, True)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("temperature", "hot", "Temperature must be a number, 0 or more; “hot” is not."),
        ("max_pixels", "0", "Max pixels must be a whole number, 1 or more; “0” is not."),
        ("max_pixels", "12.5", "“12.5” is not"),
        ("fps", "-1", "Frames per second must be"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words.replace(".", r"\.")) as refused:
        read_column({name: value})
    assert refused.value.param == name


@pytest.mark.parametrize("count", [0, 1, 5])
def test_two_to_four_columns(count: int) -> None:
    with pytest.raises(BadRequest, match=f"There must be 2 to 4 columns; there are {count}"):
        check_number([{}] * count)


def marks(trees: Sequence[Tree]) -> list[str]:
    """The texts that are marked."""
    found: list[str] = []
    for tree in trees:
        if isinstance(tree, list):
            found += ["".join(leaves(tree[2:]))] if tree[0] == "mark" else marks(tree[2:])
    return found


def leaves(trees: Sequence[Tree]) -> list[str]:
    return [text for tree in trees for text in ([tree] if isinstance(tree, str) else leaves(tree[2:]))]


def marked(*answers: str) -> list[list[str]]:
    found = difference.marked([blocks(answer) for answer in answers])
    assert found is not None
    for answer, trees in zip(answers, found, strict=True):
        assert "".join(leaves(trees)) == "".join(leaves(blocks(answer)))
    return [marks(trees) for trees in found]


def test_what_differs_is_marked_word_by_word_in_both() -> None:
    assert marked("A red circle.", "A blue circle.") == [["red"], ["blue"]]
    assert marked("A red circle.", "A red circle.") == [[], []]
    assert marked("A circle", "A big circle") == [[], ["big"]]
    assert marked("A red round one", "A blue and square one") == [["red round"], ["blue and square"]], (
        "one run, not three"
    )


def test_a_word_that_is_common_by_chance_does_not_cut_a_mark_in_two() -> None:
    found = marked("The sky is a large blue dome of air.", "The sky is seen by the eyes of many birds.")
    assert found == [["a large blue dome of air"], ["seen by the eyes of many birds"]]
    assert marked("one red and two", "one blue and three") == [["red", "two"], ["blue", "three"]]


def test_what_differs_is_marked_through_markdown() -> None:
    assert marked("It is **red** now", "It is **blue** now") == [["red"], ["blue"]]
    assert marked("- one\n- two", "- one\n- three") == [["two"], ["three"]]
    assert marked("It is **red**", "It is red") == [[], []], "only words count"


def test_a_block_of_code_is_one_word() -> None:
    one, other = "Code:\n\n```python\nx = 1\n```", "Code:\n\n```python\nx = 2\n```"
    assert marked(one, one) == [[], []]
    assert [len(found) for found in marked(one, other)] == [1, 1]


def test_each_is_compared_with_the_first_in_which_words_are_marked_that_no_other_has() -> None:
    assert marked("a b c e", "a b d", "x b c") == [["e"], ["d"], ["x"]]


def test_an_empty_answer_and_one_that_is_too_long() -> None:
    assert marked("", "all of it", "all of them") == [[], ["it"], ["them"]]
    assert marked("", "") == [[], []]
    assert difference.marked([["word " * (difference.MAX_WORDS + 1)], ["word"]]) is None


def test_markup_in_an_answer_stays_text() -> None:
    [[first, *_], _] = difference.marked([blocks("<b onclick=x>a</b>"), blocks("b")]) or []
    assert "<b onclick=x>" in "".join(leaves([first]))


def test_prompts_are_a_line_each_or_a_column_of_a_csv() -> None:
    assert prompts.read_list(" one \n\n two\r\n") == ["one", "two"]
    assert prompts.read_csv('id,Prompt\n1,"one, with a comma"\n2,"two\nlines"\n3,\n') == [
        "one, with a comma",
        "two\nlines",
    ]
    assert prompts.read_csv("question\nWhat?\n") == ["What?"]


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (prompts.read_list, " \n", "There is no prompt in it"),
        (prompts.read_list, "x\n" * 501, "There are 501 prompts; at most 500 are run"),
        (prompts.read_csv, "a,b\n1,2\n", "no column named prompt"),
        (prompts.read_csv, "", "not a table that can be read"),
        (prompts.read_csv, "x" * (prompts.MAX_CHARS + 1), "2,000,001 characters; at most 2,000,000"),
    ],
)
def test_prompts_that_cannot_be_read(read: Any, text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        read(text)


def test_the_table_has_a_line_for_each_prompt_and_the_numbers_of_each_column() -> None:
    result = {"answer": 'a "b",\nc', "error": "", "prompt_tokens": 5, "completion_tokens": 2, "ttft_ms": 1.5}
    rows = [
        {"prompt": "one", "vote": "B", "results": [result, {"answer": "", "error": "It is too large."}]},
        {"prompt": "two", "vote": "", "results": [result, result]},
    ]
    first, second = csv.DictReader(io.StringIO(prompts.write_csv(json.loads(json.dumps(rows)))))
    assert (first["prompt"], first["vote"], first["A_answer"]) == ("one", "B", 'a "b",\nc')
    assert (first["B_error"], first["B_prompt_tokens"]) == ("It is too large.", "")
    assert float(second["B_ttft_ms"]) == 1.5 and float(second["A_prompt_tokens"]) == 5


def test_a_spreadsheet_finds_no_formula_in_the_table_and_its_prompts_are_read_back() -> None:
    text = prompts.write_csv([{"prompt": "=1+1", "vote": "", "results": [{"answer": "@SUM(A1)", "error": ""}]}])
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["prompt"], row["A_answer"]) == ("'=1+1", "'@SUM(A1)")
    assert prompts.read_csv(text) == ["=1+1"]
