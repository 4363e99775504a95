"""How much a model shall think before it answers, in the words of OpenAI, vLLM and Qwen -> Reasoning. Pure.

reasoning_effort        OpenAI: "none" turns it off; another word is for the template, where it has words for it
enable_thinking         Qwen: on or off; also in chat_template_kwargs, as vLLM has it
thinking_token_budget   vLLM, thinking_budget in Qwen's API: so many tokens, then the answer begins; -1: no limit
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, StrictBool, StrictInt
from pydantic.fields import Field

from engine.errors import BadRequest
from engine.types import ModelCard, Reasoning

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
MAX_BUDGET = 2**31 - 1
BUDGETS = ("thinking_token_budget", "thinking_budget")


class ReasoningFields(BaseModel):
    """The fields of a chat about reasoning."""

    reasoning_effort: str | None = Field(None, description=f"one of {', '.join(EFFORTS)}")
    enable_thinking: StrictBool | None = Field(None, description="false: the answer begins at once")
    thinking_token_budget: StrictInt | None = Field(None, ge=-1, le=MAX_BUDGET, description="most tokens of thought")
    thinking_budget: StrictInt | None = Field(None, ge=-1, le=MAX_BUDGET, description="another name of it")


def read_reasoning(body: ReasoningFields) -> Reasoning:
    effort = body.reasoning_effort
    if effort is not None and effort not in EFFORTS:
        raise BadRequest(f"reasoning_effort: it must be one of {', '.join(EFFORTS)}.", param="reasoning_effort")
    enabled = body.enable_thinking
    if enabled is None and effort is not None:
        enabled = effort != "none"
    budgets = [budget for name in BUDGETS if (budget := getattr(body, name)) is not None]
    if len(set(budgets)) > 1:
        raise BadRequest(f"{BUDGETS[1]}: it is {BUDGETS[0]}, and must not differ from it.", param=BUDGETS[1])
    return Reasoning(enabled, effort, budgets[0] if budgets and budgets[0] >= 0 else None)


def ignored_in_reasoning(body: Any, card: ModelCard) -> Iterator[str]:
    """Names of the fields without effect on this model: it does not think, or its template knows no such variable.
    body: a ReasoningFields with chat_template_kwargs."""
    if not card.reasons:
        yield from (name for name in ("enable_thinking", *BUDGETS) if getattr(body, name) is not None)
    effort, variables = body.reasoning_effort, card.template_variables
    has_effect = "reasoning_effort" in variables or (card.reasons and (effort == "none" or card.can_turn_reasoning_off))
    if effort is not None and not has_effect:
        yield "reasoning_effort"
    for name in body.chat_template_kwargs or ():
        if variables and name not in variables:
            yield f"chat_template_kwargs.{name}"
