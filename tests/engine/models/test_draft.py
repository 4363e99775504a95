"""draft: what a small model proposes for a row, and what is left of it when the row goes on otherwise, or ends.

The engine tests take a trained model as its own draft, which is nearly always right, and one of random weights with its
tokenizer, which hardly ever is.
"""

from __future__ import annotations

import json
import shutil
import weakref
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import llama

from engine.api.health import health_json
from engine.arguments import types
from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.core import Engine
from engine.errors import BadRequest, EngineError
from engine.models import registry
from engine.models.adapter import Adapter
from engine.models.batch import Batch
from engine.models.draft import DraftModel, RowDraft
from engine.models.draft_loading import difference
from engine.models.pass_costs import PassCosts
from engine.models.proposer import Proposer
from engine.types import Request, Sampling, SpeculationConfig
from tests.conftest import EngineFor
from tests.engine.drive import Answer, ask, chat
from tests.pictures import picture
from tests.waiting import until

TinyModel = Callable[..., Path]
COLD = CacheConfig(enabled=False)
CHUNK = 16
STORY = "Once upon a time there was a fox who lived in a wood. " * 3
DRAWN = Sampling(temperature=0.4, top_p=0.9, seed=7)
ASKED = [chat(STORY, "Again.", max_tokens=60), chat("Tell me.", max_tokens=60, sampling=DRAWN)]
SHORT = [chat("What is the capital of France?", max_tokens=14), chat("Tell me more.", max_tokens=20, sampling=DRAWN)]


def drafts(folder: Path | str, most: int = 5) -> SpeculationConfig:
    return SpeculationConfig("draft_model", most, model=str(folder))


# -- one row -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> DraftModel:
    adapter = registry.load(EngineConfig(model=ModelSpec(str(tiny_model("llama"))))).adapter
    return DraftModel(adapter, num_ids=1000, context_tokens=200, chunk_tokens=CHUNK)


def greedy(model: DraftModel, tokens: Sequence[int], num_tokens: int) -> list[int]:
    """What the draft says behind these tokens, each from a pass over all before it."""
    said: list[int] = []
    for _ in range(num_tokens):
        logits = model.adapter.finish([*tokens, *said], 0, model.adapter.make_cache(), None)
        said.append(int(mx.argmax(logits[0, : model.num_ids]).item()))
    return said


def proposed(draft: RowDraft, num_tokens: int, begun: int) -> list[int]:
    """Its next proposal, however many steps it reads before."""
    for _ in range(50):
        if found := draft.proposal(num_tokens, lambda: begun):
            return found
    raise AssertionError("it proposes nothing")


def kv_tokens(draft: RowDraft) -> int:
    return int(draft._cache[0].size())


def test_it_proposes_its_greedy_continuation(model: DraftModel) -> None:
    tokens = [5, 80, 200, 7, 400]
    draft = RowDraft(model, tokens, PassCosts())
    assert draft.proposal(5, lambda: 33) == [33, *greedy(model, [*tokens, 33], 4)]


def check_in_step(model: DraftModel, num_right: int) -> None:
    """Behind a pass in which so many of four were right, it proposes what a draft that has read nothing else does."""
    tokens = [5, 80, 200, 7, 400]
    draft = RowDraft(model, tokens, PassCosts())
    for _ in range(3):
        said = proposed(draft, 5, 33)
        kept = said[: 1 + num_right]
        for token in kept:
            draft.append(token)
        tokens += kept
        assert proposed(draft, 4, 44) == [44, *greedy(model, [*tokens, 44], 3)], "its KV is of other tokens"
        draft.append(44)
        tokens.append(44)


@pytest.mark.parametrize("num_right", range(5))
def test_it_stays_in_step_with_what_was_accepted(model: DraftModel, num_right: int) -> None:
    check_in_step(model, num_right)


