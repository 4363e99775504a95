"""What comes out of the engine: of a stream Deltas, then exactly one Done with usage, timing, receipts and the cache
trace; of complete and preflight one value each.

Frozen values in pure Python: no MLX, no numpy, safe in every thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from engine.errors import Internal
from engine.types.grounding import CoordinatesGiven, Crop, Region
from engine.types.remote import ServedBy
from engine.types.request import Kind, ToolCall

if TYPE_CHECKING:
    from engine.types.decision import Decision

Channel = Literal["text", "reasoning", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


@dataclass(frozen=True, slots=True)
class TokenText:
    """What a token id stands for. raw: its bytes, perhaps part of a character; None for a token that is no text. text:
    the same to read, for a token that is no text its name."""

    text: str
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """One token of an answer. logprob: its natural log-probability, None unless the request asked for it; top: the
    likeliest tokens at its place as (id, log-probability), the likeliest first, as many as the request asked for, or as
    may come there."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call. index: which call of its choice, from 0. The first piece of a call has its id and name;
    later ones have "" there. All arguments of a call, joined, are its JSON."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer. text: valid UTF-8; no special tokens, no part of a stop string; may be empty.

    tool_call: of channel "tool", whose text is empty; None in the other channels.
    tokens: those that came since the last Delta of this choice; all Deltas of a choice together hold every token of
    the answer, a stop token included. index: which of the request's n choices this belongs to.
    finish_reason: set on the last Delta of a choice. stop: the text of Request.stop that ended it, "" for another end.
    prompt: on the first Delta of a request that asked for Request.prompt_logprobs, the prompt's tokens; nothing is
    before the first of them, so it has no log-probability.
    """

    text: str
    channel: Channel = "text"
    tokens: tuple[GeneratedToken, ...] = ()
    index: int = 0
    finish_reason: FinishReason | None = None
    tool_call: ToolCallDelta | None = None
    stop: str = ""
    prompt: tuple[GeneratedToken, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Of the completion's tokens, reasoning_tokens were thoughts, and accepted_prediction_tokens were proposed by
    speculation; rejected_prediction_tokens were proposed and are not in it."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds. ttft_ms (time to first token) and total_ms count from the moment the request was accepted.

    The others are the length of one stage each: media_ms until it is handed to the engine thread (waiting for the
    model, fetching, decoding), queue_ms until its turn comes, prefill_ms until its first token (template, processor,
    vision tower, disk, KV), decode_ms until its end. tpot_ms is the mean time per output token after the first.
    """

    media_ms: float = 0.0
    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    ttft_ms: float = 0.0
    decode_ms: float = 0.0
    total_ms: float = 0.0
    completion_tokens: int = 0
    prompt_tokens: int = 0

    @property
    def tpot_ms(self) -> float:
        return self.decode_ms / (self.completion_tokens - 1) if self.completion_tokens > 1 else 0.0

    @property
    def decode_tps(self) -> float:
        """Generation tokens per second after the first token; 0 when there was only one."""
        return 1000.0 / self.tpot_ms if self.tpot_ms > 0 else 0.0


@dataclass(frozen=True, slots=True)
class MediaReceipt:
    """What happened to one medium. Sizes are (width, height) in pixels. sha256 is over the decoded pixels.

    param: the part it came from; all pages of a document have the same.
    frames is one (index in the source, time in seconds) per frame that went in; empty for a picture.
    features: what of it came from the feature store; None for families whose features are not kept, and before it is
    encoded. resize_ms is the processor's share (all media of a prompt are processed together, by pixels), next to
    nothing where its KV was there and no pixels were needed; encode_ms the vision tower's (by tokens).
    duration_s: of a clip, as it came, and of a sound; sizes of a sound are (0, 0).
    notes: what a person should know about how it was read, e.g. "first of 12 frames".
    crop: of a part of a picture, where it lies in the whole; the sizes are the part's own.
    regions: the boxes and points that the answer gives on it, once it is there (engine.grounding).
    """

    kind: Kind
    num_bytes: int
    decoded_px: tuple[int, int]
    seen_px: tuple[int, int]
    tokens: int
    sha256: str
    frames: tuple[tuple[int, float], ...] = ()
    duration_s: float = 0.0
    fetch_ms: float = 0.0
    decode_ms: float = 0.0
    resize_ms: float = 0.0
    encode_ms: float = 0.0
    features: FeatureUse | None = None
    notes: tuple[str, ...] = ()
    param: str = ""
    regions: tuple[Region, ...] = ()
    crop: Crop | None = None

    @property
    def frame_tokens(self) -> float:
        """Tokens that one frame of a clip costs (a pair shares its own); all tokens of a picture."""
        return self.tokens / max(1, len(self.frames))


