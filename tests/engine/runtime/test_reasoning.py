"""Reasoning: on, off and for so many tokens; then the model's own mark ends it and the answer begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.config import CacheConfig
from engine.grammar.budget import ReasoningMarks, ThinkBudget
from engine.grammar.follow import ThinkTokens
from engine.types import Completion, Grammar, Reasoning, Request, Sampling, Tool, ToolChoice
from tests import tiny
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat
from tests.families import FAMILIES, Family

COLD = CacheConfig(enabled=False)


def thinking(
    folder: Path, *, opens: bool, marks: tuple[str, str] = ("<think>", "</think>"), switch: bool = False
) -> Path:
    """A tiny model with think marks. opens: its template begins the thought; switch: not where it is told to."""
    family = Family(config=FAMILIES["qwen3"].config, tokens=marks)
    made = tiny.write(family, "qwen3", "float32", folder)
    template = made / "chat_template.jinja"
    begin = f"<|im_start|>assistant\n{marks[0]}\n" if opens else "<|im_start|>assistant\n"
    if switch:
        begin += f"{{% if enable_thinking is false %}}\n{marks[1]}\n\n{{% endif %}}"
    template.write_text(template.read_text().replace("<|im_start|>assistant\n", begin))
    return made


Model = Callable[..., Path]


@pytest.fixture(scope="module")
def model(models_dir: Path) -> Model:
    def make(name: str, **settings: Any) -> Path:
        return thinking(models_dir / f"reasoning-{name}", **settings)

    return make


def asked(budget: int | None, seed: int = 1, **more: Any) -> Request:
    return chat(
        "Why?",
        max_tokens=more.pop("max_tokens", 40),
        sampling=Sampling(temperature=1.0, seed=seed),
        reasoning=Reasoning(max_tokens=budget),
        **more,
    )


def check_budget(completion: Completion, budget: int) -> None:
    """So many tokens of thought, then its end, and an answer in the tokens that are left."""
    usage = completion.done.usage
    assert usage.reasoning_tokens <= budget + 1, "it thought for longer"
    assert completion.choices[0].reasoning or budget == 0
    assert usage.reasoning_tokens < usage.completion_tokens and completion.text, "there is no answer"


@pytest.mark.parametrize("budget", [0, 1, 7])
async def test_a_thought_that_the_template_began_ends_in_time(engine_for: EngineFor, model: Model, budget: int) -> None:
    engine = await engine_for(model("open", opens=True))
    unlimited = await ask(engine, asked(None))
    assert unlimited.completion.text == "" and unlimited.done.usage.reasoning_tokens > 30, (
        "it ends by itself: nothing is tested"
    )
    check_budget((await ask(engine, asked(budget))).completion, budget)


async def test_a_thought_that_the_model_began_ends_in_time(engine_for: EngineFor, model: Model) -> None:
    """Its first token is its mark here, whatever it would say."""
    folder = model("closed", opens=False)
    engine = await engine_for(folder)
    from tests.engine.checkpoints import load

    start, end = load(folder).tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    request = chat(
        "Why?",
        max_tokens=40,
        sampling=Sampling(temperature=1.0, seed=1, logit_bias=((start, 100.0),)),
        reasoning=Reasoning(max_tokens=5),
    )
    answer = await ask(engine, request)
    assert answer.token_ids[0] == start
    assert answer.completion.choices[0].reasoning and answer.done.usage.reasoning_tokens > 0
    assert answer.token_ids[:7] == (start,) * 6 + (end,), "five tokens behind the mark, then its end"
    again = [following for token, following in pairwise(answer.token_ids[6:]) if token == start]
    assert len(again) > 10 and set(again) == {end}, "a later thought has tokens left"


async def test_off_by_the_template_or_by_the_mark(engine_for: EngineFor, model: Model) -> None:
    off = Reasoning(enabled=False)
    for name, switch in (("switch", True), ("open", False)):
        engine = await engine_for(model(name, opens=True, switch=switch))
        assert (await engine.ready()).can_turn_reasoning_off == switch
        answer = await ask(engine, chat("Why?", max_tokens=12, reasoning=off))
        choice = answer.completion.choices[0]
        assert choice.reasoning.strip() == "" and choice.text, "it thinks all the same"
        assert (await ask(engine, chat("Why?", max_tokens=12))).completion.choices[0].reasoning


async def test_a_forced_call_comes_after_the_thought(engine_for: EngineFor, model: Model) -> None:
    engine = await engine_for(model("open", opens=True))
    tool = Tool("now", "", {"type": "object", "properties": {}, "additionalProperties": False})
    more = {"tools": (tool,), "tool_choice": ToolChoice("required", parallel=False), "max_tokens": 200}
    completion = (await ask(engine, asked(4, **more))).completion
    assert [call.name for call in completion.tool_calls] == ["now"] and completion.choices[0].reasoning
    form = asked(4, grammar=Grammar("regex", "[0-9]{3}"), max_tokens=60)
    completion = (await ask(engine, form)).completion
    assert completion.text.isdigit() and len(completion.text) == 3


async def check_batch(engine: Any) -> None:
    requests = [asked(budget, seed) for seed, budget in enumerate((3, None, 0, 9, 1, None, 5, 20))]
    alone = [(await ask(engine, request)).token_ids for request in requests]
    together = await asyncio.gather(*(ask(engine, request) for request in requests))
    assert [answer.token_ids for answer in together] == alone, "an answer differs from the one alone"


async def test_in_a_batch_each_has_its_own_budget(engine_for: EngineFor, model: Model) -> None:
    await check_batch(await engine_for(model("open", opens=True), cache=COLD))


async def test_sabotage_a_budget_that_all_share_is_seen(
    engine_for: EngineFor, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(model("open", opens=True), cache=COLD)
    accept, used = ThinkBudget.accept, [0]

    def shared(self: ThinkBudget, token: int) -> None:
        accept(self, token)
        used[0] += 1
        self._left -= used[0] // 20

    monkeypatch.setattr(ThinkBudget, "accept", shared)
    with pytest.raises(AssertionError, match="differs from the one alone"):
        await check_batch(engine)


# -- the budget itself -------------------------------------------------------------------------------------------------


def run(budget: ThinkBudget, tokens: list[int]) -> list[int]:
    """What comes where the model would say these tokens: forced ones instead of its own."""
    out = []
    for token in tokens:
        forced = budget.forced()
        out.append(token if forced is None else forced)
        budget.accept(out[-1])
    return out


@pytest.mark.parametrize(
    ("in_reasoning", "said", "expected"),
    [
        (True, [1, 1, 1, 1, 1, 1], [1, 1, 8, 9, 1, 1]),
        (True, [1, 8, 1, 1, 1, 1], [1, 8, 9, 1, 1, 1]),  # the model has begun the mark
        (True, [8, 9, 1, 1, 1, 1], [8, 9, 1, 1, 1, 1]),
        (False, [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]),
        (False, [6, 7, 1, 1, 1, 1], [6, 7, 1, 1, 8, 9]),
        (False, [6, 7, 1, 8, 9, 6, 7, 1, 1], [6, 7, 1, 8, 9, 6, 7, 8, 9]),  # all thoughts together
    ],
)
def test_marks_of_several_tokens(in_reasoning: bool, said: list[int], expected: list[int]) -> None:
    budget = ThinkBudget(ReasoningMarks(ThinkTokens((6, 7), (8, 9)), in_reasoning=in_reasoning), 2)
    assert run(budget, said) == expected
