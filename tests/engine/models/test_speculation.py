"""speculation: several tokens in one pass are the tokens that one pass each would give, and leave nothing else behind.

Each check has a sabotage twin that breaks one thing and must see the same check go red.
"""

from __future__ import annotations

import asyncio
import inspect
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.generate import BatchGenerator, GenerationBatch

from engine.arguments import types
from engine.cache import tensors
from engine.config import CacheConfig, EngineConfig, ModelSpec, SpeculationConfig
from engine.core import Engine
from engine.models import registry, speculation
from engine.models.adapter import Adapter
from engine.models.batch import Batch
from engine.models.lookup import PromptLookup
from engine.models.pass_costs import PassCosts
from engine.models.proposer import Begun, Proposer
from engine.models.speculation import Speculation, kept, make_speculation
from engine.runtime.rows import Rows
from engine.types import Grammar, Request
from tests.conftest import EngineFor
from tests.engine.drive import Answer, ask, chat, settled
from tests.pictures import picture

TinyModel = Callable[..., Path]
EAGER = SpeculationConfig(num_speculative_tokens=6, prompt_lookup_min=1, prompt_lookup_max=4)
COLD = CacheConfig(enabled=False)
CHUNK = 16
TABLE = "| a | b |\n| 1 | 2 |\n" * 4
PERSON = Grammar("json_schema", '{"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}')


@pytest.fixture(autouse=True)
def always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models spend their time beside the passes, so that nothing would pay."""
    monkeypatch.setattr(PassCosts, "further", lambda *_: 0.0)
    monkeypatch.setattr(PassCosts, "is_known", lambda *_: True)


@pytest.fixture(autouse=True)
def kv_faults(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is wrong with the KV of any row after any step: it has the tokens that were handed out."""
    faults: list[str] = []
    step = Batch.step

    def checked(self: Batch) -> Any:
        tokens = step(self)
        running = self._generator._generation_batch
        if self._speculation and tokens and running.uids:
            for num_kept, said in zip(running.prompt_cache[0].lengths, running.tokens, strict=True):
                faults.extend(
                    [f"KV of {num_kept} tokens, and {len(said)} were accepted"] if num_kept != len(said) else []
                )
        return tokens

    monkeypatch.setattr(Batch, "step", checked)
    return faults


def requests(count: int, max_tokens: int = 40) -> list[Request]:
    """Mixed prompts, which end one after the other: the last of them is alone."""
    pieces: list[tuple[Any, ...]] = [
        (TABLE, "Again."),
        (picture("red"), "What is this? What is this? What is this?"),
        ("one two three one two three one two", picture("blue", "square"), picture("green"), "two three"),
        ("Tell me.",),
    ]
    more: list[dict[str, Any]] = [{}, {}, {}, {"grammar": PERSON}]
    return [
        chat(str(i), *pieces[i % 4], max_tokens=max_tokens + 4 * i, id=f"r{i}", **more[i % 4]) for i in range(count)
    ]


async def answers(engine: Any, asked: list[Request]) -> list[Answer]:
    return list(await asyncio.gather(*(ask(engine, request, 0.01 * i) for i, request in enumerate(asked))))


def accepted(found: list[Answer]) -> int:
    return sum(answer.done.usage.accepted_prediction_tokens for answer in found)


def told(answers: list[tuple[int, ...]]) -> Callable[[PromptLookup, int, Begun], list[int]]:
    """A lookup that knows these answers and is wrong in every fifth place: random models copy nothing."""

    def proposal(self: PromptLookup, num_tokens: int, begun: Begun) -> list[int]:
        said = tuple(self._ids[: self._num].tolist())
        for answer in answers:
            for at in range(min(len(answer), self._num), 0, -1):
                if said[-at:] == answer[:at]:
                    right = answer[at : at + num_tokens]
                    return [token + (place % 5 == 4) for place, token in enumerate(right, at)]
        return []

    return proposal


async def check(engine_for: EngineFor, model: Path, count: int, kv_faults: list[str]) -> None:
    """The same answers with speculation as without, and KV of the tokens that were handed out."""
    plain = await engine_for(model, prefill_chunk_tokens=CHUNK, cache=COLD)
    fast = await engine_for(model, prefill_chunk_tokens=CHUNK, cache=COLD, speculation=EAGER)
    asked = requests(count)
    without = await answers(plain, asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptLookup, "proposal", told([answer.token_ids for answer in without]))
        found = await answers(fast, asked)
    assert not kv_faults, kv_faults[0]
    for request, one, other in zip(asked, without, found, strict=True):
        assert other.token_ids == one.token_ids, f"{request.id} has another answer"
        assert other.done.usage.completion_tokens == one.done.usage.completion_tokens
    assert accepted(found) > 0 == accepted(without), "nothing was proposed: the check would prove nothing"


