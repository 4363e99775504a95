"""How several tokens of an answer are written in one pass, in the words of vLLM's speculative_config. Pure.

https://docs.vllm.ai/en/latest/features/spec_decode/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.errors import BadRequest

SPECULATION_LIMITS = {"num_speculative_tokens": 64, "prompt_lookup_min": 64, "prompt_lookup_max": 64}
"""The most that each number of SpeculationConfig may be."""

SpeculationMethod = Literal["ngram", "draft_model"]

SPECULATION_FIELDS: dict[SpeculationMethod, tuple[str, ...]] = {
    "ngram": ("num_speculative_tokens", "prompt_lookup_min", "prompt_lookup_max"),
    "draft_model": ("model", "num_speculative_tokens"),
}
"""What may be said beside each method."""


@dataclass(frozen=True, slots=True)
class SpeculationConfig:
    """Several tokens of an answer in one pass (engine.models.speculation). method: "ngram", what came before in prompt
    and answer is proposed again; "draft_model", a small model proposes how it would go on. num_speculative_tokens: most
    that are proposed at a time. prompt_lookup_min, prompt_lookup_max: how many of the last tokens must have come before
    in the same order, and how many are looked at. model: of "draft_model", its folder or hub id. Raises BadRequest."""

    method: SpeculationMethod = "ngram"
    num_speculative_tokens: int = 8
    prompt_lookup_min: int = 3
    prompt_lookup_max: int = 8
    model: str | None = None

    def __post_init__(self) -> None:
        if self.prompt_lookup_min > self.prompt_lookup_max:
            why = f"prompt_lookup_min {self.prompt_lookup_min} is more than prompt_lookup_max {self.prompt_lookup_max}"
            raise BadRequest(why, param="speculative_config")
        if self.method == "draft_model" and not self.model:
            why = "method draft_model needs a model: the folder of the draft model, or its hub id"
            raise BadRequest(why, param="speculative_config")
        if self.method != "draft_model" and self.model is not None:
            raise BadRequest(f"model belongs to method draft_model, not to {self.method}", param="speculative_config")
