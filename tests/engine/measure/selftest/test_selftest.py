"""vllm-mlx selftest on real engines: all ticks where the engine is right, and a fault in its row where it is broken."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from engine import cli
from engine.cache import tensors
from engine.cache.prefix import PrefixCache
from engine.cache.row_state import RowState
from engine.config import EngineConfig, ModelSpec
from engine.measure.selftest import checks, fixtures
from engine.measure.selftest.churn import churning, under_churn
from engine.measure.selftest.harness import Harness, harnessed
from engine.measure.selftest.judge import CheckRow
from engine.models import sampling
from engine.models.adapter import Adapter
from engine.models.batch import Batch
from engine.prompt import build as build_module
from engine.prompt import processor
from tests.pictures import encode, picture

TinyModel = Callable[..., Path]
PICTURE_ROWS = {name for name in checks.CHECKS if "picture" in name or "clip" in name}


def open_harness(source: Path | str, **settings: Any) -> AbstractAsyncContextManager[Harness]:
    """A harness with an engine of its own: the observer must be given when the engine is made."""
    return harnessed(EngineConfig(model=ModelSpec(str(source)), **settings), fixtures.circle())


async def rows(source: Path | str, **settings: Any) -> dict[str, CheckRow]:
    async with open_harness(source, **settings) as harness:
        found = [row async for row in checks.rows(harness)]
        assert not harness.observer.observations and not harness.observer.followed, (
            "records are kept of requests that are long gone"
        )
    assert [row.name for row in found] == list(checks.CHECKS)
    return {row.name: row for row in found}


def outcomes(found: dict[str, CheckRow]) -> dict[str, set[str]]:
    said: dict[str, set[str]] = {}
    for row in found.values():
        said.setdefault(row.outcome, set()).add(row.name)
    return said


def test_the_demo_model_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a photograph's aspect and format: a JPEG that is wider than high."""
    (tmp_path / "mine.jpg").write_bytes(encode(picture("green", "triangle", (160, 90)), "JPEG"))
    out = tmp_path / "selftest.json"
    status = cli.main(["selftest", "demo", "--image", str(tmp_path / "mine.jpg"), "--json", str(out)])
    said, written = capsys.readouterr().out, json.loads(out.read_text())
    assert status == 0 and written["passed"], said
    assert said.count("✓") == len(written["rows"]) == len(checks.CHECKS), said
    assert {"mlx", "mlx-lm", "mlx-vlm", "python"} <= set(written["versions"]) and "11 passed." in said
    assert written["machine"]["chip"] in said and written["settings"]["model"]["source"] == "demo"


async def test_a_vision_model_in_bfloat16(tiny_model: TinyModel) -> None:
    """The demo model's weights, above, are float32."""
    found = outcomes(await rows(tiny_model("qwen3_vl", "bfloat16")))
    assert "fault" not in found and "n/a" not in found, found


async def test_a_text_model_skips_the_pictures_in_words(tiny_model: TinyModel) -> None:
    found = await rows(tiny_model("qwen3"))
    assert outcomes(found) == {"ok": set(checks.CHECKS) - PICTURE_ROWS, "n/a": PICTURE_ROWS}
    assert all("takes no" in found[name].detail for name in PICTURE_ROWS)


async def test_a_family_that_is_kept_in_snapshots_says_so(tiny_model: TinyModel) -> None:
    found = await rows(tiny_model("gemma3"))
    shared = "warm = cold: the same beginning"
    assert outcomes(found) == {"ok": set(checks.CHECKS) - {shared}, "n/a": {shared}}
    assert "snapshots" in found[shared].detail and "snapshot" in found["warm = cold: the same text"].detail


async def test_what_the_options_switch_off_is_not_ticked(tiny_model: TinyModel) -> None:
    base = EngineConfig()
    found = await rows(tiny_model("qwen3"), cache=replace(base.cache, enabled=False), max_num_seqs=1)
    assert outcomes(found) == {
        "ok": {"cancelled = never started"},
        "n/a": set(checks.CHECKS) - {"cancelled = never started"},
    }


# -- churn -------------------------------------------------------------------------------------------------------------


async def churned(source: Path | str) -> tuple[str, str]:
    """What is said once blocks were evicted, and others reused, or once there is a fault."""
    async with harnessed(churning(EngineConfig(model=ModelSpec(str(source)))), fixtures.circle()) as harness:
        before = harness.engine.snapshot().cache

        def is_enough() -> bool:
            now = harness.engine.snapshot().cache
            return now.evictions > before.evictions + 20 and now.hits > before.hits + 2

        return await under_churn(harness, is_enough)


@pytest.mark.parametrize("source", ["demo", "qwen3", "gemma3"])  # gemma3's KV is kept as whole rows
async def test_streams_that_evict_each_other_answer_as_alone(tiny_model: TinyModel, source: str) -> None:
    outcome, said = await churned("demo" if source == "demo" else tiny_model(source))
    assert outcome == "ok" and " evictions, peak " in said, said


async def test_sabotage_wrong_blocks_under_churn_are_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong_blocks(monkeypatch)
    outcome, said = await churned(tiny_model("qwen3"))
    assert outcome == "fault" and "differs" in said, said


def test_churn_by_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(harness: Harness) -> AsyncIterator[CheckRow]:
        return
        yield

    monkeypatch.setattr(checks, "rows", nothing)  # they have a test of their own
    status = cli.main(["selftest", "demo", "--churn", "0.001"])
    said = capsys.readouterr().out
    assert "churned for 0.001 minutes = alone" in said, said
    assert status == int("FAILED" in said), said


