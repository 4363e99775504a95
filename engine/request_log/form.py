"""A logged request as JSON: in a line for lists, and whole. What the API answers, the page shows and the file keeps.

Nothing leaves this file with a secret in it (engine.request_log.redact). Times in milliseconds, `created` in seconds
since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from engine.access.visibility import Caller
from engine.request_body import path_name
from engine.request_log.log import RequestLog
from engine.request_log.record import LoggedRequest, MediumRef
from engine.request_log.waits import Wait, first_token, waits
from engine.types import (
    CacheTrace,
    CompletedChoice,
    GeneratedToken,
    Json,
    MediaReceipt,
    Message,
    Part,
    Request,
    StageSpan,
    TokenText,
)

TextOfToken = Callable[[int], TokenText]
_PARAMETERS = (
    "max_tokens", "min_tokens", "ignore_eos", "stop", "stop_token_ids", "bad_words", "grammar", "tools", "tool_choice",
    "reasoning", "frames", "template_kwargs", "logprobs", "prompt_logprobs", "prompt_ids", "n", "reuse",
    "add_special_tokens", "add_generation_prompt", "continue_final_message", "coordinates",
)  # fmt: skip
"""Fields of Request beside its sampling; each is told where it is not what it is without being asked for."""


def summary_json(log: RequestLog, record: LoggedRequest) -> Json:
    """One request in a list: who, what, how far, and where its time went."""
    request, done = record.request, record.done
    by = done.served_by if done else None
    usage = done.usage if done and (by is None or by.tells_usage) else None
    first_s = record.clock.first_token_s()
    seconds = record.clock.elapsed_s
    summary = {
        "id": record.id,
        "object": "request",
        "created": record.created_s,
        "source": request.source,
        "dialect": request.dialect,
        "model": request.model or "",
        "key": record.owner,
        "status": record.status,
        "stage": record.clock.step,
        "finish_reason": done.finish_reason if done else None,
        "error": record.failure.code if record.failure else None,
        "num_media": len(request.media_parts),
        "num_texts": record.num_texts,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else record.num_tokens,
        "ttft_ms": _ms(first_s) if first_s else None,
        "total_ms": _ms(seconds),
        "stages": [_span_json(span) for span in record.clock.spans()],
    }
    return dict(log.redactor.json(summary))


def whole_json(log: RequestLog, record: LoggedRequest, who: Caller, texts: TextOfToken | None = None) -> Json:
    """All that is known of a request that `who` may see. texts: what its model's token ids stand for. Reads and hashes
    its media: not for an event loop."""
    media = log.media(record)
    whole = {
        **summary_json(log, record),
        "parameters": parameters_json(record.request),
        "messages": [_message_json(log, message, media) for message in record.request.messages],
        "prompt": _prompt_json(record.request.prompt),
        "questions": [_plain(question, log, media) for question in record.request.questions],
        "answer": [_choice_json(choice, texts) for choice in record.answer()],
        "decisions": [list(answer.probabilities) for answer in record.decisions.answers] if record.decisions else None,
        "first_token": [
            {"stage": part.step, "ms": round(part.ms, 3), "share": round(part.share, 5)} for part in first_token(record)
        ],
        "waits": [_wait_json(wait, who) for wait in waits(record, log.records())],
        **_ending_json(record, who),
        "failure": _failure_json(record, who),
        "media_dropped": record.is_cut,
    }
    return dict(log.redactor.json(whole))


def parameters_json(request: Request) -> Json:
    """What was asked for beside the messages: settings that nobody gave are left out."""
    given = {name: value for name, value in asdict(request.sampling).items() if value not in (None, ())}
    plain = Request()
    for name in _PARAMETERS:
        value = getattr(request, name)
        if value != getattr(plain, name):
            given[name] = _plain(value)
    return given


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)


def _span_json(span: StageSpan) -> Json:
    return {"stage": span.step, "start_ms": _ms(span.start_s), "ms": round(span.ms, 3)}


def _wait_json(wait: Wait, who: Caller) -> Json:
    """Of others' requests only the source and the time (engine.access.visibility)."""
    rows = [
        {"id": row.record.id if who.sees(row.record.tenant) else None, "source": row.record.request.source,
         "stage": row.step, "ms": round(row.ms, 3)}
        for row in wait.rows
    ]  # fmt: skip
    return {"place": wait.place, **_span_json(wait.span), "meanwhile": rows}


