"""What rank 0 does with caches is done on another rank, exactly: a replica of the whole model in this process holds the
same KV under the same names, after batches, cancels, reuse and questions."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import EngineConfig, ModelSpec, ServerConfig
from engine.core import Engine
from engine.errors import Unavailable
from engine.types import ExpectedWeights, SpeculationConfig
from tests.engine.drive import settled
from tests.engine.ranks.battery import answered
from tests.engine.ranks.conftest import CHUNK_TOKENS
from tests.waiting import until

ALL_STEPS = {"load", "make", "read", "merge", "extend", "filter", "extract", "fork", "copy", "cut", "join"}
ALL_STEPS |= {"ragged", "trim_rows", "widen", "branch", "release"}


class OwnLine:
    """In place of a connection: what is told is done at once, in this thread, by a replica of one rank. without: what
    is kept from it."""

    def __init__(self, config: EngineConfig, without: str = "") -> None:
        self.lost = None
        self.without = without
        self.counted: dict[str, int] = {}
        self._config = config
        self._gone: list[int] = []
        self._answer: dict[str, Any] | None = None
        self._replica: Any = None

    def tell(self, message: dict[str, Any], parts: Any = ()) -> None:
        import mlx.core as mx

        from engine.models.replica import Replica

        if self._replica is None:
            self._replica = Replica(self._config, mx.distributed.init(), self._answered)
        self.counted[message["do"]] = self.counted.get(message["do"], 0) + 1
        gone = list(self._gone)
        if message["do"] != self.without:
            self._replica.do(json.loads(json.dumps({**message, "gone": gone})), [bytes(part) for part in parts])
        del self._gone[: len(gone)]

    ask = tell

    def _answered(self, **facts: Any) -> None:
        self._answer = facts

    def answers(self) -> dict[int, Any] | None:
        return {1: self._answer} if self._answer else None

    def release(self, name: int) -> None:
        self._gone.append(name)

    def fail(self, error: BaseException) -> None:
        raise AssertionError("a pass has failed") from error

    def waiting(self) -> Any:
        return nullcontext()

    def tell_released(self) -> None:
        if self._gone:
            self.tell({"do": "release"})

    async def held(self) -> dict[int, Any]:
        """What the replica holds by name, once rank 0 has told of all that is gone, as it does when idle."""
        await until(lambda: not self._gone, "names that are gone are not told", 10)
        return dict(self._replica._held)


async def after_the_battery(
    model: Path, serve: Any, monkeypatch: pytest.MonkeyPatch, without: str = ""
) -> tuple[OwnLine, dict[int, Any]]:
    """Everything is asked of an engine whose passes and caches are told to such a line. Returns it, and rank 0's stored
    blocks by name."""
    import mlx.core as mx

    from engine.api.app import create_app
    from engine.models.mirror import Mirror
    from engine.runtime.thread import EngineThread

    config = EngineConfig(
        model=ModelSpec(str(model)), prefill_chunk_tokens=CHUNK_TOKENS, speculation=SpeculationConfig()
    )
    line: Any = OwnLine(config, without)

    class AllTold(Mirror):
        """A group of one cannot bring ids from one rank to another, so the message does."""

        def read(self, row: Any, ids: Any, arguments: Any, *, is_drawn: bool, states_only: bool) -> Any:
            return super().read(row, ids, arguments, is_drawn=False, states_only=states_only)

    monkeypatch.setattr(EngineThread, "_mirror", lambda _: AllTold(line, mx.distributed.init()))
    engine = Engine(config)
    engine.start()
    try:
        await engine.ready()
        with serve(create_app(engine, ServerConfig())) as url:
            await answered(url, sees=True)
        await settled(engine)
        gc.collect()
        loaded = engine._slots.default.model
        assert loaded is not None
        stored = {block.payload.name: block.payload for block in loaded.worker._prefix.pool}
        held = await line.held()
    finally:
        await asyncio.to_thread(engine.stop)
    return line, {name: (payload, held.get(name)) for name, payload in stored.items()} | {
        name: (None, layers) for name, layers in held.items() if name not in stored
    }


def same_kv(blocks: dict[int, Any]) -> None:
    """Nothing is held on one side alone, and what is, is the same."""
    assert blocks
    for name, (mine, others) in blocks.items():
        assert mine is not None, f"{name}: the replica holds what rank 0 has let go"
        assert others is not None, f"{name}: the replica does not hold it"
        for pair, other in zip(mine, others, strict=True):
            for array, copied in zip(pair, other, strict=True):
                is_same = array.shape == copied.shape and np.allclose(np.array(array), np.array(copied), atol=1e-5)
                assert is_same, f"{name}: its KV differs"


async def test_a_replica_holds_what_rank_0_holds(
    divisible_model: Callable[[str], Path], serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, blocks = await after_the_battery(divisible_model("qwen3_vl"), serve, monkeypatch)
    same_kv(blocks)
    assert set(line.counted) >= ALL_STEPS, f"the battery does not come to {ALL_STEPS - set(line.counted)}"


async def test_a_replica_that_is_not_told_all_is_seen(
    divisible_model: Callable[[str], Path], serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, blocks = await after_the_battery(divisible_model("qwen3_vl"), serve, monkeypatch, without="join")
    with pytest.raises(AssertionError, match="its KV differs"):
        same_kv(blocks)


@pytest.mark.parametrize("how", ["given up", "fails", "fails behind the weights"])
def test_a_load_that_comes_to_nothing_is_unloaded_everywhere(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.models import registry
    from engine.runtime.loading.model_load import FoundModel, ModelLoad
    from engine.runtime.loading.slots import ModelSlots

    def parts(*_: Any) -> Any:
        yield 0, 1
        if how == "fails":
            raise Unavailable("no memory")
        yield 1, 1
        return None  # no model: what comes next fails

    class Unloads:
        count = 0

        def unload(self) -> None:
            self.count += 1

    monkeypatch.setattr(registry, "load_in_parts", parts)
    mirror: Any = Unloads()
    slot = ModelSlots(EngineConfig(model=ModelSpec("none")), lambda _: None).default
    found = FoundModel(Path("none"), ExpectedWeights())
    load = ModelLoad(slot, found, lambda *_: pytest.fail("it is not there"), mirror=mirror)
    load.turn()
    assert mirror.count == 0
    if how == "given up":
        load.close()
    else:
        with pytest.raises(Unavailable):
            for _ in range(3):
                load.turn()
    assert mirror.count == 1
