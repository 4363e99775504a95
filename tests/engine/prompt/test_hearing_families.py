"""Every family that hears, by few requests: mlx-vlm's tokens, each sound as if alone, receipts, the longest sound."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from engine.errors import BadMedia, BadRequest
from engine.inventory.checkpoint_facts import read_checkpoint
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


def silence(seconds: float) -> bytes:
    return wav(np.zeros(round(16_000 * seconds), np.float32))


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
def test_what_it_would_not_hear_is_refused(folder: Path, family: str) -> None:
    """A sound of which the processor would cut off the end, and one that is too short for a token of its own."""
    loaded, row = load(folder), ROWS[family]
    if longest := row.max_sound_s:
        with pytest.raises(BadMedia, match=rf"the sound lasts {longest + 0.5:.1f} s; .* hears at most {longest:g} s"):
            built(loaded, silence(longest + 0.5), "What?")
    if shortest := row.min_sound_s:
        with pytest.raises(BadMedia, match=rf"hears nothing of less than {shortest:g} s"):
            built(loaded, silence(shortest - 0.01), "What?")
    least = max(shortest, 0.03)
    brief = heard(loaded, wav(tone(440, least)), "What?")[0], heard(loaded, wav(noise(seconds=least)), "What?")[0]
    assert not np.allclose(*brief), "a short sound is not heard"


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


# -- what single ones need ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["phi4mm", "minicpmo"])
def test_sounds_stand_where_they_were_sent_under_a_template_of_texts(folder: Path, family: str) -> None:
    """As their own templates are. mlx-vlm would put all sounds of a message before its pictures, or into the last
    message."""
    loaded = load(folder)
    loaded.tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}"
    prompt = built(loaded, "First", RED, "then", SHORT, "and", HIGH, "Compare <|audio_1|> and <audio>.")
    assert [placed.kind for placed in prompt.media] == ["image", "audio", "audio"]
    starts = [span.start for span in prompt.spans]
    assert len(starts) == 3 and starts == sorted(starts)
    words = [loaded.decode(prompt.ids[a.end : b.start]) for a, b in pairwise(prompt.spans)]
    assert "then" in words[0] and "and" in words[1]
    assert num_placeholders(loaded, prompt) == sum(placed.tokens for placed in prompt.media)


def _put_adapters(folder: Path) -> None:
    """Split one layer's weights into a base and two adapters, as the published files have them."""
    file = folder / "model.safetensors"
    weights = dict(mx.load(str(file)))
    name = "language_model.model.layers.0.self_attn.qkv_proj"
    base = weights.pop(f"{name}.weight")
    name = name.removeprefix("language_model.")
    weights[f"{name}.base_layer.weight"] = base
    for adapter in ("vision", "speech"):
        weights[f"{name}.lora_A.{adapter}.weight"] = mx.ones((4, base.shape[1]))
        weights[f"{name}.lora_B.{adapter}.weight"] = mx.ones((base.shape[0], 4))
    mx.save_safetensors(str(file), weights)


@pytest.mark.parametrize("has_weights", [True, False], ids=["published", "converted"])
@pytest.mark.parametrize("family", ["phi4mm"])
async def test_adapters_that_take_turns_make_it_deaf(
    folder: Path, family: str, has_weights: bool, engine_for: EngineFor, tmp_path: Path
) -> None:
    """Phi-4-Multimodal as published: given a sound, mlx-vlm puts other weights under all rows of a batch. What mlx-vlm
    has converted names the adapter, too, and does not hold its weights."""
    apart = shutil.copytree(folder, tmp_path / "apart")
    config = json.loads((apart / "config.json").read_text()) | {"speech_lora": {"r": 4, "lora_alpha": 8}}
    (apart / "config.json").write_text(json.dumps(config))
    if has_weights:
        _put_adapters(apart)
    engine = await engine_for(apart)
    assert (await ask(engine, chat(RED, "What?", max_tokens=2))).token_ids
    with pytest.raises(BadRequest, match="cannot take audio input: its adapter for sounds would take the place"):
        await ask(engine, chat(LOW, "What?"))
    assert read_checkpoint(apart).modalities == ("image", "video")
