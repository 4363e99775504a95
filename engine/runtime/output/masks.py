"""What may not come next in an answer, from what its request says. Engine thread only."""

from __future__ import annotations

from engine.grammar.budget import ReasoningMarks, ThinkBudget
from engine.grammar.calls import CallFollower
from engine.grammar.follow import CompiledGrammar, Follower, ThinkTokens
from engine.grammar.mask import AnswerMask, BadWords, Ban, NoEndBefore
from engine.models.registry import Loaded
from engine.types import Request
from engine.types.prompt import Prompt


class Masks:
    """Makes the masks of one model's answers."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._think = ThinkTokens.of(loaded.tokenizer)

    def of(
        self, request: Request, prompt: Prompt, grammar: CompiledGrammar | None, stop_ids: frozenset[int]
    ) -> list[AnswerMask | None]:
        """One for each answer of a request; None where everything may come. stop_ids: the tokens that end it."""
        bans: list[Ban] = []  # they hold nothing of an answer, so all answers share them
        if request.min_tokens and stop_ids:
            bans.append(NoEndBefore(request.min_tokens, stop_ids))
        if request.bad_words:
            bans.append(BadWords(_spellings(self._loaded, request.bad_words)))
        think = self._think if request.prompt is None else None  # nobody reasons about a raw prompt
        stage = think.stage_after(prompt.ids, in_reasoning=prompt.starts_in_reasoning) if think else "answer"
        max_tokens = self._max_reasoning(request)
        masks: list[AnswerMask | None] = []
        for _ in range(request.n):
            follower: Follower | CallFollower | None = Follower(grammar, think, stage) if grammar else None
            if grammar and grammar.is_of_calls:
                follower = CallFollower(grammar, self._loaded.tools.start, _marks(think, prompt))
            budget, marks = None, _marks(think, prompt)
            if marks and max_tokens is not None:
                budget = ThinkBudget(marks, max_tokens)
            masks.append(AnswerMask(bans, follower, stop_ids, budget) if bans or follower or budget else None)
        return masks

    def _max_reasoning(self, request: Request) -> int | None:
        """In tokens. A model whose template cannot turn reasoning off has none left for it where it is turned off."""
        is_off = request.reasoning.enabled is False and not self._loaded.card.can_turn_reasoning_off
        return 0 if is_off else request.reasoning.max_tokens


def _marks(think: ThinkTokens | None, prompt: Prompt) -> ReasoningMarks | None:
    return ReasoningMarks(think, in_reasoning=prompt.starts_in_reasoning) if think else None


def _spellings(loaded: Loaded, words: tuple[str, ...]) -> list[list[int]]:
    """Each word as it is written at the beginning of a text and behind a space."""
    texts = dict.fromkeys(text for word in words for text in (word, " " + word.lstrip()))
    found = (loaded.tokenizer.encode(text, add_special_tokens=False) for text in texts)
    return [list(ids) for ids in found if ids]
