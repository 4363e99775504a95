"""Engine.decide: a question in a batch is the question alone, warm is cold, and the numbers are those that
Engine.likelihood finds token by token, by another way through the engine."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from engine.cache import tensors
from engine.cache.prefix import PrefixCache
from engine.config import CacheConfig
from engine.errors import BadRequest, Busy, ContextOverflow
from engine.models import head
from engine.models.adapter import Adapter
from engine.models.decision_settings import DecisionSettings
from engine.prompt import question_tokens
from engine.prompt.option_tree import Tokens
from engine.prompt.questions import question_parts, spellings, with_question
from engine.runtime.decisions import scorer
from engine.runtime.endings import Endings
from engine.runtime.memory_use.memory import padded_tokens
from engine.runtime.sequence import SCORED_ROWS
from engine.types import Decision, Message, Option, Part, Request, TypedQuestion
from tests.conftest import EngineFor
from tests.engine.drive import Piece, ask, chat, part, settled, user
from tests.families import FAMILIES
from tests.pictures import picture

TinyModel = Callable[..., Path]
ROUNDING = 2e-4
FAMILIES_CHECKED = [
    "llama",
    "gemma2",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_5",
    "gemma3",
    "gemma4",
    "llava",
    "molmo",
    "paligemma",
    "deepseek_vl_v2",
]


def question(kind: str, words: str | tuple[Piece, ...], *options: str) -> TypedQuestion:
    """Of plain pieces. A predicate has yes and no."""
    pieces = (words,) if isinstance(words, str) else words
    texts = options or ("Yes", "No")
    return TypedQuestion(kind, tuple(map(part, pieces)), tuple(Option(text) for text in texts), "questions[0]")  # type: ignore[arg-type]


QUESTIONS = (
    question("predicate", "Is it one?"),
    question("choice", "Which of these is it, when all of them are read with care?", "one", "two", "three", "four"),
    question("choice", "And now?", "import os", "import sys", "import", "def", "1", "10", "100"),
    question("score", "How much?", "nothing", "a little", "a lot"),
)


def about(family: str) -> Request:
    """A request whose messages the questions are about."""
    seen: tuple[Piece, ...] = (picture("red"),) if FAMILIES[family].vision else ()
    return Request(messages=(user(*seen, "Some words before the questions come, more than a few."),))


def far_apart(one: tuple[Decision, ...], other: tuple[Decision, ...]) -> float:
    """The largest difference between two probabilities of the same option."""
    pairs = [
        pair for a, b in zip(one, other, strict=True) for pair in zip(a.probabilities, b.probabilities, strict=True)
    ]
    return max(abs(a - b) for a, b in pairs)


# -- against likelihood ------------------------------------------------------------------------------------------------


async def by_likelihood(engine: Any, folder: Path, request: Request, asked: TypedQuestion) -> list[float]:
    """The probabilities of a question's options from the log-probability of each token of each spelling, as
    Engine.likelihood gives them for an ordinary chat that ends with the question."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = question_parts(asked, DecisionSettings())
    chat_request = replace(request, messages=with_question(request.messages, words))
    ids = [[tuple(tokenizer.encode(s, add_special_tokens=False)) for s in option] for option in spellings(asked)]
    said: dict[Tokens, float] = {}
    for spelling in {spelling for option in ids for spelling in option}:
        logprobs = await engine.likelihood(chat_request, spelling)
        said |= {spelling[: at + 1]: math.exp(logprob) for at, logprob in enumerate(logprobs)}

    def chance(spelling: Tokens) -> float:
        def whole(one: Tokens) -> float:
            return math.prod(said[one[: at + 1]] for at in range(len(one)))

        longer = [s for option in ids for s in option if s[: len(spelling)] == spelling and s != spelling]
        nearest = {s for s in longer if not any(s[: len(other)] == other and s != other for other in longer)}
        return whole(spelling) - sum(map(whole, nearest))

    chances = [sum(chance(spelling) for spelling in option) for option in ids]
    return [one / sum(chances) for one in chances]


async def check_likelihood(engine: Any, folder: Path, request: Request) -> None:
    decided = await engine.decide(request, QUESTIONS)
    for asked, answer in zip(QUESTIONS, decided.answers, strict=True):
        expected = await by_likelihood(engine, folder, request, asked)
        assert sum(answer.probabilities) == pytest.approx(1.0)
        assert list(answer.probabilities) == pytest.approx(expected, abs=ROUNDING), "not what likelihood finds"


