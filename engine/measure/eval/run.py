"""Many questions at once. Answers are saved as they arrive, so that a stopped run can be continued."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import BadRequest, EngineError, Unavailable
from engine.measure.eval import gsm8k
from engine.measure.eval.gsm8k import Problem
from engine.measure.eval.sources import EvalPrompt, Source

SAVE_S = 1.0
"""Shortest time between two writes of the file; it is also written at the end."""


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """What a result depends on. A run is continued only with equal settings. questions: their digest."""

    source: str
    questions: str
    num_shots: int
    max_tokens: int
    temperature: float
    benchmark: str = "gsm8k"


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    """One question's outcome. index: of the question. number: the last one in the text; None where there is none.

    error: why there is no answer. A continued run asks such a question again.
    """

    index: int
    text: str = ""
    number: str | None = None
    expected: str = ""
    is_right: bool = False
    completion_tokens: int = 0
    finish_reason: str = ""
    error: str | None = None


@dataclass
class Results:
    """Answers by question, and the file that they are saved in, if any."""

    settings: EvalSettings
    file: Path | None = None
    answers: dict[int, GradedAnswer] = field(default_factory=dict)
    saved_s: float = 0.0

    def load(self) -> int:
        """Load the file's answers; returns how many. Raises BadRequest for a file of another run, or any other file."""
        if self.file is None or not self.file.exists():
            return 0
        try:
            raw = json.loads(self.file.read_text(encoding="utf-8"))
            settings = EvalSettings(**raw["settings"])
            answers = [GradedAnswer(**answer) for answer in raw["answers"]]
        except (ValueError, KeyError, TypeError) as error:
            raise BadRequest(f"--output: {self.file} is not a result of this command; name another.") from error
        if settings != self.settings:
            now, before = asdict(self.settings), asdict(settings)
            names = ", ".join(f"{n} ({before[n]}, now {now[n]})" for n in now if now[n] != before[n])
            raise BadRequest(f"--output: {self.file} holds a run with another {names}; name another file.")
        self.answers = {answer.index: answer for answer in answers if answer.error is None}
        return len(self.answers)

    def add(self, answer: GradedAnswer) -> None:
        self.answers[answer.index] = answer
        if time.monotonic() - self.saved_s > SAVE_S:
            self.save()

    def save(self) -> None:
        """Write the file atomically."""
        if self.file is None:
            return
        ranked = [asdict(self.answers[i]) for i in sorted(self.answers)]
        content = {
            "settings": asdict(self.settings),
            "summary": summary(list(self.answers.values())),
            "answers": ranked,
        }
        draft = self.file.with_name(self.file.name + ".part")
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(draft, self.file)
        self.saved_s = time.monotonic()


def summary(answers: Sequence[GradedAnswer]) -> dict[str, Any]:
    """Shares and counts. accuracy: right answers over all answers, failed ones included; None without any.

    stderr: sqrt(p (1 - p) / n), the standard error of a share.
    """
    count = len(answers)
    right = sum(answer.is_right for answer in answers)
    share = right / count if count else None
    return {
        "questions": count,
        "right": right,
        "accuracy": share,
        "stderr": math.sqrt(share * (1 - share) / count) if share is not None else None,
        "no_number": sum(answer.number is None and answer.error is None for answer in answers),
        "cut_off": sum(answer.finish_reason == "length" for answer in answers),
        "failed": sum(answer.error is not None for answer in answers),
        "completion_tokens": sum(answer.completion_tokens for answer in answers),
    }


async def evaluate(
    source: Source,
    questions: Sequence[Problem],
    results: Results,
    concurrency: int,
    on_answer: Callable[[Results], None],
) -> None:
    """Ask the questions that have no answer yet, `concurrency` at a time. on_answer: called after every answer.

    Answers are saved however this ends. Raises Unavailable when the source is gone.
    """
    shots = gsm8k.shots(results.settings.num_shots)
    unanswered = iter([i for i in range(len(questions)) if i not in results.answers])

    async def work() -> None:
        for index in unanswered:
            results.add(await _answer(source, questions[index], index, shots, results.settings))
            on_answer(results)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except* EngineError as errors:
        raise errors.exceptions[0] from None
    finally:
        results.save()


async def _answer(
    source: Source, question: Problem, index: int, shots: Sequence[Problem], settings: EvalSettings
) -> GradedAnswer:
    text = gsm8k.prompt(question.question, shots)
    expected = str(question.number)
    try:
        reply = await source.ask(EvalPrompt(text, settings.max_tokens, settings.temperature, gsm8k.STOP))
    except Unavailable:
        raise
    except EngineError as error:
        return GradedAnswer(index, expected=expected, error=error.message)
    number = gsm8k.last_number(reply.text)
    return GradedAnswer(
        index=index,
        text=reply.text,
        number=None if number is None else str(number),
        expected=expected,
        is_right=gsm8k.is_right(reply.text, question),
        completion_tokens=reply.completion_tokens,
        finish_reason=reply.finish_reason,
    )
