"""A request that has ended as spans for OpenTelemetry: one of all of it, and one of each stage below it. Pure.

Names are those of the GenAI conventions (https://github.com/open-telemetry/semantic-conventions-genai, v0.1.0); what
they have no word for begins with `vllm_mlx.`. In a span are numbers and names, never what was asked or answered, nor
an error's message, which may quote it. Every text goes through the redactor, for a caller may send a key as the name
of a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.request_log.record import LoggedRequest
from engine.request_log.redact import Redactor
from engine.types import Request, StageName, Usage

Attribute = str | int | float | Sequence[str]
_OPERATIONS = {"completions": "text_completion", "embeddings": "embeddings", "rerank": "rerank"}
"""By the route; those of chat, in whatever protocol, are "chat"."""

_SAMPLING = ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed")
_MODALITIES = ("image", "audio")


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """start_ns, end_ns: since 1970. error: its type, "" where there was none."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Attribute]
    error: str = ""


def request_span(record: LoggedRequest, redactor: Redactor, accepted_ns: int) -> TraceSpan:
    """All of a request. accepted_ns: when it was accepted, since 1970."""
    found = {
        **_asked(record.request),
        "gen_ai.response.id": record.id,
        "gen_ai.response.model": record.request.model,
        "gen_ai.response.finish_reasons": _finish_reasons(record),
        "gen_ai.response.time_to_first_chunk": record.clock.first_token_s(),
        **(_used(record, record.done.usage) if record.done else {}),
        "error.type": record.failure.code if record.failure else None,
    }
    attributes = {name: redactor.json(value) for name, value in found.items() if value not in (None, "", ())}
    operation, model = attributes["gen_ai.operation.name"], attributes.get("gen_ai.request.model", "")
    end_ns = accepted_ns + _ns(record.clock.elapsed_s)
    return TraceSpan(f"{operation} {model}".rstrip(), accepted_ns, end_ns, attributes, attributes.get("error.type", ""))


def stage_spans(record: LoggedRequest, accepted_ns: int) -> list[TraceSpan]:
    """One of each stage, in order. Turns of others between two parts of a stage are within it, as `waited_ms`."""
    found: list[_Stage] = []
    for span in record.clock.spans():
        if len(found) > 1 and found[-1].step == "turns" and found[-2].step == span.step:
            turns = found.pop()
            waited_s = found[-1].waited_s + turns.end_s - turns.start_s
            found[-1] = replace(found[-1], end_s=span.end_s, waited_s=waited_s)
        else:
            found.append(_Stage(span.step, span.start_s, span.end_s))
    return [
        TraceSpan(
            stage.step,
            accepted_ns + _ns(stage.start_s),
            accepted_ns + _ns(stage.end_s),
            {"vllm_mlx.waited_ms": round(1e3 * stage.waited_s, 3)} if stage.waited_s else {},
        )
        for stage in found
    ]


@dataclass(frozen=True, slots=True)
class _Stage:
    step: StageName
    start_s: float
    end_s: float
    waited_s: float = 0.0


def _ns(seconds: float) -> int:
    return int(1e9 * seconds)


def _asked(request: Request) -> dict[str, Any]:
    sampling = {f"gen_ai.request.{name}": getattr(request.sampling, name) for name in _SAMPLING}
    operation = "decide" if request.questions else _OPERATIONS.get(request.dialect, "chat")
    is_json = request.grammar is not None and request.grammar.kind in ("json_schema", "json_object")
    return {
        "gen_ai.operation.name": "text_completion" if request.prompt is not None else operation,
        "gen_ai.provider.name": "mlx",
        "gen_ai.request.model": request.model,
        "gen_ai.output.type": "json" if is_json else None,
        "gen_ai.request.choice.count": request.n if request.n != 1 else None,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.reasoning.level": request.reasoning.effort,
        **sampling,
        "vllm_mlx.source": request.source,
        "vllm_mlx.route": request.dialect,
        "vllm_mlx.num_media": len(request.media_parts),
    }


def _finish_reasons(record: LoggedRequest) -> tuple[str, ...]:
    if record.status in ("failed", "cancelled"):
        return ("cancelled",) if record.status == "cancelled" else ()
    reasons = tuple(choice.finish_reason for choice in record.choices if choice.finish_reason)
    return reasons or ((record.done.finish_reason,) if record.done else ())


def _used(record: LoggedRequest, usage: Usage) -> dict[str, Any]:
    by_modality: dict[str, int] = {}
    for receipt in record.done.media if record.done else ():
        if receipt.kind in _MODALITIES:
            name = f"gen_ai.usage.{receipt.kind}.input_tokens"
            by_modality[name] = by_modality.get(name, 0) + receipt.tokens
    return {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
        **by_modality,
    }
