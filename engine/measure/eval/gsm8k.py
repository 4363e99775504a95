"""GSM8K (Cobbe et al., 2021, https://arxiv.org/abs/2110.14168): school sums in words, each with one number as answer.

The prompt is the usual one: five worked examples, "Question: ... Answer:", and then the question. An answer is right
when the last number in it equals the number behind the solution's "####". Pure, except for reading files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from engine.assets import asset
from engine.errors import BadRequest, Unavailable

STOP = "Question:"
"""Stops a model that continues with another question."""

_NUMBER = re.compile(r"(?<![\w.])[-−]?\$?\d[\d,]*(?:\.\d+)?|(?<![\w.])[-−]?\$?\.\d+")


@dataclass(frozen=True, slots=True)
class Problem:
    """answer: the worked solution, which ends in "#### number"."""

    question: str
    answer: str

    @property
    def number(self) -> Decimal:
        number = last_number(self.answer.rpartition("####")[2])
        assert number is not None  # `parse` refuses problems without a number
        return number


def last_number(text: str) -> Decimal | None:
    """The last number in a text: "$1,250.00." is 1250. Returns None where there is none.

    A minus belongs to the number unless a digit or letter precedes it: "10-5" ends in 5.
    """
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    digits = numbers[-1].replace("−", "-").replace("$", "").replace(",", "")
    return Decimal(digits)


def is_right(answer: str, question: Problem) -> bool:
    """Exact match on the last number."""
    return last_number(answer) == question.number


def prompt(question: str, shots: Sequence[Problem]) -> str:
    """The worked examples, then the question."""
    worked = "".join(f"Question: {shot.question}\nAnswer: {shot.answer}\n\n" for shot in shots)
    return f"{worked}Question: {question}\nAnswer:"


def shots(count: int) -> list[Problem]:
    """The first examples of GSM8K's training set, at most five."""
    return read(asset("gsm8k") / "shots.jsonl")[:count]


def sample() -> list[Problem]:
    """Twenty questions written for this project."""
    return read(asset("gsm8k") / "sample.jsonl")


def read(file: Path) -> list[Problem]:
    """Problems of a JSONL file in GSM8K's own format. Raises BadRequest, which names the wrong line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"--file: {file} cannot be read ({error}).", param="file") from error
    return [parse(line, f"{file}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]


def parse(line: str, where: str) -> Problem:
    """One line of JSON: {"question": ..., "answer": "... #### 72"}."""
    try:
        raw: Any = json.loads(line)
        problem = Problem(raw["question"], raw["answer"])
        ending = problem.answer.rpartition("####")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadRequest(f"{where}: it must be JSON with the texts question and answer.", param="file") from None
    if not ending[1] or last_number(ending[2]) is None:
        raise BadRequest(f"{where}: the answer must end in #### and a number.", param="file")
    return problem


def download() -> list[Problem]:
    """GSM8K's test questions through the `datasets` library. Raises Unavailable: not installed, not online."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise Unavailable("Run `pip install datasets`, or give --file questions.jsonl or --sample.") from None
    try:
        rows = load_dataset("openai/gsm8k", "main", split="test")
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[:1]
        raise Unavailable(
            f"GSM8K could not be downloaded ({''.join(reason)[:200]}). Give --file questions.jsonl or --sample."
        ) from error
    return [Problem(row["question"], row["answer"]) for row in rows]


def digest(questions: Sequence[Problem]) -> str:
    """A hash that identifies these problems."""
    return hashlib.sha256(repr([(q.question, q.answer) for q in questions]).encode()).hexdigest()[:16]
