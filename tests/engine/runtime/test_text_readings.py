"""Engine.embed and Engine.rank: what the library's model gives alone, whatever else is read or answered beside it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from engine.errors import BadRequest, ContextOverflow
from engine.models.batch import Batch
from engine.models.text_reader import LongText, TextReader
from engine.types import DocumentsToRank, Embedded, TextsToEmbed
from tests import text_models
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat
from tests.engine.oracle import Oracle
from tests.waiting import until

TinyModel = Callable[..., Path]
ROUNDING = 2e-4
TEXTS = ("a", "import os", "def f(x): return x + 1  # one more", "the shortest and the longest together " * 8)
LONG = tuple(17 + at % 200 for at in range(2500))
"""Token ids of a text that no pass reads whole."""


@pytest.fixture(scope="module")
def embedder(tiny_model: TinyModel, models_dir: Path) -> Callable[..., Path]:
    def make(family: str = "qwen3", pooling: str = "lasttoken") -> Path:
        return text_models.embedder(tiny_model(family), models_dir, pooling)

    return make


@pytest.fixture(scope="module")
def ranker(tiny_model: TinyModel, models_dir: Path) -> Callable[..., Path]:
    def make(family: str = "qwen3", template: str = text_models.PAIR_TEMPLATE) -> Path:
        return text_models.ranker(tiny_model(family), models_dir, template)

    return make


def numbers(embedded: Embedded) -> np.ndarray:
    return np.array([np.frombuffer(vector, "<f4") for vector in embedded.vectors])


@cache
def stock(folder: Path) -> Oracle:
    return Oracle.load(folder, vision=False)


def by_the_library(folder: Path, ids: list[int], pooling: str) -> np.ndarray:
    """One text alone, in one pass of the library's model."""
    states = np.array(stock(folder).model.model(mx.array([ids]))[0].astype(mx.float32))
    vector = {"lasttoken": states[-1], "cls": states[0], "mean": states.mean(axis=0)}[pooling]
    return vector / np.linalg.norm(vector)


async def vectors_of(engine: Any, *texts: Any, **settings: Any) -> np.ndarray:
    return numbers(await engine.embed(TextsToEmbed(texts, **settings)))


# -- what the library gives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["lasttoken", "mean", "cls"])
@pytest.mark.parametrize("family", ["qwen3", "gemma2", "phi3"])
async def test_vectors_are_the_librarys(
    embedder: Callable[..., Path], engine_for: EngineFor, family: str, pooling: str
) -> None:
    folder = embedder(family, pooling)
    embedded = await (await engine_for(folder)).embed(TextsToEmbed(TEXTS))
    ids = [stock(folder).tokenizer.encode(text) for text in TEXTS]
    assert ids[0][-1] == stock(folder).tokenizer.convert_tokens_to_ids(text_models.END), "its own token ends a text"
    expected = np.array([by_the_library(folder, one, pooling) for one in ids])
    assert np.abs(numbers(embedded) - expected).max() < ROUNDING
    assert embedded.num_tokens == sum(map(len, ids))


@pytest.mark.parametrize("pooling", ["lasttoken", "mean", "cls"])
async def test_a_long_text_in_chunks_is_the_text_in_one(
    embedder: Callable[..., Path], engine_for: EngineFor, pooling: str
) -> None:
    folder = embedder("qwen3", pooling)
    found = await vectors_of(await engine_for(folder), LONG, "import os")
    assert np.abs(found[0] - by_the_library(folder, list(LONG), pooling)).max() < ROUNDING, "not the text in one"


