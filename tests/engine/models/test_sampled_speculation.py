"""speculation of rows that draw their tokens: the same tokens for a seed, and so the same distribution.

Each check has a sabotage twin that breaks one thing and must see the same check go red.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_map
from mlx_lm.models import llama

from engine.cache import tensors
from engine.models import drawing, speculation
from engine.models.adapter import Adapter
from engine.models.batch import Batch, NewRow
from engine.models.drawing import Drawn
from engine.models.families import Family
from engine.models.lookup import PromptLookup
from engine.models.pass_costs import PassCosts
from engine.models.sampling import SeededSampler, make_processors, make_sampler
from engine.models.speculation import Speculation, kept
from engine.types import Request, Sampling
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat
from tests.engine.models.test_speculation import CHUNK, COLD, EAGER, TABLE, accepted, answers, broken, told
from tests.pictures import picture

TinyModel = Callable[..., Path]
SAMPLED = [
    Sampling(temperature=1.0, seed=11),
    Sampling(temperature=0.8, top_p=0.9, seed=12),
    Sampling(temperature=1.2, top_k=20, min_p=0.02, seed=13),
    Sampling(temperature=0.9, presence_penalty=0.6, frequency_penalty=0.3, top_p=0.95, seed=14),
    Sampling(temperature=0.7, repetition_penalty=1.3, logit_bias=((5, 1.5), (9, -2.0)), seed=25),
    Sampling(temperature=0.0, repetition_penalty=1.3, frequency_penalty=0.4),
]


@pytest.fixture(autouse=True)
def always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models spend their time beside the passes, so that nothing would pay."""
    monkeypatch.setattr(PassCosts, "further", lambda *_: 0.0)
    monkeypatch.setattr(PassCosts, "is_known", lambda *_: True)


def requests() -> list[Request]:
    """One of each kind, of texts and pictures; they end one after the other, so that the last is alone."""
    pieces: list[tuple[Any, ...]] = [(TABLE, "Again."), (picture("red"), "What is this?"), ("Tell me.",)]
    return [
        chat(str(i), *pieces[i % 3], max_tokens=24 + 6 * i, sampling=sampling, id=f"r{i}")
        for i, sampling in enumerate(SAMPLED)
    ]


async def check(engine_for: EngineFor, model: Path, asked: list[Request], *, alone: bool = True) -> None:
    """The same answers with speculation as without, asked one after the other or all at once."""
    plain = await engine_for(model, prefill_chunk_tokens=CHUNK, cache=COLD)
    fast = await engine_for(model, prefill_chunk_tokens=CHUNK, cache=COLD, speculation=EAGER)
    without = [await ask(plain, request) for request in asked] if alone else await answers(plain, asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptLookup, "proposal", told([answer.token_ids for answer in without]))
        found = [await ask(fast, request) for request in asked] if alone else await answers(fast, asked)
    for request, one, other in zip(asked, without, found, strict=True):
        assert other.token_ids == one.token_ids, f"{request.id} has another answer"
        if alone:
            usage = other.done.usage
            assert usage.accepted_prediction_tokens > 5, f"{request.id} was hardly proposed for"
            assert usage.rejected_prediction_tokens > 0, f"{request.id} was told the right tokens only"
    assert accepted(found) > 0 == accepted(without), "nothing was proposed: the check would prove nothing"


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "at once"])
async def test_a_seed_gives_the_same_tokens(engine_for: EngineFor, tiny_model: TinyModel, alone: bool) -> None:
    await check(engine_for, tiny_model("qwen3_vl"), requests(), alone=alone)


@pytest.mark.parametrize("family", ["llama", "glm4v"])
async def test_so_it_does_in_other_families(engine_for: EngineFor, tiny_model: TinyModel, family: str) -> None:
    await check(engine_for, tiny_model(family), [requests()[0], requests()[3]])


