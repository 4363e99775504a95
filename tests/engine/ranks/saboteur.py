"""`vllm-mlx` in which the other ranks do not quite what they are told. python -m tests.engine.ranks.saboteur HOW …"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from engine.cli import main


def same_part() -> None:
    """Every rank has the same part of the first layer's up_proj."""
    from mlx.nn.layers import distributed
    from mlx_lm.models import qwen3

    class First:
        """The group, as rank 0 sees it."""

        def __init__(self, group: Any) -> None:
            self._group = group

        def rank(self) -> int:
            return 0

        def size(self) -> int:
            return int(self._group.size())

    divided = distributed._shard

    def shard(parameters: Any, predicate: Any, group: Any = None) -> Any:
        return divided(parameters, predicate, First(group))

    distributed._shard = shard
    assert qwen3.shard_linear is distributed.shard_linear


def forgets() -> None:
    """After each pass over a prompt, the other ranks have lost its last token."""
    from engine.models.replica import Replica

    read = Replica._read

    def forgetful(self: Replica, message: Any, parts: Any) -> None:
        read(self, message, parts)
        if "ids" in message:
            for layer in self._held[message["of"]][:-1]:
                layer.keys[..., layer.offset - 1, :] = 0.0
                layer.values[..., layer.offset - 1, :] = 0.0

    Replica._read = forgetful  # type: ignore[method-assign]


def runs_out() -> None:
    """Rank 0 has no memory for one of its passes, of which the others know already."""
    from engine.models.adapter import Adapter

    one_pass, num_left = Adapter._pass, 300

    def failing(self: Adapter, ids: Any, *rest: Any) -> Any:
        nonlocal num_left
        num_left -= 1
        if not num_left:
            raise RuntimeError("out of memory")
        return one_pass(self, ids, *rest)

    if os.environ["MLX_RANK"] == "0":
        Adapter._pass = failing  # type: ignore[method-assign]


def finds_nobody() -> None:
    """MLX waits for the other ranks without end."""
    from engine.models import sharding

    def joined(_: Any) -> Any:
        print("waits", flush=True)
        time.sleep(600)

    sharding.joined = joined


if __name__ == "__main__":
    known = {"same_part": same_part, "forgets": forgets, "runs_out": runs_out, "finds_nobody": finds_nobody}
    known[sys.argv.pop(1)]()
    raise SystemExit(main())
