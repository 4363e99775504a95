"""batch: rows that decode together answer as if alone, for every family and every dtype; and what mlx-lm's batcher is.

Each check here has a sabotage twin below it: the same check, on an engine with one thing broken, must go red.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from engine.cache.row_state import RowState
from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.core import Engine
from engine.models import cpu
from engine.models.adapter import Adapter
from engine.models.families import FAMILIES as ROWS
from engine.models.families import Family
from engine.types import Request
from tests.conftest import EngineFor
from tests.engine.drive import Tape, ask, chat
from tests.engine.oracle import TIE, Oracle
from tests.engine.test_device import linux_cpu
from tests.families import BRIEF, FAMILIES
from tests.pictures import picture

TinyModel = Callable[..., Path]
NO_CACHE = CacheConfig(enabled=False)
LONG = "A prompt that is long enough to be cut in several chunks, so that others join between two of them. " * 2
WANTED = ["qwen3_vl", "qwen2_5_vl", "idefics3", "gemma3", "gemma4", "pixtral"]
EXTRA = ["qwen2_vl", "qwen3_5", "smolvlm", "llava", "idefics2", "llava_onevision", "llava_next", "molmo"]
EXTRA += ["multi_modality", "deepseek_vl_v2"]
EXTRA += ["qwen3_vl_moe", "internvl", "internvl_chat", "lfm2_vl", "mistral3", "glm4v", "glm4v_moe", "kimi_vl"]
EXTRA += ["paddleocr_vl", "glm_ocr", "dots_ocr"]
TEXT = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3"]
MATRIX = [(family, dtype) for family in WANTED + TEXT for dtype in ("float32", "bfloat16")]
MATRIX += [(family, "4bit") for family in ("qwen3_vl", "gemma3", "pixtral", "llama", "gemma2")]
MATRIX += [(family, "float32") for family in EXTRA]


def mixed(family: str, clip: Path) -> list[Request]:
    """Text beside pictures beside a clip: short and long prompts, short and long answers."""
    requests = [
        chat(LONG, max_tokens=10, id="long"),
        chat("Short.", max_tokens=24, id="short"),
        chat("Shorter", max_tokens=24, id="shorter"),
        chat("Count to three.", max_tokens=3, id="three"),
        chat("Late.", max_tokens=8, id="late"),
    ]
    if FAMILIES[family].vision:
        requests += [
            chat(picture("red"), "What is this?", max_tokens=12, id="red"),
            chat("Before", picture("blue", "square"), "after.", max_tokens=8, id="blue"),
        ]
    if FAMILIES[family].vision and FAMILIES[family].max_images is None:
        requests += [
            chat(picture("green"), picture("red", "triangle", (60, 128)), "Compare.", max_tokens=12, id="two"),
            chat(clip, "What moves?", max_tokens=8, id="clip"),
            chat(picture("blue", "triangle"), "Late.", max_tokens=8, id="late-blue"),
        ]
    fewer = ("long", "short", "red", "blue", "two", "clip")
    return [request for request in requests if family not in BRIEF or request.id in fewer]


async def alone(engine: Any, requests: list[Request], tape: Tape) -> dict[str, list[int]]:
    """Tokens by request, each run when nothing else runs."""
    for request in requests:
        await ask(engine, replace(request, id=f"alone-{request.id}"))
    return {request.id: tape.tokens[f"alone-{request.id}"] for request in requests}


async def together(engine: Any, requests: list[Request], tape: Tape) -> dict[str, list[int]]:
    """Tokens by request: all but the last two at once, and these when the first answer has begun.

    Rows then join at different steps anyway, since their prompts are of different lengths.
    """
    begun = asyncio.Event()

    async def run(index: int, request: Request) -> None:
        if index >= len(requests) - 2:
            await begun.wait()
        async for _ in engine.stream(replace(request, id=f"batch-{request.id}")):
            begun.set()

    async with asyncio.timeout(60):
        await asyncio.gather(*(run(i, request) for i, request in enumerate(requests)))
    return {request.id: tape.tokens[f"batch-{request.id}"] for request in requests}


@dataclass(frozen=True)
class Judge:
    """Equal up to a near tie: where two answers part, both tokens must be within TIE of the best (see oracle)."""

    oracle: Oracle
    dtype: str
    native_video: bool

    def same(self, request: Request, one: list[int], other: list[int]) -> None:
        if one == other:
            return
        parted = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        for tokens in (one, other):
            regrets = self.oracle.regrets(request.messages, tokens[: parted + 1], native_video=self.native_video)
            assert regrets[-1] <= TIE[self.dtype], f"{request.id}: {one} != {other}, {regrets[-1]:.3f} below the best"

    def best(self, request: Request, tokens: list[int]) -> None:
        """Every token was the stock generator's best one, or as good."""
        regrets = self.oracle.regrets(request.messages, tokens, native_video=self.native_video)
        assert max(regrets) <= TIE[self.dtype], f"{request.id}: {tokens} is up to {max(regrets):.3f} below the best"


