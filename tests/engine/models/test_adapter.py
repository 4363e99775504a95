"""adapter: any chunking gives the stock library's own answer; row state follows its row; mlx-vlm is as we know it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from engine.cache.row_state import RowState
from engine.config import EngineConfig, MediaLimits, ModelSpec
from engine.media.read_medium import load_media
from engine.models import adapter as adapter_module
from engine.models import embeddings as embeddings_module
from engine.models import registry
from engine.models.adapter import GroupedMask
from engine.models.embeddings import Embeddings
from engine.models.families import family as family_row
from engine.prompt.build import build_prompt
from engine.types import FrameSampling
from tests import tiny
from tests.engine.drive import Piece, chat
from tests.engine.oracle import Oracle
from tests.families import FAMILIES, INTERLEAVE, TEXT, VISION
from tests.pictures import picture

TinyModel = Callable[..., Path]
WHOLE = [name for name in VISION if family_row(name).whole_prompt]
RUNNABLE = [name for name in VISION if name not in WHOLE]
WORDS = "A question that is long enough to be cut in several places by the smallest of the chunks."


def load(folder: Path) -> registry.Loaded:
    return registry.load(EngineConfig(model=ModelSpec(str(folder))))


def greedy(loaded: registry.Loaded, pieces: list[Piece], chunk_tokens: int, count: int = 6) -> list[int]:
    """An answer by the adapter alone: the prompt in chunks of a size, then single steps; no batcher."""
    request = chat(*pieces)
    media = tuple(
        load_media(p, MediaLimits(), FrameSampling()) for m in request.messages for p in m.parts if p.kind != "text"
    )
    prompt = build_prompt(loaded, request, media)
    cache = loaded.adapter.make_cache()
    features = loaded.adapter.embed(prompt, cache)
    *chunks, rest = range(0, len(prompt.ids), chunk_tokens)
    for start in chunks:
        loaded.adapter.prefill(prompt.ids, (start, start + chunk_tokens), cache, features)
    logits = loaded.adapter.finish(prompt.ids, rest, cache, features)
    tokens = [int(logits[0].argmax().item())]
    while len(tokens) < count:
        logits = loaded.adapter(mx.array([[tokens[-1]]]), cache)
        tokens.append(int(logits[0, -1].argmax().item()))
    return tokens


# -- the stock library's answer, however the prompt is cut -------------------------------------------------------------


@pytest.mark.parametrize("family", [*VISION, *TEXT])
def test_any_chunking_gives_the_stock_answer(tiny_model: TinyModel, family: str, clip_path: Path) -> None:
    """Chunks that cut pictures too, where the family allows chunks. float32: exactly the tokens of stream_generate."""
    folder, sees = tiny_model(family), FAMILIES[family].vision
    loaded, oracle = load(folder), Oracle.load(folder, vision=sees)
    cases: list[list[Piece]] = [[WORDS]]
    if sees:
        cases += [[picture("red"), WORDS]]
    if loaded.card.images_per_prompt is None and sees:
        cases += [[WORDS, picture("blue", "square"), picture("red"), "And?"]]
    if loaded.card.video:
        cases += [[clip_path, "What moves?"]]
    for pieces in cases:
        native = loaded.card.native_video
        expected = oracle.greedy(chat(*pieces).messages, 6, native_video=native)
        for chunk_tokens in (2048,) if family in WHOLE else (2048, 7):
            got = greedy(loaded, pieces, chunk_tokens)
            assert got[: len(expected)] == expected, f"chunks of {chunk_tokens}"


def test_llava_interleave_gives_the_stock_answer(tmp_path: Path) -> None:
    """The same model_type as LLaVA 1.5, with Qwen2 and SigLIP in place of Llama and CLIP."""
    folder = tiny.write(INTERLEAVE, "llava", "float32", tmp_path / "interleave")
    loaded, oracle = load(folder), Oracle.load(folder, vision=True)
    pieces: list[Piece] = [picture("red"), "and", picture("blue", "square"), "Compare."]
    expected = oracle.greedy(chat(*pieces).messages, 6)
    for chunk_tokens in (2048, 7):
        assert greedy(loaded, pieces, chunk_tokens)[: len(expected)] == expected


def test_deepseek_vl2_sees_whatever_lies_behind_its_tiles(tiny_model: TinyModel) -> None:
    """Contract and twin: mlx-vlm reads one entry past the tiles, which it must find to be zero."""
    loaded = load(tiny_model("deepseek_vl_v2"))
    request = chat(picture("red"), "What?")
    media = tuple(load_media(p, MediaLimits(), FrameSampling()) for p in request.messages[0].parts if p.kind != "text")
    prompt = build_prompt(loaded, request, media)
    crops, pixels = prompt.inputs["images_spatial_crop"], prompt.inputs["pixel_values"]
    assert crops.shape[1] < pixels.shape[1]
    ended = adapter_module._ended(crops, pixels.shape[1])
    assert ended.tolist()[0][crops.shape[1] :] == [[0, 0]] * (pixels.shape[1] - crops.shape[1])

    def embedded(behind: list[int]) -> mx.array:
        rest = [behind] * (pixels.shape[1] - crops.shape[1])
        one = prompt.inputs | {"images_spatial_crop": mx.concatenate([mx.array(crops), mx.array([rest])], axis=1)}
        made = loaded.adapter.embed(replace(prompt, inputs=one), loaded.adapter.make_cache())
        assert made is not None
        return made._arrays["inputs_embeds"]

    seen = loaded.adapter.embed(prompt, loaded.adapter.make_cache())
    assert seen is not None and mx.allclose(seen._arrays["inputs_embeds"], embedded([0, 0]))
    assert not mx.allclose(embedded([-3, 1]), embedded([0, 0])), "what lies there decides"


def test_sabotage_a_bidirectional_prompt_without_its_last_token_is_seen(tiny_model: TinyModel) -> None:
    """Twin of paligemma's whole prompt: computed in chunks, its tokens are others."""
    loaded, oracle = load(tiny_model("paligemma")), Oracle.load(tiny_model("paligemma"), vision=True)
    expected = oracle.greedy(chat("Text only").messages, 6)
    num_tokens = len(build_prompt(loaded, chat("Text only"), ()).ids)
    assert greedy(loaded, ["Text only"], num_tokens)[: len(expected)] == expected
    assert greedy(loaded, ["Text only"], num_tokens - 1)[: len(expected)] != expected
    assert greedy(loaded, ["Text only"], 7)[: len(expected)] != expected


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "gemma4"])
def test_a_clip_beside_a_picture_is_seen(tiny_model: TinyModel, family: str, clip_path: Path, tmp_path: Path) -> None:
    """Stock mlx-vlm loses the clip for some of these; so the clip must matter, and so must the picture."""
    from tests.pictures import numbered_frames, write_clip

    other = write_clip(tmp_path / "other.mp4", numbered_frames(8)[::-1], fps=4.0)
    loaded = load(tiny_model(family))
    answers = [
        greedy(loaded, [clip, still, "What?"], 512)
        for clip, still in ((clip_path, picture("red")), (other, picture("red")), (clip_path, picture("blue")))
    ]
    assert answers[0] != answers[1], "the clip does not matter"
    assert answers[0] != answers[2], "the picture does not matter"


