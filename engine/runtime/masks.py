"""What may not come next in an answer, from what its request says. Engine thread only."""

from __future__ import annotations

from engine.grammar.budget import ThinkBudget
from engine.grammar.follow import CompiledGrammar, Follower, ThinkTokens
from engine.grammar.mask import AnswerMask, BadWords, Ban, NoEndBefore
from engine.models.registry import Loaded
from engine.types import Request
from engine.types.prompt import Prompt


def make_mask(
    loaded: Loaded, request: Request, prompt: Prompt, grammar: CompiledGrammar | None, stop_ids: frozenset[int]
) -> AnswerMask | None:
    """For one answer; None where everything may come. stop_ids: the tokens that end it."""
    bans: list[Ban] = []
    if request.min_tokens and stop_ids:
        bans.append(NoEndBefore(request.min_tokens, stop_ids))
    if request.bad_words:
        bans.append(BadWords(_spellings(loaded, request.bad_words)))
    follower = _follower(loaded, request, prompt, grammar) if grammar else None
    budget = _budget(loaded, request, prompt)
    return AnswerMask(bans, follower, stop_ids, budget) if bans or follower or budget else None


def _budget(loaded: Loaded, request: Request, prompt: Prompt) -> ThinkBudget | None:
    """A model whose template cannot turn reasoning off has none left for it where it is turned off."""
    think, reasoning = ThinkTokens.of(loaded.tokenizer), request.reasoning
    max_tokens = reasoning.max_tokens
    if reasoning.enabled is False and not loaded.card.can_turn_reasoning_off:
        max_tokens = 0
    if think is None or max_tokens is None or request.prompt is not None:
        return None
    return ThinkBudget(think, max_tokens, in_reasoning=prompt.starts_in_reasoning)


def _follower(loaded: Loaded, request: Request, prompt: Prompt, grammar: CompiledGrammar) -> Follower:
    think = ThinkTokens.of(loaded.tokenizer) if request.prompt is None else None
    if think is None:
        return Follower(grammar)
    return Follower(grammar, think, think.stage_after(prompt.ids, in_reasoning=prompt.starts_in_reasoning))


def _spellings(loaded: Loaded, words: tuple[str, ...]) -> list[list[int]]:
    """Each word as it is written at the beginning of a text and behind a space."""
    texts = dict.fromkeys(text for word in words for text in (word, " " + word.lstrip()))
    found = (loaded.tokenizer.encode(text, add_special_tokens=False) for text in texts)
    return [list(ids) for ids in found if ids]
