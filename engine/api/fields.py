"""Fields that this server does not serve: refused by name where they ask for something that others do, and else named
in the answer's x-ignored-fields header. Nothing is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import BaseModel

from engine.api.reasoning import ReasoningFields, ignored_in_reasoning
from engine.api.tools import ToolFields, ignored_in_tools
from engine.errors import BadRequest
from engine.types import ModelCard

if TYPE_CHECKING:
    from engine.api.schemas import GenerationBody

IGNORED_HEADER = "x-ignored-fields"
MAX_NAMED = 32
MAX_NAME_CHARS = 100
MESSAGE_FIELDS = frozenset(
    ("role", "content", "name", "refusal", "tool_calls", "tool_call_id", "reasoning_content", "reasoning")
)
"""What is read of a message. Other fields that change what the model reads are refused where messages are read."""


def _truthy(value: Any) -> bool:
    return bool(value)


def _more_than_one(value: Any) -> bool:
    return value is not None and value != 1


def _other_than(*plain: Any) -> Callable[[Any], bool]:
    """Whether a value asks for something; plain: those that ask for what happens anyway."""
    return lambda value: value is not None and value not in plain


MEDIA_OPTIONS = (
    "not read here; say max_pixels, detail, fps or nframes in a part, or video_fps and video_max_frames in the request"
)
GRAMMARS = "not served; say response_format, or structured_outputs with json, regex, choice or grammar"
SAMPLERS = "this way of sampling is not served; say temperature, top_p, top_k or min_p"
TEXT_ONLY = "answers are text only"
FUNCTIONS = "not served; say tools and tool_choice"

UNSUPPORTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    # OpenAI
    "functions": (_truthy, FUNCTIONS),
    "function_call": (_other_than("none", "auto"), FUNCTIONS),
    "modalities": (_other_than([], ["text"]), TEXT_ONLY),
    "audio": (_truthy, TEXT_ONLY),
    "prediction": (_truthy, "predicted outputs are not supported"),
    "web_search_options": (_other_than(), "web search is not supported"),
    "echo": (_truthy, "the prompt is not echoed"),
    "suffix": (_truthy, "text is only continued, never inserted before a suffix"),
    "best_of": (_more_than_one, "all answers are returned; say n"),
    "top_logprobs": (_truthy, "it belongs to chats; here logprobs is how many there are"),
    # vLLM
    "prompt_logprobs": (_other_than(), "only the answer's log-probabilities are given"),
    "use_beam_search": (_truthy, SAMPLERS),
    "length_penalty": (_other_than(1), SAMPLERS),
    "allowed_token_ids": (_truthy, "not served; say logit_bias"),
    "include_stop_str_in_output": (_truthy, "a text that ends the answer is never part of it"),
    "skip_special_tokens": (_other_than(True), "special tokens are never part of the answer"),
    "spaces_between_special_tokens": (_other_than(True), "special tokens are never part of the answer"),
    "truncate_prompt_tokens": (_other_than(), "a prompt that is too long is refused, never cut"),
    "prompt_embeds": (_truthy, "prompts are text, token ids or messages"),
    "return_token_ids": (_truthy, "not served; say logprobs"),
    "return_tokens_as_token_ids": (_truthy, "not served; say logprobs"),
    "logits_processors": (_truthy, "code is not taken from requests"),
    "chat_template": (_truthy, "the model's own template is used"),
    "documents": (_truthy, "not served; say what they contain in a message, or send files as parts"),
    "mm_processor_kwargs": (_truthy, MEDIA_OPTIONS),
    "media_io_kwargs": (_truthy, MEDIA_OPTIONS),
    "guided_whitespace_pattern": (_truthy, "white space in JSON is as models write it, and bounded"),
    "structural_tag": (_truthy, GRAMMARS),
    "kv_transfer_params": (_truthy, "not served"),
    # llama.cpp, SGLang, text-generation-inference
    "grammar": (_truthy, GRAMMARS),
    "json_schema": (_truthy, GRAMMARS),
    "regex": (_truthy, GRAMMARS),
    "ebnf": (_truthy, GRAMMARS),
    "n_predict": (_other_than(-1), "not served; say max_tokens"),
    "n_probs": (_truthy, "not served; say logprobs and top_logprobs"),
    "typical_p": (_other_than(1), SAMPLERS),
    "tfs_z": (_other_than(1), SAMPLERS),
    "mirostat": (_truthy, SAMPLERS),
    "dry_multiplier": (_truthy, SAMPLERS),
    "xtc_probability": (_truthy, SAMPLERS),
    "dynatemp_range": (_truthy, SAMPLERS),
    "samplers": (_truthy, SAMPLERS),
    "stop_regex": (_truthy, "not served; say stop"),
    "no_stop_trim": (_truthy, "a text that ends the answer is never part of it"),
    "lora_path": (_truthy, "adapters are not served"),
}
"""Field -> whether its value asks for something, and what to say then."""

_STREAM_OPTIONS: dict[str, str] = {"continuous_usage_stats": "usage comes once, in the last chunk"}


def refuse_unsupported(asked: GenerationBody) -> None:
    """Raise BadRequest for the first field that asks for what this server does not do."""
    refuse_known_elsewhere(asked)
    if asked.stream_options is None:
        return
    if not asked.stream:
        raise BadRequest("stream_options: only allowed when stream is true.", param="stream_options")
    for name, value in _extra(asked.stream_options):
        if name in _STREAM_OPTIONS and value:
            param = f"stream_options.{name}"
            raise BadRequest(f"{param}: {_STREAM_OPTIONS[name]}.", param=param, code="unsupported_parameter")


def refuse_known_elsewhere(asked: BaseModel) -> None:
    """The same for the fields of a body of any protocol."""
    for name, value in _extra(asked):
        is_asked_for, why = UNSUPPORTED.get(name, (None, ""))
        if is_asked_for is not None and is_asked_for(value):
            raise BadRequest(f"{name}: {why}.", param=name, code="unsupported_parameter")


def ignored_header(asked: BaseModel, card: ModelCard) -> dict[str, str]:
    """The header that names what was sent and has no effect on this model; {} where all of it has. Names are
    percent-encoded, since they may hold anything."""
    names = list(dict.fromkeys(_ignored(asked, card)))
    if not names:
        return {}
    shown = [quote(name[:MAX_NAME_CHARS], safe="._[]") or '""' for name in names[:MAX_NAMED]]
    more = [f"and {len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return {IGNORED_HEADER: ", ".join(shown + more)}


def _ignored(asked: BaseModel, card: ModelCard) -> Iterator[str]:
    known = {*UNSUPPORTED, *(f"stream_options.{name}" for name in _STREAM_OPTIONS)}
    yield from (name for name in _unread(asked, "") if name not in known)
    if isinstance(asked, ToolFields):  # a chat; other protocols refuse what they do not read of a message or a tool
        for i, message in enumerate(getattr(asked, "messages", None) or ()):
            given = (name for name, value in message.items() if value not in (None, [], {}, ""))
            yield from (f"messages[{i}].{name}" for name in given if name not in MESSAGE_FIELDS)
        yield from ignored_in_tools(asked)
    if isinstance(asked, ReasoningFields):
        yield from ignored_in_reasoning(asked, card)


def _unread(model: BaseModel, prefix: str) -> Iterator[str]:
    """The paths of all fields beside those of the schema, also inside the objects that it knows."""
    yield from (f"{prefix}{name}" for name, _ in _extra(model))
    for name, field in type(model).model_fields.items():
        if isinstance(inner := getattr(model, name), BaseModel):
            yield from _unread(inner, f"{prefix}{field.alias or name}.")


def _extra(model: BaseModel) -> Iterator[tuple[str, Any]]:
    """The fields that a body has beside those of its schema. null is as good as not given."""
    given: Mapping[str, Any] = model.model_extra or {}
    yield from ((name, value) for name, value in given.items() if value is not None)