def test_sabotage_a_chunk_with_the_wrong_deepstack_features_is_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: the fault of stock batching for Qwen3-VL, the first features again in every chunk."""
    loaded = load(tiny_model("qwen3_vl"))
    pieces: list[Piece] = [picture("red"), picture("blue", "square"), picture("green", "triangle"), "x"]
    right = greedy(loaded, pieces, 7)
    window = Embeddings.window

    def first_again(self: Embeddings, start: int, end: int) -> dict[str, Any]:
        out = window(self, start, end)
        whole = self._arrays["deepstack_visual_embeds"]
        out["deepstack_visual_embeds"] = [w[: d.shape[0]] for w, d in zip(whole, out["deepstack_visual_embeds"],
                                                                         strict=True)]  # fmt: skip
        return out

    monkeypatch.setattr(Embeddings, "window", first_again)
    assert greedy(loaded, pieces, 2048) == right, "one chunk has the right features even so"
    assert greedy(loaded, pieces, 7) != right


@pytest.mark.parametrize(("family", "names"), [("qwen3_vl", ["position_ids"]), ("gemma4", ["per_layer_inputs"])])
def test_sabotage_features_that_do_not_move_with_the_chunk_are_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, family: str, names: list[str]
) -> None:
    """Twin: one array of the prompt is cut at the start for every chunk."""
    loaded, pieces = load(tiny_model(family)), [picture("red"), WORDS]
    right = greedy(loaded, pieces, 20)
    window = Embeddings.window

    def stuck(self: Embeddings, start: int, end: int) -> dict[str, Any]:
        first = window(self, 0, end - start)
        out = window(self, start, end)
        missing = [name for name in names if name not in out]
        assert not missing
        return out | {name: first[name] for name in names}

    monkeypatch.setattr(Embeddings, "window", stuck)
    assert greedy(loaded, pieces, 20) != right


# -- row state ---------------------------------------------------------------------------------------------------------


def test_a_delta_follows_its_row() -> None:
    state = RowState.merge([RowState([1]), RowState([2]), RowState([3])])
    state.extend(RowState([4]))
    assert state.deltas == [1, 2, 3, 4]
    state.filter(mx.array([3, 1]))
    assert state.deltas == [4, 2]
    assert state.extract(1).deltas == [2]
    state.filter([1])
    assert state.deltas == [2]


def test_row_state_is_a_cache_layer_that_holds_nothing() -> None:
    """What mlx-lm's batcher asks of every layer."""
    state = RowState()
    state.prepare(lengths=[1], right_padding=[0])
    state.finalize()
    assert (state.size(), state.nbytes, state.state, state.trim(3)) == (0, 0, [], 3)
    assert state.is_trimmable()
    assert not state.empty()


