"""Fixtures of the engine tests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.drive import Tape


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    """Records every token of every engine while the test runs."""
    from engine.worker import Worker

    recorded, emit = Tape(), Worker._emit

    def record(self: Worker, sequence: Any, token: Any) -> None:
        recorded.prompts[sequence.id] = list(sequence.row.prompt.ids)
        recorded.tokens[sequence.id].append(token.token)
        emit(self, sequence, token)

    monkeypatch.setattr(Worker, "_emit", record)
    return recorded
