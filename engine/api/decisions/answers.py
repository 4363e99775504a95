"""Decisions -> the JSON of both protocols. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.api.answering.usage import own_usage
from engine.api.decisions.schemas import (
    ChoiceBody,
    ChoiceOfBody,
    DecisionsRequest,
    NoulBody,
    PredicateBody,
    QuestionUnion,
    SystemOneQuestion,
    SystemOneRequest,
)
from engine.types import Decision, Decisions, Json


def decisions_json(body: DecisionsRequest, decisions: Decisions, model: str, operator: bool) -> Json:
    """OpenAI's Decision object. In usage, `media` and `cache` are this server's own, as in a chat completion's."""
    pairs = zip(body.questions, decisions.answers, strict=True)
    return {
        "model": model,
        "answers": [_answer(question, decision) for question, decision in pairs],
        "usage": {
            **_tokens(decisions),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": decisions.done.usage.total_tokens,
            **own_usage(decisions.done, operator),
        },
    }


def _tokens(decisions: Decisions) -> Json:
    usage = decisions.done.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": decisions.written_tokens,
        },
        "output_tokens": usage.completion_tokens,
    }


def _answer(question: QuestionUnion, decision: Decision) -> Json:
    head = {"type": question.type, "name": question.name}
    if isinstance(question, PredicateBody):
        return {**head, "probability": decision.probabilities[0]}
    if isinstance(question, ChoiceBody):
        values = [choice.value for choice in question.choices]
        probabilities = _pairs("value", values, decision)
        return {
            **head,
            "choice": values[decision.best],
            "confidence": decision.confidence,
            "probabilities": probabilities,
        }
    labels = _pairs("label", [level.label for level in question.levels], decision)
    return {
        **head,
        "score": decision.score,
        "confidence": decision.score_confidence,
        "probabilities": [{**entry, "value": level} for level, entry in enumerate(labels)],
    }


def _pairs(name: str, values: Sequence[str | bool], decision: Decision) -> list[Json]:
    return [{name: value, "probability": p} for value, p in zip(values, decision.probabilities, strict=True)]


def systemone_json(body: SystemOneRequest, decisions: Decisions, model: str) -> Json:
    """As transformers' DecisionPipeline answers; input_tokens_details is this server's own."""
    pairs = zip(body.questions.items(), decisions.answers, strict=True)
    return {
        "model": model,
        "answers": {name: _systemone_answer(question, decision) for (name, question), decision in pairs},
        "usage": _tokens(decisions),
    }


def _systemone_answer(question: SystemOneQuestion, decision: Decision) -> Json:
    if isinstance(question, NoulBody):
        return {"type": "noul", "noul": decision.probabilities[0]}
    if isinstance(question, ChoiceOfBody):
        options = list(question.criteria)
        return {
            "type": "choice",
            "choice": options[decision.best],
            "confidence": decision.confidence,
            "probabilities": dict(zip(options, decision.probabilities, strict=True)),
        }
    levels = [str(level) for level in range(len(question.criteria))]
    return {
        "type": "score",
        "score": decision.score,
        "legend": dict(zip(levels, question.criteria, strict=True)),
        "confidence": decision.score_confidence,
        "probabilities": dict(zip(levels, decision.probabilities, strict=True)),
    }