def _ending_json(record: LoggedRequest, who: Caller) -> Json:
    done = record.done
    if done is None:
        return {"usage": None, "timing": None, "receipts": [], "cache": None, "descriptions": [], "served_by": None}
    by = done.served_by
    return {
        "usage": {**asdict(done.usage), "total_tokens": done.usage.total_tokens}
        if by is None or by.tells_usage
        else None,
        "served_by": None if by is None else {"server": by.host, "model": by.model},
        "timing": None
        if record.num_texts is not None  # there is no first token
        else {name: round(value, 3) for name, value in asdict(done.timing).items()},
        "receipts": [_receipt_json(receipt) for receipt in done.media],
        "cache": _trace_json(done.trace, who),
        "descriptions": [_plain(one) for one in done.descriptions],
    }


def _receipt_json(receipt: MediaReceipt) -> Json:
    plain: Json = _plain(receipt)
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in plain.items()}


def _trace_json(trace: CacheTrace | None, who: Caller) -> Json | None:
    """`other` is text of another prompt, perhaps of somebody else."""
    return None if trace is None else {**asdict(trace), "other": trace.other if who.operator else ""}


def _failure_json(record: LoggedRequest, who: Caller) -> Json | None:
    """What led to an error may name files of this machine, so only its operator is told."""
    failure = record.failure
    return None if failure is None else {**asdict(failure), "causes": list(failure.causes) if who.operator else []}


def _prompt_json(prompt: str | tuple[int, ...] | None) -> str | list[int] | None:
    return list(prompt) if isinstance(prompt, tuple) else prompt


def _message_json(log: RequestLog, message: Message, media: Mapping[Part, MediumRef]) -> Json:
    told: Json = {"role": message.role, "content": [_part_json(log, part, media) for part in message.parts]}
    if message.tool_calls:
        told["tool_calls"] = [asdict(call) for call in message.tool_calls]
    return told | {
        name: value
        for name in ("tool_call_id", "name", "reasoning")
        if (value := getattr(message, name))
    }  # fmt: skip


def _part_json(log: RequestLog, part: Part, media: Mapping[Part, MediumRef]) -> Json:
    """A medium by its content's hash and, where it came from the network, its address; never by what is in it."""
    if part.kind == "text":
        return {"type": "text", "text": part.text}
    told: Json = {"type": part.kind, "param": part.param}
    told |= {"media": asdict(media[part])} if part in media else {}
    told |= {"name": name} if (name := path_name(part)) else {}
    if part.url and part.url[:5].lower() != "data:":
        told["url"] = log.redactor.address(part.url)
    if part.parts:
        told["frames"] = [_part_json(log, frame, media) for frame in part.parts]
    told |= {name: getattr(part, name) for name in ("max_pixels", "min_pixels", "description") if getattr(part, name)}
    told |= {name: list(px) for name in ("exact_px", "crop_px") if (px := getattr(part, name))}
    told |= {"detail": part.detail} if part.detail != "auto" else {}
    told |= {"animated": part.animated} if part.animated is not None else {}
    told |= {"sampling": _plain(part.frames)} if part.frames else {}
    return told | ({"pages": _plain(part.document)} if part.document else {})


def _choice_json(choice: CompletedChoice, texts: TextOfToken | None) -> Json:
    return {
        "text": choice.text,
        "reasoning": choice.reasoning,
        "finish_reason": choice.finish_reason,
        "tool_calls": [asdict(call) for call in choice.tool_calls],
        "tokens": [_token_json(token, texts) for token in choice.tokens],
    }


def _token_json(token: GeneratedToken, texts: TextOfToken | None) -> Json:
    return {
        **_named(token.id, texts),
        "logprob": _finite(token.logprob),
        "top": [{**_named(id, texts), "logprob": _finite(logprob)} for id, logprob in token.top],
    }


def _named(id: int, texts: TextOfToken | None) -> Json:
    return {"id": id, "text": texts(id).text} if texts else {"id": id}


def _finite(logprob: float | None) -> float | None:
    """JSON has no infinity: a token that cannot come has the number that OpenAI has for it."""
    return None if logprob is None else round(max(-9999.0, logprob), 5)


def _plain(value: Any, log: RequestLog | None = None, media: Mapping[Part, MediumRef] | None = None) -> Any:
    """Frozen values as JSON; what is not set is left out."""
    if isinstance(value, Part) and log is not None:
        return _part_json(log, value, media or {})
    if is_dataclass(value):
        items = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: _plain(inner, log, media) for name, inner in items if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner, log, media) for inner in value]
    return value
