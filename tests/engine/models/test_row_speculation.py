"""speculation for several rows of a batch: each has the tokens that it has alone, however many the others keep.

Each check has a sabotage twin that breaks one thing and must see the same check go red.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.models import llama

from engine.cache import tensors
from engine.cache.ragged import RaggedKV
from engine.config import SpeculationConfig
from engine.models import speculation
from engine.models.adapter import Adapter
from engine.models.batch import Batch, NewRow, Token
from engine.models.families import Family
from engine.models.lookup import PromptLookup
from engine.models.pass_costs import PassCosts
from engine.models.sampling import LogitsProcessor, make_processors, make_sampler
from engine.models.speculation import Speculation, kept
from engine.types import Request, Sampling
from tests.conftest import EngineFor
from tests.engine.drive import Answer, ask, chat
from tests.engine.models.test_speculation import COLD, EAGER, PERSON, TABLE, told
from tests.pictures import picture
from tests.waiting import until

VOCAB = 96
NUM_TOKENS = 24
NEVER = 10**6
SETTINGS = [
    Sampling(temperature=0.0),
    Sampling(temperature=0.9, seed=5),
    Sampling(temperature=0.0, repetition_penalty=1.2, frequency_penalty=0.3, logit_bias=((7, 1.5),)),
    Sampling(temperature=1.1, top_p=0.9, seed=6, presence_penalty=0.5),
]


@pytest.fixture(autouse=True)
def always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model spends its time beside the passes, so that nothing would pay."""
    monkeypatch.setattr(PassCosts, "further", lambda *_: 0.0)
    monkeypatch.setattr(PassCosts, "is_known", lambda *_: True)


@pytest.fixture(scope="module")
def model() -> Iterator[Adapter]:
    """A random one."""
    random = llama.Model(llama.ModelArgs("llama", 32, 2, 64, 4, 1e-5, VOCAB))
    keys = iter(mx.random.split(mx.random.key(3), 64))
    random.update(tree_map(lambda array: mx.random.normal(array.shape, key=next(keys)) * 0.3, random.parameters()))
    mx.eval(random.parameters())
    yield Adapter(random, False, Family())


