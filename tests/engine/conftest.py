"""Fixtures of the engine tests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.drive import Tape


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every step of every batch while the test runs."""
    from engine.models.batch import Batch

    rows: list[int] = []
    step = Batch.step

    def counted(batch: Batch) -> Any:
        tokens = step(batch)
        rows.append(len(tokens))
        return tokens

    monkeypatch.setattr(Batch, "step", counted)
    return rows


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    """Records every token of every engine while the test runs."""
    from engine.runtime.worker import Worker

    recorded, emit = Tape(), Worker._emit

    def record(self: Worker, choice: Any, token: Any) -> None:
        sequence = choice.sequence
        recorded.prompts[sequence.id] = list(sequence.prompt.ids)
        recorded.tokens[sequence.id].append(token.id)
        emit(self, choice, token)

    monkeypatch.setattr(Worker, "_emit", record)
    return recorded