async def test_a_seed_gives_the_same_tokens_again(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    """From a warm cache too, with what the lookup itself finds."""
    fast = await engine_for(tiny_model("qwen3_vl"), speculation=EAGER)
    for request in requests():
        first, second = await ask(fast, request), await ask(fast, request)
        assert first.token_ids == second.token_ids
    other = await ask(fast, replace(requests()[0], sampling=Sampling(temperature=1.0, seed=99)))
    assert other.token_ids != (await ask(fast, requests()[0])).token_ids


async def test_several_answers_to_one_prompt(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    """Each draws with numbers of its own; the longest goes on alone."""
    model = tiny_model("qwen3_vl")
    plain, fast = await engine_for(model, cache=COLD), await engine_for(model, cache=COLD, speculation=EAGER)
    request = chat("Tell me.", max_tokens=30, sampling=SAMPLED[0], n=2)
    one = await ask(plain, request)
    two = await ask(fast, request)
    for index in range(2):
        ids = [[t.id for d in a.deltas if d.index == index for t in d.tokens] for a in (one, two)]
        assert ids[0] == ids[1]


async def test_a_stop_text_and_logprobs(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    """A stop text inside of a run ends the answer there; the log-probabilities are those behind penalties and bias."""
    model = tiny_model("qwen3_vl")
    plain, fast = await engine_for(model, cache=COLD), await engine_for(model, cache=COLD, speculation=EAGER)
    num_accepted = 0
    for sampling in SAMPLED[:1] + SAMPLED[3:5]:
        request = chat(TABLE, "Again.", max_tokens=40, logprobs=3, sampling=sampling)
        whole = await ask(plain, request)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PromptLookup, "proposal", told([whole.token_ids]))
            for at in range(9, len(whole.text) - 4, 17):
                ended = replace(request, stop=(whole.text[at : at + 4],))
                one, other = await ask(plain, ended), await ask(fast, ended)
                num_accepted += other.done.usage.accepted_prediction_tokens
                assert (other.text, other.token_ids) == (one.text, one.token_ids)
                assert other.done.usage.completion_tokens == one.done.usage.completion_tokens
                for a, b in zip(one.tokens, other.tokens, strict=True):
                    assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
                    assert [i for i, _ in a.top] == [i for i, _ in b.top]
    assert num_accepted


async def test_sabotage_one_token_too_many_is_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculation, "kept", lambda ids, said, sure: min(len(ids), kept(ids, said, sure) + 1))
    await broken(tiny_model, lambda engine_for, model: check(engine_for, model, requests()[:1]), "has another answer")


@pytest.mark.parametrize("place", [0, 3, 5], ids=["drawn", "with penalties", "penalties alone"])
async def test_sabotage_a_row_that_goes_on_from_the_wrong_place_is_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """It has drawn, and counted for its penalties, behind tokens that were rejected."""
    monkeypatch.setattr(Drawn, "go_on_behind", lambda self, num_tokens: None)
    asked = requests()[place : place + 1]
    await broken(tiny_model, lambda engine_for, model: check(engine_for, model, asked), "has another answer")


# -- the distribution --------------------------------------------------------------------------------------------------

VOCAB, DRAWN, ROWS = 3, 4, 800
PROMPT = [0, 1, 2, 1, 0, 2, 1]
SETTINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=1.5, top_p=0.9, presence_penalty=0.4),
]


@pytest.fixture(scope="module")
def small() -> Iterator[Adapter]:
    """A random model of three tokens."""
    arguments = llama.ModelArgs("llama", 16, 1, 32, 2, 1e-5, VOCAB)
    model = llama.Model(arguments)
    keys = iter(mx.random.split(mx.random.key(3), 64))
    model.update(tree_map(lambda array: mx.random.normal(array.shape, key=next(keys)) * 0.4, model.parameters()))
    mx.eval(model.parameters())
    yield Adapter(model, False, Family())


def drawn_answers(
    adapter: Adapter, sampling: Sampling, speculates: Speculation | None, rows: int = ROWS
) -> list[tuple[int, ...]]:
    """Those of the seeds 0, 1, 2 … Proposals are looked up in a prompt that has every token."""
    found: list[tuple[int, ...]] = []
    cache = adapter.make_cache()
    logits = adapter.finish(PROMPT, 0, cache, None)
    batch = Batch(adapter, 1, None, speculates)
    for seed in range(rows):
        new = NewRow(
            prompt=PROMPT,
            cache=tensors.fork(cache),
            logits=logits,
            sampler=make_sampler(replace(sampling, seed=seed)),
            max_tokens=DRAWN,
            stop_ids=frozenset(),
            processors=make_processors(sampling),
            proposer=speculates.proposer(PROMPT) if speculates else None,
        )
        tokens = [batch.add(new)]
        while len(batch):
            tokens += batch.step()
        found.append(tuple(token.id for token in tokens))
    batch.close()
    return found


