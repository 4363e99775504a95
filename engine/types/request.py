"""What goes in: Request ── Message ── Part, how it is sampled, and which frames of a clip are taken.

Frozen values in pure Python: no MLX, no numpy, safe in every thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from engine.types.decision import TypedQuestion
    from engine.types.grounding import Coordinates

Json = dict[str, Any]
"""A JSON object."""

Role = Literal["system", "user", "assistant", "tool"]
Kind = Literal["text", "image", "video", "audio", "document"]
Detail = Literal["auto", "low", "high"]


@dataclass(frozen=True, slots=True)
class Part:
    """A reference inside a message; never pixels.

    kind "text" carries `text`. A medium carries exactly one of:
      url    a `data:` or `http(s):` URL, as the client sent it
      path   a file that this process may read: the caller has checked it (upload folder, --media-root)
      parts  a clip sent as a list of pictures: its frames, in order, each a part of kind "image"
    detail, max_pixels, min_pixels and exact_px (width, height) say how large the model shall see a picture, or each
    frame of a clip (engine.prompt.sizing); frames how this clip is sampled, where that differs from the request's;
    crop_px: only this part of a picture goes in: (x, y, width, height) in pixels of it upright, as it is decoded.
    animated whether a picture that moves goes in as a clip (True), as its first frame (False), or as a clip where the
    model takes clips (None).
    document: how a file of pages or of text is shown; it becomes pictures and texts before the prompt is built
    (engine.media.document). label says which page such a picture is, for the receipt.
    description: what it shows in the user's words: a vision model that would describe it is not asked
    (engine.vision_proxy); without effect for a model that sees.
    param names the part in the client's own terms, e.g. "messages[0].content[1]", for error messages.
    """

    kind: Kind
    text: str = ""
    url: str | None = None
    path: str | None = None
    parts: tuple[Part, ...] = ()
    detail: Detail = "auto"
    max_pixels: int | None = None
    min_pixels: int | None = None
    exact_px: tuple[int, int] | None = None
    crop_px: tuple[int, int, int, int] | None = None
    frames: FrameSampling | None = None
    animated: bool | None = None
    document: PageChoice | None = None
    label: str = ""
    description: str | None = None
    param: str = "messages"


@dataclass(frozen=True, slots=True)
class PageChoice:
    """What of a document is shown. name: its file name, "" where unknown. pages: numbers from 1, as in "1-3,7"; "" for
    all. with_text: the text that lies behind each page beside its picture."""

    name: str = ""
    pages: str = ""
    with_text: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask its caller to run. parameters: a JSON Schema of its arguments, None for
    anything. param names that schema in the client's own terms, for error messages; "" where nobody has said it.
    strict: the arguments of every call follow the schema; those of calls that are forced do so in any case."""

    name: str
    description: str = ""
    parameters: Json | None = None
    strict: bool = False
    param: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks its caller to run a function. arguments: JSON, an object unless the model wrote it wrong. id: what
    the message with the result names it by."""

    id: str
    name: str
    arguments: str


ToolMode = Literal["auto", "none", "required"]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model calls tools: "auto" as it likes, "none" never, "required" at least one.

    names: the tools that it may call, () for all of them. parallel: it may call several in one answer.
    """

    mode: ToolMode = "auto"
    names: tuple[str, ...] = ()
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much the model thinks before it answers, where it does. None leaves it to the model's template.

    enabled: whether at all. effort: in the words of the model's template ("low", "medium", "high"). max_tokens: then
    its thinking is ended and the answer begins.
    """

    enabled: bool | None = None
    effort: str | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """tool_calls, reasoning: what an assistant called and thought in this turn. tool_call_id: of the call whose result
    a message of role "tool" holds. name: who speaks, or the tool's."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. None means: the server's default, else the model's generation config.

    temperature 0 is greedy. seed gives the request its own random key: same seed, same tokens, in any batch.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None


SAMPLING_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_p": (1e-6, 1.0),
    "top_k": (0, 2**31 - 1),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
"""The lowest and the highest value of each setting of Sampling. float32 has no number for what lies far beyond them."""


@dataclass(frozen=True, slots=True)
class FrameSampling:
    """Which frames of a clip the model gets. Times in seconds of the clip; None means the default.

    max_pixels: of all frames together; the smaller of it and the model's own budget counts. list_fps: the rate at which
    a list of frames was taken. indices: these frames of the source, ascending, whatever the other fields would choose.
    """

    fps: float | None = None
    max_frames: int | None = None
    min_frames: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    max_pixels: int | None = None
    list_fps: float | None = None
    indices: tuple[int, ...] | None = None

    def over(self, default: FrameSampling) -> FrameSampling:
        """These settings; where they say nothing, the default's."""
        said = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return replace(default, **{name: value for name, value in said.items() if value is not None})