def test_sabotage_kv_that_is_not_cut_is_seen(model: DraftModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RowDraft, "_cut_ahead", lambda self: setattr(self, "_ahead", []))
    with pytest.raises(AssertionError, match="its KV is of other tokens"):
        check_in_step(model, 1)


def test_it_catches_up_behind_tokens_that_came_one_by_one(model: DraftModel) -> None:
    """Also where the row has said what it proposed, without asking it."""
    draft = RowDraft(model, [5, 80], PassCosts())
    first = proposed(draft, 5, 33)
    tokens = [5, 80, *first[:2], 9, 10, 11]
    for token in tokens[2:]:
        draft.append(token)
    assert proposed(draft, 3, 12) == [12, *greedy(model, [*tokens, 12], 2)]


def test_a_token_that_was_read_ahead_is_read_again_to_propose_behind_it(model: DraftModel) -> None:
    """A token whose place was near a tie is computed by itself: the row then stands where the draft has gone on."""
    draft = RowDraft(model, [5, 80], PassCosts())
    said = proposed(draft, 5, 33)
    draft.append(33)
    assert proposed(draft, 5, said[1]) == [said[1], *greedy(model, [5, 80, 33, said[1]], 4)]


def test_a_long_prompt_is_read_a_chunk_in_a_step(model: DraftModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pass is over more, nothing is waited for meanwhile, and then it proposes behind all of it."""
    widths: list[int] = []
    forward = Adapter._forward

    def seen(self: Adapter, ids: mx.array, *args: Any, **settings: Any) -> Any:
        widths.append(ids.shape[1])
        return forward(self, ids, *args, **settings)

    tokens = [3 + 7 * i % 900 for i in range(5 * CHUNK + 3)]
    draft = RowDraft(model, tokens, PassCosts())
    with monkeypatch.context() as patch:
        patch.setattr(Adapter, "_forward", seen)
        for chunk in range(1, 6):
            assert draft.proposal(4, lambda: pytest.fail("it waits for a token")) == []
            assert kv_tokens(draft) == chunk * CHUNK
            if chunk < 5:
                assert draft.proposal(4, lambda: 9) == [] and kv_tokens(draft) == chunk * CHUNK, "two chunks in a step"
            model.may_read = True  # as the next step says
        found = draft.proposal(4, lambda: 9)
    assert found == [9, *greedy(model, [*tokens, 9], 3)]
    assert widths == [CHUNK] * 5 + [4, 1, 1]


def test_what_it_cannot_read_is_left_out(model: DraftModel) -> None:
    """Media, and ids beyond its vocabulary; behind one of these it proposes nothing, and it never proposes one."""
    draft = RowDraft(model, [5, -77, -77, 80, 1003], PassCosts())
    assert proposed(draft, 3, 7) == [7, *greedy(model, [5, 80, 7], 2)]
    draft.append(7)
    assert draft.proposal(3, lambda: 1001) == []
    draft.append(1001)
    assert proposed(draft, 3, 8) == [8, *greedy(model, [5, 80, 7, 8], 2)]


def test_a_row_longer_than_its_context_has_no_proposals_and_no_kv(model: DraftModel) -> None:
    short = replace(model, context_tokens=12)
    draft = RowDraft(short, [5, 80, 200, 7, 400], PassCosts())
    for _ in range(2):
        for token in proposed(draft, 3, 33):
            draft.append(token)
    kv = weakref.ref(draft._cache[0])
    assert draft.proposal(3, lambda: 33) == [] and kv() is None


def test_what_it_takes_to_propose_counts(model: DraftModel) -> None:
    """Proposals that cost as much as the passes they save are given up, though every one is right."""
    for cost_s, rests in ((0.05, False), (1.2, True)):
        costs = PassCosts()
        costs.plain(1.0, 1)
        costs.proposed(4 * cost_s, 4)
        assert costs.to_propose(1) == pytest.approx(cost_s)
        row = Proposer(RowDraft(model, [5, 80], costs), 4)
        row.took(4, 4, costs.to_propose(1))
        assert bool(row.proposal(100, lambda: 7)) is not rests
    costs = PassCosts()
    costs.plain(1e-9, 1)  # next to it, writing takes for ever
    RowDraft(model, [5, 80], costs).proposal(5, lambda: 7)
    assert costs.to_propose(1) > 1


# -- whose vocabulary --------------------------------------------------------------------------------------------------


def test_vocabularies_are_the_same_where_each_id_means_the_same() -> None:
    own = {0: ("a", False), 1: ("b", False), 2: ("<end>", True)}
    assert difference(own, dict(own)) is None
    assert difference(own, own | {3: ("<picture>", True)}) is None
    assert difference(own | {3: ("<tool>", True)}, own) is None
    assert difference(own, own | {1: ("c", False)}) == "token 1 is 'b' to the draft model, and 'c' to the other"
    assert difference(own | {3: ("<tool>", True)}, own | {3: ("<picture>", True)})
    assert difference(own, own | {3: ("c", False)}) == "the draft model has 3 tokens, the other 4"


# -- a model as its own draft ------------------------------------------------------------------------------------------


@pytest.fixture
def always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft as large as the model never does."""
    monkeypatch.setattr(PassCosts, "further", lambda *_: 0.0)
    monkeypatch.setattr(PassCosts, "to_propose", lambda *_: 0.0)


def counted(answer: Answer) -> tuple[int, int]:
    """Tokens that were proposed, and those of them that were accepted."""
    usage = answer.done.usage
    accepted = usage.accepted_prediction_tokens
    return accepted + usage.rejected_prediction_tokens, accepted


async def answers(engine: Engine, asked: Sequence[Request]) -> list[Answer]:
    return [await ask(engine, request) for request in asked]


async def with_itself(engine_for: EngineFor, model: Path) -> Engine:
    engine: Engine = await engine_for(model, cache=COLD, prefill_chunk_tokens=CHUNK, speculation=drafts(model))
    return engine


async def check_accepted(
    engine: Engine, without: Sequence[Answer], asked: Sequence[Request], least: float = 0.15
) -> None:
    """The answers are those without a draft. Of what is proposed nearly all is accepted where both are greedy; where
    the row draws, as often as it draws the likeliest token: of random weights seldom. least: of all it then is."""
    found = await answers(engine, asked)
    for one, other in zip(without, found, strict=True):
        assert other.token_ids == one.token_ids
        assert other.done.usage.completion_tokens == one.done.usage.completion_tokens
    shares = [accepted / num for num, accepted in map(counted, found)]
    assert shares[0] > 0.9 and shares[1] > least, f"its proposals are not accepted: {shares}"
    assert min(counted(one)[1] for one in found) > 3, "hardly anything was proposed"


@pytest.mark.usefixtures("always_pays")
async def test_a_model_accepts_what_it_proposes_itself(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    """Greedy, behind a prompt of several chunks, and with a seed."""
    model = tiny_model("llama")
    without = await answers(await engine_for(model, cache=COLD), ASKED)
    assert [counted(answer) for answer in without] == [(0, 0), (0, 0)]
    await check_accepted(await with_itself(engine_for, model), without, ASKED)


@pytest.mark.usefixtures("always_pays")
async def test_sabotage_a_draft_that_keeps_what_was_rejected_is_seen(
    engine_for: EngineFor, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    without = await answers(await engine_for(model, cache=COLD), ASKED)
    engine = await with_itself(engine_for, model)
    monkeypatch.setattr(RowDraft, "_cut_ahead", lambda self: setattr(self, "_ahead", []))
    with pytest.raises(AssertionError, match="its proposals are not accepted"):
        await check_accepted(engine, without, ASKED)


@pytest.fixture
def kv(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """The first layer of each draft's KV that was made."""
    made: list[weakref.ref[Any]] = []
    write = DraftModel.write

    def seen(self: DraftModel, ids: Sequence[int], num_tokens: int, cache: list[Any]) -> list[int]:
        if all(ref() is not cache[0] for ref in made):
            made.append(weakref.ref(cache[0]))
        return write(self, ids, num_tokens, cache)

    monkeypatch.setattr(DraftModel, "write", seen)
    return made


@pytest.mark.usefixtures("always_pays")
async def test_a_draft_leaves_nothing_behind(
    engine_for: EngineFor, tiny_model: TinyModel, kv: list[weakref.ref[Any]]
) -> None:
    """Neither of an answer that is cancelled in the middle, nor of one that ends; the next one is as the first."""
    engine = await with_itself(engine_for, tiny_model("llama"))
    stream = engine.stream(replace(ASKED[0], max_tokens=3000))
    while not kv:
        await anext(stream)
    assert kv[0]() is not None
    await stream.aclose()
    await until(lambda: kv[0]() is None, "a cancelled answer's draft keeps its KV")
    first, second = await answers(engine, [ASKED[0], ASKED[0]])
    assert first.token_ids == second.token_ids and counted(first) == counted(second)
    await until(lambda: all(ref() is None for ref in kv), "an answer's draft keeps its KV")
    assert len(kv) == 3


async def test_a_draft_that_fails_ends_no_answer(
    engine_for: EngineFor, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer goes on by itself, and so do those beside it."""

    def fails(*_: Any) -> list[int]:
        raise MemoryError("no room for a draft")

    without = await answers(await engine_for(tiny_model("llama"), cache=COLD), ASKED)
    monkeypatch.setattr(DraftModel, "write", fails)
    found = await answers(await with_itself(engine_for, tiny_model("llama")), ASKED)
    assert [one.token_ids for one in found] == [one.token_ids for one in without]
    assert [counted(one) for one in found] == [(0, 0), (0, 0)]


async def test_only_passes_are_measured_as_passes(
    engine_for: EngineFor, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step in which the draft has read or written says nothing of what a pass takes."""
    events: list[str] = []
    step, plain, works = Batch.step, PassCosts.plain, PassCosts.did_other_work

    def seen(name: str, method: Any) -> Any:
        def call(self: Any, *args: Any) -> Any:
            events.append(name)
            return method(self, *args)

        return call

    engine = await with_itself(engine_for, tiny_model("llama"))
    for owner, name, method in (
        (Batch, "step", step),
        (PassCosts, "plain", plain),
        (PassCosts, "did_other_work", works),
    ):
        monkeypatch.setattr(owner, name, seen(name, method))
    await answers(engine, ASKED)
    steps = " ".join(events).split("step")
    assert sum("did_other_work" in one for one in steps) > 3 and any("plain" in one for one in steps)
    assert not [one for one in steps if "plain" in one and "did_other_work" in one]


async def test_its_memory_is_counted(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    """Weights and KV of a row are those of both."""
    target, small = tiny_model("llama"), tiny_model("qwen3", "bfloat16")
    engines = [await engine_for(folder, cache=COLD) for folder in (target, small)]
    engines.append(await engine_for(target, cache=COLD, speculation=drafts(small)))
    snapshots = [engine.snapshot() for engine in engines]
    weights = [snapshot.models[0].num_bytes for snapshot in snapshots]
    assert weights[2] == weights[0] + weights[1]
    assert [health_json(one)["memory"]["parts"]["weights_bytes"] for one in snapshots] == weights
    memory = [engine._slots.default.model.memory for engine in engines]
    assert [one.num_bytes for one in memory] == weights
    assert memory[2].token_bytes == memory[0].token_bytes + memory[1].token_bytes


# -- a trained model with itself, and with one that knows nothing ------------------------------------------------------


@pytest.fixture(scope="module")
def random_draft(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's tokenizer, and two layers of noise."""
    out = tmp_path_factory.mktemp("random-draft")
    for file in smollm2.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, out / file.name)
    config = json.loads((smollm2 / "config.json").read_text())
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    config |= small | {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    (out / "config.json").write_text(json.dumps(config))
    made = llama.Model(llama.ModelArgs.from_dict(config))
    keys = iter(mx.random.split(mx.random.key(1), 64))
    made.update(tree_map(lambda array: mx.random.normal(array.shape, key=next(keys)) * 0.1, made.parameters()))
    mx.save_safetensors(str(out / "model.safetensors"), dict(tree_flatten(made.parameters())), {"format": "mlx"})
    return out


@pytest.fixture(scope="module")
def known() -> list[Answer]:
    return []


@pytest.fixture
async def plain(engine_for: EngineFor, smollm2: Path, known: list[Answer]) -> list[Answer]:
    """The answers without a draft model."""
    known += [] if known else await answers(await engine_for(smollm2, cache=COLD), SHORT)
    return known


@pytest.mark.usefixtures("always_pays")
async def test_a_trained_model_accepts_what_it_proposes_itself(
    engine_for: EngineFor, smollm2: Path, plain: list[Answer]
) -> None:
    await check_accepted(await with_itself(engine_for, smollm2), plain, SHORT, least=0.3)


async def test_a_draft_that_knows_nothing_changes_nothing_and_soon_rests(
    engine_for: EngineFor, smollm2: Path, random_draft: Path, plain: list[Answer]
) -> None:
    engine = await engine_for(smollm2, cache=COLD, prefill_chunk_tokens=CHUNK, speculation=drafts(random_draft))
    for one, other in zip(plain, await answers(engine, SHORT), strict=True):
        assert other.token_ids == one.token_ids
        num_proposed, num_accepted = counted(other)
        assert 0 < num_proposed <= 8 and num_accepted <= 2, "it goes on proposing"


# -- pictures, and other families --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always_pays")
@pytest.mark.parametrize("family", ["qwen3_vl", "glm4v"])
async def test_a_draft_reads_the_words_around_pictures(
    engine_for: EngineFor, tiny_model: TinyModel, family: str, kv: list[weakref.ref[Any]]
) -> None:
    target = tiny_model(family)
    slow = await engine_for(target, cache=COLD)
    fast = await engine_for(target, cache=COLD, speculation=drafts(tiny_model("llama")))
    for sampling in (Sampling(temperature=0.0), Sampling(temperature=1.0, seed=3)):
        request = chat(picture("red"), "What is this?", max_tokens=30, sampling=sampling)
        one, other = await ask(slow, request), await ask(fast, request)
        assert other.token_ids == one.token_ids
        assert counted(other)[0] > 0
    await until(lambda: all(ref() is None for ref in kv), "an answer's draft keeps its KV")
    assert len(kv) == 2


async def test_a_model_that_cannot_speculate_loads_no_draft(
    engine_for: EngineFor, tiny_model: TinyModel, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await engine_for(tiny_model("gemma3"), speculation=drafts(tiny_model("llama")))
    assert "writes without speculation: its KV cannot be cut back" in caplog.text
    alone = await engine_for(tiny_model("gemma3"))
    assert engine.snapshot().models[0].num_bytes == alone.snapshot().models[0].num_bytes


# -- what cannot be kept to --------------------------------------------------------------------------------------------


def test_the_option_is_as_vllm_has_it(tmp_path: Path) -> None:
    given = {"method": "draft_model", "model": str(tmp_path), "num_speculative_tokens": 5}
    assert types.speculation(json.dumps(given)) == SpeculationConfig("draft_model", 5, model=str(tmp_path))
    hub = types.speculation('{"method": "draft_model", "model": "org/small"}')
    assert (hub.model, hub.num_speculative_tokens) == ("org/small", 8)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, "method draft_model needs a model"),
        ({"model": 3}, "model must be a folder or a hub id, not 3"),
        ({"model": ""}, "model must be a folder or a hub id"),
        ({"model": "/no/such/folder"}, "model: there is no folder '/no/such/folder'"),
        ({"model": "org/a", "prompt_lookup_min": 3}, "'prompt_lookup_min' is not among what draft_model may say"),
        ({"model": "org/a", "quantization": "x"}, "'quantization' is not among"),
        ({"model": "org/a", "num_speculative_tokens": 65}, "num_speculative_tokens must be .* 1 to 64, not 65"),
    ],
)
def test_an_option_that_cannot_be_kept_to_is_refused(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ArgumentTypeError, match=why):
        types.speculation(json.dumps({"method": "draft_model", **more}))


def test_a_configuration_says_which_method_a_model_belongs_to() -> None:
    with pytest.raises(BadRequest, match="model belongs to method draft_model, not to ngram"):
        SpeculationConfig(model="org/a")


def test_a_draft_is_of_one_model() -> None:
    """The option's of the default one; others have their own, and adapters none."""
    first, second = ModelSpec("org/a"), ModelSpec("org/b")
    third = ModelSpec("org/c", draft_model="org/small-c")
    adapted = third.with_adapter("x", "folder")
    config = EngineConfig(model=first, more_models=(second, third, adapted), speculation=drafts("org/small"))
    found = [config.of(spec).speculation for spec in config.models]
    assert [one and one.model for one in found] == ["org/small", None, "org/small-c", None]
    lookup = replace(config, speculation=SpeculationConfig())
    assert [one and one.method for one in (lookup.of(spec).speculation for spec in lookup.models)] == [
        "ngram", "ngram", "draft_model", "ngram",
    ]  # fmt: skip


@pytest.fixture
def refused() -> Iterator[Callable[[Path, Path | str], Any]]:
    """Why a model with this draft is not served."""

    async def why(target: Path, draft: Path | str) -> str:
        engine = Engine(EngineConfig(model=ModelSpec(str(target)), speculation=drafts(draft)))
        engine.start()
        try:
            with pytest.raises(EngineError) as caught:
                await engine.ready()
        finally:
            engine.stop()
        return caught.value.message

    yield why


async def test_another_vocabulary_is_an_error_that_names_both(
    refused: Callable[[Path, Path | str], Any], tiny_model: TinyModel, random_draft: Path
) -> None:
    message = await refused(tiny_model("llama"), random_draft)
    names = f"'{random_draft}' cannot be the draft model of llama-float32"
    assert message.startswith(f"{names}: their vocabularies differ: token 3 is '<repo_name>' to the draft model, and ")


async def test_a_draft_that_is_no_text_model_or_is_not_there_is_an_error(
    refused: Callable[[Path, Path | str], Any], tiny_model: TinyModel, tmp_path: Path
) -> None:
    target = tiny_model("llama")
    assert "llama-float32: it is not a text model" in await refused(target, tiny_model("qwen3_vl"))
    assert f"The draft model: No model '{tmp_path / 'none'}'" in await refused(target, tmp_path / "none")
    assert "The draft model: " in (empty := await refused(target, tmp_path)) and "no config.json" in empty
    cut = shutil.copytree(tiny_model("qwen3"), tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-100])
    assert f"The model in {cut} is not whole" in await refused(target, cut)


async def test_a_draft_whose_kv_cannot_be_cut_is_an_error(
    refused: Callable[[Path, Path | str], Any], tiny_model: TinyModel, tmp_path: Path
) -> None:
    """A Gemma 3 text model has sliding windows."""
    from tests import tiny
    from tests.families import Family, text

    shape = text(sliding_window=8, sliding_window_pattern=2, query_pre_attn_scalar=32, head_dim=16)
    folder = tiny.write(Family(config=shape), "gemma3_text", "float32", tmp_path / "gemma3-text")
    assert "its KV cannot be cut back" in await refused(tiny_model("llama"), folder)