@dataclass(frozen=True, slots=True)
class FeatureUse:
    """Pictures, or pairs of frames of a clip, whose features were in the feature store (hits) or had to be encoded
    (misses).

    Both are 0 when the medium's KV was reused, so that no features were needed.
    """

    hits: int = 0
    misses: int = 0


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a request would cost, before it is sent. Nothing is prefilled, encoded or counted for it, and nothing is
    stored in the cache; its decoded media are kept for the request that follows.

    tokens: the prompt's token ids, placeholders expanded. left: context tokens left for an answer; negative when the
    prompt does not fit. cached_tokens: how many the prefix cache would reuse right now. ttft_ms: time to first token
    by this engine's own records, beside what runs now, without fetch and decode; None unless such estimates have held
    lately (engine.runtime.estimates.track_record).
    pictures: per medium, a PNG of every frame (or of the picture) at the size the model sees; () unless asked for.
    """

    tokens: tuple[int, ...]
    context_tokens: int
    media: tuple[MediaReceipt, ...] = ()
    cached_tokens: int = 0
    ttft_ms: float | None = None
    pictures: tuple[tuple[bytes, ...], ...] = ()

    @property
    def left(self) -> int:
        return self.context_tokens - len(self.tokens)


@dataclass(frozen=True, slots=True)
class CacheTrace:
    """What happened to one prompt's tokens. The first reused_tokens were not computed, the rest was. The last
    disk_tokens of the reused ones came from the cache's folder, the others from memory.

    media_first: a question was moved behind its media, so that another question can reuse them.
    reason says why the first computed token was not reused: "first_use", "diverged" (before: the last text
    that both share; here: how this prompt goes on; other: how the stored prompts go on instead), "evicted" (evicted_s
    seconds ago), "inside_media", "complete" (only what must be computed was), "between_snapshots" (this family is
    stored as row snapshots, and the prompts part ways between two), "not_cacheable" (this prompt's media carry no key),
    "off" (no cache in this server), "cold" (the request asked for it: Request.reuse).
    """

    reused_tokens: int
    computed_tokens: int
    reason: str
    before: str = ""
    here: str = ""
    other: str = ""
    evicted_s: float = 0.0
    media_first: bool = False
    disk_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Description:
    """What a vision model said about one medium, for a text model that cannot see it (engine.vision_proxy).

    kind, param, sha256: the medium, as in MediaReceipt. model: the vision model. The tokens are those of the vision
    model when it was asked, cached_tokens of them reused by its prefix cache; seconds is how long that took. kept: it
    was not asked for this request, the text was there from an earlier one, or from the same medium in this one. edited:
    nobody was asked, the text came with the request (Part.description).
    """

    kind: Kind
    param: str
    sha256: str
    text: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    seconds: float = 0.0
    kept: bool = False
    edited: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of every stream that does not raise. finish_reason: that of the first choice. decisions: one for
    each of Request.questions. descriptions: one for each medium that another model described; `media` is then empty,
    and `usage` is the text model's alone. prompt_ids: of a request that asked for them, with every placeholder as often
    as the model reads it. coordinates: None unless pixels of the original were asked for. served_by: of an answer that
    another server gave; then `media` and `trace` are what that server told, and it may tell nothing."""

    finish_reason: FinishReason
    usage: Usage
    timing: Timing
    media: tuple[MediaReceipt, ...] = ()
    trace: CacheTrace | None = None
    decisions: tuple[Decision, ...] = ()
    descriptions: tuple[Description, ...] = ()
    prompt_ids: tuple[int, ...] = ()
    coordinates: CoordinatesGiven | None = None
    served_by: ServedBy | None = None


Event = Delta | Done


@dataclass(frozen=True, slots=True)
class CompletedChoice:
    """One whole answer. reasoning: what the model thought before it, "" for models that do not. raw: both, in the order
    in which they were written. text_tokens: those of `tokens` that came with the text. tool_calls: in the order
    in which they were written. stop: the text of Request.stop that ended it, "" for another end."""

    text: str
    reasoning: str
    raw: str
    tokens: tuple[GeneratedToken, ...]
    finish_reason: FinishReason
    tool_calls: tuple[ToolCall, ...] = ()
    text_tokens: tuple[GeneratedToken, ...] = ()
    stop: str = ""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The answer's tokens, a stop token included."""
        return tuple(token.id for token in self.tokens)


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole stream, collected (Engine.complete): every choice by its index, and the last event. prompt: its tokens,
    of a request that asked for Request.prompt_logprobs."""

    choices: tuple[CompletedChoice, ...]
    done: Done
    prompt: tuple[GeneratedToken, ...] = ()

    @property
    def text(self) -> str:
        return self.choices[0].text

    @property
    def tokens(self) -> tuple[GeneratedToken, ...]:
        return self.choices[0].tokens

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.choices[0].token_ids

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return self.choices[0].tool_calls

    @classmethod
    def of(cls, deltas: Iterable[Delta], done: Done) -> Completion:
        """Put a stream's events together. A choice that was cut off without a last Delta has the request's end."""
        by_index: dict[int, list[Delta]] = {0: []}
        prompt: tuple[GeneratedToken, ...] = ()
        for delta in deltas:
            by_index.setdefault(delta.index, []).append(delta)
            prompt = prompt or delta.prompt
        return cls(tuple(_choice(by_index[index], done) for index in sorted(by_index)), done, prompt)

    @classmethod
    async def read(cls, events: AsyncIterable[Event]) -> Completion:
        """A stream, read to its end. Raises what the stream raises."""
        deltas: list[Delta] = []
        async for event in events:
            if isinstance(event, Done):
                return cls.of(deltas, event)
            deltas.append(event)
        raise Internal("An answer ended without its last event.")


def _choice(deltas: list[Delta], done: Done) -> CompletedChoice:
    def joined(channel: Channel) -> str:
        return "".join(delta.text for delta in deltas if delta.channel == channel)

    tokens = tuple(token for delta in deltas for token in delta.tokens)
    reasons = [delta.finish_reason for delta in deltas if delta.finish_reason]
    return CompletedChoice(
        text=joined("text"),
        reasoning=joined("reasoning"),
        raw="".join(delta.text for delta in deltas),
        tokens=tokens,
        finish_reason=reasons[-1] if reasons else done.finish_reason,
        tool_calls=_tool_calls(delta.tool_call for delta in deltas if delta.tool_call),
        text_tokens=tuple(token for delta in deltas if delta.channel == "text" for token in delta.tokens),
        stop="".join(delta.stop for delta in deltas),
    )


def _tool_calls(pieces: Iterable[ToolCallDelta]) -> tuple[ToolCall, ...]:
    calls: dict[int, ToolCall] = {}
    for piece in pieces:
        call = calls.setdefault(piece.index, ToolCall(piece.id, piece.name, ""))
        calls[piece.index] = replace(call, arguments=call.arguments + piece.arguments)
    return tuple(calls[index] for index in sorted(calls))