@dataclass
class Lab:
    """What a test here needs: engines by family and dtype, their judges, the tape, and the rows of every step."""

    engine_for: EngineFor
    tiny_model: TinyModel
    tape: Tape
    clip: Path
    rows: list[int]

    async def open(self, family: str, dtype: str) -> tuple[Any, Judge]:
        folder = self.tiny_model(family, dtype)
        engine = await self.engine_for(folder, prefill_chunk_tokens=16, cache=NO_CACHE)
        oracle = Oracle.load(folder, vision=FAMILIES[family].vision)
        return engine, Judge(oracle, dtype, native_video=FAMILIES[family].video is not None)


@pytest.fixture
def lab(engine_for: EngineFor, tiny_model: TinyModel, tape: Tape, clip_path: Path, steps: list[int]) -> Lab:
    return Lab(engine_for, tiny_model, tape, clip_path, steps)


async def check(lab: Lab, family: str, dtype: str) -> None:
    """Alone every token is the stock generator's best; in a batch every row is as alone."""
    engine, judge = await lab.open(family, dtype)
    requests = mixed(family, lab.clip)
    single = await alone(engine, requests, lab.tape)
    assert max(lab.rows) == 1
    batched = await together(engine, requests, lab.tape)
    assert max(lab.rows) >= 3, "the requests did not overlap: a batch that never held rows would prove nothing"
    for request in requests:
        judge.best(request, single[request.id])
        judge.same(request, single[request.id], batched[request.id])
    assert len({tuple(tokens) for tokens in single.values()}) == len(requests), "the prompts do not tell apart"


@pytest.mark.parametrize(("family", "dtype"), MATRIX)
async def test_a_row_in_a_batch_answers_as_if_alone(lab: Lab, family: str, dtype: str) -> None:
    await check(lab, family, dtype)


CUT = ["qwen3_vl", "gemma3", "gemma2", "idefics3", "llama", "mistral"]


def cut_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What engine.models.cpu does to large arrays on a Linux CPU, for the tiny ones of a tiny model."""
    monkeypatch.setattr(cpu, "_MIN_NUMBERS", 0)
    monkeypatch.setattr(cpu, "_MIN_PIECE_NUMBERS", 1)
    monkeypatch.setattr(cpu, "_MIN_QUERIES", 4)
    monkeypatch.setattr(cpu, "_PIECE_QUERIES", (3, 6))


@pytest.mark.parametrize("family", CUT)
async def test_so_it_does_where_attention_is_cut_over_streams(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    cut_everything(monkeypatch)
    await check(lab, family, "float32")


async def test_a_serial_family_decodes_one_row_at_a_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a family whose attention cannot take a batch's mask; the others wait their turn and answer the same."""
    monkeypatch.setitem(ROWS, "phi3", Family(serial=True))
    engine = Engine(EngineConfig(model=ModelSpec(str(lab.tiny_model("phi3"))), cache=NO_CACHE))
    engine.start()
    try:
        requests = mixed("phi3", lab.clip)
        single = await alone(engine, requests, lab.tape)
        assert await together(engine, requests, lab.tape) == single
    finally:
        engine.stop()
    assert max(lab.rows) == 1


async def test_paligemma_is_read_whole_and_answers_one_at_a_time(lab: Lab) -> None:
    """Its prompts are computed in one pass however small the chunks are, and every token is the stock one."""
    engine, judge = await lab.open("paligemma", "float32")
    requests = mixed("paligemma", lab.clip)
    single = await alone(engine, requests, lab.tape)
    assert await together(engine, requests, lab.tape) == single
    assert max(lab.rows) == 1
    for request in requests:
        judge.best(request, single[request.id])