# -- grouped scores (gemma2) -------------------------------------------------------------------------------------------


def test_gemma2_needs_the_axis_for_its_group(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract and twin: with as many rows as KV heads the stock mask fits by chance, and one row reads another's."""
    loaded = load(tiny_model("gemma2"))

    def step(lengths: tuple[int, ...]) -> mx.array:
        caches = []
        for length in lengths:
            caches.append(loaded.adapter.make_cache())
            loaded.adapter.prefill(list(range(50, 50 + length)), (0, length), caches[-1], None)
        merged = [layers[0].merge(list(layers)) for layers in zip(*caches, strict=True)]
        return loaded.adapter(mx.array([[60]] * len(lengths)), merged)[:, -1]

    alone = mx.concatenate([step((5,)), step((17,))])
    assert mx.allclose(step((5, 17)), alone, atol=1e-4)
    monkeypatch.setattr(GroupedMask, "make_mask", lambda self, *a, **k: self._layer.make_mask(*a, **k))
    try:
        broken = step((5, 17))
        assert not mx.allclose(broken, alone, atol=1e-4)
    except ValueError:
        pass  # the shapes did not fit at all: red as well


# -- the contract with mlx-vlm and mlx-lm ------------------------------------------------------------------------------


def test_mlx_vlm_is_as_we_use_it(tiny_model: TinyModel) -> None:
    """An upgrade that changes what we lean on must fail here, in one place."""
    from mlx_vlm import utils
    from mlx_vlm.models.base import InputEmbeddingsFeatures
    from mlx_vlm.models.cache import make_prompt_cache

    prepare = set(inspect.signature(utils.prepare_inputs).parameters)
    assert prepare >= {
        "processor", "images", "videos", "prompts", "image_token_index", "add_special_tokens", "kwargs",
    }  # fmt: skip
    assert set(inspect.signature(utils.load_model).parameters) >= {"model_path"}
    assert set(inspect.signature(utils.load_processor).parameters) >= {"model_path", "eos_token_ids"}
    fields = set(InputEmbeddingsFeatures.__dataclass_fields__)
    theirs = {*embeddings_module._PER_TOKEN} - {"mm_token_type_ids"}  # which comes from the processor
    assert fields >= {*theirs, "position_ids", "rope_deltas", "deepstack_visual_embeds"}
    for family in RUNNABLE:
        model = load(tiny_model(family)).adapter.model
        assert set(inspect.signature(model.get_input_embeddings).parameters) >= {"input_ids", "pixel_values"}
        layers = make_prompt_cache(model.language_model)
        assert all(hasattr(layer, "merge") or hasattr(type(layer), "merge") for layer in layers), family
        if family.startswith("qwen"):
            assert hasattr(model.language_model, "_rope_deltas")
            rope = list(inspect.signature(model.language_model.get_rope_index).parameters)
            assert rope[:4] == ["input_ids", "image_grid_thw", "video_grid_thw", "attention_mask"]


def test_mlx_vlm_embeds_once_per_prompt(tiny_model: TinyModel) -> None:
    """Embeddings are (1, tokens, hidden), one per token, and the per-token arrays have the token axis we cut."""
    for family in RUNNABLE:
        loaded = load(tiny_model(family))
        request = chat(picture("red"), "What?")
        (part,) = [p for m in request.messages for p in m.parts if p.kind == "image"]
        prompt = build_prompt(loaded, request, (load_media(part, MediaLimits(), FrameSampling()),))
        features = loaded.adapter.embed(prompt, loaded.adapter.make_cache())
        assert features is not None
        assert features.num_tokens == len(prompt.ids)
        window = features.window(3, 9)
        assert window["inputs_embeds"].shape[:2] == (1, 6)
        assert window.get("position_ids", np.zeros((3, 1, 6))).shape[-1] == 6
        assert window.get("visual_pos_masks", np.zeros((1, 6))).shape == (1, 6)


def test_mlx_lms_tokenizer_wrapper_is_as_we_use_it(tiny_model: TinyModel) -> None:
    tokenizer = load(tiny_model("qwen3_vl")).tokenizer
    assert tokenizer.has_chat_template
    assert not tokenizer.has_thinking
    assert isinstance(tokenizer.eos_token_ids, set | list | tuple)
    detokenizer = tokenizer.detokenizer
    detokenizer.add_token(70)
    detokenizer.finalize()
    assert isinstance(detokenizer.last_segment, str)
    assert tokenizer.detokenizer is not detokenizer, "each answer needs a detokenizer of its own"