async def test_twin_chunks_that_forget(
    embedder: Callable[..., Path], engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that does not see those before it makes another vector."""
    go_on = TextReader.go_on

    def forgetful(self: TextReader, text: LongText, num_tokens: int) -> Any:
        text.cache = self._adapter.make_cache()
        return go_on(self, text, num_tokens)

    monkeypatch.setattr(TextReader, "go_on", forgetful)
    with pytest.raises(AssertionError, match="not the text in one"):
        await test_a_long_text_in_chunks_is_the_text_in_one(embedder, engine_for, "lasttoken")


async def check_alone(engine: Any) -> None:
    together = await vectors_of(engine, *TEXTS)
    alone = np.concatenate([await vectors_of(engine, text) for text in TEXTS])
    assert np.abs(together - alone).max() < ROUNDING, "not what it is alone"


@pytest.mark.parametrize("pooling", ["lasttoken", "mean", "cls"])
async def test_beside_others_is_alone(embedder: Callable[..., Path], engine_for: EngineFor, pooling: str) -> None:
    await check_alone(await engine_for(embedder("qwen3", pooling)))


@pytest.mark.parametrize("pooling", ["lasttoken", "mean"])
async def test_twin_padding_that_counts(
    embedder: Callable[..., Path], engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch, pooling: str
) -> None:
    sums = TextReader._sums

    def padded(self: TextReader, rows: mx.array, lengths: list[int], cache: list[Any]) -> mx.array:
        return sums(self, rows, [rows.shape[1]] * len(lengths), cache)

    monkeypatch.setattr(TextReader, "_sums", padded)
    with pytest.raises(AssertionError, match="not what it is alone"):
        await check_alone(await engine_for(embedder("qwen3", pooling)))


async def test_fewer_numbers_and_prompts(embedder: Callable[..., Path], engine_for: EngineFor) -> None:
    engine = await engine_for(embedder())
    whole, short = await vectors_of(engine, "import"), await vectors_of(engine, "import", dimensions=8)
    assert short.shape == (1, 8) and np.allclose(short[0], whole[0, :8] / np.linalg.norm(whole[0, :8]), atol=1e-6)
    named = await vectors_of(engine, "import", prompt_name="query")
    assert np.allclose(named, await vectors_of(engine, text_models.QUERY_PROMPT + "import"), atol=1e-6)
    assert not np.allclose(named, whole, atol=1e-3)


async def test_a_special_token_in_a_text_is_text(embedder: Callable[..., Path], engine_for: EngineFor) -> None:
    folder = embedder()
    engine, tokenizer = await engine_for(folder), stock(folder).tokenizer
    embedded = await engine.embed(TextsToEmbed((f"a{text_models.END}b",)))
    as_control = tokenizer.encode(f"a{text_models.END}b")
    assert embedded.num_tokens > len(as_control)
    assert np.abs(numbers(embedded)[0] - by_the_library(folder, as_control, "lasttoken")).max() > ROUNDING


# -- beside others -----------------------------------------------------------------------------------------------------


async def test_running_streams_step_between_passes(
    embedder: Callable[..., Path], engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two passes over texts, each row that decodes gets a token; and its tokens are those it has alone."""
    engine = await engine_for(embedder())
    answered = chat("hello", max_tokens=300, ignore_eos=True)
    alone = await ask(engine, answered)
    done: list[str] = []
    for owner, name in ((TextReader, "read"), (Batch, "step")):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name), name, done))
    running = asyncio.create_task(ask(engine, answered))
    await until(lambda: "step" in done, "it never decoded")
    await engine.embed(TextsToEmbed(TEXTS * 100))
    passes = [at for at, name in enumerate(done) if name == "read"]
    was_running = not running.done()
    beside = await running
    assert len(passes) > 3 and was_running, "the texts were read in one go, or came too late to be beside anything"
    assert all("step" in done[one:other] for one, other in pairwise(passes))
    assert beside.token_ids == alone.token_ids