# -- sabotage: the matching row fails ----------------------------------------------------------------------------------


def unsalted_hash(patch: pytest.MonkeyPatch) -> None:
    """Every picture has the key of every other."""
    real = build_module.cache_ids

    def unsalted(ids: Any, media: Any, **settings: Any) -> list[int]:
        return real(ids, [replace(placed, media=replace(placed.media, sha256="x")) for placed in media], **settings)

    patch.setattr(build_module, "cache_ids", unsalted)


def shifted_frames(patch: pytest.MonkeyPatch) -> None:
    """A clip's frames come one late."""
    real = processor._clips
    patch.setattr(
        processor, "_clips", lambda loaded, media: [replace(c, pixels=c.pixels[[0, *range(len(c.pixels) - 1)]])
                                                 for c in real(loaded, media)]
    )  # fmt: skip


def shared_sampler(patch: pytest.MonkeyPatch) -> None:
    """The first request's sampler rules the whole batch until it drains."""
    real, held = Batch.add, []

    def add(self: Batch, decode: Any) -> int:
        if not len(self):
            held.clear()
        held.append(decode.sampler)
        return real(self, replace(decode, sampler=held[0]))

    patch.setattr(Batch, "add", add)


def shared_key(patch: pytest.MonkeyPatch) -> None:
    """All requests draw from one random key."""
    real, held = sampling.make_sampler, []

    def make(settings: Any, forced: Any = (), index: int = 0) -> Any:
        if not settings.temperature:
            return real(settings, forced)
        held.append(real(settings))
        return held[0]

    patch.setattr(sampling, "make_sampler", make)


def blind_tower(patch: pytest.MonkeyPatch) -> None:
    """The picture never reaches the model: its placeholders are read as any token."""
    patch.setattr(Adapter, "embed", lambda self, prompt, cache, first=0: None)


def swapped_rows(patch: pytest.MonkeyPatch) -> None:
    real = Adapter.__call__
    patch.setattr(Adapter, "__call__", lambda self, ids, cache: real(self, ids, cache)[::-1])


def mixed_deltas(patch: pytest.MonkeyPatch) -> None:
    """A row that leaves takes another row's M-RoPE delta with it."""

    def filtered(self: RowState, keep: Any) -> None:
        self.deltas = self.deltas[: len(list(keep))]

    patch.setattr(RowState, "filter", filtered)


def wrong_blocks(patch: pytest.MonkeyPatch) -> None:
    """What is reused are the keys of one token with the values of the next."""
    real = tensors.join

    def join(parts: Any, cache: Any) -> None:
        rolled = [([(mx.roll(keys, 1, axis=2), values) for keys, values in payload], n) for payload, n in parts]
        real(rolled, cache)

    patch.setattr(tensors, "join", join)


def wrong_count(patch: pytest.MonkeyPatch) -> None:
    """Receipts count a token that is not there."""
    real = build_module.count_media_tokens
    patch.setattr(
        build_module, "count_media_tokens", lambda *args: [(tokens + 1, size) for tokens, size in real(*args)]
    )


def held_blocks(patch: pytest.MonkeyPatch) -> None:
    """Who is cancelled does not give its blocks back."""
    patch.setattr(PrefixCache, "end", lambda self, lease: None)


TWINS = [
    ("demo", unsalted_hash, "warm = cold: another picture is another"),
    ("qwen3_vl", unsalted_hash, "warm = cold: another picture is another"),
    ("gemma3", unsalted_hash, "warm = cold: another picture is another"),
    ("qwen3_vl", wrong_blocks, "warm = cold: the same text"),
    ("qwen3_vl", wrong_blocks, "warm = cold: the same picture, another question"),
    ("qwen3", wrong_blocks, "warm = cold: the same beginning"),
    ("qwen3", swapped_rows, "batched = alone: text"),
    ("qwen3", shared_sampler, "batched = alone: seeded sampling"),
    ("qwen3", shared_key, "batched = alone: seeded sampling"),
    ("qwen3_vl", mixed_deltas, "batched = alone: a picture beside text"),
    ("demo", blind_tower, "a picture changes the answer"),
    ("qwen3_vl", blind_tower, "a picture changes the answer"),
    ("gemma3", blind_tower, "a picture changes the answer"),
    ("qwen3_vl", wrong_count, "receipt = processor: a picture"),
    ("demo", shifted_frames, "receipt = processor: a clip's frames"),
    ("qwen3", held_blocks, "cancelled = never started"),
]


@pytest.mark.parametrize(("family", "sabotage", "name"), TWINS, ids=lambda value: getattr(value, "__name__", value))
async def test_sabotage_is_seen(
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    sabotage: Callable[[pytest.MonkeyPatch], None],
    name: str,
) -> None:
    sabotage(monkeypatch)
    async with open_harness("demo" if family == "demo" else tiny_model(family)) as harness:
        await harness.ask(harness.short("Hello."))
        outcome, said = await checks.CHECKS[name](harness)
    assert outcome == "fault", said


async def test_a_request_that_fails_is_a_fault_of_its_row(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rows after it are asked all the same."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("no clips today")

    monkeypatch.setattr(processor, "_metadata", broken)
    found = await rows(tiny_model("qwen3_vl"))
    assert {name for name, row in found.items() if row.outcome == "fault"} == {"receipt = processor: a clip's frames"}
    assert found["cancelled = never started"].outcome == "ok"
