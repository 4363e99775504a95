"""drawing: what a row says behind several tokens is what it says one after the other, and it can be set back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest

from engine.grammar.mask import AnswerMask
from engine.models import drawing
from engine.models.drawing import can_draw_ahead, draw_behind
from engine.models.sampling import LogitsProcessor, Penalties, Sampler, SeededSampler, make_processors, make_sampler
from engine.types import Sampling

VOCAB, PLACES = 40, 6
PROMPT = mx.array([3, 1, 4, 1, 5])
IDS = [9, 2, 6, 5, 3, 5]
ROWS = [
    Sampling(temperature=0.0),
    Sampling(temperature=0.0, repetition_penalty=1.5, frequency_penalty=0.7),
    Sampling(temperature=1.0, seed=1),
    Sampling(temperature=0.7, top_p=0.9, seed=2),
    Sampling(temperature=1.3, top_k=5, min_p=0.05, seed=3, logit_bias=((7, 2.0),)),
    Sampling(temperature=1.0, top_p=0.8, presence_penalty=0.5, repetition_penalty=0.8, seed=4),
]


def logits(seed: int = 0, places: int = PLACES, dtype: Any = mx.float32) -> mx.array:
    return (mx.random.normal((places, VOCAB), key=mx.random.key(seed)) * 3.0).astype(dtype)


def row(sampling: Sampling) -> tuple[Sampler, list[LogitsProcessor]]:
    """Its parts, which have drawn the first token behind the prompt."""
    sampler, processors = make_sampler(sampling), make_processors(sampling)
    said(sampler, processors, PROMPT, logits(99, 1))
    return sampler, processors


def said(sampler: Sampler, processors: list[LogitsProcessor], context: mx.array, last: mx.array) -> int:
    """As the batcher draws."""
    for process in processors:
        last = process(context, last)
    return int(sampler(last - mx.logsumexp(last, axis=-1, keepdims=True)).item())


def one_by_one(sampling: Sampling, found: mx.array) -> list[int]:
    sampler, processors = row(sampling)
    return [
        said(sampler, processors, mx.array([*PROMPT.tolist(), *IDS[: place + 1]]), found[place : place + 1])
        for place in range(len(IDS))
    ]


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("sampling", ROWS)
def test_what_is_drawn_at_once_is_what_is_drawn_one_by_one(sampling: Sampling, dtype: Any) -> None:
    found = logits(dtype=dtype)
    drawn = draw_behind(found, IDS, *row(sampling), 0.0)
    assert drawn.said == one_by_one(sampling, found) == drawn.tokens.tolist()
    assert len(drawn.logprobs) == PLACES and drawn.logprobs[0].shape == (VOCAB,)


@pytest.mark.parametrize("num_kept", [0, 1, 4, PLACES])
@pytest.mark.parametrize("sampling", ROWS)
def test_a_row_goes_on_from_any_place(sampling: Sampling, num_kept: int) -> None:
    found = logits()
    sampler, processors = row(sampling)
    drawn = draw_behind(found, IDS, sampler, processors, 0.0)
    drawn.go_on_behind(num_kept)
    rest = [
        said(sampler, processors, mx.array(IDS[: place + 1]), found[place : place + 1])
        for place in range(num_kept, PLACES)
    ]
    assert rest == one_by_one(sampling, found)[num_kept:]


def test_who_can_draw_ahead() -> None:
    for sampling in ROWS:
        assert can_draw_ahead(make_sampler(sampling), make_processors(sampling))
    assert not can_draw_ahead(make_sampler(Sampling(), forced=(1, 2)), [])
    mask = AnswerMask()
    for sampling in ROWS:
        assert can_draw_ahead(mask.watch(make_sampler(sampling)), [*make_processors(sampling), mask])
    assert not can_draw_ahead(mask.watch(make_sampler(Sampling(), forced=(1, 2))), [mask])
    assert not can_draw_ahead(make_sampler(Sampling()), [lambda _, logits: logits])


# -- sure --------------------------------------------------------------------------------------------------------------

NOISE = 0.05
FILTERED = [
    Sampling(temperature=0.0),
    Sampling(temperature=1.0),
    Sampling(temperature=0.5, top_p=0.7),
    Sampling(temperature=1.0, top_p=0.3),
    Sampling(temperature=2.0, top_k=3),
    Sampling(temperature=1.5, top_k=1),
    Sampling(temperature=2.0, min_p=0.3),
    Sampling(temperature=1.5, min_p=1.0),
    Sampling(temperature=1.5, top_p=0.8, top_k=6, min_p=0.1),
    Sampling(temperature=0.0, repetition_penalty=0.5),
    Sampling(temperature=0.7, repetition_penalty=1.3, frequency_penalty=0.5, top_k=8),
]


def moved(sampling: Sampling, count: int = 60, tries: int = 20) -> tuple[int, int]:
    """How many tokens that were sure became others where logits moved by NOISE, and how many were sure."""
    num_other = num_sure = 0
    ids = [place % VOCAB for place in range(count)]
    found = mx.round(logits(7, count) * 32) / 32  # many near ties, and ties
    for seed in range(2):
        settings = replace(sampling, seed=seed)
        drawn = draw_behind(found, ids, *row(settings), 2 * NOISE)
        num_sure += sum(drawn.is_sure)
        for at in range(tries):
            noise = mx.where(mx.random.bernoulli(0.5, found.shape, key=mx.random.key(1000 * seed + at)), NOISE, -NOISE)
            other = draw_behind(found + noise, ids, *row(settings), 0.0)
            pairs = zip(drawn.said, other.said, drawn.is_sure, strict=True)
            num_other += sum(one != two for one, two, is_sure in pairs if is_sure)
    return num_other, num_sure


@pytest.mark.parametrize("sampling", FILTERED)
def test_a_sure_token_is_the_same_whatever_the_noise(sampling: Sampling) -> None:
    num_other, num_sure = moved(sampling)
    assert num_other == 0
    assert num_sure >= 20, "hardly any is sure: the check would prove little"


def as_they_are(sampler: Any, logprobs: mx.array, own: mx.array, more: float) -> mx.array:
    return keeps(sampler, logprobs, own, math.copysign(1e-9, more))


keeps = SeededSampler.keeps


def less(function: Any) -> Any:
    return lambda *arguments: function(*arguments[:-1], arguments[-1] / 20)


@pytest.mark.parametrize(
    ("owner", "name", "fault", "seen_in"),
    [
        (SeededSampler, "keeps", as_they_are, FILTERED[2:9]),
        (SeededSampler, "keeps", less(SeededSampler.keeps), FILTERED[2:9]),
        (drawing, "_drawn", less(drawing._drawn), FILTERED[1:2]),
        (drawing, "_near", less(drawing._near), FILTERED[:2]),
        (Penalties, "gain", 1.0, FILTERED[9:10]),
    ],
    ids=["filters are left out", "too little for filters", "too little for the draw", "too little", "no gain"],
)
def test_sabotage_what_is_called_sure_too_soon_is_seen(
    owner: Any, name: str, fault: Any, seen_in: list[Sampling], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "gain":
        monkeypatch.setattr(Penalties, "gain", property(lambda _: fault, lambda *_: None), raising=False)
    else:
        monkeypatch.setattr(owner, name, fault)
    assert any(moved(sampling)[0] for sampling in seen_in)
