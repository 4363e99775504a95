"""A gate before the rows of batch runs: the test says how many may pass."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest


class Gate:
    """allowed: rows that may be asked; the others wait until it is more. asked: those that have come to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from engine.batch_run.task import RowAsker

        self.allowed = 0
        self.asked = 0
        ask = RowAsker.ask

        async def held(asker: Any, row: Any) -> Any:
            number, self.asked = self.asked, self.asked + 1
            while number >= self.allowed:
                await asyncio.sleep(0.01)
            return await ask(asker, row)

        monkeypatch.setattr(RowAsker, "ask", held)

    def open(self) -> None:
        self.allowed = 10**9
