"""Fields that others serve and this server does not: refused by name where they ask for something.

UNSUPPORTED holds for the bodies of every protocol; a class of bodies, or of objects in them, has `refusals` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from engine.errors import BadRequest

Refusals = Mapping[str, tuple[Callable[[Any], bool], str]]
"""Field -> whether its value asks for something, and what to say then."""


def other_than(*plain: Any) -> Callable[[Any], bool]:
    """Whether a value asks for something; plain: those that ask for what happens anyway."""
    return lambda value: value is not None and value not in plain


MEDIA_OPTIONS = (
    "not read here; say max_pixels, detail, fps or nframes in a part, or video_fps and video_max_frames in the request"
)
GRAMMARS = "not served; say response_format, or structured_outputs with json, regex, choice or grammar"
SAMPLERS = "this way of sampling is not served; say temperature, top_p, top_k or min_p"
TEXT_ONLY = "answers are text only"
FUNCTIONS = "not served; say tools and tool_choice"

UNSUPPORTED: Refusals = {
    # OpenAI
    "functions": (bool, FUNCTIONS),
    "function_call": (other_than("none", "auto"), FUNCTIONS),
    "modalities": (other_than([], ["text"]), TEXT_ONLY),
    "audio": (bool, TEXT_ONLY),
    "prediction": (bool, "predicted outputs are not supported"),
    "web_search_options": (other_than(), "web search is not supported"),
    "echo": (bool, "the prompt is not echoed"),
    "suffix": (bool, "text is only continued, never inserted before a suffix"),
    "best_of": (other_than(1), "all answers are returned; say n"),
    "top_logprobs": (bool, "it belongs to chats; here logprobs is how many there are"),
    # vLLM
    "prompt_logprobs": (other_than(), "only the answer's log-probabilities are given"),
    "use_beam_search": (bool, SAMPLERS),
    "length_penalty": (other_than(1), SAMPLERS),
    "allowed_token_ids": (bool, "not served; say logit_bias"),
    "include_stop_str_in_output": (bool, "a text that ends the answer is never part of it"),
    "skip_special_tokens": (other_than(True), "special tokens are never part of the answer"),
    "spaces_between_special_tokens": (other_than(True), "special tokens are never part of the answer"),
    "truncate_prompt_tokens": (other_than(), "a prompt that is too long is refused, never cut"),
    "prompt_embeds": (bool, "prompts are text, token ids or messages"),
    "return_token_ids": (bool, "not served; say logprobs"),
    "return_tokens_as_token_ids": (bool, "not served; say logprobs"),
    "logits_processors": (bool, "code is not taken from requests"),
    "chat_template": (bool, "the model's own template is used"),
    "documents": (bool, "not served; say what they contain in a message, or send files as parts"),
    "mm_processor_kwargs": (bool, MEDIA_OPTIONS),
    "media_io_kwargs": (bool, MEDIA_OPTIONS),
    "guided_whitespace_pattern": (bool, "white space in JSON is as models write it, and bounded"),
    "structural_tag": (bool, GRAMMARS),
    "kv_transfer_params": (bool, "not served"),
    # llama.cpp, SGLang, text-generation-inference
    "grammar": (bool, GRAMMARS),
    "json_schema": (bool, GRAMMARS),
    "regex": (bool, GRAMMARS),
    "ebnf": (bool, GRAMMARS),
    "n_predict": (other_than(-1), "not served; say max_tokens"),
    "n_probs": (bool, "not served; say logprobs and top_logprobs"),
    "typical_p": (other_than(1), SAMPLERS),
    "tfs_z": (other_than(1), SAMPLERS),
    "mirostat": (bool, SAMPLERS),
    "dry_multiplier": (bool, SAMPLERS),
    "xtc_probability": (bool, SAMPLERS),
    "dynatemp_range": (bool, SAMPLERS),
    "samplers": (bool, SAMPLERS),
    "stop_regex": (bool, "not served; say stop"),
    "no_stop_trim": (bool, "a text that ends the answer is never part of it"),
    "lora_path": (bool, "adapters are not served"),
}
"""Of fields that stand beside those of the schema."""


def refuse(body: BaseModel) -> None:
    """Raise BadRequest for the first field that asks for what is not done, also inside the objects of a body."""
    _refuse(body, "")


def _refuse(model: BaseModel, prefix: str) -> None:
    own, elsewhere, extra = refusals_of(model), unsupported_at(prefix), dict(extra_of(model))
    given = {name: getattr(model, name) for name in type(model).model_fields if name in model.model_fields_set}
    for name, value in {**given, **extra}.items():
        asks, why = own.get(name) or (elsewhere.get(name) if name in extra else None) or (None, "")
        if asks is not None and value is not None and asks(value):
            param = f"{prefix}{name}"
            raise BadRequest(f"{param}: {why}.", param=param, code="unsupported_parameter")
    for path, inner in objects_in(model, prefix):
        _refuse(inner, path)


def refusals_of(model: BaseModel) -> Refusals:
    """Those that its class has."""
    own: Refusals = getattr(type(model), "refusals", {})
    return own


def unsupported_at(prefix: str) -> Refusals:
    """Those of every protocol, which are fields of the body itself and not of an object in it."""
    return {} if prefix else UNSUPPORTED


def extra_of(model: BaseModel) -> Iterator[tuple[str, Any]]:
    """The fields beside those of the schema. null is as good as not given."""
    given: Mapping[str, Any] = model.model_extra or {}
    yield from ((name, value) for name, value in given.items() if value is not None)


def objects_in(model: BaseModel, prefix: str) -> Iterator[tuple[str, BaseModel]]:
    """The objects that the schema knows, each with how the paths of its fields begin."""
    for name, field in type(model).model_fields.items():
        if isinstance(inner := getattr(model, name), BaseModel):
            yield f"{prefix}{field.alias or name}.", inner
