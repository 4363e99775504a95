"""SamplingParams: how an answer is drawn, in vLLM's words (https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """The defaults are vLLM's. None is the model's own, where its generation_config.json says one.

    max_tokens: longest answer; None is all that is left of the context. temperature 0 is greedy. seed: same seed, same
    tokens, in any batch. stop: texts that end the answer and are cut off. logprobs: so many of the likeliest tokens
    beside each. prompt_logprobs: the same for the prompt's. structured_outputs: one of {"json": schema},
    {"regex": …}, {"choice": […]}, {"grammar": …}, {"json_object": True}.

    >>> SamplingParams(temperature=0.7, max_tokens=200).max_tokens
    200
    >>> SamplingParams(best_of=3)
    Traceback (most recent call last):
    TypeError: SamplingParams.__init__() got an unexpected keyword argument 'best_of'
    """

    n: int = 1
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    top_k: int | None = 0
    min_p: float | None = 0.0
    repetition_penalty: float | None = 1.0
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    bad_words: Sequence[str] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    structured_outputs: Mapping[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """The fields of a text completion on /v1 that ask for the same. prompt_logprobs has no field there."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        del given["prompt_logprobs"]
        given["max_tokens"] = -1 if self.max_tokens is None else self.max_tokens
        for name in ("stop", "stop_token_ids", "bad_words"):
            value = given[name]
            given[name] = value if value is None or isinstance(value, str) else list(value)
        return {name: value for name, value in given.items() if value is not None}


MODEL_OWN = SamplingParams(
    temperature=None,
    top_p=None,
    top_k=None,
    min_p=None,
    repetition_penalty=None,
    presence_penalty=None,
    frequency_penalty=None,
)
"""Where nothing is said."""