class OddOnly:
    """A mask as a grammar has it: after an even token an odd one, which looks at each token once."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        self.seen.append(int(np.array(tokens[-1]).item()))
        is_odd = mx.arange(logits.shape[-1]) % 2 == 1
        return mx.where(is_odd, logits, -mx.inf) if self.seen[-1] % 2 == 0 else logits


@dataclass
class Asked:
    """A row. joins_at, leaves_at: at which step of the batch; stop_ids end it."""

    prompt: list[int]
    sampling: Sampling = SETTINGS[0]
    max_tokens: int = NUM_TOKENS
    joins_at: int = 0
    leaves_at: int = NEVER
    stop_ids: frozenset[int] = frozenset()
    is_masked: bool = False


@dataclass
class Answered:
    tokens: list[Token] = field(default_factory=list)
    kv: list[Any] = field(default_factory=list)
    mask: OddOnly | None = None

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]

    @property
    def num_accepted(self) -> int:
        return sum(token.is_accepted for token in self.tokens)


def asked(count: int) -> list[Asked]:
    """Prompts of several lengths, in which something comes again; some rows join later, so that others are in their
    middle."""
    return [
        Asked(
            [(5 * row + place * place) % VOCAB for place in range(6 + 7 * row)] * 2,
            SETTINGS[row % len(SETTINGS)],
            NUM_TOKENS + 3 * (row % 3),
            joins_at=row % 3 * 2,
        )
        for row in range(count)
    ]


def answered(adapter: Adapter, rows: Sequence[Asked], speculates: Speculation | None) -> list[Answered]:
    """All in one batch. Each token comes where its row is, and the KV has the tokens that were handed out."""
    batch, found = Batch(adapter, 16, None, speculates), [Answered() for _ in rows]
    by_row: dict[int, int] = {}
    step = 0
    while step == 0 or len(batch) or any(row.joins_at >= step for row in rows):
        for number, row in enumerate(rows):
            if row.joins_at == step:
                token = batch.add(new_row(adapter, row, found[number], speculates))
                found[number].tokens.append(token)
                by_row |= {} if token.row is None else {token.row: number}
            if row.leaves_at == step:
                left = next(at for at, held in by_row.items() if held == number)
                found[number].kv = batch.remove(left)
        for token in batch.step() if len(batch) else []:
            assert token.row is not None
            one = found[by_row[token.row]]
            one.tokens.append(token)
            one.kv = token.kv or one.kv
        step += 1
    batch.close()
    return found


def new_row(adapter: Adapter, row: Asked, of: Answered, speculates: Speculation | None) -> NewRow:
    cache = adapter.make_cache()
    processors: list[LogitsProcessor] = [*make_processors(row.sampling)]
    if row.is_masked:
        of.mask = OddOnly()
        processors.append(of.mask)
    return NewRow(
        prompt=row.prompt,
        cache=cache,
        logits=adapter.finish(row.prompt, 0, cache, None),
        sampler=make_sampler(row.sampling),
        max_tokens=row.max_tokens,
        stop_ids=row.stop_ids,
        processors=processors,
        proposer=speculates.proposer(row.prompt) if speculates and not row.is_masked else None,
    )


def by_themselves(adapter: Adapter, rows: Sequence[Asked]) -> list[Answered]:
    return [answered(adapter, [replace(row, joins_at=0, leaves_at=NEVER)], None)[0] for row in rows]


def speculates_on(adapter: Adapter) -> Speculation:
    speculates = Speculation(adapter, EAGER)
    speculates.measure(VOCAB)
    assert not speculates.reason
    return speculates


def check(adapter: Adapter, rows: Sequence[Asked], speculates: Speculation | None = None) -> list[Answered]:
    """Each row as it is alone and without speculation: tokens, log-probabilities, the KV that it leaves."""
    alone = by_themselves(adapter, rows)
    speculates = speculates or speculates_on(adapter)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptLookup, "proposal", told([tuple(one.ids) for one in alone]))
        found = answered(adapter, rows, speculates)
    for number, (row, one, other) in enumerate(zip(rows, alone, found, strict=True)):
        num = len(other.ids) if row.leaves_at < NEVER else len(one.ids)
        assert other.ids == one.ids[:num], f"row {number} has another answer"
        assert row.leaves_at < NEVER or other.tokens[-1].finish == one.tokens[-1].finish
        for a, b in zip(one.tokens, other.tokens, strict=False):
            assert mx.allclose(a.logprobs, b.logprobs, atol=1e-3), f"row {number} has other log-probabilities"
        if len(other.ids) > 1:  # else it has never been a row
            same_kv(adapter, row, other, number)
    return found


def same_kv(adapter: Adapter, row: Asked, other: Answered, number: int) -> None:
    """What it leaves is the KV of its prompt and of the tokens that were handed out."""
    cache = adapter.make_cache()
    said = [*row.prompt, *other.ids]
    adapter.finish(said, 0, cache, None)
    assert tensors.num_tokens(other.kv) == len(said), f"row {number} leaves KV of another number of tokens"
    for ours, theirs in zip(cache[:-1], other.kv[:-1], strict=True):
        for name in ("keys", "values"):
            a, b = getattr(ours, name)[..., : len(said), :], getattr(theirs, name)[..., : len(said), :]
            assert mx.allclose(a, b, atol=1e-3), f"row {number} leaves other KV"


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_rows_that_propose_are_as_they_are_alone(model: Adapter, count: int) -> None:
    found = check(model, asked(count))
    assert all(one.num_accepted > 5 for one in found), [one.num_accepted for one in found]


def test_rows_that_do_not_propose_go_along(model: Adapter) -> None:
    """A mask sees each token of its row once, in order."""
    rows = asked(4)
    rows[1].is_masked = rows[2].is_masked = True
    found = check(model, rows)
    assert found[1].num_accepted == found[2].num_accepted == 0 < found[0].num_accepted
    for row, one in zip(rows, found, strict=True):
        if one.mask is not None:
            assert one.mask.seen[: len(one.ids)] == [row.prompt[-1], *one.ids[:-1]]
            assert len(one.mask.seen) <= len(one.ids) + 1


def test_rows_end_in_the_middle_of_a_pass(model: Adapter) -> None:
    """By their limit and by a stop token, at every place; others go on."""
    rows = asked(3)
    whole = by_themselves(model, rows)
    speculates, num_inside = speculates_on(model), 0
    for place in range(1, NUM_TOKENS, 3):
        stop = whole[1].ids[place]
        cut = [replace(rows[0], max_tokens=place + 1), replace(rows[1], stop_ids=frozenset({stop})), rows[2]]
        found = check(model, cut, speculates)
        assert found[0].tokens[-1].finish == "length" and found[1].tokens[-1].finish == "stop"
        num_inside += sum(one.tokens[-1].is_accepted for one in found[:2])
    assert num_inside > 4, "hardly any row ended inside of a run"


def test_rows_are_cancelled_in_their_middle(model: Adapter) -> None:
    """What one leaves behind is of its own tokens, and the others do not notice."""
    for step in (1, 3, 4):
        rows = asked(4)
        rows[0].leaves_at = step
        rows[3].leaves_at = step + 1
        check(model, rows)


def test_a_row_that_is_cancelled_before_its_first_step_leaves_plain_kv(model: Adapter) -> None:
    speculates, row = speculates_on(model), asked(1)[0]
    batch = Batch(model, 4, None, speculates)
    token = batch.add(new_row(model, row, Answered(), speculates))
    assert token.row is not None
    kv = batch.remove(token.row)
    assert tensors.is_plain(kv) and tensors.num_tokens(kv) == len(row.prompt)
    batch.close()


def test_where_a_row_is_unsure_all_read_one_token_next(model: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a difference that would explain every other place, or every place, answers are the same."""
    counts = []
    for slack in (0.05, 1e9):
        monkeypatch.setattr(Speculation, "_slack", slack)
        counts.append(sum(one.num_accepted for one in check(model, asked(3))))
    assert counts[0] > counts[1] == 0