def noted(method: Callable[..., Any], name: str, into: list[str]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        into.append(name)
        return method(*args)

    return call


async def test_who_goes_away_is_dropped(
    embedder: Callable[..., Path], engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(embedder())
    before = await vectors_of(engine, *TEXTS)
    begun: list[str] = []
    monkeypatch.setattr(TextReader, "go_on", noted(TextReader.go_on, "go_on", begun))
    many = asyncio.create_task(engine.embed(TextsToEmbed((LONG,) * 50)))
    await until(lambda: begun, "nothing was read")
    many.cancel()
    with pytest.raises(asyncio.CancelledError):
        await many
    assert np.array_equal(await vectors_of(engine, *TEXTS), before)
    assert engine.num_open == 0 and len(begun) < 100, "it was read to its end for nobody"
    counts = engine.snapshot().totals
    assert counts.requests == counts.finished + counts.cancelled + counts.failed


async def test_a_failure_is_its_own(
    embedder: Callable[..., Path], engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(embedder())
    expected = await vectors_of(engine, "import")
    with monkeypatch.context() as patch:
        patch.setattr("engine.models.adapter.Adapter.states", lambda *_: 1 / 0)
        with pytest.raises(Exception, match="failed on these texts"):
            await engine.embed(TextsToEmbed(("import",)))
    assert np.array_equal(await vectors_of(engine, "import"), expected)


# -- documents ---------------------------------------------------------------------------------------------------------

DOCUMENTS = ("one", "def f(): pass", "a document with quite a few more words than the others have " * 3)


def scores_by_the_library(folder: Path, query: str, instruction: str | None = None) -> list[float]:
    model, tokenizer = stock(folder).model, stock(folder).tokenizer
    scores = []
    for document in DOCUMENTS:
        before = [] if instruction is None else [{"role": "system", "content": instruction}]
        messages = [*before, {"role": "query", "content": query}, {"role": "document", "content": document}]
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
        ids = tokenizer.encode(f"{text}<|im_start|>assistant\n", add_special_tokens=False)
        logits = np.array(model(mx.array([ids]))[0, -1].astype(mx.float32))
        scores.append(1 / (1 + math.exp(logits[301] - logits[300])))
    return scores


@pytest.mark.parametrize("template", [text_models.PAIR_TEMPLATE, text_models.TYPED_TEMPLATE])
async def test_scores_are_the_librarys(ranker: Callable[..., Path], engine_for: EngineFor, template: str) -> None:
    folder = ranker(template=template)
    engine = await engine_for(folder)
    for instruction in (None, "be strict"):
        ranked = await engine.rank(DocumentsToRank("which one?", DOCUMENTS, instruction))
        expected = scores_by_the_library(folder, "which one?", instruction)
        assert list(ranked.scores) == pytest.approx(expected, abs=ROUNDING)
    alone = [(await engine.rank(DocumentsToRank("which one?", (document,)))).scores[0] for document in DOCUMENTS]
    assert alone == pytest.approx(scores_by_the_library(folder, "which one?"), abs=ROUNDING)
    assert len({round(score, 3) for score in alone}) == len(DOCUMENTS), "they would say nothing"


async def test_a_long_document(ranker: Callable[..., Path], engine_for: EngineFor) -> None:
    """In chunks beside a stream, and in one pass alone: the same score."""
    engine = await engine_for(ranker())
    asked = DocumentsToRank("which?", ("word " * 900,))
    alone = await engine.rank(asked)
    running = asyncio.create_task(ask(engine, chat("hello", max_tokens=200, ignore_eos=True)))
    await until(lambda: engine.snapshot().running, "it never began")
    assert list((await engine.rank(asked)).scores) == pytest.approx(list(alone.scores), abs=ROUNDING)
    await running


async def test_an_instruction_that_no_template_writes(ranker: Callable[..., Path], engine_for: EngineFor) -> None:
    template = text_models.PAIR_TEMPLATE.replace("for m in messages", "for m in messages if m.role != 'system'")
    engine = await engine_for(ranker(template=template))
    assert (await engine.rank(DocumentsToRank("which?", DOCUMENTS))).scores
    with pytest.raises(BadRequest, match="instruction: this model's chat template does not write it"):
        await engine.rank(DocumentsToRank("which?", DOCUMENTS, "be strict"))


async def test_a_template_that_leaves_the_query_out(ranker: Callable[..., Path], engine_for: EngineFor) -> None:
    engine = await engine_for(ranker(template=text_models.BLIND_TEMPLATE))
    with pytest.raises(BadRequest, match="roles query and document"):
        await engine.rank(DocumentsToRank("which?", DOCUMENTS))


# -- refusals ----------------------------------------------------------------------------------------------------------


async def test_what_is_asked_of_the_wrong_model(
    embedder: Callable[..., Path], ranker: Callable[..., Path], tiny_model: TinyModel, engine_for: EngineFor
) -> None:
    to_embed, to_rank = TextsToEmbed(("a",)), DocumentsToRank("a", ("b",))
    embeds, ranks, plain = [await engine_for(folder) for folder in (embedder(), ranker(), tiny_model("qwen3"))]
    with pytest.raises(BadRequest, match="ask /v1/rerank"):
        await ranks.embed(to_embed)
    with pytest.raises(BadRequest, match="ask /v1/embeddings"):
        await embeds.rank(to_rank)
    for call in (plain.embed(to_embed), plain.rank(to_rank)):
        with pytest.raises(BadRequest, match=r"modules\.json") as caught:
            await call
        assert caught.value.param == "model" and caught.value.code == "unsupported_model"
    assert [(m.embeds, m.ranks) for m in [(await e.ready()) for e in (embeds, ranks, plain)]] == [
        (True, False), (False, True), (False, False),
    ]  # fmt: skip


async def test_what_cannot_be_read_is_named(embedder: Callable[..., Path], engine_for: EngineFor) -> None:
    engine = await engine_for(embedder())
    context = (await engine.ready()).context_tokens
    for texts, settings, error, words in (
        (("a", (5,) * (context + 1)), {}, ContextOverflow, r"input\[1\] has"),
        (((5, 10**6),), {}, BadRequest, "input has a token id outside"),
        (("a",), {"dimensions": 10**6}, BadRequest, "dimensions: this model's vectors have"),
        (("a",), {"prompt_name": "nobody"}, BadRequest, "it has query"),
        (((5,),), {"prompt_name": "query"}, BadRequest, "no prompt stands before token ids"),
        ((), {}, BadRequest, "between 1 and 2048 texts"),
    ):
        with pytest.raises(error, match=words):
            await engine.embed(TextsToEmbed(texts, **settings))  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="documents: between 1 and"):
        await engine.rank(DocumentsToRank("a", ()))