@pytest.mark.parametrize("count", [1, 4, 16])
async def test_answers_are_the_same_in_batches_that_grow_and_shrink(
    engine_for: EngineFor, tiny_model: TinyModel, kv_faults: list[str], count: int
) -> None:
    await check(engine_for, tiny_model("qwen3_vl"), count, kv_faults)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "glm4v", "idefics3", "pixtral"])
async def test_so_they_are_in_other_families(
    engine_for: EngineFor, tiny_model: TinyModel, kv_faults: list[str], family: str
) -> None:
    await check(engine_for, tiny_model(family), 2, kv_faults)


# -- ends: stop strings, limits, cancels -------------------------------------------------------------------------------


async def test_a_run_of_accepted_tokens_ends_where_the_answer_does(
    engine_for: EngineFor, tiny_model: TinyModel
) -> None:
    """Limits and stop tokens at every place of an answer, so that some fall inside of a run."""
    model = tiny_model("qwen3_vl")
    plain, fast = await engine_for(model), await engine_for(model, speculation=EAGER)
    whole = await ask(plain, chat(TABLE, "Again.", max_tokens=24, id="whole"))
    ids = whole.token_ids
    num_accepted = 0
    for place in range(1, len(ids)):
        short = await ask(fast, chat(TABLE, "Again.", max_tokens=place))
        assert short.token_ids == ids[:place] and short.done.finish_reason == "length"
        ended = await ask(fast, chat(TABLE, "Again.", max_tokens=24, stop_token_ids=(ids[place],)))
        assert ended.token_ids == ids[: ids.index(ids[place]) + 1] and ended.done.finish_reason == "stop"
        num_accepted += short.done.usage.accepted_prediction_tokens
    assert num_accepted, "nothing was accepted: no limit fell inside of a run"


