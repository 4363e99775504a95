"""gsm8k: the number an answer comes to, the files, the prompt; and the questions that ship."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from engine.errors import BadRequest
from engine.measure.eval import gsm8k
from engine.measure.eval.gsm8k import Problem


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 and then 5, so 8.", "8"),
        ("18 * 3 = 54\n#### 54", "54"),
        ("The total is $1,250.00.", "1250"),
        ("It costs **$42**", "42"),
        ("At night it is -7 degrees", "-7"),
        ("At night it is −7 degrees", "-7"),
        ("10-5", "5"),
        ("10 - 5 = 5 dollars", "5"),
        ("\\boxed{2.5}", "2.5"),
        ("#### 1,620", "1620"),
        ("it is 25%", "25"),
        ("about .5 litres", "0.5"),
        ("the 3rd of them", "3"),
        ("0.20", "0.2"),
    ],
)
def test_the_last_number(text: str, number: str) -> None:
    assert gsm8k.last_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "I do not know.", "a b, c.", "$ , ."])
def test_no_number(text: str) -> None:
    assert gsm8k.last_number(text) is None and not gsm8k.is_right(text, Problem("q", "#### 0"))


@pytest.mark.parametrize(
    ("text", "right"),
    [("so 72", True), ("#### 72.00", True), ("$72", True), ("72, or rather 73", False), ("720", False), ("7.2", False)],
)
def test_exact_match(text: str, right: bool) -> None:
    assert gsm8k.is_right(text, Problem("How many?", "48 + 24 = <<48+24=72>>72\n#### 72")) is right


def test_the_prompt_is_five_examples_and_the_question() -> None:
    text = gsm8k.prompt("How many?", gsm8k.shots(5))
    assert text.startswith("Question: Natalia sold clips") and text.endswith("\n\nQuestion: How many?\nAnswer:")
    assert text.count("Question: ") == text.count("Answer:") == 6 and text.count("####") == 5
    assert gsm8k.prompt("How many?", gsm8k.shots(0)) == "Question: How many?\nAnswer:"


def test_what_ships_adds_up() -> None:
    """Every step of the self-written solutions that is a plain sum is right, and the examples' annotated sums too."""
    sample, shots = gsm8k.sample(), gsm8k.shots(5)
    assert len(sample) == len({q.question for q in sample}) == 20 and len(shots) == 5
    steps = 0
    for question in sample:
        for left, right in re.findall(r"((?:-?[\d.]+ [-+*/] )+[\d.]+) = (-?[\d.]+\d|-?\d)", question.answer):
            assert eval(left) == pytest.approx(float(right)), question.answer
            steps += 1
    assert steps >= 40
    for shot in shots:
        for left, right in re.findall(r"<<([^=<>]+)=([^<>]+)>>", shot.answer):
            assert eval(left) == pytest.approx(float(right)), shot.answer
    assert [int(q.number) for q in shots] == [72, 10, 5, 42, 624]


def test_a_file_in_gsm8ks_format(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"question": "1+1?", "answer": "1+1=<<1+1=2>>2\n#### 2"}) + "\n\n")
    (question,) = gsm8k.read(file)
    assert question.number == 2 and gsm8k.digest([question]) != gsm8k.digest(gsm8k.sample())


@pytest.mark.parametrize(
    "line",
    ["{", "[1]", '{"question": "q"}', '{"question": "q", "answer": "no number"}', '{"question": "q", "answer": 3}'],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "q", "answer": "#### 1"}\n' + line + "\n")
    with pytest.raises(BadRequest, match="line 2"):
        gsm8k.read(file)
    with pytest.raises(BadRequest, match="cannot be read"):
        gsm8k.read(tmp_path / "nothing.jsonl")