NO_LIMIT = -1
"""As Request.max_tokens."""

GrammarKind = Literal["json_schema", "json_object", "regex", "choice", "grammar", "tools", "calls"]


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer must look like, from its first character to its last. After reasoning, where the model reasons.

    source: for "json_schema" the schema as JSON; for "json_object" ""; for "regex" the expression; for "choice" a JSON
    array of texts, one of which is the answer; for "grammar" Lark as llguidance reads it, or GBNF as llama.cpp does;
    "tools" and "calls" are made from a request's tools (engine.grammar.tools, engine.grammar.calls). param names it in
    the client's own terms, for error messages.
    """

    kind: GrammarKind
    source: str = ""
    param: str = "response_format"


@dataclass(frozen=True, slots=True)
class Request:
    """One generation. Either `messages` (chat) or `prompt` (raw text or token ids, for /v1/completions).

    With both, the prompt is the text, with the model's own placeholders in it, and the messages hold nothing but the
    media that these stand for, in their order.

    max_tokens None means: the server's default, clamped to what is left of the context. An explicit number that does
    not fit is an error, never clamped in silence; NO_LIMIT means all that is left of the context.
    min_tokens: the answer may not end before so many. ignore_eos: the model may not end it at all. stop: texts that end
    it and are cut off. stop_token_ids: tokens that end it beside the model's own. bad_words: texts that it may not
    contain. grammar: what it must look like; it ends where the grammar ends.
    add_special_tokens: what the tokenizer puts around a raw text, such as a token that begins it.
    tools: functions that the model may call; a choice of "required" makes a grammar of its own.
    add_generation_prompt: the template opens the answer's turn. continue_final_message: instead, the answer goes on
    from the last message.
    prompt_logprobs: the same for the prompt's tokens, on the request's first Delta; all of it is then computed, and
    max_tokens may be 0.
    logprobs: each token comes with its log-probability and with so many of the likeliest tokens at its place; None:
    without any. n: answers drawn from the one prompt, each with its own random numbers. forced: token ids of an answer
    that is given whatever the model would say (Engine.likelihood).
    model: which one answers, by its name or an alias; None for the default one.
    questions: asked in place of an answer (Engine.decide); the messages then end with the first of them, and the others
    take its place in turn.
    prompt_ids: Done then has the token ids of the prompt.
    coordinates: "original" gives those of the answer in pixels of the medium as it was decoded (engine.grounding), and
    takes those of earlier answers so; None as the server is set.
    id is a label that may repeat: the engine tells requests apart by themselves. source says who asks ("chat", "api",
    "bench", "batch"), for the tabs; dialect, by which route of the API, "" for the page; session is an opaque owner id.
    traceparent: the span that it belongs to, as the caller's header of this name says (W3C Trace Context); "" for none.
    A "replay" (engine.runtime.replay) is neither listed nor counted as a query, and stores nothing.
    tenant: prompts of two tenants never share cached work, nor can one tell from the time taken what the other sent;
    see engine.access. reuse False computes everything: nothing is looked up and nothing kept (KV, row snapshots,
    features).
    """

    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    grammar: Grammar | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    reasoning: Reasoning = field(default_factory=Reasoning)
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    frames: FrameSampling = field(default_factory=FrameSampling)
    template_kwargs: tuple[tuple[str, Any], ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    prompt_ids: bool = False
    coordinates: Coordinates | None = None
    n: int = 1
    forced: tuple[int, ...] = ()
    questions: tuple[TypedQuestion, ...] = ()
    model: str | None = None
    id: str = ""
    source: str = "api"
    dialect: str = ""
    traceparent: str = ""
    session: str | None = None
    tenant: str = ""
    reuse: bool = True

    @property
    def offered_tools(self) -> tuple[Tool, ...]:
        """The tools that the model may call, and is told of."""
        choice = self.tool_choice
        if choice.mode == "none":
            return ()
        return tuple(tool for tool in self.tools if not choice.names or tool.name in choice.names)

    @property
    def media_parts(self) -> list[Part]:
        """The media of all messages, in the order in which they were sent."""
        return [part for message in self.messages for part in message.parts if part.kind != "text"]