# -- sabotage: the same check goes red ---------------------------------------------------------------------------------


def swap_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Adapter.__call__

    def swapped(self: Adapter, ids: mx.array, cache: list[Any]) -> mx.array:
        return call(self, ids, cache)[::-1]

    monkeypatch.setattr(Adapter, "__call__", swapped)


def forget_deltas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows lose their M-RoPE delta when they join the batch."""
    monkeypatch.setattr(
        RowState, "merge", classmethod(lambda cls, caches: cls([0 for cache in caches for _ in cache.deltas]))
    )


def mix_deltas(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that leaves takes another row's delta with it."""

    def filtered(self: RowState, keep: Any) -> None:
        self.deltas = self.deltas[: len(list(keep))]

    monkeypatch.setattr(RowState, "filter", filtered)


def forget_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chunk of a prompt gets the features of its first chunk."""
    from engine.models.embeddings import Embeddings

    window = Embeddings.window
    monkeypatch.setattr(Embeddings, "window", lambda self, start, end: window(self, 0, end - start))


def swap_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.prompt import processor

    pictures = processor._pictures
    monkeypatch.setattr(processor, "_pictures", lambda loaded, media: pictures(loaded, media)[::-1])


def shift_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip's frames come one late."""
    from engine.prompt import processor

    clips = processor._clips
    monkeypatch.setattr(
        processor,
        "_clips",
        lambda loaded, media: [replace(clip, pixels=clip.pixels[[0, *range(len(clip.pixels) - 1)]])
                               for clip in clips(loaded, media)],
    )  # fmt: skip


@linux_cpu
@pytest.mark.parametrize("family", ["qwen3_vl", "llama"])
async def test_sabotage_of_the_cuts_is_seen(lab: Lab, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Rows, heads and queries come back shifted by one."""
    cut_everything(monkeypatch)
    part = cpu.Cut.of
    monkeypatch.setattr(cpu.Cut, "of", lambda cut, x: part(cut, mx.roll(x, 1, cut.axis)))
    with pytest.raises(AssertionError, match="below the best"):
        await check(lab, family, "float32")


TWINS = [
    ("llama", swap_rows),
    ("qwen3_vl", swap_rows),
    ("qwen2_5_vl", forget_deltas),
    ("qwen3_vl", mix_deltas),
    ("qwen3_vl", forget_order),
    ("pixtral", forget_order),
    ("idefics3", swap_pictures),
    ("qwen3_vl", shift_frames),
]


@pytest.mark.parametrize(("family", "sabotage"), TWINS, ids=lambda value: getattr(value, "__name__", value))
async def test_sabotage_is_seen(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    sabotage: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """In bfloat16: the room that a near tie gets must not be room enough for a fault. In float32 there is none."""
    sabotage(monkeypatch)
    with pytest.raises(AssertionError, match="below the best"):
        await check(lab, family, "bfloat16")


# -- the contract with mlx-lm's batcher --------------------------------------------------------------------------------


def test_mlx_lm_batch_generator_is_as_we_use_it() -> None:
    """mlx-lm renamed these between two patch releases; an upgrade must fail here, not in a user's answer."""
    from mlx_lm.generate import BatchGenerator, GenerationBatch, StopSequences

    made = set(inspect.signature(BatchGenerator.__init__).parameters)
    assert made >= {"model", "completion_batch_size", "prefill_batch_size"}
    insert = set(inspect.signature(BatchGenerator.insert).parameters)
    assert insert >= {
        "prompts", "max_tokens", "caches", "all_tokens", "samplers", "logits_processors", "stop_sequences",
    }  # fmt: skip
    remove = inspect.signature(BatchGenerator.remove).parameters
    assert "uids" in remove
    assert isinstance(BatchGenerator.prompt_cache_nbytes, property)
    fields = set(GenerationBatch.Response.__dataclass_fields__)
    assert fields >= {"uid", "token", "finish_reason", "logprobs", "prompt_cache"}
    assert list(inspect.signature(StopSequences.__init__).parameters)[1:] == ["stop_sequences"]
