"""speculation of rows that are held to something: what their form forces comes several tokens at a time, and answers
are what they are without it, token for token.

Each check has a sabotage twin that breaks one thing and must see the same check go red.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from engine.errors import EngineError
from engine.grammar.mask import AnswerMask, BadWords
from engine.models.drawing import Drawn, draw_behind
from engine.models.lookup import PromptLookup
from engine.models.pass_costs import PassCosts
from engine.models.proposer import Begun
from engine.models.sampling import greedy_sampler, make_processors, make_sampler
from engine.models.speculation import Speculation
from engine.types import Grammar, Reasoning, Request, Sampling, Tool, ToolChoice
from tests.conftest import EngineFor
from tests.engine.drive import GREEDY, Answer, ask, chat
from tests.engine.models.test_speculation import COLD, EAGER, TABLE, broken, told
from tests.engine.runtime.test_reasoning import thinking

TinyModel = Callable[..., Path]


@pytest.fixture(autouse=True)
def always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models spend their time beside the passes, so that nothing would pay."""
    monkeypatch.setattr(PassCosts, "further", lambda *_: 0.0)
    monkeypatch.setattr(PassCosts, "is_known", lambda *_: True)


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


ORDER = schema(
    customer_identification_number={"type": "integer", "minimum": 0, "maximum": 9999},
    preferred_communication_channel={"enum": ["telephone", "letter"]},
    remarks_of_the_customer={"type": "string", "maxLength": 12},
)
SCHEMA = Grammar("json_schema", json.dumps(ORDER))
SENTENCE = Grammar("regex", "The order number is [0-9]{3}, and it was sent on 20[0-9]{2}-[01][0-9] by (post|rail)\\.")
COUNT = Tool("count_the_things", "Counts.", schema(the_first_number={"type": "integer", "minimum": 0, "maximum": 99}))
FORCED = ToolChoice("required", parallel=False)
HELD: dict[str, dict[str, Any]] = {
    "schema": {"grammar": SCHEMA},
    "regex": {"grammar": SENTENCE},
    "object": {"grammar": Grammar("json_object")},
    "tool": {"tools": (COUNT,), "tool_choice": FORCED},
    "words": {"bad_words": ("e", "the"), "min_tokens": 20},
    "everything": {"grammar": SCHEMA, "bad_words": ("a", "telephone"), "min_tokens": 30},
}
FORCING = {"schema", "regex", "tool", "everything"}
DRAWN = Sampling(temperature=1.0, seed=12)
SAMPLED = [GREEDY, DRAWN, Sampling(temperature=1.2, top_p=0.9, presence_penalty=0.5, logit_bias=((5, 1.5),), seed=7)]


def held(name: str, sampling: Sampling = GREEDY, max_tokens: int = 90, **more: Any) -> Request:
    return chat(TABLE, "Tell me.", max_tokens=max_tokens, sampling=sampling, id=name, **HELD[name], **more)


async def said(engine: Any, request: Request) -> Answer | EngineError:
    try:
        return await ask(engine, request)
    except EngineError as e:
        return e


async def check(engine_for: EngineFor, model: Path, asked: list[Request], *, is_told: bool = True) -> None:
    """The same answers with speculation as without. is_told: a lookup knows them, and is wrong in every fifth place."""
    plain = await engine_for(model, cache=COLD)
    fast = await engine_for(model, cache=COLD, speculation=EAGER)
    num_rejected = 0
    for request in asked:
        one = await ask(plain, request)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PromptLookup, "proposal", told([one.token_ids] if is_told else []))
            other = await said(fast, request)
        assert isinstance(other, Answer), f"{request.id} has another answer: {other}"
        assert other.token_ids == one.token_ids, f"{request.id} has another answer"
        assert (other.text, other.done.finish_reason) == (one.text, one.done.finish_reason)
        usage = other.done.usage
        assert usage.completion_tokens == one.done.usage.completion_tokens
        assert usage.accepted_prediction_tokens > 5, f"{request.id} was hardly proposed for"
        num_rejected += usage.rejected_prediction_tokens
    assert num_rejected or not is_told, "the right tokens only were told"


@pytest.mark.parametrize("sampling", SAMPLED, ids=["greedy", "drawn", "filters and penalties"])
async def test_answers_are_the_same(engine_for: EngineFor, tiny_model: TinyModel, sampling: Sampling) -> None:
    await check(engine_for, tiny_model("llama"), [held(name, sampling) for name in HELD])


@pytest.mark.parametrize("sampling", SAMPLED[:2], ids=["greedy", "drawn"])
async def test_what_is_forced_is_proposed(engine_for: EngineFor, tiny_model: TinyModel, sampling: Sampling) -> None:
    """And it is right, though nothing else proposes."""
    await check(engine_for, tiny_model("qwen3_vl"), [held(name, sampling) for name in sorted(FORCING)], is_told=False)


async def test_thoughts_that_end_in_time(engine_for: EngineFor, models_dir: Path) -> None:
    """With tokens left for them, and a form behind them."""
    model = thinking(models_dir / "reasoning-open", opens=True)
    asked = [
        chat("Why?", max_tokens=60, sampling=sampling, reasoning=Reasoning(max_tokens=9), id="thought", **more)
        for sampling in SAMPLED[:2]
        for more in (HELD["schema"], HELD["tool"], {})
    ]
    await check(engine_for, model, asked)