def test_rows_of_which_one_alone_proposes_may_not_be_worth_it(model: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further token costs every row a third of a step: four that copy win, one of four does not."""
    monkeypatch.setattr(PassCosts, "further", lambda self, num_rows: 0.33)
    rows = [replace(row, joins_at=0) for row in asked(4)]
    assert sum(one.num_accepted for one in check(model, rows)) > 20
    for row in rows[1:]:
        row.is_masked = True
        row.max_tokens = 2 * NUM_TOKENS
    assert sum(one.num_accepted for one in check(model, rows)) == 0


# -- sabotage: the same check goes red ---------------------------------------------------------------------------------


def test_sabotage_one_token_too_many_of_one_row_is_seen(model: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, speculates = Speculation._drawn, speculates_on(model)

    def too_many(self: Speculation, batch: Any, row: int, ids: Sequence[int], logits: mx.array) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if row == 1:
                patch.setattr(speculation, "kept", lambda ids, said, sure: min(len(ids), kept(ids, said, sure) + 1))
            return drawn(self, batch, row, ids, logits)

    monkeypatch.setattr(Speculation, "_drawn", too_many)
    with pytest.raises(AssertionError, match="row 1 has another answer"):
        check(model, [replace(row, joins_at=0) for row in asked(2)], speculates)


def test_sabotage_an_end_that_the_mask_forgets_is_seen(model: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter rows see what was read in vain behind their end."""
    speculates = speculates_on(model)
    monkeypatch.setattr(RaggedKV, "make_mask", sees_beyond_its_end)
    with pytest.raises(AssertionError, match=r"has another answer|has other log-probabilities"):
        check(model, asked(3), speculates)


def sees_beyond_its_end(self: RaggedKV, num_queries: int, **_: Any) -> mx.array:
    places = mx.arange(self.size() + num_queries) <= self.size() + mx.arange(num_queries)[:, None]
    return mx.broadcast_to(places, (len(self.lengths), 1, *places.shape))


def test_a_model_whose_attention_does_not_take_the_mask_is_refused(
    model: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RaggedKV, "make_mask", sees_beyond_its_end)
    speculates = Speculation(model, EAGER)
    speculates.measure(VOCAB)
    assert speculates.reason == "a pass over several tokens gives it other logits"


def test_sabotage_kv_of_a_rejected_token_is_seen(model: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one row alone."""
    trim_rows, speculates = tensors.trim_rows, speculates_on(model)
    monkeypatch.setattr(tensors, "trim_rows", lambda cache, nums: trim_rows(cache, [max(0, nums[0] - 1), *nums[1:]]))
    with pytest.raises(AssertionError, match="row 0"):
        check(model, asked(2), speculates)


# -- in an engine ------------------------------------------------------------------------------------------------------


def mixed() -> list[Request]:
    """Copies, fresh text, a drawn answer, one with penalties and log-probabilities, JSON, and one with a picture."""
    return [
        chat(TABLE, "Again.", max_tokens=70, id="copy"),
        chat("Tell me.", max_tokens=66, id="fresh"),
        chat(TABLE, "Draw.", max_tokens=66, sampling=Sampling(temperature=0.9, seed=4), id="drawn"),
        chat(TABLE, "And again.", max_tokens=66, logprobs=2, sampling=SETTINGS[2], id="penalties"),
        chat("An object.", max_tokens=40, grammar=PERSON, id="json"),
        chat(picture("red"), "What is this? What is this?", max_tokens=66, id="picture"),
    ]


def stored(engine: Any) -> dict[bytes, Any]:
    """The KV of every stored block by the hash of its tokens and those before."""
    return {block.hash: block.payload for block in engine._slots.default.model.worker._prefix.pool}


async def check_blocks(engine_for: EngineFor, model: Path) -> list[Answer]:
    """Answers at once, beside one that is cancelled: each as alone without speculation, and so are their blocks."""
    plain, fast = await engine_for(model), await engine_for(model, speculation=EAGER)
    others = set(stored(plain))  # an engine may have been asked before
    without = [await ask(plain, request) for request in mixed()]

    async def cancelled() -> None:
        stream = fast.stream(chat(TABLE, "For ever.", max_tokens=500))
        for _ in range(4):
            await anext(stream)
        await stream.aclose()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptLookup, "proposal", told([answer.token_ids for answer in without]))
        *found, _ = await asyncio.gather(*(ask(fast, request) for request in mixed()), cancelled())
    for request, one, other in zip(mixed(), without, found, strict=True):
        assert other.token_ids == one.token_ids, f"{request.id} has another answer"
        for a, b in zip(one.tokens, other.tokens, strict=True):
            assert request.logprobs is None or a.logprob == pytest.approx(b.logprob, abs=1e-3)
    theirs = {key: kv for key, kv in stored(plain).items() if key not in others}
    assert len(theirs) > 3
    # An answer is told of before its blocks are stored.
    await until(lambda: theirs.keys() <= stored(fast).keys(), "a block is missing", 10)
    ours = stored(fast)
    for key, payload in theirs.items():
        for one_layer, other_layer in zip(payload, ours[key], strict=True):
            for a, b in zip(one_layer, other_layer, strict=True):
                assert mx.allclose(a, b, atol=1e-3), "a block has other KV"
    return list(found)


async def test_an_engine_leaves_the_blocks_that_it_leaves_without(
    engine_for: EngineFor, tiny_model: Callable[..., Path]
) -> None:
    found = await check_blocks(engine_for, tiny_model("qwen3_vl"))
    usage = {request.id: one.done.usage for request, one in zip(mixed(), found, strict=True)}
    assert all(usage[name].accepted_prediction_tokens > 5 for name in ("copy", "drawn", "penalties", "picture"))
    assert usage["json"].accepted_prediction_tokens > 0


async def test_rows_of_a_trained_model_copy_together(engine_for: EngineFor, smollm2: Path) -> None:
    """With what the lookup itself finds."""
    plain = await engine_for(smollm2, cache=COLD)
    fast = await engine_for(smollm2, cache=COLD, speculation=SpeculationConfig())
    asks = [chat("Write a short story about a fox.", max_tokens=24)]
    for number in (17, 31, 45):
        lines = [f"| {name} | {number * place} |" for place, name in enumerate(("red", "green", "blue"), 3)]
        asks.append(chat("Write this table again exactly as it is:\n\n" + "\n".join(lines), max_tokens=24))
    without = [await ask(plain, request) for request in asks]
    found = await asyncio.gather(*(ask(fast, request) for request in asks))
    assert [one.token_ids for one in found] == [one.token_ids for one in without]
    assert sum(one.done.usage.accepted_prediction_tokens > 2 for one in found) >= 2, "hardly any row copied"