@pytest.mark.parametrize("family", FAMILIES_CHECKED)
async def test_probabilities_are_those_of_likelihood(tiny_model: TinyModel, engine_for: EngineFor, family: str) -> None:
    folder = tiny_model(family)
    await check_likelihood(await engine_for(folder), folder, about(family))


@pytest.mark.parametrize("what", ["places", "positions"])
async def test_sabotage_what_is_read_elsewhere_is_seen(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Twins: logits one token too early; positions that forget that a picture takes fewer of them than tokens."""
    if what == "places":
        at = head.ReadPlaces.at
        monkeypatch.setattr(head.ReadPlaces, "at", lambda self, places: at(self, [max(0, p - 1) for p in places]))
    else:
        logits_at = Adapter.logits_at
        monkeypatch.setattr(
            Adapter,
            "logits_at",
            lambda self, rows, places, cache, first: logits_at(self, rows, places, cache, first + 7),
        )
    folder = tiny_model("qwen3_vl")
    engine = await engine_for(folder)
    with pytest.raises(AssertionError, match="not what likelihood finds"):
        await check_likelihood(engine, folder, about("qwen3_vl"))


# -- batch, cache, cancel ----------------------------------------------------------------------------------------------


async def check_batch(engine: Any, request: Request) -> None:
    together = (await engine.decide(request, QUESTIONS)).answers
    alone = tuple([(await engine.decide(request, (asked,))).answers[0] for asked in QUESTIONS])
    assert far_apart(together, alone) < ROUNDING, "a question in a batch differs from the one alone"


@pytest.mark.parametrize("family", ["llama", "qwen3_vl", "qwen3_5", "gemma3"])
async def test_a_question_in_a_batch_is_the_one_alone(
    tiny_model: TinyModel, engine_for: EngineFor, family: str
) -> None:
    engine = await engine_for(tiny_model(family), cache=CacheConfig(enabled=False))
    await check_batch(engine, about(family))


async def test_sabotage_rows_that_write_into_what_they_share_are_seen(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: the first row of a pass reads what the second one shares, as where KV is mixed up."""
    behind = tensors._behind_shared
    monkeypatch.setattr(tensors, "_behind_shared", lambda layer, *own: behind(layer, *(kv[::-1] for kv in own)))
    engine = await engine_for(tiny_model("llama"), cache=CacheConfig(enabled=False))
    with pytest.raises(AssertionError, match="differs from the one alone"):
        await check_batch(engine, about("llama"))


async def check_warm(engine: Any, request: Request) -> None:
    await engine.cache.clear()
    cold = await engine.decide(request, QUESTIONS)
    warm = await engine.decide(request, QUESTIONS)
    assert cold.done.usage.cached_tokens == 0 < warm.done.usage.cached_tokens
    assert warm.done.usage.prompt_tokens == cold.done.usage.prompt_tokens
    assert cold.written_tokens > warm.written_tokens
    assert far_apart(cold.answers, warm.answers) < ROUNDING, "the cache changed a decision"


@pytest.mark.parametrize("family", ["llama", "qwen3_vl", "qwen3_5", "gemma3"])
async def test_warm_is_cold(tiny_model: TinyModel, engine_for: EngineFor, family: str) -> None:
    await check_warm(await engine_for(tiny_model(family)), about(family))


async def test_sabotage_a_wrong_prefix_is_seen(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = tensors.cut
    monkeypatch.setattr(
        tensors, "cut", lambda cache, spans: [[(k * 0.5, v) for k, v in payload] for payload in cut(cache, spans)]
    )
    engine = await engine_for(tiny_model("llama"))
    with pytest.raises(AssertionError, match="the cache changed a decision"):
        await check_warm(engine, about("llama"))
    await engine.cache.clear()


async def test_the_shared_prompt_serves_a_chat_and_a_chat_serves_it(
    tiny_model: TinyModel, engine_for: EngineFor
) -> None:
    engine = await engine_for(tiny_model("qwen3_vl"))
    await engine.cache.clear()
    seen = picture("blue")
    answer = await ask(engine, chat(seen, "What is it?"))
    decided = await engine.decide(Request(messages=(user(seen),)), QUESTIONS)
    assert 0 < decided.done.usage.cached_tokens < answer.done.usage.prompt_tokens
    again = await ask(engine, chat(seen, "And what is this?"))
    assert again.done.usage.cached_tokens >= decided.done.usage.cached_tokens
    assert not (await settled(engine)).cache.blocks_in_use


async def test_the_order_of_options_changes_nothing(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("qwen3_vl"))
    asked = QUESTIONS[2]
    turned = replace(asked, options=asked.options[::-1])
    one, other = (await engine.decide(about("qwen3_vl"), (asked, turned))).answers
    assert other.probabilities[::-1] == one.probabilities, "their order counts"


async def test_sabotage_options_listed_as_they_came_are_seen(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.prompt import questions

    monkeypatch.setattr(questions, "_listed", lambda asked: list(asked.options))
    with pytest.raises(AssertionError, match="their order counts"):
        await test_the_order_of_options_changes_nothing(tiny_model, engine_for)


class Passes:
    """Counts the rows of each pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        score = scorer.score

        def counted(adapter: Adapter, stems: Any, *rest: Any) -> Any:
            self.rows.append(len(stems))
            return score(adapter, stems, *rest)

        monkeypatch.setattr(scorer, "score", counted)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    return Passes(monkeypatch)


def many(num: int) -> tuple[TypedQuestion, ...]:
    return tuple(question("predicate", f"Is number {i} among them?") for i in range(num))


async def test_the_prompt_is_computed_once_and_the_questions_in_few_passes(
    tiny_model: TinyModel, engine_for: EngineFor, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(tiny_model("llama"), cache=CacheConfig(enabled=False))
    computed: list[int] = []
    prefill = Adapter.prefill

    def counted(self: Adapter, ids: Any, span: tuple[int, int], *rest: Any) -> None:
        computed.append(span[1] - span[0])
        prefill(self, ids, span, *rest)

    monkeypatch.setattr(Adapter, "prefill", counted)
    one = await engine.decide(about("llama"), many(1))
    shared = sum(computed)
    passes.rows.clear()
    computed.clear()
    decided = await engine.decide(about("llama"), many(100))
    assert sum(computed) == shared and sum(passes.rows) == 100 and len(passes.rows) < 20
    usage = decided.done.usage
    assert usage.prompt_tokens == pytest.approx(shared + 100 * (one.done.usage.prompt_tokens - shared), rel=0.05)
    assert (usage.completion_tokens, usage.cached_tokens) == (0, 0)


async def check_cancelled(engine: Any, passes: Passes) -> None:
    """Another answers as alone, nothing of the cancelled one goes on or is held, and what it left in the cache is
    right."""
    beside = chat("I stay.", max_tokens=60)
    alone = (await ask(engine, beside)).token_ids
    staying = asyncio.create_task(ask(engine, beside))
    going = asyncio.create_task(engine.decide(about("llama"), many(200)))
    while len(passes.rows) < 3:
        await asyncio.sleep(0.001)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert (await staying).token_ids == alone
    state = await settled(engine)
    assert sum(passes.rows) < 200, "it went on"
    assert not state.cache.blocks_in_use, "blocks are still held"
    warm = (await engine.decide(about("llama"), QUESTIONS)).answers
    cold = (await engine.decide(replace(about("llama"), reuse=False), QUESTIONS)).answers
    assert far_apart(warm, cold) < ROUNDING, "the cache changed a decision"


async def test_cancelled_is_as_if_never_started(tiny_model: TinyModel, engine_for: EngineFor, passes: Passes) -> None:
    await check_cancelled(await engine_for(tiny_model("llama"), prefill_chunk_tokens=32), passes)


@pytest.mark.parametrize(
    ("owner", "method", "seen"), [(Endings, "cancel", "it went on"), (PrefixCache, "end", "blocks are still held")]
)
async def test_sabotage_a_cancelled_call_that_leaves_something_is_seen(
    tiny_model: TinyModel,
    engine_for: EngineFor,
    passes: Passes,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    seen: str,
) -> None:
    """Twins: nobody hears of it, so all its questions are answered; what it holds of the cache is not given back."""
    engine = await engine_for(tiny_model("llama"), prefill_chunk_tokens=32, max_num_seqs=7)  # of its own: it is spoilt
    monkeypatch.setattr(owner, method, lambda *_: None)
    with pytest.raises(AssertionError, match=seen):
        await check_cancelled(engine, passes)


async def test_a_pass_that_fails_ends_the_call_and_no_other(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(tiny_model("llama"))
    beside = chat("I stay.", max_tokens=40)
    alone = (await ask(engine, beside)).token_ids
    forward, calls = Adapter._forward, count()

    def broken(self: Adapter, ids: Any, cache: Any, *rest: Any, **named: Any) -> Any:
        if isinstance(cache[0], tensors._SharedTextKV) and next(calls) == 0:
            raise RuntimeError("no memory")
        return forward(self, ids, cache, *rest, **named)

    monkeypatch.setattr(Adapter, "_forward", broken)
    staying = asyncio.create_task(ask(engine, beside))
    with pytest.raises(Exception, match="failed on this prompt"):
        await engine.decide(about("llama"), QUESTIONS)
    assert (await staying).token_ids == alone
    assert len((await engine.decide(about("llama"), QUESTIONS)).answers) == len(QUESTIONS)
    assert not (await settled(engine)).cache.blocks_in_use


async def gap(engine: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """Tokens of questions, with padding, between two steps of a row that comes while they are answered."""
    from engine.models.batch import Batch

    gaps = [0]
    logits_at, step = Adapter.logits_at, Batch.step

    def counted(adapter: Adapter, rows: Any, *rest: Any) -> Any:
        gaps[-1] += rows.size
        return logits_at(adapter, rows, *rest)

    def stepped(batch: Any) -> Any:
        gaps.append(0)
        return step(batch)

    with monkeypatch.context() as patch:
        patch.setattr(Adapter, "logits_at", counted)
        patch.setattr(Batch, "step", stepped)
        deciding = asyncio.create_task(engine.decide(about("llama"), many(160)))
        while not gaps[-1]:
            await asyncio.sleep(0.001)
        running = engine.stream(chat("Go on for ever.", max_tokens=3000, ignore_eos=True))
        await anext(running)
        while len(gaps) < 2:
            await asyncio.sleep(0.001)
        first = len(gaps) - 1
        await deciding
    await running.aclose()
    await settled(engine)
    between = [size for size in gaps[first:] if size]
    assert between, "the questions were answered before the row came"
    return max(between)


async def test_running_rows_go_on_between_the_passes(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(tiny_model("llama"), prefill_chunk_tokens=64)
    assert await gap(engine, monkeypatch) <= 2 * 64


async def test_sabotage_passes_without_a_limit(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.runtime.decisions.scoring import Scoring

    next_rows = Scoring.next_rows
    monkeypatch.setattr(Scoring, "next_rows", lambda self, tokens, *rest: next_rows(self, 8 * tokens, *rest))
    engine = await engine_for(tiny_model("llama"), prefill_chunk_tokens=64)
    assert await gap(engine, monkeypatch) > 2 * 64


# -- questions of their own --------------------------------------------------------------------------------------------


async def test_a_question_with_a_picture_of_its_own(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    folder = tiny_model("qwen3_vl")
    engine = await engine_for(folder)
    request = Request(messages=(user(picture("red"), "The first."),))
    pictured = question("choice", ("Is it like this? ", picture("blue", "square"), " Say."), "one", "two")
    words, same, pictured_answer = (await engine.decide(request, (QUESTIONS[0], QUESTIONS[3], pictured))).answers
    assert far_apart((words, same), (await engine.decide(request, (QUESTIONS[0], QUESTIONS[3]))).answers) < ROUNDING
    expected = await by_likelihood(engine, folder, request, pictured)
    assert list(pictured_answer.probabilities) == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize("enabled", [True, False])
async def test_long_questions_and_long_lists(tiny_model: TinyModel, engine_for: EngineFor, enabled: bool) -> None:
    """They are prompts of their own. What all share counts once where it was computed once."""
    folder = tiny_model("llama")
    engine = await engine_for(folder, cache=CacheConfig(enabled=enabled), prefill_chunk_tokens=64)
    request = Request(messages=(user("Read this. " * 30),))
    long = question("choice", "One more word. " * 40 + "Well?", *(f"number {i}" for i in range(255)))
    decided = await engine.decide(request, (QUESTIONS[0], long, QUESTIONS[3]))
    short = await engine.decide(request, (QUESTIONS[0], QUESTIONS[3]))
    own = await engine.decide(replace(request, messages=(user("."),)), (long,))
    assert far_apart((decided.answers[0], decided.answers[2]), short.answers) < ROUNDING
    assert len(decided.answers[1].probabilities) == 255
    expected = short.done.usage.prompt_tokens + own.done.usage.prompt_tokens
    assert (abs(decided.done.usage.prompt_tokens - expected) < 20) == enabled
    few = replace(long, options=long.options[7:12])
    (answer,) = (await engine.decide(request, (few,))).answers
    assert list(answer.probabilities) == pytest.approx(await by_likelihood(engine, folder, request, few), abs=ROUNDING)


async def test_a_template_that_shares_nothing_is_asked_one_by_one(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a processor writes the prompt anew: its end is not that of the text."""
    from engine.prompt.question_tokens import QuestionPrompts

    engine = await engine_for(tiny_model("llama"))
    expected = (await engine.decide(about("llama"), QUESTIONS)).answers
    suffixes = QuestionPrompts._suffixes
    tampered = count()

    def other(self: QuestionPrompts, request: Request, media: Any) -> Any:
        next(tampered)
        found, tail = suffixes(self, request, media)
        return found, (*tail[:-1], tail[-1] + 1)

    monkeypatch.setattr(QuestionPrompts, "_suffixes", other)
    assert far_apart((await engine.decide(about("llama"), QUESTIONS)).answers, expected) < ROUNDING
    assert next(tampered) == 1
    assert not (await settled(engine)).running


async def test_a_conversation_and_a_system_prompt(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    folder = tiny_model("llama")
    engine = await engine_for(folder)
    told = [Message("system", (Part("text", text="Be brief."),)), user("Hello."), Message("assistant", (part("Hi."),))]
    for messages in (told, told[:2], told[:1]):
        request = Request(messages=tuple(messages))
        (answer,) = (await engine.decide(request, (QUESTIONS[1],))).answers
        expected = await by_likelihood(engine, folder, request, QUESTIONS[1])
        assert list(answer.probabilities) == pytest.approx(expected, abs=ROUNDING)


# -- refusals ----------------------------------------------------------------------------------------------------------


async def test_bad_questions_are_refused_by_name(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(tiny_model("llama"))
    for questions, words in (
        ((), "questions: between 1 and 400 are allowed, got 0"),
        (many(401), "got 401"),
        ((question("choice", "?", *map(str, range(256))),), r"questions\[0\]: between 1 and 255 options"),
        ((question("choice", "?", "a", " "),), "an option must have words"),
        ((question("predicate", " "),), r"questions\[0\].instructions: it must not be empty"),
        ((*many(1), question("choice", "?", "a", "word " * 200)), r"questions\[\d\]: an option may have 128 tokens"),
        ((question("score", "?", "low", "x" * 3_000),), "an option may have 128 tokens"),
    ):
        with pytest.raises(BadRequest, match=words):
            await engine.decide(about("llama"), questions)
    monkeypatch.setattr(question_tokens, "MAX_ALL_OPTION_TOKENS", 200)
    with pytest.raises(BadRequest, match="the options of all questions may have 200 tokens together"):
        await engine.decide(about("llama"), many(50))
    with pytest.raises(ContextOverflow, match="context is 4096"):
        await engine.decide(about("llama"), (question("predicate", "word " * 5000),))
    nearly = Request(messages=(user("word " * 4060),))
    with pytest.raises(ContextOverflow, match="context is 4096"):
        await engine.decide(nearly, (question("predicate", "So? " * 20),))


async def test_it_takes_one_place(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"), max_num_seqs=1, max_queue=1, prefill_chunk_tokens=32)
    long = question("choice", "One more word. " * 60, "one", "two")
    calls = [asyncio.create_task(engine.decide(about("llama"), (*many(20), long))) for _ in range(3)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end).__name__ for end in ended].count("Busy") == 1
    assert isinstance(next(end for end in ended if isinstance(end, Exception)), Busy)
    assert len((await engine.decide(about("llama"), many(2))).answers) == 2


# -- limits ------------------------------------------------------------------------------------------------------------

WAYS = question("choice", "Which?", *(f"no {i}" for i in range(70)), "a very long way to say that it is another one")
"""More ways than a row has room for, and a long one."""


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3_vl", "gemma3", "deepseek_vl_v2"])
async def test_a_question_with_many_ways_is_the_one_alone(
    tiny_model: TinyModel, engine_for: EngineFor, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In passes of one row each: behind the question itself nothing is read in some of them."""
    from engine.runtime.decisions.scoring import Scoring

    engine = await engine_for(tiny_model(family), prefill_chunk_tokens=2048, cache=CacheConfig(enabled=False))
    alone = (await engine.decide(about(family), (replace(WAYS, alone=True),))).answers
    together = (await engine.decide(about(family), (QUESTIONS[0], WAYS, QUESTIONS[2]))).answers
    assert far_apart(together[1:2], alone) < ROUNDING
    next_rows = Scoring.next_rows
    monkeypatch.setattr(Scoring, "next_rows", lambda self, tokens, *rest: next_rows(self, 1, *rest))
    one_by_one = (await engine.decide(about(family), (QUESTIONS[0], WAYS, QUESTIONS[2]))).answers
    assert far_apart(one_by_one, together) < ROUNDING


@dataclass
class PassSizes:
    """Of each pass over rows: how many places had logits, and tokens of KV of all rows, the shared ones included."""

    places: list[int] = field(default_factory=list)
    kv_tokens: list[int] = field(default_factory=list)
    num_rows: list[int] = field(default_factory=list)
    num_tokens: int = 0


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> PassSizes:
    found, logits_at = PassSizes(), Adapter.logits_at

    def counted(self: Adapter, rows: Any, places: Any, cache: Any, first: Any) -> Any:
        found.places.append(len(places))
        found.num_rows.append(rows.shape[0])
        found.kv_tokens.append(rows.shape[0] * (int(first.max().item()) + rows.shape[1]))
        found.num_tokens += rows.size
        return logits_at(self, rows, places, cache, first)

    monkeypatch.setattr(Adapter, "logits_at", counted)
    return found


async def check_places(engine: Any, family: str, sizes: PassSizes, most: int) -> tuple[Decision, ...]:
    sizes.places.clear()
    decided = await engine.decide(about(family), (QUESTIONS[2], WAYS, QUESTIONS[3], *many(20)))
    assert max(sizes.places) <= most, "more logits than there is room for"
    return tuple(decided.answers)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
async def test_the_logits_of_a_pass_have_a_limit_and_it_changes_no_answer(
    tiny_model: TinyModel, engine_for: EngineFor, family: str, sizes: PassSizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(tiny_model(family), prefill_chunk_tokens=2048, cache=CacheConfig(enabled=False))
    free = await check_places(engine, family, sizes, 10**6)
    assert max(sizes.places) > 5
    monkeypatch.setattr(question_tokens, "max_places", lambda num_ids: 5)
    assert far_apart(await check_places(engine, family, sizes, 5), free) < ROUNDING


async def test_sabotage_logits_without_a_limit_are_seen(
    tiny_model: TinyModel, engine_for: EngineFor, sizes: PassSizes
) -> None:
    engine = await engine_for(tiny_model("llama"), prefill_chunk_tokens=2048, cache=CacheConfig(enabled=False))
    with pytest.raises(AssertionError, match="more logits than there is room for"):
        await check_places(engine, "llama", sizes, 5)


async def check_memory(engine: Any, family: str, sizes: PassSizes) -> None:
    """The rows of a pass, each with what it shares, have no more KV than the sequence has memory for."""
    request = replace(about(family), messages=(user("Some words. " * 60), *about(family).messages))
    decided = await engine.decide(request, (WAYS, QUESTIONS[2], *many(9)))
    shared = decided.done.trace.computed_tokens + decided.done.trace.reused_tokens
    granted = padded_tokens([shared] * SCORED_ROWS)
    over = [tokens for tokens, rows in zip(sizes.kv_tokens, sizes.num_rows, strict=True) if rows > 1]
    assert over and max(over) <= granted, "more KV than there is memory for"


@pytest.mark.parametrize("family", ["gemma3", "qwen3_5"])
async def test_rows_that_are_copies_have_memory(
    tiny_model: TinyModel, engine_for: EngineFor, family: str, sizes: PassSizes
) -> None:
    """Of sliding windows and of states: there is no row in them that several could share."""
    engine = await engine_for(tiny_model(family), prefill_chunk_tokens=2048, cache=CacheConfig(enabled=False))
    await check_memory(engine, family, sizes)


async def test_sabotage_copies_without_a_limit_are_seen(
    tiny_model: TinyModel, engine_for: EngineFor, sizes: PassSizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer.Scorer, "_max_kv_tokens", staticmethod(lambda sequence: 10**9))
    engine = await engine_for(tiny_model("gemma3"), prefill_chunk_tokens=2048, cache=CacheConfig(enabled=False))
    with pytest.raises(AssertionError, match="more KV than there is memory for"):
        await check_memory(engine, "gemma3", sizes)