async def test_a_plain_answer_after_it_is_plain(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    plain, fast = await engine_for(model, cache=COLD), await engine_for(model, cache=COLD, speculation=EAGER)
    request = chat("Tell me.", max_tokens=30, sampling=DRAWN)
    before = await ask(plain, request)
    for name in HELD:
        await ask(fast, held(name))
        assert (await ask(fast, request)).token_ids == before.token_ids


async def test_the_end_of_a_form_inside_of_a_pass(
    engine_for: EngineFor, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More was proposed behind the token that ends the answer."""
    model = tiny_model("llama")
    plain, fast = await engine_for(model, cache=COLD), await engine_for(model, cache=COLD, speculation=EAGER)
    read: list[list[int]] = []
    inside = Speculation._read

    def seen(self: Speculation, batch: Any, proposed: dict[int, list[int]], proposers: Any) -> Any:
        read.extend(proposed.values())
        return inside(self, batch, proposed, proposers)

    monkeypatch.setattr(Speculation, "_read", seen)
    num_inside = 0
    for sampling in SAMPLED[:2]:
        for name in ("regex", "tool"):
            request = held(name, sampling)
            one = await ask(plain, request)
            end = one.token_ids[-1]
            assert one.done.finish_reason in ("stop", "tool_calls")
            monkeypatch.setattr(PromptLookup, "proposal", always_told((*one.token_ids, 9, 10, 11, 12)))
            other = await ask(fast, request)
            assert (other.token_ids, other.done.finish_reason) == (one.token_ids, one.done.finish_reason)
            num_inside += sum(end in ids[:-1] for ids in read)
    assert num_inside, "it was the last of every pass"


def always_told(answer: tuple[int, ...]) -> Callable[[PromptLookup, int, Begun], list[int]]:
    def proposal(self: PromptLookup, num_tokens: int, begun: Begun) -> list[int]:
        text = tuple(self._ids[: self._num].tolist())
        at = next((at for at in range(len(answer), 0, -1) if text[-at:] == answer[:at]), 0)
        return [*answer[at : at + num_tokens]] if at else []

    return proposal


@pytest.mark.parametrize("sampling", SAMPLED[:2], ids=["greedy", "drawn"])
@pytest.mark.parametrize("name", ["schema", "regex", "tool"])
async def test_a_trained_model(engine_for: EngineFor, smollm2: Path, name: str, sampling: Sampling) -> None:
    """With what its form forces and what is looked up."""
    plain = await engine_for(smollm2, cache=COLD)
    fast = await engine_for(smollm2, cache=COLD, speculation=EAGER)
    request = replace(held(name, sampling, max_tokens=40), messages=chat("Write an order of three chairs.").messages)
    one = await ask(plain, request)
    other = await ask(fast, request)
    assert other.token_ids == one.token_ids, f"{name} has another answer"
    assert other.done.usage.accepted_prediction_tokens > 5


# -- sure --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN, replace(DRAWN, top_p=0.5, top_k=3)])
def test_what_may_not_come_is_near_nothing(sampling: Sampling) -> None:
    """Two are far above all others, as near each other as can be; one may not come. Twin: it may."""
    logits = mx.zeros((2, 40)).at[:, mx.array([5, 6])].add(200.0)

    def sure(*banned: int) -> list[bool]:
        mask = AnswerMask([BadWords([(i,) for i in banned])])
        sampler, processors = mask.watch(make_sampler(sampling)), [*make_processors(sampling), mask]
        sampler(mask(mx.array([1, 2]), mx.zeros((1, 40))))
        return draw_behind(logits, [3, 4], sampler, processors, 50.0).is_sure

    assert sure(6) == sure(5) == [True, True]
    assert sure() == [False, False]


def test_a_mask_that_fails_is_sure_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is read by itself then, and its answer ends there; one that is rejected ends nothing."""
    mask = AnswerMask([BadWords([(9,)])])
    sampler = mask.watch(greedy_sampler)
    sampler(mask(mx.array([1, 2]), mx.zeros((1, 40))))
    allowed = AnswerMask._allowed

    def failing(self: AnswerMask, num_logits: int) -> Any:
        if self._answer[-1] == 4:
            raise MemoryError("no room for a mask")
        return allowed(self, num_logits)

    monkeypatch.setattr(AnswerMask, "_allowed", failing)
    logits = mx.eye(40)[:3] * 9
    drawn = draw_behind(logits, [3, 4, 5], sampler, [mask], 0.1)
    assert drawn.is_sure == [True, False, False] and mask.error is not None
    drawn.go_on_behind(1)
    assert mask.error is None and mask._answer == [3] and mask.drawn is not None and mask.drawn.tolist() == [0]


# -- sabotage: the same check goes red ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["schema", "object"])
async def test_sabotage_a_mask_that_is_not_set_back_is_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It has taken tokens that were rejected."""

    def go_on(self: Drawn, num_tokens: int) -> None:
        for part, state in zip(self._parts, self._states[num_tokens], strict=True):
            if not isinstance(part, AnswerMask):
                part.state = state
            elif num_tokens:
                part.drawn = self.tokens[num_tokens - 1 : num_tokens]

    monkeypatch.setattr(Drawn, "go_on_behind", go_on)
    asked = [held(name, DRAWN)]
    await broken(tiny_model, lambda engine_for, model: check(engine_for, model, asked), "has another answer")


async def test_sabotage_a_place_without_its_mask_is_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind, calls = AnswerMask.behind, []

    def seldom(self: AnswerMask, token: int, logits: mx.array) -> mx.array:
        calls.append(token)
        masked = behind(self, token, logits)
        return logits if len(calls) % 4 == 0 else masked

    monkeypatch.setattr(AnswerMask, "behind", seldom)
    asked = [held("schema")]
    await broken(tiny_model, lambda engine_for, model: check(engine_for, model, asked), "has another answer")
