"""Masks that are set back: behind a token that is not taken after all, all is as if it had never come."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from engine.grammar.budget import ReasoningMarks, ThinkBudget
from engine.grammar.calls import CallFollower
from engine.grammar.compile import Grammars
from engine.grammar.follow import Follower, ThinkTokens, Trail
from engine.grammar.mask import AnswerMask, BadWords, NoEndBefore
from engine.grammar.tools import answer_grammar
from engine.models.form_lookup import FormLookup
from engine.models.proposer import Begun
from engine.types import Grammar, Request, Tool, ToolChoice

END, NUM_IDS = 2, 1024
OPEN, CLOSE = (700, 50), (701, 51)
THINK = ThinkTokens(OPEN, CLOSE)
ORDER = {
    "type": "object",
    "properties": {
        "customer_identification": {"type": "integer", "minimum": 0, "maximum": 999},
        "remarks_of_the_customer": {"type": "string", "maxLength": 5},
    },
    "required": ["customer_identification", "remarks_of_the_customer"],
    "additionalProperties": False,
}
ADD = Tool("add", "", ORDER, strict=True)
Make = Callable[[Any], AnswerMask]


@cache
def grammars(tokenizer: Any) -> Grammars:
    return Grammars(tokenizer, [END], "</tool_call>")


def held(grammar: Grammar, *, stage: Any = None, bans: Any = (), budget: int | None = None) -> Make:
    def make(tokenizer: Any) -> AnswerMask:
        follower = Follower(grammars(tokenizer).compile(grammar), THINK if stage else None, stage or "answer")
        limit = ThinkBudget(ReasoningMarks(THINK, in_reasoning=True), budget) if budget is not None else None
        return AnswerMask(bans, follower, (END,), limit)

    return make


def calls(tokenizer: Any, start: str = "<call>", said: bytes = b"<call>") -> AnswerMask:
    """Inside of a call."""
    compiled = grammars(tokenizer).compile_calls(Request(tools=(ADD,)))
    follower = CallFollower(compiled, start, ReasoningMarks(THINK, in_reasoning=False))
    follower._look_for_start(said)
    return AnswerMask((), follower, (END,))


def free(tokenizer: Any) -> AnswerMask:
    """A call may begin, and soon does."""
    return calls(tokenizer, "a", b"")


SCHEMA = Grammar("json_schema", json.dumps(ORDER))
TOOLS = answer_grammar(Request(tools=(ADD,), tool_choice=ToolChoice("required")))
assert TOOLS is not None
MASKS: dict[str, Make] = {
    "schema": held(SCHEMA),
    "object": held(Grammar("json_object")),
    "regex": held(Grammar("regex", "order number [0-9]{1,3}, which (came|went) by post")),
    "numbers": held(Grammar("regex", "[0-9]+")),
    "choice": held(Grammar("choice", json.dumps(["yes", "no", " perhaps so", "é🙂"]))),
    "tools": held(TOOLS),
    "calls": calls,
    "free": free,
    "reasoning": held(SCHEMA, stage="start"),
    "budget": held(SCHEMA, stage="reasoning", budget=3),
    "bans": held(SCHEMA, bans=[BadWords([(8, 9), (31,)]), NoEndBefore(30, [END])]),
}


def begun(make: Make, tokenizer: Any) -> tuple[AnswerMask, set[int]]:
    mask = make(tokenizer)
    return mask, left(mask(mx.array([1]), mx.zeros((1, NUM_IDS))))


def left(masked: mx.array) -> set[int]:
    return set(np.flatnonzero(np.isfinite(np.array(masked)[0])).tolist())


def taken(mask: AnswerMask, token: int) -> set[int]:
    """What may come behind it; nothing where the answer cannot go on."""
    allowed = left(mask.behind(token, mx.zeros((1, NUM_IDS))))
    return set() if mask.error else allowed


def walk(make: Make, tokenizer: Any, seed: int, most: int = 40) -> tuple[list[int], list[set[int]]]:
    """Tokens of an answer, and what might come before the first of them and behind each."""
    choose = random.Random(seed)
    mask, allowed = begun(make, tokenizer)
    tokens, found = [], [allowed]
    while len(tokens) < most and found[-1] and not (tokens and tokens[-1] == END):
        tokens.append(choose.choice(sorted(found[-1])))
        found.append(taken(mask, tokens[-1]))
    return tokens, found


def check_set_back(make: Make, tokenizer: Any) -> None:
    for seed in range(3):
        tokens, expected = walk(make, tokenizer, seed)
        others = random.Random(seed)
        for num_kept in range(0, len(tokens), 4):
            mask, _ = begun(make, tokenizer)
            for token in tokens[:num_kept]:
                taken(mask, token)
            state = mask.state
            allowed = expected[num_kept]
            for _ in range(4):
                allowed = taken(mask, others.choice(sorted(allowed))) or {END}
            if seed:  # one that may not come, perhaps
                taken(mask, others.randrange(NUM_IDS))
            mask.state = state
            for place in range(num_kept, len(tokens)):
                assert taken(mask, tokens[place]) == expected[place + 1], "it goes on from somewhere else"


@pytest.mark.parametrize("name", MASKS)
def test_it_goes_on_from_there(tokenizer: Any, name: str) -> None:
    check_set_back(MASKS[name], tokenizer)


@pytest.mark.parametrize("name", ["schema", "calls", "tools"])
def test_sabotage_a_matcher_that_is_not_set_back_is_seen(
    tokenizer: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trail, "set_back", lambda self, num_tokens: None)
    with pytest.raises(AssertionError, match="it goes on from somewhere else"):
        check_set_back(MASKS[name], tokenizer)


@pytest.mark.parametrize("name", ["reasoning", "budget", "calls"])
def test_sabotage_thoughts_that_are_not_set_back_are_seen(
    tokenizer: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the matcher stays where it was."""
    for kind in (Follower, CallFollower, ThinkBudget):
        monkeypatch.setattr(kind, "state", property(lambda _: None, lambda *_: None))
    with pytest.raises(AssertionError, match="it goes on from somewhere else"):
        check_set_back(MASKS[name], tokenizer)