async def test_a_stop_text_inside_of_a_run(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    """What was accepted behind it is neither said nor counted."""
    model = tiny_model("qwen3_vl")
    plain, fast = await engine_for(model), await engine_for(model, speculation=EAGER)
    text = (await ask(plain, chat(TABLE, "Again.", max_tokens=40))).text
    for at in range(9, len(text) - 4, 11):
        request = chat(TABLE, "Again.", max_tokens=40, stop=(text[at : at + 4],))
        one, other = await ask(plain, request), await ask(fast, request)
        assert (other.text, other.token_ids) == (one.text, one.token_ids)
        usage = other.done.usage
        assert usage.accepted_prediction_tokens < usage.completion_tokens == one.done.usage.completion_tokens
        assert usage.rejected_prediction_tokens >= 0


async def test_a_stop_text_before_the_last_token_of_a_run_keeps_the_kv(
    engine_for: EngineFor, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row ends with that run, by its limit; the answer ends before, and its KV is kept all the same."""
    model = tiny_model("qwen3_vl")
    fast = await engine_for(model, speculation=EAGER)
    left_with_kv: list[bool] = []
    leave = Rows.leave

    def seen(self: Rows, choice: Any, kv: Any = None) -> Any:
        has_row = choice.row is not None
        found = leave(self, choice, kv)
        left_with_kv.extend([bool(found)] if has_row else [])
        return found

    monkeypatch.setattr(Rows, "leave", seen)
    asked = chat(TABLE, "Again.", max_tokens=40)
    text = (await ask(fast, asked)).text
    num_inside = 0
    for at in range(9, len(text) - 4, 11):
        request = replace(asked, stop=(text[at : at + 4],))
        num_said = len((await ask(fast, request)).token_ids)
        for more in (1, 2):
            said = await ask(fast, replace(request, max_tokens=num_said + more))
            assert said.done.finish_reason == "stop" and len(said.token_ids) == num_said
            usage = said.done.usage
            num_inside += usage.accepted_prediction_tokens + usage.rejected_prediction_tokens > 0
    assert num_inside, "nothing was proposed: the check would prove nothing"
    assert all(left_with_kv), "the KV of an answer is gone"


async def test_cancelled_is_as_if_never_started(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    model = tiny_model("qwen3_vl")
    fast = await engine_for(model, speculation=EAGER)
    request = chat(TABLE, "Again, please.", max_tokens=40)
    cold = await ask(fast, replace(request, reuse=False))
    cancelled = (await settled(fast)).totals.cancelled
    for num_deltas in (1, 3, 8):
        stream = fast.stream(replace(request, max_tokens=500))
        for _ in range(num_deltas):
            await anext(stream)
        await stream.aclose()
        assert (await ask(fast, request)).token_ids == cold.token_ids
    assert (await settled(fast)).totals.cancelled == cancelled + 3


# -- the prefix cache --------------------------------------------------------------------------------------------------


async def check_warm(engine_for: EngineFor, model: Path) -> None:
    """A second turn that reuses the KV of an answer is answered as one that computes everything."""
    plain, fast = await engine_for(model, cache=COLD), await engine_for(model, speculation=EAGER)
    first = chat(picture("red"), TABLE, "Again.", max_tokens=150)
    said = await ask(fast, replace(first, prompt_ids=True))
    assert said.done.usage.accepted_prediction_tokens
    again = Request(prompt=(*said.done.prompt_ids[-60:], *said.token_ids), max_tokens=150, sampling=first.sampling)
    text = await ask(fast, again)  # the same as text alone, for its blocks
    second = replace(again, prompt=(*again.prompt, *text.token_ids, 9, 10, 11), max_tokens=20)  # type: ignore[misc]
    warm, cold = await ask(fast, second), await ask(plain, second)
    assert warm.done.usage.cached_tokens >= len(second.prompt) - 64 - 3  # type: ignore[arg-type]
    assert warm.token_ids == cold.token_ids, "the kept KV is not that of the tokens that were accepted"


async def test_kept_blocks_are_of_accepted_tokens(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    await check_warm(engine_for, tiny_model("qwen3_vl"))


# -- who proposes ------------------------------------------------------------------------------------------------------


async def test_answers_that_are_given_do_not_propose(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    fast = await engine_for(tiny_model("qwen3_vl"), speculation=EAGER)
    usage = (await ask(fast, chat(TABLE, "Again.", max_tokens=8, forced=(5, 6, 7, 5, 6, 7, 5, 6)))).done.usage
    assert (usage.accepted_prediction_tokens, usage.rejected_prediction_tokens) == (0, 0)


async def test_logprobs_are_those_of_the_tokens(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    model = tiny_model("qwen3_vl")
    plain, fast = await engine_for(model), await engine_for(model, speculation=EAGER)
    request = chat(TABLE, "Again.", max_tokens=30, logprobs=2)
    one, other = await ask(plain, request), await ask(fast, request)
    assert other.done.usage.accepted_prediction_tokens and other.token_ids == one.token_ids
    for a, b in zip(one.tokens, other.tokens, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4) and [i for i, _ in a.top] == [i for i, _ in b.top]


async def test_a_family_whose_kv_cannot_be_cut_says_so(
    engine_for: EngineFor, tiny_model: TinyModel, caplog: pytest.LogCaptureFixture
) -> None:
    fast = await engine_for(tiny_model("gemma3"), speculation=EAGER)
    usage = (await ask(fast, chat(TABLE, "Again.", max_tokens=30))).done.usage
    assert (usage.accepted_prediction_tokens, usage.rejected_prediction_tokens) == (0, 0)
    assert "writes without speculation: its KV cannot be cut back" in caplog.text


def test_the_option_is_as_vllm_has_it() -> None:
    given = '{"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4, "prompt_lookup_min": 2}'
    assert types.speculation(given) == SpeculationConfig("ngram", 5, 2, 4)
    assert types.speculation('{"method": "ngram"}') == SpeculationConfig()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("ngram", "is not like"),
        ("[]", "is not like"),
        ("{}", "method None"),
        ('{"method": "eagle", "model": "x"}', "method 'eagle'"),
        ('{"method": "ngram", "model": "x"}', "'model' is not among"),
        ('{"method": "ngram", "num_speculative_tokens": 0}', "from 1 to 64, not 0"),
        ('{"method": "ngram", "num_speculative_tokens": true}', "from 1 to 64, not true"),
        ('{"method": "ngram", "prompt_lookup_min": 9}', "prompt_lookup_min 9 is more than prompt_lookup_max 8"),
    ],
)
def test_an_option_that_cannot_be_kept_to_is_refused(given: str, why: str) -> None:
    with pytest.raises(ArgumentTypeError, match=why):
        types.speculation(given)


def test_a_family_whose_wide_pass_is_wrong_says_so(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its tokens are told in the wrong order. Twin: in the right one it speculates."""
    loaded = registry.load(EngineConfig(model=ModelSpec(str(tiny_model("llama")))))
    assert make_speculation(EAGER, loaded) is not None
    behind = Adapter.behind
    monkeypatch.setattr(Adapter, "behind", lambda self, *given: behind(self, *given)[::-1])
    assert make_speculation(EAGER, loaded) is None and "gives it other logits" in caplog.text


# -- sure, and worth it ------------------------------------------------------------------------------------------------


def test_what_is_kept() -> None:
    sure = [True] * 4
    assert kept([1, 2, 3, 4], [2, 3, 4, 5], sure) == 4
    assert kept([1, 2, 3, 4], [2, 9, 4, 5], sure) == 2
    assert kept([1, 2, 3, 4], [9, 3, 4, 5], sure) == 1, "the first was computed before"
    assert kept([1, 2, 3, 4], [2, 3, 4, 5], [True, True, False, True]) == 2, "3 is read again, to be sure of 4"
    assert kept([1, 2, 3, 4], [2, 3, 4, 5], [False, True, True, True]) == 0
    assert kept([1, 2, 3, 4], [9, 3, 4, 5], [True, False, False, False]) == 1, "what is behind a wrong one is nothing"


async def test_where_two_tokens_are_near_each_is_read_by_itself(
    engine_for: EngineFor, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a difference that would explain every other place, or every place, answers are the same."""
    model = tiny_model("qwen3_vl")
    plain, fast = await engine_for(model, cache=COLD), await engine_for(model, cache=COLD, speculation=EAGER)
    request = chat(TABLE, "Again.", max_tokens=40)
    one = await ask(plain, request)
    counts = []
    for noise in (0.04, 1e9):
        monkeypatch.setattr(Speculation, "_slack", noise)
        other = await ask(fast, request)
        assert other.token_ids == one.token_ids
        counts.append(other.done.usage.accepted_prediction_tokens)
    assert counts[0] > counts[1] == 0


def begun() -> int:
    raise AssertionError("what is looked up waits for no token")


def proposer() -> Proposer:
    return Proposer(PromptLookup([1, 2, 3] * 20, 2, 4), 8)


def test_it_proposes_more_while_it_is_right() -> None:
    row = proposer()
    widths = []
    for _ in range(3):
        widths.append(len(row.proposal(100, begun)) - 1)
        row.took(widths[-1], widths[-1], 0.1)
    assert widths == [4, 8, 8]
    row.took(8, 2, 0.1)
    assert len(row.proposal(100, begun)) - 1 == 3


def test_it_rests_longer_each_time_where_it_does_not_pay() -> None:
    row, rests = proposer(), []
    for _ in range(4):
        row.took(4, 0, 0.2)
        rests.append(0)
        while not row.proposal(100, begun):
            row.append(1 + sum(rests) % 3)
            rests[-1] += 1
            row._source = PromptLookup([1, 2, 3] * 20, 2, 4)
    assert rests == [8, 16, 32, 64]


def test_it_looks_seldom_where_not_even_the_first_token_is_right() -> None:
    """Four times at once, then at every eighth token, however long that goes on; and as ever once one was right."""
    row, looked = proposer(), []
    for place in range(60):
        if row.proposal(100, begun):
            looked.append(place)
            row.missed()
        row.append(1 + place % 3)
    assert looked == [0, 1, 2, 3, 11, 19, 27, 35, 43, 51, 59]
    for _ in range(20):
        if row.proposal(100, begun):
            row.took(4, 4, 0.1)
            break
        row.append(1)
    for place in range(3):
        assert row.proposal(100, begun), "a copy rests at its first differences"
        row.missed()
        row.append(1 + place)
    assert row.proposal(100, begun)


def test_the_chance_of_a_token_is_that_behind_right_ones() -> None:
    """Where no pass is made, the tokens that come tell of it, too; what is wrong from the start says nothing."""
    row = proposer()
    before = row.chance
    for _ in range(5):
        row.missed()
    assert row.chance == before
    for _ in range(20):
        row.was_right(0.0)
    assert row.chance > 0.99
    row.missed()
    assert row.chance < 0.9
    row.took(4, 0, 0.0)
    row.took(4, 0, 0.0)
    assert row.chance < 0.5


def test_a_miss_is_told() -> None:
    """The model has begun a token that was not proposed."""
    row, told_misses = proposer(), []
    row.missed = lambda: told_misses.append(1)  # type: ignore[method-assign]
    batch = SimpleNamespace(uids=[7], max_tokens=[100], _num_tokens=[0], _next_tokens=mx.array([99]))
    model: Any = SimpleNamespace(can_branch=True)
    assert Speculation(model, EAGER).step(batch, {7: row}) == [] and told_misses == [1]


def test_a_token_that_was_waited_for_is_no_guess() -> None:
    """That it was right says nothing of those behind it."""

    class Waits(PromptLookup):
        def proposal(self, num_tokens: int, begun: Begun) -> list[int]:
            return [begun(), 5, 6]

    for source, is_guess in ((Waits([1], 1, 1), False), (PromptLookup([1, 2, 3] * 20, 2, 4), True)):
        row = Proposer(source, 8)
        before = row.chance
        assert row.proposal(100, lambda: 4)
        row.was_right(0.0)
        assert (row.chance > before) is is_guess


def test_it_never_proposes_more_than_the_row_may_have() -> None:
    assert len(proposer().proposal(3, begun)) == 3
    assert proposer().proposal(1, begun) == []


# -- sabotage: the same check goes red ---------------------------------------------------------------------------------


async def broken(
    tiny_model: TinyModel, sees: Callable[[EngineFor, Path], Any], match: str, spoil: Callable[[], None] = lambda: None
) -> None:
    """The check on engines of its own, those that speculate spoilt once they are loaded: what is measured
    there is right."""
    engines: list[Engine] = []

    async def engine_for(source: Path, **settings: Any) -> Engine:
        engines.append(Engine(EngineConfig(model=ModelSpec(str(source)), **settings)))
        engines[-1].start()
        await engines[-1].ready()
        if "speculation" in settings:
            spoil()
        return engines[-1]

    try:
        with pytest.raises(AssertionError, match=match):
            await sees(engine_for, tiny_model("qwen3_vl"))
    finally:
        for engine in engines:
            engine.stop()


async def test_sabotage_one_token_too_many_is_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, kv_faults: list[str]
) -> None:
    monkeypatch.setattr(speculation, "kept", lambda ids, said, sure: min(len(ids), kept(ids, said, sure) + 1))
    await broken(tiny_model, lambda engine_for, model: check(engine_for, model, 1, kv_faults), "has another answer")


async def test_sabotage_kv_of_a_rejected_token_is_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, kv_faults: list[str]
) -> None:
    trim_rows = tensors.trim_rows

    def spoil() -> None:
        monkeypatch.setattr(tensors, "trim_rows", lambda cache, nums: trim_rows(cache, [max(0, n - 1) for n in nums]))

    await broken(tiny_model, lambda engine_for, model: check(engine_for, model, 1, kv_faults), "were accepted", spoil)


async def test_sabotage_kv_that_is_stored_with_it_is_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leaves the batch has the KV of one token twice."""
    extract = GenerationBatch.extract_cache

    def twice(self: GenerationBatch, row: int) -> Any:
        layers = extract(self, row)
        for layer in layers[:-1]:
            for name in ("keys", "values"):
                kv = getattr(layer, name)
                setattr(layer, name, mx.concatenate([kv[..., :-140, :], kv[..., -141:, :]], axis=2))
        return layers

    monkeypatch.setattr(GenerationBatch, "extract_cache", twice)
    await broken(tiny_model, check_warm, "the kept KV is not that")


# -- the contract with mlx-lm's batcher --------------------------------------------------------------------------------


def test_mlx_lm_generation_batch_is_as_we_use_it() -> None:
    """What is read and set between two of its steps; an upgrade must fail here, not in a user's answer."""
    assert "self._generation_batch = GenerationBatch.empty(" in inspect.getsource(BatchGenerator.__init__)
    init = inspect.getsource(GenerationBatch.__init__)
    for name in ("uids", "prompt_cache", "tokens", "max_tokens", "_next_tokens", "_next_logprobs", "_num_tokens"):
        assert f"self.{name} = " in init
    for name in ("samplers", "logits_processors", "_matchers", "_token_context"):
        assert f"self.{name} = " in init
    step = inspect.getsource(GenerationBatch._step)
    assert "context = self._token_context[e].update_and_fetch(inputs[e : e + 1])" in step
    assert "logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)" in step
    assert list(GenerationBatch.Response.__dataclass_fields__) == [
        "uid", "token", "logprobs", "finish_reason", "prompt_cache", "all_tokens",
    ]  # fmt: skip
