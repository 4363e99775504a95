"""Engine.decide: questions in as few prompts as may be, and their answers put together. Any event loop; no MLX.

short texts ──> one prompt, computed once, with all of them behind it ─┐
long ones, and those with media of their own ──> a prompt for each ────┴─> Decisions, in the order of the questions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from engine.errors import BadRequest, Internal, NotShared
from engine.types import Decision, Decisions, Done, MediaReceipt, Request, TypedQuestion, Usage

MAX_QUESTIONS = 400
MAX_OPTIONS = 255
Grouped = Sequence[tuple[Sequence[int], Request]]
"""Requests that ask questions, each with the places of those that it asks."""

GroupQuestions = Callable[[Sequence[TypedQuestion]], Awaitable[Grouped]]
_NOT_STORED = ("off", "cold", "not_cacheable")
"""CacheTrace.reason of prompts of which the cache keeps nothing."""


def check_questions(questions: Sequence[TypedQuestion]) -> None:
    """Raise BadRequest for too few or too many questions or options, and for an option without words."""
    if not 1 <= len(questions) <= MAX_QUESTIONS:
        raise BadRequest(
            f"questions: between 1 and {MAX_QUESTIONS} are allowed, got {len(questions)}.", param="questions"
        )
    for question in questions:
        if not 1 <= len(question.options) <= MAX_OPTIONS:
            raise BadRequest(
                f"{question.param}: between 1 and {MAX_OPTIONS} options are allowed, got {len(question.options)}.",
                param=question.param,
            )
        if not all(option.text.strip() for option in question.options):
            raise BadRequest(f"{question.param}: an option must have words.", param=question.param)
        is_bare = question.kind == "predicate" and not any(option.description for option in question.options)
        if is_bare and not any(part.kind != "text" or part.text.strip() for part in question.instructions):
            raise BadRequest(
                f"{question.param}.instructions: it must not be empty.", param=f"{question.param}.instructions"
            )


async def decide(
    questions: Sequence[TypedQuestion],
    group: GroupQuestions,
    ask: Callable[[Request], Awaitable[Done]],
) -> Decisions:
    """Answer questions. group: makes the requests that ask them. ask: runs one to its end.

    Raises EngineError.
    """
    try:
        return await _decide(questions, group, ask)
    except NotShared:
        alone = [replace(question, alone=True) for question in questions]
    try:
        return await _decide(alone, group, ask)
    except NotShared as e:
        raise Internal("The questions could not be put to this model.") from e


async def _decide(
    questions: Sequence[TypedQuestion],
    group: GroupQuestions,
    ask: Callable[[Request], Awaitable[Done]],
) -> Decisions:
    answers: dict[int, Decision] = {}
    ended: list[Done] = []
    for places, asking in await group(questions):
        done = await ask(asking)
        answers.update(zip(places, done.decisions, strict=True))
        ended.append(done)
    written = [done.trace.computed_tokens for done in ended if done.trace and done.trace.reason not in _NOT_STORED]
    return Decisions(tuple(answers[i] for i in range(len(questions))), _together(ended), sum(written))


def _together(ended: Sequence[Done]) -> Done:
    """The first one's facts, with the usage, the time and the media of all."""
    first, *others = ended
    trace = first.trace
    num_first = trace.reused_tokens + trace.computed_tokens if trace else 0
    # What another prompt begins with was computed once, with the first.
    more = sum(done.usage.prompt_tokens - min(done.usage.cached_tokens, num_first) for done in others)
    usage = Usage(first.usage.prompt_tokens + more, 0, first.usage.cached_tokens)
    total_ms = ended[-1].timing.total_ms  # each counts from the moment all were accepted
    media: dict[tuple[str, str], MediaReceipt] = {
        (receipt.param, receipt.sha256): receipt for done in reversed(ended) for receipt in done.media
    }
    order = [(receipt.param, receipt.sha256) for done in ended for receipt in done.media]
    return replace(
        first,
        usage=usage,
        timing=replace(first.timing, total_ms=total_ms, prompt_tokens=usage.prompt_tokens),
        media=tuple(media[key] for key in dict.fromkeys(order)),
        decisions=(),
    )