def test_a_matcher_that_has_failed_is_set_back_too(tokenizer: Any) -> None:
    """It stays failed: another takes its place."""
    follower = Follower(grammars(tokenizer).compile(SCHEMA))
    for token in tokenizer.encode('{"customer_', add_special_tokens=False):
        follower.accept(token)
    state, allowed = follower.state, follower.allowed()
    assert allowed is not None
    follower._trail._matcher.consume_token(int(np.flatnonzero(~allowed)[0]))
    assert follower.allowed() is None and follower.error is not None
    follower.state = state
    assert follower.error is None
    assert np.array_equal(follower.allowed(), allowed)  # type: ignore[arg-type]


# -- what is proposed --------------------------------------------------------------------------------------------------


class Told:
    """A lookup that finds these tokens behind those that it was told of."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = [*tokens]

    def append(self, token: int) -> None:
        self.tokens = self.tokens[1:]

    def proposal(self, num_tokens: int, begun: Begun) -> list[int]:
        return self.tokens[:num_tokens]

    def close(self) -> None: ...


def proposals(name: str, tokenizer: Any, seed: int) -> list[tuple[list[int], list[int]]]:
    """At each place of an answer what is proposed there, and what came."""
    tokens, _ = walk(MASKS[name], tokenizer, seed)
    mask, _ = begun(MASKS[name], tokenizer)
    lookup, out = FormLookup(mask, Told()), []
    for place, token in enumerate(tokens):
        out.append((lookup.proposal(8, lambda token=token: token), tokens[place : place + 8]))
        lookup.append(token)
        taken(mask, token)
    return out


@pytest.mark.parametrize("name", ["schema", "regex", "tools", "calls", "reasoning", "budget"])
def test_what_is_forced_is_proposed_and_comes(tokenizer: Any, name: str) -> None:
    num_forced = 0
    for seed in range(3):
        for proposed, came in proposals(name, tokenizer, seed):
            assert proposed[: len(came)] == came[: len(proposed)]  # an answer may be cut off
            num_forced += max(0, len(proposed) - 1)
    assert num_forced > 10


def test_where_nothing_is_forced_nothing_is_proposed(tokenizer: Any) -> None:
    for proposed, _ in proposals("numbers", tokenizer, 1):
        assert len(proposed) <= 1


def test_what_another_lookup_finds(tokenizer: Any) -> None:
    """Behind what is forced, and as far as the form allows it."""
    brace, ids = (
        tokenizer.encode(text, add_special_tokens=False) for text in ("{", '"customer_identification": 12, "remarks_of')
    )
    mask, _ = begun(MASKS["schema"], tokenizer)
    taken(mask, *brace)

    def found(num_tokens: int, *told: int) -> list[int]:
        return FormLookup(mask, Told(*told)).proposal(num_tokens, lambda: ids[0])

    forced = found(20)
    assert 1 < len(forced) < len(ids) and forced == ids[: len(forced)]
    assert found(20, *ids) == ids[:20]
    assert found(99, *ids[:-3], END, 9) == ids[:-3], "the answer may not end there"
    assert found(20, ids[0], ids[0]) == forced, "it finds something else"
    assert found(20, 9, 9) == forced
    assert found(3) == ids[:3]


def test_inside_a_string_nothing_is_waited_for(tokenizer: Any) -> None:
    mask, _ = begun(MASKS["object"], tokenizer)
    for token in tokenizer.encode('{"a": "b', add_special_tokens=False):
        taken(mask, token)
    assert not mask.is_tight
    (c,) = tokenizer.encode("c", add_special_tokens=False)
    lookup = FormLookup(mask, Told(c, c))
    assert lookup.proposal(20, lambda: pytest.fail("it waits for a token")) == [c, c]


def test_proposing_leaves_no_trace(tokenizer: Any) -> None:
    tokens, expected = walk(MASKS["schema"], tokenizer, 4)
    mask, _ = begun(MASKS["schema"], tokenizer)
    for place, token in enumerate(tokens):
        FormLookup(mask, Told(token, 9, 9)).proposal(8, lambda token=token: token)
        assert taken(mask, token) == expected[place + 1] and mask.error is None


def test_where_nothing_is_forced_it_soon_waits_no_more(tokenizer: Any) -> None:
    """Each wait keeps all rows of a batch from preparing their next pass."""
    tokens, _ = walk(MASKS["numbers"], tokenizer, 1)
    mask, _ = begun(MASKS["numbers"], tokenizer)
    lookup, waits = FormLookup(mask, Told()), 0
    for token in tokens[:16]:

        def wait(token: int = token) -> int:
            nonlocal waits
            waits += 1
            return token

        lookup.proposal(8, wait)
        lookup.append(token)
        taken(mask, token)
    assert len(tokens) >= 12 and 4 <= waits <= 8
