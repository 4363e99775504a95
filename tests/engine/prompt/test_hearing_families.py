"""Every family that hears, by few requests: mlx-vlm's tokens, each sound as if alone, receipts, the longest sound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from engine.errors import BadMedia
from engine.inventory.checkpoint import read_checkpoint
from engine.models import registry
from engine.models.families import FAMILIES as ROWS
from engine.prompt import build as build_module
from tests import tiny
from tests.conftest import EngineFor
from tests.engine.drive import Piece, ask, chat
from tests.engine.models.test_adapter import greedy, load
from tests.engine.models.test_odd_families import embedded
from tests.engine.oracle import Oracle
from tests.engine.prompt.test_receipts import built, num_placeholders
from tests.engine.prompt.test_receipts import check as check_receipts
from tests.families import APART, FAMILIES
from tests.pictures import picture
from tests.sounds import noise, tone, wav

HEARING = [name for name, row in ROWS.items() if row.audios_per_prompt != 0]
TINY = FAMILIES | APART
NUM_TOKENS = 6
RED = picture("red", size=(64, 64))
LOW, HIGH, SHORT = wav(tone(440)), wav(tone(3000)), wav(noise(seconds=0.6))
NOISE = wav(noise(seconds=0.685))
"""As long as Gemma 3n's last token of it must be, to look at what lies behind."""

CASES: list[list[Piece]] = [
    [LOW, "What is it, in a question that is cut in several places?"],
    [HIGH, "What is it, in a question that is cut in several places?"],
    ["First", RED, "then", SHORT, "Compare."],
    [HIGH, "or", LOW, "Which?"],  # of one length: there mlx-vlm itself is right in every family
]


@pytest.fixture
def folder(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: Callable[..., Path],
    models_dir: Path,
) -> Path:
    """The checkpoint of the family that the test is parametrized by, and mlx-vlm's own sizes made as small."""
    name = request.node.callspec.params["family"]
    return tiny.build_apart(name, monkeypatch, models_dir) if name in APART else tiny_model(name)


def heard(loaded: registry.Loaded, *pieces: Piece) -> list[np.ndarray]:
    """What the model gets of each medium: its embeddings, (tokens, hidden)."""
    found, spans = embedded(loaded, *pieces)
    return [np.array(found.window(span.start, span.stop)["inputs_embeds"][0].astype(mx.float32)) for span in spans]


def check_each_is_heard_as_alone(loaded: registry.Loaded) -> None:
    """Sounds of any length, one right behind the other, and a picture: which is what their cache ids say."""
    pieces = (NOISE, LOW, "and", RED, HIGH)
    media = [piece for piece in pieces if not isinstance(piece, str)]
    for piece, got in zip(media, heard(loaded, *pieces, "What?"), strict=True):
        (alone,) = heard(loaded, piece, "What?")
        assert got.shape == alone.shape, "another number of tokens in company"
        assert np.allclose(got, alone, atol=1e-4, rtol=1e-4), "heard differently in company"


@pytest.mark.parametrize("family", HEARING)
def test_any_chunking_gives_the_stock_answer(folder: Path, family: str) -> None:
    loaded, oracle = load(folder), Oracle.load(folder, vision=True)
    assert loaded.card.audio and "audio" in read_checkpoint(folder).modalities
    answers = []
    for pieces in CASES:
        expected = oracle.greedy(chat(*pieces).messages, NUM_TOKENS, native_video=True)
        for chunk_tokens in (2048, 24):
            assert greedy(loaded, pieces, chunk_tokens)[: len(expected)] == expected, f"chunks of {chunk_tokens}"
        answers.append(tuple(expected))
    assert len(set(answers)) == len(answers), "the sounds do not matter"


@pytest.mark.parametrize("family", HEARING)
def test_several_sounds_are_heard_as_each_alone(folder: Path, family: str) -> None:
    loaded = load(folder)
    check_each_is_heard_as_alone(loaded)
    check_receipts(loaded, NOISE, LOW, RED, HIGH)
    shape = TINY[family]
    spelled = "".join(dict.fromkeys(filter(None, (shape.image, shape.audio, *shape.tokens))))
    prompt = built(loaded, LOW, f"What is {spelled}?")
    assert num_placeholders(loaded, prompt) == prompt.media[0].tokens, "a user has written a placeholder"


@pytest.mark.parametrize("family", HEARING)
async def test_warm_and_in_a_batch_is_as_cold_and_alone(
    folder: Path, family: str, engine_for: EngineFor, steps: list[int]
) -> None:
    engine = await engine_for(folder)
    requests = [chat(*pieces, max_tokens=NUM_TOKENS) for pieces in [*CASES, [NOISE, LOW, RED, HIGH, "What?"]]]
    cold = [await ask(engine, request) for request in requests]
    warm = await asyncio.gather(*(ask(engine, request) for request in requests))
    assert [answer.token_ids for answer in warm] == [answer.token_ids for answer in cold]
    assert max(steps) > 1 and all(answer.done.usage.cached_tokens > 0 for answer in warm)
    assert [receipt.duration_s for receipt in warm[-1].done.media if receipt.kind == "audio"] == [0.685, 1.0, 1.0]


@pytest.mark.parametrize("family", HEARING)
def test_a_sound_that_would_be_cut_off_is_refused(folder: Path, family: str) -> None:
    loaded = load(folder)
    longest = ROWS[family].max_sound_s or 30.0
    silence = wav(np.zeros(round(16_000 * (longest + 0.5)), np.float32))
    with pytest.raises(BadMedia, match=rf"the sound lasts {longest + 0.5:.1f} s; .* hears at most {longest:g} s"):
        built(loaded, silence, "What?")


@pytest.mark.parametrize("family", ["gemma3n"])
def test_sabotage_sounds_in_one_pass_are_heard_differently(
    folder: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: as mlx-vlm alone has it, padded to the longest."""
    loaded = load(folder)
    monkeypatch.setattr(build_module, "without_sounds", lambda inputs: inputs)
    monkeypatch.setattr(loaded.adapter, "_with_sounds", lambda embeddings, *_: embeddings)
    with pytest.raises(AssertionError, match="heard differently in company"):
        check_each_is_heard_as_alone(loaded)
