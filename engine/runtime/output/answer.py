"""One answer as it is written: tokens become text, text is handed to the reader. Engine thread only."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from engine.models import sampling
from engine.models.batch import Token
from engine.runtime.sequence import Choice
from engine.types import Delta, GeneratedToken, ToolCallDelta


def write(choice: Choice, token: Token, stream_interval: int) -> None:
    """Take a token into a choice and hand out the text that it settles. Sets finish_reason where it was the last.

    stream_interval: so many tokens are handed out together; the first never waits.
    """
    choice.token_ids.append(token.id)
    choice.num_accepted += token.is_accepted
    choice.pending += _deltas(choice, token)
    num_tokens = len(choice.token_ids)
    if choice.finish_reason is None and num_tokens > 1 and num_tokens % stream_interval:
        return
    for delta in _together(choice):
        choice.sequence.post(delta)


def end_unwritten(choice: Choice) -> None:
    """The end of a choice that was to have no token."""
    choice.finish_reason = "length"
    for delta in _together(choice):
        choice.sequence.post(delta)


def _deltas(choice: Choice, token: Token) -> list[Delta]:
    """The text that this token settles; at the end of the choice all that is left."""
    detokenizer, generated = choice.detokenizer, _generated(choice, token)
    deltas = detokenizer.skip(generated) if token.finish == "stop" else detokenizer.add(generated)
    if detokenizer.stopped:
        choice.finish_reason = "stop"
    elif token.finish is not None:
        deltas += detokenizer.flush()
        choice.finish_reason = "stop" if token.finish == "stop" or detokenizer.stopped else "length"
    if choice.finish_reason == "stop" and detokenizer.num_calls:
        choice.finish_reason = "tool_calls"
    return deltas + detokenizer.rest() if choice.finish_reason is not None else deltas


def _generated(choice: Choice, token: Token) -> GeneratedToken:
    num_top = choice.sequence.request.logprobs
    if num_top is None:
        return GeneratedToken(token.id)
    logprob, top = sampling.token_logprobs(token.logprobs, token.id, num_top)
    return GeneratedToken(token.id, logprob, top)


def _together(choice: Choice) -> list[Delta]:
    """What is pending, one Delta for each run of a channel and for each tool call; the last of a choice says how it
    ended."""
    out = []
    for _, run in groupby(choice.pending, key=lambda delta: (delta.channel, delta.tool_call and delta.tool_call.index)):
        pieces = list(run)
        tokens = tuple(token for piece in pieces for token in piece.tokens)
        text = "".join(piece.text for piece in pieces)
        choice.num_reasoning += len(tokens) if pieces[0].channel == "reasoning" else 0
        out.append(Delta(text, pieces[0].channel, tokens, choice.index, tool_call=_one_call(pieces)))
    choice.pending = []
    if choice.finish_reason is not None:
        last = out.pop() if out else Delta("", index=choice.index)
        out.append(replace(last, finish_reason=choice.finish_reason, stop=choice.detokenizer.stop))
    sequence = choice.sequence
    if out and sequence.prompt_tokens:
        out[0], sequence.prompt_tokens = replace(out[0], prompt=tuple(sequence.prompt_tokens)), []
    return out


def _one_call(pieces: list[Delta]) -> ToolCallDelta | None:
    calls = [piece.tool_call for piece in pieces if piece.tool_call]
    return replace(calls[0], arguments="".join(call.arguments for call in calls)) if calls else None