def probabilities(adapter: Adapter, sampling: Sampling) -> dict[tuple[int, ...], float]:
    """Of every answer, from passes over each of its beginnings."""
    known: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(DRAWN):
        longer = {}
        for said, probability in known.items():
            logits = adapter.finish([*PROMPT, *said], 0, adapter.make_cache(), None)
            processors = make_processors(sampling)
            for end in range(len(said) + 1):
                last = logits
                for process in processors:
                    last = process(mx.array([*PROMPT, *said[:end]]), last)
            sampler = make_sampler(sampling)
            assert isinstance(sampler, SeededSampler)
            logprobs = last - mx.logsumexp(last, axis=-1, keepdims=True)
            shares = mx.softmax(sampler.filtered(logprobs) / sampling.temperature, axis=-1)[0].tolist()
            longer |= {(*said, token): probability * share for token, share in enumerate(shares) if share}
        known = longer
    return known


def check_distribution(adapter: Adapter, sampling: Sampling) -> None:
    """Pearson's chi-square of the answers against their probabilities; rare answers are one."""
    config = replace(EAGER, prompt_lookup_max=2)
    speculates = Speculation(adapter, config)
    speculates.measure(VOCAB)
    assert not speculates.reason
    num_wide = speculates._num_passes
    found = Counter(drawn_answers(adapter, sampling, speculates))
    assert speculates._num_passes - num_wide > ROWS / 4, "hardly any pass was over several tokens"
    expected = {said: ROWS * share for said, share in probabilities(adapter, sampling).items()}
    assert set(found) <= set(expected), "the distribution: an answer came that cannot come"
    often = {said: count for said, count in expected.items() if count >= 5}
    rare = ROWS - sum(often.values())
    pairs = [(found[said], count) for said, count in often.items()]
    pairs += [(ROWS - sum(found[said] for said in often), rare)] if rare >= 5 else []
    chi_square, freedom = sum((a - b) ** 2 / b for a, b in pairs), len(pairs) - 1
    # Wilson and Hilferty: its cube root is nearly normal. 3.7 is one in ten thousand.
    deviation = (math.cbrt(chi_square / freedom) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    assert freedom > 20
    assert deviation < 3.7, f"the distribution is another one: {chi_square:.0f} of {freedom}"


@pytest.mark.parametrize("sampling", SETTINGS, ids=["temperature 1", "filters and penalties"])
def test_answers_are_distributed_as_the_model_says(small: Adapter, sampling: Sampling) -> None:
    check_distribution(small, sampling)


def test_seeds_draw_the_same_from_a_small_vocabulary(small: Adapter) -> None:
    speculates = Speculation(small, EAGER)
    speculates.measure(VOCAB)
    for sampling in SETTINGS:
        assert drawn_answers(small, sampling, speculates, 100) == drawn_answers(small, sampling, None, 100)


def test_sabotage_a_distribution_with_one_token_too_many_is_seen(
    small: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speculation, "kept", lambda ids, said, sure: min(len(ids), kept(ids, said, sure) + 1))
    with pytest.raises(AssertionError, match="the distribution"):
        check_distribution(small, SETTINGS[0])


def test_sabotage_numbers_that_are_drawn_with_twice_are_seen(small: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every place of a pass is drawn with the numbers of the first: what comes depends on what came before."""
    drawn = drawing._drawn

    def with_the_same(sampler: Any, logprobs: mx.array, noise: mx.array, slack: float) -> Any:
        return drawn(sampler, logprobs, mx.broadcast_to(noise[:1], noise.shape), slack)

    monkeypatch.setattr(drawing, "_drawn", with_the_same)
    with pytest.raises(AssertionError, match="the distribution"):
        check_distribution(small, SETTINGS[0])
