"""Sound, on the tiny random gemma4: the model hears what was sent, all of it, and never another one's.

Each check has a sabotage twin that breaks one thing and must see the same check go red.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from engine.config import CacheConfig, EngineConfig, MediaLimits, ModelSpec
from engine.errors import BadMedia, BadRequest
from engine.media.read_medium import load_media
from engine.models import registry
from engine.models.config_facts import has_ears
from engine.prompt import audio as sounds_module
from engine.prompt import build as build_module
from engine.prompt.audio import sounds
from engine.prompt.build import build_prompt
from engine.types import FrameSampling
from engine.types.prompt import Prompt
from tests.conftest import EngineFor
from tests.engine.drive import Answer, Piece, Tape, ask, chat
from tests.engine.oracle import Oracle
from tests.pictures import picture
from tests.sounds import noise, tone, wav

TinyModel = Callable[..., Path]
TONE, HIGH, NOISE = wav(tone(440)), wav(tone(3000, 1.4)), wav(noise(seconds=0.6))
NO_CACHE = CacheConfig(enabled=False)


@pytest.fixture(scope="module")
def loaded(tiny_model: TinyModel) -> registry.Loaded:
    return registry.load(EngineConfig(model=ModelSpec(str(tiny_model("gemma4")))))


def built(loaded: registry.Loaded, *pieces: Piece) -> Prompt:
    request = chat(*pieces)
    parts = [p for m in request.messages for p in m.parts if p.kind != "text"]
    return build_prompt(loaded, request, tuple(load_media(p, MediaLimits(), FrameSampling()) for p in parts))


def answer(loaded: registry.Loaded, chunk_tokens: int, *pieces: Piece) -> list[int]:
    """Six greedy tokens by the adapter alone."""
    made, cache = built(loaded, *pieces), loaded.adapter.make_cache()
    features, last = loaded.adapter.embed(made, cache), len(made.ids) - 1
    for start in range(0, last, chunk_tokens):
        loaded.adapter.prefill(made.ids, (start, min(start + chunk_tokens, last)), cache, features)
    tokens = [made.ids[-1]]
    for _ in range(6):
        tokens.append(int(loaded.adapter(mx.array([[tokens[-1]]]), cache)[0, -1].argmax().item()))
    return tokens[1:]


def heard(loaded: registry.Loaded, *pieces: Piece) -> list[np.ndarray]:
    """What the model gets of each sound: its embeddings, (tokens, hidden)."""
    made = built(loaded, *pieces)
    features = loaded.adapter.embed(made, loaded.adapter.make_cache())
    assert features is not None
    spans = [placed.span for placed in made.media if placed.media.kind == "audio"]
    return [np.array(features.window(s.start, s.end)["inputs_embeds"][0]) for s in spans]


# -- it hears what was sent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [(TONE, "What?"), ("Before", NOISE, "after."), (picture("red"), TONE, "Both?")])
def test_the_stock_answer(tiny_model: TinyModel, loaded: registry.Loaded, pieces: Sequence[Piece]) -> None:
    """One sound, alone or with a picture, in any chunking: exactly mlx-vlm's own tokens."""
    oracle = Oracle.load(tiny_model("gemma4"), vision=True)
    expected = oracle.greedy(chat(*pieces).messages, 6, native_video=True)
    for chunk_tokens in (2048, 7):
        assert answer(loaded, chunk_tokens, *pieces) == expected


def test_another_sound_is_another_answer(loaded: registry.Loaded) -> None:
    answers = {tuple(answer(loaded, 512, sound, "What?")) for sound in (TONE, HIGH, NOISE)}
    assert len(answers) == 3


def check_each_is_heard_as_alone(loaded: registry.Loaded) -> None:
    together = heard(loaded, TONE, "and", HIGH, picture("red"), NOISE, "What?")
    for sound, got in zip((TONE, HIGH, NOISE), together, strict=True):
        (alone,) = heard(loaded, sound, "What?")
        same = got.shape == alone.shape and np.allclose(got, alone, atol=1e-3)
        assert same, "a sound is heard differently in company"


def test_several_sounds_are_heard_as_each_alone(loaded: registry.Loaded) -> None:
    check_each_is_heard_as_alone(loaded)


def test_sabotage_stock_mlx_vlm_hears_padding_in_place_of_the_next_sound(
    loaded: registry.Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin, and the reason: sounds of different lengths in one pass."""
    monkeypatch.setattr(build_module, "without_sounds", lambda inputs: inputs)
    monkeypatch.setattr(loaded.adapter, "_with_sounds", lambda embeddings, *_: embeddings)
    with pytest.raises(AssertionError, match="heard differently in company"):
        check_each_is_heard_as_alone(loaded)


def check_features_fill_the_tokens(loaded: registry.Loaded, samples: int) -> None:
    """mlx-vlm begins again at the first feature where there are fewer than placeholders."""
    made = built(loaded, wav(noise()[:samples]), "What?")
    model = loaded.adapter.model
    mask = ~made.inputs["input_features_mask"].astype(mx.bool_)
    features, _ = model.audio_tower(made.inputs["input_features"], mask)
    assert made.media[0].tokens <= features.shape[1], "more tokens than features"


@pytest.mark.parametrize("samples", [400, 640, 641, 15_999, 16_000])
def test_the_tower_has_a_feature_for_every_token(loaded: registry.Loaded, samples: int) -> None:
    check_features_fill_the_tokens(loaded, samples)


def test_sabotage_a_sound_of_half_a_token_more_is_seen(
    loaded: registry.Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sounds_module, "_whole_tokens", lambda samples, _: samples)
    with pytest.raises(AssertionError, match="more tokens than features"):
        check_features_fill_the_tokens(loaded, 641)


def test_another_rate_is_resampled_as_mlx_vlm_does(loaded: registry.Loaded, tmp_path: Path) -> None:
    from mlx_vlm.utils import load_audio

    data = wav(tone(700, 0.8, 44_100), 44_100, channels=2)
    (tmp_path / "sound.wav").write_bytes(data)
    part = chat(data).messages[0].parts[0]
    (got,) = sounds(loaded, [load_media(part, MediaLimits(), FrameSampling())])
    expected = load_audio(str(tmp_path / "sound.wav"), sr=16_000)
    assert np.allclose(got[: len(expected)], expected, atol=1e-5)
    assert not got[len(expected) :].any(), "only silence is added"


# -- in a batch, and from the cache ------------------------------------------------------------------------------------


async def test_alone_and_in_a_batch(engine_for: EngineFor, tiny_model: TinyModel, tape: Tape) -> None:
    engine = await engine_for(tiny_model("gemma4"), prefill_chunk_tokens=16, cache=NO_CACHE)
    requests = [
        chat(TONE, "What?", max_tokens=16, id="tone"),
        chat(NOISE, HIGH, "Compare.", max_tokens=12, id="two"),
        chat(picture("red"), HIGH, "Both?", max_tokens=12, id="both"),
        chat("No sound.", max_tokens=16, id="text"),
    ]
    for request in requests:
        await ask(engine, replace(request, id=f"alone-{request.id}"))
    await asyncio.gather(*(ask(engine, request) for request in requests))
    for request in requests:
        assert tape.tokens[request.id] == tape.tokens[f"alone-{request.id}"]
    assert len({tuple(tape.tokens[request.id]) for request in requests}) == len(requests)


async def cold(tiny_model: TinyModel, engine_for: EngineFor, tape: Tape, pieces: Sequence[Piece]) -> list[int]:
    engine = await engine_for(tiny_model("gemma4"), prefill_chunk_tokens=16, cache=NO_CACHE)
    await ask(engine, chat(*pieces, id="cold"))
    return tape.tokens.pop("cold")


async def warm(engine: Any, tape: Tape, name: str, pieces: Sequence[Piece]) -> tuple[Answer, list[int]]:
    found = await ask(engine, chat(*pieces, id=name))
    return found, tape.tokens[name]


async def check_the_cache_tells_sounds_apart(tiny_model: TinyModel, engine_for: EngineFor, tape: Tape) -> None:
    """Same sound, other question: reused and right. Other sound, or the two swapped: nothing of a sound is reused."""
    engine = await engine_for(tiny_model("gemma4"), prefill_chunk_tokens=16)
    await engine.cache.clear()
    first, _ = await warm(engine, tape, "first", (TONE, NOISE, "What?"))
    assert first.done.usage.cached_tokens == 0
    again, tokens = await warm(engine, tape, "again", (TONE, NOISE, "What else is there?"))
    assert again.done.usage.cached_tokens >= sum(receipt.tokens for receipt in first.done.media)
    assert tokens == await cold(tiny_model, engine_for, tape, (TONE, NOISE, "What else is there?"))
    louder = wav(tone(440) * 0.5)
    for name, pieces in (("swapped", (NOISE, TONE, "What?")), ("louder", (louder, NOISE, "What?"))):
        other, tokens = await warm(engine, tape, name, pieces)
        assert other.done.usage.cached_tokens < first.done.media[0].tokens, name
        assert tokens == await cold(tiny_model, engine_for, tape, pieces), name


async def test_the_cache_tells_sounds_apart(tiny_model: TinyModel, engine_for: EngineFor, tape: Tape) -> None:
    await check_the_cache_tells_sounds_apart(tiny_model, engine_for, tape)


async def test_sabotage_sounds_keyed_by_their_length_are_seen(
    tiny_model: TinyModel, engine_for: EngineFor, tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: two sounds of one length share a key."""
    keyed = build_module.cache_ids

    def by_length(ids: Any, media: Any, **settings: Any) -> list[int]:
        return keyed(ids, [replace(p, media=replace(p.media, sha256=str(p.tokens))) for p in media], **settings)

    monkeypatch.setattr(build_module, "cache_ids", by_length)
    with pytest.raises(AssertionError, match="louder"):
        await check_the_cache_tells_sounds_apart(tiny_model, engine_for, tape)


# -- what is said about it ---------------------------------------------------------------------------------------------


async def test_the_receipt(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("gemma4"))
    card = await engine.ready()
    assert card.audio and card.audios_per_prompt is None
    receipts = (await ask(engine, chat(picture("red"), HIGH, "and", TONE, "?", max_tokens=2))).done.media
    _, high, low = receipts
    assert [receipt.kind for receipt in receipts] == ["image", "audio", "audio"]
    assert (high.duration_s, high.tokens, high.num_bytes) == (1.4, 35, len(HIGH))
    assert (low.duration_s, low.tokens) == (1.0, 25)
    assert high.sha256 != low.sha256
    assert high.decoded_px == high.seen_px == (0, 0)
    assert high.decode_ms > 0


async def test_too_long_for_the_family_is_refused(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    """The processor would cut it off at 30 s without a word."""
    engine = await engine_for(tiny_model("gemma4"))
    with pytest.raises(BadMedia, match=r"the sound lasts 30\.5 s; gemma4-float32 hears at most 30 s"):
        await ask(engine, chat(wav(tone(seconds=30.5)), "What?"))
    done = (await ask(engine, chat(wav(tone(seconds=30.0)), "What?", max_tokens=2))).done
    assert done.media[0].tokens == 750


async def test_more_than_allowed_is_refused(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("gemma4"), media=MediaLimits(max_audios=1))
    with pytest.raises(BadRequest, match="2 audios were sent; the limit is 1 per prompt"):
        await ask(engine, chat(TONE, NOISE, "What?"))


async def test_a_family_that_does_not_hear_says_so(
    demo_engine: Any, engine_for: EngineFor, tiny_model: TinyModel
) -> None:
    for engine in (demo_engine, await engine_for(tiny_model("qwen3_vl"))):
        assert not (await engine.ready()).audio
        with pytest.raises(BadRequest, match="cannot take audio input") as caught:
            await ask(engine, chat(TONE, "What?"))
        assert caught.value.code == "unsupported_media"


def test_a_gemma4_without_ears_does_not_hear(loaded: registry.Loaded) -> None:
    """The larger ones come without an audio tower; their processor has a feature extractor all the same."""
    assert has_ears(loaded.config, loaded.family)
    assert not has_ears(loaded.config | {"audio_config": None}, loaded.family)


async def test_the_preflight_knows_sounds(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("gemma4"))
    request = chat(picture("red"), TONE, "What?", max_tokens=2)
    found = await engine.preflight(request, pictures=True)
    done = (await ask(engine, request)).done
    assert [receipt.tokens for receipt in found.media] == [receipt.tokens for receipt in done.media]
    assert len(found.tokens) == done.usage.prompt_tokens
    assert [len(shown) for shown in found.pictures] == [1, 0], "a sound has no picture"
